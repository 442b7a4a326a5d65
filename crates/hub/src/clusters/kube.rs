//! A person's request to a cluster, from the header to the audit:
//! who → may they → is it written down → do their credentials stand → forward → what came of it.
//!
//! Every way out of [`handle`] has been decided and is in the audit. Nothing is forwarded without room for its event,
//! and nothing that changes a cluster before its beginning is on disk.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use nullius_access::{Caller, without_protected};
use nullius_audit::fact;
use nullius_model::{
    AuditEvent, AuditKind, AuditOutcome, ClusterName, Explanation, GroupName, Identity, KubeCall,
    PermissionId, Plane, Principal, Reason, RequestAssertion, Timestamp,
};
use nullius_pki::{connection_id, path_hash, random_bits};
use nullius_policy::{Denial, KubePermit, Verdict, decide_kube, decide_review};
use nullius_rbac::RequestInfo;
use nullius_store::Slot;
use nullius_tunnel::{
    Assert, AssertError, Ended, Forward, Refusal, Report, TunnelBody, Upgrade, check_headers,
};

use super::{
    live::{LiveRequest, NoMore},
    reviews::{self, Question},
};
use crate::{Hub, KubeRefusal, UseRef, bearer::bearer, record::Occasion};

/// Seconds that an assertion lives: longer than any queue in a tunnel, shorter than a coffee.
const ASSERTION_SECONDS: i64 = 30;
/// What is said where a session that was there is there no more.
const SESSION_ENDED: &str = "your session has ended; sign in with `nullius login`";
/// Characters of a user agent that the audit keeps.
const USER_AGENT_CHARS: usize = 256;

/// A request whose path begins with `/clusters/`.
pub(crate) async fn handle(
    hub: &Arc<Hub>,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Response<TunnelBody> {
    let call = Call { hub, occasion: Occasion::new(peer), received: hub.now() };
    let mut response = match call.run(request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    };
    if let Ok(value) = call.occasion.id.as_str().parse() {
        response.headers_mut().insert("audit-id", value);
    }
    response
}

/// What is known of a request before anybody is.
struct Call<'a> {
    hub: &'a Arc<Hub>,
    occasion: Occasion,
    received: Timestamp,
}

/// What is known once the person is, and what was asked.
struct Asked {
    identity: Identity,
    cluster: ClusterName,
    info: RequestInfo,
    user_agent: String,
}

/// What becomes of a question about oneself.
enum Asking {
    /// The cluster is asked too.
    Cluster(Request<TunnelBody>),
    /// The answer is no.
    Answered(Response<TunnelBody>),
}

