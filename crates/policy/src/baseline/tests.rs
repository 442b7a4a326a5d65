#![allow(clippy::unwrap_used, reason = "test")]
use nullius_model::{API_VERSION, BASELINE_NAME, KEPT_LEVEL_LABEL};
use serde_json::json;

use super::*;
use crate::pod_security::ENFORCE_LABEL;

fn object(name: &str, made: &str, spec: &Json) -> Json {
    json!({
        "apiVersion": API_VERSION, "kind": KIND,
        "metadata": { "name": name, "creationTimestamp": made, "generation": 3 }, "spec": spec,
    })
}

fn baseline(name: &str, spec: Json) -> Baseline {
    Baseline::read(&object(name, "2026-06-01T00:00:00Z", &spec)).unwrap()
}

fn namespace(name: &str, labels: Json) -> Json {
    json!({ "metadata": { "name": name, "labels": labels } })
}

fn whole() -> Json {
    json!({
        "namespaceSelector": { "matchLabels": { "team": "shop" } },
        "labels": { "cost": "42" },
        "environment": "production",
        "podSecurity": { "enforce": "restricted", "warn": "restricted", "version": "v1.36" },
        "networkPolicy": { "deny": ["Egress", "Ingress"], "allowDns": true },
        "resourceQuota": { "hard": { "pods": 10, "requests.cpu": "0.5" } },
        "limitRange": { "limits": [{ "type": "Container", "max": { "memory": "1Gi" }, "min": { "cpu": "10m" } }] },
        "roleBindings": [{ "roleRef": { "name": "view" }, "groups": ["shop"], "users": ["ann"] }],
    })
}

#[test]
fn a_baseline_says_every_field_that_is_wrong() {
    let told = |spec: Json| -> Vec<String> {
        let faults = Baseline::read(&object("b", "2026-06-01T00:00:00Z", &spec)).unwrap_err();
        faults.iter().map(ToString::to_string).collect()
    };
    let shop = || json!({ "matchLabels": { "team": "shop" } });
    for (spec, words) in [
        (json!({ "environment": "dev" }), "spec: say for which namespaces"),
        (json!({ "namespaceSelector": shop() }), "spec: it says nothing"),
        (json!({ "names": ["*"], "environment": "dev" }), "write `namespaceSelector: {}`"),
        (json!({ "names": ["a"], "environment": "a b" }), "spec.environment: "),
        (json!({ "names": ["a"], "netwrokPolicy": {} }), "unknown field `netwrokPolicy`"),
        (json!({ "names": ["a"], "labels": { "nullius.dev/environment": "x" } }), "`environment`"),
        (
            json!({ "names": ["a"], "labels": { "pod-security.kubernetes.io/enforce": "baseline" } }),
            "`podSecurity`",
        ),
        (json!({ "names": ["a"], "podSecurity": {} }), "say `enforce`"),
        (
            json!({ "names": ["a"], "podSecurity": { "enforce": "strict" } }),
            "spec.podSecurity.enforce: must be one of",
        ),
        (
            json!({ "names": ["a"], "podSecurity": { "warn": "baseline", "version": "1.36" } }),
            "spec.podSecurity.version",
        ),
        (json!({ "names": ["a"], "networkPolicy": { "deny": [] } }), "spec.networkPolicy.deny"),
        (
            json!({ "names": ["a"], "networkPolicy": { "deny": ["Ingress"], "allowDns": true } }),
            "spec.networkPolicy.allowDns",
        ),
        (
            json!({ "names": ["a"], "resourceQuota": { "hard": { "pods": "many" } } }),
            "spec.resourceQuota.hard[pods]: `many`",
        ),
        (
            json!({ "names": ["a"], "resourceQuota": { "hard": { "pods": -1 } } }),
            "less than nothing",
        ),
        (
            json!({ "names": ["a"], "limitRange": { "limits": [{ "type": "Pod", "default": { "cpu": 1 } }] } }),
            "only containers",
        ),
        (
            json!({ "names": ["a"], "limitRange": { "limits": [{ "type": "Node", "max": { "cpu": 1 } }] } }),
            "must be one of Container",
        ),
        (
            json!({ "names": ["a"], "roleBindings": [{ "roleRef": { "name": "view" } }] }),
            "say who holds it",
        ),
        (
            json!({ "names": ["a"], "roleBindings": [{ "roleRef": { "name": "nullius:binder" }, "users": ["a"] }] }),
            "for the agent itself",
        ),
        (
            json!({ "namespaceSelector": { "matchLabel": {} }, "environment": "dev" }),
            "spec.namespaceSelector: unknown field `matchLabel`",
        ),
    ] {
        let all = told(spec.clone()).join("\n");
        assert!(all.contains(words), "{spec}: {all}");
    }
}

