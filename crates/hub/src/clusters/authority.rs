//! The authority of a cluster for its workloads is certified here, for the cluster's own trust domain and nothing else.
//!
//! The cluster is the certificate's, never a message's. Each certification is in the audit before it is given away, and there are few
//! in an hour: an agent in wrong hands neither fills the audit nor stocks up on authorities.

mod federation;
mod published;
mod standing;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::SignedDuration;
use nullius_model::{
    AUTHORITY_LIFE, AnyObject, AuditKind, AuditOutcome, ClusterName, ClusterSpec, Explanation,
    InfraId, InstanceId, Kind, ObjectName, Reason, Timestamp, TrustDomain,
};
use nullius_pki::{CertificateError, Csr, RootError, workload::AuthorityFacts as Signed};
use nullius_proto::{
    VERSION,
    agent_v1::{
        CertifyRequest, CertifyResponse, IssuedReceipt, IssuedReport, TrustAnswer, TrustReport,
        workload_root_server::{WorkloadRoot, WorkloadRootServer},
    },
};
use nullius_store::{CertifiedAuthority, StoreError};
use tonic::{Request, Response, Status};

pub(crate) use federation::{Friend, Relayed, digest_of, friends, relayed};
pub(crate) use published::bundle_of;
pub(crate) use standing::shown_progress;

use super::control::agent_event;
use crate::{Hub, record::chain};

/// Certifications of one cluster within an hour: those of the shortest authorities, and two rotations that are forced.
const PER_HOUR: usize = 6;
/// What one cluster may tell at once, and in a minute on average: a question every few seconds, and each step of a rotation.
pub(super) const REPORTS_AT_ONCE: u32 = 60;
pub(super) const REPORTS_PER_MINUTE: u32 = 30;
const MESSAGE_MAX: usize = 32 * 1024;
/// What one cluster may ask within an hour, whatever is answered. An agent whose requests fail asks nine times.
const ASKED_PER_HOUR: usize = 30;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The service for one connection, whose peer the TLS handshake has proven.
#[derive(Clone)]
pub(super) struct AuthorityService {
    hub: Arc<Hub>,
    cluster: ClusterName,
    /// The cluster that had the name when the agent connected.
    uid: Option<String>,
    instance: InstanceId,
}

/// When each cluster asked, and which is being answered: nobody waits for the store because another asks without end.
#[derive(Debug, Default)]
pub(super) struct Asking(Mutex<HashMap<ClusterName, Asked>>);

#[derive(Debug, Default)]
struct Asked {
    is_answered: bool,
    at: Vec<Timestamp>,
}

/// One request of a cluster, until it is dropped.
struct Turn<'h> {
    asking: &'h Asking,
    cluster: &'h ClusterName,
}

impl Asking {
    fn begin<'h>(
        &'h self,
        cluster: &'h ClusterName,
        now: Timestamp,
    ) -> Result<Turn<'h>, NotCertified> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = all.entry(cluster.clone()).or_default();
        asked.at.retain(|at| is_within_an_hour(*at, now));
        if asked.at.len() >= ASKED_PER_HOUR {
            return Err(NotCertified::AskedTooOften);
        }
        if asked.is_answered {
            return Err(NotCertified::Busy);
        }
        asked.at.push(now);
        asked.is_answered = true;
        Ok(Turn { asking: self, cluster })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut all = self.asking.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asked) = all.get_mut(self.cluster) {
            asked.is_answered = false;
        }
    }
}

/// Whether something was a short while ago: what a clock that was ahead wrote is not.
fn is_within_an_hour(at: Timestamp, now: Timestamp) -> bool {
    let since = now.duration_since(at);
    !since.is_negative() && since < HOUR
}

/// The service that the proven peer may use; none where it is no `agent identity`.
pub(super) fn service_for(
    hub: &Arc<Hub>,
    id: &InfraId,
    uid: Option<String>,
) -> Option<WorkloadRootServer<AuthorityService>> {
    match id {
        InfraId::AgentIdentity { cluster, instance } => {
            let (cluster, instance) = (cluster.clone(), instance.clone());
            let service = AuthorityService { hub: Arc::clone(hub), cluster, uid, instance };
            Some(WorkloadRootServer::new(service).max_decoding_message_size(MESSAGE_MAX))
        }
        InfraId::AgentControl { .. }
        | InfraId::AgentProxy { .. }
        | InfraId::AgentAdmission { .. }
        | InfraId::Hub { .. } => None,
    }
}

