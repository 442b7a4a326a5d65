//! What nodes hear of the mesh on a real cluster, and how intentions stand by what they report.

use std::time::Duration;

use nullius_mesh::news::{Mode, Picture, PortProtocol, Uid};
use nullius_proto::node_v1::RefusedIntention;
use nullius_testkit::wait_until;
use serde_json::{Value, json};
use tonic::Code;

use crate::{identity_lab::Lab, world::World};

const SOON: Duration = Duration::from_secs(120);

/// A lab whose namespace is in the mesh, with a Service in front of what is called `app`.
fn in_mesh<'w>(world: &'w World, purpose: &str) -> Lab<'w> {
    let lab = Lab::open(world, purpose);
    let label = "nullius.dev/mesh=node";
    world.direct().ok(&["label", "namespace", lab.namespace.name(), label]).unwrap();
    lab
}

fn service(lab: &Lab<'_>, app: &str) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": app },
        "spec": {
            "selector": { "app": app },
            "ports": [{ "name": "http-web", "port": 80, "targetPort": 8080 }],
        },
    });
    lab.namespace.apply(&service.to_string()).unwrap();
}

/// Writes an intention, and says which UID it has.
fn intention(lab: &Lab<'_>, namespace: &str, name: &str, spec: &Value) -> String {
    let object = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
        "metadata": { "name": name, "namespace": namespace }, "spec": spec,
    });
    lab.world.direct().apply(&object.to_string()).unwrap();
    let get = ["-n", namespace, "get", "intention", name, "-o", "jsonpath={.metadata.uid}"];
    lab.world.direct().ok(&get).unwrap()
}

fn allow_all() -> Value {
    json!({ "destination": { "serviceAccount": "default" }, "sources": [{ "any": true, "action": "allow" }] })
}

/// Waits until the status of an intention is what somebody looks for.
#[track_caller]
fn wait_for_status<T>(
    lab: &Lab<'_>,
    name: &str,
    what: &str,
    look: impl Fn(&Value) -> Option<T>,
) -> T {
    let get = ["get", "intention", name, "-o", "json"];
    let read = || -> Value { serde_json::from_str(&lab.namespace.kubectl(&get).unwrap()).unwrap() };
    let found = wait_until(SOON, what, || look(&read()["status"]));
    found.unwrap_or_else(|error| panic!("{error}: {:#}", read()["status"]))
}

fn condition<'s>(status: &'s Value, name: &str) -> Option<&'s Value> {
    status["conditions"].as_array()?.iter().find(|it| it["type"] == *name)
}

fn has_intention(picture: &Picture, uid: &str) -> Option<()> {
    picture.intentions().contains_key(uid).then_some(())
}

