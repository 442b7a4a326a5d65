//! Who this process is to the hub: a key of its own, a certificate that rotates, and the keys that it believes.
//!
//! A fresh key is made for each certificate. The hub proves itself by the pinned root before anything is sent; what
//! it gives is used only when it names exactly this process.

use std::{io, sync::Arc, time::Duration};

use nullius_kube::{OwnAccount, OwnTokens};
use nullius_model::{ClusterName, InfraId, InstanceId, Timestamp};
use nullius_pki::{IssuedCertificate, PrivateKey, Verifier, random_bits};
use nullius_proto::{
    HUB_AUDIENCE, VERSION,
    agent_v1::{
        AgentRole, AgentShape, EnrolRequest, EnrolResponse, JoinRequest,
        enrolment_client::EnrolmentClient,
    },
};
use nullius_tls::{
    EnrolmentConnector, LiveCertificate, PartConnector, PeerRule, Protocol, TlsError,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, transport::Channel};

use crate::{
    Address, HubSettings,
    backoff::{Backoff, random},
    net::{BoxIo, channel, dial},
};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A token for the hub that the agent mints itself is used at once.
const HUB_TOKEN_SECONDS: i64 = 600;

/// Why the hub did not take the agent in.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No replica answers.
    #[error("no hub can be reached at {addresses}: {reason}")]
    Unreachable { addresses: String, reason: String },
    /// The hub says no.
    #[error("the hub refused: {0}")]
    Refused(String),
    /// The projected token cannot be had.
    #[error("the agent has no token to show the hub: {0}")]
    Token(String),
    /// The hub's answer is not for us.
    #[error("the hub's answer is refused: {0}")]
    Answer(String),
    /// There is nothing to join with.
    #[error(
        "the cluster has not joined this hub and there is no join token: make one with `nullius cluster add`"
    )]
    NoJoinToken,
    /// The hub is not the one that is pinned.
    #[error(
        "the hub is not the one that the join manifest pins; apply the manifest of the right hub"
    )]
    OtherHub,
    /// A key could not be made.
    #[error("a key for the certificate could not be made")]
    Key(#[from] nullius_pki::CertificateError),
    /// The certificate cannot be used.
    #[error("the certificate cannot be used")]
    Tls(#[from] TlsError),
    /// It was told to stop.
    #[error("the agent was told to stop before it was enrolled")]
    Stopped,
}

impl EnrolError {
    /// Whether a later try may fare better by itself.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Where the token comes from that proves the agent's ServiceAccount.
#[derive(Clone)]
pub(crate) enum TokenSource {
    /// The kubelet projects and rotates it.
    File(std::path::PathBuf),
    /// The agent mints it by itself, beside a kubeconfig.
    Minted(OwnTokens, OwnAccount),
}

impl TokenSource {
    async fn read(&self) -> Result<SecretString, EnrolError> {
        match self {
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let wrong =
                    |error: io::Error| EnrolError::Token(format!("`{}`: {error}", path.display()));
                Ok(SecretString::from(text.map_err(wrong)?.trim().to_owned()))
            }
            Self::Minted(tokens, account) => {
                let minted = tokens.mint(*account, Some(HUB_AUDIENCE), HUB_TOKEN_SECONDS).await;
                Ok(minted.map_err(|error| EnrolError::Token(error.to_string()))?.token)
            }
        }
    }
}

/// What to do when the hub refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnRefusal {
    /// Tell and try again: the cluster may join meanwhile.
    Wait,
    /// Give up.
    Fail,
}

/// What an enrolment needs.
pub(crate) struct Enroller {
    cluster: ClusterName,
    role: AgentRole,
    instance: InstanceId,
    hub: HubSettings,
    tokens: TokenSource,
    verifier: Arc<Verifier>,
    channels: Vec<Channel>,
}

/// A certificate with its key, and the key set that came with it.
struct Enrolled {
    certificate: IssuedCertificate,
    key: PrivateKey,
    key_set: String,
}

/// The living identity of this process.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cluster: ClusterName,
    pub(crate) hub: HubSettings,
    pub(crate) certificate: Arc<LiveCertificate>,
    /// Grows with each new certificate: connections of older ones are replaced.
    pub(crate) epoch: watch::Receiver<u64>,
    /// The key set that came with the newest certificate.
    pub(crate) key_set: watch::Receiver<String>,
}