impl Call<'_> {
    async fn run(&self, request: Request<Incoming>) -> Result<Response<TunnelBody>, Refusal> {
        let hub = self.hub;
        let token = bearer(request.headers()).map_err(KubeRefusal::from);
        let identity = match token.and_then(|token| hub.authenticate_kube(token)) {
            Ok(identity) => identity,
            Err(refused) => {
                // Strangers have a small allowance in the audit: a flood of them must not fill it.
                if let Err(seconds) = hub.take_source(self.occasion.source) {
                    let message =
                        format!("too many requests without a credential; come back in {seconds} s");
                    return Err(Refusal::new(429, message));
                }
                self.note_stranger(&refused.to_string()).await;
                let status = refused.kube_status();
                return Err(Refusal::new(status.code, status.message));
            }
        };
        let user_agent = user_agent(request.headers());
        let (parts, body) = request.into_parts();
        if let Err(refused) = check_headers(&parts) {
            return Err(self.refuse_headers(&identity, refused).await);
        }
        let request = Request::from_parts(parts, body);
        let (cluster, mut target) = match split_target(request.uri()) {
            Ok(parts) => parts,
            Err(explanation) => return Err(self.refuse_early(&identity, None, explanation).await),
        };
        let method = request.method().as_str();
        let read = RequestInfo::parse(method, &target).and_then(|info| {
            // What is decided, written down and forwarded is one: the request without what is ours.
            let Some(narrowed) = without_protected(&info) else { return Ok(info) };
            target = narrowed;
            RequestInfo::parse(method, &target)
        });
        let info = match read {
            Ok(info) => info,
            Err(unreadable) => {
                let explanation = unreadable.explanation();
                return Err(self.refuse_early(&identity, Some(&cluster), explanation).await);
            }
        };
        let asked = Asked { identity, cluster, info, user_agent };

        // Room for the event comes first: what cannot be written down does not happen.
        let slot = hub.audit().reserve().await.map_err(|error| {
            Refusal::new(503, format!("the audit cannot be written, so no request passes: {error}"))
        })?;
        let mark = hub.clusters().tunnels.mark();
        let snapshot = hub.snapshot();
        let caller = Caller { identity: &asked.identity, source: Some(self.occasion.source) };
        let decision = decide_kube(&snapshot, &caller, &asked.cluster, &asked.info, hub.now());
        let explanation = decision.explanation;
        let permit = match decision.verdict {
            Verdict::Allow(permit) => permit,
            Verdict::Deny(denial) => return Err(self.deny(slot, &asked, &denial)),
        };
        let generation =
            match hub.clusters().ensure(hub, &asked.identity, &asked.cluster, &snapshot).await {
                Ok(generation) => generation,
                Err(error) => {
                    let refusal = Refusal::new(error.code(), error.to_string());
                    self.finish_early(slot, &asked, &explanation, permit.permission(), &refusal);
                    return Err(refusal);
                }
            };
        let revision = snapshot.revision();
        drop(snapshot);

        let request = with_target(request, &target)?;
        let request = if reviews::is_review(&asked.info) {
            match self.question(&asked, request).await? {
                Asking::Cluster(request) => request,
                Asking::Answered(answer) => {
                    let permission = permit.permission();
                    self.count(&asked, true, permission);
                    let done = AuditOutcome::Done;
                    enqueue(slot, &self.event(&asked, done, permission, Some(&explanation), 201));
                    return Ok(answer);
                }
            }
        } else {
            request.map(TunnelBody::foreign)
        };
        if changes(&asked.info) {
            let begun =
                self.event(&asked, AuditOutcome::Begun, permit.permission(), Some(&explanation), 0);
            hub.audit().write(&begun).await.map_err(|error| {
                Refusal::new(
                    503,
                    format!("the audit cannot be written, so nothing is changed: {error}"),
                )
            })?;
        }
        self.forward(slot, asked, permit, explanation, mark, revision, generation, request).await
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is one part of the request, named here once"
    )]
    async fn forward(
        &self,
        slot: Slot,
        asked: Asked,
        permit: KubePermit,
        explanation: Explanation,
        mark: nullius_tunnel::Mark,
        revision: u64,
        generation: u64,
        request: Request<TunnelBody>,
    ) -> Result<Response<TunnelBody>, Refusal> {
        let hub = self.hub;
        let live = LiveRequest {
            session: permit.session().clone(),
            cluster: permit.cluster().clone(),
            permission: permit.permission().cloned(),
            request: asked.info.clone(),
            ends_at: permit.ends_at(),
        };
        // From here on a change of objects finds this request by itself. One that came between the decision and
        // here has not found it, so it is judged again.
        let running = Running { hub: Arc::clone(hub), id: hub.clusters().live.enter(live.clone()) };
        let newest = hub.snapshot();
        if newest.revision() != revision {
            match live.judge_again(hub.sessions(), &newest, hub.now()) {
                Ok(()) => {}
                Err(NoMore::Denied(denial)) => return Err(self.deny(slot, &asked, &denial)),
                Err(NoMore::Ended) => {
                    let refusal = Refusal::new(401, SESSION_ENDED);
                    let permission = permit.permission();
                    self.finish_early(slot, &asked, &explanation, permission, &refusal);
                    return Err(refusal);
                }
            }
        }
        drop(newest);
        let on_cut = {
            let hub = Arc::clone(hub);
            move || why_cut(&hub, &live)
        };
        let long = is_long(&asked.info, &request);
        self.count(&asked, true, permit.permission());
        let (status, told) = tokio::sync::oneshot::channel::<u16>();
        let ending = Ending {
            hub: Arc::clone(hub),
            slot: Some(slot),
            event: self.event(
                &asked,
                AuditOutcome::Done,
                permit.permission(),
                Some(&explanation),
                0,
            ),
            _running: running,
            told,
        };
        if long {
            hub.time_changed.notify_one();
        }
        let assert = Asserter { hub, generation };
        let forward = Forward {
            permit: &permit,
            mark,
            audit_id: &self.occasion.id,
            assert: &assert,
            on_end: Some(Box::new(move |report| ending.tell(report))),
            on_cut: Some(Box::new(on_cut)),
        };
        let response = hub.clusters().tunnels.forward(forward, request).await;
        let _ = status.send(response.status().as_u16());
        Ok(response)
    }

    /// Reads a review, and answers it where the decision here says no already.
    async fn question(&self, asked: &Asked, request: Request<Incoming>) -> Result<Asking, Refusal> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, reviews::MAX_BYTES).collect().await;
        let body: Bytes = body
            .map_err(|error| Refusal::new(400, "the review cannot be read").with_detail(error))?
            .to_bytes();
        let question = Question::read(&parts.headers, &body)
            .map_err(|error| Refusal::new(400, error.to_string()))?;
        let snapshot = self.hub.snapshot();
        let caller = Caller { identity: &asked.identity, source: Some(self.occasion.source) };
        if let Some(attributes) = question.spec.attributes() {
            let decision =
                decide_review(&snapshot, &caller, &asked.cluster, &attributes, self.hub.now());
            if let Verdict::Deny(denial) = &decision.verdict {
                let why = denial.explanation().to_string();
                let version = asked.info.api_version();
                return Ok(Asking::Answered(question.denied(&parts.headers, version, &why)));
            }
        }
        Ok(Asking::Cluster(Request::from_parts(parts, TunnelBody::full(body))))
    }

    fn deny(&self, slot: Slot, asked: &Asked, denial: &Denial) -> Refusal {
        let status = denial.kube_status();
        let permission = denial.permission();
        let explanation = Some(denial.explanation());
        enqueue(
            slot,
            &self.event(asked, AuditOutcome::Denied, permission, explanation, status.code),
        );
        self.count(asked, false, permission);
        Refusal::new(status.code, status.message)
    }

    fn finish_early(
        &self,
        slot: Slot,
        asked: &Asked,
        explanation: &Explanation,
        permission: Option<&PermissionId>,
        refusal: &Refusal,
    ) {
        let code = refusal.code();
        let mut event =
            self.event(asked, AuditOutcome::Failed, permission, Some(explanation), code);
        event.facts.insert("error".to_owned(), refusal.message().to_owned());
        enqueue(slot, &event);
    }

    /// Somebody without a session: the audit keeps that it happened, as far as there is room.
    async fn note_stranger(&self, why: &str) {
        let mut event =
            self.blank(AuditOutcome::Denied, Principal::Unproven { claimed: String::new() });
        event.explanation = Some(Explanation::new(Reason::SessionEnded, why));
        self.hub.note(event).await;
    }

    async fn refuse_headers(&self, identity: &Identity, refused: Refusal) -> Refusal {
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

    async fn refuse_early(
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

    fn count(&self, asked: &Asked, allowed: bool, permission: Option<&PermissionId>) {
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

/// What a person hears whose stream is cut: what the same request would be answered now.
fn why_cut(hub: &Hub, live: &LiveRequest) -> String {
    if hub.is_draining() {
        return "the hub stops, perhaps for an update; run the command again".to_owned();
    }
    match live.judge_again(hub.sessions(), &hub.snapshot(), hub.now()) {
        Err(NoMore::Denied(denial)) => denial.kube_status().message,
        Err(NoMore::Ended) => SESSION_ENDED.to_owned(),
        Ok(()) => "what you may do has changed meanwhile; run the command again".to_owned(),
    }
}

/// A request that runs; dropping it ends that, whatever became of it.
struct Running {
    hub: Arc<Hub>,
    id: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.hub.clusters().live.leave(self.id);
    }
}

/// What is done when a forwarded request has ended.
struct Ending {
    hub: Arc<Hub>,
    slot: Option<Slot>,
    event: AuditEvent,
    _running: Running,
    told: tokio::sync::oneshot::Receiver<u16>,
}

impl Ending {
    fn tell(mut self, report: Report) {
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
fn enqueue(slot: Slot, event: &AuditEvent) {
    if let Err(error) = slot.enqueue(event) {
        tracing::error!(%error, audit_id = %event.audit_id, "cannot write an audit event");
    }
}

/// Signs one request for one tunnel connection.
struct Asserter<'a> {
    hub: &'a Hub,
    generation: u64,
}

impl Assert for Asserter<'_> {
    fn assertion(
        &self,
        permit: &KubePermit,
        connection: &[u8; 32],
        upgrade: Option<Upgrade>,
    ) -> Result<String, AssertError> {
        let now = self.hub.now().as_second();
        let assertion = RequestAssertion {
            aud: permit.cluster().clone(),
            iat: now,
            exp: now + ASSERTION_SECONDS,
            jti: format!("{:032x}", random_bits()),
            sub: permit.user().clone(),
            sid: permit.session().clone(),
            perm: permit.permission().cloned(),
            plan: self.generation,
            method: permit.method().as_str().to_owned(),
            path: path_hash(permit.path_and_query()),
            upgrade: upgrade.map(|upgrade| upgrade.as_str().to_owned()),
            conn: connection_id(connection),
        };
        Ok(self.hub.keys().signer().sign_request(&assertion))
    }
}

fn person(identity: &Identity) -> Principal {
    Principal::Person { user: identity.user.clone() }
}

/// `/clusters/NAME/api/…` → the cluster and `/api/…` with its query.
fn split_target(uri: &Uri) -> Result<(ClusterName, String), Explanation> {
    let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let rest = target.strip_prefix("/clusters/").unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (name, path) = rest.split_at(end);
    let cluster = name.parse::<ClusterName>().map_err(|error| {
        Explanation::new(Reason::UnknownCluster, error.to_string())
            .with_next("see `nullius access list` for your clusters")
    })?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((cluster, path))
}

fn with_target(mut request: Request<Incoming>, target: &str) -> Result<Request<Incoming>, Refusal> {
    let target: Uri = target
        .parse()
        .map_err(|error| Refusal::new(400, "the path cannot be read").with_detail(error))?;
    *request.uri_mut() = target;
    Ok(request)
}

fn user_agent(headers: &HeaderMap) -> String {
    let value =
        headers.get(header::USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.unwrap_or_default().chars().take(USER_AGENT_CHARS).collect()
}

/// Whether a request may change the cluster or runs something in it.
fn changes(info: &RequestInfo) -> bool {
    let reads = matches!(info.verb(), "get" | "list" | "watch" | "head" | "options");
    !reads && !is_self_question(info)
}

fn is_self_question(info: &RequestInfo) -> bool {
    matches!(
        info.resource(),
        "selfsubjectaccessreviews" | "selfsubjectrulesreviews" | "selfsubjectreviews"
    )
}

/// Whether the clock has to be watched for a request's sake. Every log counts: `follow` can be written in many ways.
fn is_long(info: &RequestInfo, request: &Request<TunnelBody>) -> bool {
    request.headers().contains_key(header::UPGRADE)
        || info.verb() == "watch"
        || matches!(info.subresource(), "log" | "proxy")
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

    fn split(target: &str) -> Option<(String, String)> {
        let (cluster, path) = split_target(&target.parse().unwrap()).ok()?;
        Some((cluster.to_string(), path))
    }

    #[test]
    fn the_cluster_is_the_first_segment_and_the_rest_is_left_alone() {
        let dev = |path: &str| Some(("dev".to_owned(), path.to_owned()));
        assert_eq!(split("/clusters/dev/api/v1/pods?limit=5"), dev("/api/v1/pods?limit=5"));
        assert_eq!(split("/clusters/dev"), dev("/"));
        assert_eq!(split("/clusters/dev?x=1"), dev("/?x=1"));
        assert_eq!(split("/clusters/dev//api"), dev("//api"));
        assert_eq!(split("/clusters/Dev/api"), None);
        assert_eq!(split("/clusters//api"), None);
        assert_eq!(split("/clusters/..%2f/api"), None);
    }

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
        assert!(!changes(&info));
        let info = RequestInfo::parse("GET", "/api/v1/namespaces/shop/pods/web/exec").unwrap();
        assert!(changes(&info), "exec is never a read");
        let info = RequestInfo::parse("GET", "/version").unwrap();
        assert_eq!(resource_of(&info), "/version");
    }
}
