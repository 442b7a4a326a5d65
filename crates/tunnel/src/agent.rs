//! The agent's side: it dials the hub and then serves HTTP/2 on that connection.
//!
//! Nothing that comes in is believed because it came through the tunnel: headers and path are read again, what is
//! protected in every cluster is refused again, and only the [`Gate`] gives out a credential, for plain requests
//! and upgrades by the same call.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use h2::{RecvStream, server};
use nullius_access::protected_request;
use nullius_model::{AuditId, ClusterName, SessionId};
use nullius_rbac::RequestInfo;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};

use crate::{
    Class, Refusal, TunnelBody, Upgrade, Upstream, headers,
    live::{Live, Owner, Registration},
    pipe::{Side, pipe},
    upgrade::UpgradeRequest,
    upload::Upload,
    upstream,
    wire::{self, Hello, Io},
};

type SendResponse = server::SendResponse<Bytes>;

/// Decides about a request that came through the tunnel; the agent implements it with the hub's keys and the
/// sessions' tokens. It is the only way to a credential.
pub trait Gate: Send + Sync + 'static {
    /// Checks the assertion against exactly this request and connection, and gives the session's credential.
    fn admit<'a>(
        &'a self,
        presented: Presented<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Admission, Refusal>> + Send + 'a>>;
}

/// What came through the tunnel.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The hub's JWS.
    pub assertion: &'a str,
    /// The request as the agent read it; method, path and query go to the API server as they stand in it.
    pub request: &'a RequestInfo,
    /// The protocol that it asks to switch to.
    pub upgrade: Option<Upgrade>,
    /// The TLS exporter of the connection that it came on.
    pub exporter: &'a [u8; 32],
}

impl<'a> Presented<'a> {
    /// The HTTP method.
    pub fn method(&self) -> &'static str {
        self.request.method().as_str()
    }

    /// Path and query, byte for byte.
    pub fn path_and_query(&self) -> &'a str {
        self.request.path_and_query()
    }
}

/// A request may go to the API server.
pub struct Admission {
    /// The bearer token that it goes with.
    pub credential: SecretString,
    /// The session that it belongs to.
    pub session: SessionId,
}

/// The tunnels of one agent. Clones share them.
#[derive(Clone)]
pub struct Agent(Arc<Inner>);

struct Inner {
    cluster: ClusterName,
    gate: Arc<dyn Gate>,
    upstream: Upstream,
    live: Arc<Live>,
    tasks: TaskTracker,
    drain: CancellationToken,
    streams: AtomicU64,
}

/// A connection to a hub that is being served.
pub struct Served {
    state: Arc<ConnectionState>,
    ended: tokio::sync::oneshot::Receiver<String>,
}

struct ConnectionState {
    exporter: [u8; 32],
    epoch: u64,
    hub_drains: CancellationToken,
    close: CancellationToken,
}

impl Agent {
    /// An agent of this cluster that forwards what the gate admits.
    pub fn new(cluster: ClusterName, gate: Arc<dyn Gate>, upstream: Upstream) -> Self {
        Self(Arc::new(Inner {
            cluster,
            gate,
            upstream,
            live: Live::new(),
            tasks: TaskTracker::new(),
            drain: CancellationToken::new(),
            streams: AtomicU64::new(0),
        }))
    }

    /// Serves a connection that was dialled and proven on both sides. `exporter` is the connection's own; `epoch`
    /// grows when this process gives up its connections for new ones.
    pub fn serve(&self, io: impl Io, class: Class, exporter: [u8; 32], epoch: u64) -> Served {
        let state = Arc::new(ConnectionState {
            exporter,
            epoch,
            hub_drains: CancellationToken::new(),
            close: CancellationToken::new(),
        });
        let (told, ended) = tokio::sync::oneshot::channel();
        let inner = Arc::clone(&self.0);
        let served = Arc::clone(&state);
        self.0.tasks.spawn(async move {
            let why = serve(inner, Box::new(io), class, served).await;
            // Nobody may wait for it.
            let _ = told.send(why);
        });
        Served { state, ended }
    }

    /// Ends all streams of a session at once; says how many ran. The gate must refuse the session already.
    pub fn cut(&self, session: &SessionId) -> usize {
        self.0.live.cut_session(session)
    }