/// The other end of an [`Identity`], for whoever renews it.
pub(crate) struct Renewal {
    enroller: Enroller,
    certificate: Arc<LiveCertificate>,
    epoch: watch::Sender<u64>,
    key_set: watch::Sender<String>,
    half_life: Timestamp,
}

impl Enroller {
    pub(crate) fn new(
        cluster: ClusterName,
        role: AgentRole,
        hub: HubSettings,
        tokens: TokenSource,
        verifier: Arc<Verifier>,
    ) -> Result<Self, TlsError> {
        let connector = EnrolmentConnector::new(&hub.roots)?;
        let channels = hub
            .addresses
            .iter()
            .map(|address| {
                let (address, connector) = (address.clone(), connector.clone());
                channel(move || {
                    let (address, connector) = (address.clone(), connector.clone());
                    Box::pin(async move {
                        let tcp = dial(&address).await?;
                        Ok(Box::new(connector.connect(tcp, &address.host).await?) as BoxIo)
                    })
                })
            })
            .collect();
        let instance = InstanceId::from_bits(random_bits());
        Ok(Self { cluster, role, instance, hub, tokens, verifier, channels })
    }

    /// Redeems the join token and registers who signs the cluster's ServiceAccount tokens.
    pub(crate) async fn join(
        &self,
        token: &SecretString,
        issuer: String,
        jwks: String,
        shape: AgentShape,
    ) -> Result<(), EnrolError> {
        let proof = self.tokens.read().await?;
        let request = JoinRequest {
            version: VERSION,
            cluster: self.cluster.to_string(),
            token: token.expose_secret().to_owned(),
            issuer,
            jwks,
            shape: shape.into(),
            service_account_token: proof.expose_secret().to_owned(),
        };
        let answer = self
            .call(|mut client| {
                let request = request.clone();
                async move { client.join(request).await }
            })
            .await?;
        let pinned = answer.offline_key == self.hub.offline_key.to_string()
            && answer.hub_id == self.hub.hub_id;
        if pinned { Ok(()) } else { Err(EnrolError::OtherHub) }
    }

