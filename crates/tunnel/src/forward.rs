//! Permitted requests go out on the hub's tunnels, and answers come back.
//!
//! [`Tunnels::forward`] takes the permit itself, so that a request that nobody permitted cannot be forwarded; it
//! compares method and path with it and signs for exactly that request on exactly one connection.

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use nullius_model::{AuditId, ClusterName};
use nullius_policy::KubePermit;
use nullius_rbac::RequestInfo;
use tokio::time::Instant;

use crate::{
    AnsweredBy, BoxError, Ended, OnEnd, Refusal, TunnelBody, Tunnels, Upgrade,
    cut_short::CutShort,
    exchange::{Exchange, Failure, Remainder},
    farewell::{Farewell, OnCut},
    headers::{self, Clean, Redirect},
    link::{Link, Rest, Slot},
    live::{Mark, Owner, Registration},
    outcome::Watcher,
    pipe::{LastWords, Side, pipe},
    registry::Way,
    upgrade::{self, UpgradeRequest},
    wire::{self, Class},
};

/// How often a request that was certainly not processed is sent on another connection.
const ATTEMPTS: usize = 3;
/// An answer up to this size may wait for its reader as it came.
const SHORT_BODY: u64 = 64 * 1024;

/// Signs one request for one connection; the hub implements it with its assertion key.
pub trait Assert: Send + Sync {
    /// The JWS that the agent checks; `connection` is the exporter of the connection that was chosen.
    fn assertion(
        &self,
        permit: &KubePermit,
        connection: &[u8; 32],
        upgrade: Option<Upgrade>,
    ) -> Result<String, AssertError>;
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AssertError(pub String);

/// A permitted request to be forwarded.
pub struct Forward<'a> {
    /// What was permitted.
    pub permit: &'a KubePermit,
    /// Taken with [`Tunnels::mark`] before the decision.
    pub mark: Mark,
    /// The id that joins the audit logs of hub and cluster.
    pub audit_id: &'a AuditId,
    /// Signs the request.
    pub assert: &'a dyn Assert,
    /// Hears how it ended, once, whatever happens.
    pub on_end: Option<OnEnd>,
    /// Says to a client whose stream is cut why it is, where its protocol has a place for that.
    pub on_cut: Option<OnCut>,
}

/// The connection of a client that asks for an upgrade.
struct Client {
    on_upgrade: OnUpgrade,
    cut_short: Option<CutShort>,
    on_cut: Option<OnCut>,
}