#[test]
fn a_baseline_is_for_what_it_chooses_and_never_for_what_must_come_up_again() {
    let all =
        baseline("b", json!({ "namespaceSelector": {}, "exclude": ["lab-*"], "environment": "x" }));
    assert!(all.chooses(&namespace("shop", json!({}))));
    assert!(!all.chooses(&namespace("lab-1", json!({}))));
    for never in BASELINE_NEVER {
        assert!(!all.chooses(&namespace(never, json!({}))), "{never}");
    }
    let both = baseline(
        "b",
        json!({ "namespaceSelector": { "matchLabels": { "t": "1" } }, "names": ["a-*"], "environment": "x" }),
    );
    assert!(both.chooses(&namespace("a-1", json!({ "t": "1" }))));
    assert!(!both.chooses(&namespace("a-1", json!({}))));
    assert!(!both.chooses(&namespace("b-1", json!({ "t": "1" }))));
    assert!(Plan::of([&both], &namespace("b-1", json!({}))).is_none());
}

#[test]
fn a_plan_is_whole_objects_and_labels() {
    let shop = namespace("shop", json!({ "team": "shop" }));
    let plan = Plan::of([&baseline("teams", whole())], &shop).unwrap();
    insta::assert_json_snapshot!(json!({
        "labels": plan.labels, "annotations": plan.annotations(),
        "objects": plan.objects.iter().map(|(_, object)| object).collect::<Vec<_>>(),
    }));
}

#[test]
fn baselines_add_up_and_of_one_that_says_otherwise_than_an_older_nothing_is_done() {
    let of = |name: &str, made: &str, mut spec: Json| {
        spec["names"] = json!(["shop"]);
        Baseline::read(&object(name, made, &spec)).unwrap()
    };
    let old = of(
        "z-old",
        "2026-01-01T00:00:00Z",
        json!({ "environment": "dev", "resourceQuota": { "hard": { "pods": 5 } } }),
    );
    let more = of(
        "more",
        "2026-02-01T00:00:00Z",
        json!({ "environment": "dev", "resourceQuota": { "hard": { "services": 2 } }, "labels": { "a": "b" } }),
    );
    let young = of(
        "a-young",
        "2026-03-01T00:00:00Z",
        json!({ "labels": { "c": "d" }, "resourceQuota": { "hard": { "pods": 6 } } }),
    );
    let shop = namespace("shop", json!({}));
    for order in [[&old, &more, &young], [&young, &more, &old]] {
        let plan = Plan::of(order, &shop).unwrap();
        assert_eq!(plan.baselines, ["more", "z-old"]);
        let hard = plan.objects[0].1.pointer("/spec/hard").unwrap();
        assert_eq!(*hard, json!({ "pods": "5", "services": "2" }));
        assert!(!plan.labels.contains_key("c"), "nothing of the younger");
        assert_eq!(
            plan.conflicts
                .iter()
                .map(|each| format!("{}: {each}", each.baseline))
                .collect::<Vec<_>>(),
            [
                "a-young: says otherwise of `resourceQuota.hard[pods]` than the older baseline `z-old`, so nothing of it is done here"
            ]
        );
    }
    let deny =
        |name: &str, made: &str, policy: Json| of(name, made, json!({ "networkPolicy": policy }));
    let strict = deny("s", "2026-01-01T00:00:00Z", json!({ "deny": ["Egress"] }));
    let loose = deny("l", "2026-02-01T00:00:00Z", json!({ "deny": ["Egress"], "allowDns": true }));
    let plan = Plan::of([&loose, &strict], &shop).unwrap();
    assert_eq!(plan.baselines, ["s"]);
    assert_eq!(plan.conflicts[0].about, "`networkPolicy.allowDns`");
}

