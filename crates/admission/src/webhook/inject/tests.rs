#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

use nullius_policy::Judged;

use super::*;
use crate::{
    inject::inject,
    webhook::{Entry, answer},
};

fn sidecar() -> Sidecar {
    Sidecar { image: "r.example/nullius:1".to_owned(), pull_policy: Some("Never".to_owned()) }
}

fn namespace(mesh: Option<&str>) -> Json {
    let mut namespace = json!({ "metadata": { "name": "shop", "labels": { "of": "shop" } } });
    if let Some(mesh) = mesh {
        namespace["metadata"]["labels"]["nullius.dev/mesh"] = json!(mesh);
    }
    namespace
}

/// As an API server sends it: with its own defaults and an account.
fn pod() -> Json {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "generateName": "web-", "namespace": "shop", "labels": { "app": "web" } },
        "spec": {
            "serviceAccountName": "web",
            "containers": [{ "name": "web", "image": "w:1" }],
            "volumes": [{ "name": "kube-api-access-x", "projected": { "sources": [] } }],
        },
    })
}

fn review(pod: &Json, change: impl FnOnce(&mut Json)) -> Review {
    let mut body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": "CREATE", "namespace": "shop", "name": "", "dryRun": false,
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller" },
            "object": pod, "oldObject": null, "options": null,
        },
    });
    change(&mut body["request"]);
    Review::read(Entry::InjectIgnore, body.to_string().as_bytes()).unwrap()
}

fn decided(pod: &Json, namespace: &Json) -> Judged {
    match review(pod, |_| {}).inject(&sidecar(), namespace) {
        Step::Decided(judged) => *judged,
        Step::Fetch(_) => panic!("there is nothing to fetch"),
    }
}

/// What an API server makes of a patch whose operations all set a field of a map.
fn patched(pod: &Json, patch: &[Json]) -> Json {
    let mut pod = pod.clone();
    for operation in patch {
        assert_eq!(operation["op"], "add");
        let (parent, field) = operation["path"].as_str().unwrap().rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = operation["value"].clone();
    }
    pod
}

#[test]
fn a_pod_becomes_what_the_command_line_makes_of_it_and_stays_so_when_it_is_asked_about_again() {
    for change in [
        |_: &mut Json| {},
        |pod: &mut Json| drop(pod["metadata"].as_object_mut().unwrap().remove("labels")),
        |pod: &mut Json| {
            pod["spec"]["initContainers"] = json!([{ "name": "migrate", "image": "m:1" }]);
        },
        |pod: &mut Json| pod["metadata"]["annotations"] = json!({ "nullius.dev/proxy-cpu": "1" }),
    ] {
        let mut before = pod();
        change(&mut before);
        let judged = decided(&before, &namespace(Some("sidecar")));
        assert!(judged.decision.is_allowed());
        let after = patched(&before, &judged.outcome.patch);
        let mut written = before.clone();
        assert_eq!(inject(&mut written, &sidecar()), Ok(Injected::Changed));
        assert_eq!(after, written);
        let again = decided(&after, &namespace(Some("sidecar")));
        assert!(again.decision.is_allowed() && again.outcome.patch.is_empty());

        // Another webhook, or the API server itself, has put something beside it meanwhile.
        let mut touched = after.clone();
        let proxy = &mut touched["spec"]["initContainers"][0];
        proxy["terminationMessagePath"] = json!("/dev/termination-log");
        proxy["env"] = json!([{ "name": "OF_OTHERS", "value": "1" }]);
        let judged = decided(&touched, &namespace(Some("sidecar")));
        let mut expected = after;
        expected["spec"]["initContainers"][0]["terminationMessagePath"] =
            json!("/dev/termination-log");
        assert_eq!(patched(&touched, &judged.outcome.patch), expected);
    }
    // On the wire.
    let body = answer("u-1", decided(&pod(), &namespace(Some("sidecar")))).body;
    let body: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&body["response"]["allowed"], &body["response"]["patchType"]),
        (&json!(true), &json!("JSONPatch"))
    );
}

