//! The connection to `agent identity`: what is registered comes over it, and SVIDs are signed over it.
//!
//! The agent is believed by its own SVID, which the trust bundle stands behind; where it is dialled proves nothing. The node is believed
//! by its pod's token, which is read anew for each call: the kubelet replaces it. A machine outside of the cluster joins
//! first, and signs its tokens itself.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use nullius_mesh::news::NEWS_MAX;
use nullius_model::{Namespace, SpiffeId, Timestamp};
use nullius_pki::{
    Csr,
    workload::{X509Svid, read_x509_svid},
};
use nullius_proto::{
    VERSION,
    node_v1::{
        IssueJwtRequest, IssueX509Request, Registrations, WatchRequest,
        identity_client::IdentityClient, machines_client::MachinesClient, mesh_client::MeshClient,
        seeing_client::SeeingClient,
    },
};
use nullius_tls::{WorkloadConnector, WorkloadStream};
use nullius_workload::{
    IssueError, Issuer, JwtIssued, Registered, wait_after,
    wire::{REGISTRATIONS_MAX, WireError, read_registrations},
};
use rustls_pki_types::CertificateDer;
use tokio::{
    net::TcpStream,
    sync::{oneshot, watch},
};
use tonic::{
    Code, Request, Status,
    metadata::{AsciiMetadataValue, errors::InvalidMetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    NodeSettings,
    memory::Memory,
    meters::{Kind, Meters, Unsigned},
    proof::{Proof, ProofError},
    trust::{Trust, TrustError},
    way::Way,
};

/// Namespace and account of `agent identity`.
const NAMESPACE: &str = "nullius-system";
const ACCOUNT: &str = "nullius-identity";
const PROTOCOL: &[u8] = b"h2";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream that lasted so long was a good one: after it waits begin anew.
const GOOD: Duration = Duration::from_secs(10);
/// Waits grow no more after so many: they are four seconds then.
const MOST_FAILURES: u32 = 3;
/// The agent says what is registered within so long.
const FIRST: Duration = Duration::from_secs(10);
/// How often the trust is looked for while there is none.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What is known of the agent, and how it is asked.
#[derive(Clone)]
pub(crate) struct Link {
    proof: Proof,
    memory: Memory,
    way: Way,
    registered: watch::Sender<Option<Arc<Registered>>>,
    heard: watch::Sender<Option<Arc<Registrations>>>,
    meters: Meters,
}

/// Why the agent tells nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("there is no token to show")]
    Proof(#[from] ProofError),
    #[error("the token to show is none")]
    NoToken(#[from] InvalidMetadataValue),
    #[error("the agent says: {}", told(.0))]
    Told(Box<Status>),
    #[error("the agent says nothing within {} s", FIRST.as_secs())]
    Silent,
    #[error("what the agent tells is refused")]
    Wire(#[from] WireError),
    #[error("the agent tells of the trust domain `{0}`, which is not this cluster's")]
    OtherDomain(String),
}

impl Link {
    /// Connects when it is needed, again when it broke, and anew when nobody is helped.
    pub(crate) fn new(
        settings: &NodeSettings,
        proof: Proof,
        registered: watch::Sender<Option<Arc<Registered>>>,
        heard: watch::Sender<Option<Arc<Registrations>>>,
        meters: Meters,
    ) -> Self {
        let (believed, newest) = (proof.clone(), registered.subscribe());
        let connector = tower::service_fn(move |_: hyper::Uri| {
            let (believed, newest) = (believed.clone(), newest.clone());
            async move { dial(&believed, &newest).await.map(TokioIo::new) }
        });
        // The address names nobody: the connector knows where to dial and whom to expect.
        let endpoint = Endpoint::from_static("http://agent-identity")
            .connect_timeout(2 * CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let way = Way::new(move || endpoint.connect_with_connector_lazy(connector.clone()));
        Self { proof, memory: Memory::new(&settings.state), way, registered, heard, meters }
    }

    /// Hears what is registered, without end. What was heard last counts until something else is heard. A machine that may not join
    /// says why, and hears nothing.
    pub(crate) async fn run(self, refused: oneshot::Sender<String>) {
        self.remember().await;
        if let Err(why) = self.join().await {
            let _ = refused.send(why);
            return std::future::pending().await;
        }
        let mut failures = 0_u32;
        loop {
            let began = Instant::now();
            let ended = self.hear().await;
            self.meters.connected.set((), 0);
            if began.elapsed() > GOOD {
                failures = 0;
            }
            let wait = match ended {
                // The agent ends it when the token does; the next one is there by then.
                Ok(()) => wait_after(0),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, failures, "fail to hear what is registered");
                    wait_after(failures)
                }
            };
            // Within a cluster nobody is long away, and pods wait.
            failures = (failures + 1).min(MOST_FAILURES);
            tokio::time::sleep(wait).await;
        }
    }

    /// Joins, where this is a machine that has not yet; says why it never will.
    async fn join(&self) -> Result<(), String> {
        let Some(machine) = self.proof.machine() else { return Ok(()) };
        let mut failures = 0_u32;
        loop {
            let asked = machine.joining().map_err(|error| error.to_string())?;
            let Some(asked) = asked else { return Ok(()) };
            let mut client = MachinesClient::new(self.way.channel());
            let answer = tokio::time::timeout(FIRST, client.join(asked)).await;
            let why = match answer {
                Ok(answer) => {
                    self.way.note(&answer);
                    match answer {
                        Ok(_) => {
                            machine.note_joined();
                            tracing::info!("this machine has joined");
                            return Ok(());
                        }
                        Err(status) if is_final(status.code()) => return Err(told(&status)),
                        Err(status) => told(&status),
                    }
                }
                Err(_) => {
                    self.way.leave();
                    "the agent does not answer".to_owned()
                }
            };
            tracing::warn!(why, failures, "cannot join yet, try again");
            tokio::time::sleep(wait_after(failures)).await;
            failures = (failures + 1).min(MOST_FAILURES);
        }
    }

    /// Begins with what was known before the restart, once it is known whose node this is.
    async fn remember(&self) {
        let mut is_told = false;
        let trust = loop {
            match self.proof.trust() {
                Ok(trust) => break trust,
                Err(error) if !is_told => {
                    is_told = true;
                    tracing::warn!(%error, "wait for the cluster's trust bundle");
                }
                Err(_) => {}
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        match self.memory.read(&trust.domain) {
            Ok(Some(told)) => {
                tracing::info!(
                    entries = told.registered.entries.len(),
                    "remember what was registered"
                );
                self.registered.send_replace(Some(Arc::new(told.registered)));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "forget what was registered before the restart"),
        }
    }

    /// Hears one stream to its end.
    async fn hear(&self) -> Result<(), LinkError> {
        let trust = self.proof.trust()?;
        let request = self.request(WatchRequest { version: VERSION })?;
        let mut left = self.way.left();
        let mut client = self.client();
        let begun = async {
            let mut stream = client.watch(request).await?.into_inner();
            let first = stream.message().await?;
            Ok((stream, first))
        };
        let Some((mut stream, mut message)) = self.first(begun, &mut left).await? else {
            return Ok(());
        };
        self.meters.connected.set((), 1);
        while let Some(told) = message {
            self.take(told, &trust)?;
            message = tokio::select! {
                message = stream.message() => message.map_err(LinkError::told)?,
                // On the connection that was left nobody is helped.
                _ = left.changed() => return Ok(()),
            };
        }
        Ok(())
    }

    /// Waits for what a stream says first; nothing where the connection was left meanwhile. Who says nothing in time cannot help.
    pub(crate) async fn first<T>(
        &self,
        begun: impl Future<Output = Result<T, Status>>,
        left: &mut watch::Receiver<()>,
    ) -> Result<Option<T>, LinkError> {
        let begun = tokio::select! {
            biased;
            _ = left.changed() => return Ok(None),
            begun = tokio::time::timeout(FIRST, begun) => begun,
        };
        let Ok(begun) = begun else {
            self.way.leave();
            return Err(LinkError::Silent);
        };
        self.way.note(&begun);
        begun.map(Some).map_err(LinkError::told)
    }

    /// Leaves a connection on which nothing comes any more.
    pub(crate) fn leave(&self) {
        self.way.leave();
    }

    /// Changes when a connection is left: streams on it have to come along.
    pub(crate) fn left(&self) -> watch::Receiver<()> {
        self.way.left()
    }

    fn take(&self, message: Registrations, trust: &Trust) -> Result<(), LinkError> {
        let told = read_registrations(message.clone())?;
        if told.registered.trust_domain != trust.domain {
            return Err(LinkError::OtherDomain(told.registered.trust_domain.to_string()));
        }
        tracing::debug!(entries = told.registered.entries.len(), "hear what is registered");
        self.registered.send_replace(Some(Arc::new(told.registered)));
        // Pods do not wait for the disk.
        self.heard.send_replace(Some(Arc::new(message)));
        Ok(())
    }

    fn client(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.way.channel()).max_decoding_message_size(REGISTRATIONS_MAX)
    }

    /// The same connection, for what is told of the mesh.
    pub(crate) fn mesh(&self) -> MeshClient<Channel> {
        MeshClient::new(self.way.channel()).max_decoding_message_size(NEWS_MAX)
    }

    /// The same connection, for what was seen of calls.
    pub(crate) fn seeing(&self) -> SeeingClient<Channel> {
        SeeingClient::new(self.way.channel())
    }

    pub(crate) fn request<T>(&self, message: T) -> Result<Request<T>, LinkError> {
        let token = self.proof.token()?;
        let mut value: AsciiMetadataValue = format!("Bearer {}", token.trim()).parse()?;
        value.set_sensitive(true);
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }

    /// Has the agent sign.
    pub(crate) fn issuer(&self) -> Issuer {
        let (one, two) = (self.clone(), self.clone());
        Issuer::new(
            move |id, _, csr| {
                let link = one.clone();
                async move { link.counted(Kind::X509, link.x509(id, csr)).await }
            },
            move |id, _, audience| {
                let link = two.clone();
                async move { link.counted(Kind::Jwt, link.jwt(id, audience)).await }
            },
        )
    }

    async fn counted<T>(
        &self,
        kind: Kind,
        asked: impl Future<Output = Result<T, IssueError>>,
    ) -> Result<T, IssueError> {
        let began = Instant::now();
        let answer = asked.await;
        match &answer {
            Ok(_) => {
                self.meters.issued.add_one(kind);
                self.meters.asked.observe(kind, began.elapsed());
            }
            Err(IssueError::Refused(_)) => self.meters.unsigned.add_one(Unsigned::Refused),
            Err(IssueError::Unavailable(_)) => self.meters.unsigned.add_one(Unsigned::Unavailable),
        }
        answer
    }

    async fn x509(&self, id: Box<str>, csr: Csr) -> Result<X509Svid, IssueError> {
        let asked = IssueX509Request {
            version: VERSION,
            entry: id.into(),
            certificate_request: csr.as_der().to_vec(),
        };
        let answer = self.client().issue_x509(self.request(asked).map_err(unavailable)?).await;
        self.way.note(&answer);
        let chain = answer.map_err(|status| unsigned(&status))?.into_inner().chain;
        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        let leaf = chain.first().ok_or_else(|| unavailable("the agent sent no certificate"))?;
        let (id, not_after) = read_x509_svid(leaf).map_err(unavailable)?;
        Ok(X509Svid { chain, id, not_after })
    }

    async fn jwt(&self, id: Box<str>, audience: Vec<String>) -> Result<JwtIssued, IssueError> {
        let asked = IssueJwtRequest { version: VERSION, entry: id.into(), audience };
        let answer = self.client().issue_jwt(self.request(asked).map_err(unavailable)?).await;
        self.way.note(&answer);
        let answer = answer.map_err(|status| unsigned(&status))?.into_inner();
        let expires_at = Timestamp::from_second(answer.expires_at).map_err(unavailable)?;
        Ok(JwtIssued { token: answer.token.into(), expires_at })
    }
}

impl LinkError {
    pub(crate) fn told(status: Status) -> Self {
        Self::Told(Box::new(status))
    }
}

/// Dials the agent, and proves that it is there.
async fn dial(
    proof: &Proof,
    newest: &watch::Receiver<Option<Arc<Registered>>>,
) -> io::Result<WorkloadStream> {
    let trust = proof.trust().map_err(io::Error::other)?;
    let known = newest.borrow().clone();
    let newer = known.as_ref().and_then(|known| known.bundles.get(&trust.domain));
    let namespace: Namespace = NAMESPACE.parse().map_err(io::Error::other)?;
    let expected = SpiffeId::of_service_account(&trust.domain, &namespace, ACCOUNT);
    let bundle = trust.newest(newer.map(AsRef::as_ref));
    let connector = WorkloadConnector::without_svid([bundle], [expected].into(), &[PROTOCOL])
        .map_err(io::Error::other)?;
    let late =
        || io::Error::new(io::ErrorKind::TimedOut, format!("`{}` does not answer", trust.issuer));
    let connecting = async {
        let addresses = trust.issuer.addresses().await?;
        TcpStream::connect(addresses.as_slice()).await
    };
    let tcp = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| late())??;
    nullius_tls::tcp::prepare(&tcp);
    let peer = tcp.peer_addr()?;
    let (stream, _) = connector.connect(tcp, peer.ip()).await.map_err(io::Error::other)?;
    Ok(stream)
}

/// What a status says, with what is behind it: tonic keeps the reason of a broken connection there.
fn told(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether asking again to join does not help.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::Unimplemented
    )
}

fn unsigned(status: &Status) -> IssueError {
    match status.code() {
        Code::PermissionDenied
        | Code::NotFound
        | Code::InvalidArgument
        | Code::FailedPrecondition => IssueError::Refused(told(status)),
        _ => IssueError::Unavailable(told(status)),
    }
}

fn unavailable(error: impl ToString) -> IssueError {
    IssueError::Unavailable(error.to_string())
}
