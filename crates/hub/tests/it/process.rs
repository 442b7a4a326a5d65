//! The process: its directory, its port, its disk, and its end.

use std::{net::TcpListener, os::unix::fs::PermissionsExt};

use http::Method;
use nullius_hub::{HubSettings, RunError, init, run};
use nullius_store::TokenHash;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::harness::{TestClock, TestHub, access, refresh, refresh_request, settings};

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

async fn start_error(settings: HubSettings) -> String {
    let error = run(settings, TestClock::now_real(), CancellationToken::new()).await.err();
    chain(&error.expect("the hub must not start"))
}

#[tokio::test]
async fn a_second_hub_on_the_same_directory_is_refused() {
    let hub = TestHub::start().await;
    let error = start_error(settings(&hub.directory)).await;
    assert!(error.contains("is in use by process"), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_said_before_anything_is_touched() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(&directory);
    settings.listen = taken.local_addr().unwrap();
    let error = run(settings, TestClock::now_real(), CancellationToken::new()).await.err().unwrap();
    assert!(matches!(error, RunError::PortInUse(_)));
    assert!(error.to_string().contains("in use by another program"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_left_alone() {
    let mut hub = TestHub::start().await;
    hub.stop().await;
    let database = std::fs::read_dir(hub.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "db" || ending == "sqlite"))
        .unwrap();
    nullius_store_newer(&database).await;
    let error = start_error(settings(&hub.directory)).await;
    assert!(error.contains("newer nullius"), "{error}");
}

/// Writes the mark of a schema from the future.
async fn nullius_store_newer(database: &std::path::Path) {
    use sqlx::Connection as _;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("INSERT INTO schema_versions (version) VALUES (999)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn keys_without_their_key_file_stay_shut() {
    let mut hub = TestHub::start().await;
    hub.stop().await;
    let key = hub.directory.path().join("key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(&key).unwrap();
    let error = start_error(settings(&hub.directory)).await;
    assert!(error.contains("key file") && error.contains("backup"), "{error}");
}

#[tokio::test]
async fn init_gives_a_new_link_until_the_first_admin_enrolled() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::now_real();
    let first = init(settings(&directory), clock.clone()).await.unwrap().unwrap();
    let second = init(settings(&directory), clock.clone()).await.unwrap().unwrap();
    assert_ne!(first.link.token, second.link.token);
    let shutdown = CancellationToken::new();
    let running = run(settings(&directory), clock.clone(), shutdown.clone()).await.unwrap();
    assert!(running.first_admin().is_none(), "the link of `init` stays the one");
    let token = TokenHash::of(&second.link.token);
    let mut reader = running.hub().store().read().await.unwrap();
    assert!(reader.tokens().find_enrolment(&token).await.unwrap().is_some());
    drop(reader);
    shutdown.cancel();
    running.stopped().await;
}

#[tokio::test]
async fn sessions_and_root_survive_a_restart_and_a_stop_is_recorded() {
    let mut hub = TestHub::start().await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let root = hub.hub().keys().root().certificate_pem().to_owned();
    hub.restart().await;
    assert_eq!(hub.hub().keys().root().certificate_pem(), root);
    let body = refresh_request(refresh(&tokens));
    let new = hub.post("/v1/token", None, body).await.ok().json();
    let lifecycle = hub.audit(access(&new), "lifecycle").await;
    let what: Vec<_> =
        lifecycle.iter().map(|event| event["facts"]["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["start", "stop", "start"]);
    let verdict = hub.get("/v1/audit/verify", access(&new)).await.ok().json();
    assert_eq!(verdict["intact"], true, "{verdict}");
}

#[tokio::test]
async fn health_readiness_and_metrics_tell_how_it_is() {
    let hub = TestHub::start().await;
    hub.call(Method::GET, "/healthz", None, None).await.ok();
    hub.call(Method::GET, "/readyz", None, None).await.ok();
    let admin = hub.first_admin().await;
    hub.sign_in(&admin).await;
    let metrics = hub.call(Method::GET, "/metrics", None, None).await.ok().text;
    for line in [
        "nullius_hub_sign_ins_total{outcome=\"opened\"} 1",
        "nullius_hub_sessions 1",
        "nullius_audit_failing 0",
        "nullius_hub_ready 1",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    let info = hub.call(Method::GET, "/v1/hub", None, None).await.ok().json();
    assert_eq!(info["caFingerprint"].as_str().unwrap().len(), 64);
    let missing = hub.call(Method::GET, "/nothing", None, None).await;
    missing.refused(404, "not-found");
    let answer = hub.call(Method::GET, "/healthz", None, None).await;
    assert!(answer.headers.contains_key("audit-id"));
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut bad_url = settings(&directory);
    bad_url.public_url = Some("http://hub.example.org/".parse().unwrap());
    let error = runtime.block_on(start_error(bad_url));
    assert!(error.contains("public URL"), "{error}");
    let mut long = settings(&directory);
    long.lifetimes.kube_credential = nullius_model::Ttl::from_secs(601);
    let error = runtime.block_on(start_error(long));
    assert!(error.contains("kube credential"), "{error}");
}

/// A small file system in memory that is really full when it is full.
pub(crate) struct SmallDisk(pub(crate) tempfile::TempDir);

impl SmallDisk {
    /// None, with the reason on standard error, where mounting is not permitted and nobody insists.
    pub(crate) fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "nullius-test"])
            .arg(directory.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(directory)),
            other => {
                nullius_skip::skip(&format!("mounting a small disk needs root: {other:?}"));
                None
            }
        }
    }

    /// Fills the disk to its last byte.
    pub(crate) fn fill(&self) -> std::path::PathBuf {
        use std::io::Write as _;
        let path = self.0.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut block = 1 << 16;
        while block > 0 {
            if file.write_all(&vec![0; block]).is_err() {
                block /= 2;
            }
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_changes_and_access_until_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let state = disk.0.path().join("state");
    let hub = TestHub::start_with(|settings| settings.state_dir = state).await;
    let admin = hub.first_admin().await;
    let tokens = hub.sign_in(&admin).await;
    let kube = hub.post("/v1/kube-credential", Some(access(&tokens)), json!({})).await.ok().json();
    let kube = kube["token"].as_str().unwrap().to_owned();
    let filler = disk.fill();

    let mut refused = None;
    for number in 0..500 {
        // The journal may still have some room of its own.
        let group = json!({"metadata": {"name": format!("g{number}")}, "spec": {"description": "x".repeat(500)}});
        let answer = hub.apply(access(&tokens), "groups", group).await;
        if answer.status == 503 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, 201, "{}", answer.text);
    }
    let refused = refused.expect("the disk is full").refused(503, "unavailable");
    assert!(refused.headers.contains_key("retry-after"));
    let ready = hub.call(Method::GET, "/readyz", None, None).await;
    assert_eq!(ready.status, 503, "{}", ready.text);
    let metrics = hub.call(Method::GET, "/metrics", None, None).await.ok().text;
    assert!(metrics.contains("nullius_audit_failing 1"), "{metrics}");
    let status = hub.get("/clusters/dev/api/v1/pods", &kube).await;
    assert_eq!(status.status, 503, "{}", status.text);
    assert_eq!(status.json()["reason"], "ServiceUnavailable");
    hub.get("/v1/whoami", access(&tokens)).await.ok();

    std::fs::remove_file(filler).unwrap();
    let mut tries = 0;
    while hub.call(Method::GET, "/readyz", None, None).await.status != 200 {
        tries += 1;
        assert!(tries < 2000, "the audit recovers by itself");
        tokio::task::yield_now().await;
    }
    let group = json!({"metadata": {"name": "after"}, "spec": {}});
    hub.apply(access(&tokens), "groups", group).await.ok();
    let verdict = hub.get("/v1/audit/verify", access(&tokens)).await.ok().json();
    assert_eq!(verdict["intact"], true, "{verdict}");
}