/// Why an authority was not certified.
#[derive(Debug, thiserror::Error)]
enum NotCertified {
    #[error("the cluster is not known any more")]
    Unknown,
    #[error("{}", .0.sentence)]
    Locked(Explanation),
    #[error(
        "the trust domain of the cluster is `{own}`, and the agent asks for `{asked}`: apply a join manifest of today, \
         `nullius cluster add {cluster} --manifest --identity`"
    )]
    OtherDomain { own: TrustDomain, asked: String, cluster: ClusterName },
    #[error(
        "{PER_HOUR} authorities were certified for the cluster within an hour; try again later"
    )]
    TooOften,
    #[error("the cluster asks too often; try again later")]
    AskedTooOften,
    #[error("another request of the cluster is being answered; try again")]
    Busy,
    #[error("the certificate request cannot be used: {0}")]
    Request(#[from] CertificateError),
    #[error("the workload root did not sign: {0}")]
    Root(#[source] RootError),
    #[error("the hub cannot write this down now; try again")]
    Store(#[from] StoreError),
}

impl From<RootError> for NotCertified {
    fn from(error: RootError) -> Self {
        match error {
            RootError::Certificate(of_request) => Self::Request(of_request),
            other => Self::Root(other),
        }
    }
}

impl NotCertified {
    fn status(&self) -> Status {
        let told = self.to_string();
        match self {
            Self::Unknown | Self::Locked(_) => Status::permission_denied(told),
            Self::OtherDomain { .. } => Status::failed_precondition(told),
            Self::TooOften | Self::AskedTooOften => Status::resource_exhausted(told),
            Self::Request(_) => Status::invalid_argument(told),
            Self::Busy | Self::Root(_) | Self::Store(_) => Status::unavailable(told),
        }
    }

    fn explanation(&self) -> Explanation {
        match self {
            Self::Locked(why) => why.clone(),
            Self::Unknown => Explanation::new(Reason::UnknownCluster, self.to_string()),
            Self::Request(_) | Self::Root(_) => {
                Explanation::new(Reason::Unreadable, self.to_string())
            }
            Self::OtherDomain { .. }
            | Self::TooOften
            | Self::AskedTooOften
            | Self::Busy
            | Self::Store(_) => Explanation::new(Reason::StaleState, self.to_string()),
        }
    }
}

#[tonic::async_trait]
impl WorkloadRoot for AuthorityService {
    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        let request = request.into_inner();
        if request.version != VERSION {
            return Err(Status::failed_precondition(format!(
                "the agent speaks version {} and the hub {VERSION}; update the older of them",
                request.version
            )));
        }
        match self.try_to_certify(&request).await {
            Ok(response) => Ok(Response::new(response)),
            Err(refused) => {
                tracing::warn!(cluster = %self.cluster, error = %chain(&refused), "certify no authority");
                self.note(&refused).await;
                Err(refused.status())
            }
        }
    }

    async fn stand(&self, request: Request<TrustReport>) -> Result<Response<TrustAnswer>, Status> {
        self.hear(request.into_inner()).await.map(Response::new)
    }

    async fn tell_issued(
        &self,
        request: Request<IssuedReport>,
    ) -> Result<Response<IssuedReceipt>, Status> {
        self.hear_issued(request.into_inner()).await.map(Response::new)
    }
}

impl AuthorityService {
    async fn try_to_certify(
        &self,
        request: &CertifyRequest,
    ) -> Result<CertifyResponse, NotCertified> {
        let (hub, cluster) = (&self.hub, &self.cluster);
        // Changes of others wait for this one: what is refused anyway, or too much, does not get there.
        let _asking = hub.clusters().asking.begin(cluster, hub.now())?;
        self.is_for(request)?;
        // Nobody changes the trust domain meanwhile.
        let _turn = hub.changing.lock().await;
        let now = hub.now();
        let domain = self.is_for(request)?;
        let life = self.spec()?.authority_life.unwrap_or(AUTHORITY_LIFE);
        let mut tx = hub.store().begin().await?;
        let before = tx.clusters().authorities(cluster).await?;
        let recent = before.iter().filter(|it| is_within_an_hour(it.certified_at, now));
        if recent.count() >= PER_HOUR {
            return Err(NotCertified::TooOften);
        }
        let root = hub.keys().workload_root();
        let csr = Csr::from_der(request.certificate_request.clone());
        let certificate = root.certify(&csr, &domain, life, now)?;
        let facts = Signed::read(&certificate)?;
        let what = "certify the authority of the cluster's workloads";
        let (kind, done) = (AuditKind::Certify, AuditOutcome::Done);
        let mut event = agent_event(hub, kind, done, cluster, &self.instance, what);
        event.target = Some(format!("Cluster/{cluster}"));
        event.facts.extend([
            ("trust-domain".to_owned(), domain.to_string()),
            ("serial".to_owned(), facts.serial.clone()),
            ("key-sha256".to_owned(), facts.key_digest.clone()),
            ("until".to_owned(), facts.not_after.to_string()),
        ]);
        tx.clusters()
            .put_authority(&CertifiedAuthority {
                serial: facts.serial,
                cluster: cluster.clone(),
                trust_domain: domain,
                key_digest: facts.key_digest,
                certified_at: now,
                not_after: facts.not_after,
            })
            .await?;
        tx.audit(&event)?;
        tx.commit().await?;
        let root = root.certificate_der().to_vec();
        Ok(CertifyResponse { certificate: certificate.to_vec(), root })
    }

    /// The trust domain of the cluster, which must be the one that is asked for.
    fn is_for(&self, request: &CertifyRequest) -> Result<TrustDomain, NotCertified> {
        let own = self.trust_domain()?;
        if request.trust_domain == own.as_str() {
            return Ok(own);
        }
        let asked = request.trust_domain.chars().take(80).flat_map(char::escape_debug).collect();
        Err(NotCertified::OtherDomain { own, asked, cluster: self.cluster.clone() })
    }

    /// The trust domain of a cluster that is known, not locked, and still the one that the agent is of.
    fn trust_domain(&self) -> Result<TrustDomain, NotCertified> {
        match self.hub.snapshot().lock_on_cluster(&self.cluster, self.hub.now()) {
            Some(why) => Err(NotCertified::Locked(why)),
            None => self.own_domain(),
        }
    }

    /// The same, locked or not.
    fn own_domain(&self) -> Result<TrustDomain, NotCertified> {
        self.spec()?.trust_domain_of(self.cluster.as_str()).map_err(|_| NotCertified::Unknown)
    }

    /// What is wanted of the cluster, which must still be the one that the agent is of.
    fn spec(&self) -> Result<ClusterSpec, NotCertified> {
        let snapshot = self.hub.snapshot();
        let name: Result<ObjectName, _> = self.cluster.as_str().parse();
        let object = name.ok().and_then(|name| snapshot.object(Kind::Cluster, &name));
        let Some(AnyObject::Cluster(object)) = object else { return Err(NotCertified::Unknown) };
        if object.metadata.uid != self.uid {
            return Err(NotCertified::Unknown);
        }
        Ok(object.spec.clone())
    }

    /// Writes down why nothing was certified, as often as an agent has words.
    async fn note(&self, refused: &NotCertified) {
        let (hub, cluster) = (&self.hub, &self.cluster);
        if hub.clusters().commands.take_word(cluster, hub.now()).is_none() {
            return;
        }
        let what = "certify the authority of the cluster's workloads";
        let (kind, denied) = (AuditKind::Certify, AuditOutcome::Denied);
        let mut event = agent_event(hub, kind, denied, cluster, &self.instance, what);
        event.target = Some(format!("Cluster/{cluster}"));
        event.explanation = Some(refused.explanation());
        hub.note(event).await;
    }
}

#[cfg(test)]
mod tests;
