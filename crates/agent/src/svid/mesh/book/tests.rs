#![allow(clippy::unwrap_used, reason = "test")]
use nullius_kube::{
    IDENTITY, NODE_NAMESPACE,
    identity::{PodParts, ServicePortNews, SliceEndpoint, SlicePort},
};
use nullius_mesh::news::{Mode, PortProtocol};
use nullius_model::SpiffeId;
use serde_json::json;

use super::{
    intentions::{BYTES_OF_NAMESPACE, COMPILED_OF_NAMESPACE, FOR_DENIES, INTENTIONS_OF_NAMESPACE},
    services::{SERVICES_OF_NAMESPACE, SERVICES_OF_OTHERS},
    *,
};

mod model;

fn pod(namespace: &str, name: &str, node: Option<&str>, address: &str) -> PodNews {
    PodNews {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("uid-{namespace}-{name}").into(),
        node: node.map(Into::into),
        account: "front".into(),
        label: None,
        mesh: None,
        is_ended: false,
        is_on_host: false,
        parts: Arc::new(PodParts {
            addresses: address.parse().into_iter().collect(),
            labels: [("app".to_owned(), name.to_owned())].into(),
            ports: [8080].into(),
            probe_ports: [9000].into(),
            ..PodParts::default()
        }),
    }
}

fn uid(namespace: &str, name: &str) -> Key {
    Key::Workload(format!("uid-{namespace}-{name}").as_str().into())
}

fn namespace(name: &str, mesh: Option<&str>) -> NamespaceNews {
    NamespaceNews {
        name: name.into(),
        label: None,
        mesh: mesh.map(Into::into),
        exempt: Box::default(),
    }
}

fn service(namespace: &str, name: &str, app_protocol: Option<&str>) -> ServiceNews {
    ServiceNews {
        namespace: namespace.into(),
        name: name.into(),
        addresses: vec!["10.96.0.7".parse().unwrap()],
        ports: vec![ServicePortNews {
            port: 80,
            name: "web".into(),
            app_protocol: app_protocol.map(Into::into),
        }],
        import: Default::default(),
    }
}

fn slice(namespace: &str, of: &str, endpoints: &[(&str, bool)]) -> SliceNews {
    SliceNews {
        namespace: namespace.into(),
        name: format!("{of}-x").into(),
        service: of.into(),
        ports: vec![SlicePort { name: "web".into(), port: 8080 }],
        endpoints: endpoints
            .iter()
            .map(|(address, is_ready)| SliceEndpoint {
                address: address.parse().unwrap(),
                is_ready: *is_ready,
                is_pod: false,
            })
            .collect(),
    }
}

fn intention(namespace: &str, name: &str, generation: i64) -> ObjectNews {
    ObjectNews {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("i-{namespace}-{name}").into(),
        generation,
        json: format!("{{\"generation\":{generation}}}").into_bytes().into(),
        status: Arc::default(),
    }
}

fn key_of(intention: &ObjectNews) -> Key {
    Key::Intention((*intention.uid).into())
}

fn key_of_service(namespace: &str, name: &str) -> Key {
    Key::Service(service_name(namespace, name).unwrap())
}

fn book() -> Book {
    let mut book = Book::new("dev.example".parse().unwrap());
    let all = vec![namespace("shop", Some("node")), namespace("plain", None)];
    book.hear_namespaces(Heard::All(all));
    book.hear_services(Heard::All(Vec::new()));
    book.hear_slices(Heard::All(Vec::new()));
    book.hear_intentions(Heard::All(Vec::new()));
    assert!(!book.is_complete());
    book.hear_pods(Heard::All(Vec::new()));
    assert!(book.is_complete());
    book
}

fn told(book: &Book, node: &str, key: &Key) -> News {
    let mut news = News::default();
    book.tell(node, key, &mut news);
    news
}

fn all<const N: usize>(keys: [Key; N]) -> BTreeSet<Key> {
    keys.into()
}

/// What is told first is what would be told of each thing, and nothing that was touched is missing there.
fn check(book: &Book, node: &str) {
    for key in book.keys_for(node) {
        let News { gone_workloads, gone_services, gone_intentions, .. } = told(book, node, &key);
        assert!(gone_workloads.is_empty() && gone_services.is_empty(), "{key:?}");
        assert!(gone_intentions.is_empty(), "{key:?}");
    }
}

