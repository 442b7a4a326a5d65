//! Calls that are allowed: what passes, how it ends, and what is told of it.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::world::{Application, Domain, Running, Tunnel, Workload, ping, read_end};

const FRONT: &str = "{namespace: shop, serviceAccount: front, action: allow}";

/// `shop/front` calls `shop/orders`, over a wire.
struct Pair {
    domain: Domain,
    front: Workload,
    orders: Workload,
    inbound: Running,
    outbound: Running,
    relay: Application,
}

async fn pair(wire: &str, application: &Application) -> Pair {
    let domain = Domain::new("dev.example");
    let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
    orders.allow(FRONT);
    let inbound = orders.serve("127.0.0.2", wire, application.address).await;
    let relay = Application::relay(inbound.at("in")).await;
    let front = Workload::new(&domain, "shop", "front", &[&domain]);
    let outbound = front.call(wire, inbound.at("in"), relay.address, &orders.id).await;
    Pair { domain, front, orders, inbound, outbound, relay }
}

impl Pair {
    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.outbound.at("out")).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_passes_in_both_directions_and_is_told_on_both_sides() {
    for wire in ["hbone", "tls"] {
        let application = Application::echo().await;
        let pair = pair(wire, &application).await;
        let mut stream = pair.dial().await;
        ping(&mut stream, b"hello").await.unwrap();
        // More than all windows and buffers.
        let bulk: Vec<u8> = (0..24_u32 << 20).map(|at| (at % 251) as u8).collect();
        let (mut read, mut write) = stream.into_split();
        let sent = bulk.clone();
        let writer = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
            write
        });
        let mut back = Vec::new();
        read.read_to_end(&mut back).await.unwrap();
        assert!(back == bulk, "{wire}: {} of {} bytes", back.len(), bulk.len());
        drop(writer.await.unwrap());
        for (running, direction) in [(&pair.outbound, "outbound"), (&pair.inbound, "inbound")] {
            let line = running.reason("intention-matched").await;
            assert_eq!(line["direction"], direction);
            assert_eq!(line["wire"], wire);
            assert_eq!(line["source"], pair.front.id.as_str());
            assert_eq!(line["destination"], pair.orders.id.as_str());
            assert_eq!(line["verdict"], "allowed");
            assert_eq!(line["end"], "closed", "{line}");
            assert_eq!(line["bytesToDestination"], bulk.len() + 5, "{line}");
            assert_eq!(line["bytesToSource"], bulk.len() + 5, "{line}");
        }
        let rule = pair.inbound.reason("intention-matched").await["rule"].clone();
        assert!(rule.as_str().unwrap().starts_with("Intention shop/own sources[0]"), "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_first_and_a_client_that_never_does() {
    for wire in ["hbone", "tls"] {
        let application = Application::new(|mut stream| async move {
            stream.write_all(b"220 ready\r\n").await.unwrap();
        })
        .await;
        let pair = pair(wire, &application).await;
        let mut stream = pair.dial().await;
        assert_eq!(read_end(&mut stream).await.unwrap(), b"220 ready\r\n", "{wire}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_direction_ends_by_itself() {
    for wire in ["hbone", "tls"] {
        // The client ends first and then hears everything.
        let application = Application::new(|mut stream| async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            all.reverse();
            stream.write_all(&all).await.unwrap();
        })
        .await;
        let first = pair(wire, &application).await;
        let mut stream = first.dial().await;
        stream.write_all(b"abc").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(read_end(&mut stream).await.unwrap(), b"cba", "{wire}");
        // The server ends first and then hears everything.
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let application = Application::new(move |mut stream| {
            let tell = tell.clone();
            async move {
                stream.shutdown().await.unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                tell.send(all).unwrap();
            }
        })
        .await;
        let second = pair(wire, &application).await;
        let mut stream = second.dial().await;
        assert_eq!(read_end(&mut stream).await.unwrap(), b"");
        stream.write_all(b"last words").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(told.recv().await.unwrap(), b"last words", "{wire}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_on_one_side_does_not_look_whole_on_the_other() {
    for wire in ["hbone", "tls"] {
        let application = Application::new(|mut stream| async move {
            stream.write_all(b"half of it").await.unwrap();
            let mut first = [0; 1];
            stream.read_exact(&mut first).await.unwrap();
            stream.set_zero_linger().unwrap();
        })
        .await;
        let pair = pair(wire, &application).await;
        let mut stream = pair.dial().await;
        let mut half = [0; 10];
        stream.read_exact(&mut half).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let broke = read_end(&mut stream).await.unwrap_err();
        assert_eq!(broke.kind(), std::io::ErrorKind::ConnectionReset, "{wire}");
        pair.inbound.line(|line| line["end"] == "local-broke").await;
        pair.outbound.line(|line| line["end"] == "mesh-broke").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dial_serves_a_hundred_calls_and_no_more() {
    let application = Application::echo().await;
    let pair = pair("hbone", &application).await;
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let to = pair.outbound.at("out");
        all.spawn(async move {
            let mut stream = TcpStream::connect(to).await.unwrap();
            ping(&mut stream, b"here").await.unwrap();
            stream
        });
    }
    let mut open = all.join_all().await;
    assert_eq!(pair.relay.count(), 1, "one dial for all who came at once");
    assert_eq!(application.count(), 100);
    let mut more = pair.dial().await;
    ping(&mut more, b"one more").await.unwrap();
    assert_eq!(pair.relay.count(), 2);
    for stream in &mut open {
        ping(stream, b"still").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_broke_meanwhile_is_dialled_anew() {
    let application = Application::echo().await;
    let domain = Domain::new("dev.example");
    let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
    orders.allow(FRONT);
    let inbound = orders.serve("127.0.0.2", "hbone", application.address).await;
    let to = inbound.at("in");
    let (cut, _) = tokio::sync::broadcast::channel::<()>(1);
    let sender = cut.clone();
    let (tell, mut was_cut) = tokio::sync::mpsc::unbounded_channel();
    let relay = Application::new(move |mut stream| {
        let mut cut = sender.subscribe();
        let tell = tell.clone();
        async move {
            let mut other = TcpStream::connect(to).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut stream, &mut other) => {}
                _ = cut.recv() => {}
            }
            drop((stream, other));
            // Nobody may care by now.
            let _ = tell.send(());
        }
    })
    .await;
    let front = Workload::new(&domain, "shop", "front", &[&domain]);
    let outbound = front.call("hbone", to, relay.address, &orders.id).await;
    let mut first = TcpStream::connect(outbound.at("out")).await.unwrap();
    ping(&mut first, b"one").await.unwrap();
    cut.send(()).unwrap();
    was_cut.recv().await.unwrap();
    let mut second = TcpStream::connect(outbound.at("out")).await.unwrap();
    ping(&mut second, b"two").await.unwrap();
    assert!(read_end(&mut first).await.is_err(), "what was cut off does not look whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_svid_takes_new_calls_and_leaves_old_ones_alone() {
    let application = Application::echo().await;
    let pair = pair("hbone", &application).await;
    let mut old = pair.dial().await;
    ping(&mut old, b"before").await.unwrap();
    for (workload, dials) in [(&pair.front, 2), (&pair.orders, 3)] {
        workload.put_svid(&pair.domain);
        // Sooner or later a new call finds a new tunnel; until then it is of the old.
        tokio::time::timeout(crate::world::PATIENCE, async {
            while pair.relay.count() < dials {
                let mut new = pair.dial().await;
                ping(&mut new, b"new").await.unwrap();
            }
        })
        .await
        .unwrap();
        ping(&mut old, b"still").await.unwrap();
    }
    drop(old);
    let line = pair.inbound.line(|line| line["bytesToSource"] == 16).await;
    assert_eq!(line["end"], "closed", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_istio_proxy_is_a_caller_like_others() {
    let application = Application::echo().await;
    let domain = Domain::new("dev.example");
    let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
    orders.allow(FRONT);
    let inbound = orders
        .start(&format!(
            "listeners:\n- name: in\n  listen: 127.0.0.2:0\n  wire: [istio]\n  ports:\n  \
             - {{port: 8080, forward: '{}', protocol: tcp}}\n",
            application.address
        ))
        .await;
    let front = domain.svid(&domain.id("shop", "front"));
    let tunnel = Tunnel::open(front, b"h2", inbound.at("in")).await;
    let (response, mut send) = tunnel.connect("127.0.0.2:8080").await.unwrap();
    assert_eq!(response.status(), 200);
    send.send_data("hello".into(), true).unwrap();
    let mut body = response.into_body();
    let mut back = Vec::new();
    while let Some(piece) = body.data().await {
        back.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(back, b"hello");
    let line = inbound.reason("intention-matched").await;
    assert_eq!((&line["wire"], &line["address"]), (&"istio".into(), &"127.0.0.2:8080".into()));
    for other in ["127.0.0.2:8081", "127.0.0.2:15008", "127.0.0.1:8080"] {
        let (response, _) = tunnel.connect(other).await.unwrap();
        assert_eq!(response.status(), 403, "{other}");
    }
    // Our own side speaks to it as well.
    let caller = Workload::new(&domain, "shop", "front", &[&domain]);
    let to = "127.0.0.2:8080".parse().unwrap();
    let outbound = caller.call("istio", to, inbound.at("in"), &orders.id).await;
    let mut stream = TcpStream::connect(outbound.at("out")).await.unwrap();
    ping(&mut stream, b"again").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_slow_does_not_stop_the_others_of_its_tunnel() {
    let application = Application::echo().await;
    let pair = pair("hbone", &application).await;
    let mut slow = pair.dial().await;
    // It sends and never reads, in small pieces, until nobody takes any more of it.
    let piece = [7; 64];
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(500), slow.write_all(&piece)).await
    {
        written.unwrap();
    }
    let mut quick = pair.dial().await;
    ping(&mut quick, b"passes").await.unwrap();
    assert_eq!(pair.relay.count(), 1);
    slow.set_zero_linger().unwrap();
    drop(slow);
    ping(&mut quick, b"still").await.unwrap();
}