#[test]
fn a_node_hears_what_its_pods_need_and_no_labels_of_others() {
    let Some(world) = World::together() else { return };
    let lab = in_mesh(&world, "mesh-hears");
    let (here, there) = (lab.workload("here", 0), lab.workload("there", 1));
    // The namespace leaves out pods of an account; no pod leaves by itself.
    lab.namespace.kubectl(&["create", "serviceaccount", "quiet"]).unwrap();
    let exempt = |accounts: &str| {
        let said = format!("nullius.dev/mesh-exempt={accounts}");
        let name = lab.namespace.name();
        lab.world.direct().ok(&["annotate", "--overwrite", "namespace", name, &said]).unwrap();
    };
    exempt("quiet");
    let off = lab.pod(lab.namespace.name(), "off", "quiet", 1);
    lab.namespace.kubectl(&["label", "pod", "there", "nullius.dev/mesh=disabled"]).unwrap();
    lab.namespace.kubectl(&["label", "pod", "here", "app=here"]).unwrap();
    service(&lab, "here");
    let (near, far) = (lab.part(0), lab.part(1));
    let (near, far) = (lab.caller(&lab.token(&near)), lab.caller(&lab.token(&far)));
    let mut stream = near.watch_mesh().unwrap();
    let name = format!("{}/here", lab.namespace.name()).parse().unwrap();
    let told = near.wait_for_mesh(&mut stream, |picture| {
        let own = picture.workloads().get(&*here)?;
        let port = picture.services().get(&name)?.ports.get(&80)?.clone();
        let is_there = picture.workloads().contains_key(&*there)
            && !picture.workloads().contains_key(&*off)
            && own.mode == Mode::Node
            && !own.addresses.is_empty()
            && own.local.as_ref()?.ports.get(&8080) == Some(&PortProtocol::Http)
            && !port.endpoints.is_empty();
        is_there.then(|| (own.clone(), port))
    });
    let (own, port) = told;
    assert_eq!(own.local.as_ref().unwrap().labels.known()["app"], "here");
    let domain = lab.bundle().trust_domain().clone();
    let id = format!("spiffe://{domain}/ns/{}/sa/default", lab.namespace.name());
    assert_eq!(own.spiffe_id.as_ref().unwrap().as_str(), id);
    assert_eq!(port.protocol, PortProtocol::Http);
    let [end] = port.endpoints.as_slice() else { panic!("{port:?}") };
    assert_eq!((end.address, end.port), (own.addresses[0], 8080));
    assert_eq!(end.workload.as_deref(), Some(&*here));
    let other = &stream.picture().workloads()[&*there];
    assert_eq!((other.mode, &*other.node, &other.local), (Mode::Node, &*lab.nodes[1], &None));

    // Seen from the other node it is the other way round; and it hears of all of its own pods.
    let mut elsewhere = far.watch_mesh().unwrap();
    let (other, own) = far.wait_for_mesh(&mut elsewhere, |picture| {
        let pods = picture.workloads();
        Some((pods.get(&*here)?.clone(), pods.get(&*off)?.clone()))
    });
    assert_eq!(other.local, None, "labels of a pod of another node");
    assert_eq!((own.mode, own.spiffe_id.as_ref()), (Mode::None, None));
    assert!(own.local.is_some());

    // What goes is gone for all; what leaves the mesh stays with its node.
    lab.namespace.kubectl(&["delete", "pod", "here", "--wait=true"]).unwrap();
    let is_gone = |picture: &Picture| (!picture.workloads().contains_key(&*here)).then_some(());
    near.wait_for_mesh(&mut stream, is_gone);
    far.wait_for_mesh(&mut elsewhere, is_gone);
    near.wait_for_mesh(&mut stream, |picture| {
        picture.services().get(&name)?.ports[&80].endpoints.is_empty().then_some(())
    });
    exempt("quiet,default");
    near.wait_for_mesh(&mut stream, |it| (!it.workloads().contains_key(&*there)).then_some(()));
    far.wait_for_mesh(&mut elsewhere, |it| {
        (it.workloads().get(&*there)?.mode == Mode::None).then_some(())
    });
}

