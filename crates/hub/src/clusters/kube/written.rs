//! What the audit says of a request. From the moment that somebody may, something is written whatever becomes of it:
//! an event takes the room that was kept for it when the request ends, is refused after all, or is given up.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, header};
use nullius_audit::fact;
use nullius_model::{
    AuditEvent, AuditKind, AuditOutcome, ClusterName, Explanation, GroupName, Identity, KubeCall,
    PermissionId, Plane, Principal, Reason,
};
use nullius_policy::{Denial, KubePermit};
use nullius_rbac::RequestInfo;
use nullius_store::Slot;
use nullius_tunnel::{Ended, Refusal, Report};
use tokio::sync::oneshot;

use super::Call;
use crate::{Hub, UseRef};

/// Characters of a user agent that the audit keeps.
const USER_AGENT_CHARS: usize = 256;

/// What is known once the person is, and what was asked.
pub(super) struct Asked {
    pub(super) identity: Identity,
    pub(super) cluster: ClusterName,
    pub(super) info: RequestInfo,
    pub(super) user_agent: String,
}

/// A request that may go on, with the room for its event.
///
/// Dropped before anything was written, its person has gone away meanwhile, and that is written.
pub(super) struct Admitted<'a> {
    call: &'a Call<'a>,
    pub(super) asked: Asked,
    pub(super) permit: KubePermit,
    explanation: Explanation,
    slot: Option<Slot>,
}

impl<'a> Admitted<'a> {
    pub(super) fn new(
        call: &'a Call<'a>,
        asked: Asked,
        permit: KubePermit,
        explanation: Explanation,
        slot: Slot,
    ) -> Self {
        Self { call, asked, permit, explanation, slot: Some(slot) }
    }

    /// The event of this request, with an HTTP status code; zero where there is none yet.
    pub(super) fn event(&self, outcome: AuditOutcome, code: u16) -> AuditEvent {
        let explanation = Some(&self.explanation);
        self.call.event(&self.asked, outcome, self.permit.permission(), explanation, code)
    }

    /// It was answered here.
    pub(super) fn answered(mut self, code: u16) {
        self.call.count(&self.asked, true, self.permit.permission());
        let event = self.event(AuditOutcome::Done, code);
        self.write(&event);
    }

    /// It could not be carried out.
    pub(super) fn failed(mut self, refusal: Refusal) -> Refusal {
        let mut event = self.event(AuditOutcome::Failed, refusal.code());
        event.facts.insert("error".to_owned(), refusal.message().to_owned());
        self.write(&event);
        refusal
    }

    /// What was allowed is not any more.
    pub(super) fn denied(mut self, denial: &Denial) -> Refusal {
        let (event, refusal) = self.call.denied(&self.asked, denial);
        self.write(&event);
        refusal
    }

    /// It goes on to the cluster; what comes of it is told with the code that `told` receives.
    pub(super) fn forwarded(&mut self, running: Running, told: oneshot::Receiver<u16>) -> Ending {
        self.call.count(&self.asked, true, self.permit.permission());
        let event = self.event(AuditOutcome::Done, 0);
        let hub = Arc::clone(self.call.hub);
        Ending { hub, slot: self.slot.take(), event, _running: running, told }
    }

    fn write(&mut self, event: &AuditEvent) {
        if let Some(slot) = self.slot.take() {
            enqueue(slot, event);
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.slot.is_some() {
            let mut event = self.event(AuditOutcome::Failed, 0);
            event.facts.insert("ended".to_owned(), "client-gone".to_owned());
            self.write(&event);
        }
    }
}

impl Call<'_> {
    /// A denial, as the audit and as the client gets it.
    pub(super) fn denied(&self, asked: &Asked, denial: &Denial) -> (AuditEvent, Refusal) {
        let status = denial.kube_status();
        let permission = denial.permission();
        let explanation = Some(denial.explanation());
        self.count(asked, false, permission);
        let event = self.event(asked, AuditOutcome::Denied, permission, explanation, status.code);
        (event, Refusal::new(status.code, status.message))
    }

    /// Somebody without a session: the audit keeps that it happened, as far as there is room.
    pub(super) async fn note_stranger(&self, why: &str) {
        let mut event =
            self.blank(AuditOutcome::Denied, Principal::Unproven { claimed: String::new() });
        event.explanation = Some(Explanation::new(Reason::SessionEnded, why));
        self.hub.note(event).await;
    }

