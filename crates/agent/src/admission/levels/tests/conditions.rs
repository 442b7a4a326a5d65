//! The conditions of the webhook's entry, asked as an API server asks them.

use nullius_admission::webhook::{Entry, Review, Step};
use nullius_model::Timestamp;
use nullius_policy::pod_security::conditions;
use serde_json::{Value, json};

use super::kept::{in_force, refusal};

const PROFILE: &str = "container.apparmor.security.beta.kubernetes.io/main";

fn container(name: &str, image: &str) -> Value {
    json!({ "name": name, "image": image })
}

/// A pod that breaks `restricted`.
fn pod(change: impl Fn(&mut Value)) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "p", "annotations": { "a": "b", PROFILE: "runtime/default" }, "finalizers": ["a/b"] },
        "spec": {
            "initContainers": [container("first", "i:1")],
            "containers": [container("main", "a:1"), container("other", "b:1")],
            "ephemeralContainers": [container("debug", "d:1")],
        },
    });
    change(&mut pod);
    pod
}

fn request(subresource: &str, old: Option<&Value>, new: &Value) -> Value {
    let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
    let mut request = json!({
        "uid": "u-1", "operation": operation, "namespace": "shop", "name": "p",
        "kind": { "group": "", "version": "v1", "kind": "Pod" },
        "resource": { "group": "", "version": "v1", "resource": "pods" },
        "userInfo": { "username": "ada", "groups": [] },
        "object": new, "oldObject": old,
    });
    if !subresource.is_empty() {
        request["subResource"] = subresource.into();
    }
    request
}

#[test]
fn what_an_api_server_does_not_ask_about_would_not_be_refused() {
    let conditions = conditions().map(|(name, text)| json!({ "name": name, "expression": text }));
    let constraints = json!({ "resourceRules": [{
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods", "pods/*"],
    }] });
    let object = |kind: &str, spec: Value| {
        json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
                "metadata": { "name": "asks" }, "spec": spec })
    };
    let engine = in_force(&[
        object(
            "ValidatingAdmissionPolicy",
            json!({ "matchConstraints": constraints, "matchConditions": conditions,
                    "validations": [{ "expression": "false", "message": "it is asked about" }] }),
        ),
        object(
            "ValidatingAdmissionPolicyBinding",
            json!({ "policyName": "asks", "validationActions": ["Deny"] }),
        ),
    ]);
    let namespace = json!({ "metadata": { "name": "shop", "labels": {
        "pod-security.kubernetes.io/enforce": "baseline", "nullius.dev/pod-security-enforce": "restricted",
    } } });
    let is_refused = |request: &Value| {
        let body = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
        let review = Review::read(Entry::PodSecurity, body.to_string().as_bytes()).unwrap();
        let step = review.measure(&engine, &namespace, Timestamp::now(), &|| false, &|| false);
        let Some(Step::Decided(judged)) = step else { panic!("{step:?}") };
        judged.outcome.refusal.is_some()
    };
    let old = pod(|_| {});
    let bare = pod(|pod| {
        pod["metadata"] = json!({ "name": "p" });
        let spec = pod["spec"].as_object_mut().unwrap();
        spec.retain(|list, _| list == "containers");
    });
    type Change = (&'static str, fn(&mut Value));
    let changes: &[(bool, Change)] = &[
        (false, ("nothing", |_| {})),
        (false, ("a finalizer", |pod| pod["metadata"]["finalizers"] = json!([]))),
        (false, ("a label", |pod| pod["metadata"]["labels"] = json!({ "a": "b" }))),
        (false, ("an annotation", |pod| pod["metadata"]["annotations"]["a"] = "c".into())),
        (false, ("tolerations", |pod| pod["spec"]["tolerations"] = json!([{ "key": "a" }]))),
        (
            false,
            ("resources", |pod| {
                pod["spec"]["containers"][0]["resources"] = json!({ "limits": { "cpu": "1" } });
            }),
        ),
        (
            false,
            ("a container for debugging less", |pod| {
                pod["spec"]["ephemeralContainers"] = json!([])
            }),
        ),
        (true, ("a profile", |pod| pod["metadata"]["annotations"][PROFILE] = "unconfined".into())),
        (true, ("a profile less", |pod| pod["metadata"]["annotations"] = json!({ "a": "b" }))),
        (
            true,
            ("a profile more", |pod| {
                pod["metadata"]["annotations"]["seccomp.security.alpha.kubernetes.io/pod"] =
                    "x".into();
            }),
        ),
        (true, ("an image", |pod| pod["spec"]["containers"][1]["image"] = "b:2".into())),
        (true, ("an image before", |pod| pod["spec"]["initContainers"][0]["image"] = "i:2".into())),
        (true, ("no container before", |pod| pod["spec"]["initContainers"] = json!([]))),
        (
            true,
            ("another order", |pod| {
                pod["spec"]["containers"] =
                    json!([container("other", "b:1"), container("main", "a:1")]);
            }),
        ),
        (
            true,
            ("a container", |pod| {
                pod["spec"]["containers"].as_array_mut().unwrap().push(container("c", "c:1"));
            }),
        ),
        (
            true,
            ("one for debugging", |pod| {
                pod["spec"]["ephemeralContainers"]
                    .as_array_mut()
                    .unwrap()
                    .push(container("e", "d:1"));
            }),
        ),
        (
            true,
            ("another for debugging", |pod| {
                pod["spec"]["ephemeralContainers"] = json!([container("debug", "d:2")]);
            }),
        ),
    ];
    for (is_asked, (what, change)) in changes {
        let mut new = old.clone();
        change(&mut new);
        for subresource in ["", "ephemeralcontainers", "resize"] {
            let request = request(subresource, Some(&old), &new);
            let told = refusal(&engine, &request);
            assert_eq!(told.is_some(), *is_asked, "{what} by `{subresource}`: {told:?}");
            assert_eq!(is_refused(&request), *is_asked, "{what} by `{subresource}`");
        }
        let status = request("status", Some(&old), &new);
        assert!(refusal(&engine, &status).is_none() && !is_refused(&status), "{what}");
        let made = request("", None, &new);
        assert!(refusal(&engine, &made).is_some() && is_refused(&made), "{what}");
    }
    // Without lists and annotations too.
    for (is_asked, from, to) in [(false, &bare, &bare), (true, &bare, &old), (true, &old, &bare)] {
        let request = request("", Some(from), to);
        assert_eq!(refusal(&engine, &request).is_some(), is_asked);
        assert_eq!(is_refused(&request), is_asked);
    }
}
