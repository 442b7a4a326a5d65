//! The hub's keys in an operator's hands: the offline key is carried away and signers change under traffic.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use nullius_testkit::wait_until;
use serde_json::Value;

use crate::{
    faults_agents::{Agent, Plane},
    faults_lab::{Lab, NULLIUS, PATIENCE},
    running::Running,
};

const PASSPHRASE: &str = "carried away on a stick";

/// Runs `nullius hub keys` beside the hub; gives what it answers, or what it says of its failure.
fn hub_keys(lab: &Lab, args: &[&str]) -> Result<Value, String> {
    let output = Command::new(NULLIUS)
        .args(["hub", "keys"])
        .args(args)
        .args(["-o", "json", "--state"])
        .arg(&lab.environment.hub_state)
        .env("NULLIUS_OFFLINE_KEY_PASSPHRASE", PASSPHRASE)
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// The signers that agents accept, with what each does.
fn signers(lab: &Lab) -> Vec<(String, String)> {
    let list = hub_keys(lab, &["list"]).unwrap();
    let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
    let signers = list["items"].as_array().unwrap().iter().filter(|key| key["name"] == "signer");
    signers.map(|key| (text(key, "id"), text(key, "state"))).collect()
}

/// The one that signs at this moment.
fn signs(lab: &Lab) -> String {
    let signers = signers(lab);
    let signs = signers.iter().find(|(_, state)| state == "signs requests and orders");
    signs.unwrap_or_else(|| panic!("nobody signs: {signers:?}")).0.clone()
}

#[test]
fn signers_change_under_traffic_and_only_by_the_offline_key() {
    let Some(plane) = Plane::shared() else { return };
    let lab = Lab::new("");
    let agent = Agent::install(&lab, &plane, "plane");
    let namespace = plane.cluster.namespace("signers").unwrap();
    let (control, proxy) = agent.start();
    let ada = lab.clerk("ada", "plane", namespace.name());
    ada.works(PATIENCE);

    let file = lab.files.path().join("offline.key");
    let file = file.to_str().unwrap();
    let exported = hub_keys(&lab, &["export", file]).unwrap();
    assert_eq!((&exported["sealed"], &exported["takenIn"]), (&true.into(), &true.into()));
    // What lies beside the store names no signer any more.
    let refused = hub_keys(&lab, &["rotate"]).unwrap_err();
    assert!(refused.contains("--offline-key"), "{refused}");

    let first = signs(&lab);
    let kubectl = ada.kubectl();
    let mut watch = Running::start("watch", kubectl.command(&["get", "configmaps", "--watch"]));
    watch.wait_line("kube-root-ca.crt");
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                ada.kubectl().ok(&["get", "configmaps"]).unwrap();
                served.fetch_add(1, Ordering::SeqCst);
            }
        });
        let rotate = ["rotate", "--offline-key", file, "--after", "10s"];
        let rotated = hub_keys(&lab, &rotate).unwrap();
        assert_eq!(rotated["takenIn"], true, "{rotated}");
        let second = rotated["signer"].as_str().unwrap().to_owned();
        assert_eq!(signs(&lab), first, "agents hear of the new one first");
        wait_until(PATIENCE, "the new signer to sign", || {
            (traffic.is_finished() || signs(&lab) == second).then_some(())
        })
        .unwrap();
        let before = served.load(Ordering::SeqCst);
        wait_until(PATIENCE, "requests that it signed", || {
            (traffic.is_finished() || served.load(Ordering::SeqCst) > before + 3).then_some(())
        })
        .unwrap();
        over.store(true, Ordering::SeqCst);
        traffic.join().unwrap();
        assert!(
            signers(&lab).iter().any(|(id, state)| *id == first && state == "is still accepted")
        );
    });
    kubectl.ok(&["create", "configmap", "seen"]).unwrap();
    watch.wait_line("seen");

    // A signer in wrong hands ends at once; who was served before is again as soon as the agents have heard.
    let second = signs(&lab);
    let rotated = hub_keys(&lab, &["rotate", "--offline-key", file, "--compromised"]).unwrap();
    let third = rotated["signer"].as_str().unwrap();
    let began = Instant::now();
    wait_until(PATIENCE, "the third signer alone", || {
        let signers = signers(&lab);
        (signers.len() == 1 && signers[0].0 == third).then_some(())
    })
    .unwrap();
    assert_ne!(third, second);
    ada.works(PATIENCE);
    eprintln!(
        "{} requests while the signer changed; works {:?} after the compromised one was dropped",
        served.load(Ordering::SeqCst),
        began.elapsed()
    );
    assert!(watch.is_running());
    drop((control, proxy));
}
