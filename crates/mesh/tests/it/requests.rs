//! Requests that are judged one by one.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::world::{Application, Domain, PATIENCE, Running, Workload, ping};

/// What `shop/front` may send to `shop/orders`.
const PERMISSIONS: &str = "{serviceAccount: front, permissions: [\
    {action: deny, paths: [{prefix: /orders/internal}]}, \
    {action: allow, methods: [GET], paths: [{prefix: /orders}]}, \
    {action: allow, methods: [POST], paths: [{exact: /orders}]}, \
    {action: allow, paths: [{exact: /events}]}]}";

type Body = BoxBody<Bytes, Infallible>;

/// An HTTP application, which tells what it was asked.
pub(crate) async fn http() -> (Application, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    (Application::new(serves(Arc::clone(&asked))).await, asked)
}

/// Answers requests, and tells what it was asked.
pub(crate) fn serves(
    seen: Arc<Mutex<Vec<String>>>,
) -> impl Fn(TcpStream) -> BoxFuture<'static, ()> {
    move |stream| {
        let seen = Arc::clone(&seen);
        let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
        let serving = async move {
            // Whoever asked may be gone.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        };
        serving.boxed()
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Body>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().unwrap().to_string();
    let client = parts.headers.get_all("x-forwarded-client-cert").iter();
    let client: Vec<_> = client.map(|value| value.to_str().unwrap().to_owned()).collect();
    seen.lock().unwrap().push(format!("{} {target} {}", parts.method, client.join(" and ")));
    if target == "/events" || target == "/feed" {
        // One piece, and then nothing for as long as somebody listens.
        let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]);
        let stream = first.chain(futures::stream::pending());
        let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream)));
        if target == "/feed" {
            let kind = http::HeaderValue::from_static("text/event-stream; charset=utf-8");
            response.headers_mut().insert("content-type", kind);
        }
        return Ok(response);
    }
    let sent = body.collect().await?;
    if let Some(trailers) = sent.trailers() {
        seen.lock().unwrap().push(format!("{trailers:?}"));
    }
    let sent = sent.to_bytes();
    let text = [target.as_bytes(), b" ", &sent].concat();
    let trailers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("0"),
    )]);
    let frames = [Ok(Frame::data(Bytes::from(text))), Ok(Frame::trailers(trailers))];
    let response = Response::builder().header("trailer", "grpc-status");
    let body = BodyExt::boxed(StreamBody::new(futures::stream::iter(frames)));
    Ok(response.body(body).unwrap())
}

pub(crate) struct Pair {
    front: Workload,
    orders: Workload,
    inbound: Running,
    outbound: Running,
    application: Application,
    asked: Arc<Mutex<Vec<String>>>,
}

pub(crate) async fn pair(wire: &str) -> Pair {
    let (application, asked) = http().await;
    Pair { asked, ..pair_for(wire, application).await }
}

async fn pair_for(wire: &str, application: Application) -> Pair {
    let asked = Arc::default();
    let domain = Domain::new("dev.example");
    let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
    orders.allow(PERMISSIONS);
    let inbound = orders
        .start(&format!(
            "listeners:\n- {{name: in, listen: '127.0.0.2:0', wire: [{wire}], forward: '{}', protocol: http}}\n",
            application.address
        ))
        .await;
    let front = Workload::new(&domain, "shop", "front", &[&domain]);
    let outbound = front.call(wire, inbound.at("in"), inbound.at("in"), &orders.id).await;
    Pair { front, orders, inbound, outbound, application, asked }
}