    /// Enrols, trying until it works, it is refused for good, or it is told to stop.
    pub(crate) async fn enrol(
        self,
        on_refusal: OnRefusal,
        stop: &CancellationToken,
    ) -> Result<(Identity, Renewal), EnrolError> {
        let mut backoff = Backoff::default();
        loop {
            let tried = tokio::select! {
                () = stop.cancelled() => return Err(EnrolError::Stopped),
                tried = self.once() => tried,
            };
            match tried {
                Ok(enrolled) => return self.begin(enrolled),
                Err(error) if error.is_passing() || on_refusal == OnRefusal::Wait => {
                    let wait = backoff.after_failure(random());
                    tracing::warn!(%error, wait_millis = wait.as_millis(), "cannot enrol, try again");
                    tokio::select! {
                        () = stop.cancelled() => return Err(EnrolError::Stopped),
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn begin(self, enrolled: Enrolled) -> Result<(Identity, Renewal), EnrolError> {
        let certificate = LiveCertificate::of(&enrolled.certificate, &enrolled.key)?;
        let (epoch, epochs) = watch::channel(1);
        let (key_set, key_sets) = watch::channel(enrolled.key_set);
        let identity = Identity {
            cluster: self.cluster.clone(),
            hub: self.hub.clone(),
            certificate: Arc::clone(&certificate),
            epoch: epochs,
            key_set: key_sets,
        };
        let half_life = half_life(Timestamp::now(), enrolled.certificate.not_after);
        tracing::info!(agent = %enrolled.certificate.id, "enrol at the hub");
        Ok((identity, Renewal { enroller: self, certificate, epoch, key_set, half_life }))
    }

    async fn once(&self) -> Result<Enrolled, EnrolError> {
        let key = PrivateKey::generate()?;
        let token = self.tokens.read().await?;
        let request = EnrolRequest {
            version: VERSION,
            cluster: self.cluster.to_string(),
            role: self.role.into(),
            instance: self.instance.to_string(),
            service_account_token: token.expose_secret().to_owned(),
            certificate_request: key.request()?.to_pem(),
        };
        let EnrolResponse { certificate, key_set, .. } = self
            .call(|mut client| {
                let request = request.clone();
                async move { client.enrol(request).await }
            })
            .await?;
        let certificate = IssuedCertificate::from_pem(&certificate)?;
        if certificate.id != self.id() {
            return Err(EnrolError::Answer(format!("its certificate names `{}`", certificate.id)));
        }
        self.verifier.install(&key_set).map_err(|error| EnrolError::Answer(error.to_string()))?;
        Ok(Enrolled { certificate, key, key_set })
    }

    fn id(&self) -> InfraId {
        let (cluster, instance) = (self.cluster.clone(), self.instance.clone());
        match self.role {
            AgentRole::Proxy => InfraId::AgentProxy { cluster, instance },
            AgentRole::Admission => InfraId::AgentAdmission { cluster, instance },
            AgentRole::Identity => InfraId::AgentIdentity { cluster, instance },
            AgentRole::Control | AgentRole::Unspecified => {
                InfraId::AgentControl { cluster, instance }
            }
        }
    }

    /// Asks the replicas in turn until one answers.
    async fn call<T, F>(&self, rpc: impl Fn(EnrolmentClient<Channel>) -> F) -> Result<T, EnrolError>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let mut last = "no address is configured".to_owned();
        for channel in &self.channels {
            let call = rpc(EnrolmentClient::new(channel.clone()));
            match tokio::time::timeout(CALL_TIMEOUT, call).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if is_refusal(&status) => {
                    return Err(EnrolError::Refused(status.message().to_owned()));
                }
                Ok(Err(status)) => last = reason(&status),
                Err(_) => last = format!("no answer within {} s", CALL_TIMEOUT.as_secs()),
            }
        }
        let addresses: Vec<String> = self.hub.addresses.iter().map(Address::to_string).collect();
        Err(EnrolError::Unreachable { addresses: addresses.join(", "), reason: last })
    }
}

impl Renewal {
    /// Renews at half life, for as long as the process lives.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            tokio::time::sleep(until(self.half_life, Timestamp::now())).await;
            match self.renew().await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    let wait = backoff.after_failure(random());
                    tracing::warn!(%error, "cannot renew the certificate, try again");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<(), EnrolError> {
        let enrolled = self.enroller.once().await?;
        self.certificate.renew(&enrolled.certificate, &enrolled.key)?;
        self.half_life = half_life(Timestamp::now(), enrolled.certificate.not_after);
        self.key_set.send_replace(enrolled.key_set);
        self.epoch.send_modify(|epoch| *epoch += 1);
        tracing::info!(agent = %enrolled.certificate.id, "renew the certificate");
        Ok(())
    }
}

impl Identity {
    /// A connector to hubs for one protocol.
    pub(crate) fn to_hub(&self, protocol: Protocol) -> Result<PartConnector, TlsError> {
        PartConnector::new(&self.hub.roots, Arc::clone(&self.certificate), PeerRule::Hub, protocol)
    }
}

/// Whether the hub said no, as against not being able to answer.
fn is_refusal(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        Code::PermissionDenied
            | Code::Unauthenticated
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::Unimplemented
    )
}

/// What went wrong below gRPC, where it says more than gRPC itself.
fn reason(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

fn half_life(now: Timestamp, end: Timestamp) -> Timestamp {
    let left = end.duration_since(now);
    now.saturating_add(left / 2).unwrap_or(now)
}

fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_half_its_life_is_left() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let end: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        assert_eq!(until(half_life(now, end), now), Duration::from_secs(1_800));
        assert_eq!(until(now, end), Duration::ZERO, "what is over is renewed at once");
    }

    #[test]
    fn only_a_no_ends_the_tries() {
        assert!(is_refusal(&tonic::Status::permission_denied("no")));
        assert!(!is_refusal(&tonic::Status::unavailable("later")));
        assert!(!is_refusal(&tonic::Status::resource_exhausted("too many calls")));
        assert!(
            EnrolError::Unreachable { addresses: String::new(), reason: String::new() }
                .is_passing()
        );
        assert!(!EnrolError::OtherHub.is_passing());
    }
}
