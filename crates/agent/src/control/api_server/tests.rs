#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode, header::RETRY_AFTER};
use hyper_util::rt::TokioIo;
use nullius_audit::api_server::LIST_BYTES;
use nullius_model::{Timestamp, Ttl};
use nullius_pki::{CallerCertificate, ServingAuthority};
use nullius_proto::agent_v1::{ReportBatch, ServerWeight};
use nullius_telemetry::Metrics;
use nullius_tls::{
    ClientIdentity, HttpVersions, LiveCertificate, WebConnector, WebRoots, WebhookAcceptor,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};

use super::*;
use crate::report::Waiting;

const PAGE: &str = "system:serviceaccount:shop:page";
const YEAR: Ttl = Ttl::from_secs(365 * 86_400);

/// The audit webhook on this machine, with an authority of its own.
struct Webhook {
    address: SocketAddr,
    authority: ServingAuthority,
    waiting: Waiting,
    metrics: Metrics,
    accepts: watch::Sender<Option<WebhookAcceptor>>,
    _tasks: JoinSet<()>,
}

impl Webhook {
    async fn start() -> Self {
        nullius_tls::install_provider();
        let authority = ServingAuthority::create(&service_name(), Timestamp::now()).unwrap();
        let (reports, waiting) = report::open();
        let metrics = Metrics::new();
        let hearing = Hearing::new("dev".parse().unwrap(), reports, HearingMeters::new(&metrics));
        let (accepts, acceptor) = watch::channel(Some(acceptor(&authority)));
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(Ear::new(hearing).serve(tcp, acceptor));
        Self { address, authority, waiting, metrics, accepts, _tasks: tasks }
    }

    fn caller(&self) -> ClientIdentity {
        caller_of(&self.authority, &service_name())
    }

    /// Posts a body as somebody; the status, or an error where nobody listened.
    async fn post(
        &self,
        who: &ClientIdentity,
        body: impl Into<Bytes>,
    ) -> Result<StatusCode, String> {
        self.send(who, "POST", "/audit", body).await.map(|(status, _)| status)
    }

