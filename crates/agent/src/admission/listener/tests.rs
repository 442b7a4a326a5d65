#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]
//! Real TLS, real policies and real reviews; only the cluster is away, which these policies ask nothing of.

use std::net::{IpAddr, SocketAddr};

use nullius_admission::webhook::{Engine, InForce, PolicyFile};
use nullius_kube::{ApiServer, Credential, InCluster, admission::Questions};
use nullius_model::Timestamp;
use nullius_pki::ServingAuthority;
use nullius_policy::admission_policy::Version as Kubernetes;
use nullius_telemetry::Metrics;
use nullius_tls::{ClientIdentity, HttpVersions, LiveCertificate, WebConnector, WebRoots};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpSocket,
    task::JoinSet,
};

use super::*;
use crate::{
    admission::{
        authority, baselines::Gate, facts::FactSource, meters::AdmissionMeters, policies::Engines,
    },
    report,
    tasks::Tasks,
};

const HOST: &str = "hook.example";
const PATH: &str = "0123456789abcdef0123456789abcdef";
const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: team}
spec:
  failurePolicy: Ignore
  matchConstraints:
    resourceRules: [{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
  validations: [{expression: \"has(object.metadata.labels) && 'team' in object.metadata.labels\", message: a team must be named}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: team}
spec: {policyName: team, validationActions: [Deny]}
";

/// A webhook that listens, and what its API servers know.
struct Hook {
    address: SocketAddr,
    connector: WebConnector,
    metrics: Metrics,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Hook {
    async fn listens() -> Self {
        let now = Timestamp::now();
        let signer = ServingAuthority::create(HOST, now).unwrap();
        let shown = signer.issue(HOST, now).unwrap();
        let certificate = LiveCertificate::new(shown.chain, shown.key.to_der()).unwrap();
        let pem = signer.certificate_pem();

        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("ca.crt");
        std::fs::write(&ca_file, &pem).unwrap();
        let away = InCluster { host: "127.0.0.1".to_owned(), port: 1, ca_file };
        let api = ApiServer::in_cluster(&away).unwrap();
        let file = PolicyFile { name: "a/b.yaml".to_owned(), text: POLICY.to_owned() };
        let in_force = InForce::compile(&[file], Kubernetes::LATEST).unwrap();
        let engines = Engines::in_force(&api, Engine::new(Arc::new(in_force), []).0).unwrap();
        let facts =
            FactSource::new(Questions::new(&api, Credential::None).unwrap(), engines.clone());
        let (reports, _) = report::open();
        let metrics = Metrics::new();
        let meters = AdmissionMeters::new(&metrics);
        let believed = authority::believed(&signer, PATH);
        let gate =
            Gate::watch(&api, &Credential::None, engines.clone(), &mut Tasks::new()).unwrap();
        let webhook = Arc::new(Webhook::new(engines, facts, gate, believed, reports, meters));

        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let acceptor = WebhookAcceptor::new(certificate, None).unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(tcp, acceptor, webhook, stop.clone()));
        let roots = WebRoots::from_pem(pem.as_bytes()).unwrap();
        let connector = WebConnector::new(&roots, &ClientIdentity::Anonymous).unwrap();
        Self { address, connector, metrics, stop, serving }
    }

    /// A connection from one of this machine's own addresses.
    async fn dial(&self, last: u8) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::from([127, 0, 0, last]), 0))?;
        socket.connect(self.address).await
    }

    /// Sends a request over HTTP/1.1 as somebody at this address; `None` where the connection ends without an answer.
    async fn post(&self, last: u8, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = self.shake(last).await?;
        let (head, body) = ask(&mut stream, path, body).await?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body))
    }

    /// A connection for HTTP/1.1.
    async fn shake(&self, last: u8) -> Option<impl AsyncRead + AsyncWrite + Unpin + use<>> {
        let tcp = self.dial(last).await.ok()?;
        let shaken = self.connector.connect(tcp, HOST, HttpVersions::Http1).await;
        shaken.ok().map(|(stream, _)| stream)
    }

    /// A review as an API server sends it; gives whether it was allowed.
    async fn review(&self, last: u8, labels: Value) -> Option<bool> {
        let (status, body) = self.post(last, &asked_at(), &review(labels)).await?;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["response"]["allowed"].as_bool()
    }

    /// Whether the other end closes a connection that says nothing.
    async fn ends(stream: &mut (impl AsyncRead + Unpin)) {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }

    /// How many strangers had to go.
    fn crowded(&self) -> u64 {
        let name = "nullius_admission_connections_cut_total{why=\"crowded\"} ";
        let all = self.metrics.render();
        all.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap()
    }

    async fn end(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

/// Where reviews are asked for.
fn asked_at() -> String {
    format!("/{PATH}/validate-ignore?timeout=5s")
}

/// A review as an API server sends it.
fn review(labels: Value) -> String {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": "CREATE", "name": "c",
            "kind": { "group": "", "version": "v1", "kind": "ConfigMap" },
            "resource": { "group": "", "version": "v1", "resource": "configmaps" },
            "userInfo": { "username": "ada", "groups": ["dev"] },
            "object": { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c", "labels": labels } },
        },
    })
    .to_string()
}

/// Sends a request over a connection; gives head and body of the answer, or nothing where the connection ends before it.
async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    path: &str,
    body: &str,
) -> Option<(String, String)> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.ok()?;
    let mut heard = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&heard).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        if stream.read_buf(&mut heard).await.ok()? == 0 {
            return None;
        }
    }
}

