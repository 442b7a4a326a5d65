//! How a cluster joins and how its agents get certificates: the gRPC service on the public listener.
//!
//! Joining takes a single-use token and registers who signs the cluster's ServiceAccount tokens; enrolling takes such
//! a token of the agent's own account, bound to its pod where the agent runs in one. Whoever read a join token gets
//! nothing for it in a cluster that has joined: joining again takes a token that its keys of before have signed.
//! Everything is refused with one sentence and written down with the real reason.

use std::{net::IpAddr, sync::Arc};

use nullius_model::{
    AuditEvent, AuditKind, AuditOutcome, ClusterName, Explanation, InfraId, InstanceId, Principal,
    Reason, Timestamp,
};
use nullius_pki::{AGENT_CERTIFICATE_TTL, Csr, IssuerKeys, ServiceAccountIdentity};
use nullius_proto::{
    HUB_AUDIENCE, VERSION,
    agent_v1::{
        self as wire, AgentRole, EnrolRequest, EnrolResponse, JoinRequest, JoinResponse,
        enrolment_server::{Enrolment, EnrolmentServer},
    },
};
use nullius_store::{AgentShape, Redemption, TokenHash};
use tonic::{Request, Response, Status};

use crate::Hub;

/// Where the agents' own ServiceAccounts live in every cluster.
const AGENT_NAMESPACE: &str = "nullius-system";
const PROXY_ACCOUNT: &str = "nullius-agent-proxy";
const CONTROL_ACCOUNT: &str = "nullius-provisioner";
/// A JWK Set of a cluster has a handful of keys.
const JWKS_MAX: usize = 64 * 1024;

/// The enrolment service as routes of the public listener.
pub(crate) fn routes(hub: Arc<Hub>) -> axum::Router {
    let server =
        EnrolmentServer::new(EnrolmentService { hub }).max_decoding_message_size(256 * 1024);
    tonic::service::Routes::new(server).into_axum_router()
}

struct EnrolmentService {
    hub: Arc<Hub>,
}

/// The address that a call came from, put into its extensions by the listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

#[tonic::async_trait]
impl Enrolment for EnrolmentService {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let peer = self.admit(&request)?;
        let request = request.into_inner();
        known_version(request.version)?;
        let cluster = cluster_name(&request.cluster)?;
        match self.join_cluster(&cluster, &request, peer).await {
            Ok(()) => {
                let keys = self.hub.keys();
                let offline_key = keys.offline_public().to_owned();
                Ok(Response::new(JoinResponse { offline_key, hub_id: keys.hub_id().to_owned() }))
            }
            Err(refused) => Err(self.refuse(AuditKind::Join, &cluster, peer, refused).await),
        }
    }

    async fn enrol(
        &self,
        request: Request<EnrolRequest>,
    ) -> Result<Response<EnrolResponse>, Status> {
        let peer = self.admit(&request)?;
        let request = request.into_inner();
        known_version(request.version)?;
        let cluster = cluster_name(&request.cluster)?;
        match self.enrol_agent(&cluster, &request, peer).await {
            Ok(response) => Ok(Response::new(response)),
            Err(refused) => Err(self.refuse(AuditKind::AgentEnrol, &cluster, peer, refused).await),
        }
    }
}

/// A refusal: what the caller hears, and what the audit keeps.
struct Refused {
    status: Status,
    reason: String,
}

impl Refused {
    fn new(status: Status, reason: impl Into<String>) -> Self {
        Self { status, reason: reason.into() }
    }
}

fn unavailable(error: impl std::fmt::Display) -> Refused {
    Refused::new(Status::unavailable("the hub cannot do this now; try again"), error.to_string())
}

impl EnrolmentService {
    fn admit<T>(&self, request: &Request<T>) -> Result<Option<IpAddr>, Status> {
        let peer = request.extensions().get::<PeerAddress>().map(|peer| peer.0);
        if let Some(source) = peer
            && let Err(seconds) = self.hub.take_source(source)
        {
            return Err(Status::resource_exhausted(format!(
                "too many calls; come back in {seconds} s"
            )));
        }
        Ok(peer)
    }

