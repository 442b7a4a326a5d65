//! A session that ends by itself: refused, cut and flushed on time, and the person is told what to do.

use std::time::{Duration, Instant};

use nullius_testkit::wait_until;

use crate::{
    faults_agents::{Agent, Plane},
    faults_lab::{Lab, PATIENCE},
    running::Running,
    world::ended_with,
};

/// How long a session lives here: all that comes before its end has to be done in it, on a slow machine too.
const LIFE: &str = "45s";
/// How late the end of a stream may come.
const LATE: Duration = Duration::from_secs(3);

#[test]
fn an_expired_session_is_refused_cut_and_flushed_on_time() {
    let Some(plane) = Plane::shared() else { return };
    let lab = Lab::new(&format!(
        "[lifetimes]\nsession = \"{LIFE}\"\nbrowser-session = \"{LIFE}\"\nidle = \"{LIFE}\"\n"
    ));
    let agent = Agent::install(&lab, &plane, "plane");
    let namespace = plane.cluster.namespace("expired").unwrap();
    let (_control, _proxy) = agent.start();
    let ada = lab.clerk("ada", "plane", namespace.name());
    let me = ada.me();
    let session = me["session"].as_str().unwrap();
    let expires_at: jiff::Timestamp = me["expiresAt"].as_str().unwrap().parse().unwrap();
    ada.works(PATIENCE);
    let kubectl = ada.kubectl();
    let mut watch = Running::start("watch", kubectl.command(&["get", "configmaps", "--watch"]));
    watch.wait_line("kube-root-ca.crt");
    assert!(!plane.session_objects(session).is_empty());
    assert!(jiff::Timestamp::now() < expires_at, "this machine is too slow for a life of {LIFE}");

    watch.wait_end(PATIENCE);
    let late = jiff::Timestamp::now().duration_since(expires_at);
    eprintln!("the watch ended {late:#} after the session");
    assert!(late.as_secs() >= -1, "cut {late:#} before the end");
    assert!(late.unsigned_abs() < LATE, "cut {late:#} after the end");
    let refused = kubectl.run(&["get", "configmaps"]).unwrap();
    ended_with(&refused, 1);
    assert!(refused.stderr.contains("nullius login"), "{}", refused.stderr);
    let began = Instant::now();
    let whoami = ada.nullius(&["whoami"]);
    ended_with(&whoami, 1);
    assert!(whoami.stderr.contains("nullius login"), "{}", whoami.stderr);
    assert!(began.elapsed() < LATE);
    wait_until(PATIENCE, "the session's objects to go", || {
        plane.session_objects(session).is_empty().then_some(())
    })
    .unwrap();

    lab.admin_again();
    let filter = ["--session", session, "--kind", "flush"];
    lab.wait_event("the flush in the audit", &filter, |event| event["outcome"] == "done");
    // Who signs in again works again.
    wait_until(PATIENCE, "a code of ada that counts", || {
        let code = ada.person.next_code().unwrap();
        (lab.login("ada", "ada", &ada.person.password, &code).code == 0).then_some(())
    })
    .unwrap();
    ended_with(&kubectl.run(&["get", "configmaps"]).unwrap(), 0);
}
