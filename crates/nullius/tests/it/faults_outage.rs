//! Parts that are away for a while: the hub, one of the agent's roles. Clients are told soon, and nobody has to help.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    faults_agents::{Agent, Plane},
    faults_lab::{Lab, PATIENCE},
    world::ended_with,
};

/// Within this time kubectl says what is wrong.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// The longest pause between two tries of an agent (15 s), and time for a slow machine to attach.
const BACK_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_hub_that_is_down_is_told_soon_and_agents_come_back_by_themselves() {
    let Some(plane) = Plane::shared() else { return };
    let mut lab = Lab::new("");
    let agent = Agent::install(&lab, &plane, "plane");
    let namespace = plane.cluster.namespace("hub-down").unwrap();
    let (control, proxy) = agent.start();
    let address = lab.address().to_owned();
    let kubectl = {
        let ada = lab.clerk("ada", "plane", namespace.name());
        ada.works(PATIENCE);
        ada.kubectl()
    };
    lab.hub.kill();
    let began = Instant::now();
    let refused = kubectl.run(&["get", "configmaps"]).unwrap();
    ended_with(&refused, 1);
    let told = began.elapsed();
    assert!(told < TOLD_WITHIN, "{told:?}");
    assert!(refused.stderr.contains(&address), "{}", refused.stderr);
    // Long enough for pauses that differ.
    let waits = |said: String| -> BTreeSet<String> {
        let part = |line: &str| line.split("wait_millis=").nth(1).map(str::to_owned);
        said.lines()
            .filter_map(|line| part(line)?.split_whitespace().next().map(str::to_owned))
            .collect()
    };
    nullius_testkit::wait_until(PATIENCE, "the proxy to try a few times", || {
        (waits(proxy.said()).len() >= 5).then_some(())
    })
    .unwrap();
    let doubled: BTreeSet<String> = (0..10).map(|n| (200_u32 << n).to_string()).collect();
    let waited = waits(proxy.said());
    assert!(!waited.is_subset(&doubled), "without jitter: {waited:?}");

    lab.start_hub();
    let began = Instant::now();
    let mut last = String::new();
    let back = nullius_testkit::wait_until(BACK_WITHIN, "kubectl to work", || {
        let output = kubectl.run(&["get", "configmaps"]).unwrap();
        last = output.stderr;
        (output.code == 0).then(|| began.elapsed())
    });
    let back = back.unwrap_or_else(|error| panic!("{error}: {last}"));
    eprintln!("told after {told:?}, back after {back:?}; {:?}", waits(proxy.said()));
    drop((control, proxy));
}

#[test]
fn a_cluster_whose_agent_is_away_is_named_to_those_who_want_it() {
    let Some(plane) = Plane::shared() else { return };
    let lab = Lab::new("");
    let agent = Agent::install(&lab, &plane, "plane");
    let namespace = plane.cluster.namespace("away").unwrap();
    let (mut control, mut proxy) = agent.start();
    let ada = lab.clerk("ada", "plane", namespace.name());
    ada.works(PATIENCE);

    // Who has a credential in the cluster does not need control for a while; who has none is told.
    control.kill();
    let bob = lab.clerk("bob", "plane", namespace.name());
    let told = bob.is_refused(TOLD_WITHIN, "`plane`");
    assert!(told.contains("(ServiceUnavailable)"), "{told}");
    ended_with(&ada.kubectl().run(&["get", "configmaps"]).unwrap(), 0);
    control = agent.control();
    let back = bob.works(BACK_WITHIN);
    eprintln!("control is back after {back:?}");

    proxy.kill();
    let told = ada.is_refused(TOLD_WITHIN, "`plane`");
    assert!(told.contains("(ServiceUnavailable)"), "{told}");
    let _proxy = agent.proxy();
    let back = ada.works(BACK_WITHIN);
    eprintln!("proxy is back after {back:?}");
    drop(control);
}

#[test]
fn a_request_given_up_before_it_was_forwarded_is_in_the_audit() {
    let Some(plane) = Plane::shared() else { return };
    let lab = Lab::new("");
    let agent = Agent::install(&lab, &plane, "plane");
    let namespace = plane.cluster.namespace("given-up").unwrap();
    let (control, _proxy) = agent.start();
    lab.clerk("bob", "plane", namespace.name()).works(PATIENCE);
    let ada = lab.clerk("ada", "plane", namespace.name());
    // Whoever makes credentials does not answer, and the client does not wait for it: less than the agent does (8 s),
    // and long enough for the request to reach the hub. What kubectl needs itself, it has.
    ada.nullius_ok(&["kubeconfig", "credential"]);
    control.signal(Signal::STOP);
    let path = format!("/api/v1/namespaces/{}/configmaps?limit=7", namespace.name());
    let given_up = ada.kubectl().run(&["get", "--raw", &path, "--request-timeout=5s"]).unwrap();
    ended_with(&given_up, 1);
    let event = lab.wait_event("the request that was given up", &["--user", "ada"], |event| {
        event["kube"]["requestUri"].as_str().is_some_and(|uri| uri.starts_with(&path))
    });
    control.signal(Signal::CONT);
    assert_eq!(event["outcome"], "failed", "{event:#}");
    assert_eq!(event["facts"]["ended"], "client-gone", "{event:#}");
    ada.works(PATIENCE);
}
