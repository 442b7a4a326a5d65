#![allow(clippy::unwrap_used, reason = "test")]

use nullius_kube::identity::{PodParts, RunningContainer};
use nullius_registration::{JWT_TTL, X509_TTL};
use nullius_workload::Selector;
use serde_json::{Value, json};

use super::*;

const AUDIENCE: &str = "nullius-agent:dev";

fn uid(number: u32) -> Name {
    format!("0a1b2c3d-0000-4111-8222-{number:012}").into()
}

fn pod(namespace: &str, name: &str, number: u32, node: Option<&str>) -> PodNews {
    PodNews {
        namespace: namespace.into(),
        name: name.into(),
        uid: uid(number),
        node: node.map(Into::into),
        account: if namespace == NODE_NAMESPACE { NODE.into() } else { "front".into() },
        label: None,
        mesh: None,
        is_ended: false,
        is_on_host: false,
        parts: Arc::default(),
    }
}

fn namespace(name: &str, label: Option<&str>) -> NamespaceNews {
    NamespaceNews {
        name: name.into(),
        label: label.map(Into::into),
        mesh: None,
        exempt: Box::default(),
    }
}

fn node(name: &str, uid: &str) -> NodeNews {
    NodeNews { name: name.into(), uid: uid.into() }
}

fn registry() -> Registry {
    let mut registry = Registry::new("dev.example".parse().unwrap());
    let enabled = namespace("shop", Some("enabled"));
    registry.hear_namespaces(News::All(vec![enabled, namespace("plain", None)]));
    registry.hear_nodes(News::All(vec![node("a", "uid-a"), node("b", "uid-b")]));
    registry.hear_pods(News::All(Vec::new()));
    registry.hear_declared(News::All(Vec::new()));
    registry
}

fn ids(registry: &Registry, node: &str) -> Vec<String> {
    registry.of_node(node).map(|(_, it)| it.entry.spiffe_id.to_string()).collect()
}

fn touched<const N: usize>(nodes: [&str; N]) -> Touched {
    nodes.map(Into::into).into()
}

const FRONT: &str = "spiffe://dev.example/ns/shop/sa/front";

#[test]
fn a_pod_has_an_identity_from_when_it_is_scheduled_until_it_is_gone() {
    let mut registry = registry();
    assert!(registry.is_complete());
    assert_eq!(registry.hear_pods(News::Put(pod("shop", "web", 1, None))), touched([]));
    let scheduled = pod("shop", "web", 1, Some("a"));
    assert_eq!(registry.hear_pods(News::Put(scheduled.clone())), touched(["a"]));
    assert_eq!(ids(&registry, "a"), [FRONT]);
    assert!(ids(&registry, "b").is_empty());
    let found = registry.find("a", &uid(1)).unwrap();
    let selectors: Vec<String> = found.entry.selectors.iter().map(Selector::to_string).collect();
    assert_eq!(selectors, [format!("k8s:pod-uid:{}", uid(1))]);
    assert_eq!((found.entry.ttl, found.entry.jwt_ttl), (X509_TTL, JWT_TTL));
    assert!(registry.find("b", &uid(1)).is_none());
    // That its status changes is nothing to its node.
    assert_eq!(registry.hear_pods(News::Put(scheduled.clone())), touched([]));
    let ended = PodNews { is_ended: true, ..scheduled.clone() };
    assert_eq!(registry.hear_pods(News::Put(ended)), touched(["a"]));
    assert!(ids(&registry, "a").is_empty());
    assert_eq!(registry.hear_pods(News::Put(scheduled.clone())), touched(["a"]));
    // Another pod of the name has come before the end of the first is heard.
    let again = pod("shop", "web", 2, Some("b"));
    assert_eq!(registry.hear_pods(News::Put(again)), touched(["a", "b"]));
    assert_eq!(registry.hear_pods(News::Gone(scheduled)), touched([]));
    assert_eq!((ids(&registry, "a").len(), ids(&registry, "b").len()), (0, 1));
}

