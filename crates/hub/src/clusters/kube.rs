//! A person's request to a cluster, from the header to the audit:
//! who → may they → is it written down → do their credentials stand → forward → what came of it.
//!
//! Every way out of [`handle`] has been decided and is in the audit. Nothing is forwarded without room for its event,
//! and nothing that changes a cluster before its beginning is on disk.

mod written;

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use nullius_access::{Caller, without_protected};
use nullius_model::{AuditOutcome, ClusterName, Explanation, Reason, RequestAssertion, Timestamp};
use nullius_pki::{connection_id, path_hash, random_bits};
use nullius_policy::{KubePermit, Verdict, decide_kube, decide_review};
use nullius_rbac::RequestInfo;
use nullius_tunnel::{Assert, AssertError, Forward, Refusal, TunnelBody, Upgrade, check_headers};

use self::written::{Admitted, Asked, Running, enqueue, user_agent};
use super::{
    live::{LiveRequest, NoMore},
    reviews::{self, Question},
};
use crate::{Hub, KubeRefusal, bearer::bearer, record::Occasion};

/// Seconds that an assertion lives: longer than any queue in a tunnel, shorter than a coffee.
const ASSERTION_SECONDS: i64 = 30;
/// What is said where a session that was there is there no more.
const SESSION_ENDED: &str = "your session has ended; sign in with `nullius login`";

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
        let permit = match decision.verdict {
            Verdict::Allow(permit) => permit,
            Verdict::Deny(denial) => {
                let (event, refusal) = self.denied(&asked, &denial);
                enqueue(slot, &event);
                return Err(refusal);
            }
        };
        let admitted = Admitted::new(self, asked, permit, decision.explanation, slot);
        let asked = &admitted.asked;
        let ensured = hub.clusters().ensure(hub, &asked.identity, &asked.cluster, &snapshot).await;
        let generation = match ensured {
            Ok(generation) => generation,
            Err(error) => {
                return Err(admitted.failed(Refusal::new(error.code(), error.to_string())));
            }
        };
        let revision = snapshot.revision();
        drop(snapshot);

        let request = match with_target(request, &target) {
            Ok(request) => request,
            Err(refusal) => return Err(admitted.failed(refusal)),
        };
        let request = if reviews::is_review(&admitted.asked.info) {
            match self.question(&admitted.asked, request).await {
                Ok(Asking::Cluster(request)) => request,
                Ok(Asking::Answered(answer)) => {
                    admitted.answered(answer.status().as_u16());
                    return Ok(answer);
                }
                Err(refusal) => return Err(admitted.failed(refusal)),
            }
        } else {
            request.map(TunnelBody::foreign)
        };
        if changes(&admitted.asked.info) {
            let begun = admitted.event(AuditOutcome::Begun, 0);
            if let Err(error) = hub.audit().write(&begun).await {
                let message =
                    format!("the audit cannot be written, so nothing is changed: {error}");
                return Err(admitted.failed(Refusal::new(503, message)));
            }
        }
        self.forward(admitted, mark, revision, generation, request).await
    }

    async fn forward(
        &self,
        mut admitted: Admitted<'_>,
        mark: nullius_tunnel::Mark,
        revision: u64,
        generation: u64,
        request: Request<TunnelBody>,
    ) -> Result<Response<TunnelBody>, Refusal> {
        let hub = self.hub;
        let Admitted { asked, permit, .. } = &admitted;
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
                Err(NoMore::Denied(denial)) => return Err(admitted.denied(&denial)),
                Err(NoMore::Ended) => {
                    return Err(admitted.failed(Refusal::new(401, SESSION_ENDED)));
                }
            }
        }
        drop(newest);
        let on_cut = {
            let hub = Arc::clone(hub);
            move || why_cut(&hub, &live)
        };
        if is_long(&asked.info, &request) {
            hub.time_changed.notify_one();
        }
        let (status, told) = tokio::sync::oneshot::channel::<u16>();
        let ending = admitted.forwarded(running, told);
        let assert = Asserter { hub, generation };
        let forward = Forward {
            permit: &admitted.permit,
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
    fn an_exec_is_never_a_read() {
        let does = |verb, target| changes(&RequestInfo::parse(verb, target).unwrap());
        assert!(does("GET", "/api/v1/namespaces/shop/pods/web/exec"));
        assert!(!does("GET", "/apis/apps/v1/namespaces/shop/deployments/web/scale"));
    }
}
