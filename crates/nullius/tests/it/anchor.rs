//! The audit against an anchor outside: through the hub, and from the state directory alone after the hub has ended.

use std::{fs, process::Command};

use nullius_testkit::wait_until;
use rustix::process::Signal;
use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::faults_lab::{Lab, NULLIUS, PATIENCE};

/// `audit verify` of a state directory, asking nobody: the exit code and the answer.
fn verify_state(lab: &Lab, args: &[&str]) -> (i32, Value, String) {
    let output = Command::new(NULLIUS)
        .args(["audit", "verify", "-o", "json", "--state"])
        .arg(&lab.environment.hub_state)
        .args(args)
        .output()
        .unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), answer, said)
}

#[test]
fn a_trail_that_was_cut_after_its_checkpoints_were_anchored_is_found_out() {
    let outside = tempfile::tempdir().unwrap();
    let config = format!("[audit]\nanchor = \"{}\"\n", outside.path().display());
    let mut lab = Lab::new(&config);
    let anchor = outside.path().join("checkpoints.jsonl");
    let anchored = || fs::read_to_string(&anchor).unwrap_or_default().lines().count();
    wait_until(PATIENCE, "a checkpoint outside", || (anchored() > 0).then_some(())).unwrap();
    let file = anchor.to_str().unwrap();

    let verdict = lab.admin_json(&["audit", "verify", "--anchor", file]);
    assert_eq!(verdict["intact"], true, "{verdict}");

    lab.admin(&["user", "add", "mallory"]);
    lab.hub.signal(Signal::TERM);
    assert_eq!(lab.hub.wait_end(PATIENCE), 0);
    let (code, verdict, said) = verify_state(&lab, &["--anchor", file]);
    assert_eq!((code, &verdict["intact"]), (0, &Value::Bool(true)), "{verdict} {said}");

    // Whoever holds the store cuts off what tells of mallory, neatly: what is left is a whole trail.
    let store = lab.environment.hub_state.join("store.db");
    let cut = async {
        let options = SqliteConnectOptions::new().filename(&store);
        let mut store = SqliteConnection::connect_with(&options).await.unwrap();
        for statement in [
            "DELETE FROM audit_checkpoints WHERE seq = (SELECT MAX(seq) FROM audit_checkpoints)",
            "DELETE FROM audit_entries WHERE position > (SELECT MAX(position) FROM audit_checkpoints)",
        ] {
            sqlx::query(statement).execute(&mut store).await.unwrap();
        }
        store.close().await.unwrap();
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(cut);
    let (code, verdict, said) = verify_state(&lab, &[]);
    assert_eq!((code, &verdict["intact"]), (0, &Value::Bool(true)), "{verdict} {said}");
    let (code, verdict, said) = verify_state(&lab, &["--anchor", file]);
    assert_eq!((code, &verdict["intact"]), (2, &Value::Bool(false)), "{verdict} {said}");
    assert!(verdict.to_string().contains("missing: the trail was truncated"), "{verdict}");
}
