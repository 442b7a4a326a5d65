#![allow(clippy::unwrap_used, reason = "test")]
use serde_json::json;

use super::*;

fn labels(enforce: &'static str) -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([("pod-security.kubernetes.io/enforce", enforce)])
}

fn pod(image: &str) -> Value {
    json!({ "metadata": { "name": "a" }, "spec": { "hostPID": true, "containers": [{ "name": "c", "image": image }] } })
}

fn request(object: &Value) -> PodRequest<'_> {
    PodRequest {
        operation: Operation::Create,
        group: "",
        resource: "pods",
        subresource: "",
        namespace: "shop",
        name: "a",
        user: "ada",
        object,
        old_object: None,
    }
}

fn refused(request: &PodRequest<'_>) -> bool {
    review(&Settings::default(), request, Ok(&labels("baseline"))).refusal.is_some()
}

#[test]
fn a_pod_is_refused_in_the_words_of_the_api_server() {
    let object = pod("i");
    let review = review(&Settings::default(), &request(&object), Ok(&labels("baseline")));
    assert_eq!(
        review.refusal,
        Some(Refusal {
            code: 403,
            reason: "Forbidden",
            message: "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)".to_owned(),
        })
    );
    assert_eq!(review.warnings, [""; 0]);
    assert_eq!(review.audit[AUDIT_POLICY], "baseline:latest");
}

#[test]
fn what_makes_pods_is_warned_of_only() {
    let object = json!({ "spec": { "template": pod("i") } });
    let request = PodRequest { group: "apps", resource: "deployments", ..request(&object) };
    let review = review(&Settings::default(), &request, Ok(&labels("baseline")));
    assert_eq!(review.refusal, None);
    assert_eq!(
        review.warnings,
        ["would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"]
    );
}

#[test]
fn subresources_that_change_the_pod_are_judged() {
    let object = pod("i");
    for subresource in ["", "ephemeralcontainers", "resize", "something-new"] {
        assert!(refused(&PodRequest { subresource, ..request(&object) }), "{subresource}");
    }
    for subresource in UNJUDGED {
        assert!(!refused(&PodRequest { subresource, ..request(&object) }), "{subresource}");
    }
}

#[test]
fn updates_are_judged_where_containers_images_or_profiles_change() {
    let update = |object: &Value, old: &Value| {
        let request = request(object);
        refused(&PodRequest { operation: Operation::Update, old_object: Some(old), ..request })
    };
    let with = |field: &str, value: Value| {
        let mut object = pod("i");
        object["spec"][field] = value;
        object
    };
    assert!(!update(&pod("i"), &pod("i")));
    assert!(update(&pod("j"), &pod("i")));
    let deleted = |mut object: Value| {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        object
    };
    assert!(update(&deleted(pod("j")), &deleted(pod("i"))));
    let debugger = json!([{ "name": "d", "image": "x" }]);
    assert!(update(&with("ephemeralContainers", debugger.clone()), &pod("i")));
    assert!(!update(&pod("i"), &with("ephemeralContainers", debugger)));
    assert!(update(&with("initContainers", json!([{ "name": "s" }])), &pod("i")));
    let mut annotated = pod("i");
    annotated["metadata"]["annotations"] = json!({ "example.com/x": "y" });
    assert!(!update(&annotated, &pod("i")));
    annotated["metadata"]["annotations"] =
        json!({ "container.apparmor.security.beta.kubernetes.io/c": "unconfined" });
    assert!(update(&annotated, &pod("i")));
}