    async fn send(
        &self,
        who: &ClientIdentity,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<(StatusCode, String), String> {
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let roots = WebRoots::from_pem(self.authority.certificate_pem().as_bytes()).unwrap();
        let connector = WebConnector::new(&roots, who).unwrap();
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = service_name();
        let (stream, _) = connector
            .connect(tcp, &name, HttpVersions::Http1)
            .await
            .map_err(|error| told(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| told(&error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &name)
            .body(Full::new(body.into()))
            .unwrap();
        let response = sender.send_request(request).await.map_err(|error| told(&error))?;
        let again = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
        let (status, again) = (response.status(), again.unwrap_or_default().to_owned());
        let _ = response.into_body().collect().await;
        Ok((status, again))
    }

    /// All that would be told now.
    fn told(&self) -> Vec<ReportBatch> {
        std::iter::from_fn(|| self.waiting.next()).collect()
    }

    fn metric(&self, line: &str) -> u64 {
        let text = self.metrics.render();
        let found = text.lines().find_map(|each| each.strip_prefix(line));
        found.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    }
}

fn acceptor(authority: &ServingAuthority) -> WebhookAcceptor {
    let issued = authority.issue(&service_name(), Timestamp::now()).unwrap();
    let shown = LiveCertificate::new(issued.chain, issued.key.to_der()).unwrap();
    let roots = WebRoots::from_pem(authority.certificate_pem().as_bytes()).unwrap();
    WebhookAcceptor::new(shown, Some(&roots)).unwrap()
}

fn caller_of(authority: &ServingAuthority, service: &str) -> ClientIdentity {
    let name = format!("api-server.{service}");
    let CallerCertificate { certificate_pem, key_pem, .. } =
        authority.issue_caller(&name, YEAR, Timestamp::now()).unwrap();
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    ClientIdentity::Certificate(LiveCertificate::new(vec![certificate], key).unwrap())
}

/// An answered request; each number is another one.
fn event(number: u32, username: &str) -> Value {
    json!({
        "level": "Metadata", "auditID": format!("a-{number}"), "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/shop/pods", "verb": "list",
        "user": { "username": username },
        "objectRef": { "resource": "pods", "namespace": "shop", "apiVersion": "v1" },
        "responseStatus": { "code": 200 },
        "requestReceivedTimestamp": format!("2026-11-22T04:41:11.{number:06}Z"),
        "stageTimestamp": "2026-11-22T04:41:12.009296Z",
        "annotations": {
            "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason":
                r#"RBAC: allowed by RoleBinding "read/shop" of Role "read" to ServiceAccount "page/shop""#,
        },
    })
}

fn denial(number: u32, username: &str) -> Value {
    let mut event = event(number, username);
    event["annotations"] =
        json!({ "authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": "" });
    event["responseStatus"] = json!({ "code": 403, "message": "pods is forbidden: no" });
    event
}

fn list(events: impl IntoIterator<Item = Value>) -> String {
    let items: Vec<Value> = events.into_iter().collect();
    json!({ "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": items }).to_string()
}

#[tokio::test]
async fn only_an_api_server_with_the_certificate_made_for_it_is_heard() {
    let webhook = Webhook::start().await;
    let body = list([event(1, PAGE)]);
    let now = Timestamp::now();
    // A pod has none; the admission webhook's authority, or somebody's own, is another one, under whatever name.
    let admission = "nullius-agent-admission.nullius-system.svc";
    let other = ServingAuthority::create(admission, now).unwrap();
    let own = ServingAuthority::create(&service_name(), now).unwrap();
    let serving = {
        let issued = webhook.authority.issue(&service_name(), now).unwrap();
        let shown = LiveCertificate::new(issued.chain, issued.key.to_der()).unwrap();
        ClientIdentity::Certificate(shown)
    };
    let strangers = [
        ClientIdentity::Anonymous,
        caller_of(&other, admission),
        caller_of(&own, &service_name()),
        // What serves cannot call.
        serving,
    ];
    for stranger in &strangers {
        assert!(webhook.post(stranger, body.clone()).await.is_err());
    }
    assert!(webhook.told().is_empty());
    assert_eq!(webhook.post(&webhook.caller(), body).await.unwrap(), StatusCode::OK);
    assert_eq!(webhook.told().len(), 1);
    assert_eq!(webhook.metric("nullius_agent_audit_strangers_total"), 4);
    for (method, path) in [("GET", "/audit"), ("POST", "/"), ("POST", "/metrics")] {
        let (status, _) = webhook.send(&webhook.caller(), method, path, "").await.unwrap();
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn with_another_authority_old_certificates_count_no_more_also_on_connections_that_stand() {
    let webhook = Webhook::start().await;
    let old = webhook.caller();
    assert_eq!(webhook.post(&old, list([])).await.unwrap(), StatusCode::OK);
    let another = ServingAuthority::create(&service_name(), Timestamp::now()).unwrap();
    webhook.accepts.send_replace(Some(acceptor(&another)));
    assert!(webhook.post(&old, list([])).await.is_err());
}

#[tokio::test]
async fn what_is_no_list_is_refused_and_told_as_one_gap_however_often_it_comes() {
    let webhook = Webhook::start().await;
    let who = webhook.caller();
    let wrong_kind =
        json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1" }).to_string();
    let deep = format!(r#"{{"kind":"EventList","items":{}"#, "[".repeat(1 << 20));
    let twice =
        r#"{"kind":"EventList","kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}"#
            .to_owned();
    for bad in ["".to_owned(), wrong_kind, deep, twice] {
        for _ in 0..3 {
            assert_eq!(webhook.post(&who, bad.clone()).await.unwrap(), StatusCode::BAD_REQUEST);
        }
    }
    let huge = vec![b' '; LIST_BYTES + 1];
    assert_ne!(webhook.post(&who, huge).await.ok(), Some(StatusCode::OK));
    let gap: u64 = webhook.told().iter().map(|batch| batch.unreadable_lists).sum();
    assert_eq!(gap, 5);
    // And it goes on.
    let half = list([event(1, PAGE), json!({ "stage": 7 })]);
    assert_eq!(webhook.post(&who, half).await.unwrap(), StatusCode::OK);
    let [batch] = webhook.told().try_into().unwrap();
    assert_eq!((batch.unreadable_events, batch.server_uses[0].count), (1, 1));
}

#[tokio::test]
async fn a_list_that_comes_again_is_counted_once_and_a_callers_audit_id_hides_nothing() {
    let webhook = Webhook::start().await;
    let who = webhook.caller();
    let body =
        list((1..=100).map(|number| {
            if number % 10 == 0 { denial(number, PAGE) } else { event(number, PAGE) }
        }));
    for _ in 0..3 {
        assert_eq!(webhook.post(&who, body.clone()).await.unwrap(), StatusCode::OK);
    }
    let [batch] = webhook.told().try_into().unwrap();
    assert_eq!(batch.server_words.len(), 10);
    let counts: Vec<u64> = batch.server_uses.iter().map(|used| used.count).collect();
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (2, 100), "{:?}", batch.server_uses);

    // A pod sends one Audit-ID with all that it tries.
    let same_id = (200..210).map(|number| {
        let mut event = denial(number, PAGE);
        event["auditID"] = json!("mine");
        event
    });
    assert_eq!(webhook.post(&who, list(same_id)).await.unwrap(), StatusCode::OK);
    let [batch] = webhook.told().try_into().unwrap();
    assert_eq!((batch.server_words.len(), batch.server_uses[0].count), (10, 10));
}

#[tokio::test]
async fn two_replicas_mark_the_same_request_alike_and_no_two_requests() {
    let (one, other) = (Webhook::start().await, Webhook::start().await);
    let mut acting = event(3, "ada");
    acting["impersonatedUser"] = json!({ "username": "robot" });
    let mut same_id = event(4, PAGE);
    same_id["auditID"] = json!("a-1");
    let body = list([event(1, PAGE), event(2, PAGE), acting, same_id]);
    let mut marks = Vec::new();
    for webhook in [&one, &other] {
        webhook.post(&webhook.caller(), body.clone()).await.unwrap();
        let [batch] = webhook.told().try_into().unwrap();
        let uses = batch.server_uses.iter();
        assert!(uses.clone().all(|used| used.count == used.marks.len() as u64));
        let all: std::collections::BTreeSet<u64> =
            uses.flat_map(|used| used.marks.clone()).collect();
        assert_eq!(all.len(), 5, "four requests, and one impersonation");
        marks.push(all);
    }
    assert_eq!(marks[0], marks[1]);
    // While the hub is away there is no room for all marks; everything is counted.
    for list_number in 0..5 {
        let numbers = list_number * 10_000..(list_number + 1) * 10_000;
        let body = list(numbers.map(|number| event(number + 10, PAGE)));
        assert_eq!(one.post(&one.caller(), body).await.unwrap(), StatusCode::OK);
    }
    let told = one.told();
    let uses = || told.iter().flat_map(|batch| &batch.server_uses);
    assert_eq!(uses().map(|used| used.count).sum::<u64>(), 50_000);
    assert_eq!(
        uses().map(|used| used.marks.len()).sum::<usize>(),
        nullius_proto::report::SERVER_MARKS
    );
}

#[tokio::test]
async fn uses_are_those_of_whom_the_right_belongs_to() {
    let webhook = Webhook::start().await;
    let session = format!("system:serviceaccount:nullius-sessions:session-{}", "0".repeat(32));
    let mut acting = event(3, "ada");
    acting["impersonatedUser"] = json!({ "username": "robot" });
    let mut refused = denial(6, "eve");
    refused["annotations"] = json!({});
    let mut probe = denial(4, "system:serviceaccount:nullius-system:nullius-provisioner");
    probe["requestURI"] = json!("/api/v1/namespaces/nullius-sessions/secrets?dryRun=All");
    let mut health = event(5, PAGE);
    health["objectRef"] = Value::Null;
    health["requestURI"] = json!("/metrics?secret=1");
    let events = [event(1, &session), denial(2, &session), acting, probe, health, refused];
    webhook.post(&webhook.caller(), list(events)).await.unwrap();
    let [batch] = webhook.told().try_into().unwrap();
    let mut uses: Vec<_> = batch
        .server_uses
        .iter()
        .map(|used| (used.username.as_str(), used.operation.as_str(), used.resource.as_str()))
        .collect();
    uses.sort_unstable();
    assert_eq!(
        uses,
        [
            ("ada", "impersonate", "users"),
            ("eve", "impersonate", "users"),
            ("robot", "list", "pods"),
            ("system:serviceaccount:nullius-system:nullius-provisioner", "list", "pods"),
            (PAGE, "list", "/metrics"),
        ],
        "the hub has counted what sessions use"
    );
    let eve = batch.server_uses.iter().find(|used| used.username == "eve");
    assert!(!eve.unwrap().allowed, "she may not act as whom she named");
    let words: Vec<_> =
        batch.server_words.iter().map(|word| (word.username.as_str(), word.weight())).collect();
    let unauthorized = ServerWeight::Unauthorized;
    assert_eq!(words, [(session.as_str(), unauthorized), ("eve", unauthorized)]);
}

#[tokio::test]
async fn a_flood_is_turned_away_and_one_account_does_not_crowd_out_the_others() {
    let webhook = Webhook::start().await;
    let who = webhook.caller();
    let mut number = 0;
    let mut flood = |username: &str| {
        number += 1_000;
        list((number..number + 1_000).map(|number| denial(number, username)))
    };
    // The hub is away: words of one account are kept up to a quarter of the room.
    for _ in 0..10 {
        assert_eq!(webhook.post(&who, flood("loud")).await.unwrap(), StatusCode::OK);
    }
    for account in ["a", "b", "c"] {
        for _ in 0..5 {
            assert_eq!(webhook.post(&who, flood(account)).await.unwrap(), StatusCode::OK);
        }
    }
    let (status, again) = webhook.send(&who, "POST", "/audit", flood("quiet")).await.unwrap();
    assert_eq!((status, again.as_str()), (StatusCode::TOO_MANY_REQUESTS, "5"));
    // What says nothing needs no room: its uses are counted.
    assert_eq!(webhook.post(&who, list([event(1, "quiet")])).await.unwrap(), StatusCode::OK);

    let told = webhook.told();
    let words: Vec<_> = told.iter().flat_map(|batch| &batch.server_words).collect();
    let of = |name: &str| words.iter().filter(|word| word.username == name).count();
    assert_eq!((of("loud"), of("a"), of("b"), of("c")), (5_000, 5_000, 5_000, 5_000));
    let sum = |of: fn(&ReportBatch) -> u64| told.iter().map(of).sum::<u64>();
    assert_eq!(
        (sum(|batch| batch.lost_server_words), sum(|batch| batch.turned_away_lists)),
        (5_000, 1)
    );
    let denied = |name: &str| -> u64 {
        let uses = told.iter().flat_map(|batch| &batch.server_uses);
        uses.filter(|used| used.username == name && !used.allowed).map(|used| used.count).sum()
    };
    assert_eq!(denied("loud"), 10_000, "uses are exact also where words are lost");
    // The list that was turned away comes again, and nothing of it is lost.
    number -= 1_000;
    let mut again = |username: &str| {
        number += 1_000;
        list((number..number + 1_000).map(|number| denial(number, username)))
    };
    assert_eq!(webhook.post(&who, again("quiet")).await.unwrap(), StatusCode::OK);
    let words: usize = webhook.told().iter().map(|batch| batch.server_words.len()).sum();
    assert_eq!(words, 1_000);
}

#[tokio::test]
async fn strangers_who_hold_connections_keep_no_api_server_waiting_for_long() {
    let webhook = Webhook::start().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(webhook.address).await.unwrap());
    }
    let body = list([event(1, PAGE)]);
    let who = webhook.caller();
    let heard = tokio::time::timeout(Duration::from_secs(60), webhook.post(&who, body));
    assert_eq!(heard.await.unwrap().unwrap(), StatusCode::OK);
    drop(silent);
}

/// How fast lists are heard, for the figures in the docs: run it with `--nocapture` and an optimised build.
#[tokio::test]
async fn lists_are_heard_as_fast_as_an_api_server_tells_them() {
    let webhook = Webhook::start().await;
    let who = webhook.caller();
    let lists: Vec<String> = (0..50u32)
        .map(|list_number| {
            let numbers = list_number * 400..(list_number + 1) * 400;
            list(numbers.map(|number| {
                event(number, &format!("system:serviceaccount:shop:page-{}", number % 500))
            }))
        })
        .collect();
    let began = std::time::Instant::now();
    for body in &lists {
        assert_eq!(webhook.post(&who, body.clone()).await.unwrap(), StatusCode::OK);
    }
    let took = began.elapsed();
    let uses: Vec<_> = webhook.told().into_iter().flat_map(|batch| batch.server_uses).collect();
    assert_eq!((uses.len(), uses.iter().map(|used| used.count).sum::<u64>()), (500, 20_000));
    eprintln!("heard 20,000 events in {took:?}: {:.0} a second", 20_000.0 / took.as_secs_f64());
}
