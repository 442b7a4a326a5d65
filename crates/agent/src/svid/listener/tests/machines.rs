//! Machines outside of the cluster: how they join, and that nothing else lets anybody in.

use std::sync::Mutex;

use nullius_kube::identity::ObjectNews;
use nullius_model::ObjectName;
use nullius_pki::{MachineKey, token_hash};
use nullius_proto::node_v1::{
    IssueX509Request, JoinMachineRequest, machines_client::MachinesClient,
};
use secrecy::ExposeSecret as _;
use tokio::sync::Barrier;

use super::*;

const TOKEN: &str = "a-token-of-enough-random-bits";
const AUDIENCE: &str = "nullius-agent:dev";

/// Machines as an API server has them: what is written must be what was read, but for the status.
pub(super) struct Objects {
    all: Mutex<Vec<Value>>,
    asked: AtomicUsize,
    /// The first so many who read wait for each other.
    together: usize,
    meet: Barrier,
}

impl Objects {
    pub(super) fn none() -> Self {
        Self {
            all: Mutex::default(),
            asked: AtomicUsize::new(0),
            together: 2,
            meet: Barrier::new(2),
        }
    }

    fn put(&self, name: &str, spec: Value) {
        let mut all = self.all.lock().unwrap();
        let version = (all.len() + 1).to_string();
        all.retain(|it| it["metadata"]["name"] != name);
        all.push(json!({
            "apiVersion": "nullius.dev/v1alpha1", "kind": "Machine",
            "metadata": { "name": name, "uid": format!("m-{name}"), "resourceVersion": version },
            "spec": spec,
        }));
    }

    fn find(&self, name: &str) -> Option<Value> {
        self.all.lock().unwrap().iter().find(|it| it["metadata"]["name"] == name).cloned()
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let path: Vec<&str> = head.uri.path().split('/').collect();
        let Some(at) = path.iter().position(|part| *part == "machines") else {
            panic!("{}", head.uri)
        };
        let name = path[at + 1];
        if head.method == hyper::Method::GET {
            if self.asked.fetch_add(1, Ordering::SeqCst) < self.together {
                let _ = timeout(Duration::from_secs(1), self.meet.wait()).await;
            }
            return match self.find(name) {
                Some(found) => answer(200, &found),
                None => answer(404, &failure(404, "NotFound")),
            };
        }
        assert_eq!((head.method, path.get(at + 2)), (hyper::Method::PUT, Some(&"status")));
        let body = body.collect().await.unwrap().to_bytes();
        let told: Value = serde_json::from_slice(&body).unwrap();
        let mut all = self.all.lock().unwrap();
        let stands = all.iter_mut().find(|it| it["metadata"]["name"] == name).unwrap();
        let version = stands["metadata"]["resourceVersion"].clone();
        if told["metadata"]["resourceVersion"] != version {
            return answer(409, &failure(409, "Conflict"));
        }
        stands["status"] = told["status"].clone();
        stands["metadata"]["resourceVersion"] = format!("{}0", version.as_str().unwrap()).into();
        answer(200, stands)
    }
}

fn failure(code: u16, reason: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
        "reason": reason, "message": reason,
    })
}

fn answer(code: u16, body: &Value) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(code).header("content-type", "application/json");
    answer.body(Full::from(body.to_string())).unwrap()
}

fn spec(token: &str, expires: &str) -> Value {
    let token = json!({ "sha256": token_hash(token), "expires": expires });
    json!({ "namespaces": ["shop"], "joinToken": token })
}

const LATER: &str = "2999-01-01T00:00:00Z";

impl Port {
    /// A machine stands, and is heard of.
    fn machine(&self, name: &str, spec: Value) {
        self.reviews.machines.put(name, spec);
        self.hear_machine(name);
    }

