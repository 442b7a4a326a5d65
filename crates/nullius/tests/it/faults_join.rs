//! Clusters and agents that are not who they claim to be, with the real roles against a real hub.

use std::{fs, time::Duration};

use crate::{
    faults_agents::{Agent, Plane},
    faults_lab::{Lab, PATIENCE},
    trail::text,
};

/// A role that is refused ends by itself; a supervisor starts it again, later and later.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn a_join_token_joins_one_cluster_once() {
    let (Some(plane), Some(second)) = (Plane::shared(), Plane::second()) else { return };
    let lab = Lab::new("");
    let first = Agent::install(&lab, &plane, "first");
    let intruder = Agent::install(&lab, &second, "second");
    let for_second = intruder.join_token();

    // A token for another cluster.
    let intruder = intruder.with(nullius_kube::env::CLUSTER, "first");
    let mut control = intruder.control();
    assert_ne!(control.wait_end(ENDS_WITHIN), 0);
    let said = control.said();
    assert!(said.contains("the join token is wrong, used or too old"), "{said}");
    assert!(said.contains("nullius cluster add"), "{said}");
    assert!(!said.contains(&for_second), "a secret is in the log: {said}");
    lab.wait_event("the refusal", &["--kind", "join", "--outcome", "denied"], |event| {
        text(event, "/explanation/sentence").contains("is for another cluster")
    });

    // It joins whose it is, and then nobody again.
    let (_control, _proxy) = first.start();
    intruder.set_join_token(&first.join_token());
    let mut control = intruder.control();
    assert_ne!(control.wait_end(ENDS_WITHIN), 0);
    lab.wait_event("the refusal", &["--kind", "join", "--outcome", "denied"], |event| {
        text(event, "/explanation/sentence").contains("was used before")
    });

    // The one that is right still works.
    let namespace = plane.cluster.namespace("joined").unwrap();
    lab.clerk("ada", "first", namespace.name()).works(PATIENCE);
    let joins = lab.events(&["--kind", "join", "--outcome", "done"]);
    assert_eq!(joins.len(), 1, "{joins:#?}");
}

#[test]
fn an_agent_of_one_cluster_cannot_claim_another() {
    let (Some(plane), Some(second)) = (Plane::shared(), Plane::second()) else { return };
    let lab = Lab::new("");
    let theirs = Agent::install(&lab, &second, "second");
    let (_control, _proxy) = theirs.start();
    let ours = Agent::install(&lab, &plane, "first");
    let (_first_control, first_proxy) = ours.start();
    drop(first_proxy);

    // The whole of the first cluster's agent, but for the name that it gives.
    let liar = ours.with(nullius_kube::env::CLUSTER, "second");
    let mut proxy = liar.proxy();
    proxy.wait_said("is not accepted for this cluster");
    let denied =
        lab.wait_event("the refusal", &["--kind", "agent-enrol", "--outcome", "denied"], |event| {
            text(event, "/cluster") == "second"
        });
    assert_eq!(text(&denied, "/principal/kind"), "unproven", "{denied:#}");
    drop(proxy);
    let namespace = second.cluster.namespace("claimed").unwrap();
    lab.clerk("ada", "second", namespace.name()).works(PATIENCE);
}

#[test]
fn an_agent_believes_only_the_hub_that_its_manifest_pins() {
    let Some(plane) = Plane::shared() else { return };
    let lab = Lab::new("");
    let other = Lab::new("");
    let agent = Agent::install(&lab, &plane, "plane");
    // Somebody else answers at the hub's address: a hub, but of another root.
    let misled = agent.with(nullius_kube::env::HUB, other.address());
    let mut control = misled.control();
    let said = control.wait_said("cannot join, try again");
    assert!(said.contains(other.address()), "{said}");
    assert!(said.to_lowercase().contains("certificate"), "{said}");
    drop(control);
    // Its root is believed, but not the key that signs for it.
    let root = fs::read(&other.environment.hub_ca).unwrap();
    fs::write(misled.file("infra-ca.pem"), root).unwrap();
    let token = other.admin_json(&["cluster", "add", "plane", "--ceiling", "edit"]);
    misled.set_join_token(token["token"].as_str().unwrap());
    let mut control = misled.control();
    assert_ne!(control.wait_end(ENDS_WITHIN), 0);
    let said = control.said();
    assert!(said.contains("not the one that the join manifest pins"), "{said}");
}
