#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use kube::client::Body;
use nullius_model::{Namespace, Timestamp};
use serde_json::{Value, json};

use super::*;

/// An API server that answers as it is told, and writes down what it was asked.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<VecDeque<Scripted>>>,
}

#[derive(Clone)]
struct Asked {
    method: Method,
    path: String,
    body: Value,
}

struct Scripted {
    method: Method,
    path: &'static str,
    code: u16,
    body: Value,
}

impl Server {
    /// The next request of this method and path ending gets this answer.
    fn answer(self, method: Method, path: &'static str, code: u16, body: Value) -> Self {
        self.answers.lock().unwrap().push_back(Scripted { method, path, code, body });
        self
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.serve(request).await) }
        });
        Client::new(service, "default")
    }

    fn sessions(&self) -> Sessions {
        Sessions::with_clients(self.client(), self.client(), self.client())
    }

    async fn serve(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let path = parts.uri.path().to_owned();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        self.asked.lock().unwrap().push(Asked {
            method: parts.method.clone(),
            path: path.clone(),
            body: Value::clone(&body),
        });
        let mut answers = self.answers.lock().unwrap();
        let found = answers.iter().position(|a| a.method == parts.method && path.ends_with(a.path));
        let (code, answer) = match found.and_then(|at| answers.remove(at)) {
            Some(answer) => (answer.code, answer.body),
            // What is created comes back with a UID, as from a real one.
            None if parts.method == Method::POST => {
                let mut made = body;
                made["metadata"]["uid"] =
                    json!(format!("uid-of-{}", path.rsplit('/').next().unwrap()));
                made["metadata"]["resourceVersion"] = json!("7");
                if path.ends_with("/token") {
                    made["status"] =
                        json!({ "token": "t", "expirationTimestamp": "2030-01-01T00:00:00Z" });
                }
                if path.ends_with("selfsubjectaccessreviews") {
                    made["status"] = json!({ "allowed": true });
                }
                (201, made)
            }
            None => (200, json!({ "metadata": { "name": "x" } })),
        };
        Response::builder().status(code).body(Full::new(Bytes::from(answer.to_string()))).unwrap()
    }

    fn asked(&self, method: &Method) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|a| a.method == method).map(|a| a.path.clone()).collect()
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": message })
}

fn plan() -> SessionPlan {
    SessionPlan {
        session: SessionId::from_bits(5),
        user: "ada".parse().unwrap(),
        generation: 1,
        expires_at: "2030-01-01T00:00:00Z".parse::<Timestamp>().unwrap(),
        bindings: [Binding {
            namespace: Some("shop".parse().unwrap()),
            role: "view".parse().unwrap(),
            rules: vec![PolicyRule {
                verbs: vec!["get".into()],
                api_groups: vec![String::new()],
                resources: vec!["pods".into()],
                ..PolicyRule::default()
            }],
        }]
        .into(),
    }
}

async fn ensure(server: &Server) -> (Result<Ensured, KubeError>, StandingSession) {
    let sessions = server.sessions();
    let mut standing = sessions.begin(&plan().session);
    let ensured = sessions.ensure(&plan(), &mut standing).await;
    (ensured, standing)
}

const BINDINGS: &str = "/namespaces/shop/rolebindings";
const MARKER: &str = "/secrets/session-00000000000000000000000000000005";
const ACCOUNT: &str = "/serviceaccounts/session-00000000000000000000000000000005";

#[tokio::test]
async fn the_record_is_written_last_and_only_onto_the_account_that_was_made() {
    let server = Server::default();
    let (ensured, standing) = ensure(&server).await;
    assert!(ensured.unwrap().token.is_some());
    assert!(standing.is_complete());
    let asked = server.asked.lock().unwrap();
    let at = |method: Method, end: &str| {
        asked.iter().position(|a| a.method == method && a.path.ends_with(end)).unwrap()
    };
    let patch = asked.iter().position(|a| a.method == Method::PATCH).unwrap();
    assert!(at(Method::POST, "/secrets") < at(Method::POST, "/serviceaccounts"));
    assert!(at(Method::POST, BINDINGS) < patch);
    assert_eq!(asked[patch].body["metadata"]["uid"], "uid-of-serviceaccounts");
    let account = &asked[at(Method::POST, "/serviceaccounts")].body;
    assert_eq!(account["metadata"]["annotations"]["nullius.dev/marker-uid"], "uid-of-secrets");
    let token = &asked[at(Method::POST, "/token")].body;
    assert_eq!(token["spec"]["boundObjectRef"]["uid"], "uid-of-secrets");
}