#[test]
fn the_label_of_the_pod_goes_before_that_of_its_namespace_and_odd_ones_are_no() {
    let mut registry = registry();
    let labelled = |namespace: &str, name: &str, number, label: &str| PodNews {
        label: Some(label.into()),
        ..pod(namespace, name, number, Some("a"))
    };
    for (pod, has) in [
        (pod("plain", "none", 1, Some("a")), false),
        (labelled("plain", "yes", 2, "enabled"), true),
        (labelled("shop", "no", 3, "disabled"), false),
        (labelled("shop", "odd", 4, "true"), false),
        (labelled("shop", "empty", 5, ""), false),
        (pod("unheard", "of", 6, Some("a")), false),
        (labelled("unheard", "yes", 12, "enabled"), false),
        (labelled("nullius-system", "agent", 7, "enabled"), false),
        (labelled("nullius-node", "node", 8, "enabled"), false),
        (PodNews { account: "".into(), ..pod("shop", "nobody", 9, Some("a")) }, false),
    ] {
        let (id, name) = (pod.uid.clone(), pod.name.clone());
        registry.hear_pods(News::Put(pod));
        assert_eq!(registry.find("a", &id).is_some(), has, "{name}");
    }
    assert_eq!(registry.odd.len(), 2, "each is told once");
    let before = registry.count();
    let odd = namespace("shop", Some("Enabled"));
    registry.hear_pods(News::Put(pod("shop", "web", 20, Some("b"))));
    assert_eq!(registry.hear_namespaces(News::Put(odd)), touched(["b"]));
    assert_eq!(registry.count(), before);
    let enabled = namespace("shop", Some("enabled"));
    assert_eq!(registry.hear_namespaces(News::Put(enabled.clone())), touched(["b"]));
    assert_eq!(registry.hear_namespaces(News::Put(enabled.clone())), touched([]));
    assert_eq!(registry.hear_namespaces(News::Gone(enabled)), touched(["b"]));
}

#[test]
fn who_is_in_the_mesh_has_an_identity_and_some_never_are() {
    let mut registry = registry();
    let meshed = |name: &str, label: &str| NamespaceNews {
        mesh: Some(label.into()),
        ..namespace(name, None)
    };
    registry.hear_namespaces(News::Put(meshed("mesh", "node")));
    registry.hear_namespaces(News::Put(meshed("kube-system", "node")));
    registry.hear_namespaces(News::Put(meshed("never", "disabled")));
    let labelled = |namespace: &str, number, label: Option<&str>| PodNews {
        mesh: label.map(Into::into),
        ..pod(namespace, &format!("p{number}"), number, Some("a"))
    };
    for (pod, has) in [
        (labelled("mesh", 1, None), true),
        // What the namespace says no pod lifts.
        (labelled("mesh", 2, Some("disabled")), true),
        (labelled("mesh", 3, Some("Node")), true),
        (labelled("plain", 4, Some("node")), true),
        (labelled("plain", 5, Some("sidecar")), true),
        (labelled("plain", 12, Some("ambient")), false),
        (labelled("never", 6, Some("node")), false),
        (labelled("kube-system", 7, Some("node")), false),
        (labelled("nullius-system", 8, Some("node")), false),
        (PodNews { is_on_host: true, ..labelled("mesh", 9, None) }, false),
        (PodNews { account: "".into(), ..labelled("mesh", 10, None) }, false),
        (PodNews { label: Some("disabled".into()), ..labelled("mesh", 11, None) }, true),
    ] {
        let (id, name) = (pod.uid.clone(), pod.name.clone());
        registry.hear_pods(News::Put(pod));
        assert_eq!(registry.find("a", &id).is_some(), has, "{name}");
    }
    assert_eq!(registry.hear_namespaces(News::Put(namespace("mesh", None))), touched(["a"]));
    assert!(registry.find("a", &uid(1)).is_none());
}

