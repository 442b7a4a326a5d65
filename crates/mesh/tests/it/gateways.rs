//! Calls between two trust domains with a gateway in between, which can be neither of the two.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use http::{Method, Request};
use nullius_mesh::{
    AccessLog, AccessLogTo, Exported, Exports, GatewayParts, Neighbours, Seen, Serving, Via, World,
};
use nullius_model::SpiffeId;
use nullius_telemetry::Metrics;
use nullius_tls::WorkloadTls;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::pods::{Host, Node, can_run};
use crate::world::{
    Application, Domain, PATIENCE, Running, Tunnel, Workload, connect, foreign, ping, read_end,
};

const SERVICE: &str = "ledger.bank.svc.clusterset.local:8443";
const FRONT: &str =
    "{trustDomain: shop.example, namespace: shop, serviceAccount: front, action: allow}";
const ALPN: &[u8] = b"nullius-gateway";
/// What the design promises.
const WITHIN: Duration = Duration::from_secs(1);

/// `bank/ledger` of one trust domain behind a gateway there, and `shop/front` of another.
struct Two {
    shop: Domain,
    bank: Domain,
    ledger: Workload,
    inbound: Running,
    application: Application,
    gateway: Workload,
    running: Running,
    front: Workload,
}

impl Two {
    async fn new() -> Self {
        let (shop, bank) = (Domain::new("shop.example"), Domain::new("bank.example"));
        let ledger = Workload::new(&bank, "bank", "ledger", &[&bank, &shop]);
        ledger.allow(FRONT);
        let application = Application::echo().await;
        let inbound = ledger.serve("127.0.0.2", "tls", application.address).await;
        let gateway = Workload::new(&bank, "nullius-system", "nullius-gateway", &[&bank, &shop]);
        let running = gateway.start(&leads(&[inbound.at("in")])).await;
        let front = Workload::new(&shop, "shop", "front", &[&shop, &bank]);
        Self { shop, bank, ledger, inbound, application, gateway, running, front }
    }

    fn at(&self) -> SocketAddr {
        self.running.at("gateway")
    }

    /// Whoever calls the ledger through these gateways.
    async fn call(&self, who: &Workload, gateways: &[SocketAddr]) -> Running {
        calls(who, gateways, &self.gateway.id, &self.ledger.id).await
    }
}

/// A gateway's configuration that leads the Service to these.
fn leads(endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|at| format!("'{at}'")).collect();
    format!(
        "gateway:\n  listen: 127.0.0.1:0\n  trustDomains: [shop.example]\n  exports:\n  - service: {SERVICE}\n    endpoints: [{}]\n",
        endpoints.join(", ")
    )
}

async fn calls(
    who: &Workload,
    gateways: &[SocketAddr],
    gateway: &SpiffeId,
    expect: &SpiffeId,
) -> Running {
    let gateways: Vec<String> = gateways.iter().map(|at| format!("'{at}'")).collect();
    who.start(&format!(
        "upstreams:\n- name: out\n  listen: '127.0.0.1:0'\n  service: {SERVICE}\n  via: {{gateways: [{}], expect: ['{gateway}']}}\n  expect: ['{expect}']\n",
        gateways.join(", ")
    ))
    .await
}

/// What comes back for some bytes; a refusal may come before they are sent.
async fn said(outbound: &Running, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(outbound.at("out")).await?;
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    read_end(&mut stream).await
}

