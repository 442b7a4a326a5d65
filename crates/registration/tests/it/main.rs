//! What objects say, what of them is refused, and which identities pods have.

#![allow(clippy::unwrap_used, reason = "test")]

mod machine;
mod spire;

use std::collections::BTreeMap;

use nullius_registration::{
    Container, IDENTITIES_MAX, Identity, Owner, Pod, WorkloadIdentity, identities,
};
use serde_json::{Value, json};

fn object(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "WorkloadIdentity",
        "metadata": { "name": name, "namespace": "shop" }, "spec": spec,
    })
}

fn read(name: &str, spec: Value) -> WorkloadIdentity {
    WorkloadIdentity::read(&object(name, spec)).unwrap()
}

/// The faults of a specification, as texts.
fn faults(spec: Value) -> Vec<String> {
    let faults = WorkloadIdentity::read(&object("x", spec)).unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

fn pod() -> Pod {
    let container = |name: &str, digit: &str| Container {
        name: name.into(),
        id: digit.repeat(64).into(),
        image: Some(format!("sha256:{}", digit.repeat(64)).into()),
    };
    Pod {
        namespace: "shop".into(),
        name: "orders-0".into(),
        uid: "0a1b2c3d-0000-4111-8222-333344445555".into(),
        account: "orders".into(),
        labels: BTreeMap::from([("app".into(), "orders".into()), ("tier".into(), "gold".into())]),
        owner: Some(Owner { kind: "StatefulSet".into(), name: "orders".into() }),
        containers: vec![container("main", "a"), container("helper", "b")],
    }
}

fn of(objects: &[WorkloadIdentity]) -> Vec<Identity> {
    let (identities, unfit) = identities(&pod(), &"d.example".parse().unwrap(), objects);
    assert_eq!(unfit, []);
    identities
}

fn ids(objects: &[WorkloadIdentity]) -> Vec<String> {
    of(objects).iter().map(|identity| identity.spiffe_id.to_string()).collect()
}

const DEFAULT: &str = "spiffe://d.example/ns/shop/sa/orders";

#[test]
fn a_pod_has_its_default_identity_without_any_object() {
    assert_eq!(ids(&[]), [DEFAULT]);
    let identity = &of(&[])[0];
    assert_eq!((identity.x509_ttl.as_secs(), identity.jwt_ttl.as_secs()), (3_600, 300));
    assert!(identity.key.is_empty() && identity.container.is_none());
}

#[test]
fn an_object_without_path_says_more_of_the_default_identity() {
    let more = read(
        "more",
        json!({
            "selector": { "serviceAccounts": ["orders"] },
            "x509": { "ttl": "30m", "dnsNames": ["{serviceAccount}.{namespace}.svc", "{pod}.orders.{namespace}.svc"] },
            "jwt": { "ttl": "1m", "audiences": ["bank"] },
            "hint": "internal",
            "federatesWith": ["other.example"],
        }),
    );
    let all = of(std::slice::from_ref(&more));
    assert_eq!(all.len(), 1, "{all:#?}");
    let identity = &all[0];
    assert_eq!(identity.spiffe_id.as_str(), DEFAULT);
    assert_eq!((identity.x509_ttl.as_secs(), identity.jwt_ttl.as_secs()), (1_800, 60));
    assert_eq!(
        Vec::from_iter(&identity.dns_names),
        ["orders-0.orders.shop.svc", "orders.shop.svc"]
    );
    assert_eq!(Vec::from_iter(&identity.audiences), ["bank"]);
    assert_eq!(identity.hint.as_deref(), Some("internal"));
    assert_eq!(identity.federates_with.len(), 1);
}

#[test]
fn another_path_is_another_identity_and_the_default_one_comes_first() {
    let path =
        |name: &str, path: &str| read(name, json!({ "selector": { "any": true }, "path": path }));
    assert_eq!(
        ids(&[
            path("z", "/ns/{namespace}/sa/{serviceAccount}/z"),
            path("a", "/ns/shop/batch/{pod}")
        ]),
        [
            DEFAULT,
            "spiffe://d.example/ns/shop/batch/orders-0",
            "spiffe://d.example/ns/shop/sa/orders/z"
        ]
    );
}

#[test]
fn everything_that_a_selector_says_must_hold() {
    let matches = |selector: Value| {
        ids(&[read("x", json!({ "selector": selector, "path": "/ns/{namespace}/x" }))]).len() == 2
    };
    assert!(matches(json!({ "any": true })));
    assert!(matches(json!({ "serviceAccounts": ["a", "orders"] })));
    assert!(!matches(json!({ "serviceAccounts": ["a"] })));
    assert!(matches(json!({ "matchLabels": { "app": "orders", "tier": "gold" } })));
    assert!(!matches(json!({ "matchLabels": { "app": "orders", "tier": "lead" } })));
    assert!(!matches(json!({ "matchLabels": { "other": "orders" } })));
    assert!(matches(json!({ "owner": { "kind": "StatefulSet", "name": "orders" } })));
    assert!(!matches(json!({ "owner": { "kind": "StatefulSet", "name": "bank" } })));
    assert!(!matches(json!({ "serviceAccounts": ["orders"], "matchLabels": { "app": "bank" } })));
    let elsewhere = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "WorkloadIdentity",
        "metadata": { "name": "x", "namespace": "bank" },
        "spec": { "selector": { "any": true }, "path": "/ns/{namespace}/x" },
    });
    assert_eq!(
        ids(&[WorkloadIdentity::read(&elsewhere).unwrap()]),
        [DEFAULT],
        "another namespace's"
    );
}