    async fn join_cluster(
        &self,
        cluster: &ClusterName,
        request: &JoinRequest,
        peer: Option<IpAddr>,
    ) -> Result<(), Refused> {
        let hub = &self.hub;
        if request.jwks.len() > JWKS_MAX {
            return Err(Refused::new(
                Status::invalid_argument("the JWK set is too large"),
                "JWK set too large",
            ));
        }
        let said = |sentence: String| Refused::new(Status::invalid_argument(&sentence), &sentence);
        let shape = declared(request)?;
        let keys = IssuerKeys::from_jwks(&request.issuer, request.jwks.as_bytes());
        let keys = keys.map_err(|error| {
            said(format!("the cluster's ServiceAccount keys cannot be used: {error}"))
        })?;
        let wrong = || {
            Status::permission_denied(
                "the join token is wrong, used or too old; make a new one with `nullius cluster add`",
            )
        };
        let mut tx = hub.store().begin().await.map_err(unavailable)?;
        let hash = TokenHash::of(&request.token);
        match tx.tokens().redeem_join(&hash, cluster, hub.now()).await.map_err(unavailable)? {
            Redemption::Accepted(token) if shape_of(&token.created_by) == shape => {}
            Redemption::Accepted(_) => {
                let reason = format!("join token is not for agents {}", place(shape));
                return Err(Refused::new(wrong(), reason));
            }
            refused => return Err(Refused::new(wrong(), format!("join token {}", why(&refused)))),
        }
        if shape == AgentShape::InCluster {
            let token = &request.service_account_token;
            let proven = |keys| prove(keys, token, CONTROL_ACCOUNT, shape, hub.now());
            proven(&keys).map_err(|why| {
                said(format!(
                    "the agent's own ServiceAccount token does not go with the join: {why}"
                ))
            })?;
            let trust = tx.clusters().trust(cluster).await.map_err(unavailable)?;
            if let Some(trust) = trust {
                let known = IssuerKeys::from_jwks(&trust.issuer, trust.jwks.as_bytes());
                proven(&known.map_err(unavailable)?).map_err(|why| {
                    let sentence = format!(
                        "the cluster has joined with other ServiceAccount keys; if it was built anew, or its keys \
                         were replaced, `nullius cluster remove {cluster}` and add it again"
                    );
                    let reason = format!("not proven by the keys that are registered: {why}");
                    Refused::new(Status::permission_denied(sentence), reason)
                })?;
            }
        }
        let (issuer, jwks) = (&request.issuer, &request.jwks);
        let now = hub.now();
        tx.clusters().put_trust(cluster, issuer, jwks, shape, now).await.map_err(unavailable)?;
        let mut event = self.event(AuditKind::Join, AuditOutcome::Done, cluster, peer);
        event.facts.insert("agents".to_owned(), place(shape).to_owned());
        event.facts.insert("issuer".to_owned(), request.issuer.clone());
        tx.audit(&event).map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        hub.cluster_joined(cluster, &request.issuer).await;
        Ok(())
    }

    async fn enrol_agent(
        &self,
        cluster: &ClusterName,
        request: &EnrolRequest,
        peer: Option<IpAddr>,
    ) -> Result<EnrolResponse, Refused> {
        let hub = &self.hub;
        let denied = |reason: String| {
            let status = Status::permission_denied(
                "the agent's ServiceAccount token is not accepted for this cluster; see the hub's audit",
            );
            Refused::new(status, reason)
        };
        if !hub.snapshot().knows_cluster(cluster) {
            return Err(denied("the cluster does not exist".to_owned()));
        }
        let instance: InstanceId = request.instance.parse().map_err(|_| {
            Refused::new(
                Status::invalid_argument("`instance` is not 32 hex digits"),
                "bad instance",
            )
        })?;
        let (account, id) = match request.role() {
            AgentRole::Proxy => (
                PROXY_ACCOUNT,
                InfraId::AgentProxy { cluster: cluster.clone(), instance: instance.clone() },
            ),
            AgentRole::Control => (
                CONTROL_ACCOUNT,
                InfraId::AgentControl { cluster: cluster.clone(), instance: instance.clone() },
            ),
            AgentRole::Unspecified => {
                return Err(Refused::new(
                    Status::invalid_argument("`role` is not known"),
                    "unknown role",
                ));
            }
        };
        let mut reader = hub.store().read().await.map_err(unavailable)?;
        let trust = reader.clusters().trust(cluster).await.map_err(unavailable)?;
        let trust = trust.ok_or_else(|| denied("the cluster has not joined".to_owned()))?;
        let keys =
            IssuerKeys::from_jwks(&trust.issuer, trust.jwks.as_bytes()).map_err(unavailable)?;
        let token = &request.service_account_token;
        let proven = prove(&keys, token, account, trust.shape, hub.now()).map_err(denied)?;
        let csr = Csr::from_pem(&request.certificate_request).map_err(|error| {
            Refused::new(Status::invalid_argument(error.to_string()), error.to_string())
        })?;
        let root = hub.keys().root();
        let issued =
            root.issue_agent(&csr, &id, AGENT_CERTIFICATE_TTL, hub.now()).map_err(|error| {
                Refused::new(Status::invalid_argument(error.to_string()), error.to_string())
            })?;
        let mut event = self.event(AuditKind::AgentEnrol, AuditOutcome::Done, cluster, peer);
        event.principal = Principal::Agent { cluster: cluster.clone(), instance };
        event.target = Some(id.to_string());
        if let Some(pod) = &proven.pod {
            event.facts.insert("pod".to_owned(), pod.name.clone());
            event.facts.insert("pod-uid".to_owned(), pod.uid.clone());
        }
        hub.audit().write(&event).await.map_err(unavailable)?;
        Ok(EnrolResponse {
            certificate: issued.to_pem(),
            not_after: issued.not_after.as_second(),
            key_set: hub.keys().key_set_jws().to_owned(),
        })
    }