#[test]
fn a_node_hears_intentions_for_its_pods_and_they_are_in_force_where_nodes_say_so() {
    let Some(world) = World::together() else { return };
    let lab = in_mesh(&world, "mesh-intentions");
    let (here, there) = (lab.workload("here", 0), lab.workload("there", 1));
    let own = intention(&lab, lab.namespace.name(), "own", &allow_all());
    let elsewhere = world.cluster.namespace("mesh-elsewhere").unwrap();
    let other = intention(&lab, elsewhere.name(), "other", &allow_all());
    let system = format!("guard-{}", lab.namespace.name());
    let guard = json!({
        "destination": { "namespace": lab.namespace.name() },
        "sources": [{ "namespace": "nobody", "action": "deny" }],
    });
    let guard = intention(&lab, "nullius-system", &system, &guard);
    let (near, far) = (lab.part(0), lab.part(1));
    let (near, far) = (lab.caller(&lab.token(&near)), lab.caller(&lab.token(&far)));
    let mut stream = near.watch_mesh().unwrap();
    let all = |picture: &Picture| {
        has_intention(picture, &own)?;
        has_intention(picture, &guard)?;
        (picture.workloads().contains_key(&*here) && picture.workloads().contains_key(&*there))
            .then_some(())
    };
    near.wait_for_mesh(&mut stream, all);
    // What was written after it and is heard says that the other one was not kept back by chance.
    let later = intention(&lab, lab.namespace.name(), "later", &allow_all());
    near.wait_for_mesh(&mut stream, |picture| has_intention(picture, &later));
    assert!(has_intention(stream.picture(), &other).is_none(), "of a namespace without pods here");

    wait_for_status(&lab, "own", "it to wait for nodes", |status| {
        let told = condition(status, "InForce")?;
        let waits = told["status"] == "False" && told["message"] == "on 0 of 2 nodes";
        (waits && condition(status, "Accepted")?["status"] == "True").then_some(())
    });
    near.report(&stream, Vec::new()).unwrap();
    wait_for_status(&lab, "own", "the near node to count", |status| {
        (condition(status, "InForce")?["message"] == "on 1 of 2 nodes").then_some(())
    });
    let mut elsewhere = far.watch_mesh().unwrap();
    far.wait_for_mesh(&mut elsewhere, all);
    let odd = RefusedIntention { uid: own.clone(), generation: 1, message: "it is odd".to_owned() };
    far.report(&elsewhere, vec![odd]).unwrap();
    wait_for_status(&lab, "own", "the refusal to be told", |status| {
        let told = condition(status, "InForce")?;
        let message = format!("on 1 of 2 nodes; `{}` refuses it: it is odd", lab.nodes[1]);
        (told["reason"] == "RefusedByNodes" && told["message"] == message).then_some(())
    });
    far.report(&elsewhere, Vec::new()).unwrap();
    let since = wait_for_status(&lab, "own", "it to be in force", |status| {
        let told = condition(status, "InForce")?;
        (told["status"] == "True").then(|| told["lastTransitionTime"].clone())
    });
    assert!(since.is_string());
    wait_for_status(&lab, "own", "counts", |status| {
        (status["nodes"] == 2 && status["inForce"] == 2).then_some(())
    });
    // What stands is not written again, however often others are looked at.
    let version = || {
        let get = ["get", "intention", "own", "-o", "jsonpath={.metadata.resourceVersion}"];
        lab.namespace.kubectl(&get).unwrap()
    };
    let before = version();
    for witness in ["witness-1", "witness-2"] {
        intention(&lab, lab.namespace.name(), witness, &allow_all());
        wait_for_status(&lab, witness, "a status", |status| {
            condition(status, "Accepted").map(drop)
        });
    }
    assert_eq!(version(), before);

    // Another version is not in force before it is reported, and one that cannot be read nowhere.
    let mut changed = allow_all();
    changed["destination"]["ports"] = json!([8080]);
    intention(&lab, lab.namespace.name(), "own", &changed);
    let generation =
        |picture: &Picture| (picture.intentions().get(&*own)?.generation == 2).then_some(());
    near.wait_for_mesh(&mut stream, generation);
    wait_for_status(&lab, "own", "the new version to wait", |status| {
        let told = condition(status, "InForce")?;
        (told["observedGeneration"] == 2 && told["status"] == "False").then_some(())
    });
    near.report(&stream, Vec::new()).unwrap();
    wait_for_status(&lab, "own", "the new version to count", |status| {
        (condition(status, "InForce")?["message"] == "on 1 of 2 nodes").then_some(())
    });
    changed["sources"] = json!([{ "any": true, "permissions": [
        { "action": "allow", "paths": [{ "regex": "(" }] },
    ] }]);
    intention(&lab, lab.namespace.name(), "own", &changed);
    wait_for_status(&lab, "own", "the fault to be told", |status| {
        let told = condition(status, "Accepted")?;
        let place = "spec.sources[0].permissions[0].paths[0].regex";
        let is_told = told["message"].as_str()?.contains(place);
        (told["status"] == "False"
            && is_told
            && condition(status, "InForce")?["reason"] == "Refused")
            .then_some(())
    });
    let delete = ["-n", "nullius-system", "delete", "intention", &system];
    world.direct().ok(&delete).unwrap();
    near.wait_for_mesh(&mut stream, |picture| {
        (!picture.intentions().contains_key(&Uid::from(&*guard))).then_some(())
    });
}