#[test]
fn containers_and_processes_are_known_by_what_runs() {
    let with = |extra: Value| {
        let mut spec = json!({ "selector": { "any": true }, "path": "/ns/{namespace}/x" });
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        of(&[read("x", spec)])
    };
    let containers = |extra: Value| -> Vec<String> {
        with(extra).into_iter().filter_map(|it| it.container).map(|id| id[..1].to_owned()).collect()
    };
    assert_eq!(containers(json!({ "containers": { "names": ["main"] } })), ["a"]);
    assert_eq!(containers(json!({ "containers": { "names": ["main", "helper"] } })), ["a", "b"]);
    assert_eq!(
        containers(json!({ "containers": { "images": [format!("sha256:{}", "b".repeat(64))] } })),
        ["b"]
    );
    let neither = json!({ "containers": { "names": ["main"], "images": [format!("sha256:{}", "b".repeat(64))] } });
    assert_eq!(containers(neither), Vec::<String>::new());
    let named = of(&[read(
        "x",
        json!({ "selector": { "any": true }, "containers": { "names": ["main"] }, "path": "/ns/shop/{container}" }),
    )]);
    assert_eq!(named[1].spiffe_id.as_str(), "spiffe://d.example/ns/shop/main");
    let unix = with(json!({ "unix": { "uid": 1000, "gid": 0, "sha256": "c".repeat(64) } }));
    assert_eq!((unix[1].uid, unix[1].gid), (Some(1000), Some(0)));
    assert_eq!(unix[1].sha256.as_deref(), Some("c".repeat(64).as_str()));
    // For some processes alone, so that the others keep the default one.
    let some = of(&[read("x", json!({ "selector": { "any": true }, "unix": { "uid": 1000 } }))]);
    assert_eq!(some.len(), 2);
    assert_eq!((some[0].uid, some[1].uid), (None, Some(1000)));
}

#[test]
fn a_container_that_does_not_run_yet_has_nothing() {
    let mut pod = pod();
    pod.containers.clear();
    let object = read(
        "x",
        json!({ "selector": { "any": true }, "containers": { "names": ["main"] }, "path": "/ns/shop/x" }),
    );
    let (all, unfit) = identities(&pod, &"d.example".parse().unwrap(), [&object]);
    assert_eq!((all.len(), unfit.len()), (1, 0));
}

#[test]
fn what_a_pod_makes_of_a_template_is_checked_again() {
    let mut pod = pod();
    pod.name = "x".repeat(2_100).into();
    let object = read("x", json!({ "selector": { "any": true }, "path": "/ns/shop/{pod}" }));
    let (all, unfit) = identities(&pod, &"d.example".parse().unwrap(), [&object]);
    assert_eq!((all.len(), unfit.len()), (1, 1));
    assert_eq!(unfit[0].0, "x");
}

#[test]
fn a_pod_or_container_named_sa_gets_nobody_elses_identity() {
    let domain = "d.example".parse().unwrap();
    let object =
        read("x", json!({ "selector": { "any": true }, "path": "/ns/{namespace}/{pod}/admin" }));
    let named = Pod { name: "sa".into(), ..pod() };
    let (all, unfit) = identities(&named, &domain, [&object]);
    assert_eq!((all.len(), unfit.len()), (1, 1), "{all:#?}");
    assert!(unfit[0].1.contains("of another account than the pod's"), "{}", unfit[0].1);
    let own = Pod { name: "sa".into(), account: "admin".into(), ..pod() };
    assert_eq!(identities(&own, &domain, [&object]).0.len(), 1, "the default one, said again");
    assert_eq!(identities(&pod(), &domain, [&object]).0.len(), 2);
}

