//! A hub and the cluster that talks to it, for the tests of these modules: its clock stands still,
//! and the keys of the cluster's ServiceAccount tokens are the test's.
#![allow(clippy::unwrap_used, reason = "test")]

use std::sync::Arc;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nullius_model::{Ceiling, Clock, ClusterName, Timestamp};
use nullius_proto::HUB_AUDIENCE;
use nullius_store::{JoinToken, TokenHash};
use secrecy::ExposeSecret as _;
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Hub, HubSettings};

/// A clock that stands still.
pub(in crate::clusters) struct LabClock(Timestamp);

impl Clock for LabClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

pub(in crate::clusters) struct Lab {
    pub(in crate::clusters) hub: Arc<Hub>,
    pub(in crate::clusters) cluster: ClusterName,
    pub(in crate::clusters) listening: std::net::SocketAddr,
    _shutdown: DropGuard,
    _directory: TempDir,
}

impl Lab {
    pub(in crate::clusters) async fn start() -> Self {
        nullius_tls::install_provider();
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(LabClock(Timestamp::now()));
        let mut settings = HubSettings::new(directory.path());
        settings.listen = ([127, 0, 0, 1], 0).into();
        let shutdown = CancellationToken::new();
        let running = crate::run(settings, clock, shutdown.clone()).await.unwrap();
        let hub = Arc::clone(running.hub());
        let listening = running.listening();
        let cluster = "dev".parse().unwrap();
        let _shutdown = shutdown.drop_guard();
        Self { hub, cluster, listening, _shutdown, _directory: directory }
    }

    /// A join token as the hub makes it for the agent in its own process; the cluster is known from then on.
    pub(in crate::clusters) async fn token_beside(&self) -> String {
        let ceiling = Ceiling::default();
        let token = self.hub.bring_cluster(&self.cluster, ceiling).await.unwrap();
        token.expose_secret().to_owned()
    }

    /// A join token as a person makes it for a manifest.
    pub(in crate::clusters) async fn token_for_manifest(&self) -> String {
        self.token_beside().await;
        let token = format!("{:032x}", nullius_pki::random_bits());
        let now = self.hub.now();
        let stored = JoinToken {
            hash: TokenHash::of(&token),
            cluster: self.cluster.clone(),
            created_by: "person:ada".to_owned(),
            created_at: now,
            expires_at: self.hub.settings().lifetimes.join_token.after(now),
            used_at: None,
        };
        let mut tx = self.hub.store().begin().await.unwrap();
        tx.tokens().create_join(&stored).await.unwrap();
        tx.commit().await.unwrap();
        token
    }
}

/// Who signs a cluster's ServiceAccount tokens.
pub(in crate::clusters) struct Issuer {
    name: String,
    key: EcdsaKeyPair,
}

impl Issuer {
    pub(in crate::clusters) fn new() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { name: "https://kubernetes.default.svc".to_owned(), key }
    }

    pub(in crate::clusters) fn name(&self) -> String {
        self.name.clone()
    }

    pub(in crate::clusters) fn jwks(&self) -> String {
        let point = self.key.public_key().as_ref();
        let (x, y) = (b64(&point[1..33]), b64(&point[33..]));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "1", "x": x, "y": y }] }).to_string()
    }

    /// A token of an account, bound to a pod or not.
    pub(in crate::clusters) fn token(&self, account: &str, pod: Option<&str>) -> String {
        let (namespace, name) = account.split_once('/').unwrap();
        let now = Timestamp::now().as_second();
        let mut kubernetes = json!({
            "namespace": namespace,
            "serviceaccount": { "name": name, "uid": "uid-of-the-account" },
        });
        if let Some(pod) = pod {
            kubernetes["pod"] = json!({ "name": pod, "uid": format!("uid-of-{pod}") });
        }
        let claims = json!({
            "iss": self.name, "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "aud": [HUB_AUDIENCE], "iat": now, "nbf": now, "exp": now + 3_600, "kubernetes.io": kubernetes,
        });
        let header = json!({ "alg": "ES256", "kid": "1" });
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", b64(signature))
    }
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