#[tokio::test]
async fn an_error_names_its_step_and_what_stands_is_known() {
    let denied = failure(500, "InternalError", "etcd is away");
    let server = Server::default().answer(Method::POST, BINDINGS, 500, denied);
    let (ensured, standing) = ensure(&server).await;
    let error = ensured.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("creating `RoleBinding/shop/nullius:session:"), "{text}");
    assert!(text.contains("etcd is away"), "{text}");
    assert!(!error.is_refused());
    assert_eq!(standing.objects.len(), 2, "account and marker are known, to be removed");
    assert_eq!(standing.generation, 0);
}

#[tokio::test(start_paused = true)]
async fn a_right_to_bind_that_is_not_known_yet_is_waited_for() {
    let lag = "user is attempting to grant RBAC permissions not currently held";
    let mut server = Server::default();
    for _ in 0..4 {
        server = server.answer(Method::POST, BINDINGS, 403, failure(403, "Forbidden", lag));
    }
    let (ensured, _) = ensure(&server).await;
    ensured.unwrap();
    assert_eq!(
        server.asked(&Method::POST).iter().filter(|path| path.ends_with(BINDINGS)).count(),
        5
    );
}

#[tokio::test]
async fn rights_above_the_ceiling_are_refused_at_once() {
    let above = "user is attempting to grant RBAC permissions not currently held";
    let server = Server::default().answer(
        Method::POST,
        "/clusterroles",
        403,
        failure(403, "Forbidden", above),
    );
    let (ensured, _) = ensure(&server).await;
    let error = ensured.unwrap_err();
    assert!(matches!(&error, KubeError::Refused { step: Step::WriteRole(_), .. }), "{error}");
    assert!(!server.asked(&Method::POST).iter().any(|path| path.ends_with(BINDINGS)));
}

#[tokio::test]
async fn the_binder_list_is_written_again_when_somebody_was_faster() {
    let binder = json!({ "metadata": { "name": "nullius:binder", "resourceVersion": "1" } });
    let conflict = failure(409, "Conflict", "the object has been modified");
    let server = Server::default()
        .answer(Method::GET, "/nullius:binder", 200, binder.clone())
        .answer(Method::PUT, "/nullius:binder", 409, conflict)
        .answer(Method::GET, "/nullius:binder", 200, binder);
    let (ensured, _) = ensure(&server).await;
    ensured.unwrap();
    let asked = server.asked.lock().unwrap();
    let writes: Vec<_> = asked.iter().filter(|a| a.method == Method::PUT).collect();
    assert_eq!(writes.len(), 2);
    let rule = &writes[1].body["rules"][0];
    assert_eq!(rule["verbs"], json!(["bind"]));
    assert!(rule["resourceNames"][0].as_str().unwrap().starts_with("nullius:role:view-"));
}

/// What a create answers when the object stands already.
fn exists() -> Value {
    failure(409, "AlreadyExists", "already exists")
}

/// An object as it stands in the cluster, with a UID.
fn standing_object<T: serde::Serialize>(object: &T, uid: &str) -> Value {
    let mut object = serde_json::to_value(object).unwrap();
    object["metadata"]["uid"] = json!(uid);
    object
}

#[tokio::test]
async fn a_marker_whose_making_was_not_answered_is_taken_up() {
    let left = standing_object(&marker(&plan().session), "uid-left");
    let server = Server::default().answer(Method::POST, "/secrets", 409, exists()).answer(
        Method::GET,
        MARKER,
        200,
        left,
    );
    let (ensured, standing) = ensure(&server).await;
    ensured.unwrap();
    assert_eq!(standing.objects[&marker_ref(&plan().session)], "uid-left");
    let asked = server.asked.lock().unwrap();
    let made = asked.iter().find(|a| a.path.ends_with("/serviceaccounts")).unwrap();
    assert_eq!(made.body["metadata"]["annotations"]["nullius.dev/marker-uid"], "uid-left");
    let bound = asked.iter().find(|a| a.path.ends_with("/token")).unwrap();
    assert_eq!(bound.body["spec"]["boundObjectRef"]["uid"], "uid-left");
}