    async fn refuse(
        &self,
        kind: AuditKind,
        cluster: &ClusterName,
        peer: Option<IpAddr>,
        refused: Refused,
    ) -> Status {
        let mut event = self.event(kind, AuditOutcome::Denied, cluster, peer);
        event.explanation = Some(Explanation::new(Reason::StaleState, refused.reason));
        self.hub.note(event).await;
        refused.status
    }

    fn event(
        &self,
        kind: AuditKind,
        outcome: AuditOutcome,
        cluster: &ClusterName,
        peer: Option<IpAddr>,
    ) -> AuditEvent {
        AuditEvent {
            principal: Principal::Unproven { claimed: format!("agent of {cluster}") },
            cluster: Some(cluster.clone()),
            source: peer,
            target: Some(format!("Cluster/{cluster}")),
            ..self.hub.own_event(kind, outcome)
        }
    }
}

/// Whose a token is, where it is the token of this account and, for agents in a cluster, of one of its pods.
fn prove(
    keys: &IssuerKeys,
    token: &str,
    account: &str,
    shape: AgentShape,
    now: Timestamp,
) -> Result<ServiceAccountIdentity, String> {
    let proven = keys.verify(token, HUB_AUDIENCE, now).map_err(|error| error.to_string())?;
    if proven.namespace.as_str() != AGENT_NAMESPACE || proven.name.as_str() != account {
        return Err(format!("token of `{}/{}`", proven.namespace, proven.name));
    }
    let of_pod = |pod: &nullius_pki::PodIdentity| !pod.name.is_empty() && !pod.uid.is_empty();
    if shape == AgentShape::InCluster && !proven.pod.as_ref().is_some_and(of_pod) {
        return Err(format!(
            "token of `{AGENT_NAMESPACE}/{account}` that is bound to no pod, in a cluster whose agents are pods"
        ));
    }
    Ok(proven)
}

fn declared(request: &JoinRequest) -> Result<AgentShape, Refused> {
    match request.shape() {
        wire::AgentShape::InCluster => Ok(AgentShape::InCluster),
        wire::AgentShape::Beside => Ok(AgentShape::Beside),
        wire::AgentShape::Unspecified => Err(Refused::new(
            Status::invalid_argument("the agent does not say where it runs; update it"),
            "no shape",
        )),
    }
}

/// What a join token is for: the hub makes one only for the agent in its own process, people only for manifests.
fn shape_of(created_by: &str) -> AgentShape {
    if created_by == Principal::Hub.label() { AgentShape::Beside } else { AgentShape::InCluster }
}

fn place(shape: AgentShape) -> &'static str {
    match shape {
        AgentShape::InCluster => "in the cluster",
        AgentShape::Beside => "beside a kubeconfig",
    }
}

fn known_version(version: u32) -> Result<(), Status> {
    if version == VERSION {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "the agent speaks version {version} of the seam, this hub speaks {VERSION}; update the older"
    )))
}

fn cluster_name(text: &str) -> Result<ClusterName, Status> {
    text.parse()
        .map_err(|error: nullius_model::ParseNameError| Status::invalid_argument(error.to_string()))
}

fn why<T>(redemption: &Redemption<T>) -> &'static str {
    match redemption {
        Redemption::Accepted(_) => "is good",
        Redemption::Reused(_) => "was used before",
        Redemption::Expired(_) => "is too old",
        Redemption::ForOther(_) => "is for another cluster",
        Redemption::Unknown => "is unknown",
    }
}

#[cfg(test)]
mod tests;
