//! How a cluster joins and how its agents get certificates, apart from gRPC.
//!
//! Joining takes a single-use token and registers who signs the cluster's ServiceAccount tokens; enrolling takes such
//! a token of the agent's own account, bound to its pod where the agent runs in one. Whoever read a join token gets
//! nothing for it in a cluster that has joined: joining again takes a token that its keys of before have signed.

use std::net::IpAddr;

use nullius_model::{
    AuditEvent, AuditKind, AuditOutcome, ClusterName, Explanation, InfraId, InstanceId, Principal,
    Reason, Timestamp,
};
use nullius_pki::{AGENT_CERTIFICATE_TTL, Csr, IssuerKeys, ServiceAccountIdentity};
use nullius_proto::{
    HUB_AUDIENCE,
    agent_v1::{self as wire, AgentRole, EnrolRequest, EnrolResponse, JoinRequest},
};
use nullius_store::{AgentShape, Redemption, TokenHash};

use crate::Hub;

/// Where the agents' own ServiceAccounts live in every cluster.
const AGENT_NAMESPACE: &str = "nullius-system";
const PROXY_ACCOUNT: &str = "nullius-agent-proxy";
const CONTROL_ACCOUNT: &str = "nullius-provisioner";
const ADMISSION_ACCOUNT: &str = "nullius-admission";
const IDENTITY_ACCOUNT: &str = "nullius-identity";
/// A JWK Set of a cluster has a handful of keys.
const JWKS_MAX: usize = 64 * 1024;

/// Why an agent is not let in: one sentence that it hears, and the real reason for the audit.
struct Refused {
    said: Said,
    reason: String,
}

/// What an agent hears that is not let in.
#[derive(Debug)]
pub(super) enum Said {
    /// What it sent cannot be understood.
    Unreadable(String),
    /// It may not.
    Denied(String),
    /// The hub cannot look after it at present.
    Unavailable,
}

impl Refused {
    /// What cannot be understood, in the same words for both.
    fn unreadable(sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { said: Said::Unreadable(sentence.clone()), reason: sentence }
    }

    /// The same with a short reason.
    fn unreadable_for(sentence: &str, reason: &str) -> Self {
        Self { said: Said::Unreadable(sentence.to_owned()), reason: reason.to_owned() }
    }

    fn denied(sentence: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { said: Said::Denied(sentence.into()), reason: reason.into() }
    }
}

fn unavailable(error: impl std::fmt::Display) -> Refused {
    Refused { said: Said::Unavailable, reason: error.to_string() }
}

impl Hub {
    /// Takes a join token and registers the cluster's ServiceAccount keys.
    pub(super) async fn join_cluster(
        &self,
        cluster: &ClusterName,
        request: &JoinRequest,
        peer: Option<IpAddr>,
    ) -> Result<(), Said> {
        match self.try_to_join(cluster, request, peer).await {
            Ok(()) => Ok(()),
            Err(refused) => Err(self.refuse_agent(AuditKind::Join, cluster, peer, refused).await),
        }
    }

