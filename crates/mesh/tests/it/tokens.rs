//! Tokens beside identities: verified by the keys of their issuer, or as if they were not shown.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, crypto};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    requests::{exchange, http, read_head, upgrade, websocket},
    world::{Application, Domain, PATIENCE, Running, Workload, ping},
};

const ISSUER: &str = "https://login.example.org";
/// What `shop/front` may send to `shop/orders`, and whoever else there is without a token.
const PERMISSIONS: &str = "{serviceAccount: front, permissions: [\
    {action: allow, paths: [{exact: /open}]}, \
    {action: allow, paths: [{prefix: /}], jwt: {issuer: 'https://login.example.org', audiences: [orders], \
        claims: [{path: [scope], values: [write]}]}}]}, {serviceAccount: back, permissions: [{action: allow, paths: [{exact: /open}]}]}";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer of tokens.
struct Signs(EcdsaKeyPair);

impl Signs {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self, kid: &str) -> Json {
        let point = self.0.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": b64(&point[1..33]), "y": b64(&point[33..]) })
    }

    fn jwks(&self, kid: &str) -> String {
        json!({ "keys": [self.jwk(kid)] }).to_string()
    }

    fn sign(&self, header: &Json, claims: &Json) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature))
    }

    /// A token as the permission wants it.
    fn token(&self, kid: &str) -> String {
        self.sign(&json!({ "alg": "ES256", "kid": kid }), &claims())
    }
}

fn claims() -> Json {
    let now = Timestamp::now().as_second();
    json!({ "iss": ISSUER, "aud": ["orders", "bank"], "sub": "anna", "scope": "write", "iat": now, "exp": now + 600 })
}

