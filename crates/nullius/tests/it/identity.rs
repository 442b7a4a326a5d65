//! `agent identity` on a real cluster: what nodes hear, what is signed for them, and who gets nothing.

use std::time::Duration;

use nullius_kube::NODE_NAMESPACE;
use nullius_pki::workload::{JwtVerifier, read_x509_svid};
use nullius_testkit::wait_until;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use serde_json::Value;
use tonic::Code;

use crate::{
    identity_lab::{Lab, proven, request},
    world::World,
};

#[test]
fn a_node_hears_of_its_own_pods_alone_and_gets_svids_for_them() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world, "identity");
    let (here, there) = (lab.workload("here", 0), lab.workload("there", 1));
    let part = lab.part(0);
    let caller = lab.caller(&lab.token(&part));
    let mut stream = caller.watch().unwrap();
    let told =
        caller.wait_for(&mut stream, |told| told.pods.contains_key(&*here).then(|| told.clone()));
    assert!(!told.registered.entries.contains_key(&*there), "a pod of another node");
    let entry = &told.registered.entries[&*here];
    let id =
        format!("spiffe://{}/ns/{}/sa/default", told.registered.trust_domain, lab.namespace.name());
    assert_eq!(entry.spiffe_id.as_str(), id);
    let pod = &told.pods[&*here];
    assert_eq!((&*pod.namespace, &*pod.name), (lab.namespace.name(), "here"));

    let chain = caller.x509(&here, request()).unwrap();
    assert_eq!(proven(&chain, &lab.bundle()).unwrap(), id);
    let (_, until) = read_x509_svid(&chain[0]).unwrap();
    let left = until.duration_since(nullius_model::Timestamp::now()).as_secs();
    assert!((3_000..=3_600).contains(&left), "{left}");
    let token = caller.jwt(&here, "bank").unwrap();
    let verifier = JwtVerifier::new(&lab.bundle());
    let now = nullius_model::Timestamp::now();
    assert_eq!(verifier.verify(&token.token, "bank", now).unwrap().id.as_str(), id);
    assert!(verifier.verify(&token.token, "shop", now).is_err());

    // What comes and goes is told, and what has gone is not signed for any more.
    let late = lab.workload("late", 0);
    caller.wait_for(&mut stream, |told| told.pods.contains_key(&*late).then_some(()));
    lab.namespace.kubectl(&["delete", "pod", "here", "--wait=true"]).unwrap();
    caller.wait_for(&mut stream, |told| (!told.pods.contains_key(&*here)).then_some(()));
    assert_eq!(caller.x509(&here, request()).unwrap_err().code(), Code::PermissionDenied);
}

#[test]
fn people_see_who_has_which_identity_until_when() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world, "identity-list");
    let here = lab.workload("here", 0);
    let caller = lab.caller(&lab.token(&lab.part(0)));
    let mut stream = caller.watch().unwrap();
    caller.wait_for(&mut stream, |told| told.pods.contains_key(&*here).then_some(()));
    let (cluster, namespace) = (world.cluster_name(), lab.namespace.name());
    let listed = || -> Vec<Value> {
        let list = world.admin_json(&["identity", "list", "-c", cluster, "-n", namespace]);
        list["items"].as_array().unwrap().clone()
    };
    let first = caller.x509(&here, request()).unwrap();
    let of = |chain: &[rustls_pki_types::CertificateDer<'_>]| {
        nullius_pki::workload::AuthorityFacts::read(&chain[0]).unwrap()
    };
    let shown = |serial: String| {
        let seen = wait_until(Duration::from_secs(60), "the hub to know what was issued", || {
            listed().into_iter().find(|it| it["pod"] == "here" && it["serial"] == serial)
        });
        seen.unwrap()
    };
    let seen = shown(of(&first).serial);
    let id = format!("spiffe://{}/ns/{namespace}/sa/default", lab.bundle().trust_domain());
    assert_eq!(
        (&seen["spiffeId"], &seen["node"]),
        (&id.as_str().into(), &lab.nodes[0].as_str().into())
    );
    assert_eq!((&seen["entry"], seen.get("by")), (&(&*here).into(), None), "{seen}");
    assert_eq!(seen["notAfter"], of(&first).not_after.to_string());
    assert!(seen["selectors"].to_string().contains(&*here), "{seen}");
    // What is issued next takes its place.
    let second = caller.x509(&here, request()).unwrap();
    let seen = shown(of(&second).serial);
    assert_eq!(seen["since"], of(&first).not_before.to_string());
    assert_eq!(listed().iter().filter(|it| it["pod"] == "here").count(), 1);
    for whose in [id, format!("{namespace}/here")] {
        let one = world.admin_json(&["identity", "show", "-c", cluster, &whose]);
        assert_eq!(one["items"][0]["serial"], of(&second).serial, "{one}");
    }
}