#[test]
fn a_node_hears_all_of_its_own_pods_and_of_others_those_in_the_mesh() {
    let mut book = book();
    let touched = book.hear_pods(Heard::Put(pod("shop", "web", Some("a"), "")));
    assert_eq!(touched.all, all([uid("shop", "web")]));
    let own = told(&book, "a", &uid("shop", "web")).put_workloads.remove(0);
    assert_eq!(own.mode, Mode::Node);
    assert!(own.addresses.is_empty());
    let id = "spiffe://dev.example/ns/shop/sa/front";
    assert_eq!(own.spiffe_id.as_ref().map(SpiffeId::as_str), Some(id));
    let local = own.local.unwrap();
    assert_eq!(local.labels.known()["app"], "web");
    assert_eq!(local.ports, [(8080, PortProtocol::Auto)].into());
    assert_eq!(local.probe_ports, [9000]);
    let other = told(&book, "b", &uid("shop", "web")).put_workloads.remove(0);
    assert_eq!(other.local, None, "labels of a pod of another node are not told");
    assert_eq!((other.mode, &*other.node), (Mode::Node, "a"));

    let touched = book.hear_pods(Heard::Put(pod("plain", "db", Some("b"), "10.0.0.9")));
    assert!(touched.all.is_empty());
    assert_eq!(touched.nodes, BTreeMap::from([("b".into(), all([uid("plain", "db")]))]));
    assert_eq!(told(&book, "a", &uid("plain", "db")).gone_workloads.len(), 1);
    let own = told(&book, "b", &uid("plain", "db")).put_workloads.remove(0);
    assert_eq!((own.mode, own.spiffe_id), (Mode::None, None));
    assert_eq!(book.keys_for("a"), [uid("shop", "web")]);
    assert_eq!(book.keys_for("b").len(), 2);

    // One that is not scheduled is nobody's yet, and its labels are no news to others.
    assert!(book.hear_pods(Heard::Put(pod("shop", "new", None, ""))).all.is_empty());
    let mut labelled = pod("shop", "web", Some("a"), "");
    Arc::make_mut(&mut labelled.parts).labels.insert("tier".to_owned(), "1".to_owned());
    let touched = book.hear_pods(Heard::Put(labelled.clone()));
    assert!(touched.all.is_empty());
    assert_eq!(touched.nodes, BTreeMap::from([("a".into(), all([uid("shop", "web")]))]));
    assert_eq!(book.hear_pods(Heard::Put(labelled.clone())), Touched::default());

    let ended = PodNews { is_ended: true, ..labelled.clone() };
    assert_eq!(book.hear_pods(Heard::Put(ended)).all, all([uid("shop", "web")]));
    assert!(told(&book, "a", &uid("shop", "web")).put_workloads.is_empty());
    book.hear_pods(Heard::Gone(labelled));
    assert!(book.keys_for("a").is_empty());
    for node in ["a", "b"] {
        check(&book, node);
    }
}

#[test]
fn who_may_not_be_in_the_mesh_is_not_by_any_label() {
    let mut book = book();
    for name in ["kube-system", NODE_NAMESPACE, SYSTEM_NAMESPACE] {
        book.hear_namespaces(Heard::Put(namespace(name, Some("node"))));
        let mut pod = pod(name, "x", Some("a"), "10.0.0.1");
        pod.mesh = Some("node".into());
        assert!(book.hear_pods(Heard::Put(pod)).all.is_empty());
        let own = told(&book, "a", &uid(name, "x")).put_workloads.remove(0);
        assert_eq!((own.mode, own.spiffe_id), (Mode::None, None), "{name}");
    }
    let host = PodNews { is_on_host: true, ..pod("shop", "host", Some("a"), "192.0.2.1") };
    book.hear_pods(Heard::Put(host));
    let own = told(&book, "a", &uid("shop", "host")).put_workloads.remove(0);
    assert_eq!(own.mode, Mode::None);
    assert!(own.addresses.is_empty(), "the address is its node's");
    let lifted = PodNews { mesh: Some("node".into()), ..pod("off", "x", Some("a"), "10.0.0.2") };
    book.hear_namespaces(Heard::Put(namespace("off", Some("disabled"))));
    assert!(book.hear_pods(Heard::Put(lifted)).all.is_empty());
}

#[test]
fn services_lead_to_who_has_the_address_and_are_told_where_that_is_the_mesh() {
    let mut book = book();
    let in_mesh = |name: &str, node: &str, address: &str| PodNews {
        mesh: Some("node".into()),
        ..pod("plain", name, Some(node), address)
    };
    book.hear_services(Heard::Put(service("plain", "web", Some("http"))));
    let ends = [("10.0.0.1", true), ("10.0.0.2", false), ("192.0.2.9", true)];
    let ends = slice("plain", "web", &ends);
    assert!(book.hear_slices(Heard::Put(ends)).all.is_empty(), "nobody in the mesh is there");
    let web = key_of_service("plain", "web");
    let touched = book.hear_pods(Heard::Put(in_mesh("web", "a", "10.0.0.1")));
    assert_eq!(touched.all, all([uid("plain", "web"), web.clone()]));
    let told_service = told(&book, "b", &web).put_services.remove(0);
    assert_eq!(told_service.addresses, ["10.96.0.7".parse::<IpAddr>().unwrap()]);
    let port = &told_service.ports[&80];
    assert_eq!(port.protocol, PortProtocol::Http);
    let ends: Vec<_> =
        port.endpoints.iter().map(|it| (it.address.to_string(), it.workload.clone())).collect();
    let found = Some(Uid::from("uid-plain-web"));
    assert_eq!(ends, [("10.0.0.1".to_owned(), found), ("192.0.2.9".to_owned(), None)]);
    // What the Service says is spoken is told of the pod, to its node.
    let own = told(&book, "a", &uid("plain", "web")).put_workloads.remove(0);
    assert_eq!(own.local.unwrap().ports, [(8080, PortProtocol::Http)].into());
    let touched = book.hear_services(Heard::Put(service("plain", "web", Some("tcp"))));
    assert_eq!(touched.all, all([web.clone()]));
    assert_eq!(touched.nodes, BTreeMap::from([("a".into(), all([uid("plain", "web")]))]));

    // Who says to have the address as well changes nothing.
    book.hear_namespaces(Heard::Put(namespace("other", None)));
    let thief = pod("other", "thief", Some("c"), "10.0.0.1");
    assert_eq!(book.hear_pods(Heard::Put(thief.clone())).all, all([]));
    assert_eq!(book.hear_pods(Heard::Gone(thief)).all, all([]));
    let gone = Heard::Gone(service("plain", "web", None));
    assert_eq!(book.hear_services(gone).all, all([web.clone()]));
    assert_eq!(told(&book, "b", &web).gone_services.len(), 1);
    check(&book, "a");
}

