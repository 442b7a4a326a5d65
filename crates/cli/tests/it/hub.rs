//! A small hub: the answers of the API that a test needs, with counts of what was asked.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use nullius_model::{InfraId, InstanceId, Timestamp, Ttl};
use nullius_pki::{InfraRoot, PrivateKey};
use nullius_tls::{Accepted, HubAcceptor, InfraRoots, LiveCertificate};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::time::after;

pub const PASSWORD: &str = "correct horse battery staple";
pub const CODE: &str = "123456";

/// A hub that runs until it is dropped.
pub struct Hub {
    pub address: SocketAddr,
    pub ca: String,
    pub fingerprint: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the hub knows and counts.
pub struct State {
    /// How far the hub's clock is from this machine's, in seconds.
    pub skew: i64,
    pub sign_ins: u32,
    pub refreshes: u32,
    pub credentials: u32,
    pub logouts: u32,
    /// Seconds that access tokens live.
    pub access_ttl: i64,
    pub kube_ttl: i64,
    pub device_polls_left: u32,
    pub clusters: Vec<&'static str>,
    /// Refuses changes once, until a factor was proven.
    pub wants_step_up: bool,
    /// Answers of routes that a test writes itself: method and path, status, body.
    pub scripted: BTreeMap<String, (u16, Value)>,
    /// So many of the next changes come after somebody else's.
    pub others_are_faster: u32,
    /// Method and path of every call.
    pub calls: Vec<String>,
    pub objects: BTreeMap<String, Value>,
    access: Vec<String>,
    refresh: Option<String>,
    client: Option<String>,
    login: Option<Value>,
    version: u64,
}

impl State {
    /// The sign-in that a browser has begun.
    pub fn login_for_test(&self) -> Option<Value> {
        self.login.clone()
    }

    /// The session ends at the hub: nothing of it is taken any more.
    pub fn end_session(&mut self) {
        self.access.clear();
        self.refresh = None;
    }
}

impl Hub {
    pub async fn start() -> Self {
        let now = Timestamp::now();
        let root = InfraRoot::create(now).unwrap();
        let key = PrivateKey::generate().unwrap();
        let id = InfraId::Hub { instance: InstanceId::from_bits(1) };
        let names = ["127.0.0.1".try_into().unwrap()];
        let csr = key.request().unwrap();
        let certificate = root.issue_hub(&csr, &id, &names, Ttl::from_secs(3600), now).unwrap();
        let live = LiveCertificate::of(&certificate, &key).unwrap();
        let ca = root.certificate_pem().to_owned();
        let fingerprint = hex::encode(Sha256::digest(root.certificate_der()));
        let acceptor = HubAcceptor::new(live, &InfraRoots::from_pem(&ca).unwrap()).unwrap();
        let state = Arc::new(Mutex::new(State {
            skew: 0,
            sign_ins: 0,
            refreshes: 0,
            credentials: 0,
            logouts: 0,
            access_ttl: 600,
            kube_ttl: 600,
            device_polls_left: 1,
            clusters: vec!["dev", "prod"],
            wants_step_up: false,
            scripted: BTreeMap::new(),
            others_are_faster: 0,
            calls: Vec::new(),
            objects: BTreeMap::new(),
            access: Vec::new(),
            refresh: None,
            client: None,
            login: None,
            version: 0,
        }));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let info =
            json!({ "version": "9.9.9", "hubId": "h", "ca": ca, "caFingerprint": fingerprint });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, shared, info) =
                    (acceptor.clone(), Arc::clone(&shared), info.clone());
                tokio::spawn(async move {
                    let Ok(Accepted::Public(stream)) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request| {
                        let (shared, info) = (Arc::clone(&shared), info.clone());
                        async move { Ok::<_, Infallible>(serve(request, &shared, &info).await) }
                    });
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, ca, fingerprint, state, task }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn script(&self, call: &str, status: u16, body: Value) {
        self.state().scripted.insert(call.to_owned(), (status, body));
    }
}

async fn serve(
    request: Request<Incoming>,
    state: &Mutex<State>,
    info: &Value,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let bearer = head
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .map(str::to_owned);
    let mut state = state.lock().unwrap();
    let path = head.uri.path().to_owned();
    state.calls.push(format!("{} {}", head.method, head.uri));
    let (status, answer) = match state.scripted.get(&format!("{} {path}", head.method)) {
        Some((status, body)) => (*status, body.clone()),
        None if path == "/v1/hub" => (200, info.clone()),
        None => state.answer(&head.method, &path, &body, bearer.as_deref()),
    };
    let date = after(state.skew);
    let text = match &answer {
        Value::String(lines) => lines.clone(),
        other => other.to_string(),
    };
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header(
            "date",
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap(),
        )
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(text)))
        .unwrap()
}