impl Pair {
    pub(crate) async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.outbound.at("out")).await.unwrap()
    }

    /// Waits until a request is denied.
    async fn denies(&self, target: &str) {
        let denied = async {
            loop {
                let mut stream = self.dial().await;
                if exchange(&mut stream, &get(target)).await.starts_with("HTTP/1.1 403 ") {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, denied).await.unwrap();
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// Sends bytes and reads until an answer's head is there, and what follows it by its length.
pub(crate) async fn exchange(stream: &mut TcpStream, bytes: &str) -> String {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            });
            let is_whole = match length {
                Some(length) => body.len() >= length,
                None => body.contains("\r\n0\r\n"),
            };
            if is_whole {
                return text;
            }
        }
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut all)).await.unwrap();
        if read.unwrap_or(0) == 0 {
            return String::from_utf8_lossy(&all).into_owned();
        }
    }
}

pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: orders.shop\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_of_a_connection_is_decided_for_itself() {
    for wire in ["hbone", "tls"] {
        let pair = pair(wire).await;
        let mut stream = pair.dial().await;
        let answered = exchange(&mut stream, &get("/orders/7?x=%2f")).await;
        assert!(
            answered.starts_with("HTTP/1.1 200 ") && answered.contains("/orders/7?x=%2f "),
            "{answered}"
        );
        let answered = exchange(&mut stream, &get("/orders/internal/x")).await;
        assert!(answered.starts_with("HTTP/1.1 403 "), "{answered}");
        assert!(answered.contains("nullius-reason: intention-refused"), "{answered}");
        let answered = exchange(&mut stream, &get("/admin")).await;
        assert!(answered.contains("nullius-reason: no-permission"), "{answered}");
        let post = "POST /orders HTTP/1.1\r\nHost: orders\r\nContent-Length: 3\r\n\r\nnew";
        let answered = exchange(&mut stream, post).await;
        assert!(answered.contains("/orders new"), "{answered}");
        let who = format!("URI={}", pair.front.id);
        assert_eq!(
            pair.asked(),
            [format!("GET /orders/7?x=%2f {who}"), format!("POST /orders {who}")]
        );
        assert_eq!(pair.application.count(), 1, "one connection for all of them");
        for (path, verdict, reason, status) in [
            ("/orders/7", "allowed", "intention-matched", 200),
            ("/orders/internal/x", "denied", "intention-refused", 403),
            ("/admin", "denied", "no-permission", 403),
        ] {
            let line = pair.inbound.line(|line| line["path"] == path).await;
            assert_eq!(
                (&line["verdict"], &line["reason"]),
                (&verdict.into(), &reason.into()),
                "{line}"
            );
            assert_eq!(
                (&line["status"], &line["method"]),
                (&status.into(), &"GET".into()),
                "{line}"
            );
            assert_eq!(line["source"], pair.front.id.as_str());
        }
        let line = pair.inbound.line(|line| line["method"] == "POST").await;
        assert_eq!(
            (&line["bytesToDestination"], &line["end"]),
            (&3.into(), &"closed".into()),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_inside_keeps_streams_and_trailers_apart() {
    for wire in ["hbone", "tls"] {
        let pair = pair(wire).await;
        let (sender, connection) = h2::client::handshake(pair.dial().await).await.unwrap();
        tokio::spawn(connection);
        let ask = async |method: &str, path: &str, body: &'static str| {
            let mut sender = sender.clone().ready().await.unwrap();
            let request = Request::builder().method(method).uri(format!("http://orders{path}"));
            let (response, mut send) =
                sender.send_request(request.body(()).unwrap(), false).unwrap();
            // Whoever is refused need not hear it.
            let _ = send.send_data(body.into(), true);
            let mut response = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
            let mut all = Vec::new();
            while let Some(piece) = response.body_mut().data().await {
                all.extend_from_slice(&piece.unwrap());
            }
            let trailers = response.body_mut().trailers().await.unwrap();
            (response.status().as_u16(), String::from_utf8(all).unwrap(), trailers)
        };
        let (allowed, denied, posted) = tokio::join!(
            ask("GET", "/orders/a", ""),
            ask("GET", "/orders/internal", ""),
            ask("POST", "/orders", "body")
        );
        assert_eq!((allowed.0, allowed.1.as_str()), (200, "/orders/a "));
        assert_eq!(allowed.2.unwrap()["grpc-status"], "0");
        assert_eq!((denied.0, denied.1.as_str()), (403, "intention-refused\n"));
        assert_eq!((posted.0, posted.1.as_str()), (200, "/orders body"));
        assert_eq!(pair.asked().len(), 2);
    }
}

/// Requests that two servers could read in two ways.
pub(crate) fn ambiguous() -> Vec<String> {
    let request = |line: &str, rest: &str| format!("{line} HTTP/1.1\r\nHost: orders\r\n{rest}\r\n");
    let targets = [
        "/orders/../admin",
        "/orders/%2e%2e/admin",
        "//orders",
        "/orders//x",
        "/orders/.",
        "/orders;x=y",
        "/orders/%2fx",
        "/orders/%5cx",
        "/orders\\x",
        "/orders/%00",
        "/orders/%252e",
        "/orders/%zz",
        "/orders#x",
        "http://orders/orders",
        "*",
        "/orders/%ff",
    ];
    let mut sent: Vec<String> =
        targets.iter().map(|target| request(&format!("GET {target}"), "")).collect();
    for rest in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Host: other\r\n",
        "Authorization: a\r\nAuthorization: b\r\n",
        "X: a\r\n b\r\n",
        "X: a\nY: b\r\n",
        "X : a\r\n",
        "Connection: authorization\r\nAuthorization: a\r\n",
    ] {
        sent.push(request("GET /orders", rest));
    }
    sent.push("GET /orders HTTP/1.1\r\n\r\n".to_owned());
    sent.push("CONNECT orders:80 HTTP/1.1\r\nHost: orders\r\n\r\n".to_owned());
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_servers_could_read_in_two_ways_is_400_and_reaches_nobody() {
    let pair = pair("hbone").await;
    for bytes in &ambiguous() {
        let mut stream = pair.dial().await;
        // What follows would be another request for somebody who sees another end.
        let answered = exchange(
            &mut stream,
            &format!("{bytes}0\r\n\r\nGET /orders/smuggled HTTP/1.1\r\nHost: orders\r\n\r\n"),
        )
        .await;
        assert!(answered.starts_with("HTTP/1.1 400 "), "{bytes}: {answered}");
        let asked = pair.asked();
        assert!(
            !asked.iter().any(|it| !it.starts_with("GET /orders/smuggled ")),
            "{bytes}: {asked:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_says_who_called_but_the_proxy() {
    let pair = pair("hbone").await;
    let mut stream = pair.dial().await;
    let forged = "GET /orders HTTP/1.1\r\nHost: orders\r\nX-Forwarded-Client-Cert: URI=spiffe://dev.example/ns/shop/sa/admin\r\n\
                  x-forwarded-client-cert: more\r\n\r\n";
    exchange(&mut stream, forged).await;
    assert_eq!(pair.asked(), [format!("GET /orders URI={}", pair.front.id)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_behind_a_body_were_not_judged_and_reach_nobody() {
    let pair = pair("hbone").await;
    let mut stream = pair.dial().await;
    let post = "POST /orders HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\nTrailer: x-role\r\n\r\n\
                3\r\nnew\r\n0\r\nX-Role: admin\r\n\r\n";
    let answered = exchange(&mut stream, post).await;
    assert!(answered.contains("/orders new"), "{answered}");
    let (sender, connection) = h2::client::handshake(pair.dial().await).await.unwrap();
    tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let request = Request::post("http://orders/orders").body(()).unwrap();
    let (response, mut send) = sender.send_request(request, false).unwrap();
    send.send_data("new".into(), false).unwrap();
    let name = http::HeaderName::from_static("x-role");
    let trailers = http::HeaderMap::from_iter([(name, http::HeaderValue::from_static("admin"))]);
    send.send_trailers(trailers).unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap().status(), 200);
    assert_eq!(
        pair.asked(),
        [
            format!("POST /orders URI={}", pair.front.id),
            format!("POST /orders URI={}", pair.front.id)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_lasts_is_cut_when_its_right_ends_and_others_go_on() {
    for wire in ["hbone", "tls"] {
        let pair = pair(wire).await;
        let mut events = pair.dial().await;
        events.write_all(get("/events").as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"first\r\n") {
            assert_ne!(events.read_buf(&mut head).await.unwrap(), 0);
        }
        let mut other = pair.dial().await;
        exchange(&mut other, &get("/orders/1")).await;
        let changed = Instant::now();
        pair.orders.allow(
            "{serviceAccount: front, permissions: [{action: allow, paths: [{prefix: /orders}]}]}",
        );
        let mut rest = Vec::new();
        // No last chunk: what was cut must not look whole.
        let _ =
            tokio::time::timeout(PATIENCE, events.read_to_end(&mut rest)).await.expect("it ends");
        assert_eq!(rest, b"", "{wire}");
        assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
        let line = pair.inbound.line(|line| line["path"] == "/events").await;
        assert_eq!(
            (&line["end"], &line["cutBecause"]),
            (&"cut".into(), &"no-permission".into()),
            "{line}"
        );
        let answered = exchange(&mut other, &get("/orders/2")).await;
        assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
        // The new rules decide on the old connection.
        let answered = exchange(
            &mut other,
            "POST /orders HTTP/1.1\r\nHost: orders\r\nContent-Length: 1\r\n\r\nx",
        )
        .await;
        assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
        // Without any rule nothing is left of it.
        pair.orders.allow("{serviceAccount: nobody, action: allow}");
        let mut rest = Vec::new();
        let _ =
            tokio::time::timeout(PATIENCE, other.read_to_end(&mut rest)).await.expect("it ends");
        pair.inbound
            .line(|line| line["reason"] == "requests" && line["cutBecause"] == "no-intention")
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_denials_allows_nothing() {
    let pair = pair("hbone").await;
    pair.orders
        .allow("{serviceAccount: front, permissions: [{action: deny, paths: [{prefix: /admin}]}]}");
    pair.denies("/orders").await;
    for target in ["/", "/orders", "/admin", "/x"] {
        let mut stream = pair.dial().await;
        let answered = exchange(&mut stream, &get(target)).await;
        assert!(answered.starts_with("HTTP/1.1 403 "), "{target}: {answered}");
    }
}

/// An application that switches to a WebSocket, whose bytes it gives back.
pub(crate) async fn websocket() -> Application {
    Application::new(|mut stream| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        assert!(head.contains("sec-websocket-key: abc\r\n"), "{head}");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        let (mut read, mut write) = stream.split();
        if tokio::io::copy(&mut read, &mut write).await.is_ok() {
            let _ = write.shutdown().await;
        }
    })
    .await
}

pub(crate) fn upgrade(target: &str, protocol: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Key: abc\r\n\r\n"
    )
}

/// Reads a head alone.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap();
        head.push(byte.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_lives_as_long_as_its_request_would_be_allowed() {
    for wire in ["hbone", "tls"] {
        let application = websocket().await;
        let pair = pair_for(wire, application).await;
        let mut stream = pair.dial().await;
        stream.write_all(upgrade("/orders/live", "websocket").as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("sec-websocket-accept: x\r\n"), "{head}");
        ping(&mut stream, b"frames of any kind").await.unwrap();
        // A change that leaves the right leaves the connection.
        pair.orders.allow("{serviceAccount: front, permissions: [{action: allow, paths: [{prefix: /orders/live}]}]}");
        pair.denies("/orders/1").await;
        ping(&mut stream, b"goes on").await.unwrap();
        let changed = Instant::now();
        pair.orders.allow(
            "{serviceAccount: front, permissions: [{action: allow, paths: [{exact: /other}]}]}",
        );
        let mut rest = Vec::new();
        let _ =
            tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it ends");
        assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
        let line = pair.inbound.line(|line| line["path"] == "/orders/live").await;
        assert_eq!(
            (&line["status"], &line["cutBecause"]),
            (&101.into(), &"no-permission".into()),
            "{line}"
        );
        assert_eq!(line["bytesToSource"], 25, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_as_it_ends() {
    let pair = pair_for("hbone", websocket().await).await;
    let mut stream = pair.dial().await;
    stream.write_all(upgrade("/orders/live", "WebSocket").as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    stream.write_all(b"last").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(crate::world::read_end(&mut stream).await.unwrap(), b"last");
    let line = pair.inbound.line(|line| line["path"] == "/orders/live").await;
    assert_eq!(line["end"], "closed", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_sent_all_and_ends_its_side_is_answered() {
    for wire in ["hbone", "tls"] {
        let pair = pair(wire).await;
        for (request, answer) in [
            ("GET /orders/half HTTP/1.0\r\nHost: orders\r\n\r\n", "/orders/half "),
            (
                "POST /orders HTTP/1.1\r\nHost: orders\r\nContent-Length: 4\r\n\r\nhalf",
                "/orders half",
            ),
        ] {
            let mut stream = pair.dial().await;
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let answered = crate::world::read_end(&mut stream).await.unwrap();
            let answered = String::from_utf8(answered).unwrap();
            assert!(answered.contains(" 200 OK\r\n"), "{wire}: {answered}");
            assert!(answered.contains(answer), "{wire}: {answered}");
        }
        let line = pair.inbound.line(|line| line["path"] == "/orders/half").await;
        assert_eq!((&line["status"], &line["end"]), (&200.into(), &"closed".into()), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_upgrade_is_refused_by_name_and_a_websocket_that_is_denied_is_none() {
    for wire in ["hbone", "tls"] {
        let pair = pair(wire).await;
        for (target, protocol, status, reason) in [
            ("/orders", "h2c", "501", "upgrade"),
            ("/orders", "websocket, h2c", "501", "upgrade"),
            ("/admin", "websocket", "403", "no-permission"),
        ] {
            let mut stream = pair.dial().await;
            let smuggled = get("/orders/smuggled");
            let answered =
                exchange(&mut stream, &format!("{}{smuggled}", upgrade(target, protocol))).await;
            assert!(
                answered.starts_with(&format!("HTTP/1.1 {status} ")),
                "{wire} {protocol}: {answered}"
            );
            assert!(answered.contains(&format!("nullius-reason: {reason}\r\n")), "{answered}");
        }
        assert_eq!(pair.asked(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_closed_meanwhile_is_reached_anew() {
    let count = Arc::new(AtomicUsize::new(0));
    let served = Arc::clone(&count);
    let application = Application::new(move |mut stream| {
        let served = Arc::clone(&served);
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            served.fetch_add(1, Ordering::SeqCst);
            // It says nothing of closing.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    })
    .await;
    let domain = Domain::new("dev.example");
    let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
    orders.allow(PERMISSIONS);
    let inbound = orders
        .start(&format!(
            "listeners:\n- {{name: in, listen: '127.0.0.2:0', forward: '{}', protocol: http}}\n",
            application.address
        ))
        .await;
    let front = Workload::new(&domain, "shop", "front", &[&domain]);
    let outbound = front.call("hbone", inbound.at("in"), inbound.at("in"), &orders.id).await;
    let mut stream = TcpStream::connect(outbound.at("out")).await.unwrap();
    for turn in 1..=3 {
        let answered = exchange(&mut stream, &get("/orders")).await;
        assert!(answered.starts_with("HTTP/1.1 200 "), "{turn}: {answered}");
        inbound.line(|line| line["path"] == "/orders").await;
    }
    assert_eq!(count.load(Ordering::SeqCst), 3);
}
