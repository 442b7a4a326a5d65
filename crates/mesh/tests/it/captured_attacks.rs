//! Those who would go round the proxy of a pod, through it, or keep it busy.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nullius_mesh::Claim;
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use crate::{
    pods::{Host, Node, Pod, can_run},
    requests::{ambiguous, exchange, get, serves},
    world::{Application, PATIENCE, foreign, ping, read_end},
};

const PORT: u16 = 8080;

fn permissive() -> Json {
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3_600);
    json!({ "permissive": { "until": until.to_string() } })
}

async fn echo(host: &Host, port: u16) -> Application {
    host.serve(port, |mut stream| async move {
        let (mut read, mut write) = stream.split();
        if tokio::io::copy(&mut read, &mut write).await.is_ok() {
            let _ = write.shutdown().await;
        }
    })
    .await
}

/// What comes back for some bytes.
async fn said(host: &Host, to: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = host.connect(to).await?;
    stream.write_all(bytes).await?;
    read_end(&mut stream).await
}

async fn is_refused(host: &Host, to: SocketAddr) {
    let answer = said(host, to, b"hello").await;
    assert!(answer.is_err(), "{to}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_calls_the_proxy_itself() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (orders, front) = (node.pod("orders").await, node.pod("front").await);
    // Even where everything is let pass.
    orders.intend(permissive());
    front.intend(permissive());
    let application = echo(&orders.host, PORT).await;
    let stranger = node.host();
    for address in orders.host.addresses() {
        for port in [15_001, 15_006] {
            // From outside, from another pod of the mesh, and from the pod itself.
            is_refused(&stranger, (address, port).into()).await;
            is_refused(&front.host, (address, port).into()).await;
            is_refused(&orders.host, (address, port).into()).await;
        }
    }
    for loopback in ["127.0.0.1", "::1"] {
        for port in [15_001, 15_006] {
            is_refused(&orders.host, (loopback.parse::<std::net::IpAddr>().unwrap(), port).into())
                .await;
        }
    }
    orders.line(|line| line["direction"] == "inbound" && line["reason"] == "proxy-itself").await;
    orders.line(|line| line["direction"] == "outbound" && line["reason"] == "proxy-itself").await;
    // What a pod says to itself is nobody's business: over loopback, and by its address.
    for to in ["127.0.0.1".parse().unwrap(), orders.host.v4, orders.host.v6] {
        let mut stream = orders.host.connect((to, PORT)).await.unwrap();
        ping(&mut stream, b"myself").await.unwrap();
    }
    assert_eq!(application.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clouds_tell_whoever_asks_is_told_to_no_pod() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let front = node.pod("front").await;
    front.intend(permissive());
    for address in ["169.254.169.254:80", "[fd00:ec2::254]:80"] {
        is_refused(&front.host, address.parse().unwrap()).await;
        let line = front.line(|line| line["address"] == address).await;
        assert_eq!(
            (&line["verdict"], &line["reason"]),
            (&"denied".into(), &"metadata-address".into())
        );
    }
}

/// `shop/orders` with an HTTP application, which has not been asked anything yet.
async fn orders(node: &Node) -> (Pod, Application, Arc<Mutex<Vec<String>>>) {
    let orders = node.pod("orders").await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let application = orders.host.serve(PORT, serves(Arc::clone(&asked))).await;
    (orders, application, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_judged_whoever_sends_them_and_however() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (orders, _application, asked) = orders(&node).await;
    let (front, stranger) = (node.pod("front").await, node.host());
    front.knows(&[&orders]);
    let permissions = json!([
        { "action": "deny", "paths": [{ "prefix": "/orders/internal" }] },
        { "action": "allow", "methods": ["GET"], "paths": [{ "prefix": "/orders" }] },
    ]);
    orders.allow(json!([
        { "serviceAccount": "front", "permissions": permissions },
        { "ipBlock": format!("{}/32", stranger.v4), "permissions": permissions },
    ]));
    let to = SocketAddr::from((orders.host.v4, PORT));
    let who = format!("URI={}", front.id);
    for (host, who) in [(&front.host, who.as_str()), (&stranger, "")] {
        let mut stream = host.connect(to).await.unwrap();
        let forged = "GET /orders/7 HTTP/1.1\r\nHost: orders\r\n\
                      X-Forwarded-Client-Cert: URI=spiffe://dev.example/ns/shop/sa/admin\r\n\r\n";
        assert!(exchange(&mut stream, forged).await.starts_with("HTTP/1.1 200 "));
        let answered = exchange(&mut stream, &get("/orders/internal")).await;
        assert!(answered.starts_with("HTTP/1.1 403 "), "{answered}");
        assert!(answered.contains("nullius-reason: intention-refused"), "{answered}");
        let heard = std::mem::take(&mut *asked.lock().unwrap());
        assert_eq!(heard, [format!("GET /orders/7 {who}")], "nobody says who called but the proxy");
        drop(stream);
        for bytes in &ambiguous() {
            let mut stream = host.connect(to).await.unwrap();
            let behind = "0\r\n\r\nGET /orders/smuggled HTTP/1.1\r\nHost: orders\r\n\r\n";
            let answered = exchange(&mut stream, &format!("{bytes}{behind}")).await;
            assert!(answered.starts_with("HTTP/1.1 400 "), "{bytes}: {answered}");
        }
        let heard = std::mem::take(&mut *asked.lock().unwrap());
        assert!(heard.iter().all(|it| it.starts_with("GET /orders/smuggled ")), "{heard:?}");
    }
    let line = orders
        .line(|line| line["method"] == "GET" && line["wire"] == "plain" && line["status"] == 403)
        .await;
    assert_eq!(line["client"].as_str().unwrap().split(':').next(), Some("10.77.0.7"), "{line}");
    // What is no HTTP at all, and what pretends to come from elsewhere.
    for garbage in [
        &b"PROXY TCP4 10.77.0.6 10.77.0.5 1 8080\r\nGET /orders HTTP/1.1\r\nHost: orders\r\n\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x4d\0\x06\x0a\x4d\0\x05\0\x01\x1f\x90GET /orders HTTP/1.1\r\nHost: orders\r\n\r\n",
        b"\x16\x03\x01\0\x05\x02\0\0\0\0GET /orders HTTP/1.1\r\nHost: orders\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
    ] {
        let answer = said(&stranger, to, garbage).await.unwrap_or_default();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(asked.lock().unwrap().is_empty());
    // A port that is said to be no HTTP has no requests that could be judged.
    orders.tell(|facts| {
        facts.here.ports.insert(PORT, nullius_mesh::PortProtocol::Tcp);
    });
    is_refused(&stranger, to).await;
    orders.reason("not-http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_in_many_pieces_is_one_and_another_is_the_applications() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let orders = node.pod("orders").await;
    let outside = node.host();
    let shown = || node.domain.svid(&node.domain.id("shop", "front"));
    let application = echo(&orders.host, PORT).await;
    let to = SocketAddr::from((orders.host.v4, PORT));
    orders.allow(json!([{ "serviceAccount": "front", "action": "allow" }]));
    // A hello with hybrid key exchange, byte by byte.
    let config = foreign(Some(shown()), &[b"nullius"]);
    let name = rustls_pki_types::ServerName::IpAddress(to.ip().into());
    let mut tls = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    assert!(hello.len() > 1_300, "{}", hello.len());
    let mut stream = outside.connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in &hello {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = vec![0; 16 * 1024];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
    tls.read_tls(&mut &answer[..read]).unwrap();
    tls.process_new_packets().unwrap();
    drop(stream);
    // The application's own TLS goes to it as it came, and counts as no proof.
    for protocols in [&[][..], &[&b"h2"[..]], &[b"http/1.1"], &[b"istio-peer-exchange", b"istio"]] {
        let config = foreign(Some(shown()), protocols);
        let failed = outside.run(async move { crate::world::connect(&config, to).await.map(drop) });
        failed.await.unwrap_err();
    }
    orders.line(|line| line["reason"] == "unauthenticated" && line["wire"] == "plain").await;
    assert_eq!(application.count(), 0);
    orders.intend(permissive());
    let config = foreign(None, &[b"h2"]);
    let name = rustls_pki_types::ServerName::IpAddress(to.ip().into());
    let mut tls = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    let mut stream = outside.connect(to).await.unwrap();
    ping(&mut stream, &hello).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hellos_that_never_end_take_a_place_each_and_no_more() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let orders = node.pod("orders").await;
    orders.allow(json!([{ "serviceAccount": "front", "action": "allow" }]));
    let (outside, other) = (node.host(), node.host());
    let to = SocketAddr::from((orders.host.v4, PORT));
    let slow = outside.run(async move {
        let mut all = JoinSet::new();
        for _ in 0..1_100 {
            all.spawn(async move {
                let mut stream = TcpStream::connect(to).await?;
                stream.write_all(b"\x16\x03\x01\x20").await?;
                let mut bytes = [0; 1];
                // Some are turned away at once, the others when their time is over.
                let read = tokio::time::timeout(4 * PATIENCE, stream.read(&mut bytes));
                read.await.expect("it ends")
            });
        }
        all.join_all().await
    });
    let heard = async {
        // As soon as one is turned away all places of that address are taken; others are heard.
        orders.reason("overloaded").await;
        let shown = node.domain.svid(&node.domain.id("shop", "front"));
        let config = foreign(Some(shown), &[b"nullius"]);
        let _application = echo(&orders.host, PORT).await;
        let stream = other.run(async move { crate::world::connect(&config, to).await }).await;
        let mut stream = stream.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        let read = stream.read_exact(&mut back);
        tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
    };
    let (slow, ()) = tokio::join!(slow, heard);
    assert!(slow.iter().all(|ended| ended.is_err() || matches!(ended, Ok(0))));
    orders.reason("handshake-timeout").await;
    let text = std::fs::read_to_string(&orders.log).unwrap();
    let count = |reason: &str| text.lines().filter(|line| line.contains(reason)).count();
    assert!(count("\"overloaded\"") >= 1_100 - 256, "{}", count("\"overloaded\""));
    assert!(count("\"handshake-timeout\"") <= 256);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_where_it_is_not_known_who_has_the_address() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (front, orders) = (node.pod("front").await, node.pod("orders").await);
    front.knows(&[&orders]);
    orders.allow(json!([{ "serviceAccount": "front", "action": "allow" }]));
    let _orders = echo(&orders.host, PORT).await;
    let thief = node.host();
    let stolen = echo(&thief, PORT).await;
    let to = SocketAddr::from((thief.v4, PORT));
    let mut plain = front.host.connect(to).await.unwrap();
    ping(&mut plain, b"hello").await.unwrap();
    // It says to have the address of a pod of the mesh: what is open in the clear is cut, and nothing new is sent.
    front.tell(|facts| facts.directory.tell(thief.v4, Claim::Many, Instant::now()));
    read_end(&mut plain).await.expect_err("it is cut");
    front.line(|line| line["cutBecause"] == "unclear").await;
    is_refused(&front.host, to).await;
    let line = front.reason("unclear").await;
    assert_eq!((&line["verdict"], &line["address"]), (&"denied".into(), &to.to_string().into()));
    assert_eq!(line.get("wire"), None, "{line}");
    // A pod of the mesh had the address until now.
    let now = Instant::now();
    front.tell(|facts| {
        facts.directory.put_pod(thief.v4, orders.id.clone());
        facts.directory.tell(thief.v4, Claim::Nobody, now);
    });
    is_refused(&front.host, to).await;
    // Of a Service the other endpoints are called.
    let service = SocketAddr::from(([10, 96, 0, 7], 80));
    let good = SocketAddr::from((orders.host.v4, PORT));
    let lead = |endpoints: Vec<SocketAddr>| {
        front.tell(|facts| facts.directory.put_service(service, "shop/orders".into(), endpoints));
    };
    lead(vec![to, good]);
    for _ in 0..8 {
        let mut stream = front.host.connect(service).await.unwrap();
        ping(&mut stream, b"hello").await.unwrap();
    }
    lead(vec![to]);
    is_refused(&front.host, service).await;
    front.line(|line| line["reason"] == "unclear" && line["service"] == "shop/orders").await;
    assert_eq!(stolen.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_denied_by_its_identity_does_not_shed_it() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (orders, caller) = (node.pod("orders").await, node.host());
    let application = echo(&orders.host, PORT).await;
    orders.allow(json!([
        { "serviceAccount": "front", "action": "deny" },
        { "ipBlock": "10.0.0.0/8", "action": "allow" },
    ]));
    let to = SocketAddr::from((orders.host.v4, PORT));
    let mut live = caller.connect(to).await.unwrap();
    ping(&mut live, b"hello").await.unwrap();
    let front = node.domain.id("shop", "front");
    orders.tell(|facts| facts.directory.put_pod(caller.v4, front));
    read_end(&mut live).await.expect_err("it is cut");
    orders.line(|line| line["cutBecause"] == "must-prove").await;
    is_refused(&caller, to).await;
    let line = orders.reason("must-prove").await;
    assert_eq!((&line["verdict"], &line["wire"]), (&"denied".into(), &"plain".into()));
    // Nor where everything is let pass, or two say to have the address.
    orders.intend(permissive());
    is_refused(&caller, to).await;
    orders.tell(|facts| facts.directory.tell(caller.v4, Claim::Many, Instant::now()));
    is_refused(&caller, to).await;
    assert_eq!(application.count(), 1);
    orders.tell(|facts| facts.directory.tell(caller.v4, Claim::Nobody, Instant::now()));
    let mut stream = caller.connect(to).await.unwrap();
    ping(&mut stream, b"hello").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_keep_neither_the_kubelet_nor_pods_of_the_mesh_away() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (orders, front) = (node.pod("orders").await, node.pod("front").await);
    front.knows(&[&orders]);
    orders.knows(&[&front]);
    orders.allow(json!([{ "serviceAccount": "front", "action": "allow" }]));
    orders.tell(|facts| facts.here.probe_ports = [8081].into());
    let (_application, _probed) = (echo(&orders.host, PORT).await, echo(&orders.host, 8081).await);
    let to = SocketAddr::from((orders.host.v4, PORT));
    let mut silent = Vec::new();
    let strangers = [node.host(), node.host(), node.host(), node.host()];
    for stranger in &strangers {
        let all = stranger.run(async move {
            let mut all = Vec::new();
            for _ in 0..300 {
                all.push(TcpStream::connect(to).await);
            }
            all
        });
        silent.push(all.await);
    }
    // All places of strangers are taken, whoever comes next of them; others are served at once.
    let begun = Instant::now();
    orders.line(|it| is_of(it, &strangers[3]) && it["reason"] == "overloaded").await;
    let mut probe = node.host.connect((orders.host.v4, 8081)).await.unwrap();
    ping(&mut probe, b"alive?").await.unwrap();
    let mut call = front.host.connect(to).await.unwrap();
    ping(&mut call, b"hello").await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "while the silent ones are there");
}

fn is_of(line: &Json, host: &Host) -> bool {
    line["client"].as_str().is_some_and(|client| client.starts_with(&format!("{}:", host.v4)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_calls_without_end_is_turned_away_and_recovers() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (front, outside) = (node.pod("front").await, node.host());
    front.tell(|_| {});
    let application = echo(&outside, PORT).await;
    let to = SocketAddr::from((outside.v4, PORT));
    // It listens, and never accepts: once its queue is full, it answers nobody.
    let full = SocketAddr::from((outside.v4, 9));
    let _listener = outside
        .run(async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(full).unwrap();
            socket.listen(1).unwrap()
        })
        .await;
    let flood = front.host.run(async move {
        let mut all = Vec::new();
        for _ in 0..1_200 {
            all.push(TcpStream::connect(full).await);
        }
        all
    });
    let flood = flood.await;
    front.reason("overloaded").await;
    drop(flood);
    // Each of those had its time, and then there is room again.
    let served = async {
        loop {
            if said_plain(&front.host, to).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(4 * PATIENCE, served).await.expect("there is room again");
    assert!(application.count() >= 1);
}

async fn said_plain(host: &Host, to: SocketAddr) -> std::io::Result<()> {
    let mut stream = host.connect(to).await?;
    ping(&mut stream, b"hello").await
}