#[test]
fn a_pod_of_another_node_and_what_nobody_registered_are_not_signed_for() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world, "identity-others");
    let there = lab.workload("there", 1);
    let (part, other) = (lab.part(0), lab.part(1));
    // Its own node gets it.
    let owner = lab.caller(&lab.token(&other));
    let mut stream = owner.watch().unwrap();
    owner.wait_for(&mut stream, |told| told.pods.contains_key(&*there).then_some(()));
    owner.x509(&there, request()).unwrap();
    let caller = lab.caller(&lab.token(&part));
    for entry in [&*there, "", "0a1b2c3d-0000-4111-8222-333344445555", "\u{1b}[31m"] {
        assert_eq!(caller.x509(entry, request()).unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(caller.jwt(entry, "bank").unwrap_err().code(), Code::PermissionDenied);
    }
}

#[test]
fn a_token_for_another_audience_is_nobodys() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world, "identity-audience");
    let part = lab.part(0);
    let good = lab.token(&part);
    lab.caller(&good).watch().unwrap();
    let uid = lab.api.get(&format!("/api/v1/namespaces/{NODE_NAMESPACE}/pods/{}", part.name));
    let uid = uid.unwrap().json().unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    for audience in ["nullius-agent:another", "nullius-hub", "https://kubernetes.default.svc"] {
        let of = (part.name.as_str(), uid.as_str());
        let token = lab.token_of(NODE_NAMESPACE, "nullius-node", audience, of);
        lab.caller(&token).is_nobody("");
    }
    // And so is what is no token, or was changed.
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let forged = format!("{signed}.{first}{}", &signature[1..]);
    for token in ["x", "a.b.c", &forged] {
        lab.caller(token).is_nobody("");
    }
}

#[test]
fn a_token_of_another_account_is_nobodys() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world, "identity-account");
    let namespace = lab.namespace.name();
    let uid = lab.workload("web", 0);
    let token = lab.token_of(namespace, "default", &lab.audience(), ("web", &uid));
    lab.caller(&token).is_nobody(&uid);
    // Nor does an account of the same name elsewhere help.
    let account = serde_json::json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "nullius-node" },
    });
    lab.namespace.apply(&account.to_string()).unwrap();
    let uid = lab.pod(namespace, "node", "nullius-node", 0);
    let token = lab.token_of(namespace, "nullius-node", &lab.audience(), ("node", &uid));
    lab.caller(&token).is_nobody(&uid);
}

#[test]
fn a_token_of_a_deleted_pod_is_nobodys() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world, "identity-deleted");
    let here = lab.workload("here", 0);
    let part = lab.part(0);
    let token = lab.token(&part);
    let caller = lab.caller(&token);
    let mut stream = caller.watch().unwrap();
    caller.wait_for(&mut stream, |told| told.pods.contains_key(&*here).then_some(()));
    let delete = ["-n", NODE_NAMESPACE, "delete", "pod", &part.name, "--wait=true", "--force"];
    world.direct().ok(&delete).unwrap();
    // The answer of the API server about the token may still be remembered: the pod is looked at all the same.
    let refused = wait_until(Duration::from_secs(30), "the token to be nobody's", || {
        caller.x509(&here, request()).err().filter(|it| it.code() == Code::Unauthenticated)
    });
    refused.unwrap();
    lab.caller(&token).is_nobody(&here);
}

