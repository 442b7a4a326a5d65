//! The webhook's own port over TLS, for whoever gets as far as a pod's address: with the path from its Secret as an API server, and
//! without it as everybody else.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nullius_kube::{ADMISSION_PORT, ADMISSION_SECRET, AGENT_ADMISSION, SYSTEM_NAMESPACE};
use nullius_testkit::wait_until;
use nullius_tls::{ClientIdentity, HttpVersions, WebConnector, WebRoots};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::admission_lab::{Court, SOON};

/// A replica of the webhook and what only API servers know of it.
pub(crate) struct Direct {
    address: SocketAddr,
    roots: WebRoots,
    pub(crate) path: String,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Said {
    /// The response of the review.
    #[track_caller]
    pub(crate) fn response(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str::<Value>(&self.body).unwrap()["response"].clone()
    }

    /// The denial's message.
    #[track_caller]
    pub(crate) fn denial(&self) -> String {
        let response = self.response();
        assert_eq!(response["allowed"], false, "{response:#}");
        response["status"]["message"].as_str().unwrap().to_owned()
    }
}

impl Direct {
    pub(crate) fn of(court: &Court<'_>) -> Self {
        let label = format!("app.kubernetes.io/component={AGENT_ADMISSION}");
        let pods = court.system(&["get", "pods", "-l", &label, "-o", "json"]);
        let pods: Value = serde_json::from_str(&pods).unwrap();
        // One that goes has an address, and nobody behind it.
        let mut pods = pods["items"].as_array().unwrap().iter();
        let stays = pods.find(|pod| pod.pointer("/metadata/deletionTimestamp").is_none());
        let pod = stays.unwrap()["status"]["podIP"].as_str().unwrap().to_owned();
        let secret = court.system(&["get", "secret", ADMISSION_SECRET, "-o", "json"]);
        let secret: Value = serde_json::from_str(&secret).unwrap();
        let text = |key: &str| {
            String::from_utf8(STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap())
                .unwrap()
        };
        Self {
            address: SocketAddr::new(pod.trim().parse().unwrap(), ADMISSION_PORT),
            roots: WebRoots::from_pem(text("current.crt").as_bytes()).unwrap(),
            path: text("current.path"),
        }
    }

    /// Sends a body to an entry as an API server would.
    pub(crate) fn review(&self, entry: &str, body: &str) -> Said {
        self.post(&format!("/{}/{entry}?timeout=10s", self.path), body)
    }

    /// Waits until this replica refuses a review: what was refused before may have come to the other one.
    #[track_caller]
    pub(crate) fn wait_for_refusal(&self, entry: &str, body: &str) {
        let refused = wait_until(SOON, "this replica to have the policy", || {
            (self.review(entry, body).response()["allowed"] == false).then_some(())
        });
        refused.unwrap();
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Said {
        self.send("POST", path, body)
    }

    /// Sends one request over TLS.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Said {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connector = WebConnector::new(&self.roots, &ClientIdentity::Anonymous).unwrap();
            let tcp = TcpStream::connect(self.address).await.unwrap();
            let service = format!("{AGENT_ADMISSION}.{SYSTEM_NAMESPACE}.svc");
            let (mut stream, _) =
                connector.connect(tcp, &service, HttpVersions::Http1).await.unwrap();
            let head = format!(
                "{method} {path} HTTP/1.1\r\nhost: {service}\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // A webhook that has read enough may answer and close before all was sent.
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            let _ = stream.flush().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            Said { status, body: body.to_owned() }
        })
    }
}

/// A review of a ConfigMap of the court's namespace.
pub(crate) fn review(court: &Court<'_>, labels: Value) -> Value {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "00000000-0000-4000-8000-000000000001", "operation": "CREATE",
            "kind": { "group": "", "version": "v1", "kind": "ConfigMap" },
            "resource": { "group": "", "version": "v1", "resource": "configmaps" },
            "namespace": court.name(), "name": "tried",
            "userInfo": { "username": "somebody", "groups": ["system:authenticated"] },
            "object": {
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": "tried", "namespace": court.name(), "labels": labels },
            },
        },
    })
}