#[test]
fn after_a_watch_began_anew_only_what_changed_is_told() {
    let mut registry = registry();
    let (one, two) = (pod("shop", "one", 1, Some("a")), pod("shop", "two", 2, Some("b")));
    registry.hear_pods(News::All(vec![one.clone(), two.clone()]));
    assert_eq!(registry.hear_pods(News::All(vec![one.clone(), two.clone()])), touched([]));
    let three = pod("shop", "three", 3, Some("c"));
    assert_eq!(registry.hear_pods(News::All(vec![one, three])), touched(["b", "c"]));
    assert_eq!(registry.count(), 2);
    let shop = namespace("shop", Some("enabled"));
    assert_eq!(registry.hear_namespaces(News::All(vec![shop])), touched([]));
    assert_eq!(registry.hear_namespaces(News::All(Vec::new())), touched(["a", "c"]));
    assert_eq!(registry.count(), 0);
    let nodes = News::All(vec![node("a", "uid-a"), node("b", "uid-new")]);
    assert_eq!(registry.hear_nodes(nodes), touched(["b"]));
    assert_eq!(registry.hear_nodes(News::Gone(node("a", "uid-a"))), touched(["a"]));
}

#[test]
fn a_change_of_one_pod_costs_what_one_pod_costs() {
    let mut registry = registry();
    let all = (0..10_000).map(|number| {
        pod("shop", &format!("web-{number}"), number, Some(&format!("node-{}", number % 500)))
    });
    registry.hear_pods(News::All(all.collect()));
    assert_eq!(registry.count(), 10_000);
    let began = std::time::Instant::now();
    for round in 0..1_000 {
        let new = pod("shop", "new", 20_000 + round, Some("node-7"));
        assert_eq!(registry.hear_pods(News::Put(new)), touched(["node-7"]));
        assert_eq!(registry.of_node("node-7").count(), 21);
    }
    // A scan of all pods for each would take a hundred times as long.
    assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
}

fn token(pod: &PodNews) -> Reviewed {
    Reviewed {
        username: "system:serviceaccount:nullius-node:nullius-node".to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        pod_name: Some(pod.name.to_string()),
        pod_uid: Some(pod.uid.to_string()),
        node_name: None,
        node_uid: None,
    }
}

#[test]
fn a_token_is_a_nodes_by_its_pod_alone() {
    let mut registry = registry();
    let own = pod(NODE_NAMESPACE, "node-x", 1, Some("a"));
    registry.hear_pods(News::Put(own.clone()));
    registry.hear_pods(News::Put(pod("shop", "web", 2, Some("a"))));
    registry.hear_pods(News::Put(pod(NODE_NAMESPACE, "waiting", 3, None)));
    registry.hear_pods(News::Put(pod(NODE_NAMESPACE, "lost", 4, Some("gone"))));
    let good = token(&own);
    let proven = ProvenNode { name: "a".into(), uid: "uid-a".into() };
    assert_eq!(registry.judge(&good, AUDIENCE), Ok(proven.clone()));
    let said = Reviewed {
        node_name: Some("a".to_owned()),
        node_uid: Some("uid-a".to_owned()),
        ..good.clone()
    };
    assert_eq!(registry.judge(&said, AUDIENCE), Ok(proven));

    let with = |change: &dyn Fn(&mut Reviewed)| {
        let mut token = good.clone();
        change(&mut token);
        registry.judge(&token, AUDIENCE).unwrap_err()
    };
    assert_eq!(with(&|it| it.audiences = vec!["nullius-agent:prod".into()]), NotANode::Audience);
    assert_eq!(with(&|it| it.audiences.clear()), NotANode::Audience);
    let account = "system:serviceaccount:shop:nullius-node";
    assert_eq!(with(&|it| it.username = account.to_owned()), NotANode::Account);
    assert_eq!(with(&|it| it.pod_name = None), NotANode::NoPod);
    assert_eq!(with(&|it| it.pod_uid = None), NotANode::NoPod);
    assert_eq!(with(&|it| it.pod_uid = Some(uid(9).into())), NotANode::PodGone);
    assert_eq!(with(&|it| it.pod_name = Some("web".to_owned())), NotANode::PodGone);
    let of = |name: &'static str, number| {
        move |it: &mut Reviewed| {
            (it.pod_name, it.pod_uid) = (Some(name.to_owned()), Some(uid(number).into()));
        }
    };
    assert_eq!(with(&of("web", 2)), NotANode::PodGone, "a pod of another namespace");
    assert_eq!(with(&of("waiting", 3)), NotANode::NotScheduled);
    assert_eq!(with(&of("lost", 4)), NotANode::UnknownNode);
    assert_eq!(with(&|it| it.node_name = Some("b".to_owned())), NotANode::OtherNode);
    // The node was made anew under its name.
    assert_eq!(with(&|it| it.node_uid = Some("uid-b".to_owned())), NotANode::OtherNode);

    let ended = PodNews { is_ended: true, ..own.clone() };
    assert_eq!(registry.hear_pods(News::Put(ended)), touched(["a"]), "its streams are told");
    assert_eq!(registry.judge(&good, AUDIENCE), Err(NotANode::PodGone));
    registry.hear_pods(News::Gone(own));
    assert_eq!(registry.judge(&good, AUDIENCE), Err(NotANode::PodGone));
}