#[test]
fn of_those_that_say_to_have_an_address_one_is_believed() {
    let made = |name: &str, namespace: &str, created: i64, is_leaving: bool| {
        let mut pod = pod(namespace, name, Some("a"), "10.0.0.1");
        let parts = Arc::make_mut(&mut pod.parts);
        (parts.created, parts.is_leaving) = (created, is_leaving);
        pod
    };
    let has = |book: &Book, name: &str| {
        let put = told(book, "a", &uid("shop", name)).put_workloads;
        !put[0].addresses.is_empty()
    };
    let mut book = book();
    let put = |book: &mut Book, pod| book.hear_pods(Heard::Put(pod));
    put(&mut book, made("ledger", "shop", 10, false));
    // Neither a later one of the mesh nor any one outside of it takes the address away, in whatever order they are heard.
    let touched = put(&mut book, made("thief", "shop", 20, false));
    assert_eq!(touched.all, all([uid("shop", "thief")]));
    put(&mut book, made("outside", "plain", 1, false));
    assert!(has(&book, "ledger") && !has(&book, "thief"));
    // It is being deleted, and the address is given to the next.
    let touched = put(&mut book, made("ledger", "shop", 10, true));
    assert_eq!(touched.all, all([uid("shop", "ledger"), uid("shop", "thief")]));
    assert!(!has(&book, "ledger") && has(&book, "thief"));
    put(&mut book, made("ledger", "shop", 10, false));
    book.hear_pods(Heard::Gone(made("ledger", "shop", 10, false)));
    assert!(has(&book, "thief"));
    // No pod has the address of a Service.
    let taken = ServiceNews {
        addresses: vec!["10.0.0.1".parse().unwrap()],
        ..service("plain", "web", None)
    };
    assert!(book.hear_services(Heard::Put(taken.clone())).all.contains(&uid("shop", "thief")));
    assert!(!has(&book, "thief"));
    book.hear_services(Heard::Gone(taken));
    assert!(has(&book, "thief"));
    check(&book, "a");
}

#[test]
fn a_namespace_says_which_accounts_are_left_out_and_no_pod_does() {
    let mut book = book();
    let mode = |book: &Book| told(book, "a", &uid("shop", "web")).put_workloads[0].mode;
    let web =
        PodNews { mesh: Some("disabled".into()), ..pod("shop", "web", Some("a"), "10.0.0.1") };
    book.hear_pods(Heard::Put(web));
    assert_eq!(mode(&book), Mode::Node, "it says so itself");
    let exempt = |accounts: &[&str]| NamespaceNews {
        exempt: accounts.iter().copied().map(Into::into).collect(),
        ..namespace("shop", Some("node"))
    };
    let touched = book.hear_namespaces(Heard::Put(exempt(&["front", "back"])));
    assert!(touched.all.contains(&uid("shop", "web")));
    assert_eq!(mode(&book), Mode::None);
    book.hear_namespaces(Heard::Put(exempt(&["back"])));
    assert_eq!(mode(&book), Mode::Node);
    check(&book, "a");
}

#[test]
fn a_pod_chooses_a_proxy_beside_it_only_where_its_namespace_does_not_say_node() {
    let mut book = book();
    let mode = |book: &Book| told(book, "a", &uid("shop", "web")).put_workloads[0].mode;
    let says = |mesh: Option<&str>| PodNews {
        mesh: mesh.map(Into::into),
        ..pod("shop", "web", Some("a"), "10.0.0.1")
    };
    for (of_namespace, of_pod, expected) in [
        (Some("node"), Some("sidecar"), Mode::Node),
        (Some("node"), None, Mode::Node),
        (Some("sidecar"), Some("sidecar"), Mode::Sidecar),
        // Nobody has put a proxy there: it is led all the same.
        (Some("sidecar"), None, Mode::Node),
        (Some("sidecar"), Some("disabled"), Mode::Node),
        (Some("disabled"), Some("sidecar"), Mode::None),
        (None, Some("sidecar"), Mode::Sidecar),
        (None, Some("node"), Mode::Node),
        (None, None, Mode::None),
    ] {
        book.hear_namespaces(Heard::Put(namespace("shop", of_namespace)));
        book.hear_pods(Heard::Put(says(of_pod)));
        assert_eq!(mode(&book), expected, "{of_namespace:?} {of_pod:?}");
        check(&book, "a");
    }
}