pub fn error(code: &str, message: &str) -> Value {
    json!({ "code": code, "message": message })
}

impl State {
    fn at(&self, seconds: i64) -> Timestamp {
        after(self.skew + seconds)
    }

    fn bind(&mut self, body: &Value) {
        self.client = Some(body["client"].as_str().unwrap().to_owned());
    }

    fn tokens(&mut self) -> Value {
        self.version += 1;
        let access = format!("access-{}", self.version);
        self.access.push(access.clone());
        let refresh = format!("refresh-{}", self.version);
        self.refresh = Some(refresh.clone());
        json!({
            "user": "ada", "session": format!("{:032x}", self.sign_ins), "accessToken": access,
            "accessExpiresAt": self.at(self.access_ttl), "refreshToken": refresh,
            "sessionExpiresAt": self.at(43_200),
        })
    }

    fn answer(
        &mut self,
        method: &Method,
        path: &str,
        body: &Value,
        bearer: Option<&str>,
    ) -> (u16, Value) {
        match path {
            "/v1/sign-in" => {
                if body["user"] != "ada" || body["password"] != PASSWORD || body["code"] != CODE {
                    return (401, error("unauthenticated", "user, password or code is wrong"));
                }
                self.sign_ins += 1;
                self.bind(body);
                return (200, self.tokens());
            }
            "/v1/browser-login" => {
                self.login = Some(body.clone());
                return (
                    200,
                    json!({ "url": "https://hub.example/sign-in?id=1", "expiresIn": 60 }),
                );
            }
            "/v1/device" => {
                return (
                    200,
                    json!({ "deviceCode": "dc", "userCode": "ABCD-EFGH", "interval": 1, "expiresIn": 60,
                            "verificationUri": "https://hub.example/device" }),
                );
            }
            "/v1/token" => return self.token(body),
            _ => {}
        }
        if !bearer.is_some_and(|token| self.access.iter().any(|known| known == token)) {
            return (401, error("unauthenticated", "the session has ended"));
        }
        match path {
            "/v1/kube-credential" => {
                self.credentials += 1;
                let token = format!("kube-{}", self.credentials);
                (200, json!({ "token": token, "expiresAt": self.at(self.kube_ttl) }))
            }
            "/v1/step-up" if body["code"] == CODE => {
                self.wants_step_up = false;
                (204, Value::String(String::new()))
            }
            "/v1/step-up" => (401, error("denied", "the code is wrong")),
            "/v1/logout" => {
                self.logouts += 1;
                self.end_session();
                (204, Value::String(String::new()))
            }
            "/v1/access" => {
                let row = |cluster: &&str| {
                    json!({ "cluster": cluster, "namespaces": ["shop"], "role": "developer", "grant": "dev-shop",
                            "through": "group devs", "rules": [], "reachable": true })
                };
                (200, json!({ "items": self.clusters.iter().map(row).collect::<Vec<_>>() }))
            }
            "/v1/rehearsal" => self.rehearse(body),
            _ if path.starts_with("/v1/objects/") => self.objects(method, path, body),
            _ => (404, error("not-found", "there is nothing at this path")),
        }
    }