fn declared(name: &str, uid: &str, spec: Value) -> ObjectNews {
    let object = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "WorkloadIdentity",
        "metadata": { "name": name, "namespace": "shop", "uid": uid }, "spec": spec,
    });
    ObjectNews {
        namespace: "shop".into(),
        name: name.into(),
        uid: uid.into(),
        generation: 1,
        json: object.to_string().into_bytes().into(),
        status: Arc::default(),
    }
}

/// A pod with a container that runs.
fn running(number: u32, label: &str) -> PodNews {
    let parts = PodParts {
        labels: [("app".to_owned(), label.to_owned())].into(),
        containers: vec![RunningContainer {
            name: "main".into(),
            id: "a".repeat(64).into(),
            image: None,
        }],
        ..PodParts::default()
    };
    PodNews { parts: Arc::new(parts), ..pod("shop", &format!("p{number}"), number, Some("a")) }
}

#[test]
fn what_is_declared_adds_identities_and_takes_them_away() {
    let mut registry = registry();
    registry.hear_pods(News::Put(running(1, "web")));
    registry.hear_pods(News::Put(running(2, "batch")));
    registry.hear_pods(News::Put(pod("plain", "web", 3, Some("b"))));
    let spec = json!({ "selector": { "matchLabels": { "app": "web" } }, "path": "/ns/{namespace}/web/{pod}" });
    let web = declared("web", "u-1", spec);
    assert_eq!(registry.hear_declared(News::Put(web.clone())), touched(["a"]));
    let extra = "spiffe://dev.example/ns/shop/web/p1";
    assert_eq!(ids(&registry, "a"), [FRONT, extra, FRONT]);
    let id = format!("{}/1/web", uid(1));
    assert_eq!(registry.find("a", &id).unwrap().entry.spiffe_id.as_str(), extra);
    assert_eq!(registry.declared(), [(web.clone(), Ok(1))]);
    // What says the same is no change; another of the name that is gone neither.
    let status = ObjectNews { status: Arc::new(json!({ "pods": 1 })), ..web.clone() };
    assert_eq!(registry.hear_declared(News::Put(status)), touched([]));
    let other = ObjectNews { uid: "u-0".into(), ..web.clone() };
    assert_eq!(registry.hear_declared(News::Gone(other)), touched([]));
    // The pod that is gone takes all of its identities with it.
    assert_eq!(registry.hear_pods(News::Gone(running(1, "web"))), touched(["a"]));
    assert_eq!(ids(&registry, "a"), [FRONT]);
    registry.hear_pods(News::Put(running(1, "web")));
    assert_eq!(registry.hear_declared(News::All(Vec::new())), touched(["a"]));
    assert_eq!(ids(&registry, "a"), [FRONT, FRONT]);
}