#[test]
fn a_service_leads_to_no_pod_that_is_not_known() {
    let mut book = book();
    book.hear_services(Heard::Put(service("shop", "web", None)));
    let mut ends =
        slice("shop", "web", &[("10.0.0.1", true), ("10.0.0.2", true), ("192.0.2.9", true)]);
    for end in &mut ends.endpoints[..2] {
        end.is_pod = true;
    }
    book.hear_slices(Heard::Put(ends));
    let web = key_of_service("shop", "web");
    let ends = |book: &Book| -> Vec<String> {
        let told = told(book, "b", &web).put_services.remove(0);
        told.ports[&80].endpoints.iter().map(|it| it.address.to_string()).collect()
    };
    assert_eq!(ends(&book), ["192.0.2.9"], "a place outside of the cluster");
    book.hear_pods(Heard::Put(pod("shop", "web", Some("a"), "10.0.0.1")));
    assert_eq!(ends(&book), ["10.0.0.1", "192.0.2.9"]);
    // One that has the network of its node is known to be outside of the mesh.
    let host = PodNews { is_on_host: true, ..pod("shop", "host", Some("a"), "10.0.0.2") };
    book.hear_pods(Heard::Put(host.clone()));
    assert_eq!(ends(&book), ["10.0.0.1", "10.0.0.2", "192.0.2.9"]);
    book.hear_pods(Heard::Gone(host));
    assert_eq!(ends(&book), ["10.0.0.1", "192.0.2.9"]);
}

#[test]
fn a_service_that_was_told_stays_so_while_it_stands() {
    let mut book = book();
    let in_mesh =
        PodNews { mesh: Some("node".into()), ..pod("plain", "web", Some("a"), "10.0.0.1") };
    book.hear_services(Heard::Put(service("plain", "web", None)));
    book.hear_slices(Heard::Put(slice("plain", "web", &[("10.0.0.1", true)])));
    book.hear_pods(Heard::Put(in_mesh.clone()));
    let web = key_of_service("plain", "web");
    book.hear_slices(Heard::Put(slice("plain", "web", &[])));
    book.hear_pods(Heard::Gone(in_mesh));
    assert!(told(&book, "b", &web).put_services[0].ports[&80].endpoints.is_empty());
    book.hear_services(Heard::Gone(service("plain", "web", None)));
    assert_eq!(told(&book, "b", &web).gone_services.len(), 1);
}

#[test]
fn a_namespace_with_too_much_of_something_takes_nothing_from_others() {
    let mut book = book();
    book.hear_pods(Heard::Put(pod("shop", "web", Some("a"), "10.0.0.1")));
    let many = (0..SERVICES_OF_NAMESPACE + 2).map(|at| service("shop", &format!("s{at:05}"), None));
    book.hear_services(Heard::All(many.collect()));
    assert_eq!(book.keys_for("a").len(), 1 + SERVICES_OF_NAMESPACE);
    book.hear_namespaces(Heard::Put(namespace("other", Some("node"))));
    let touched = book.hear_services(Heard::Put(service("other", "web", None)));
    assert_eq!(touched.all, all([key_of_service("other", "web")]));
    // Where one goes there is room for the next.
    let touched = book.hear_services(Heard::Gone(service("shop", "s00000", None)));
    let next = key_of_service("shop", &format!("s{SERVICES_OF_NAMESPACE:05}"));
    assert_eq!(touched.all, all([key_of_service("shop", "s00000"), next]));
    book.hear_services(Heard::All(Vec::new()));
    assert!(book.told_services.is_empty() && book.waiting_services.is_empty());

    let count = |book: &Book| book.intentions().filter(|(_, it)| it.told.is_some()).count();
    let put = |book: &mut Book, of: &str, at: usize, long: usize| {
        let json = vec![b' '; long].into();
        book.hear_intentions(Heard::Put(ObjectNews { json, ..intention(of, &format!("i{at}"), 1) }))
    };
    for at in 0..INTENTIONS_OF_NAMESPACE + 5 {
        put(&mut book, "shop", at, 100);
    }
    assert_eq!(count(&book), INTENTIONS_OF_NAMESPACE);
    let (_, over) = book.intentions().find(|(_, it)| it.told.is_none()).unwrap();
    assert!(over.news.is_left_out(), "it is not held either");
    assert!(!put(&mut book, SYSTEM_NAMESPACE, 0, 100).all.is_empty());
    book.hear_intentions(Heard::All(Vec::new()));
    assert_eq!((count(&book), book.told_intentions.len()), (0, 0));
    // By their length.
    for at in 0..20 {
        put(&mut book, "shop", at, BYTES_OF_NAMESPACE / 4);
    }
    assert_eq!(count(&book), 4);
    // One that was told and is too long now is told no more, and its room is free.
    assert!(!put(&mut book, "shop", 0, BYTES_OF_NAMESPACE / 2).nodes.is_empty());
    assert_eq!(count(&book), 3);
    put(&mut book, "shop", 0, BYTES_OF_NAMESPACE / 4);
    assert_eq!(count(&book), 4);
}

