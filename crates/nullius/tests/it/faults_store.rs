//! A hub that cannot start: it says why and touches nothing.

use std::{fs, net::TcpListener, path::Path, process::Command, time::Duration};

use rustix::process::Signal;
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use crate::{
    faults_lab::{Lab, NULLIUS},
    running::Running,
};

/// A hub that cannot start says so soon.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

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
    let (code, said) = start(&["hub", "--listen", &address], &fresh);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("`{address}` is in use by another program")), "{said}");
    assert!(said.contains("listen elsewhere"), "{said}");
    assert!(!fresh.exists());

    let (code, said) = start(&["hub", "--listen", "127.0.0.1:0"], &lab.environment.hub_state);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is in use by process"), "{said}");
    // The one that was there is none the worse.
    lab.admin(&["whoami"]);
}

#[test]
fn a_kubeconfig_that_leads_nowhere_is_told_before_there_is_a_hub() {
    let files = tempfile::tempdir().unwrap();
    let fresh = files.path().join("fresh");
    let kubeconfig = files.path().join("kubeconfig");
    let path = kubeconfig.display().to_string();
    let up = ["up", "--listen", "127.0.0.1:0", "--kubeconfig", &path];
    let attempt = |exit, told: &str| {
        let (code, said) = start(&up, &fresh);
        assert_eq!(code, exit, "{said}");
        assert!(said.contains(told), "{said}");
        assert!(!fresh.exists(), "{said}");
        said
    };
    let said = attempt(64, &format!("the kubeconfig `{path}` cannot be used"));
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    assert!(said.contains("next: "), "{said}");
    fs::write(&kubeconfig, "clusters: 7\n").unwrap();
    attempt(64, &format!("the kubeconfig `{path}` cannot be used"));

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: \"https://{closed}\"}}}}]\n\
         users: [{{name: u, user: {{token: t}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
    );
    fs::write(&kubeconfig, text).unwrap();
    attempt(1, "the API server of the kubeconfig does not answer its user");
}
