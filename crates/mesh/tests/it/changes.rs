//! What is decided anew while a connection lives.

use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::{
    requests::{exchange, get, http},
    world::{Application, Domain, Running, Workload, ping, read_end},
};

const FRONT: &str = "{namespace: shop, serviceAccount: front, action: allow}";
/// What the design promises.
const WITHIN: Duration = Duration::from_secs(1);

struct Pair {
    domain: Domain,
    front: Workload,
    orders: Workload,
    inbound: Running,
    outbound: Running,
}

async fn pair(wire: &str, application: &Application) -> Pair {
    let domain = Domain::new("dev.example");
    let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
    orders.allow(FRONT);
    let inbound = orders.serve("127.0.0.2", wire, application.address).await;
    let front = Workload::new(&domain, "shop", "front", &[&domain]);
    let outbound = front.call(wire, inbound.at("in"), inbound.at("in"), &orders.id).await;
    Pair { domain, front, orders, inbound, outbound }
}

impl Pair {
    async fn dial(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.outbound.at("out")).await.unwrap();
        ping(&mut stream, b"alive").await.unwrap();
        stream
    }
}

/// A new call; one that is refused may end before it has begun.
async fn calls(outbound: &Running) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(outbound.at("out")).await?;
    ping(&mut stream, b"call").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_ends_what_lives_by_it() {
    for wire in ["hbone", "tls"] {
        let application = Application::echo().await;
        let pair = pair(wire, &application).await;
        let mut stream = pair.dial().await;
        // A change that leaves the right leaves the connection.
        pair.orders.allow(&format!("{FRONT}, {{namespace: other, action: deny}}"));
        let changed = Instant::now();
        pair.orders.allow("{namespace: other, action: allow}");
        let broke = read_end(&mut stream).await.unwrap_err();
        let took = changed.elapsed();
        assert_eq!(broke.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(took < WITHIN, "{wire}: {took:?}");
        let line = pair.inbound.line(|line| line["end"] == "cut").await;
        assert_eq!(
            (&line["verdict"], &line["cutBecause"]),
            (&"allowed".into(), &"no-intention".into())
        );
        assert_eq!(line["bytesToDestination"], 5);
        // It comes back with the right.
        pair.orders.allow(FRONT);
        tokio::time::timeout(crate::world::PATIENCE, async {
            loop {
                if calls(&pair.outbound).await.is_ok() {
                    return;
                }
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_quiet_in_one_direction_is_cut_as_well() {
    let application = Application::echo().await;
    let pair = pair("hbone", &application).await;
    let mut stream = pair.dial().await;
    pair.orders.put("intentions/own.yaml", "# nothing is allowed\n");
    assert!(read_end(&mut stream).await.is_err());
    pair.inbound.line(|line| line["cutBecause"] == "no-intention").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_stands_no_more_behind_a_peer_ends_what_lives_by_it() {
    for wire in ["hbone", "tls"] {
        let application = Application::echo().await;
        let twin = Domain::new("dev.example");
        // At the destination.
        let first = pair(wire, &application).await;
        let mut stream = first.dial().await;
        first.orders.put_bundle(&twin);
        assert!(read_end(&mut stream).await.is_err());
        first.inbound.line(|line| line["cutBecause"] == "no-longer-proven").await;
        assert!(calls(&first.outbound).await.is_err());
        first.inbound.reason("svid-refused").await;
        // At the source.
        let second = pair(wire, &application).await;
        let mut stream = second.dial().await;
        second.front.put_bundle(&twin);
        assert!(read_end(&mut stream).await.is_err());
        second.outbound.line(|line| line["cutBecause"] == "no-longer-proven").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_let_pass_ends_when_that_ends() {
    let application = Application::echo().await;
    let domain = Domain::new("dev.example");
    let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    orders.put(
        "intentions/own.yaml",
        &format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {{name: own, namespace: shop}}\nspec:\n  \
             destination: {{serviceAccount: orders}}\n  permissive: {{until: '{end}'}}\n"
        ),
    );
    let inbound = orders.serve("127.0.0.2", "hbone", application.address).await;
    let front = Workload::new(&domain, "shop", "front", &[&domain]);
    let outbound = front.call("hbone", inbound.at("in"), inbound.at("in"), &orders.id).await;
    let mut stream = TcpStream::connect(outbound.at("out")).await.unwrap();
    ping(&mut stream, b"alive").await.unwrap();
    assert!(read_end(&mut stream).await.is_err());
    assert!(jiff::Timestamp::now() >= end, "not before its end");
    let line = inbound.line(|line| line["end"] == "cut").await;
    assert_eq!(
        (&line["reason"], &line["cutBecause"]),
        (&"permissive".into(), &"no-intention".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_told_to_end_lets_what_is_open_end() {
    let application = Application::echo().await;
    let Pair { domain: _domain, front: _front, orders: _orders, inbound, outbound } =
        pair("hbone", &application).await;
    let mut stream = TcpStream::connect(outbound.at("out")).await.unwrap();
    ping(&mut stream, b"alive").await.unwrap();
    let (ended, log) = inbound.stop();
    ping(&mut stream, b"still").await.unwrap();
    drop(stream);
    tokio::time::timeout(crate::world::PATIENCE, ended).await.unwrap().unwrap();
    let line = crate::world::wait_line(&log, |line| line["end"] == "closed").await;
    assert_eq!(line["bytesToSource"], 10);
}

#[tokio::test]
async fn what_is_only_let_pass_ends_for_requests_on_an_open_connection_too() {
    let (application, _) = http().await;
    let domain = Domain::new("dev.example");
    let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    // What is counted is read, so that the connection goes on and each request is asked about.
    orders.put(
        "intentions/own.yaml",
        &format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: Intention\nmetadata: {{name: own, namespace: shop}}\nspec:\n  \
             destination: {{serviceAccount: orders}}\n  permissive: {{until: '{end}'}}\n  \
             limits: [{{requestsPerSecond: 1000, burst: 10000}}]\n"
        ),
    );
    let inbound = orders
        .start(&format!(
            "listeners:\n- {{name: in, listen: '127.0.0.2:0', forward: '{}', protocol: http}}\n",
            application.address
        ))
        .await;
    let front = Workload::new(&domain, "shop", "front", &[&domain]);
    let outbound = front.call("hbone", inbound.at("in"), inbound.at("in"), &orders.id).await;
    let mut stream = TcpStream::connect(outbound.at("out")).await.unwrap();
    let first = exchange(&mut stream, &get("/orders/1")).await;
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    let refused = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let answer = exchange(&mut stream, &get("/orders/1")).await;
            if !answer.starts_with("HTTP/1.1 200 ") {
                break answer;
            }
            assert!(jiff::Timestamp::now() < end + jiff::SignedDuration::from_secs(1), "{answer}");
        }
    });
    let refused = refused.await.unwrap();
    assert!(jiff::Timestamp::now() >= end, "not before its end");
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
}