    /// The watch tells how a machine stands.
    fn hear_machine(&self, name: &str) {
        let object = self.reviews.machines.find(name).unwrap();
        let mut json = object.clone();
        let status = json.as_object_mut().unwrap().remove("status").unwrap_or_default();
        let news = ObjectNews {
            namespace: "".into(),
            name: name.into(),
            uid: object["metadata"]["uid"].as_str().unwrap().into(),
            generation: 1,
            json: json.to_string().into_bytes().into(),
            status: Arc::new(status),
        };
        self.issuing.hear(|registry| registry.hear_machines(News::Put(news)));
    }

    fn forget_machines(&self) {
        self.issuing.hear(|registry| registry.hear_machines(News::All(Vec::new())));
    }

    async fn join(&self, name: &str, token: &str, key: &MachineKey) -> Result<(), Status> {
        let request = JoinMachineRequest {
            version: VERSION,
            machine: name.to_owned(),
            token: token.to_owned(),
            certificate_request: key.request().unwrap().as_der().to_vec(),
        };
        MachinesClient::new(self.channel()).join(request).await.map(drop)
    }
}

fn signed(key: &MachineKey, name: &str, audience: &str) -> String {
    let name: ObjectName = name.parse().unwrap();
    key.sign(&name, audience, Timestamp::now()).unwrap().expose_secret().to_owned()
}