impl Tunnels {
    /// Sends a permitted request to an agent of its cluster and gives back what came; a failure is a Kubernetes
    /// `Status`. [`AnsweredBy`] is in the answer's extensions, and the [`Refusal`] where it is the hub's own.
    pub async fn forward<B>(
        &self,
        mut forward: Forward<'_>,
        request: Request<B>,
    ) -> Response<TunnelBody>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let audit_id = forward.audit_id;
        let is_http1 = request.version() == Version::HTTP_11;
        let upgrades = request.headers().contains_key(header::UPGRADE);
        let mut watcher = forward.on_end.take().map(Watcher::new);
        let request = request.map(TunnelBody::foreign);
        let forwarded = Box::pin(self.forward_checked(forward, request, &mut watcher));
        let (mut response, unreadable) = match forwarded.await {
            Ok(response) => (response, false),
            Err(refusal) => {
                if let Some(watcher) = watcher.take() {
                    watcher.ended(Ended::Refused);
                }
                let unreadable = refusal.code() == 400;
                (refused(refusal), unreadable)
            }
        };
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let answer = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(audit_id.as_str()) {
            answer.insert(headers::AUDIT_ID, value);
        }
        if !switched {
            headers::never_render(answer);
            if is_http1 && (upgrades || unreadable) {
                // What stands behind an upgrade that did not come, or behind a message that could not be read, must
                // never be read as a request.
                answer.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        response
    }

    async fn forward_checked(
        &self,
        forward: Forward<'_>,
        mut request: Request<TunnelBody>,
        watcher: &mut Option<Watcher>,
    ) -> Result<Response<TunnelBody>, Refusal> {
        let permit = forward.permit;
        let info = permit.request();
        let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let cut_short = request.extensions_mut().remove::<CutShort>();
        let (parts, body) = request.into_parts();
        same_request(info, &parts)?;
        let clean = headers::from_client(&parts)?;
        let owner = Owner {
            session: permit.session().clone(),
            user: Some(permit.user().clone()),
            cluster: permit.cluster().clone(),
            permission: permit.permission().cloned(),
        };
        let left = permit.ends_at().duration_since(permit.decided_at());
        let ends = Instant::now() + Duration::try_from(left).unwrap_or_default();
        let registration = self.inner().live.enter(forward.mark, owner, Some(ends));
        let limit = self.inner().options.session_streams;
        if registration.siblings() >= limit {
            return Err(Refusal::new(
                429,
                format!(
                    "this session has {limit} requests running; end some watches and try again"
                ),
            ));
        }
        let sent = Sent { permit, audit_id: forward.audit_id, assert: forward.assert, clean };
        match &sent.clean.upgrade {
            Some(upgrade) => {
                let Some(on_upgrade) = on_upgrade else {
                    return Err(Refusal::new(400, "this connection cannot be upgraded"));
                };
                let client = Client { on_upgrade, cut_short, on_cut: forward.on_cut };
                self.upgrade(&sent, upgrade, client, registration, watcher).await
            }
            None => self.plain(&sent, body, registration, watcher).await,
        }
    }

    async fn plain(
        &self,
        sent: &Sent<'_>,
        body: TunnelBody,
        registration: Registration,
        watcher: &mut Option<Watcher>,
    ) -> Result<Response<TunnelBody>, Refusal> {
        let answer = self.send(sent, body, &registration).await?;
        let Answer { response, remainder, slot } = answer;
        let (parts, stream) = response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Refusal::new(502, "the cluster switched protocols though nobody asked"));
        }
        remainder.run_beside(registration.stream());
        let response = self.answered(sent.permit.cluster(), parts)?;
        let owner = Some(Arc::clone(registration.stream()));
        let body = if sent.class() == Class::Small && is_short(response.headers()) {
            TunnelBody::http2(stream, owner)
        } else {
            TunnelBody::drained(stream, owner)
        };
        let body = body.registered(registration, slot, watcher.take());
        Ok(response.map(|()| body))
    }

    async fn upgrade(
        &self,
        sent: &Sent<'_>,
        upgrade: &UpgradeRequest,
        client: Client,
        registration: Registration,
        watcher: &mut Option<Watcher>,
    ) -> Result<Response<TunnelBody>, Refusal> {
        let answer = self.send(sent, TunnelBody::empty(), &registration).await?;
        let Answer { response, remainder, slot } = answer;
        let (parts, recv) = response.into_parts();
        let agreed = parts.status == StatusCode::OK
            && parts
                .headers
                .get(headers::UPGRADE)
                .is_some_and(|token| Upgrade::parse(token.as_bytes()) == Some(upgrade.protocol));
        let Remainder::Done(mut send) = remainder else {
            return Err(Refusal::new(500, "an upgrade had a body"));
        };
        if !agreed {
            if parts.headers.contains_key(headers::UPGRADE) {
                return Err(Refusal::new(502, "the agent switched to another protocol"));
            }
            // Nothing follows an upgrade that was not agreed to.
            let _ = send.send_data(bytes::Bytes::new(), true);
            registration.stream().reset_with(send);
            let response = self.answered(sent.permit.cluster(), parts)?;
            let body = TunnelBody::http2(recv, None).registered(registration, slot, watcher.take());
            return Ok(response.map(|()| body));
        }
        if !upgrade::agreed(upgrade, &parts.headers) {
            return Err(Refusal::new(
                502,
                "the cluster agreed to another upgrade than was asked for",
            ));
        }
        let mut response = Response::new(TunnelBody::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = headers::from_upstream(&parts.headers);
        response.headers_mut().remove(header::CONTENT_LENGTH);
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let token = HeaderValue::from_static(upgrade.protocol.token());
        response.headers_mut().insert(header::UPGRADE, token);
        response.extensions_mut().insert(AnsweredBy::ApiServer);
        let watcher = watcher.take();
        let place = Farewell::to(upgrade.protocol, response.headers());
        let words = place.zip(client.on_cut).map(|(place, why)| LastWords { place, why });
        self.inner().tasks.spawn(async move {
            let stream = Arc::clone(registration.stream());
            let upgraded = tokio::select! {
                upgraded = client.on_upgrade => upgraded.ok(),
                _ = stream.cut_down() => None,
            };
            match upgraded {
                Some(upgraded) => {
                    let io = hyper_util::rt::TokioIo::new(upgraded);
                    let report =
                        pipe(io, send, recv, &stream, Side::Client(client.cut_short), words).await;
                    if let Some(mut watcher) = watcher {
                        watcher.sent(report.to_client);
                        watcher.ended(report.ended);
                    }
                }
                None => {
                    send.send_reset(h2::Reason::CANCEL);
                    if let Some(watcher) = watcher {
                        watcher.ended(stream.why_cut().map_or(Ended::ClientGone, Ended::from));
                    }
                }
            }
            drop((registration, slot));
        });
        Ok(response)
    }

    /// Sends the request on the least loaded connection, and on another one if it was not processed there.
    async fn send(
        &self,
        sent: &Sent<'_>,
        mut body: TunnelBody,
        registration: &Registration,
    ) -> Result<Answer, Refusal> {
        let cluster = sent.permit.cluster();
        for _ in 0..ATTEMPTS {
            if self.inner().tasks.is_closed() {
                return Err(Refusal::new(503, "this hub is going away; try again"));
            }
            let link = match self.inner().registry.choose(cluster, sent.class()) {
                Way::Link(link) => link,
                Way::NoAgent => return Err(no_agent(cluster)),
                Way::Busy => {
                    return Err(Refusal::new(
                        503,
                        format!(
                            "the agents of cluster `{cluster}` are busy or going away; try again"
                        ),
                    ));
                }
            };
            let slot = link.slot(&self.inner().tasks);
            let head = sent.head(&link)?;
            let rest = if sent.clean.upgrade.is_none() && http_body::Body::is_end_stream(&body) {
                Rest::Nothing
            } else {
                Rest::Body
            };
            let opened = match link.open(head, rest).await {
                Ok(opened) => opened,
                Err(error) => {
                    tracing::debug!(cluster = %cluster, %error, "drop connection that takes no requests");
                    link.stop();
                    continue;
                }
            };
            let exchange = match rest {
                Rest::Body if sent.clean.upgrade.is_none() => {
                    Exchange::with_body(opened.response, opened.send, body)
                }
                Rest::Body | Rest::Nothing => Exchange::without_body(opened.response, opened.send),
            };
            let limit = sent.answer_limit(self.inner().options.answer_timeout);
            let answered = tokio::select! {
                biased;
                _ = registration.stream().cut_down() => return Err(ended_session()),
                answered = limited(limit, exchange.answer()) => answered,
            };
            match answered {
                Some(Ok((response, remainder))) => return Ok(Answer { response, remainder, slot }),
                Some(Err(Failure::NotProcessed(whole, error))) => {
                    tracing::debug!(cluster = %cluster, %error, "send again what was not processed");
                    if error.is_go_away() {
                        link.stop();
                    }
                    body = *whole;
                }
                Some(Err(Failure::Broken(error))) => {
                    return Err(Refusal::new(
                        503,
                        format!(
                            "the connection to the agent of cluster `{cluster}` broke while the request ran; see whether it took effect before you try again"
                        ),
                    )
                    .with_detail(error));
                }
                Some(Err(Failure::Body(error))) => {
                    return Err(
                        Refusal::new(400, "the request's body broke off").with_detail(error)
                    );
                }
                None => {
                    return Err(Refusal::new(
                        504,
                        format!("cluster `{cluster}` did not answer in time; try again"),
                    ));
                }
            }
        }
        Err(Refusal::new(
            503,
            format!("no agent of cluster `{cluster}` took the request; try again"),
        ))
    }

    /// The head of an answer as the client may see it.
    fn answered(
        &self,
        cluster: &ClusterName,
        parts: http::response::Parts,
    ) -> Result<Response<()>, Refusal> {
        let by = match parts.headers.get(headers::ANSWERED_BY) {
            Some(_) => AnsweredBy::Agent,
            None => AnsweredBy::ApiServer,
        };
        let mut response = Response::new(());
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers::from_upstream(&parts.headers);
        match headers::redirect(&parts.headers, None) {
            Redirect::None => {}
            Redirect::Within(path) => {
                let path = format!("{}/{cluster}{path}", self.inner().options.public_root);
                if let Ok(value) = HeaderValue::from_str(&path) {
                    response.headers_mut().insert(header::LOCATION, value);
                }
            }
            Redirect::Elsewhere if parts.status.is_redirection() => {
                return Err(redirected(cluster));
            }
            Redirect::Elsewhere => {}
        }
        response.extensions_mut().insert(by);
        Ok(response)
    }
}

