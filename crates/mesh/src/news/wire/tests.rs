#![allow(clippy::unwrap_used, reason = "test")]
use std::error::Error as _;

use super::*;

type Change<M> = &'static dyn Fn(&mut M);

const POD: &str = "0a1b2c3d-0000-4111-8222-333344445555";

fn workload() -> node_v1::Workload {
    node_v1::Workload {
        uid: POD.to_owned(),
        namespace: "shop".to_owned(),
        name: "front-1".to_owned(),
        service_account: "front".to_owned(),
        node: "node-1".to_owned(),
        addresses: vec!["10.0.0.5".to_owned(), "2001:db8::5".to_owned()],
        spiffe_id: "spiffe://shop.example/ns/shop/sa/front".to_owned(),
        mode: node_v1::MeshMode::Node.into(),
        local: Some(node_v1::LocalWorkload {
            labels: [("app".to_owned(), "front".to_owned())].into(),
            has_more_labels: true,
            ports: vec![
                node_v1::Port { port: 80, protocol: node_v1::PortProtocol::Auto.into() },
                node_v1::Port { port: 8080, protocol: node_v1::PortProtocol::Http2.into() },
            ],
            probe_ports: vec![80, 9000],
        }),
    }
}

fn service() -> node_v1::Service {
    let endpoint = |address: &str, workload: &str| node_v1::Endpoint {
        address: address.to_owned(),
        port: 8080,
        workload: workload.to_owned(),
    };
    node_v1::Service {
        namespace: "shop".to_owned(),
        name: "front".to_owned(),
        addresses: vec!["10.96.0.7".to_owned()],
        ports: vec![node_v1::ServicePort {
            port: 80,
            protocol: node_v1::PortProtocol::Http.into(),
            endpoints: vec![endpoint("10.0.0.5", POD), endpoint("192.0.2.1", "")],
        }],
        import: Some(import()),
    }
}

fn import() -> node_v1::Import {
    node_v1::Import {
        namespace: "bank".to_owned(),
        name: "ledger".to_owned(),
        gateways: vec!["192.0.2.10:15443".to_owned(), "[2001:db8::1]:15443".to_owned()],
        gateway_ids: vec!["spiffe://bank.example/ns/nullius-system/sa/nullius-gateway".to_owned()],
        spiffe_ids: vec!["spiffe://bank.example/ns/bank/sa/ledger".to_owned()],
    }
}

fn intention() -> node_v1::IntentionObject {
    node_v1::IntentionObject {
        uid: "f0000000-0000-4111-8222-333344445555".to_owned(),
        origin: node_v1::IntentionOrigin::Cluster.into(),
        generation: 7,
        json: b"{ even if it is wrong".to_vec(),
    }
}

fn message() -> node_v1::MeshNews {
    node_v1::MeshNews {
        stream: "s-1".to_owned(),
        sequence: 3,
        is_complete: true,
        put_workloads: vec![workload()],
        gone_workloads: vec!["other".to_owned()],
        put_services: vec![service()],
        gone_services: vec!["shop/back".to_owned()],
        put_intentions: vec![intention()],
        gone_intentions: vec!["another".to_owned()],
        put_issuers: vec![node_v1::IssuerKeys {
            issuer: "https://login.example".to_owned(),
            source: "https://login.example/keys".to_owned(),
            jwks: b"{ even if it is wrong".to_vec(),
            until: 1_800_000_000,
        }],
        gone_issuers: vec!["https://old.example".to_owned()],
    }
}

#[test]
fn what_is_written_is_read_as_it_was() {
    let news = read_news(message()).unwrap();
    assert_eq!(write_news(&news), message());
    assert_eq!(read_news(write_news(&news)).unwrap(), news);
    assert_eq!(news.put_workloads[0].mode, Mode::Node);
    assert_eq!(news.put_services[0].name.to_string(), "shop/front");
    let bare = node_v1::Workload {
        service_account: String::new(),
        addresses: Vec::new(),
        spiffe_id: String::new(),
        mode: node_v1::MeshMode::None.into(),
        local: None,
        ..workload()
    };
    let bare = node_v1::MeshNews { put_workloads: vec![bare], ..message() };
    assert_eq!(write_news(&read_news(bare.clone()).unwrap()), bare);
}

fn refused(change: &dyn Fn(&mut node_v1::MeshNews)) -> String {
    let mut message = message();
    change(&mut message);
    let error = read_news(message).unwrap_err();
    let why = error.source().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{error}{why}")
}