#[test]
fn more_about_the_default_identity_changes_its_entry_and_a_container_is_told_by_its_id() {
    let mut registry = registry();
    registry.hear_pods(News::Put(running(1, "web")));
    let spec = json!({ "selector": { "any": true }, "x509": { "dnsNames": ["front.shop.svc"] } });
    registry.hear_declared(News::Put(declared("names", "u-1", spec)));
    let entries: Vec<_> = registry.of_node("a").collect();
    assert_eq!(entries.len(), 1);
    assert_eq!(&**entries[0].0, format!("{}/0/names", uid(1)));
    assert_eq!(entries[0].1.entry.dns_names.len(), 1);
    let spec = json!({ "selector": { "any": true }, "containers": { "names": ["main"] }, "unix": { "uid": 7 }, "path": "/ns/shop/x" });
    registry.hear_declared(News::Put(declared("part", "u-2", spec)));
    let of_part = registry.of_node("a").nth(1).unwrap().1;
    let selectors: Vec<String> = of_part.entry.selectors.iter().map(Selector::to_string).collect();
    assert_eq!(
        selectors,
        [
            "unix:uid:7".to_owned(),
            format!("k8s:pod-uid:{}", uid(1)),
            format!("k8s:container-id:{}", "a".repeat(64))
        ]
    );
    assert_eq!(
        registry.declared().iter().map(|(_, it)| it.clone()).collect::<Vec<_>>(),
        [Ok(1), Ok(1)]
    );
}

#[test]
fn what_cannot_be_read_gives_nothing_and_says_why() {
    let mut registry = registry();
    registry.hear_pods(News::Put(running(1, "web")));
    let spec = json!({ "selector": { "any": true }, "path": "/ns/bank/sa/ledger" });
    let foreign = declared("foreign", "u-1", spec);
    registry.hear_declared(News::Put(foreign.clone()));
    assert_eq!(ids(&registry, "a"), [FRONT]);
    let declared = registry.declared();
    let why = declared[0].1.as_ref().unwrap_err();
    assert!(why.starts_with("spec.path: an ID of this namespace begins"), "{why}");
}

#[test]
fn pods_of_one_namespace_take_no_identity_of_a_node_from_others() {
    let mut registry = registry();
    registry.hear_namespaces(News::Put(namespace("evil", Some("enabled"))));
    let many = (0..10_000).map(|number| pod("evil", &format!("p-{number}"), number, Some("a")));
    registry.hear_pods(News::All(many.chain([pod("shop", "web", 20_000, Some("a"))]).collect()));
    assert_eq!(registry.of_node("a").count(), 10_001);
    let told: Vec<_> = registry.told("a").into_iter().map(|(_, it)| it.namespace.clone()).collect();
    assert_eq!(told.len(), OF_NAMESPACE + 1);
    assert!(told.iter().any(|namespace| &**namespace == "shop"));
}

#[test]
fn a_namespace_that_says_no_is_not_overruled_by_its_pods() {
    let mut registry = registry();
    let mut own = pod("shop", "web", 1, Some("a"));
    own.label = Some("enabled".into());
    registry.hear_pods(News::All(vec![own]));
    registry.hear_namespaces(News::Put(namespace("shop", None)));
    assert_eq!(registry.count(), 1);
    registry.hear_namespaces(News::Put(namespace("shop", Some("disabled"))));
    assert_eq!(registry.count(), 0);
    registry.hear_namespaces(News::Put(namespace("shop", None)));
    assert_eq!(registry.count(), 1);
}

#[test]
fn of_a_namespace_the_first_objects_by_their_names_count() {
    let mut registry = registry();
    registry.hear_pods(News::Put(running(1, "web")));
    let object = |number: u32| {
        let spec = json!({ "selector": { "matchLabels": { "app": format!("{number}") } }, "path": "/ns/shop/x" });
        declared(&format!("x{number:04}"), &format!("u-{number}"), spec)
    };
    for number in 0..257 {
        registry.hear_declared(News::Put(object(number)));
    }
    let standing = registry.declared();
    assert_eq!(standing.iter().filter(|(_, it)| it.is_ok()).count(), 256);
    assert!(standing[256].1.as_ref().unwrap_err().contains("the first 256 objects"));
    registry.hear_declared(News::Gone(object(0)));
    assert!(registry.declared().iter().all(|(_, it)| it.is_ok()));
}
