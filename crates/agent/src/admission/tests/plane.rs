//! An API server over real TLS that holds a few objects, and can refuse, be slow, be away, or be written by somebody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, body::Incoming, service::service_fn};
use nullius_kube::{ADMISSION_STATUS, ApiServer, InCluster};
use nullius_model::Timestamp;
use nullius_pki::ServingAuthority;
use nullius_tls::{LiveCertificate, WebhookAcceptor};
use nullius_tunnel::{PublicLimits, serve_public_connection};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const HOST: &str = "localhost";
const SYSTEM: &str = "/api/v1/namespaces/nullius-system";

const WATCH: Duration = Duration::from_secs(10);

/// What it holds, and how it behaves.
#[derive(Default)]
pub(in crate::admission) struct Held {
    pub(in crate::admission) namespaces: BTreeMap<String, Value>,
    /// By path.
    pub(in crate::admission) objects: BTreeMap<String, Value>,
    pub(in crate::admission) pods: Vec<Value>,
    /// What stands in lists, by path; a list that is not here is empty.
    pub(in crate::admission) lists: BTreeMap<String, Vec<Value>>,
    /// Whether anything is listed.
    pub(in crate::admission) is_listing: bool,
    /// Lists that nobody may see.
    pub(in crate::admission) unlisted: BTreeSet<String>,
    /// What it says its version is.
    pub(in crate::admission) version: String,
    /// Namespaces that nobody may change.
    pub(in crate::admission) refused: BTreeSet<String>,
    /// Namespaces about which there is no answer.
    pub(in crate::admission) slow: BTreeSet<String>,
    /// How often somebody else writes a namespace first.
    pub(in crate::admission) contended: BTreeMap<String, usize>,
    /// How often each was to be written.
    pub(in crate::admission) tried: BTreeMap<String, usize>,
    /// Where the authority stands that clients believe.
    directory: Option<tempfile::TempDir>,
}

impl Held {
    fn listed(&self, path: &str) -> Response<Full<Bytes>> {
        if !self.is_listing {
            return failed(503, "it is away");
        }
        if self.unlisted.contains(path) {
            return failed(403, "nobody may list it");
        }
        let items = self.lists.get(path).cloned().unwrap_or_default();
        let list = json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "1" }, "items": items });
        respond(200, &list)
    }
}

#[derive(Clone, Default)]
pub(in crate::admission) struct Plane(Arc<Mutex<Held>>);

impl Plane {
    pub(in crate::admission) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap()
    }

    /// Listens as long as the test runs.
    pub(in crate::admission) async fn serve(&self) -> ApiServer {
        nullius_tls::install_provider();
        let now = Timestamp::now();
        let signer = ServingAuthority::create(HOST, now).unwrap();
        let shown = signer.issue(HOST, now).unwrap();
        let certificate = LiveCertificate::new(shown.chain, shown.key.to_der()).unwrap();
        let acceptor = WebhookAcceptor::new(certificate, None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let plane = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(plane.clone().talk(stream, acceptor.clone()));
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("ca.crt");
        std::fs::write(&ca_file, signer.certificate_pem()).unwrap();
        self.held().directory = Some(directory);
        ApiServer::in_cluster(&InCluster { host: HOST.to_owned(), port, ca_file }).unwrap()
    }

    async fn talk(self, stream: tokio::net::TcpStream, acceptor: WebhookAcceptor) {
        let Ok(stream) = acceptor.accept(stream).await else { return };
        let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        let service = service_fn(move |request: Request<Incoming>| {
            let plane = self.clone();
            async move { Ok::<_, Infallible>(plane.answer(request).await) }
        });
        let limits = PublicLimits::default();
        let stop = CancellationToken::new();
        let _ = serve_public_connection(stream, alpn.as_deref(), service, &limits, stop).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let Some(name) =
            path.strip_prefix("/api/v1/namespaces/").filter(|name| !name.contains('/'))
        {
            let is_slow = self.held().slow.contains(name);
            if is_slow {
                std::future::pending::<()>().await;
            }
            return match method {
                Method::PATCH => self.patch(name, &body),
                _ => found(self.held().namespaces.get(name)),
            };
        }
        if query.contains("watch=") {
            // Nothing changes: a watch ends as the client wants it to.
            tokio::time::sleep(WATCH).await;
            let is_listing = self.held().is_listing;
            return match is_listing {
                true => Response::new(Full::default()),
                false => failed(503, "it is away"),
            };
        }
        let mut held = self.held();
        if query.contains("limit=") {
            return held.listed(&path);
        }
        if path == "/version" {
            return respond(200, &version(&held.version));
        }
        if path == format!("{SYSTEM}/pods") {
            let list = json!({ "apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": held.pods });
            return respond(200, &list);
        }
        if method == Method::PUT {
            held.objects.insert(path.clone(), body);
        }
        found(held.objects.get(&path))
    }

    fn patch(&self, name: &str, steps: &Value) -> Response<Full<Bytes>> {
        let mut held = self.held();
        *held.tried.entry(name.to_owned()).or_default() += 1;
        if held.refused.contains(name) {
            return failed(403, "nobody may change it");
        }
        if let Some(left) = held.contended.get_mut(name).filter(|left| **left > 0) {
            *left -= 1;
            return failed(422, "testing value /metadata/labels/a failed: test failed");
        }
        let Some(object) = held.namespaces.get_mut(name) else { return failed(404, "it is gone") };
        let mut changed = object.clone();
        for step in steps.as_array().unwrap() {
            let path = step["path"].as_str().unwrap();
            let (parent, key) = path.rsplit_once('/').unwrap();
            let key = key.replace("~1", "/").replace("~0", "~");
            let parent = changed.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            match step["op"].as_str().unwrap() {
                "test" if parent.get(&key).unwrap_or(&Value::Null) != &step["value"] => {
                    return failed(422, &format!("testing value {path} failed: test failed"));
                }
                "test" => {}
                "remove" => drop(parent.remove(&key).unwrap()),
                _ => drop(parent.insert(key, step["value"].clone())),
            }
        }
        let version: u64 =
            changed["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        changed["metadata"]["resourceVersion"] = (version + 1).to_string().into();
        *object = changed;
        respond(200, object)
    }
}

/// The path of the ConfigMap in which replicas say what they do.
pub(in crate::admission) fn status_path() -> String {
    format!("{SYSTEM}/configmaps/{ADMISSION_STATUS}")
}

fn version(version: &str) -> Value {
    json!({ "major": "1", "minor": "", "gitVersion": version, "gitCommit": "", "gitTreeState": "", "buildDate": "",
            "goVersion": "", "compiler": "", "platform": "" })
}

fn found(object: Option<&Value>) -> Response<Full<Bytes>> {
    match object {
        Some(object) => respond(200, object),
        None => failed(404, "there is none"),
    }
}

fn failed(code: u16, message: &str) -> Response<Full<Bytes>> {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        _ => "",
    };
    let status = json!({ "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
                         "message": message, "reason": reason, "code": code });
    respond(code, &status)
}

fn respond(code: u16, body: &Value) -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::from(body.to_string()));
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}