#[test]
fn a_message_with_one_wrong_thing_is_refused_whole_and_says_where() {
    let wrong: [(Change<node_v1::MeshNews>, &str); 12] = [
        (&|it| it.put_issuers[0].issuer = String::new(), "the issuer `` is refused: its name has"),
        (&|it| it.put_issuers[0].jwks = vec![b' '; JWKS_MAX + 1], "bytes, and at most"),
        (&|it| it.put_issuers[0].until = i64::MAX, "is no time"),
        (&|it| it.gone_issuers[0] = "x".repeat(2_049), "is refused: its name has"),
        (&|it| it.stream = String::new(), "the name of the stream is refused"),
        (&|it| it.gone_workloads[0] = "a b".to_owned(), "the pod `a b` is refused: a UID"),
        (&|it| it.gone_services[0] = "front".to_owned(), "the Service `front` is refused"),
        (&|it| it.gone_services[0] = "Shop/front".to_owned(), "named as `NAMESPACE/NAME`"),
        (&|it| it.gone_services[0] = "shop/".to_owned(), "named as `NAMESPACE/NAME`"),
        (&|it| it.gone_services[0] = "shop/a/b".to_owned(), "named as `NAMESPACE/NAME`"),
        (&|it| it.gone_intentions[0] = String::new(), "the intention `` is refused: a UID"),
        (&|it| it.gone_intentions[0] = "u".repeat(129), "a UID has 1 to 128"),
    ];
    for (change, why) in wrong {
        let told = refused(change);
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn a_pod_that_is_not_told_in_its_one_form_is_refused() {
    let wrong: [(Change<node_v1::Workload>, &str); 17] = [
        (&|it| it.uid = "\u{e9}".to_owned(), "a UID has"),
        (&|it| it.namespace = "Shop".to_owned(), "`Shop` is no namespace"),
        (&|it| it.name = String::new(), "its name has 1 to 253"),
        (&|it| it.name = "a/b".to_owned(), "its name has 1 to 253"),
        (&|it| it.service_account = "a b".to_owned(), "its account has"),
        (&|it| it.node = String::new(), "its node has"),
        (&|it| it.addresses[0] = "10.0.0.05".to_owned(), "is no address"),
        (&|it| it.addresses[0] = "2001:DB8::7".to_owned(), "is no address"),
        (&|it| it.addresses[0] = "::ffff:10.0.0.5".to_owned(), "is no address"),
        (&|it| it.addresses[0] = "127.0.0.1".to_owned(), "is no address"),
        (&|it| it.addresses[0] = it.addresses[1].clone(), "addresses stands twice"),
        (&|it| it.addresses = vec!["10.0.0.5".to_owned(); 9], "it has 9 addresses"),
        (&|it| it.spiffe_id = "spiffe://shop.example/a/../b".to_owned(), "SPIFFE ID is refused"),
        (&|it| it.spiffe_id = String::new(), "in the mesh and has no SPIFFE ID"),
        (&|it| it.mode = 0, "its mode is 0"),
        (&|it| it.mode = 9, "its mode is 9"),
        (&|it| it.local.as_mut().unwrap().probe_ports = vec![9, 9], "probes' ports stands twice"),
    ];
    for (change, why) in wrong {
        let told = refused(&|message| change(&mut message.put_workloads[0]));
        assert!(told.contains(why), "{told}");
    }
    let ports: [(Change<Vec<node_v1::Port>>, &str); 4] = [
        (&|it| it[0].port = 0, "0 is no port"),
        (&|it| it[0].port = 65_536, "65536 is no port"),
        (&|it| it[0].port = 8080, "ports stands twice"),
        (&|it| it[0].protocol = 0, "the protocol of a port is 0"),
    ];
    for (change, why) in ports {
        let told = refused(&|it| change(&mut it.put_workloads[0].local.as_mut().unwrap().ports));
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn services_and_intentions_are_bounded_and_have_one_form() {
    let wrong: [(Change<node_v1::Service>, &str); 7] = [
        (&|it| it.namespace = String::new(), "`` is no namespace"),
        (&|it| it.name = "a b".to_owned(), "the Service `shop/a b` is refused: its name"),
        (&|it| it.addresses[0] = "None".to_owned(), "`None` is no address"),
        (&|it| it.ports.push(it.ports[0].clone()), "ports stands twice"),
        (&|it| it.ports[0].protocol = 7, "the protocol of a port is 7"),
        (&|it| it.ports[0].endpoints[0].workload = " ".to_owned(), "a UID has"),
        (
            &|it| it.ports[0].endpoints = vec![it.ports[0].endpoints[0].clone(); 65_537],
            "it has 65537 endpoints",
        ),
    ];
    for (change, why) in wrong {
        let told = refused(&|message| change(&mut message.put_services[0]));
        assert!(told.contains(why), "{told}");
    }
    let wrong: [(Change<node_v1::IntentionObject>, &str); 4] = [
        (&|it| it.origin = 0, "its origin is 0"),
        (&|it| it.generation = -1, "its generation is -1"),
        (&|it| it.uid = String::new(), "a UID has"),
        (&|it| it.json = vec![b' '; INTENTION_MAX + 1], "bytes, and at most 2097152"),
    ];
    for (change, why) in wrong {
        let told = refused(&|message| change(&mut message.put_intentions[0]));
        assert!(told.contains(why), "{told}");
    }
}