    pub(super) async fn refuse_headers(&self, identity: &Identity, refused: Refusal) -> Refusal {
        let mut event = self.blank(AuditOutcome::Denied, person(identity));
        event.session = Some(identity.session.clone());
        let reason = if refused.code() == 403 {
            event.kind = AuditKind::Alarm;
            Reason::ForgedIdentity
        } else {
            Reason::Unreadable
        };
        event.explanation = Some(Explanation::new(reason, refused.message()));
        self.hub.note(event).await;
        refused
    }

    pub(super) async fn refuse_early(
        &self,
        identity: &Identity,
        cluster: Option<&ClusterName>,
        explanation: Explanation,
    ) -> Refusal {
        let code = if explanation.reason == Reason::UnknownCluster { 404 } else { 400 };
        let refusal = Refusal::new(code, explanation.to_string());
        let mut event = self.blank(AuditOutcome::Denied, person(identity));
        event.session = Some(identity.session.clone());
        event.cluster = cluster.cloned();
        event.explanation = Some(explanation);
        self.hub.note(event).await;
        refusal
    }

    pub(super) fn count(&self, asked: &Asked, allowed: bool, permission: Option<&PermissionId>) {
        let info = &asked.info;
        let principal = format!("person:{}", asked.identity.user);
        let resource = resource_of(info);
        let used = UseRef {
            plane: Plane::Access,
            principal: &principal,
            cluster: asked.cluster.as_str(),
            action: info.verb(),
            resource: &resource,
            allowed,
            permission,
        };
        self.hub.usage().record(used, self.received, &self.occasion.id);
    }

    fn blank(&self, outcome: AuditOutcome, principal: Principal) -> AuditEvent {
        let event = self.hub.event_of(&self.occasion, AuditKind::KubeRequest, outcome);
        AuditEvent { principal, ..event }
    }

    fn event(
        &self,
        asked: &Asked,
        outcome: AuditOutcome,
        permission: Option<&PermissionId>,
        explanation: Option<&Explanation>,
        code: u16,
    ) -> AuditEvent {
        let info = &asked.info;
        let mut event = self.blank(outcome, person(&asked.identity));
        event.session = Some(asked.identity.session.clone());
        event.cluster = Some(asked.cluster.clone());
        event.permission = permission.cloned();
        event.explanation = explanation.cloned();
        event.facts = proof_of(&asked.identity);
        event.kube = Some(KubeCall {
            verb: info.verb().to_owned(),
            request_uri: written_uri(info),
            is_resource: info.is_resource(),
            api_group: info.api_group().to_owned(),
            api_version: info.api_version().to_owned(),
            resource: info.resource().to_owned(),
            subresource: info.subresource().to_owned(),
            namespace: info.namespace().to_owned(),
            name: info.name().to_owned(),
            user_agent: asked.user_agent.clone(),
            code,
            received: self.received,
        });
        event
    }
}

/// A request that runs; dropping it ends that, whatever became of it.
pub(super) struct Running {
    pub(super) hub: Arc<Hub>,
    pub(super) id: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hub.clusters().live.leave(self.id);
    }
}

/// What is done when a forwarded request has ended.
pub(super) struct Ending {
    hub: Arc<Hub>,
    slot: Option<Slot>,
    event: AuditEvent,
    _running: Running,
    told: oneshot::Receiver<u16>,
}

impl Ending {
    pub(super) fn tell(mut self, report: Report) {
        // The head was sent before the end, or there was none: the client went away or got the hub's own refusal.
        let code = self.told.try_recv().unwrap_or_default();
        self.event.at = self.hub.now();
        if let Some(kube) = &mut self.event.kube {
            kube.code = code;
        }
        if code >= 500 {
            self.event.outcome = AuditOutcome::Failed;
        }
        let ended = match report.ended {
            Ended::Finished => None,
            Ended::Refused => Some("refused".to_owned()),
            Ended::Cut => Some("cut".to_owned()),
            Ended::Unread => Some("unread".to_owned()),
            Ended::ClientGone => Some("client-gone".to_owned()),
            Ended::ServerGone => {
                self.event.outcome = AuditOutcome::Failed;
                Some("server-gone".to_owned())
            }
            Ended::Broken(why) => {
                self.event.outcome = AuditOutcome::Failed;
                Some(format!("broken: {why}"))
            }
        };
        self.event.facts.extend(ended.map(|ended| ("ended".to_owned(), ended)));
        self.event.facts.insert("bytes-to-client".to_owned(), report.to_client.to_string());
        if let Some(slot) = self.slot.take() {
            enqueue(slot, &self.event);
        }
    }
}