/// One hostile connection after the other, each of its kind, until the task is dropped.
async fn harass(hook: Arc<Hook>, kind: usize, last: u8) {
    loop {
        let Ok(mut tcp) = hook.dial(last).await else {
            tokio::task::yield_now().await;
            continue;
        };
        match kind % 5 {
            // Nothing at all.
            0 => Hook::ends(&mut tcp).await,
            // The beginning of a handshake.
            1 => {
                let _ = tcp.write_all(&[22, 3, 1, 2, 0, 1, 0]).await;
                Hook::ends(&mut tcp).await;
            }
            // A handshake, then silence, or a head that never ends.
            2 | 3 => {
                let shaken = hook.connector.connect(tcp, HOST, HttpVersions::Http1).await;
                let Ok((mut stream, _)) = shaken else { continue };
                if kind % 5 == 3 {
                    let _ = stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\nx: ").await;
                }
                Hook::ends(&mut stream).await;
            }
            _ => {
                drop(tcp);
                let _ = hook.post(last, "/nobody/validate-ignore", "{}").await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_hostile_connections_keep_no_review_from_its_answer() {
    let hook = Arc::new(Hook::listens().await);
    // Whoever attacks has processors of their own.
    let elsewhere =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let elsewhere = elsewhere.unwrap();
    let mut hostile = JoinSet::new();
    for number in 0..400 {
        // Four machines, of which each does everything.
        let last = 10 + u8::try_from(number / 5 % 4).unwrap();
        hostile.spawn_on(harass(Arc::clone(&hook), number, last), elsewhere.handle());
    }
    // Until there are more than all places, as its own figures say.
    tokio::time::timeout(Duration::from_secs(30), async {
        while hook.crowded() < 100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("hostile connections push each other out");
    for turn in 0..20 {
        let labels = if turn % 2 == 0 { json!({ "team": "a" }) } else { json!({}) };
        // Each over a connection of its own, from an address of its own.
        let asked = tokio::time::timeout(Duration::from_secs(5), hook.review(1, labels)).await;
        assert_eq!(asked.expect("within its deadline"), Some(turn % 2 == 0), "turn {turn}");
    }
    hostile.shutdown().await;
    elsewhere.shutdown_background();
    Arc::into_inner(hook).unwrap().end().await;
}

#[tokio::test]
async fn a_wrong_path_ends_the_connection_and_a_right_one_does_not() {
    let hook = Hook::listens().await;
    for (path, stays) in
        [("/nobody/validate-ignore".to_owned(), false), (format!("/{PATH}/validate-ignore"), true)]
    {
        let tcp = hook.dial(2).await.unwrap();
        let (mut stream, _) = hook.connector.connect(tcp, HOST, HttpVersions::Http1).await.unwrap();
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        while !heard.windows(4).any(|four| four == b"\r\n\r\n") {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0);
        }
        let head = String::from_utf8_lossy(&heard).into_owned();
        assert_eq!(head.contains("connection: close"), !stays, "{head}");
        let _ = stream.write_all(request.as_bytes()).await;
        heard.clear();
        let more = stream.read_buf(&mut heard).await.unwrap_or(0);
        assert_eq!(more > 0, stays, "{path}");
    }
    hook.end().await;
}

#[tokio::test]
async fn a_replica_that_stops_answers_who_still_comes_and_goes_when_nobody_does() {
    let hook = Hook::listens().await;
    // One that is there already is sent away with its next answer, so that it comes again elsewhere.
    let mut stream = hook.shake(2).await.unwrap();
    let (at, wrong) = (asked_at(), "{}");
    ask(&mut stream, &at, wrong).await.unwrap();
    hook.stop.cancel();
    while !ask(&mut stream, &at, wrong).await.expect("an answer").0.contains("connection: close") {}
    Hook::ends(&mut stream).await;
    // Each that comes puts the end off: together they take longer than it waits for one.
    let mut came = Instant::now();
    for _ in 0..3 {
        came = Instant::now();
        assert_eq!(hook.review(3, json!({})).await, Some(false));
        assert!(!hook.serving.is_finished());
        tokio::time::sleep(QUIET / 2).await;
    }
    hook.end().await;
    assert!(came.elapsed() >= QUIET);
}

#[tokio::test]
async fn a_replica_that_stops_is_not_held_up_by_who_comes_without_end() {
    let began = Instant::now();
    let mut stop = Stop::begin();
    assert!(stop.put_off());
    stop.latest = began;
    assert!(!stop.put_off(), "it is too late");
    tokio::time::timeout(QUIET, Stop::over(Some(&stop))).await.expect("it is over already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_sent_away_over_http1_hears_it_with_an_answer_and_loses_no_request() {
    let hook = Hook::listens().await;
    let mut stream = hook.shake(1).await.unwrap();
    let (head, _) = ask(&mut stream, &asked_at(), &review(json!({}))).await.unwrap();
    assert!(!head.to_ascii_lowercase().contains("connection: close"), "{head}");
    hook.stop.cancel();
    // It is not just ended: a request may be on its way.
    let ended = tokio::time::timeout(FAREWELL, stream.read_u8()).await;
    assert!(ended.is_err(), "{ended:?}");
    // Each request is answered, until an answer says that no other may follow.
    let (at, review) = (asked_at(), review(json!({})));
    loop {
        let asked = tokio::time::timeout(PARTING, ask(&mut stream, &at, &review)).await.unwrap();
        let (head, body) = asked.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(body.contains("\"allowed\":false"), "{body}");
        if head.to_ascii_lowercase().contains("connection: close") {
            break;
        }
    }
    Hook::ends(&mut stream).await;
    hook.end().await;
}
