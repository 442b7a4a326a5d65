//! A hub that cannot start: it says why and touches nothing.

use std::{fs, net::TcpListener, path::Path, process::Command, time::Duration};

use rustix::process::Signal;
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use crate::{
    faults_lab::{Lab, NULLIUS},
    running::Running,
};

/// A hub that cannot start says so soon.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

/// Starts a hub that must not get far; gives its exit code and what it said.
fn start(args: &[&str], state: &Path) -> (i32, String) {
    let mut command = Command::new(NULLIUS);
    command.args(args).arg("--state").arg(state).env("NO_COLOR", "1");
    Running::start("a hub that cannot start", command).wait_end(ENDS_WITHIN)
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let mut lab = Lab::new("");
    lab.hub.signal(Signal::TERM);
    assert_eq!(lab.hub.wait_end(ENDS_WITHIN), 0);
    let state = lab.environment.hub_state.clone();
    let store = state.join("store.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sql = |text: &'static str| {
        runtime.block_on(async {
            let options = SqliteConnectOptions::new().filename(&store);
            let mut connection = options.connect().await.unwrap();
            sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        });
    };
    sql("INSERT INTO schema_versions (version) VALUES (999)");
    let before = fs::read(&store).unwrap();
    for command in [&["hub", "--listen", "127.0.0.1:0"][..], &["hub", "init"]] {
        let (code, said) = start(command, &state);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("written by a newer nullius (schema 999"), "{said}");
        assert!(said.contains("use that version"), "{said}");
    }
    assert!(fs::read(&store).unwrap() == before, "the store was touched");

    sql("DELETE FROM schema_versions WHERE version = 999");
    lab.start_hub();
    assert_eq!(lab.admin_json(&["audit", "verify"])["intact"], true);
}

#[test]
fn a_port_in_use_and_a_state_in_use_are_told_before_anything_is_touched() {
    let lab = Lab::new("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let fresh = lab.files.path().join("fresh");
    let kubeconfig = lab.files.path().join("kubeconfig").display().to_string();
    let up = ["up", "--kubeconfig", &kubeconfig];
    for command in [&["hub"][..], &up] {
        let (code, said) = start(&[command, &["--listen", &address]].concat(), &fresh);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("`{address}` is in use by another program")), "{said}");
        assert!(said.contains("listen elsewhere"), "{said}");
        assert!(!fresh.exists(), "{command:?}");

        let listen = ["--listen", "127.0.0.1:0"];
        let (code, said) = start(&[command, &listen].concat(), &lab.environment.hub_state);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("is in use by process"), "{said}");
    }
    // The one that was there is none the worse.
    lab.admin(&["whoami"]);
}