#[test]
fn exemptions_name_their_reason() {
    let mut object = pod("i");
    object["spec"]["runtimeClassName"] = json!("sandbox");
    let exempt = |settings: &Settings| {
        let review = review(settings, &request(&object), Ok(&labels("restricted")));
        assert_eq!(review.refusal.is_none(), review.audit.contains_key(AUDIT_EXEMPT));
        review.audit.get(AUDIT_EXEMPT).cloned()
    };
    let one = |name: &str| BTreeSet::from([name.to_owned()]);
    assert_eq!(exempt(&Settings::default()), None);
    let user = Settings { exempt_users: one("ada"), ..Settings::default() };
    assert_eq!(exempt(&user).as_deref(), Some("user"));
    let namespace = Settings { exempt_namespaces: one("shop"), ..Settings::default() };
    assert_eq!(exempt(&namespace).as_deref(), Some("namespace"));
    let class = Settings { exempt_runtime_classes: one("sandbox"), ..Settings::default() };
    assert_eq!(exempt(&class).as_deref(), Some("runtimeClass"));
}

#[test]
fn without_its_namespace_or_a_form_a_pod_is_refused() {
    let object = pod("i");
    let lost = review(&Settings::default(), &request(&object), Err("timed out"));
    assert_eq!(lost.refusal.unwrap().code, 500);
    for wrong in [
        json!([]),
        json!({ "spec": { "containers": {} } }),
        json!({ "spec": { "hostPID": "true" } }),
    ] {
        let review = review(&Settings::default(), &request(&wrong), Ok(&labels("baseline")));
        assert_eq!(review.refusal.unwrap().code, 400, "{wrong}");
    }
    // Labels that mean nothing enforce the strictest level.
    let review = review(&Settings::default(), &request(&object), Ok(&labels("")));
    assert!(review.refusal.unwrap().message.contains("\"restricted:latest\""));
    assert!(review.audit[AUDIT_ERROR].starts_with("Failed to parse policy: metadata.labels["));
}

#[test]
fn namespaces_need_labels_that_mean_something() {
    let namespace = |level: &str| json!({ "metadata": { "name": "shop", "labels": { "pod-security.kubernetes.io/enforce": level } } });
    let judge = |new: &str, old: Option<&str>| {
        let (object, old) = (namespace(new), old.map(namespace));
        let operation = if old.is_some() { Operation::Update } else { Operation::Create };
        let request = PodRequest {
            operation,
            resource: "namespaces",
            name: "shop",
            old_object: old.as_ref(),
            ..request(&object)
        };
        review_namespace(&Settings::default(), &request)
    };
    let refusal = judge("x", None).refusal.unwrap();
    assert_eq!(refusal.code, 422);
    assert_eq!(
        refusal.message,
        "Namespace \"shop\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted"
    );
    assert_eq!(judge("x", Some("x")).refusal, None);
    assert!(judge("x", Some("y")).refusal.is_some());
    assert_eq!(judge("restricted", None).recheck, None);
    let restricted = "restricted".parse().ok();
    assert_eq!(judge("restricted", Some("baseline")).recheck, restricted);
    assert_eq!(judge("baseline", Some("restricted")).recheck, None);
    assert_eq!(judge("privileged", Some("restricted")).recheck, None);
}

#[test]
fn pods_that_exist_are_warned_of_by_reason() {
    let bad = pod("i");
    let good = json!({ "spec": { "containers": [] } });
    let existing =
        |name, controller, value| ExistingPod { name, controller, pod: Pod::read(value).unwrap() };
    let pods = [
        existing("b", Some("1"), &bad),
        existing("a", Some("1"), &bad),
        existing("c", None, &good),
        existing("d", Some("2"), &bad),
    ];
    let baseline = "baseline".parse().unwrap();
    let told = |limit: usize| {
        let mut left = limit;
        let is_time_up = || {
            left -= 1;
            left == 0
        };
        warnings_for_existing(&Settings::default(), "shop", baseline, &pods, is_time_up)
    };
    assert_eq!(
        told(10),
        [
            "existing pods in namespace \"shop\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 2 other pods): host namespaces"
        ]
    );
    assert_eq!(
        told(3),
        [
            "new PodSecurity enforce level only checked against the first 3 of 4 existing pods",
            "existing pods in namespace \"shop\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "b (and 1 other pod): host namespaces"
        ]
    );
}