    fn token(&mut self, body: &Value) -> (u16, Value) {
        match body["grantType"].as_str().unwrap() {
            "refresh_token" => {
                self.refreshes += 1;
                let secret = body["client_secret"].as_str().unwrap();
                let client = URL_SAFE_NO_PAD.encode(Sha256::digest(secret));
                assert_eq!(self.client.as_ref(), Some(&client), "the client proves itself");
                if body["refresh_token"].as_str() != self.refresh.as_deref() {
                    self.end_session();
                    return (401, error("unauthenticated", "the session was ended"));
                }
                (200, self.tokens())
            }
            "device_code" if self.device_polls_left > 0 => {
                self.device_polls_left -= 1;
                (400, error("pending", "nobody has signed in yet"))
            }
            "device_code" => {
                self.sign_ins += 1;
                self.bind(body);
                (200, self.tokens())
            }
            "authorization_code" => {
                let begun = self.login.take().unwrap();
                let verifier = body["verifier"].as_str().unwrap();
                let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
                assert_eq!(begun["challenge"], challenge.as_str());
                assert_eq!(begun["redirectUri"], body["redirect_uri"]);
                if body["code"] != "the-code" {
                    return (401, error("unauthenticated", "the code is wrong"));
                }
                self.sign_ins += 1;
                self.bind(body);
                (200, self.tokens())
            }
            other => panic!("grant type {other}"),
        }
    }

    fn objects(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        if self.wants_step_up && method != Method::GET {
            return (403, error("step-up", "this asks for a fresh factor"));
        }
        let rest = path.strip_prefix("/v1/objects/").unwrap();
        let Some((plural, _)) = rest.split_once('/') else {
            if method == Method::GET {
                let start = format!("{rest}/");
                let items: Vec<_> = self
                    .objects
                    .iter()
                    .filter(|(key, _)| key.starts_with(&start))
                    .map(|(_, value)| value)
                    .collect();
                return (200, json!({ "items": items }));
            }
            let key = format!("{rest}/{}", body["metadata"]["name"].as_str().unwrap());
            if self.objects.contains_key(&key) {
                return (409, error("conflict", "it exists"));
            }
            return (201, self.store(key, body.clone()));
        };
        assert!(!plural.is_empty());
        let Some(live) = self.objects.get(rest).cloned() else {
            return (404, error("not-found", "it does not exist"));
        };
        match *method {
            Method::GET => (200, live),
            Method::PUT => {
                if let Some(left) = self.others_are_faster.checked_sub(1) {
                    self.others_are_faster = left;
                    self.store(rest.to_owned(), live);
                    return (409, error("conflict", "somebody else changed it"));
                }
                let version = &body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != live["metadata"]["resourceVersion"] {
                    return (409, error("conflict", "somebody else changed it"));
                }
                (200, self.store(rest.to_owned(), body.clone()))
            }
            Method::DELETE => {
                self.objects.remove(rest);
                let warnings = match plural {
                    "groups" => vec!["Grant `g` names it, and gives nothing"],
                    _ => Vec::new(),
                };
                (200, json!({ "object": live, "warnings": warnings }))
            }
            _ => (405, Value::Null),
        }
    }

    /// Does the changes, tells what came of each, and takes all of it back.
    fn rehearse(&mut self, body: &Value) -> (u16, Value) {
        let (objects, version) = (self.objects.clone(), self.version);
        let mut outcomes = Vec::new();
        for change in body["changes"].as_array().unwrap() {
            let object = &change["object"];
            let kind = change.get("kind").unwrap_or(&object["kind"]).as_str().unwrap();
            let name = change.get("name").unwrap_or(&object["metadata"]["name"]).as_str().unwrap();
            let all = format!("/v1/objects/{}s", kind.to_lowercase());
            let (status, answer) = match change["verb"].as_str().unwrap() {
                "create" => self.objects(&Method::POST, &all, object),
                "update" => self.objects(&Method::PUT, &format!("{all}/{name}"), object),
                "delete" => self.objects(&Method::DELETE, &format!("{all}/{name}"), object),
                other => panic!("verb {other}"),
            };
            outcomes.push(if status < 300 && answer.get("object").is_some() {
                json!({ "outcome": "done", "object": answer["object"], "warnings": answer["warnings"] })
            } else if status < 300 {
                json!({ "outcome": "done", "object": answer })
            } else {
                json!({ "outcome": "refused", "error": answer })
            });
        }
        (self.objects, self.version) = (objects, version);
        (200, json!({ "outcomes": outcomes }))
    }

    fn store(&mut self, key: String, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        object["metadata"]["uid"] = json!("11111111-1111-4111-8111-111111111111");
        self.objects.insert(key, object.clone());
        object
    }
}