#[test]
fn what_expressions_of_a_namespace_take_at_nodes_has_a_sum() {
    let mut book = book();
    book.hear_pods(Heard::Put(pod("shop", "web", Some("a"), "10.0.0.1")));
    let of = |at: usize, with: usize| {
        let all =
            (0..with).map(|number| json!({ "pattern": format!("^[ab]{{900}}x{at}-{number}$") }));
        let schema = json!({ "components": all.collect::<Vec<_>>() });
        let json = json!({ "spec": { "api": { "schema": schema } } }).to_string();
        ObjectNews { json: json.into_bytes().into(), ..intention("shop", &format!("i{at:03}"), 1) }
    };
    for at in 0..1_000 {
        book.hear_intentions(Heard::Put(of(at, 2)));
    }
    let is_told = |book: &Book, at: usize| {
        let name = format!("i-shop-i{at:03}");
        book.intentions().any(|(uid, it)| **uid == *name && it.told.is_some())
    };
    let sum = |book: &Book| -> usize {
        let told = book.intentions().filter(|(_, it)| it.told.is_some());
        told.map(|(_, it)| it.compiled).sum()
    };
    let most = COMPILED_OF_NAMESPACE + COMPILED_OF_NAMESPACE / FOR_DENIES;
    assert!(is_told(&book, 0) && !is_told(&book, 999), "{}", sum(&book));
    assert!((most / 2..=most).contains(&sum(&book)), "{}", sum(&book));
    let (_, over) = book.intentions().find(|(_, it)| it.told.is_none()).unwrap();
    assert!(over.news.is_left_out(), "it is not held either, and its status says so");
    // One without any has room; and another one where one has gone.
    book.hear_intentions(Heard::Put(intention("shop", "plain", 1)));
    assert!(book.intentions().any(|(uid, it)| &**uid == "i-shop-plain" && it.told.is_some()));
    book.hear_intentions(Heard::Gone(of(0, 2)));
    book.hear_intentions(Heard::Put(of(999, 2)));
    assert!(is_told(&book, 999) && sum(&book) <= most);
    book.hear_intentions(Heard::Put(of(998, 3)));
    assert!(!is_told(&book, 998));
    // What its status says costs nothing anew, and takes nothing twice.
    let before = book.told_intentions["shop"];
    let status = Arc::new(json!({ "nodes": 1 }));
    book.hear_intentions(Heard::Put(ObjectNews { status, ..of(999, 2) }));
    assert_eq!(book.told_intentions["shop"], before);
    book.hear_intentions(Heard::All(Vec::new()));
    assert!(book.told_intentions.is_empty());
}

#[test]
fn in_a_crowded_namespace_those_told_before_stay_and_those_that_deny_find_room() {
    let of = |name: &str, spec: serde_json::Value, reason: Option<&str>| {
        let conditions = reason.map(|it| json!([{ "type": "Accepted", "reason": it }]));
        ObjectNews {
            json: json!({ "spec": spec }).to_string().into_bytes().into(),
            status: Arc::new(json!({ "conditions": conditions })),
            ..intention("shop", name, 1)
        }
    };
    let allow = || json!({ "sources": [{ "any": true, "action": "allow" }] });
    let all: Vec<ObjectNews> = (0..INTENTIONS_OF_NAMESPACE)
        .map(|at| of(&format!("i{at:05}"), allow(), (at % 2 == 0).then_some("Crowded")))
        .chain([of("z", allow(), Some("Accepted"))])
        .collect();
    // In whatever order a replica lists them.
    for turned in [false, true] {
        let mut book = book();
        book.hear_pods(Heard::Put(pod("shop", "web", Some("a"), "10.0.0.1")));
        let mut all = all.clone();
        if turned {
            all.reverse();
        }
        book.hear_intentions(Heard::All(all));
        let left_out = book.intentions().filter(|(_, it)| it.told.is_none());
        let left_out: Vec<&str> = left_out.map(|(_, it)| &*it.news.name).collect();
        assert_eq!(left_out, [format!("i{:05}", INTENTIONS_OF_NAMESPACE - 2)]);
        let mut is_told = |name: &str, spec| {
            let news = of(name, spec, None);
            book.hear_intentions(Heard::Put(news.clone()));
            !told(&book, "a", &key_of(&news)).put_intentions.is_empty()
        };
        assert!(!is_told("more", allow()));
        assert!(is_told("limit", json!({ "limits": [{ "requestsPerSecond": 5 }] })));
        assert!(is_told("list", json!({ "sources": [{ "any": true, "permissions": [] }] })));
        let deny = || json!({ "sources": [{ "any": true, "action": "deny" }] });
        let rest = INTENTIONS_OF_NAMESPACE / FOR_DENIES - 2;
        assert!((0..rest).all(|at| is_told(&format!("deny{at}"), deny())));
        assert!(!is_told("last", deny()));
    }
}

#[test]
fn what_all_namespaces_have_together_is_no_more_than_a_node_takes() {
    let mut book = book();
    let of = |of: usize| format!("n{of:02}");
    let count = SERVICES_OF_OTHERS / SERVICES_OF_NAMESPACE + 2;
    for at in 0..count {
        book.hear_namespaces(Heard::Put(namespace(&of(at), Some("node"))));
    }
    let each = (0..count).flat_map(|at| (0..SERVICES_OF_NAMESPACE).map(move |name| (at, name)));
    let all = each.map(|(at, name)| ServiceNews {
        addresses: Vec::new(),
        ..service(&of(at), &format!("s{name}"), None)
    });
    book.hear_services(Heard::All(all.collect()));
    let told = |book: &Book| book.keys_for("a").len();
    assert_eq!(told(&book), SERVICES_OF_OTHERS);
    // The system's find room, and where one goes there is room for one of whichever namespace.
    book.hear_namespaces(Heard::Put(namespace(SYSTEM_NAMESPACE, Some("node"))));
    book.hear_services(Heard::Put(service(SYSTEM_NAMESPACE, "hub", None)));
    assert_eq!(told(&book), SERVICES_OF_OTHERS + 1);
    book.hear_services(Heard::Gone(service(&of(0), "s0", None)));
    assert_eq!(told(&book), SERVICES_OF_OTHERS + 1);
    book.hear_services(Heard::All(Vec::new()));
    assert_eq!((told(&book), book.of_others.services), (0, 0));
    assert!(book.waiting_services.is_empty());
}

