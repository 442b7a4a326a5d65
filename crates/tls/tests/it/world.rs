//! A root, the parts that it certifies, and handshakes over a pipe.

use std::{io, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use nullius_model::{InfraId, InstanceId, Ttl};
use nullius_pki::{
    AGENT_CERTIFICATE_TTL, HUB_CERTIFICATE_TTL, InfraRoot, IssuedCertificate, PrivateKey,
};
use nullius_tls::{
    AcceptError, Accepted, HubAcceptor, InfraRoots, LiveCertificate, PeerRule, Protocol,
    agent_client_config,
};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

pub(crate) struct World {
    pub(crate) root: InfraRoot,
    pub(crate) roots: InfraRoots,
}

pub(crate) fn hub() -> InfraId {
    InfraId::Hub { instance: InstanceId::from_bits(1) }
}

pub(crate) fn proxy(cluster: &str) -> InfraId {
    InfraId::AgentProxy { cluster: cluster.parse().unwrap(), instance: InstanceId::from_bits(2) }
}

pub(crate) fn control(cluster: &str) -> InfraId {
    InfraId::AgentControl { cluster: cluster.parse().unwrap(), instance: InstanceId::from_bits(3) }
}

pub(crate) fn admission(cluster: &str) -> InfraId {
    InfraId::AgentAdmission {
        cluster: cluster.parse().unwrap(),
        instance: InstanceId::from_bits(4),
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let root = InfraRoot::create(Timestamp::now()).unwrap();
        let roots = InfraRoots::from_pem(root.certificate_pem()).unwrap();
        Self { root, roots }
    }

    pub(crate) fn issue(&self, id: &InfraId, now: Timestamp) -> (IssuedCertificate, PrivateKey) {
        let key = PrivateKey::generate().unwrap();
        let csr = key.request().unwrap();
        let names = ["localhost", "127.0.0.1"].map(|name| ServerName::try_from(name).unwrap());
        let issued = match id {
            InfraId::Hub { .. } => self.root.issue_hub(&csr, id, &names, HUB_CERTIFICATE_TTL, now),
            InfraId::AgentProxy { .. }
            | InfraId::AgentControl { .. }
            | InfraId::AgentAdmission { .. }
            | InfraId::AgentIdentity { .. } => {
                self.root.issue_agent(&csr, id, AGENT_CERTIFICATE_TTL, now)
            }
        };
        (issued.unwrap(), key)
    }

    pub(crate) fn certify(&self, id: &InfraId) -> Arc<LiveCertificate> {
        let (issued, key) = self.issue(id, Timestamp::now());
        LiveCertificate::of(&issued, &key).unwrap()
    }

    /// A certificate of an agent that has ended already.
    pub(crate) fn certify_expired(&self, id: &InfraId) -> Arc<LiveCertificate> {
        let key = PrivateKey::generate().unwrap();
        let begin = Timestamp::now() - SignedDuration::from_secs(200);
        let ttl = Ttl::from_secs(1);
        let issued = self.root.issue_agent(&key.request().unwrap(), id, ttl, begin).unwrap();
        LiveCertificate::of(&issued, &key).unwrap()
    }

    pub(crate) fn acceptor(&self) -> HubAcceptor {
        HubAcceptor::new(self.certify(&hub()), &self.roots).unwrap()
    }

    /// A client of a hub with some certificate.
    pub(crate) fn agent(&self, id: &InfraId, protocol: Protocol) -> Arc<ClientConfig> {
        agent_client_config(&self.roots, self.certify(id), PeerRule::Hub, protocol).unwrap()
    }
}

pub(crate) fn connector(
    config: Arc<ClientConfig>,
    io: DuplexStream,
) -> tokio_rustls::Connect<DuplexStream> {
    TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), io)
}

type Dialled = io::Result<client::TlsStream<DuplexStream>>;

/// A handshake with a hub. The client reads once, since in TLS 1.3 it learns only so that it was refused.
pub(crate) async fn dial_hub(
    acceptor: &HubAcceptor,
    config: Arc<ClientConfig>,
) -> (Result<Accepted<DuplexStream>, AcceptError>, Dialled) {
    let (near, far) = duplex(64 * 1024);
    let serve = async {
        let accepted = acceptor.accept(far).await;
        greet(accepted).await
    };
    tokio::join!(serve, dial(config, near))
}

async fn greet(
    accepted: Result<Accepted<DuplexStream>, AcceptError>,
) -> Result<Accepted<DuplexStream>, AcceptError> {
    let mut accepted = accepted?;
    let stream = match &mut accepted {
        Accepted::Public(stream) | Accepted::Agent { stream, .. } => stream,
    };
    stream.write_all(b"!").await.unwrap();
    stream.flush().await.unwrap();
    Ok(accepted)
}

async fn dial(config: Arc<ClientConfig>, io: DuplexStream) -> Dialled {
    let mut stream = connector(config, io).await?;
    let mut greeting = [0];
    stream.read_exact(&mut greeting).await?;
    Ok(stream)
}

/// A handshake with a server of one configuration.
pub(crate) async fn dial_server(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> (io::Result<server::TlsStream<DuplexStream>>, Dialled) {
    let (near, far) = duplex(64 * 1024);
    let serve = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        Ok(stream)
    };
    tokio::join!(serve, dial(client, near))
}

/// The whole chain of an error as text.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