fn with(name: &str, value: impl Into<Json>) -> Json {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

fn ask(target: &str, token: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: orders\r\nAuthorization: Bearer {token}\r\n\r\n")
}

struct Pair {
    orders: Workload,
    inbound: Running,
    outbound: Running,
    back: Running,
    asked: Arc<Mutex<Vec<String>>>,
    _application: Application,
}

/// With an issuer's entry as the proxy's file says it.
async fn pair_with(issuer: &str, files: &[(&str, &str)]) -> Pair {
    let (application, asked) = http().await;
    let domain = Domain::new("dev.example");
    let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
    orders.allow(PERMISSIONS);
    files.iter().for_each(|(name, text)| orders.put(name, text));
    let inbound = orders
        .start(&format!(
            "issuers:\n- {{issuer: '{ISSUER}', {issuer}}}\n\
             listeners:\n- {{name: in, listen: '127.0.0.2:0', forward: '{}', protocol: http}}\n",
            application.address
        ))
        .await;
    let call = async |account: &str| {
        let workload = Workload::new(&domain, "shop", account, &[&domain]);
        let running = workload.call("hbone", inbound.at("in"), inbound.at("in"), &orders.id).await;
        (workload, running)
    };
    let (_, outbound) = call("front").await;
    let (_, back) = call("back").await;
    Pair { orders, inbound, outbound, back, asked, _application: application }
}

async fn pair(signs: &Signs) -> Pair {
    pair_with("jwksFile: keys.json", &[("keys.json", &signs.jwks("one"))]).await
}

impl Pair {
    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.outbound.at("out")).await.unwrap()
    }

    async fn answer(&self, request: &str) -> String {
        exchange(&mut self.dial().await, request).await
    }

    /// A token that proves nothing is told to whoever sent it, and nothing reaches the application.
    async fn refuses(&self, token: &str, why: &str) {
        let answered = self.answer(&ask("/orders", token)).await;
        assert!(answered.starts_with("HTTP/1.1 403 "), "{answered}");
        assert!(answered.contains("nullius-reason: no-permission"), "{answered}");
        assert!(answered.contains(&format!("nullius-token: {why}\r\n")), "{why}: {answered}");
        self.inbound.line(|line| line["token"] == why && line["verdict"] == "denied").await;
        assert_eq!(self.asked(), [""; 0]);
    }

    async fn allows(&self, token: &str) {
        let answered = self.answer(&ask("/orders", token)).await;
        assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
        assert_eq!(self.asked().len(), 1);
    }

    /// Waits until a token opens something.
    async fn comes_to_allow(&self, token: &str) {
        let allowed = async {
            while !self.answer(&ask("/orders", token)).await.starts_with("HTTP/1.1 200 ") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, allowed).await.unwrap();
        self.asked();
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_a_permission_wants_it_for_and_only_beside_an_identity() {
    let signs = Signs::new();
    let pair = pair(&signs).await;
    let token = signs.token("one");
    pair.allows(&token).await;
    let none = pair.answer("GET /orders HTTP/1.1\r\nHost: orders\r\n\r\n").await;
    assert!(none.starts_with("HTTP/1.1 403 ") && !none.contains("nullius-token"), "{none}");
    let basic = "GET /orders HTTP/1.1\r\nHost: orders\r\nAuthorization: Basic YTpi\r\n\r\n";
    assert!(pair.answer(basic).await.starts_with("HTTP/1.1 403 "));
    // One connection, and each request for itself.
    let mut stream = pair.dial().await;
    for (request, status) in [
        (ask("/orders", &token), "200"),
        ("GET /open HTTP/1.1\r\nHost: orders\r\n\r\n".to_owned(), "200"),
        ("GET /orders HTTP/1.1\r\nHost: orders\r\n\r\n".to_owned(), "403"),
        (ask("/orders", &format!("{token}x")), "403"),
        (ask("/orders", &token), "200"),
    ] {
        let answered = exchange(&mut stream, &request).await;
        assert!(answered.starts_with(&format!("HTTP/1.1 {status} ")), "{answered}");
    }
    pair.asked();
    // The same token in the hands of another workload is worth nothing.
    let mut back = TcpStream::connect(pair.back.at("out")).await.unwrap();
    let stolen = exchange(&mut back, &ask("/orders", &token)).await;
    assert!(stolen.starts_with("HTTP/1.1 403 "), "{stolen}");
    assert_eq!(pair.asked(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_open_nothing() {
    let signs = Signs::new();
    let pair = pair(&signs).await;
    let header = json!({ "alg": "ES256", "kid": "one" });
    let joined =
        |header: &Json| format!("{}.{}", b64(header.to_string()), b64(claims().to_string()));
    pair.refuses(
        &format!("{}.", joined(&json!({ "alg": "none", "kid": "one" }))),
        "wrong-algorithm",
    )
    .await;
    let confused = joined(&json!({ "alg": "HS256", "kid": "one" }));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, signs.0.public_key().as_ref());
    let tag = hmac::sign(&secret, confused.as_bytes());
    pair.refuses(&format!("{confused}.{}", b64(tag)), "wrong-algorithm").await;
    let stranger = Signs::new();
    pair.refuses(&stranger.token("one"), "bad-signature").await;
    pair.refuses(&stranger.token("two"), "unknown-key").await;
    let mut own = header.clone();
    own["jku"] = json!("https://evil.example/keys");
    pair.refuses(&stranger.sign(&own, &claims()), "own-key").await;
    own = header.clone();
    own["jwk"] = stranger.jwk("one");
    pair.refuses(&stranger.sign(&own, &claims()), "own-key").await;
    let now = Timestamp::now().as_second();
    let mut endless = claims();
    endless.as_object_mut().unwrap().remove("exp");
    for (claims, why) in [
        (endless, "malformed"),
        (with("exp", now - 31), "expired"),
        (with("nbf", now + 90), "early"),
        (with("iss", "https://login.example.com"), "unknown-issuer"),
        (with("iss", Json::Null), "malformed"),
    ] {
        pair.refuses(&signs.sign(&header, &claims), why).await;
    }
    pair.allows(&signs.token("one")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_somebody_else_or_with_less_in_it_opens_nothing() {
    let signs = Signs::new();
    let pair = pair(&signs).await;
    let header = json!({ "alg": "ES256", "kid": "one" });
    for claims in [
        with("aud", "bank"),
        with("aud", json!([])),
        with("aud", "orders2"),
        with("scope", "read"),
        with("scope", json!({ "write": true })),
    ] {
        let answered = pair.answer(&ask("/orders", &signs.sign(&header, &claims))).await;
        assert!(answered.starts_with("HTTP/1.1 403 "), "{claims}: {answered}");
    }
    assert_eq!(pair.asked(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_authorizations_are_400_whichever_of_them_is_right() {
    let signs = Signs::new();
    let pair = pair(&signs).await;
    let (right, wrong) = (signs.token("one"), Signs::new().token("one"));
    for (first, second) in [(&right, &wrong), (&wrong, &right), (&right, &right)] {
        let twice = format!(
            "GET /orders HTTP/1.1\r\nHost: orders\r\nAuthorization: Bearer {first}\r\nauthorization: Bearer {second}\r\n\r\n"
        );
        let answered = pair.answer(&twice).await;
        assert!(answered.starts_with("HTTP/1.1 400 "), "{answered}");
    }
    let joined = ask("/orders", &format!("{right}, Bearer {right}"));
    assert!(pair.answer(&joined).await.starts_with("HTTP/1.1 403 "));
    assert_eq!(pair.asked(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_a_file_are_read_again_and_a_stream_ends_with_the_key_it_came_by() {
    let (old, new) = (Signs::new(), Signs::new());
    let pair = pair(&old).await;
    let mut feed = pair.dial().await;
    feed.write_all(ask("/feed", &old.token("one")).as_bytes()).await.unwrap();
    first(&mut feed).await;
    pair.asked();
    pair.orders.put("keys.json", "not json");
    pair.allows(&old.token("one")).await;
    pair.orders.put("keys.json", &new.jwks("two"));
    pair.comes_to_allow(&new.token("two")).await;
    ends(&mut feed).await;
    pair.refuses(&old.token("one"), "unknown-key").await;
}

/// Reads an answer until its first piece is there.
async fn first(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"first\r\n") {
        assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0, "{}", head.escape_ascii());
    }
}

async fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // With a reset or not, but without a last chunk.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it ends");
    assert_eq!(rest, b"");
}

/// A token that holds for about so many seconds more.
fn ending(signs: &Signs, seconds: i64) -> String {
    let claims = with("exp", Timestamp::now().as_second() - 30 + seconds);
    signs.sign(&json!({ "alg": "ES256", "kid": "one" }), &claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token_and_a_plain_answer_when_it_has_become_one() {
    let signs = Signs::new();
    let pair = pair(&signs).await;
    let token = ending(&signs, 3);
    let begun = Instant::now();
    let (mut plain, mut feed) = (pair.dial().await, pair.dial().await);
    plain.write_all(ask("/events", &token).as_bytes()).await.unwrap();
    feed.write_all(ask("/feed", &token).as_bytes()).await.unwrap();
    first(&mut plain).await;
    first(&mut feed).await;
    // gRPC says so in its request.
    let io = TokioIo::new(pair.dial().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let call = http::Request::post("http://orders/events")
        .header("content-type", "application/grpc+proto")
        .header("authorization", format!("Bearer {token}"))
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let mut call = sender.send_request(call).await.unwrap();
    assert_eq!(call.status(), 200);
    assert!(call.frame().await.unwrap().is_ok());
    ends(&mut feed).await;
    let rest = tokio::time::timeout(PATIENCE, call.frame()).await.unwrap();
    assert!(rest.is_some_and(|rest| rest.is_err()), "it is cut, not ended");
    let lasted = begun.elapsed();
    assert!(lasted > Duration::from_secs(1) && lasted < Duration::from_secs(6), "{lasted:?}");
    for path in ["/feed", "/events"] {
        pair.inbound
            .line(|line| line["path"] == path && line["cutBecause"] == "no-permission")
            .await;
    }
    pair.refuses_new(&token).await;
    let still = tokio::time::timeout(Duration::from_millis(1_500), plain.read_u8()).await;
    assert!(still.is_err(), "the plain answer goes on: {still:?}");
    // Who calls says what it is called: what lasts is a stream.
    let mut rest = Vec::new();
    let rest = tokio::time::timeout(Duration::from_secs(40), plain.read_to_end(&mut rest));
    let _ = rest.await.expect("it is cut");
    let lasted = begun.elapsed();
    assert!(lasted >= Duration::from_secs(29) && lasted < Duration::from_secs(35), "{lasted:?}");
}

impl Pair {
    async fn refuses_new(&self, token: &str) {
        let answered = self.answer(&ask("/orders", token)).await;
        assert!(answered.contains("nullius-token: expired\r\n"), "{answered}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_ends_with_its_token() {
    let signs = Signs::new();
    let domain = Domain::new("dev.example");
    let application = websocket().await;
    let orders = Workload::new(&domain, "shop", "orders", &[&domain]);
    orders.allow(PERMISSIONS);
    orders.put("keys.json", &signs.jwks("one"));
    let inbound = orders
        .start(&format!(
            "issuers:\n- {{issuer: '{ISSUER}', jwksFile: keys.json}}\n\
             listeners:\n- {{name: in, listen: '127.0.0.2:0', forward: '{}', protocol: http}}\n",
            application.address
        ))
        .await;
    let front = Workload::new(&domain, "shop", "front", &[&domain]);
    let outbound = front.call("hbone", inbound.at("in"), inbound.at("in"), &orders.id).await;
    let switch = |token: &str| {
        let head = upgrade("/live", "websocket");
        head.replacen("\r\n\r\n", &format!("\r\nAuthorization: Bearer {token}\r\n\r\n"), 1)
    };
    let mut long = TcpStream::connect(outbound.at("out")).await.unwrap();
    long.write_all(switch(&signs.token("one")).as_bytes()).await.unwrap();
    assert!(read_head(&mut long).await.starts_with("HTTP/1.1 101 "));
    let mut short = TcpStream::connect(outbound.at("out")).await.unwrap();
    short.write_all(switch(&ending(&signs, 3)).as_bytes()).await.unwrap();
    assert!(read_head(&mut short).await.starts_with("HTTP/1.1 101 "));
    ping(&mut short, b"before").await.unwrap();
    ends(&mut short).await;
    ping(&mut long, b"goes on").await.unwrap();
}

/// A server of keys: it answers what it is told to, or hangs up.
struct KeyServer {
    url: String,
    authority: String,
    answer: Arc<Mutex<Option<String>>>,
    asked: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KeyServer {
    async fn new(answer: Option<String>) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let authority = certificate.pem();
        let chain = vec![certificate.der().clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/keys", socket.local_addr().unwrap());
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(Mutex::new(0)));
        let (told, count) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = socket.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                let Some(text) = told.lock().unwrap().clone() else { continue };
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let _ = stream.write_all(text.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { url, authority, answer, asked, task }
    }

    fn answers(&self, answer: Option<String>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }

    async fn pair(&self) -> Pair {
        let entry = format!("jwksUrl: '{}', caFile: ca.pem", self.url);
        pair_with(&entry, &[("ca.pem", &self.authority)]).await
    }
}

fn ok(body: &str) -> Option<String> {
    Some(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\r\n{body}",
        body.len()
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_away_keeps_the_keys_that_are_known_and_gets_no_others() {
    let (old, new) = (Signs::new(), Signs::new());
    let server = KeyServer::new(ok(&old.jwks("one"))).await;
    let pair = server.pair().await;
    pair.comes_to_allow(&old.token("one")).await;
    server.answers(None);
    // A key that nobody knows is asked for, and proves nothing until it is there; what is known goes on.
    pair.refuses(&new.token("two"), "unknown-key").await;
    let before = server.asked();
    pair.allows(&old.token("one")).await;
    let deadline = Instant::now() + PATIENCE;
    while server.asked() == before {
        assert!(Instant::now() < deadline, "an unknown key is asked for");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pair.refuses(&new.token("two"), "unknown-key").await;
    pair.allows(&old.token("one")).await;
    let keys = json!({ "keys": [new.jwk("two"), old.jwk("one")] }).to_string();
    server.answers(ok(&keys));
    pair.comes_to_allow(&new.token("two")).await;
    pair.allows(&old.token("one")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_never_answers_keeps_the_keys_of_no_other_waiting() {
    let signs = Signs::new();
    let server = KeyServer::new(ok(&signs.jwks("one"))).await;
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let entry = format!(
        "jwksUrl: '{}', caFile: ca.pem}}\n- {{issuer: 'https://a-silent.example', jwksUrl: 'https://{}/'",
        server.url,
        silent.local_addr().unwrap()
    );
    let begun = Instant::now();
    let pair = pair_with(&entry, &[("ca.pem", &server.authority)]).await;
    pair.comes_to_allow(&signs.token("one")).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// CVE-2026-31837: while keys could not be fetched, others stood in for them that everybody knew.
#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_whose_keys_never_came_proves_nothing_and_nothing_stands_in_for_them() {
    let signs = Signs::new();
    let elsewhere = KeyServer::new(ok(&signs.jwks("one"))).await;
    let long = format!("{{\"keys\":[{}],\"x\":\"{}\"}}", signs.jwk("one"), "x".repeat(300_000));
    for answer in [
        None,
        ok(""),
        ok("{\"keys\":[]}"),
        ok(&json!({ "keys": [{ "kty": "oct", "kid": "one", "k": "AA" }] }).to_string()),
        ok(&long),
        Some("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_owned()),
        Some(format!(
            "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
            elsewhere.url
        )),
    ] {
        let server = KeyServer::new(answer.clone()).await;
        let pair = server.pair().await;
        let deadline = Instant::now() + PATIENCE;
        while server.asked() == 0 {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        pair.refuses(&signs.token("one"), "no-keys").await;
        let none =
            format!("{}.{}.", b64(json!({"alg": "none"}).to_string()), b64(claims().to_string()));
        pair.refuses(&none, "no-keys").await;
    }
    assert_eq!(elsewhere.asked(), 0, "a redirection is not followed");
    // Nor is a server that nobody stands behind.
    let server = KeyServer::new(ok(&signs.jwks("one"))).await;
    let pair = pair_with(&format!("jwksUrl: '{}'", server.url), &[]).await;
    let deadline = Instant::now() + PATIENCE;
    while server.asked() == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pair.refuses(&signs.token("one"), "no-keys").await;
}