#[test]
fn a_report_is_of_a_stream_of_the_node_and_of_what_it_was_told() {
    let Some(world) = World::together() else { return };
    let lab = in_mesh(&world, "mesh-reports");
    let (near, far) = (lab.part(0), lab.part(1));
    let (near, far) = (lab.caller(&lab.token(&near)), lab.caller(&lab.token(&far)));
    let mut stream = near.watch_mesh().unwrap();
    near.wait_for_mesh(&mut stream, |_| Some(()));
    let name = stream.picture().stream().to_owned();
    near.report(&stream, Vec::new()).unwrap();
    let of_another = far.report_of(name.clone(), 1, Vec::new()).unwrap_err();
    assert_eq!(of_another.code(), Code::NotFound);
    let ahead = near.report_of(name.clone(), 1_000_000, Vec::new()).unwrap_err();
    assert_eq!(ahead.code(), Code::InvalidArgument);
    let refused = |letters| RefusedIntention {
        uid: "u".repeat(letters),
        generation: 1,
        message: String::new(),
    };
    let many = near.report_of(name.clone(), 1, vec![refused(40); 1_001]).unwrap_err();
    assert_eq!(many.code(), Code::InvalidArgument);
    let long = near.report_of(name, 1, vec![refused(100); 900]).unwrap_err();
    assert_eq!(long.code(), Code::OutOfRange, "what is longer than any report is not read");
}

#[test]
fn when_a_replica_goes_what_it_said_goes_with_it() {
    let Some(world) = World::alone() else { return };
    let lab = in_mesh(&world, "mesh-replicas");
    lab.workload("here", 0);
    lab.workload("there", 1);
    let own = intention(&lab, lab.namespace.name(), "own", &allow_all());
    let (near, far) = (lab.part(0), lab.part(1));
    let (near, far_token) = (lab.token(&near), lab.token(&far));
    let replicas = lab.replicas(2);
    let [(one, at_one), (two, at_two)] = replicas.iter().collect::<Vec<_>>()[..] else {
        panic!("{replicas:?}")
    };
    let (near, far) = (lab.caller_of(*at_one, &near), lab.caller_of(*at_two, &far_token));
    let mut streams = [near.watch_mesh().unwrap(), far.watch_mesh().unwrap()];
    for (caller, stream) in [&near, &far].into_iter().zip(&mut streams) {
        caller.wait_for_mesh(stream, |picture| {
            let pods = picture.workloads().values();
            let of_test = pods.filter(|it| it.namespace.as_str() == lab.namespace.name());
            has_intention(picture, &own)?;
            (of_test.count() == 2).then_some(())
        });
        caller.report(stream, Vec::new()).unwrap();
    }
    let said_by = |status: &Value| -> Vec<String> {
        let entries = status["replicas"].as_array().into_iter().flatten();
        entries.filter_map(|it| it["name"].as_str().map(str::to_owned)).collect()
    };
    // Each was told by another replica; both together are all.
    wait_for_status(&lab, "own", "both nodes to count", |status| {
        let names = said_by(status);
        let both = names.contains(one) && names.contains(two);
        (both && condition(status, "InForce")?["message"] == "on 2 of 2 nodes").then_some(())
    });
    let delete = ["-n", "nullius-system", "delete", "pod", two, "--wait=true"];
    world.direct().ok(&delete).unwrap();
    wait_for_status(&lab, "own", "what the replica said to be gone", |status| {
        let is_gone = !said_by(status).contains(two);
        (is_gone && condition(status, "InForce")?["message"] == "on 1 of 2 nodes").then_some(())
    });
    // Its node comes back at another one.
    let far = lab.caller_of(*at_one, &far_token);
    let mut again = far.watch_mesh().unwrap();
    far.wait_for_mesh(&mut again, |picture| has_intention(picture, &own));
    far.report(&again, Vec::new()).unwrap();
    wait_for_status(&lab, "own", "both nodes to count again", |status| {
        (condition(status, "InForce")?["message"] == "on 2 of 2 nodes").then_some(())
    });
}