    async fn try_to_join(
        &self,
        cluster: &ClusterName,
        request: &JoinRequest,
        peer: Option<IpAddr>,
    ) -> Result<(), Refused> {
        if request.jwks.len() > JWKS_MAX {
            let sentence = "the JWK set is too large";
            return Err(Refused::unreadable_for(sentence, "JWK set too large"));
        }
        let shape = declared(request)?;
        let keys = IssuerKeys::from_jwks(&request.issuer, request.jwks.as_bytes());
        let keys = keys.map_err(|error| {
            Refused::unreadable(format!(
                "the cluster's ServiceAccount keys cannot be used: {error}"
            ))
        })?;
        let wrong = |reason: String| {
            let sentence = "the join token is wrong, used or too old; make a new one with `nullius cluster add`";
            Refused::denied(sentence, reason)
        };
        let mut tx = self.store().begin().await.map_err(unavailable)?;
        let hash = TokenHash::of(&request.token);
        match tx.tokens().redeem_join(&hash, cluster, self.now()).await.map_err(unavailable)? {
            Redemption::Accepted(token) if shape_of(&token.created_by) == shape => {}
            Redemption::Accepted(_) => {
                return Err(wrong(format!("join token is not for agents {}", place(shape))));
            }
            refused => return Err(wrong(format!("join token {}", why(&refused)))),
        }
        if shape == AgentShape::InCluster {
            let token = &request.service_account_token;
            let proven = |keys| prove(keys, token, CONTROL_ACCOUNT, shape, self.now());
            proven(&keys).map_err(|why| {
                Refused::unreadable(format!(
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
                    Refused::denied(sentence, reason)
                })?;
            }
        }
        let (issuer, jwks) = (&request.issuer, &request.jwks);
        let now = self.now();
        tx.clusters().put_trust(cluster, issuer, jwks, shape, now).await.map_err(unavailable)?;
        let mut event = self.joining_event(AuditKind::Join, AuditOutcome::Done, cluster, peer);
        event.facts.insert("agents".to_owned(), place(shape).to_owned());
        event.facts.insert("issuer".to_owned(), request.issuer.clone());
        tx.audit(&event).map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        self.cluster_joined(cluster, &request.issuer).await;
        Ok(())
    }

    /// Gives an agent a certificate for the key that it proves to hold.
    pub(super) async fn enrol_agent(
        &self,
        cluster: &ClusterName,
        request: &EnrolRequest,
        peer: Option<IpAddr>,
    ) -> Result<EnrolResponse, Said> {
        let kind = AuditKind::AgentEnrol;
        match self.try_to_enrol(cluster, request, peer).await {
            Ok(response) => Ok(response),
            Err(refused) => Err(self.refuse_agent(kind, cluster, peer, refused).await),
        }
    }

    async fn try_to_enrol(
        &self,
        cluster: &ClusterName,
        request: &EnrolRequest,
        peer: Option<IpAddr>,
    ) -> Result<EnrolResponse, Refused> {
        let denied = |reason: String| {
            let sentence = "the agent's ServiceAccount token is not accepted for this cluster; see the hub's audit";
            Refused::denied(sentence, reason)
        };
        if !self.snapshot().knows_cluster(cluster) {
            return Err(denied("the cluster does not exist".to_owned()));
        }
        let instance: InstanceId = request.instance.parse().map_err(|_| {
            Refused::unreadable_for("`instance` is not 32 hex digits", "bad instance")
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
            AgentRole::Admission => (
                ADMISSION_ACCOUNT,
                InfraId::AgentAdmission { cluster: cluster.clone(), instance: instance.clone() },
            ),
            AgentRole::Identity => (
                IDENTITY_ACCOUNT,
                InfraId::AgentIdentity { cluster: cluster.clone(), instance: instance.clone() },
            ),
            AgentRole::Unspecified => {
                return Err(Refused::unreadable_for("`role` is not known", "unknown role"));
            }
        };
        let mut reader = self.store().read().await.map_err(unavailable)?;
        let trust = reader.clusters().trust(cluster).await.map_err(unavailable)?;
        let trust = trust.ok_or_else(|| denied("the cluster has not joined".to_owned()))?;
        let keys =
            IssuerKeys::from_jwks(&trust.issuer, trust.jwks.as_bytes()).map_err(unavailable)?;
        let token = &request.service_account_token;
        let proven = prove(&keys, token, account, trust.shape, self.now()).map_err(denied)?;
        let csr = Csr::from_pem(&request.certificate_request)
            .map_err(|error| Refused::unreadable(error.to_string()))?;
        let issued = self
            .keys()
            .root()
            .issue_agent(&csr, &id, AGENT_CERTIFICATE_TTL, self.now())
            .map_err(|error| Refused::unreadable(error.to_string()))?;
        let mut event =
            self.joining_event(AuditKind::AgentEnrol, AuditOutcome::Done, cluster, peer);
        event.principal = Principal::Agent { cluster: cluster.clone(), instance };
        event.target = Some(id.to_string());
        if let Some(pod) = &proven.pod {
            event.facts.insert("pod".to_owned(), pod.name.clone());
            event.facts.insert("pod-uid".to_owned(), pod.uid.clone());
        }
        self.audit().write(&event).await.map_err(unavailable)?;
        Ok(EnrolResponse {
            certificate: issued.to_pem(),
            not_after: issued.not_after.as_second(),
            key_set: self.keys().key_set_jws().to_owned(),
        })
    }

    /// Writes down why an agent was not let in; gives what it hears.
    async fn refuse_agent(
        &self,
        kind: AuditKind,
        cluster: &ClusterName,
        peer: Option<IpAddr>,
        refused: Refused,
    ) -> Said {
        let mut event = self.joining_event(kind, AuditOutcome::Denied, cluster, peer);
        event.explanation = Some(Explanation::new(Reason::StaleState, refused.reason));
        self.note(event).await;
        refused.said
    }

    fn joining_event(
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
            ..self.own_event(kind, outcome)
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
        wire::AgentShape::Unspecified => {
            let sentence = "the agent does not say where it runs; update it";
            Err(Refused::unreadable_for(sentence, "no shape"))
        }
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

fn why<T>(redemption: &Redemption<T>) -> &'static str {
    match redemption {
        Redemption::Accepted(_) => "is good",
        Redemption::Reused(_) => "was used before",
        Redemption::Expired(_) => "is too old",
        Redemption::ForOther(_) => "is for another cluster",
        Redemption::Unknown => "is unknown",
    }
}
