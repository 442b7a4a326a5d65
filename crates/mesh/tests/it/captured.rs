//! Pods whose connections are led to their proxies, by real rules: the applications know nothing of it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    pods::{Host, Node, Pod, can_run},
    world::{Application, PATIENCE, Tunnel, ping, read_end},
};

const PORT: u16 = 8080;

/// What an application saw of who called.
type Seen = Arc<Mutex<Vec<IpAddr>>>;

/// Gives back what it is sent, and remembers from where.
async fn echo(host: &Host, port: u16) -> (Application, Seen) {
    let seen = Seen::default();
    let sees = Arc::clone(&seen);
    let application = host
        .serve(port, move |mut stream| {
            let peer = stream.peer_addr().unwrap();
            sees.lock().unwrap().push(peer.ip().to_canonical());
            async move {
                let (mut read, mut write) = stream.split();
                if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                    let _ = write.shutdown().await;
                }
            }
        })
        .await;
    (application, seen)
}

/// `shop/front` and `shop/orders`, which know each other.
async fn pair(node: &Node) -> (Pod, Pod) {
    let (front, orders) = (node.pod("front").await, node.pod("orders").await);
    front.knows(&[&orders]);
    orders.knows(&[&front]);
    (front, orders)
}

fn front_may() -> serde_json::Value {
    json!([{ "serviceAccount": "front", "action": "allow" }])
}