async fn wait(what: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !what().await {
        assert!(Instant::now() < deadline, "it does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_through_with_the_identities_of_its_two_ends() {
    let two = Two::new().await;
    let out = two.call(&two.front, &[two.at()]).await;
    for _ in 0..3 {
        // One direction ends by itself, and the other one goes on.
        assert_eq!(said(&out, b"an order").await.unwrap(), b"an order");
    }
    let line = out.reason("through-gateway").await;
    assert_eq!((&line["verdict"], &line["wire"]), (&"allowed".into(), &"gateway".into()));
    assert_eq!(line["gateway"], two.gateway.id.as_str());
    assert_eq!(line["address"], two.at().to_string());
    assert_eq!((&line["service"], &line["end"]), (&SERVICE.into(), &"closed".into()));
    assert_eq!(line["destination"], two.ledger.id.as_str());
    let line = two.running.reason("exported").await;
    assert_eq!((&line["verdict"], &line["wire"]), (&"allowed".into(), &"gateway".into()));
    assert_eq!((&line["direction"], &line["name"]), (&"inbound".into(), &"gateway".into()));
    assert_eq!(line["source"], two.front.id.as_str());
    assert_eq!(line["address"], two.inbound.at("in").to_string());
    assert_eq!((&line["service"], &line["end"]), (&SERVICE.into(), &"closed".into()));
    let line = two.inbound.reason("intention-matched").await;
    assert_eq!(line["source"], two.front.id.as_str(), "of the caller, not of the gateway");
    assert_eq!(line["bytesToDestination"], 8);
    assert_eq!(two.application.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_judged_at_the_destination_whatever_lies_between() {
    let two = Two::new().await;
    let (application, asked) = crate::requests::http().await;
    let web = Workload::new(&two.bank, "bank", "web", &[&two.bank, &two.shop]);
    web.allow("{trustDomain: shop.example, namespace: shop, serviceAccount: front, permissions: [{action: allow, methods: [GET]}]}");
    let forward = application.address;
    let inbound = web
        .start(&format!(
            "listeners:\n- {{name: in, listen: '127.0.0.3:0', wire: [tls, hbone], forward: '{forward}', protocol: http}}\n"
        ))
        .await;
    let gateway = two.gateway.start(&leads(&[inbound.at("in")])).await;
    let out = calls(&two.front, &[gateway.at("gateway")], &two.gateway.id, &web.id).await;
    for (method, status) in [("GET", "200"), ("POST", "403")] {
        let text = format!(
            "{method} /ledger HTTP/1.1\r\nHost: ledger\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let mut stream = TcpStream::connect(out.at("out")).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let answer = String::from_utf8(read_end(&mut stream).await.unwrap()).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_destination_denies_whom_it_does_not_know_and_the_gateway_itself() {
    let two = Two::new().await;
    let back = Workload::new(&two.shop, "shop", "back", &[&two.shop, &two.bank]);
    let out = two.call(&back, &[two.at()]).await;
    assert!(said(&out, b"an order").await.is_err());
    let line = two.inbound.reason("no-intention").await;
    assert_eq!(line["source"], back.id.as_str());
    // What the gateway could say in its own name is nothing to the destination, and another name it has not.
    let to = two.inbound.at("in");
    let own = two.gateway.call("tls", to, to, &two.ledger.id).await;
    assert!(said(&own, b"an order").await.is_err());
    two.inbound.line(|line| line["source"] == two.gateway.id.as_str()).await;
    assert_eq!(two.application.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_leads_to_somebody_else_leads_to_nobody() {
    let two = Two::new().await;
    let thief = Workload::new(&two.bank, "bank", "thief", &[&two.bank, &two.shop]);
    thief.allow(FRONT);
    let inbound = thief.serve("127.0.0.4", "tls", two.application.address).await;
    let gateway = two.gateway.start(&leads(&[inbound.at("in")])).await;
    let out = two.call(&two.front, &[gateway.at("gateway")]).await;
    assert!(said(&out, b"a secret").await.is_err());
    let line = out.reason("unexpected-server").await;
    assert!(line["detail"].as_str().unwrap().contains("/ns/bank/sa/thief"), "{line}");
    // Not even who called.
    let line = inbound.reason("handshake-failed").await;
    assert_eq!(line.get("source"), None, "{line}");
    // Nor does it hear anything that answers by itself.
    let plain = two.gateway.start(&leads(&[two.application.address])).await;
    let out = two.call(&two.front, &[plain.at("gateway")]).await;
    assert!(said(&out, b"a secret").await.is_err());
    out.reason("handshake-failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_says_to_be_a_gateway_hears_nothing() {
    let two = Two::new().await;
    let rogue = Workload::new(&two.bank, "bank", "rogue", &[&two.bank, &two.shop]);
    let running = rogue.start(&leads(&[two.inbound.at("in")])).await;
    let out = two.call(&two.front, &[running.at("gateway")]).await;
    assert!(said(&out, b"an order").await.is_err());
    let line = out.reason("unexpected-server").await;
    assert!(line["detail"].as_str().unwrap().contains("/ns/bank/sa/rogue"), "{line}");
    // One with the right name, of an authority that nobody believes.
    let twin = Domain::new("bank.example");
    let rogue = Workload::new(&twin, "nullius-system", "nullius-gateway", &[&twin, &two.shop]);
    let running = rogue.start(&leads(&[two.inbound.at("in")])).await;
    let out = two.call(&two.front, &[running.at("gateway")]).await;
    assert!(said(&out, b"an order").await.is_err());
    out.reason("svid-refused").await;
    assert_eq!(two.application.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_but_workloads_of_the_trust_domains_that_are_named() {
    let two = Two::new().await;
    // Of the gateway's own, which it believes and is not for.
    let own = Workload::new(&two.bank, "bank", "other", &[&two.bank]);
    let out = two.call(&own, &[two.at()]).await;
    assert!(said(&out, b"an order").await.is_err());
    let line = two.running.reason("not-federated").await;
    assert_eq!((&line["verdict"], &line["source"]), (&"denied".into(), &own.id.as_str().into()));
    // Of a stranger's, and of one who has the name of a friend.
    for stranger in [Domain::new("far.example"), Domain::new("shop.example")] {
        let who = Workload::new(&stranger, "shop", "front", &[&stranger, &two.bank]);
        let out = two.call(&who, &[two.at()]).await;
        assert!(said(&out, b"an order").await.is_err());
    }
    let refused =
        |line: &serde_json::Value| line["reason"] == "svid-refused" && line.get("source").is_none();
    two.running.line(refused).await;
    // Nobody without an SVID, and nobody who speaks something else.
    for (shown, alpn) in [
        (None, ALPN),
        (Some(two.shop.svid(&two.front.id)), &b"nullius-hbone"[..]),
        (Some(two.shop.svid(&two.front.id)), &b"h2"[..]),
    ] {
        if let Ok(mut stream) = connect(&foreign(shown, &[alpn]), two.at()).await {
            let mut bytes = Vec::new();
            let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes);
            read.await.expect_err("it is refused");
        }
    }
    two.running.reason("no-protocol").await;
    assert_eq!(two.application.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_leads_to_what_is_exported_and_to_no_address() {
    let two = Two::new().await;
    let tunnel = Tunnel::open(two.shop.svid(&two.front.id), ALPN, two.at()).await;
    let application = two.application.address;
    let pod = two.inbound.at("in");
    for authority in [
        application.to_string(),
        pod.to_string(),
        "127.0.0.1:80".to_owned(),
        "[::1]:80".to_owned(),
        "0.0.0.0:80".to_owned(),
        "169.254.169.254:80".to_owned(),
        "[fd00:ec2::254]:80".to_owned(),
        "10.96.0.1:443".to_owned(),
        "localhost:8443".to_owned(),
        "kubernetes.default.svc.cluster.local:443".to_owned(),
        "ledger.bank.svc.cluster.local:8443".to_owned(),
        "Ledger.bank.svc.clusterset.local:8443".to_owned(),
        "x.ledger.bank.svc.clusterset.local:8443".to_owned(),
        "user@ledger.bank.svc.clusterset.local:8443".to_owned(),
        "ledger.bank.svc.clusterset.local:08443".to_owned(),
    ] {
        let (response, _) = tunnel.connect(&authority).await.unwrap();
        assert_eq!(response.status(), 400, "{authority}");
        assert_eq!(response.headers()["nullius-reason"], "bad-connect");
    }
    for authority in [
        "ledger.bank.svc.clusterset.local:8080",
        "vault.bank.svc.clusterset.local:8443",
        "ledger.shop.svc.clusterset.local:8443",
        "kubernetes.default.svc.clusterset.local:443",
    ] {
        let (response, _) = tunnel.connect(authority).await.unwrap();
        assert_eq!(response.status(), 403, "{authority}");
        assert_eq!(response.headers()["nullius-reason"], "not-exported");
    }
    for odd in [
        Request::builder().method(Method::CONNECT).uri(SERVICE).header("host", "10.0.0.7:80"),
        Request::builder().method(Method::CONNECT).uri(SERVICE).header("content-length", "3"),
        Request::builder().method(Method::GET).uri(format!("http://{SERVICE}/")),
    ] {
        let (response, _) = tunnel.send(odd, b"").await.unwrap();
        assert_eq!(response.status(), 400);
    }
    let line = two.running.reason("not-exported").await;
    assert_eq!((&line["verdict"], line.get("service")), (&"denied".into(), None));
    assert_eq!(line["detail"], "ledger.bank.svc.clusterset.local:8080");
    assert_eq!(two.application.count(), 0, "nobody heard of any of it");
    // What is exported is led to, by the same tunnel.
    let asked = Request::builder().method(Method::CONNECT).uri(SERVICE);
    let (response, _) = tunnel.send(asked, client_hello(&[b"nullius"])).await.unwrap();
    assert_eq!(response.status(), 200);
}

/// How a TLS client begins that asks for these protocols.
fn client_hello(protocols: &[&[u8]]) -> &'static [u8] {
    let name = rustls_pki_types::ServerName::try_from("ledger.example").unwrap();
    let mut client = rustls::ClientConnection::new(foreign(None, protocols), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes.leak()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_through_a_gateway_but_the_mutual_tls_of_the_mesh() {
    let two = Two::new().await;
    // One that would answer anybody.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = two.gateway.start(&leads(&[plain.local_addr().unwrap()])).await;
    let tunnel = Tunnel::open(two.shop.svid(&two.front.id), ALPN, gateway.at("gateway")).await;
    let ask = async |early| {
        let asked = Request::builder().method(Method::CONNECT).uri(SERVICE);
        tunnel.send(asked, early).await.unwrap()
    };
    let good = client_hello(&[b"nullius"]);
    let (head, rest) = good.split_at(5);
    // A message of the handshake that is no hello.
    let other: &'static [u8] = [head, &[2], &rest[1..]].concat().leak();
    for bad in [
        &b"GET / HTTP/1.1\r\nHost: ledger\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"x",
        client_hello(&[]),
        client_hello(&[b"h2"]),
        client_hello(&[b"nullius-hbone"]),
        client_hello(&[b"nullius-gateway"]),
        client_hello(&[b"nullius", b"h2"]),
        other,
    ] {
        let (response, _) = ask(bad).await;
        assert_eq!(response.status(), 400, "{bad:?}");
        assert_eq!(response.headers()["nullius-reason"], "must-prove");
    }
    let line = gateway.reason("must-prove").await;
    assert_eq!((&line["verdict"], &line["service"]), (&"denied".into(), &SERVICE.into()));
    assert_eq!((&line["source"], line.get("address")), (&two.front.id.as_str().into(), None));
    // Who says nothing is not waited for long, and nobody is dialled meanwhile.
    let (response, _) = ask(head).await;
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["nullius-reason"], "handshake-timeout");
    // The first who comes to the endpoint is the first who may.
    let (response, _send) = ask(good).await;
    assert_eq!(response.status(), 200);
    let (mut come, _) = plain.accept().await.unwrap();
    let mut bytes = vec![0; good.len()];
    come.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, good, "what it has begun with is said first, and whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_answers_no_destination_keeps_nobody_else_from_it() {
    let two = Two::new().await;
    let idle = two.shop.id("shop", "idle");
    let hello = client_hello(&[b"nullius"]);
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        tunnels.push(Tunnel::open(two.shop.svid(&idle), ALPN, two.at()).await);
    }
    let ask = async |tunnel: &Tunnel| {
        let asked = Request::builder().method(Method::CONNECT).uri(SERVICE);
        tunnel.send(asked, hello).await.unwrap()
    };
    // As many as would fill what the destination has for one address.
    let asked = join_all(tunnels.iter().flat_map(|it| (0..100).map(move |_| it)).map(ask)).await;
    let (led, refused): (Vec<_>, Vec<_>) =
        asked.iter().partition(|(response, _)| response.status() == 200);
    assert_eq!((led.len(), refused.len()), (64, 236), "a quarter of what there is");
    for (response, _) in refused {
        assert_eq!(response.headers()["nullius-reason"], "overloaded");
    }
    let line = two.running.reason("overloaded").await;
    assert_eq!(line["source"], idle.as_str(), "it is known who it was");
    let out = two.call(&two.front, &[two.at()]).await;
    let all = join_all((0..40).map(|_| said(&out, b"an order"))).await;
    assert!(all.into_iter().all(|it| it.is_ok_and(|said| said == b"an order")));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_prove_nothing_keep_nobody_out() {
    let two = Two::new().await;
    let (mut silent, mut gone) = (Vec::new(), 0);
    for last in 11..=15 {
        for _ in 0..70 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, last], 0).into()).unwrap();
            match socket.connect(two.at()).await {
                Ok(stream) => silent.push(stream),
                // Who is turned away may hear of it as early.
                Err(_) => gone += 1,
            }
        }
    }
    two.running.line(|line| line["reason"] == "overloaded" && line.get("source").is_none()).await;
    let out = two.call(&two.front, &[two.at()]).await;
    assert_eq!(said(&out, b"an order").await.unwrap(), b"an order");
    // Of each address a few are still let in, and the others were turned away.
    for stream in &mut silent {
        let read = tokio::time::timeout(Duration::from_millis(1), stream.read_u8()).await;
        gone += usize::from(read.is_ok());
    }
    assert_eq!(gone, 5 * (70 - 64));
}

#[tokio::test(flavor = "multi_thread")]
async fn few_connections_of_a_guest_may_have_much_wait_in_a_gateway() {
    let two = Two::new().await;
    let mut rooms = Vec::new();
    let mut tunnels = Vec::new();
    for _ in 0..66 {
        let tunnel = Tunnel::open(two.shop.svid(&two.front.id), ALPN, two.at()).await;
        // Before an answer it is not known what there is.
        assert_eq!(tunnel.connect("nobody").await.unwrap().0.status(), 400);
        rooms.push(tunnel.room(SERVICE).await);
        tunnels.push(tunnel);
    }
    let (wide, narrow): (Vec<usize>, Vec<usize>) = rooms.iter().partition(|it| **it > 32 << 10);
    assert_eq!((wide.len(), narrow.len()), (64, 2), "{rooms:?}");
    assert!(rooms.ends_with(&narrow), "{rooms:?}");
}

/// An address that answers nobody, as that of a machine that is gone: it has no room for who comes.
fn silent() -> (socket2::Socket, Vec<std::net::TcpStream>, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let at = socket.local_addr().unwrap().as_socket().unwrap();
    let come = || std::net::TcpStream::connect_timeout(&at, Duration::from_millis(200)).ok();
    let full: Vec<_> = std::iter::from_fn(come).take(64).collect();
    assert!(full.len() < 64, "it is never full");
    (socket, full, at)
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_answer_nobody_cost_no_tunnel() {
    let two = Two::new().await;
    let away = [silent(), silent(), silent()];
    let away = away.each_ref().map(|(.., at)| *at);
    let [one, other, _] = away;
    let good = two.gateway.start(&leads(&[one, two.inbound.at("in"), other])).await;
    let out = two.call(&two.front, &[good.at("gateway")]).await;
    let all = join_all((0..6).map(|_| said(&out, b"an order"))).await;
    assert!(all.into_iter().all(|it| it.is_ok_and(|said| said == b"an order")));
    // The caller is told before it takes the tunnel for one that is dead.
    let none = two.gateway.start(&leads(&away)).await;
    let out = two.call(&two.front, &[none.at("gateway")]).await;
    assert!(said(&out, b"an order").await.is_err());
    let line = out.reason("application-unreachable").await;
    assert!(line["detail"].as_str().unwrap().contains("unreachable"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateway_or_endpoint_stands_in_for_one_that_is_away() {
    let two = Two::new().await;
    let gone = Application::echo().await;
    let away = gone.address;
    gone.end().await;
    let half = two.gateway.start(&leads(&[away, two.inbound.at("in")])).await;
    let out = two.call(&two.front, &[away, half.at("gateway")]).await;
    for _ in 0..10 {
        assert_eq!(said(&out, b"an order").await.unwrap(), b"an order");
    }
    let none = two.gateway.start(&leads(&[away])).await;
    let empty = two.gateway.start(&leads(&[])).await;
    let out = two.call(&two.front, &[none.at("gateway"), empty.at("gateway")]).await;
    assert!(said(&out, b"an order").await.is_err());
    out.reason("application-unreachable").await;
}

/// What a gateway goes by.
fn world(
    tls: &Arc<WorkloadTls>,
    partner: &str,
    routes: &[(&Exported, SocketAddr)],
) -> Option<Arc<World>> {
    let mut exports = Exports::new([partner]);
    routes.iter().for_each(|(of, to)| exports.put((*of).clone(), [*to]));
    let rules = nullius_intention::Intentions::default().rules_for(nullius_intention::Workload {
        namespace: "nullius-system".parse().unwrap(),
        service_account: "nullius-gateway".to_owned(),
        labels: Default::default(),
    });
    let (here, directory) = (Arc::default(), Arc::default());
    let world = World::new(0, Arc::clone(tls), Arc::new(rules), here, directory);
    Some(Arc::new(world.with_exports(Arc::new(exports))))
}

/// A gateway that is told by what it goes.
fn serving(listener: std::net::TcpListener, world: watch::Receiver<Option<Arc<World>>>) -> Serving {
    let log = AccessLog::open(&AccessLogTo::Off).unwrap().0;
    let seen = Seen::new(log, &Metrics::new()).workload("g", "gateway".into(), Neighbours::None);
    Serving::start(GatewayParts { name: "gateway".into(), world, listener, seen }).unwrap()
}

/// A call that has begun and lives.
async fn live(out: &Running) -> TcpStream {
    let mut stream = TcpStream::connect(out.at("out")).await.unwrap();
    ping(&mut stream, b"alive").await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lives_ends_with_the_intention_and_with_each_bundle() {
    let two = Two::new().await;
    let out = two.call(&two.front, &[two.at()]).await;
    let mut stream = live(&out).await;
    two.ledger.allow("{namespace: other, action: allow}");
    let changed = Instant::now();
    assert!(read_end(&mut stream).await.is_err(), "it is reset on the whole way");
    assert!(changed.elapsed() < WITHIN, "{:?}", changed.elapsed());
    two.inbound.line(|line| line["cutBecause"] == "no-intention").await;
    two.ledger.allow(FRONT);
    let again = async || said(&out, b"again").await.is_ok();
    wait(again).await;

    // A gateway's file says that something is exported no more, and later nothing that can be read.
    let text = two.gateway.configuration(&leads(&[two.inbound.at("in")]));
    let mut stream = live(&out).await;
    two.gateway.put("proxy.yaml", &text.replace("ledger.bank", "other.bank"));
    assert!(read_end(&mut stream).await.is_err());
    two.running.line(|line| line["cutBecause"] == "not-exported").await;
    two.gateway.put("proxy.yaml", &text);
    wait(again).await;
    let mut stream = live(&out).await;
    two.gateway.put("proxy.yaml", "gateway: nothing\n");
    two.gateway.put_svid(&two.bank);
    ping(&mut stream, b"still").await.unwrap();
    two.gateway.put("proxy.yaml", &text);

    // The gateway believes the caller's trust domain no more, or not that authority of it.
    let mut stream = live(&out).await;
    two.gateway.put_bundle(&Domain::new("shop.example"));
    assert!(read_end(&mut stream).await.is_err());
    two.running.line(|line| line["cutBecause"] == "no-longer-proven").await;
    two.gateway.put_bundle(&two.shop);
    wait(again).await;

    // The caller does not believe the other side any more.
    let mut stream = live(&out).await;
    two.front.put_bundle(&Domain::new("bank.example"));
    assert!(read_end(&mut stream).await.is_err());
    out.line(|line| line["cutBecause"] == "no-longer-proven").await;
    assert!(said(&out, b"never").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_no_more_is_cut_and_so_are_who_was_let_in() {
    let two = Two::new().await;
    let shown = two.bank.svid(&two.gateway.id);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(shown.key));
    let tls = WorkloadTls::new(shown.chain, key, [two.bank.bundle(), two.shop.bundle()]).unwrap();
    let tls = Arc::new(tls);
    let service: Exported = SERVICE.parse().unwrap();
    let other: Exported = "other.bank.svc.clusterset.local:80".parse().unwrap();
    let pod = two.inbound.at("in");
    let world = |partner: &str, routes: &[(&Exported, SocketAddr)]| world(&tls, partner, routes);
    let (told, view) = watch::channel(None);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let serving = serving(listener, view);
    let out = two.call(&two.front, &[at]).await;
    assert!(said(&out, b"early").await.is_err(), "nothing is known yet");

    let whole = world("shop.example", &[(&service, pod), (&other, pod)]);
    told.send_replace(whole.clone());
    let mut stream = live(&out).await;
    // What others export makes no difference, nor which pods are behind it: who is there ends in peace.
    told.send_replace(world("shop.example", &[(&service, two.application.address)]));
    ping(&mut stream, b"still").await.unwrap();
    told.send_replace(world("shop.example", &[(&other, pod)]));
    assert!(read_end(&mut stream).await.is_err());
    assert!(said(&out, b"later").await.is_err());
    out.reason("refused-by-destination").await;

    told.send_replace(whole.clone());
    let mut stream = live(&out).await;
    told.send_replace(world("far.example", &[(&service, pod)]));
    assert!(read_end(&mut stream).await.is_err());
    assert!(said(&out, b"later").await.is_err());

    told.send_replace(whole);
    let mut stream = live(&out).await;
    drop(serving);
    assert!(read_end(&mut stream).await.is_err());
}

/// A call that comes to nothing.
async fn is_refused(host: &Host, to: SocketAddr) {
    let Ok(mut stream) = host.connect(to).await else { return };
    assert!(ping(&mut stream, b"hello").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_know_nothing_of_it_call_and_are_called_through_a_gateway() {
    if !can_run() {
        return;
    }
    let node = Node::new();
    let (front, orders) = (node.pod("front").await, node.pod("orders").await);
    front.tell(|_| {});
    orders.allow(serde_json::json!([{ "serviceAccount": "front", "action": "allow" }]));
    let _application = orders
        .host
        .serve(8080, |mut stream| async move {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await;
    let id = node.domain.id("nullius-system", "nullius-gateway");
    let service = Exported::new("bank".parse().unwrap(), "ledger", 80).unwrap();
    let gate = node.host();
    let at: SocketAddr = (gate.v4, 15_443).into();
    let routes = [(&service, (orders.host.v4, 8080).into())];
    let (_told, view) = watch::channel(world(&node.tls(&id), "dev.example", &routes));
    let _serving =
        gate.run(async move { serving(std::net::TcpListener::bind(at).unwrap(), view) }).await;

    let called: SocketAddr = ([10, 96, 0, 1], 80).into();
    let via = |expect: &SpiffeId, gateways: Vec<SocketAddr>| Via {
        service: service.clone(),
        gateways,
        gateway_ids: [id.clone()].into(),
        expect: [expect.clone()].into(),
    };
    let import = |via: Via| {
        front.tell(|facts| facts.directory.put_import(called, "shop/ledger".into(), via));
    };
    import(via(&orders.id, vec![at]));
    let live = async || {
        let mut stream = front.host.connect(called).await.unwrap();
        ping(&mut stream, b"hello").await.unwrap();
        stream
    };
    let mut stream = live().await;
    // What is told of others makes no difference.
    front.tell(|facts| {
        facts.directory.put_service(([10, 96, 0, 2], 80).into(), "shop/other".into(), Vec::new());
    });
    import(via(&orders.id, vec![(gate.v6, 15_443).into(), at]));
    ping(&mut stream, b"still").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_end(&mut stream).await.unwrap(), b"");
    let line = front.reason("through-gateway").await;
    assert_eq!((&line["wire"], &line["service"]), (&"gateway".into(), &"shop/ledger".into()));
    assert_eq!((&line["gateway"], &line["end"]), (&id.as_str().into(), &"closed".into()));
    assert_eq!(line["destination"], orders.id.as_str());
    let line = orders.reason("intention-matched").await;
    assert_eq!((&line["wire"], &line["source"]), (&"tls".into(), &front.id.as_str().into()));
    assert_eq!(line["client"].as_str().unwrap().split(':').next(), Some(&*gate.v4.to_string()));

    // Somebody else is expected, another gateway leads there, nobody imports it any more.
    import(via(&orders.id, vec![at]));
    for change in [via(&front.id, vec![at]), via(&orders.id, vec![(gate.v6, 15_443).into()])] {
        let mut stream = live().await;
        import(change);
        assert!(read_end(&mut stream).await.is_err());
        front.line(|line| line["cutBecause"] == "other-pod").await;
        import(via(&orders.id, vec![at]));
    }
    let mut stream = live().await;
    front.tell(|facts| facts.directory.put_service(called, "shop/ledger".into(), Vec::new()));
    assert!(read_end(&mut stream).await.is_err());
    front.line(|line| line["cutBecause"] == "not-exported").await;
    is_refused(&front.host, called).await;
    // No gateway is this machine, or where clouds tell secrets.
    let odd = ["127.0.0.1:15443", "169.254.169.254:15443", "[::1]:15443", "0.0.0.0:15443"];
    import(via(&orders.id, odd.map(|it| it.parse().unwrap()).into()));
    is_refused(&front.host, called).await;
    front.reason("no-endpoint").await;
}