/// A namespace as its plan wants it, with all its objects.
fn in_order(plan: &Plan) -> (Json, Vec<(BaselineKind, Json)>) {
    let mut labels = json!(plan.labels);
    labels["team"] = json!("shop");
    let namespace = json!({
        "metadata": { "name": "shop", "labels": labels, "annotations": plan.annotations() },
    });
    (namespace, plan.objects.clone())
}

fn steps(plan: Option<&Plan>, namespace: &Json, objects: &[(BaselineKind, Json)]) -> Vec<Step> {
    let objects: Vec<(BaselineKind, &Json)> =
        objects.iter().map(|(kind, object)| (*kind, object)).collect();
    Plan::steps(plan, Standing { namespace, objects: &objects })
}

fn missing(plan: &Plan, namespace: &Json, objects: &[(BaselineKind, Json)]) -> Vec<String> {
    plan.missing(namespace, |kind, name| {
        let mut all = objects.iter();
        let found =
            all.find(|(known, object)| *known == kind && object["metadata"]["name"] == name);
        found.map(|(_, object)| object)
    })
}

#[test]
fn what_stands_is_mended_exactly_and_pods_wait_for_what_bounds_them() {
    let bare = namespace("shop", json!({ "team": "shop" }));
    let plan = Plan::of([&baseline("teams", whole())], &bare).unwrap();
    assert_eq!(steps(Some(&plan), &bare, &[]).len(), 5, "four objects and the labels");
    let waited = missing(&plan, &bare, &[]).join(", ");
    assert!(waited.contains("NetworkPolicy/nullius-baseline") && !waited.contains("RoleBinding"));
    assert!(waited.contains("the label pod-security.kubernetes.io/enforce"));

    let (shop, mut objects) = in_order(&plan);
    assert_eq!(steps(Some(&plan), &shop, &objects), []);
    assert_eq!(missing(&plan, &shop, &objects), Vec::<String>::new());
    // As the API server writes the same amounts, and what controllers add.
    objects[1].1["spec"]["hard"]["requests.cpu"] = json!("500m");
    objects[1].1["status"] = json!({ "used": {} });
    assert_eq!(steps(Some(&plan), &shop, &objects), []);

    let changed = |pointer: (usize, &str), value: Json| {
        let mut objects = objects.clone();
        *objects[pointer.0].1.pointer_mut(pointer.1).unwrap() = value;
        (steps(Some(&plan), &shop, &objects), missing(&plan, &shop, &objects))
    };
    // What is added may allow what is denied.
    let mut spec = objects[0].1["spec"].clone();
    spec["ingress"] = json!([{}]);
    let (mended, waited) = changed((0, "/spec"), spec);
    assert!(matches!(&mended[..], [Step::Apply(BaselineKind::NetworkPolicy, _)]), "{mended:?}");
    assert_eq!(waited, ["NetworkPolicy/nullius-baseline"]);
    let (mended, waited) = changed((3, "/subjects"), json!([]));
    assert!(matches!(&mended[..], [Step::Apply(BaselineKind::RoleBinding, _)]), "{mended:?}");
    assert_eq!(waited, Vec::<String>::new());
    let (mended, _) = changed((1, "/spec/hard/pods"), json!("11"));
    assert_eq!(mended.len(), 1);

    let mut stripped = shop.clone();
    stripped["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = json!("privileged");
    assert_eq!(steps(Some(&plan), &stripped, &objects), [Step::Label]);
    assert_eq!(missing(&plan, &stripped, &objects).len(), 1);
}

#[test]
fn what_no_baseline_asks_for_any_more_goes_and_nothing_else() {
    let bare = namespace("shop", json!({ "team": "shop" }));
    let plan = Plan::of([&baseline("teams", whole())], &bare).unwrap();
    let (shop, mut objects) = in_order(&plan);
    let theirs = json!({ "metadata": { "name": "theirs" }, "spec": {} });
    objects.push((BaselineKind::ResourceQuota, theirs));
    let gone = steps(None, &shop, &objects);
    assert_eq!(gone.len(), 5);
    assert_eq!(gone[0], Step::Release);
    assert!(!gone.contains(&Step::Remove(BaselineKind::ResourceQuota, "theirs".to_owned())));

    let mut less = whole();
    less["resourceQuota"] = Json::Null;
    let less = Plan::of([&baseline("teams", less)], &bare).unwrap();
    assert_eq!(
        steps(Some(&less), &shop, &objects),
        [Step::Remove(BaselineKind::ResourceQuota, BASELINE_NAME.to_owned())]
    );
    assert_eq!(steps(None, &bare, &[]), []);
}

#[test]
fn a_namespace_says_which_baselines_it_comes_from() {
    let bare = namespace("shop", json!({}));
    assert_eq!(named_by(&bare).count(), 0);
    let plan =
        Plan::of([&baseline("teams", whole())], &namespace("shop", json!({ "team": "shop" })));
    let (shop, _) = in_order(&plan.unwrap());
    assert_eq!(named_by(&shop).collect::<Vec<_>>(), ["teams"]);
}

#[test]
fn a_level_that_was_lowered_for_exceptions_stands_as_the_baseline_says() {
    let enforcing = |level: &str| {
        let spec = json!({ "names": ["shop"], "podSecurity": { "enforce": level } });
        Plan::of([&baseline("b", spec)], &namespace("shop", json!({}))).unwrap()
    };
    let labelled = |level: &str, mark: Option<&str>| {
        let mut labels = json!({ ENFORCE_LABEL: level });
        if let Some(mark) = mark {
            labels[KEPT_LEVEL_LABEL] = mark.into();
        }
        let mut namespace = namespace("shop", labels);
        namespace["metadata"]["annotations"] = json!(enforcing("restricted").annotations());
        namespace
    };
    let lowered = labelled("baseline", Some("restricted"));
    let restricted = enforcing("restricted");
    assert!(missing(&restricted, &lowered, &[]).is_empty());
    assert!(steps(Some(&restricted), &lowered, &[]).is_empty());
    // Whoever writes the other labels leaves the level as it is.
    assert_eq!(restricted.labels_of(&lowered)[ENFORCE_LABEL], "baseline");
    assert_eq!(restricted.labels_of(&labelled("restricted", None))[ENFORCE_LABEL], "restricted");

    // An empty label, which once anybody could write, is no mark.
    for forged in [None, Some(""), Some("baseline")] {
        let plain = labelled("baseline", forged);
        assert_eq!(steps(Some(&restricted), &plain, &[]), [Step::Label]);
        assert_eq!(missing(&restricted, &plain, &[]).len(), 1);
        assert_eq!(restricted.labels_of(&plain)[ENFORCE_LABEL], "restricted");
    }
    let privileged = enforcing("privileged");
    assert_eq!(steps(Some(&privileged), &lowered, &[]), [Step::Label]);
    assert_eq!(privileged.labels_of(&lowered)[ENFORCE_LABEL], "privileged");
}