fn code<T>(result: Result<T, Status>) -> (Code, String) {
    match result {
        Ok(_) => panic!("somebody is let in"),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}

#[tokio::test]
async fn of_two_that_join_with_one_token_at_once_one_is_the_machine() {
    let port = Port::listens().await;
    port.machine("db-1", spec(TOKEN, LATER));
    let (one, two) = (MachineKey::create().unwrap(), MachineKey::create().unwrap());
    let (first, second) =
        tokio::join!(port.join("db-1", TOKEN, &one), port.join("db-1", TOKEN, &two));
    let (won, lost, refused) = match (first, second) {
        (Ok(()), Err(status)) => (one, two, status),
        (Err(status), Ok(())) => (two, one, status),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("was used already, by another key"), "{refused}");
    // Who got no answer asks again, and is who it was.
    port.join("db-1", TOKEN, &won).await.unwrap();
    assert_eq!(code(port.join("db-1", TOKEN, &lost).await).0, Code::PermissionDenied);
    let status = port.reviews.machines.find("db-1").unwrap()["status"].clone();
    assert_eq!(status["key"], won.public_key().id());
    assert_eq!(status["token"], token_hash(TOKEN));

    // Until the watch tells of it the machine waits for a moment.
    let early = signed(&won, "db-1", AUDIENCE);
    let hears = async {
        tokio::task::yield_now().await;
        port.hear_machine("db-1");
    };
    let (told, ()) = tokio::join!(port.watch(&early), hears);
    assert_eq!(told.unwrap(), 0);
    assert_eq!(code(port.watch(&signed(&lost, "db-1", AUDIENCE)).await).0, Code::Unauthenticated);
}

#[tokio::test]
async fn a_wrong_used_or_ended_token_lets_nobody_join() {
    let port = Port::listens().await;
    port.machine("db-1", spec(TOKEN, LATER));
    port.machine("db-2", spec(TOKEN, "2020-01-01T00:00:00Z"));
    port.machine("db-3", json!({ "namespaces": ["shop"] }));
    let key = MachineKey::create().unwrap();
    let (hashed, long) = (token_hash(TOKEN), "x".repeat(1_000));
    let wrong = [
        ("db-1", "another token"),
        ("db-1", ""),
        ("db-1", &hashed),
        ("db-3", TOKEN),
        ("db-4", TOKEN),
        ("../db-1", TOKEN),
        ("db-1", &long),
    ];
    // Each waits for news of such a token.
    let asked = wrong.map(|(name, token)| port.join(name, token, &key));
    for refused in futures::future::join_all(asked).await {
        let (code, why) = code(refused);
        assert_eq!(code, Code::Unauthenticated, "{why}");
        assert!(why.contains("has this join token"), "{why}");
    }
    assert_eq!(port.reviews.machines.asked.load(Ordering::SeqCst), 0, "strangers cost nothing");
    let (code_, why) = code(port.join("db-2", TOKEN, &key).await);
    assert_eq!(code_, Code::PermissionDenied);
    assert!(why.contains("has ended"), "{why}");
    assert!(port.reviews.machines.find("db-2").unwrap()["status"].is_null());
    // What the watch has told may be over: the object decides.
    port.reviews.machines.put("db-1", spec("a newer token", LATER));
    assert_eq!(code(port.join("db-1", TOKEN, &key).await).0, Code::Unauthenticated);
}

/// A machine that has joined.
async fn joined(port: &Port, name: &str) -> MachineKey {
    port.machine(name, spec(TOKEN, LATER));
    let key = MachineKey::create().unwrap();
    port.join(name, TOKEN, &key).await.unwrap();
    port.hear_machine(name);
    key
}

#[tokio::test]
async fn a_machine_is_let_in_by_its_own_key_alone_and_to_what_is_its_own() {
    let port = Port::listens().await;
    let (one, two) = (joined(&port, "db-1").await, joined(&port, "db-2").await);
    let good = signed(&one, "db-1", AUDIENCE);
    assert_eq!(port.watch(&good).await.unwrap(), 0);
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    parts[0] = base64(r#"{"alg":"none","typ":"nullius-machine+jwt","kid":"x"}"#);
    let none = parts.join(".");
    for (token, told) in [
        (signed(&two, "db-1", AUDIENCE), "not by the key that joined"),
        (signed(&one, "db-2", AUDIENCE), "not by the key that joined"),
        (signed(&one, "db-1", "nullius-agent:prod"), "not for audience"),
        (signed(&one, "near", AUDIENCE), "no such Machine"),
        (none, "the algorithm `none` is refused"),
        (format!("{good}x"), "refused"),
    ] {
        let (code, why) = code(port.watch(&token).await);
        assert_eq!(code, Code::Unauthenticated, "{why}");
        assert!(why.contains(told), "{why}");
    }
    assert_eq!(port.asked(), 0, "no API server is asked about them");
    // What only nodes do, and what is registered elsewhere.
    let mesh = code(port.mesh(&good).await);
    assert_eq!(mesh, (Code::PermissionDenied, "a machine has no part in the mesh of pods".into()));
    let request = IssueX509Request {
        version: VERSION,
        entry: POD.to_owned(),
        certificate_request: one.request().unwrap().as_der().to_vec(),
    };
    let issued = IdentityClient::new(port.channel()).issue_x509(with_token(request, &good)).await;
    assert_eq!(code(issued).0, Code::PermissionDenied);
    port.deaf.store(true, Ordering::Relaxed);
    assert_eq!(
        code(port.issuing.callers.prove(&metadata(&good), &port.place()).await).0,
        Code::Unavailable
    );
}

#[tokio::test]
async fn who_is_no_machine_any_more_is_told_so_and_let_in_no_more() {
    let port = Port::listens().await;
    for what in ["deleted", "another token"] {
        let key = joined(&port, "db-1").await;
        let token = signed(&key, "db-1", AUDIENCE);
        let mut stream = port.stream(&token).await.unwrap();
        assert!(stream.message().await.unwrap().is_some());
        if what == "deleted" {
            port.forget_machines();
        } else {
            port.machine("db-1", spec("a newer token", LATER));
        }
        let ended = timeout(PATIENCE, stream.message()).await.unwrap();
        assert_eq!(code(ended).0, Code::Unauthenticated, "{what}");
        assert_eq!(code(port.watch(&token).await).0, Code::Unauthenticated, "{what}");
    }
    // The newer token lets another key in.
    let key = MachineKey::create().unwrap();
    port.join("db-1", "a newer token", &key).await.unwrap();
    port.hear_machine("db-1");
    assert_eq!(port.watch(&signed(&key, "db-1", AUDIENCE)).await.unwrap(), 0);
}

fn metadata(token: &str) -> tonic::metadata::MetadataMap {
    with_token((), token).metadata().clone()
}

impl Port {
    fn place(&self) -> crate::places::Place {
        Places::new(MOST).take(IpAddr::from([127, 0, 0, 1]), CancellationToken::new())
    }
}
