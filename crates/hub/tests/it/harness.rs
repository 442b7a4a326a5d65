//! A hub on a free port with a clock that the test sets, and a client that pins its root.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use jiff::SignedDuration;
use nullius_authn::TotpSecret;
use nullius_hub::{Hub, HubSettings, RunningHub, run};
use nullius_model::{Clock, Timestamp};
use nullius_tls::{ClientIdentity, HttpVersions, WebRoots, web_client_config};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// A clock that stands still until it is moved.
pub(crate) struct TestClock(Mutex<Timestamp>);

impl TestClock {
    pub(crate) fn now_real() -> Arc<Self> {
        // Whole seconds at the beginning of a one-time code's step, so that tests see no step end by chance.
        let second = Timestamp::now().as_second() / 30 * 30;
        Arc::new(Self(Mutex::new(Timestamp::from_second(second).unwrap())))
    }

    pub(crate) fn advance(&self, seconds: i64) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// The secret that the tests' client keeps, and its hash.
pub(crate) const CLIENT_SECRET: &str = "a-secret-of-at-least-forty-three-characters-000";

pub(crate) fn client() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(CLIENT_SECRET))
}

/// What asks for new tokens, as the client that signed in.
pub(crate) fn refresh_request(token: &str) -> Value {
    json!({"grantType": "refresh_token", "refresh_token": token, "client_secret": CLIENT_SECRET})
}

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A person with both factors.
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) totp: TotpSecret,
}

/// What a call answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text);
        self
    }

    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status.as_u16(), self.code().as_str()), (status, code), "{}", self.text);
        self
    }
}

pub(crate) struct TestHub {
    pub(crate) directory: TempDir,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) running: Option<RunningHub>,
    pub(crate) shutdown: CancellationToken,
    connector: TlsConnector,
    /// Where the next calls come from.
    from: Mutex<IpAddr>,
}

pub(crate) fn settings(directory: &TempDir) -> HubSettings {
    let mut settings = HubSettings::new(directory.path());
    settings.listen = ([127, 0, 0, 1], 0).into();
    settings
}

impl TestHub {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut HubSettings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = TestClock::now_real();
        let mut settings = settings(&directory);
        change(&mut settings);
        let shutdown = CancellationToken::new();
        let running = run(settings, clock.clone(), shutdown.clone()).await.unwrap();
        let connector = connector(running.hub());
        let from = Mutex::new(Ipv4Addr::LOCALHOST.into());
        Self { directory, clock, running: Some(running), shutdown, connector, from }
    }

    /// Stops the hub and starts it again on the same directory.
    pub(crate) async fn restart(&mut self) {
        let directory = self.directory.path().to_owned();
        self.restart_in(directory).await;
    }

    /// Stops the hub, if it runs, and starts it on a directory.
    pub(crate) async fn restart_in(&mut self, state_dir: PathBuf) {
        self.stop().await;
        self.shutdown = CancellationToken::new();
        let mut settings = settings(&self.directory);
        settings.state_dir = state_dir;
        let running = run(settings, self.clock.clone(), self.shutdown.clone()).await.unwrap();
        self.connector = connector(running.hub());
        self.running = Some(running);
    }

    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            running.stopped().await;
        }
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        self.running.as_ref().unwrap().hub()
    }

    pub(crate) fn origin(&self) -> String {
        self.hub().origin().to_owned()
    }

    /// Makes the next calls from another address of this machine.
    pub(crate) fn move_to(&self, address: &str) {
        *self.from.lock().unwrap() = address.parse().unwrap();
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let address = self.running.as_ref().unwrap().listening();
        let socket = TcpSocket::new_v4().unwrap();
        let from = *self.from.lock().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let stream = socket.connect(address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = self.connector.connect(name, stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let host = self.running.as_ref().unwrap().listening().to_string();
        Request::builder().method(method).uri(path).header(header::HOST, host)
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let mut request = self.request(method, path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = match body {
            None => Bytes::new(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                serde_json::to_vec(&body).unwrap().into()
            }
        };
        self.send(request.body(Full::new(bytes)).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, Some(token), None).await
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Answer {
        self.call(Method::POST, path, token, Some(body)).await
    }

    /// Enrols the first admin and moves on to the next code.
    pub(crate) async fn first_admin(&self) -> Person {
        let first = self.running.as_ref().unwrap().first_admin().unwrap();
        self.enrol("admin", &first.link.token).await
    }

    /// Sets password and second factor by a link's token, and moves on to the next code.
    pub(crate) async fn enrol(&self, name: &str, token: &str) -> Person {
        let begun =
            self.post("/v1/enrol", None, json!({"token": token, "password": PASSWORD})).await.ok();
        let secret = begun.json()["totpSecret"].as_str().unwrap().to_owned();
        let totp = TotpSecret::from_bytes(&base32(&secret)).unwrap();
        let person = Person { name: name.to_owned(), password: PASSWORD.to_owned(), totp };
        let code = self.code(&person);
        self.post("/v1/enrol/confirm", None, json!({"token": token, "code": code})).await.ok();
        self.clock.advance(30);
        person
    }

    /// The code that a person's authenticator shows.
    pub(crate) fn code(&self, person: &Person) -> String {
        use secrecy::ExposeSecret;
        person.totp.code(self.clock.now()).unwrap().expose_secret().to_owned()
    }

    pub(crate) async fn try_sign_in(&self, person: &Person) -> Answer {
        let body = json!({"user": person.name, "password": person.password, "code": self.code(person),
            "client": client()});
        self.post("/v1/sign-in", None, body).await
    }

    /// Signs in, moves on to the next code and gives the tokens.
    pub(crate) async fn sign_in(&self, person: &Person) -> Value {
        let tokens = self.try_sign_in(person).await.ok().json();
        self.clock.advance(30);
        tokens
    }

    pub(crate) async fn apply(&self, token: &str, plural: &str, object: Value) -> Answer {
        self.post(&format!("/v1/objects/{plural}"), Some(token), object).await
    }

    /// Makes a person, enrols them, and gives them with their access token.
    pub(crate) async fn person(&self, admin: &str, name: &str, groups: &[&str]) -> Person {
        let user = json!({"metadata": {"name": name}, "spec": {"groups": groups}});
        self.apply(admin, "users", user).await.ok();
        let link =
            self.post(&format!("/v1/users/{name}/enrolment"), Some(admin), json!({})).await.ok();
        let token = link.json()["token"].as_str().unwrap().to_owned();
        self.enrol(name, &token).await
    }

    /// The newest audit events of a kind.
    pub(crate) async fn audit(&self, token: &str, kind: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/audit?kind={kind}"), token).await.ok().json();
        let items = answer["items"].as_array().unwrap().iter();
        items.map(|row| row["event"].clone()).collect()
    }
}

fn connector(hub: &Hub) -> TlsConnector {
    let roots = WebRoots::from_pem(hub.keys().root().certificate_pem().as_bytes()).unwrap();
    let config = web_client_config(&roots, ClientIdentity::Anonymous, HttpVersions::Http1).unwrap();
    TlsConnector::from(config)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub(crate) fn access(tokens: &Value) -> &str {
    text(&tokens["accessToken"])
}

pub(crate) fn refresh(tokens: &Value) -> &str {
    text(&tokens["refreshToken"])
}

/// RFC 4648 section 6, without padding.
fn base32(text: &str) -> Vec<u8> {
    let mut bits = 0_u64;
    let mut count = 0;
    let mut bytes = Vec::new();
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'2'..=b'7' => letter - b'2' + 26,
            _ => continue,
        };
        bits = bits << 5 | u64::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