#[test]
fn of_a_pod_nothing_is_told_before_its_namespace_is_known() {
    let mut book = book();
    let early = PodNews { mesh: Some("node".into()), ..pod("late", "web", Some("a"), "10.0.0.1") };
    book.hear_pods(Heard::Put(early));
    assert!(
        told(&book, "a", &uid("late", "web")).put_workloads.is_empty(),
        "its namespace may say no"
    );
    book.hear_namespaces(Heard::Put(namespace("late", None)));
    let own = told(&book, "a", &uid("late", "web")).put_workloads.remove(0);
    assert_eq!(own.mode, Mode::Node);
    let last = namespace("late", None);
    book.hear_namespaces(Heard::Gone(last));
    assert!(told(&book, "a", &uid("late", "web")).put_workloads.is_empty());
    check(&book, "a");
}

#[test]
fn a_service_of_a_namespace_in_the_mesh_is_told_even_where_it_leads_to_nobody() {
    let mut book = book();
    let web = key_of_service("shop", "web");
    let touched = book.hear_services(Heard::Put(service("shop", "web", None)));
    assert_eq!(touched.all, all([web.clone()]));
    assert!(told(&book, "b", &web).put_services[0].ports[&80].endpoints.is_empty());
    // Who was told of it calls it in the same way for as long as it stands.
    let touched = book.hear_namespaces(Heard::Put(namespace("shop", None)));
    assert_eq!(touched.all, all([]));
    let touched = book.hear_services(Heard::Gone(service("shop", "web", None)));
    assert_eq!(touched.all, all([web]));
    assert!(book.hear_services(Heard::Put(service("shop", "web", None))).all.is_empty());
}

#[test]
fn a_service_that_stands_for_another_clusters_is_told_everywhere_and_leads_to_nobody_here() {
    let mut book = book();
    let says = |all: &[(&str, &str)]| ServiceNews {
        import: all.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        ..service("plain", "ledger", None)
    };
    let gateway = "spiffe://bank.example/ns/nullius-system/sa/nullius-gateway";
    let whole = [
        ("", "ledger.bank.svc.clusterset.local"),
        ("-gateways", "192.0.2.10:15443"),
        ("-gateway-ids", gateway),
        ("-ids", "spiffe://bank.example/ns/bank/sa/ledger"),
    ];
    let ledger = key_of_service("plain", "ledger");
    // Somebody put a pod of the own cluster behind it.
    book.hear_pods(Heard::Put(pod("plain", "thief", Some("a"), "10.0.0.1")));
    book.hear_slices(Heard::Put(slice("plain", "ledger", &[("10.0.0.1", true)])));
    let touched = book.hear_services(Heard::Put(says(&whole)));
    assert_eq!(touched.all, all([ledger.clone()]));
    let news = told(&book, "b", &ledger);
    let service = news.put_services.first().unwrap();
    assert!(service.ports.values().all(|port| port.endpoints.is_empty()));
    let import = service.import.as_ref().unwrap();
    assert_eq!((import.gateways.len(), import.name.to_string()), (1, "bank/ledger".to_owned()));
    // Each port costs every node as much as there are gateways, and what has no address is called by none.
    let mut many = says(&whole);
    let port = many.ports[0].clone();
    many.ports =
        (1..=5_000).map(|number| ServicePortNews { port: number, ..port.clone() }).collect();
    book.hear_services(Heard::Put(many.clone()));
    assert_eq!(told(&book, "b", &ledger).put_services[0].ports.len(), 64);
    book.hear_services(Heard::Put(ServiceNews { addresses: Vec::new(), ..says(&whole) }));
    let headless = told(&book, "b", &ledger).put_services.remove(0);
    assert!(headless.import.unwrap().gateways.is_empty());
    assert!(headless.ports.values().all(|port| port.endpoints.is_empty()));
    book.hear_services(Heard::Put(says(&whole)));
    // What cannot be read leads nowhere, and not to who is behind it in this cluster.
    let half = says(&whole[..2]);
    assert_eq!(book.hear_services(Heard::Put(half)).all, all([ledger.clone()]));
    let news = told(&book, "b", &ledger);
    let service = news.put_services.first().unwrap();
    assert!(service.import.as_ref().unwrap().gateways.is_empty());
    assert!(service.ports.values().all(|port| port.endpoints.is_empty()));
    check(&book, "b");
    book.hear_services(Heard::Put(says(&[])));
    let news = told(&book, "b", &ledger);
    assert_eq!(
        news.put_services.first().unwrap().import,
        None,
        "it is told for as long as it stands"
    );
}

#[test]
fn a_service_of_another_namespace_says_nothing_of_a_pod_and_makes_nobody_of_it() {
    let mut book = book();
    book.hear_pods(Heard::Put(pod("shop", "web", Some("a"), "10.0.0.1")));
    let before = told(&book, "a", &uid("shop", "web"));
    book.hear_services(Heard::Put(service("plain", "lure", Some("tcp"))));
    let touched = book.hear_slices(Heard::Put(slice("plain", "lure", &[("10.0.0.1", true)])));
    assert_eq!(touched.all, all([key_of_service("plain", "lure")]));
    assert!(touched.nodes.is_empty());
    assert_eq!(told(&book, "a", &uid("shop", "web")), before);
    let lure = told(&book, "a", &key_of_service("plain", "lure")).put_services.remove(0);
    let end = &lure.ports[&80].endpoints[0];
    assert_eq!(end.workload.as_deref(), Some("uid-shop-web"), "whoever has the address");
}