/// Writes an event into the room that was kept for it.
pub(super) fn enqueue(slot: Slot, event: &AuditEvent) {
    if let Err(error) = slot.enqueue(event) {
        tracing::error!(%error, audit_id = %event.audit_id, "cannot write an audit event");
    }
}

/// What the decision rested on besides the objects: groups, and the factors with their time.
fn proof_of(identity: &Identity) -> BTreeMap<String, String> {
    let joined = |words: Vec<&str>, mark: &str| words.join(mark);
    let groups = joined(identity.groups.iter().map(GroupName::as_str).collect(), ",");
    let factors =
        joined(identity.proof.factors.iter().map(|factor| factor.as_str()).collect(), "+");
    let facts = [
        (fact::GROUPS, groups),
        (fact::FACTOR, factors),
        (fact::FACTOR_AT, identity.proof.factor_at.to_string()),
    ];
    let known = facts.into_iter().filter(|(_, text)| !text.is_empty());
    known.map(|(name, text)| (name.to_owned(), text)).collect()
}

fn person(identity: &Identity) -> Principal {
    Principal::Person { user: identity.user.clone() }
}

pub(super) fn user_agent(headers: &HeaderMap) -> String {
    let value =
        headers.get(header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.unwrap_or_default().chars().take(USER_AGENT_CHARS).collect()
}

/// Path and query as the audit keeps them. What is asked of an application behind a proxy is not Kubernetes' own, and
/// its parameters may be secrets: their names stay, their values do not.
fn written_uri(info: &RequestInfo) -> String {
    let to_application = info.subresource() == "proxy" || info.verb() == "proxy";
    let Some(query) = info.raw_query().filter(|_| to_application) else {
        return info.path_and_query().to_owned();
    };
    let hidden = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if !value.is_empty() => format!("{name}=redacted"),
        Some(_) => pair.to_owned(),
        // Without a name it is a value.
        None if pair.is_empty() => String::new(),
        None => "redacted".to_owned(),
    });
    format!("{}?{}", info.raw_path(), hidden.collect::<Vec<_>>().join("&"))
}

/// `apps/deployments/scale@shop`; never an object's name.
fn resource_of(info: &RequestInfo) -> String {
    if !info.is_resource() {
        return info.path().to_owned();
    }
    let group = if info.api_group().is_empty() { "core" } else { info.api_group() };
    let mut text = format!("{group}/{}", info.resource());
    if !info.subresource().is_empty() {
        text.push('/');
        text.push_str(info.subresource());
    }
    if !info.namespace().is_empty() {
        text.push('@');
        text.push_str(info.namespace());
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn what_is_asked_of_an_application_is_written_down_without_its_values() {
        let written = |target: &str| written_uri(&RequestInfo::parse("GET", target).unwrap());
        let service = "/api/v1/namespaces/shop/services/web/proxy/login";
        assert_eq!(
            written(&format!("{service}?token=hunter2&next=%2Fhome&empty=&&bare&a=b=c")),
            format!("{service}?token=redacted&next=redacted&empty=&&redacted&a=redacted")
        );
        for proxied in [
            "/api/v1/namespaces/shop/pods/https:web:443/proxy/x",
            "/api/v1/nodes/n1/proxy/run/shop/web/web",
            "/api/v1/proxy/namespaces/shop/services/web",
        ] {
            let uri = written(&format!("{proxied}?secret=s3cret"));
            assert_eq!(uri, format!("{proxied}?secret=redacted"));
            assert_eq!(written(proxied), proxied);
        }
        for own in [
            "/api/v1/namespaces/shop/pods/web/exec?command=sh&stdin=true",
            "/api/v1/namespaces/shop/pods?labelSelector=app%3Dweb&limit=5",
            "/api/v1/namespaces/shop/pods/web/log?follow=true&container=proxy",
        ] {
            assert_eq!(written(own), own);
        }
    }

    #[test]
    fn a_use_names_no_object() {
        let info = RequestInfo::parse("GET", "/apis/apps/v1/namespaces/shop/deployments/web/scale")
            .unwrap();
        assert_eq!(resource_of(&info), "apps/deployments/scale@shop");
        let info = RequestInfo::parse("GET", "/version").unwrap();
        assert_eq!(resource_of(&info), "/version");
    }
}