    /// Ends all streams at once, for example when the lease has lapsed.
    pub fn cut_all(&self) -> usize {
        self.0.live.cut(|_| true)
    }

    /// How many streams of a session run.
    pub fn live(&self, session: &SessionId) -> usize {
        self.0.live.count(session)
    }

    /// How many streams run.
    pub fn streams(&self) -> u64 {
        self.0.streams.load(Ordering::Relaxed)
    }

    /// Whether it takes nothing new any more: there is no reason to dial a hub.
    pub fn is_draining(&self) -> bool {
        self.0.drain.is_cancelled()
    }

    /// Tells the hubs to send nothing new, finishes what runs and ends the connections.
    pub async fn drain(&self) {
        self.0.drain.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Served {
    /// Resolves when the hub said that it goes away: dial another replica, or this address again.
    pub fn hub_drains(&self) -> impl Future<Output = ()> + Send + use<> {
        self.state.hub_drains.clone().cancelled_owned()
    }

    /// Resolves with the reason when the connection has ended.
    pub async fn ended(&mut self) -> String {
        (&mut self.ended).await.unwrap_or_default()
    }

    /// Ends the connection with all that runs on it.
    pub fn close(&self) {
        self.state.close.cancel();
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("epoch", &self.state.epoch).finish_non_exhaustive()
    }
}

async fn serve(
    inner: Arc<Inner>,
    io: Box<dyn Io>,
    class: Class,
    state: Arc<ConnectionState>,
) -> String {
    let handshake = server::Builder::new()
        .initial_window_size(class.stream_window())
        .initial_connection_window_size(class.connection_window())
        .max_concurrent_streams(wire::MAX_STREAMS)
        .max_frame_size(wire::MAX_FRAME)
        .max_header_list_size(wire::MAX_HEADER_LIST)
        .max_send_buffer_size(wire::MAX_SEND_BUFFER)
        .max_pending_accept_reset_streams(wire::MAX_PENDING_RESETS)
        .max_local_error_reset_streams(None)
        .enable_connect_protocol()
        .handshake::<_, Bytes>(io);
    let mut connection = match tokio::time::timeout(wire::PING_TIMEOUT, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return error.to_string(),
        Err(_) => return "the hub did not begin in time".to_owned(),
    };
    let pings = connection.ping_pong();
    let silent = async {
        match pings {
            Some(pings) => wire::silence(pings).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(silent);
    let mut told_drain = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = inner.drain.cancelled(), if !told_drain => {
                told_drain = true;
                connection.graceful_shutdown();
                continue;
            }
            () = state.close.cancelled() => return "closed by the agent".to_owned(),
            () = &mut silent => return "the hub did not answer pings".to_owned(),
        };
        match accepted {
            Some(Ok((request, respond))) => {
                let stream = ServedStream { inner: Arc::clone(&inner), state: Arc::clone(&state) };
                inner.tasks.spawn(async move { stream.run(request, respond).await });
            }
            Some(Err(error)) => return error.to_string(),
            None => return "closed".to_owned(),
        }
    }
}

/// One stream from the hub.
struct ServedStream {
    inner: Arc<Inner>,
    state: Arc<ConnectionState>,
}

/// A request as it will go to the API server.
struct Admitted {
    head: http::request::Parts,
    upgrade: Option<UpgradeRequest>,
    registration: Registration,
}

impl Drop for ServedStream {
    fn drop(&mut self) {
        self.inner.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ServedStream {
    async fn run(self, request: Request<RecvStream>, mut respond: SendResponse) {
        self.inner.streams.fetch_add(1, Ordering::Relaxed);
        let (parts, recv) = request.into_parts();
        if !parts.headers.contains_key(headers::ASSERTION) {
            self.answer_hub(&parts, respond);
            return;
        }
        let admitted = tokio::select! {
            biased;
            _ = reset(&mut respond) => return,
            admitted = self.admit(&parts) => admitted,
        };
        match admitted {
            Ok(Admitted { head, upgrade: Some(upgrade), registration }) => {
                self.upgrade(head, &upgrade, &registration, recv, respond).await;
            }
            Ok(Admitted { head, upgrade: None, registration }) => {
                self.plain(head, &registration, recv, respond).await;
            }
            Err(refusal) => refuse(refusal, &parts.method, respond).await,
        }
    }

    /// Reads the request anew and asks the gate; nothing else leads to a credential.
    async fn admit(&self, parts: &http::request::Parts) -> Result<Admitted, Refusal> {
        let (method, asked) = method_and_upgrade(parts)?;
        let mut forwarded = headers::from_hub(&parts.headers)?;
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let request = RequestInfo::parse(method.as_str(), target)
            .map_err(|error| Refusal::new(400, error.explanation().to_string()))?;
        if let Some(refusal) = protected_request(&request) {
            return Err(Refusal::new(403, refusal.to_string()));
        }
        let upgrade = match asked {
            Some(protocol) => Some(UpgradeRequest::tunnelled(protocol, &forwarded)?),
            None => None,
        };
        let assertion = single(&parts.headers, &headers::ASSERTION)?;
        let audit_id: AuditId = single(&parts.headers, &headers::AUDIT_ID)?
            .parse()
            .map_err(|_| Refusal::new(400, "the request's audit id cannot be read"))?;

        let mark = self.inner.live.mark();
        let presented = Presented {
            assertion,
            request: &request,
            upgrade: asked,
            exporter: &self.state.exporter,
        };
        let Admission { credential, session } = self.inner.gate.admit(presented).await?;
        let cluster = self.inner.cluster.clone();
        let owner = Owner { session, user: None, cluster, permission: None };
        let registration = self.inner.live.enter(mark, owner, None);

        let unusable = |_| Refusal::new(500, "the session's credential cannot be used");
        let bearer = format!("Bearer {}", credential.expose_secret());
        let mut bearer = HeaderValue::try_from(bearer).map_err(unusable)?;
        bearer.set_sensitive(true);
        forwarded.insert(header::AUTHORIZATION, bearer);
        let audit_id = HeaderValue::from_str(audit_id.as_str()).map_err(unusable)?;
        forwarded.insert(headers::AUDIT_ID, audit_id);

        let mut head = Request::new(()).into_parts().0;
        head.method = method;
        head.uri = target.parse().map_err(|_| Refusal::new(400, "the path cannot be sent on"))?;
        head.headers = forwarded;
        Ok(Admitted { head, upgrade, registration })
    }

    async fn plain(
        &self,
        head: http::request::Parts,
        registration: &Registration,
        recv: RecvStream,
        mut respond: SendResponse,
    ) {
        let method = head.method.clone();
        let sent = tokio::select! {
            biased;
            _ = registration.stream().cut_down() => Err(ended()),
            _ = reset(&mut respond) => return,
            sent = self.inner.upstream.send(head, recv, registration.stream()) => sent,
        };
        let upstream::Answer { response, upload, lease } = match sent {
            Ok(answer) => answer,
            Err(refusal) => return refuse(refusal, &method, respond).await,
        };
        let (parts, body) = response.into_parts();
        let rest = async {
            if let Some(mut upload) = upload {
                // How the rest of the request fares, the answer says.
                let _ = upload.finish().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            _ = registration.stream().cut_down() => {}
            () = send_body(Response::from_parts(parts, ()), body, &mut respond) => {}
            () = rest => {}
        }
        if registration.is_cut() {
            respond.send_reset(h2::Reason::CANCEL);
        }
        drop(lease);
    }

    async fn upgrade(
        &self,
        head: http::request::Parts,
        asked: &UpgradeRequest,
        registration: &Registration,
        recv: RecvStream,
        mut respond: SendResponse,
    ) {
        let upgraded = tokio::select! {
            biased;
            _ = registration.stream().cut_down() => Err(ended()),
            _ = reset(&mut respond) => return,
            upgraded = self.inner.upstream.upgrade(head, asked) => upgraded,
        };
        match upgraded {
            Ok(upstream::Upgraded::Switched(switched, io)) => {
                let mut response = switched;
                *response.status_mut() = StatusCode::OK;
                let token = HeaderValue::from_static(asked.protocol.token());
                response.headers_mut().insert(headers::UPGRADE, token);
                if let Ok(send) = respond.send_response(response, false) {
                    pipe(io, send, recv, registration.stream(), Side::Server, None).await;
                }
            }
            Ok(upstream::Upgraded::Answered(response)) => {
                let (parts, body) = response.into_parts();
                tokio::select! {
                    biased;
                    _ = registration.stream().cut_down() => respond.send_reset(h2::Reason::CANCEL),
                    () = send_body(Response::from_parts(parts, ()), body, &mut respond) => {}
                }
            }
            Err(refusal) => refuse(refusal, &Method::CONNECT, respond).await,
        }
    }

    /// What the hub itself asks; none of it carries a user's assertion.
    fn answer_hub(&self, parts: &http::request::Parts, mut respond: SendResponse) {
        let answer = match (parts.method.as_str(), parts.uri.path()) {
            ("GET", wire::HELLO) => {
                let hello = Hello {
                    version: wire::VERSION,
                    epoch: self.state.epoch,
                    agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                };
                serde_json::to_vec(&hello).ok()
            }
            ("POST", wire::DRAIN) => {
                self.state.hub_drains.cancel();
                Some(Vec::new())
            }
            _ => None,
        };
        let mut response = Response::new(());
        if answer.is_none() {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        let sent = respond.send_response(response, false);
        if let Ok(mut send) = sent {
            // The hub gives up by itself if it does not hear this.
            let _ = send.send_data(Bytes::from(answer.unwrap_or_default()), true);
        }
    }
}

/// The method to forward and the protocol to ask for.
fn method_and_upgrade(parts: &http::request::Parts) -> Result<(Method, Option<Upgrade>), Refusal> {
    let unknown = || Refusal::new(400, "the tunnel carries no such upgrade");
    if parts.method != Method::CONNECT {
        let claims = parts.headers.contains_key(headers::METHOD)
            || parts.headers.contains_key(headers::UPGRADE);
        return if claims { Err(unknown()) } else { Ok((parts.method.clone(), None)) };
    }
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    if protocol.is_none_or(|protocol| protocol.as_str() != wire::UPGRADE_PROTOCOL) {
        return Err(unknown());
    }
    let asked = single(&parts.headers, &headers::UPGRADE)?;
    let asked = Upgrade::parse(asked.as_bytes()).ok_or_else(unknown)?;
    match (single(&parts.headers, &headers::METHOD)?, asked) {
        ("GET", _) => Ok((Method::GET, Some(asked))),
        ("POST", Upgrade::Spdy) => Ok((Method::POST, Some(asked))),
        _ => Err(unknown()),
    }
}

/// The one value of a header that the hub sets.
fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<&'a str, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().and_then(|value| value.to_str().ok());
    match (value, values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(Refusal::new(400, format!("the tunnel needs one header `{name}`"))),
    }
}

/// Resolves when the hub gave up the stream, or its connection broke.
async fn reset(respond: &mut SendResponse) {
    // Either way nobody waits for an answer.
    let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
}

async fn refuse(refusal: Refusal, method: &Method, mut respond: SendResponse) {
    tracing::debug!(
        code = refusal.code(),
        message = refusal.message(),
        detail = refusal.detail().unwrap_or_default(),
        "refuse request from the tunnel"
    );
    let (mut parts, body) = refusal.into_response().into_parts();
    parts.headers.insert(headers::ANSWERED_BY, HeaderValue::from_static("agent"));
    parts.extensions.clear();
    // HTTP/2 takes a body that answers HEAD for a broken peer.
    let body = if *method == Method::HEAD { TunnelBody::empty() } else { body };
    send_body(Response::from_parts(parts, ()), body, &mut respond).await;
}

/// Sends an answer as fast as the hub takes it; an error has already reset the stream.
async fn send_body(response: Response<()>, body: TunnelBody, respond: &mut SendResponse) {
    let ends = http_body::Body::is_end_stream(&body);
    if let Ok(send) = respond.send_response(response, ends)
        && !ends
    {
        let mut upload = Upload::new(body, send);
        upload.forget();
        // The reason is in the reset that the hub gets.
        let _ = upload.finish().await;
    }
}

fn ended() -> Refusal {
    Refusal::new(401, "the session has ended in this cluster; sign in again with `nullius login`")
}