#[test]
fn a_node_hears_intentions_of_the_namespaces_of_its_pods_and_of_the_system() {
    let mut book = book();
    let (own, system) = (intention("shop", "one", 1), intention(SYSTEM_NAMESPACE, "guard", 1));
    assert!(book.hear_intentions(Heard::Put(own.clone())).nodes.is_empty(), "nobody is there yet");
    let touched = book.hear_intentions(Heard::Put(system.clone()));
    assert_eq!(touched.all, all([key_of(&system)]));
    assert_eq!(book.keys_for("a"), [key_of(&system)]);
    let touched = book.hear_pods(Heard::Put(pod("shop", "web", Some("a"), "10.0.0.1")));
    let of_a = all([uid("shop", "web"), key_of(&own)]);
    assert_eq!(touched.nodes, BTreeMap::from([("a".into(), of_a)]));
    assert_eq!(told(&book, "a", &key_of(&own)).put_intentions.len(), 1);
    assert_eq!(told(&book, "b", &key_of(&own)).gone_intentions.len(), 1);
    // A second pod brings nothing new; the first that goes leaves the other.
    let touched = book.hear_pods(Heard::Put(pod("shop", "db", Some("a"), "10.0.0.2")));
    assert_eq!(touched.nodes, BTreeMap::from([("a".into(), all([uid("shop", "db")]))]));
    let touched = book.hear_pods(Heard::Gone(pod("shop", "web", Some("a"), "10.0.0.1")));
    assert_eq!(touched.nodes, BTreeMap::from([("a".into(), all([uid("shop", "web")]))]));
    assert!(touched.standing);
    // What its status says is no news to nodes.
    let stands = ObjectNews { status: Arc::new(json!({ "nodes": 1 })), ..own.clone() };
    let touched = book.hear_intentions(Heard::Put(stands));
    assert!(touched.nodes.is_empty() && touched.standing);
    let touched = book.hear_intentions(Heard::Put(intention("shop", "one", 2)));
    assert_eq!(touched.nodes, BTreeMap::from([("a".into(), all([key_of(&own)]))]));
    let touched = book.hear_namespaces(Heard::Put(namespace("shop", None)));
    let of_a = all([uid("shop", "db"), key_of(&own)]);
    assert_eq!(touched.nodes, BTreeMap::from([("a".into(), of_a)]));
    assert_eq!(told(&book, "a", &key_of(&own)).gone_intentions.len(), 1);
    let touched = book.hear_intentions(Heard::All(vec![intention("shop", "one", 2)]));
    assert_eq!(touched.all, all([key_of(&system)]));
}