#[test]
fn of_a_request_the_key_alone_counts() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world, "identity-request");
    let here = lab.workload("here", 0);
    let part = lab.part(0);
    let caller = lab.caller(&lab.token(&part));
    let mut stream = caller.watch().unwrap();
    caller.wait_for(&mut stream, |told| told.pods.contains_key(&*here).then_some(()));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["bank.example".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let domain = lab.bundle().trust_domain().clone();
    let other = format!("spiffe://{domain}/ns/nullius-system/sa/nullius-identity");
    params.subject_alt_names.push(SanType::URI(other.try_into().unwrap()));
    let forged = params.serialize_request(&key).unwrap().der().to_vec();
    let chain = caller.x509(&here, forged.clone()).unwrap();
    let id = format!("spiffe://{domain}/ns/{}/sa/default", lab.namespace.name());
    // An SVID that could sign, or with another URI beside, is refused by this very function.
    assert_eq!(proven(&chain, &lab.bundle()).unwrap(), id);
    assert!(!chain[0].windows(12).any(|part| part == b"bank.example"));
    // Without the proof that the key is held nothing is signed.
    let mut unproven = forged;
    let last = unproven.last_mut().unwrap();
    *last ^= 1;
    for wrong in [unproven, Vec::new(), b"no request".to_vec(), vec![0x30; 12_000]] {
        assert_eq!(caller.x509(&here, wrong).unwrap_err().code(), Code::InvalidArgument);
    }
    // What is longer than any request is not even read.
    let long = caller.x509(&here, vec![0x30; 60_000]).unwrap_err();
    assert_eq!(long.code(), Code::OutOfRange);
}

#[test]
fn while_an_authority_is_replaced_what_was_issued_before_is_still_believed() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world, "identity-rotation");
    let here = lab.workload("here", 0);
    let part = lab.part(0);
    let caller = lab.caller(&lab.token(&part));
    let mut stream = caller.watch().unwrap();
    caller.wait_for(&mut stream, |told| told.pods.contains_key(&*here).then_some(()));
    let chain = caller.x509(&here, request()).unwrap();
    let before = lab.bundle();
    let cluster = world.cluster_name();
    let shown = || -> Value { world.admin_json(&["trust", "show", "-c", cluster]) };
    let told = wait_until(Duration::from_secs(60), "the hub to hear of the authority", || {
        let item = shown()["items"][0].clone();
        (item["authorities"][0]["stage"] == "active").then_some(item)
    });
    let serial = told.unwrap()["authorities"][0]["serial"].clone();
    world.admin(&["trust", "rotate", "-c", cluster, "--reason", "drill"]);
    // The node hears of it over its stream, and who reads the ConfigMap there.
    let told = caller.wait_for(&mut stream, |told| {
        let bundle = told.registered.bundles.values().next()?;
        (bundle.x509_authorities().len() == 2).then(|| bundle.clone())
    });
    assert!(told.sequence() > before.sequence());
    let id = format!("spiffe://{}/ns/{}/sa/default", told.trust_domain(), lab.namespace.name());
    assert_eq!(proven(&chain, &told).unwrap(), id);
    let published = wait_until(Duration::from_secs(60), "the bundle of both", || {
        let bundle = lab.bundle();
        (bundle.x509_authorities().len() == 2).then_some(bundle)
    });
    assert_eq!(proven(&chain, &published.unwrap()).unwrap(), id);
    // Until everybody can have heard of the next one, the first signs: who has the bundle of before believes it.
    let meanwhile = caller.x509(&here, request()).unwrap();
    assert_eq!(proven(&meanwhile, &before).unwrap(), id);
    // Then the next one signs. Whoever asks all the while gets what everybody believes who has heard of both.
    let mut asked = 0;
    let activated = wait_until(Duration::from_secs(300), "the next authority to sign", || {
        match caller.x509(&here, request()) {
            Ok(chain) => {
                assert_eq!(proven(&chain, &told).unwrap(), id);
                asked += 1;
            }
            // Nothing else keeps anybody waiting than asking more often than each may.
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
        let item = shown()["items"][0].clone();
        (item["rotation"]["progress"] == "activated").then_some(item)
    });
    let item = activated.unwrap();
    let stages: Vec<_> =
        item["authorities"].as_array().unwrap().iter().map(|it| it["stage"].clone()).collect();
    assert_eq!(stages, ["active", "tainted"], "{item}");
    assert_eq!(item["authorities"][1]["serial"], serial);
    let now = wait_until(Duration::from_secs(60), "the turn to ask again", || {
        caller.x509(&here, request()).ok()
    });
    let now = now.unwrap();
    assert!(proven(&now, &before).is_err(), "another authority signs");
    assert_eq!(proven(&now, &lab.bundle()).unwrap(), id);
    assert_eq!(proven(&chain, &lab.bundle()).unwrap(), id, "what it was given first");
    assert!(asked > 5, "{asked}");
}