#[test]
fn a_pod_has_a_bounded_number_of_identities_and_its_default_one_among_them() {
    let object = |number: usize| {
        read(
            &format!("x{number:03}"),
            json!({ "selector": { "any": true }, "path": format!("/ns/shop/{number}") }),
        )
    };
    let objects: Vec<WorkloadIdentity> = (0..100).map(object).collect();
    let (all, unfit) = identities(&pod(), &"d.example".parse().unwrap(), &objects);
    assert_eq!((all.len(), unfit.len()), (IDENTITIES_MAX + 1, 100 - IDENTITIES_MAX));
    assert_eq!(all[0].spiffe_id.as_str(), DEFAULT);
    assert_eq!(unfit[0].0, "x064");
}

#[test]
fn no_object_gives_what_is_not_its_namespaces() {
    let path = |path: &str| faults(json!({ "selector": { "any": true }, "path": path })).join("\n");
    for foreign in [
        "/ns/bank/sa/ledger",
        "/x",
        "/ns/shop",
        "/ns/shopping/x",
        "/{namespace}/x",
        "/ns/{serviceAccount}/x",
    ] {
        assert!(
            path(foreign).contains("begins with `/ns/{namespace}/`"),
            "{foreign}: {}",
            path(foreign)
        );
    }
    for account in [
        "/ns/shop/sa/admin",
        "/ns/shop/sa/{pod}",
        "/ns/shop/sa/{serviceAccount}x",
        "/ns/shop/sa/admin/sa/{serviceAccount}",
        "/ns/shop/sa/account",
    ] {
        assert!(path(account).contains("`{serviceAccount}`"), "{account}: {}", path(account));
    }
    for odd in
        ["ns/shop/x", "/ns/shop/", "/ns/shop/../bank", "/ns/shop//x", "/ns/shop/a b", "/ns/shop/ä"]
    {
        assert!(path(odd).starts_with("spec.path: "), "{odd}: {}", path(odd));
    }
    let dns = faults(
        json!({ "selector": { "any": true }, "x509": { "dnsNames": ["kubernetes.default.svc", "{pod}.shop"] } }),
    );
    assert_eq!(dns.len(), 1);
    assert!(
        dns[0].starts_with("spec.x509.dnsNames[0]: a certificate of this namespace"),
        "{dns:?}"
    );
}

#[test]
fn every_wrong_field_is_told_at_once() {
    let told = faults(json!({
        "selector": { "owner": { "kind": "Deployment", "name": "x" }, "matchLabels": { "a": 1 }, "any": true },
        "containers": {},
        "unix": { "path": "/bin/x", "uid": -1 },
        "path": "/ns/shop/{container}/{what}",
        "x509": { "ttl": "1s" },
        "jwt": { "ttl": "2h", "audiences": ["a", "a"] },
        "federatesWith": ["Upper"],
        "signedImage": true,
        "pth": "/",
    }));
    let wanted = [
        "spec.selector.matchLabels: the value of `a` is the number 1: write text",
        "spec.selector.owner.kind: pods of a Deployment are a ReplicaSet's",
        "spec.selector.any: all pods of the namespace are meant",
        "spec.containers: it says nothing",
        "spec.unix.uid: expected a number of a user or group, found the number -1",
        "spec.unix.path: a path inside of a container proves nothing",
        "spec.path: `{what}` is no place",
        "spec.x509.ttl: `1s` is not between 120 s and 86400 s",
        "spec.jwt.ttl: `2h` is not between 30 s and 3600 s",
        "spec.jwt.audiences[1]: it stands twice",
        "spec.federatesWith[0]: a trust domain is written in lower case",
        "spec.pth: unknown field; did you mean `path`?",
        "spec.signedImage: it belongs to identities for signed images alone, which this version does not have",
    ];
    for (told, wanted) in told.iter().zip(wanted) {
        assert!(told.starts_with(wanted), "{told}\n{wanted}");
    }
    assert_eq!(told.len(), wanted.len(), "{told:#?}");
}

#[test]
fn an_object_without_selector_is_for_nobody() {
    assert!(faults(json!({}))[0].starts_with("spec.selector: it is missing"));
    assert!(faults(json!({ "selector": {} }))[0].starts_with("spec.selector: it says nothing"));
    assert!(
        faults(json!({ "selector": { "any": false } }))[0]
            .starts_with("spec.selector.any: write `true`")
    );
    assert!(faults(json!({ "selector": null }))[0].starts_with("spec.selector: it is missing"));
    assert!(
        faults(json!({ "selector": { "any": true }, "path": "/ns/shop/{container}" }))[0]
            .contains("only where `containers`")
    );
    let other = json!({ "apiVersion": "nullius.dev/v2", "kind": "WorkloadIdentity" });
    assert!(WorkloadIdentity::read(&other).is_err());
    assert!(WorkloadIdentity::read(&json!([])).is_err());
    let nameless = json!({ "apiVersion": "nullius.dev/v1alpha1", "kind": "WorkloadIdentity", "metadata": {}, "spec": { "selector": { "any": true } } });
    assert_eq!(WorkloadIdentity::read(&nameless).unwrap_err().len(), 2);
}