/// A call that comes to nothing.
async fn is_refused(host: &Host, to: SocketAddr) {
    let Ok(mut stream) = host.connect(to).await else { return };
    // Who hears of it here hears only once.
    if stream.write_all(b"hello").await.is_err() {
        return;
    }
    let broke = read_end(&mut stream).await.expect_err("nobody answers");
    assert_eq!(broke.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_call_each_other_by_intentions_and_are_cut_by_them() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (front, orders) = pair(&node).await;
    let (application, seen) = echo(&orders.host, PORT).await;
    for address in orders.host.addresses() {
        is_refused(&front.host, (address, PORT).into()).await;
        let denied =
            orders.line(|line| line["address"] == format!("{}", SocketAddr::from((address, PORT))));
        let denied = denied.await;
        assert_eq!(
            (&denied["verdict"], &denied["reason"]),
            (&"denied".into(), &"no-intention".into())
        );
        assert_eq!(denied["source"], front.id.as_str());
    }
    front.reason("refused-by-destination").await;
    assert_eq!(application.count(), 0);

    orders.allow(front_may());
    for (own, address) in front.host.addresses().into_iter().zip(orders.host.addresses()) {
        let mut stream = front.host.connect((address, PORT)).await.unwrap();
        ping(&mut stream, b"hello").await.unwrap();
        assert_eq!(seen.lock().unwrap().pop(), Some(own), "the application sees who called");
        drop(stream);
        let to = SocketAddr::from((address, PORT)).to_string();
        for (pod, direction) in [(&front, "outbound"), (&orders, "inbound")] {
            let line = pod.line(|line| line["address"] == to && line["verdict"] == "allowed").await;
            assert_eq!((&line["direction"], &line["wire"]), (&direction.into(), &"hbone".into()));
            assert_eq!(line["source"], front.id.as_str());
            assert_eq!(line["destination"], orders.id.as_str());
            assert_eq!(line["end"], "closed", "{line}");
            assert_eq!(line["bytesToDestination"], 5);
        }
    }
    let mut live = front.host.connect((orders.host.v4, PORT)).await.unwrap();
    ping(&mut live, b"alive").await.unwrap();
    orders.tell(|facts| facts.intentions.clear());
    let broke = read_end(&mut live).await.expect_err("it is cut");
    assert_eq!(broke.kind(), std::io::ErrorKind::ConnectionReset);
    orders.line(|line| line["cutBecause"] == "no-intention").await;
    // Nothing is known: nothing new, and nothing goes on.
    orders.allow(front_may());
    let mut live = front.host.connect((orders.host.v4, PORT)).await.unwrap();
    ping(&mut live, b"alive").await.unwrap();
    orders.forget();
    read_end(&mut live).await.expect_err("it is cut");
    orders.line(|line| line["cutBecause"] == "stale-state").await;
    is_refused(&front.host, (orders.host.v4, PORT).into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_direction_ends_by_itself_and_servers_may_speak_first() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (front, orders) = pair(&node).await;
    orders.allow(front_may());
    let outside = node.host();
    let greets = |mut stream: TcpStream| async move {
        stream.write_all(b"220 ready\r\n").await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.reverse();
        stream.write_all(&all).await.unwrap();
    };
    // In the mesh, and to one who is not.
    let _first = orders.host.serve(25, greets).await;
    let _second = outside.serve(25, greets).await;
    for (to, reason) in [(&orders.host, "intention-matched"), (&outside, "not-in-mesh")] {
        for address in to.addresses() {
            let mut stream = front.host.connect((address, 25)).await.unwrap();
            let mut greeting = [0; 11];
            tokio::time::timeout(PATIENCE, stream.read_exact(&mut greeting))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(&greeting, b"220 ready\r\n");
            stream.write_all(b"abc").await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(read_end(&mut stream).await.unwrap(), b"cba");
            let at = SocketAddr::from((address, 25)).to_string();
            let line = front.line(|line| line["address"] == at).await;
            assert_eq!((&line["reason"], &line["end"]), (&reason.into(), &"closed".into()));
            let is_plain = line["wire"] == "plain";
            assert_eq!(is_plain, reason == "not-in-mesh", "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_is_denied_unless_somebody_says_otherwise() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let orders = node.pod("orders").await;
    orders.tell(|_| {});
    let stranger = node.host();
    let (application, seen) = echo(&orders.host, PORT).await;
    for address in orders.host.addresses() {
        is_refused(&stranger, (address, PORT).into()).await;
    }
    let line = orders.reason("unauthenticated").await;
    assert_eq!((&line["verdict"], &line["wire"]), (&"denied".into(), &"plain".into()));
    assert_eq!(line.get("source"), None, "{line}");
    assert_eq!(application.count(), 0);
    // By its address.
    let block = format!("{}/32", stranger.v4);
    orders.allow(json!([{ "ipBlock": block, "action": "allow" }]));
    let mut stream = stranger.connect((orders.host.v4, PORT)).await.unwrap();
    ping(&mut stream, b"hello").await.unwrap();
    assert_eq!(seen.lock().unwrap().pop(), Some(stranger.v4));
    is_refused(&stranger, (orders.host.v6, PORT).into()).await;
    orders.tell(|facts| facts.intentions.clear());
    read_end(&mut stream).await.expect_err("it is cut");
    // Until a day, and a server that speaks first is not kept waiting for a client that says nothing.
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3_600);
    orders.intend(json!({ "permissive": { "until": until.to_string() } }));
    let _greets = orders
        .host
        .serve(25, |mut stream| async move {
            stream.write_all(b"220 ready\r\n").await.unwrap();
        })
        .await;
    for address in orders.host.addresses() {
        let begun = Instant::now();
        let mut stream = stranger.connect((address, 25)).await.unwrap();
        assert_eq!(read_end(&mut stream).await.unwrap(), b"220 ready\r\n");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    let line = orders.reason("permissive").await;
    assert_eq!(line["wire"], "plain");
    // What looks like TLS of the application's own is its own.
    let mut stream = stranger.connect((orders.host.v4, PORT)).await.unwrap();
    ping(&mut stream, b"\x16\x03\x01\0\x05\x02\0\0\0\0").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_asks_where_probes_are_and_nowhere_else() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let orders = node.pod("orders").await;
    orders.tell(|facts| facts.here.probe_ports = [8081].into());
    let (application, _) = echo(&orders.host, PORT).await;
    let (probed, seen) = echo(&orders.host, 8081).await;
    for (own, address) in node.host.addresses().into_iter().zip(orders.host.addresses()) {
        let mut stream = node.host.connect((address, 8081)).await.unwrap();
        ping(&mut stream, b"alive?").await.unwrap();
        assert_eq!(seen.lock().unwrap().pop(), Some(own));
        drop(stream);
        is_refused(&node.host, (address, PORT).into()).await;
    }
    let line = orders.reason("probe").await;
    assert_eq!((&line["verdict"], &line["end"]), (&"allowed".into(), &"closed".into()));
    let other = node.host();
    is_refused(&other, (orders.host.v4, 8081).into()).await;
    assert_eq!((application.count(), probed.count()), (0, 2));
    // A port that is probed no more.
    let mut stream = node.host.connect((orders.host.v4, 8081)).await.unwrap();
    ping(&mut stream, b"alive?").await.unwrap();
    orders.tell(|facts| facts.here.probe_ports.clear());
    read_end(&mut stream).await.expect_err("it is cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_nodes_address_and_is_not_the_node_is_a_stranger() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let orders = node.pod("orders").await;
    orders.tell(|facts| facts.here.probe_ports = [8081].into());
    let (probed, seen) = echo(&orders.host, 8081).await;
    let to = SocketAddr::from((orders.host.v4, 8081));
    // Ports of the node that lead to the pod, as a Service of type NodePort has them.
    let other = node.host();
    let rules = format!(
        "table ip services {{
            chain in {{ type nat hook prerouting priority dstnat; tcp dport 30081 dnat to {to}; }}
            chain here {{ type nat hook output priority -100; tcp dport 30081 dnat to {to}; }}
            chain out {{ type nat hook postrouting priority srcnat; ip daddr {} tcp dport 8081 ct status dnat masquerade; }}
        }}",
        to.ip()
    );
    if !node.host.filter(&rules) {
        return;
    }
    node.host.run(async { std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap() }).await;
    let node_port = SocketAddr::from((node.host.v4, 30_081));
    is_refused(&other, node_port).await;
    let line = orders.reason("unauthenticated").await;
    // It did come with the node's address.
    let client: SocketAddr = line["client"].as_str().unwrap().parse().unwrap();
    assert_eq!((client.ip(), &line["verdict"]), (node.host.v4, &"denied".into()));
    // Nor is it the node who calls itself by that port.
    is_refused(&node.host, node_port).await;
    // Another user of the node.
    let mut stream = node.host.connect_as_user(to).await.unwrap();
    let _ = stream.write_all(b"hello").await;
    read_end(&mut stream).await.expect_err("nobody answers");
    assert_eq!(probed.count(), 0);
    // An intention may let strangers in by their address, and then the node's is one.
    let block = format!("{}/32", node.host.v4);
    orders.allow(json!([{ "ipBlock": block, "action": "allow" }]));
    let mut stream = other.connect(node_port).await.unwrap();
    ping(&mut stream, b"hello").await.unwrap();
    assert_eq!(seen.lock().unwrap().pop(), Some(node.host.v4));
    drop(stream);
    orders.reason("intention-matched").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_to_those_of_its_endpoints_that_answer() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (front, orders) = pair(&node).await;
    let more = node.pod("orders").await;
    let outside = node.host();
    front.knows(&[&more]);
    for pod in [&orders, &more] {
        pod.allow(front_may());
    }
    let (first, seen) = echo(&orders.host, PORT).await;
    let (second, _) = echo(&more.host, PORT).await;
    let service = SocketAddr::from(([10, 96, 0, 7], 80));
    let lead = |endpoints: Vec<SocketAddr>| {
        front.tell(|facts| facts.directory.put_service(service, "shop/orders".into(), endpoints));
    };
    lead(vec![(orders.host.v4, PORT).into(), (more.host.v4, PORT).into()]);
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut stream = front.host.connect(service).await.unwrap();
        ping(&mut stream, b"hello").await.unwrap();
        open.push(stream);
    }
    // Of two the less busy is always known.
    assert_eq!((first.count(), second.count()), (10, 10));
    drop(open);
    assert_eq!(seen.lock().unwrap().pop(), Some(front.host.v4));
    let line = front.line(|line| line["service"] == "shop/orders").await;
    assert_eq!((&line["wire"], &line["verdict"]), (&"hbone".into(), &"allowed".into()));
    // Two of three are not there: one is outside of the mesh, with nobody at that port; of one the application is gone.
    second.end().await;
    lead(vec![
        (outside.v4, PORT).into(),
        (more.host.v4, PORT).into(),
        (orders.host.v4, PORT).into(),
    ]);
    for _ in 0..12 {
        let mut stream = front.host.connect(service).await.unwrap();
        ping(&mut stream, b"hello").await.unwrap();
    }
    assert_eq!(first.count(), 22);
    // A pod that is behind the Service it calls.
    front.tell(|facts| facts.directory = Default::default());
    let own = echo(&front.host, PORT).await.0;
    lead(vec![(front.host.v4, PORT).into()]);
    let mut stream = front.host.connect(service).await.unwrap();
    ping(&mut stream, b"myself").await.unwrap();
    assert_eq!(own.count(), 1);
    lead(vec![(outside.v4, PORT).into()]);
    is_refused(&front.host, service).await;
    front.line(|line| line["reason"] == "unreachable" && line["service"] == "shop/orders").await;
    lead(Vec::new());
    is_refused(&front.host, service).await;
    let line = front.reason("no-endpoint").await;
    assert_eq!((&line["verdict"], &line["address"]), (&"failed".into(), &"10.96.0.7:80".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_another_pod_has_is_another_destination() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (front, orders) = pair(&node).await;
    orders.allow(front_may());
    let (application, _) = echo(&orders.host, PORT).await;
    let to = SocketAddr::from((orders.host.v4, PORT));
    let mut live = front.host.connect(to).await.unwrap();
    ping(&mut live, b"alive").await.unwrap();
    // The tunnel; the application listens by IPv6, which is counted elsewhere.
    assert_eq!(orders.host.connections_with(front.host.v4).await, 1);
    let bank = node.domain.id("shop", "bank");
    front.tell(|facts| facts.directory.put_pod(to.ip(), bank.clone()));
    read_end(&mut live).await.expect_err("it is cut");
    front.line(|line| line["cutBecause"] == "other-pod").await;
    // Nor does the tunnel stay that was to the one of before.
    let closed = async {
        while orders.host.connections_with(front.host.v4).await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    // Who is there is not the new one yet: it hears nothing.
    is_refused(&front.host, to).await;
    front.reason("unexpected-server").await;
    assert_eq!(application.count(), 1);
    // The new one is there.
    orders.tell(|facts| {
        facts.generation += 1;
        facts.tls = node.tls(&bank);
    });
    let mut stream = front.host.connect(to).await.unwrap();
    ping(&mut stream, b"hello").await.unwrap();
    drop(stream);
    let line = front.line(|line| line["destination"] == bank.as_str()).await;
    assert_eq!(line["verdict"], "allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_that_are_not_ours_call_pods_as_well() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let orders = node.pod("orders").await;
    orders.allow(front_may());
    let (application, seen) = echo(&orders.host, PORT).await;
    let outside = node.host();
    let front = node.domain.id("shop", "front");
    // As Istio's ambient proxies do.
    let (shown, at) = (node.domain.svid(&front), SocketAddr::from((orders.host.v4, 15_008)));
    let tunnel = outside.run(async move { Tunnel::open(shown, b"h2", at).await }).await;
    let to = SocketAddr::from((orders.host.v4, PORT)).to_string();
    let (response, mut send) = tunnel.connect(&to).await.unwrap();
    assert_eq!(response.status(), 200);
    send.send_data("hello".into(), true).unwrap();
    let (mut body, mut back) = (response.into_body(), Vec::new());
    while let Some(piece) = body.data().await {
        back.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(back, b"hello");
    for port in [15_001, 15_006, 15_008] {
        let other = SocketAddr::from((orders.host.v4, port)).to_string();
        let (response, _) = tunnel.connect(&other).await.unwrap();
        assert_eq!(response.status(), 403, "{other}");
    }
    let (response, _) = tunnel.connect(&format!("127.0.0.1:{PORT}")).await.unwrap();
    assert_eq!(response.status(), 403);
    // As Envoy does, with our word for it.
    let (shown, at) = (node.domain.svid(&front), SocketAddr::from((orders.host.v6, PORT)));
    let config = crate::world::foreign(Some(shown), &[b"nullius"]);
    let stream = outside.run(async move { crate::world::connect(&config, at).await }).await;
    let mut stream = stream.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    assert_eq!(*seen.lock().unwrap(), [outside.v4, outside.v6]);
    drop(stream);
    let line = orders.line(|line| line["wire"] == "tls").await;
    assert_eq!((&line["verdict"], &line["source"]), (&"allowed".into(), &front.as_str().into()));
    assert_eq!(application.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_stopped_lets_what_is_open_end() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (front, mut orders) = pair(&node).await;
    orders.allow(front_may());
    let (_application, _) = echo(&orders.host, PORT).await;
    let mut stream = front.host.connect((orders.host.v4, PORT)).await.unwrap();
    ping(&mut stream, b"alive").await.unwrap();
    let captured = orders.captured.take().unwrap();
    let stopping = tokio::spawn(async move { captured.stop().await });
    ping(&mut stream, b"still").await.unwrap();
    drop(stream);
    tokio::time::timeout(PATIENCE, stopping).await.unwrap().unwrap();
    let line = orders.line(|line| line["end"] == "closed").await;
    assert_eq!(line["bytesToSource"], 10);
}
