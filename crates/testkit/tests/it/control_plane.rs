//! A control plane without nodes, with an API server that is configured by files: all that can be said, at once.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use nullius_testkit::{Api, Cluster, ClusterConfig, Profile};

use crate::Turn;

const AUTHENTICATION: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions: [{path: /livez}, {path: /readyz}]
";

const ADMISSION: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  path: ${CONFIG}/pod-security.yaml
";

const POD_SECURITY: &str = "apiVersion: pod-security.admission.config.k8s.io/v1
kind: PodSecurityConfiguration
defaults: {enforce: restricted, enforce-version: latest}
";

const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: RequestResponse}]
";

/// Whoever RBAC does not know may do everything: nothing else would show that the file is read.
const AUTHORIZATION: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- {type: Node, name: node}
- {type: RBAC, name: rbac}
- {type: AlwaysAllow, name: alwaysallow}
";

const ENCRYPTION: &str = "apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - secretbox: {keys: [{name: key1, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}
";

#[test]
fn the_api_server_is_configured_by_files_and_arguments() {
    let Some(turn) = Turn::wait() else {
        return;
    };
    let mut config = ClusterConfig::new("plane", Profile::ControlPlane);
    config.api_server.authentication = Some(AUTHENTICATION.to_owned());
    config.api_server.admission = Some(ADMISSION.to_owned());
    config.api_server.audit_policy = Some(AUDIT.to_owned());
    config.api_server.authorization = Some(AUTHORIZATION.to_owned());
    config.api_server.encryption = Some(ENCRYPTION.to_owned());
    let (webhook, told) = audit_webhook();
    config.api_server.audit_webhook = Some(webhook);
    config.api_server.args = vec!["--goaway-chance=0.001".to_owned()];
    config.api_server.files =
        BTreeMap::from([("pod-security.yaml".to_owned(), POD_SECURITY.to_owned())]);
    config.feature_gates = BTreeMap::from([("CBORServingAndStorage".to_owned(), true)]);
    let cluster = turn.up(config);
    assert!(cluster.record().nodes.is_empty());

    let namespace = cluster.namespace("files").unwrap();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: rooted}\n\
               spec: {containers: [{name: c, image: x, securityContext: {privileged: true}}]}\n";
    let refused = namespace.apply(pod).unwrap_err().to_string();
    assert!(refused.contains("violates PodSecurity"), "{refused}");

    let entry = cluster
        .audit_log()
        .unwrap()
        .wait_for("the refused pod, with its body", |entry| {
            entry.text("/objectRef/resource") == "pods"
                && entry.text("/requestObject/metadata/name") == "rooted"
        })
        .unwrap();
    assert_eq!(entry.text("/stage"), "ResponseComplete");

    told.recv_timeout(Duration::from_secs(120)).expect("the webhook hears of the refused pod");

    gates_are_set(&cluster);
    secrets_are_encrypted_where_they_are_stored(&cluster);
    authorizers_are_those_of_the_file(&cluster);
    nobody_gets_in_without_a_name(&cluster);
    tokens_are_signed_by_the_published_key(&cluster);
}

/// A webhook that says when it has heard of the pod `rooted`, and its kubeconfig.
fn audit_webhook() -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let tell = tell.clone();
            thread::spawn(move || hear(stream.unwrap(), &tell));
        }
    });
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: \"http://{address}\"}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    );
    (kubeconfig, told)
}

/// Answers the requests of one connection.
fn hear(mut stream: TcpStream, tell: &mpsc::Sender<()>) {
    let mut heard = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        let end = heard.windows(4).position(|window| window == b"\r\n\r\n");
        let whole = end.and_then(|end| {
            let head = String::from_utf8_lossy(&heard[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1)?.lines().next()?.parse::<usize>();
            Some(end + 4 + length.ok()?).filter(|whole| heard.len() >= *whole)
        });
        if let Some(whole) = whole {
            if String::from_utf8_lossy(&heard[..whole]).contains("\"name\":\"rooted\"") {
                let _ = tell.send(());
            }
            heard.drain(..whole);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            continue;
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(count) => heard.extend_from_slice(&part[..count]),
        }
    }
}

fn gates_are_set(cluster: &Cluster) {
    let metrics = cluster.api().unwrap().get("/metrics").unwrap().text();
    let gate = metrics
        .lines()
        .find(|line| line.starts_with("kubernetes_feature_enabled{name=\"CBORServingAndStorage\""))
        .unwrap();
    assert!(gate.ends_with(" 1"), "{gate}");
}

fn secrets_are_encrypted_where_they_are_stored(cluster: &Cluster) {
    let kubectl = cluster.kubectl().unwrap();
    for (kind, value) in [("configmap", "seen-in-the-store"), ("secret", "never-in-the-store")] {
        // kubectl sends a Secret's values in Base64, which becomes bytes before it is stored.
        let mut create = vec!["create", kind];
        create.extend((kind == "secret").then_some("generic"));
        let literal = format!("--from-literal=a={value}");
        create.extend(["stored", "-n", "default", literal.as_str()]);
        kubectl.ok(&create).unwrap();
    }
    let store = contents(&cluster.file("etcd").unwrap());
    let holds = |text: &str| store.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("seen-in-the-store"));
    assert!(!holds("never-in-the-store"));
    assert!(holds("k8s:enc:secretbox:v1:key1:"));
}

/// All bytes of all files below a directory but zeros, of which etcd's files are full.
fn contents(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let found = if path.is_dir() { contents(&path) } else { fs::read(&path).unwrap() };
        bytes.extend(found.into_iter().filter(|byte| *byte != 0));
    }
    bytes
}

fn authorizers_are_those_of_the_file(cluster: &Cluster) {
    let args = ["auth", "can-i", "delete", "nodes", "--as", "somebody", "--as-group", "strangers"];
    let answer = cluster.kubectl().unwrap().run(&args).unwrap();
    assert_eq!((answer.stdout.trim(), answer.code), ("yes", 0), "{}", answer.stderr);
}

fn nobody_gets_in_without_a_name(cluster: &Cluster) {
    let record = cluster.record();
    let address = record.server.trim_start_matches("https://").parse().unwrap();
    let anonymous = Api::anonymous(address, &record.certificate_authority).unwrap();
    assert_eq!(anonymous.get("/readyz").unwrap().text(), "ok");
    assert_eq!(anonymous.get("/version").unwrap().status, 401);
}

fn tokens_are_signed_by_the_published_key(cluster: &Cluster) {
    let kubectl = cluster.kubectl().unwrap();
    let token = kubectl.ok(&["create", "token", "default", "-n", "default"]).unwrap();
    assert_eq!(token.trim().split('.').count(), 3);
    let keys = cluster.api().unwrap().get("/openid/v1/jwks").unwrap().json().unwrap();
    assert_eq!(keys["keys"][0]["alg"], "RS256");
    let issuer = cluster.api().unwrap().get("/.well-known/openid-configuration").unwrap();
    assert_eq!(issuer.json().unwrap()["issuer"], "https://kubernetes.default.svc.cluster.local");
}