#[test]
fn nodes_of_a_destination_are_those_with_such_pods_in_the_mesh() {
    let mut book = book();
    for (namespace, name, node) in
        [("shop", "web", "a"), ("shop", "web-2", "b"), ("shop", "db", "c"), ("plain", "web", "d")]
    {
        book.hear_pods(Heard::Put(pod(namespace, name, Some(node), "")));
    }
    let home = nullius_intention::Home::of("dev.example".parse().unwrap());
    let read = |namespace: &str, destination: serde_json::Value| {
        let object = json!({
            "apiVersion": nullius_model::API_VERSION, "kind": "Intention",
            "metadata": { "name": "x", "namespace": namespace },
            "spec": { "destination": destination, "sources": [{ "any": true, "action": "allow" }] },
        });
        let origin = nullius_intention::Origin::Cluster;
        nullius_intention::Intention::read(&object, origin, &home).unwrap()
    };
    let nodes = |namespace: &str, destination: serde_json::Value| {
        let read = read(namespace, destination);
        let nodes: Vec<Name> = book.nodes_of(read.destination()).into_iter().collect();
        nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    assert_eq!(nodes("shop", json!({ "serviceAccount": "front" })), "a,b,c");
    assert_eq!(nodes("shop", json!({ "labels": { "app": "db" } })), "c");
    assert_eq!(nodes("shop", json!({ "serviceAccount": "other" })), "");
    assert_eq!(nodes("plain", json!({ "serviceAccount": "front" })), "");
    assert_eq!(nodes(SYSTEM_NAMESPACE, json!({ "any": true })), "a,b,c");
    assert_eq!(nodes(SYSTEM_NAMESPACE, json!({ "namespace": "plain" })), "");
    // Only where its pods have changed it is looked again.
    let all = [
        read("shop", json!({ "labels": { "app": "db" } })),
        read("plain", json!({ "serviceAccount": "front" })),
        read(SYSTEM_NAMESPACE, json!({ "any": true })),
    ];
    let turns = |book: &Book| all.each_ref().map(|it| book.turn_of(it.destination()));
    let before = turns(&book);
    let mut moved = pod("shop", "db", Some("c"), "10.0.0.7");
    book.hear_pods(Heard::Put(moved.clone()));
    assert_eq!(turns(&book), before, "an address is no other place");
    moved.node = Some("d".into());
    book.hear_pods(Heard::Put(moved));
    let after = turns(&book);
    assert!(after[0] > before[0] && after[1] == before[1] && after[2] > before[2]);
    // What its Services say of its ports is where limits count nothing.
    let unread = |book: &Book| all.each_ref().map(|it| book.unread(it.destination()).len());
    assert_eq!(unread(&book), [0, 0, 0]);
    book.hear_slices(Heard::Put(slice("shop", "db", &[("10.0.0.7", true)])));
    book.hear_services(Heard::Put(service("shop", "db", Some("tcp"))));
    assert_eq!(unread(&book), [1, 0, 1]);
    assert!(turns(&book)[0] > after[0]);
}

#[test]
fn a_replica_is_a_pod_of_the_agents_account_in_its_namespace() {
    let mut book = book();
    let named = |namespace: &str, name: &str, account: &str| PodNews {
        account: account.into(),
        ..pod(namespace, name, Some("a"), "")
    };
    let replica = named(SYSTEM_NAMESPACE, "nullius-agent-identity-1", IDENTITY);
    assert!(book.hear_pods(Heard::Put(replica.clone())).standing);
    book.hear_pods(Heard::Put(named("shop", "nullius-agent-identity-2", IDENTITY)));
    book.hear_pods(Heard::Put(named(SYSTEM_NAMESPACE, "nullius-agent-identity-3", "other")));
    let has: Vec<bool> = (1..=3)
        .map(|it| book.replicas().contains(&*format!("nullius-agent-identity-{it}")))
        .collect();
    assert_eq!(has, [true, false, false]);
    assert!(book.hear_pods(Heard::Gone(replica)).standing, "what it said goes with it");
    assert!(book.replicas().is_empty());
}

#[test]
fn after_a_watch_began_anew_only_what_changed_is_told() {
    let mut book = book();
    let (one, two) =
        (pod("shop", "one", Some("a"), "10.0.0.1"), pod("shop", "two", Some("b"), "10.0.0.2"));
    book.hear_services(Heard::All(vec![service("shop", "web", None)]));
    let both = slice("shop", "web", &[("10.0.0.1", true), ("10.0.0.2", true)]);
    book.hear_slices(Heard::All(vec![both.clone()]));
    book.hear_pods(Heard::All(vec![one.clone(), two.clone()]));
    assert_eq!(book.hear_pods(Heard::All(vec![one.clone(), two])), Touched::default());
    assert_eq!(book.hear_slices(Heard::All(vec![both])), Touched::default());
    assert_eq!(
        book.hear_services(Heard::All(vec![service("shop", "web", None)])),
        Touched::default()
    );
    let namespaces = vec![namespace("shop", Some("node")), namespace("plain", None)];
    assert_eq!(book.hear_namespaces(Heard::All(namespaces)), Touched::default());
    let touched = book.hear_pods(Heard::All(vec![one.clone()]));
    assert_eq!(touched.all, all([uid("shop", "two"), key_of_service("shop", "web")]));
    // Another pod of the name has come before the end of the first is heard.
    let again = PodNews { uid: "uid-again".into(), node: Some("b".into()), ..one.clone() };
    let touched = book.hear_pods(Heard::Put(again));
    assert!(touched.all.contains(&uid("shop", "one")));
    assert_eq!(book.hear_pods(Heard::Gone(one)), Touched::default());
    assert_eq!(book.pods.len(), 1);
    let touched = book.hear_namespaces(Heard::All(Vec::new()));
    assert_eq!(
        touched.all,
        all([Key::Workload("uid-again".into()), key_of_service("shop", "web")])
    );
    book.hear_pods(Heard::All(Vec::new()));
    book.hear_slices(Heard::All(Vec::new()));
    book.hear_services(Heard::All(Vec::new()));
    let left = (book.pods.len(), book.names.len(), book.addresses.len(), book.services.len());
    assert_eq!(left, (0, 0, 0, 0));
    assert_eq!((book.slices.len(), book.leading.len(), book.groups.len()), (0, 0, 0));
    assert!(book.enrolled.is_empty());
}

#[test]
fn a_change_of_one_pod_costs_what_one_pod_costs() {
    let mut book = book();
    let address =
        |number: usize| format!("10.{}.{}.{}", number / 65_536, number / 256 % 256, number % 256);
    let pods = (1..10_000).map(|number| {
        pod(
            "shop",
            &format!("web-{number}"),
            Some(&format!("node-{}", number % 500)),
            &address(number),
        )
    });
    let ends = |of: usize| -> Vec<String> { (of * 100 + 1..of * 100 + 100).map(address).collect() };
    for of in 0..100 {
        let ends = ends(of);
        let ends: Vec<(&str, bool)> = ends.iter().map(|it| (it.as_str(), true)).collect();
        book.hear_slices(Heard::Put(slice("shop", &format!("service-{of}"), &ends)));
        book.hear_services(Heard::Put(service("shop", &format!("service-{of}"), None)));
    }
    book.hear_pods(Heard::All(pods.collect()));
    let began = std::time::Instant::now();
    for round in 0..1_000 {
        let mut changed = pod("shop", "web-7", Some("node-7"), &address(7));
        Arc::make_mut(&mut changed.parts).labels.insert("round".to_owned(), round.to_string());
        assert_eq!(book.hear_pods(Heard::Put(changed)).nodes.len(), 1);
        let here = if round % 2 == 0 { address(20_000) } else { address(8) };
        let moved = pod("shop", "web-8", Some("node-8"), &here);
        let touched = book.hear_pods(Heard::Put(moved));
        assert_eq!(touched.all, all([uid("shop", "web-8"), key_of_service("shop", "service-0")]));
    }
    // A look at all pods for each would take a hundred times as long.
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "{:?}", began.elapsed());
}