#[test]
fn only_pods_that_are_to_have_one_get_one() {
    let labelled = |word: &str| {
        let mut pod = pod();
        pod["metadata"]["labels"]["nullius.dev/mesh"] = json!(word);
        pod
    };
    let with = |pointer: &str, value: Json| {
        let mut pod = pod();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;
        pod
    };
    let mut exempt = namespace(Some("sidecar"));
    exempt["metadata"]["annotations"] = json!({ "nullius.dev/mesh-exempt": "db, web" });
    let sidecars = namespace(Some("sidecar"));
    for (what, is_injected, pod, namespace) in [
        ("the namespace says so", true, pod(), sidecars.clone()),
        ("both say so", true, labelled("sidecar"), sidecars.clone()),
        (
            "the pod says so where its namespace says nothing",
            true,
            labelled("sidecar"),
            namespace(None),
        ),
        ("nobody says so", false, pod(), namespace(None)),
        (
            "the node leads all of the namespace",
            false,
            labelled("sidecar"),
            namespace(Some("node")),
        ),
        ("the namespace is left out", false, labelled("sidecar"), namespace(Some("disabled"))),
        ("the pod says another form", false, labelled("node"), sidecars.clone()),
        ("the pod wants none", false, labelled("disabled"), sidecars.clone()),
        ("the account is left out of the mesh", false, pod(), exempt),
        (
            "it has the node's network",
            false,
            with("/spec/hostNetwork", json!(true)),
            sidecars.clone(),
        ),
        (
            "it runs on Windows",
            false,
            with("/spec/os", json!({ "name": "windows" })),
            sidecars.clone(),
        ),
        (
            "it is the image of one of the kubelet's own",
            false,
            with("/metadata/annotations", json!({ "kubernetes.io/config.mirror": "x" })),
            sidecars.clone(),
        ),
        (
            "it wants no injection",
            false,
            with("/metadata/labels", json!({ "nullius.dev/inject": "disabled" })),
            sidecars.clone(),
        ),
    ] {
        let judged = decided(&pod, &namespace);
        assert!(judged.decision.is_allowed(), "{what}");
        assert_eq!(!judged.outcome.patch.is_empty(), is_injected, "{what}");
    }
    for own in ["kube-system", "nullius-system", "nullius-node"] {
        let review = review(&pod(), |request| request["namespace"] = json!(own));
        let Step::Decided(judged) = review.inject(&sidecar(), &sidecars) else { panic!("{own}") };
        assert!(judged.decision.is_allowed() && judged.outcome.patch.is_empty(), "{own}");
    }
    // Neither a change of a pod, nor a part of one.
    type Change = fn(&mut Json);
    let others: [Change; 3] = [
        |request| {
            request["operation"] = json!("UPDATE");
            request["oldObject"] = request["object"].clone();
        },
        |request| request["subResource"] = json!("binding"),
        |request| request["resource"]["resource"] = json!("configmaps"),
    ];
    for change in others {
        let Step::Decided(judged) = review(&pod(), change).inject(&sidecar(), &sidecars) else {
            panic!("it is decided")
        };
        assert!(judged.decision.is_allowed() && judged.outcome.patch.is_empty());
    }
}

#[test]
fn a_pod_that_forges_the_proxy_or_takes_what_is_its_own_is_refused() {
    type Change = fn(&mut Json);
    let cases: [(&str, Change); 4] = [
        ("spec.initContainers[0].name", |pod| {
            pod["spec"]["initContainers"] = json!([{
                "name": "nullius-proxy", "restartPolicy": "Always", "args": ["proxy", "--captured"],
                "command": ["/bin/sh"], "image": "mine:1",
            }]);
        }),
        ("spec.containers[0].volumeMounts[0].name", |pod| {
            pod["spec"]["containers"][0]["volumeMounts"] =
                json!([{ "name": "nullius-proxy", "mountPath": "/x" }]);
        }),
        ("spec.volumes[0].csi.volumeAttributes", |pod| {
            pod["spec"]["volumes"][0] = json!({
                "name": "mine",
                "csi": { "driver": "csi.nullius.dev", "volumeAttributes": { "for": "proxy" } },
            });
        }),
        ("metadata.annotations[nullius.dev/proxy-memory]", |pod| {
            pod["metadata"]["annotations"] = json!({ "nullius.dev/proxy-memory": "much" });
        }),
    ];
    for (field, change) in cases {
        let mut pod = pod();
        change(&mut pod);
        let judged = decided(&pod, &namespace(Some("sidecar")));
        assert!(!judged.decision.is_allowed() && judged.outcome.patch.is_empty());
        let body: Json = serde_json::from_slice(&answer("u-1", judged).body).unwrap();
        let status = &body["response"]["status"];
        assert!(status["message"].as_str().unwrap().contains(&format!(" {field}: ")), "{status}");
        assert_eq!((&body["response"]["allowed"], &status["code"]), (&json!(false), &json!(403)));
    }
}