#[tokio::test]
async fn an_account_whose_making_was_not_answered_is_taken_up() {
    let left = standing_object(&account(&plan(), "uid-of-secrets"), "uid-left");
    let server = Server::default().answer(Method::POST, "/serviceaccounts", 409, exists()).answer(
        Method::GET,
        ACCOUNT,
        200,
        left,
    );
    let (ensured, standing) = ensure(&server).await;
    ensured.unwrap();
    assert_eq!(standing.objects[&account_ref(&plan().session)], "uid-left");
}

#[tokio::test]
async fn what_stands_under_a_sessions_name_and_is_not_its_own_is_left_alone() {
    let session = plan().session;
    let mut holds_data = standing_object(&marker(&session), "u");
    holds_data["data"] = json!({ "a": "Yg==" });
    let mut other_labels = standing_object(&marker(&session), "u");
    other_labels["metadata"]["labels"]["theirs"] = json!("yes");
    for found in [holds_data, other_labels] {
        let server = Server::default().answer(Method::POST, "/secrets", 409, exists()).answer(
            Method::GET,
            MARKER,
            200,
            found,
        );
        let (ensured, standing) = ensure(&server).await;
        assert!(matches!(ensured.unwrap_err(), KubeError::Foreign { .. }));
        assert!(standing.objects.is_empty(), "nothing of it is ours to remove");
        assert!(server.asked(&Method::DELETE).is_empty());
    }
    // Made before the marker: it names another, and whoever made it may hold a token of it.
    let server = Server::default().answer(Method::POST, "/serviceaccounts", 409, exists()).answer(
        Method::GET,
        ACCOUNT,
        200,
        standing_object(&account(&plan(), "u"), "v"),
    );
    let (ensured, standing) = ensure(&server).await;
    assert!(matches!(ensured.unwrap_err(), KubeError::Foreign { .. }));
    assert!(!standing.objects.contains_key(&account_ref(&session)));
}

#[tokio::test]
async fn an_object_that_vanishes_while_it_is_looked_at_is_made_by_the_next_attempt() {
    let gone = failure(404, "NotFound", "not found");
    let server = Server::default().answer(Method::POST, "/secrets", 409, exists()).answer(
        Method::GET,
        MARKER,
        404,
        gone,
    );
    let (ensured, _) = ensure(&server).await;
    assert!(!ensured.unwrap_err().is_refused());
}

#[tokio::test]
async fn a_namespace_that_is_away_is_awaited_and_does_not_fail_the_plan() {
    let away = failure(404, "NotFound", "namespaces \"shop\" not found");
    let server = Server::default().answer(Method::POST, BINDINGS, 404, away);
    let (ensured, standing) = ensure(&server).await;
    ensured.unwrap();
    assert_eq!(standing.awaits, ["shop".parse::<Namespace>().unwrap()].into());
    assert!(!standing.is_complete());
}

#[tokio::test]
async fn removal_goes_by_uid_in_order_and_leaves_alone_what_became_anothers() {
    let server = Server::default();
    let (_, mut standing) = ensure(&server).await;
    server.asked.lock().unwrap().clear();
    let changed = failure(409, "Conflict", "Precondition failed: UID in precondition");
    let name = standing.objects.keys().find(|o| is_binding(o)).unwrap().clone();
    let server = server.answer(Method::DELETE, "", 409, changed);
    let flushed = server.sessions().flush(&mut standing).await.unwrap();
    assert_eq!(flushed.foreign, [name]);
    assert_eq!(flushed.removed.len(), 2);
    assert!(standing.objects.is_empty());
    let asked = server.asked.lock().unwrap();
    let kinds: Vec<&str> = asked.iter().map(|a| a.path.rsplit('/').nth(1).unwrap()).collect();
    assert_eq!(kinds, ["rolebindings", "secrets", "serviceaccounts"]);
    for request in asked.iter() {
        let uid = request.body["preconditions"]["uid"].as_str();
        assert!(uid.is_some_and(|uid| uid.starts_with("uid-of-")), "{:?}", request.body);
    }
}

#[tokio::test]
async fn what_could_not_be_removed_is_still_known() {
    let server = Server::default();
    let (_, mut standing) = ensure(&server).await;
    let server = server.answer(Method::DELETE, "", 503, failure(500, "InternalError", "away"));
    let sessions = server.sessions();
    assert!(sessions.flush(&mut standing).await.is_err());
    assert_eq!(standing.objects.len(), 3, "bindings go before the rest");
    assert_eq!(sessions.flush(&mut standing).await.unwrap().removed.len(), 3);
}