/// A checked request, ready to be sent as often as it takes.
struct Sent<'a> {
    permit: &'a KubePermit,
    audit_id: &'a AuditId,
    assert: &'a dyn Assert,
    clean: Clean,
}

struct Answer {
    response: Response<h2::RecvStream>,
    remainder: Remainder,
    slot: Slot,
}

impl Sent<'_> {
    fn class(&self) -> Class {
        let info = self.permit.request();
        if self.clean.upgrade.is_some() || is_open_ended(info) { Class::Bulk } else { Class::Small }
    }

    fn answer_limit(&self, limit: Duration) -> Option<Duration> {
        (self.clean.upgrade.is_none() && !is_open_ended(self.permit.request())).then_some(limit)
    }

    /// The request as it enters the tunnel, signed for this connection.
    fn head(&self, link: &Link) -> Result<Request<()>, Refusal> {
        let info = self.permit.request();
        let internal = |error: &dyn fmt::Display| {
            Refusal::new(500, "the hub could not prepare the request").with_detail(error)
        };
        let asked = self.clean.upgrade.as_ref().map(|upgrade| upgrade.protocol);
        let assertion = self
            .assert
            .assertion(self.permit, &link.exporter, asked)
            .map_err(|error| internal(&error))?;
        let mut assertion = HeaderValue::try_from(assertion).map_err(|error| internal(&error))?;
        assertion.set_sensitive(true);

        let mut request = Request::new(());
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() =
            wire::tunnel_uri(info.path_and_query()).map_err(|error| internal(&error))?;
        *request.headers_mut() = self.clean.headers.clone();
        let audit_id = HeaderValue::from_str(self.audit_id.as_str());
        request
            .headers_mut()
            .insert(headers::AUDIT_ID, audit_id.map_err(|error| internal(&error))?);
        request.headers_mut().insert(headers::ASSERTION, assertion);
        let method = info.method().as_str();
        match asked {
            None => {
                *request.method_mut() =
                    Method::from_bytes(method.as_bytes()).map_err(|error| internal(&error))?;
            }
            Some(upgrade) => {
                *request.method_mut() = Method::CONNECT;
                request.headers_mut().remove(header::CONTENT_LENGTH);
                request.headers_mut().insert(headers::METHOD, HeaderValue::from_static(method));
                let token = HeaderValue::from_static(upgrade.token());
                request.headers_mut().insert(headers::UPGRADE, token);
                let protocol = h2::ext::Protocol::from_static(wire::UPGRADE_PROTOCOL);
                request.extensions_mut().insert(protocol);
            }
        }
        Ok(request)
    }
}

/// Whether an answer may take as long as it likes: watches, followed logs, proxied applications.
fn is_open_ended(info: &RequestInfo) -> bool {
    let follows = || {
        let query = info.raw_query().unwrap_or_default();
        query.split('&').any(|pair| pair.split('=').next() == Some("follow"))
    };
    match info.verb() {
        "watch" | "proxy" => true,
        _ => match info.subresource() {
            "proxy" | "exec" | "attach" | "portforward" => true,
            "log" => follows(),
            _ => false,
        },
    }
}

/// Whether an answer is so short that it may wait for its reader as it came.
fn is_short(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).is_some_and(|length: u64| length <= SHORT_BODY)
}

/// The permit is for this request and no other.
fn same_request(info: &RequestInfo, parts: &http::request::Parts) -> Result<(), Refusal> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    if target.starts_with(wire::RESERVED) {
        return Err(Refusal::new(404, "the cluster has no such path"));
    }
    if parts.method.as_str() == info.method().as_str() && target == info.path_and_query() {
        return Ok(());
    }
    Err(Refusal::new(403, "the request is not the one that was permitted")
        .with_detail(format_args!("permitted `{} {}`", info.method(), info.path_and_query())))
}

async fn limited<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}

fn refused(refusal: Refusal) -> Response<TunnelBody> {
    if let Some(detail) = refusal.detail() {
        tracing::debug!(
            code = refusal.code(),
            message = refusal.message(),
            detail,
            "refuse request"
        );
    }
    let mut response = refusal.into_response();
    response.extensions_mut().insert(AnsweredBy::Hub);
    response
}

fn no_agent(cluster: &ClusterName) -> Refusal {
    Refusal::new(
        503,
        format!(
            "cluster `{cluster}` has no agent connected; see with `nullius cluster list` since when, and whether the agent runs in it"
        ),
    )
}

fn ended_session() -> Refusal {
    Refusal::new(
        401,
        "the session or the right that this request used has ended; sign in again with `nullius login`",
    )
}

fn redirected(cluster: &ClusterName) -> Refusal {
    Refusal::new(
        502,
        format!("cluster `{cluster}` answered with a redirect to elsewhere, which is not followed"),
    )
}
