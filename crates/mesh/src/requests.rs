//! Requests on a connection whose requests decide: each is read once, in one way, judged by the rules of its source that are left, and
//! only then sent on. Those that last are judged again when what decides has changed.

mod body;
mod hops;
mod needs;
mod standing;
mod switch;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header, request,
};
use hyper::{body::Incoming, service::Service, upgrade::OnUpgrade};
use nullius_intention::{Accept, Head, Per, Reads};
use nullius_model::{Reason as Decision, Timestamp};
use nullius_policy::{
    ConnectionPermit, Obligation, RequestPermit, Verdict, Watched, decide_request, refuse_request,
};
use nullius_tls::Transport;
use nullius_tunnel::{PublicLimits, serve_public_connection};
use tokio::{io::AsyncWriteExt as _, sync::Notify};
use tokio_util::sync::CancellationToken;

use crate::{
    Port,
    access_log::{Asked, Attempt, Why},
    application::{Application, NoAnswer},
    bodies::{AnswerBody, RequestBody},
    copy::Broke,
    inbound::{Inbound, WHY, chain},
    issuers::{Issuers, Shown},
    judge::{Call, Told},
    limiter,
    live::Ended,
    stream_io::{Begins, Held, see},
    world::View,
};

use hops::{names_itself_alone, take_hop_by_hop};
use needs::Needs;
use standing::{Standing, Stands};
use switch::{Switch, asks_to_switch, say_websocket, switch};

/// How long a caller may take to begin, and a head to arrive.
const HEAD: Duration = Duration::from_secs(60);
/// Without any request.
const IDLE: Duration = Duration::from_secs(3_600);
/// Between two looks at requests that may go on until an end.
const LOOK: Duration = Duration::from_secs(1);
/// Who has called, for the application; what callers say themselves is not believed.
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// Why the token of a request proves nothing.
const TOKEN: HeaderName = HeaderName::from_static("nullius-token");

/// A connection whose requests decide.
pub(crate) struct Requests {
    inbound: Arc<Inbound>,
    call: Call,
    application: Application,
    template: Box<Template>,
    stands: Mutex<Stands>,
    live: Mutex<HashMap<u64, Arc<Running>>>,
    next: AtomicU64,
    /// A request has got an end.
    ends: Notify,
    /// The token that was shown last, since the next request mostly shows it too.
    last: Mutex<Option<(HeaderValue, Checked)>>,
    /// What goes on by another protocol when HTTP has ended.
    switched: Mutex<Option<BoxFuture<'static, Result<(), Broke>>>>,
}

/// What attempts of a connection have in common.
pub(crate) type Template = dyn Fn() -> Attempt + Send + Sync;

/// A request that runs.
struct Running {
    kept: Kept,
    /// When it came: a token that held then holds for it, unless it lasts.
    began: Timestamp,
    /// Whether it is a stream, which a token must hold for as long as it lasts.
    is_stream: AtomicBool,
    checked: Mutex<Option<Checked>>,
    token: CancellationToken,
    why: OnceLock<Why>,
    ends_at: Mutex<Option<Timestamp>>,
}

/// A request that runs, until this is dropped: both of its bodies hold it, and the request's is held by the way to the application.
pub(crate) struct Registration {
    requests: Weak<Requests>,
    number: u64,
    running: Arc<Running>,
}

impl Registration {
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.running.token
    }

    /// Why it was cut.
    pub(crate) fn why(&self) -> Option<Why> {
        self.running.why.get().copied()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(requests) = self.requests.upgrade() {
            requests.lock_live().remove(&self.number);
        }
    }
}

/// What a request shows, by the issuers who were asked.
type Checked = (Arc<Issuers>, Arc<Shown>);

/// The head of a request, as it came.
struct Kept {
    method: Method,
    target: Box<[u8]>,
    authority: Option<Box<[u8]>>,
    headers: HeaderMap,
    is_http2: bool,
}

/// What allows a request.
enum Allowed {
    Connection(Arc<ConnectionPermit>),
    Request(RequestPermit),
}

/// What was decided of a request.
struct Decided {
    outcome: Result<Allowed, (StatusCode, Why)>,
    told: Option<Told>,
    ends_at: Option<Timestamp>,
    /// Why its token proves nothing.
    token: Option<&'static str>,
}

impl Kept {
    fn of(parts: &request::Parts) -> Self {
        let is_http2 = parts.version == Version::HTTP_2;
        let uri = &parts.uri;
        // In HTTP/1 a whole URL as target is read, and refused, as such.
        let target = match (is_http2, uri.scheme()) {
            (false, Some(_)) => uri.to_string().into_bytes(),
            _ => uri.path_and_query().map_or_else(Vec::new, |it| it.as_str().as_bytes().to_vec()),
        };
        let authority = match is_http2 {
            true => uri.authority().map(|it| it.as_str().as_bytes().into()),
            false => None,
        };
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        Self { method, target: target.into(), authority, headers, is_http2 }
    }
}

impl Running {
    fn decide(&self, requests: &Requests, standing: &Standing) -> Decided {
        let kept = &self.kept;
        let headers: Vec<(&[u8], &[u8])> = kept
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
            .collect();
        let head = Head {
            method: kept.method.as_str().as_bytes(),
            target: &kept.target,
            authority: kept.authority.as_deref(),
            headers: &headers,
            version: match kept.is_http2 {
                true => nullius_intention::Version::Http2,
                false => nullius_intention::Version::Http1,
            },
        };
        let reads = match standing {
            Standing::All(_) => Reads::NoPaths,
            Standing::Left(accept, ..) => accept.reads(),
            Standing::None(why) => return Decided::refused(StatusCode::FORBIDDEN, *why),
        };
        let request = match head.read(reads) {
            Ok(request) => request,
            Err(malformed) => return Decided::of(refuse_request(malformed)),
        };
        match standing {
            Standing::All(permit) if requests.call.is_permitted_by(permit) => Decided {
                ends_at: permit.ends_at(),
                ..Decided::new(Ok(Allowed::Connection(Arc::clone(permit))))
            },
            Standing::Left(accept, issuers, _) if accept.reads_tokens() => {
                self.decide_with_token(requests, accept, issuers, &request)
            }
            Standing::Left(accept, ..) => Decided::of(decide_request(accept, &request, &[])),
            Standing::All(_) | Standing::None(_) => {
                Decided::refused(StatusCode::FORBIDDEN, Why::Requests)
            }
        }
    }

    fn decide_with_token(
        &self,
        requests: &Requests,
        accept: &Accept,
        issuers: &Arc<Issuers>,
        request: &nullius_intention::Request<'_>,
    ) -> Decided {
        let shown = self.shown(requests, issuers);
        let needs = Needs::of(self.began, self.is_stream.load(Ordering::Acquire), Timestamp::now());
        match shown.at(needs.valid_at) {
            Ok(proven) => {
                let decided = Decided::of(decide_request(accept, request, proven.tokens()));
                let ends = needs.valid_until(proven.ends());
                let ends_at = [ends].into_iter().chain(decided.ends_at).min();
                Decided { ends_at, ..decided }
            }
            Err(token) => Decided { token, ..Decided::of(decide_request(accept, request, &[])) },
        }
    }

    /// What it shows, which is verified once as long as the issuers are the same.
    fn shown(&self, requests: &Requests, issuers: &Arc<Issuers>) -> Arc<Shown> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((by, shown)) = &*checked
            && Arc::ptr_eq(by, issuers)
        {
            return Arc::clone(shown);
        }
        let shown = requests.verify(&self.kept.headers, issuers);
        *checked = Some((Arc::clone(issuers), Arc::clone(&shown)));
        shown
    }
}

impl Decided {
    fn new(outcome: Result<Allowed, (StatusCode, Why)>) -> Self {
        Self { outcome, told: None, ends_at: None, token: None }
    }

    fn refused(status: StatusCode, why: Why) -> Self {
        Self::new(Err((status, why)))
    }

    fn of(watched: Watched<RequestPermit>) -> Self {
        let Watched { decision, shadow } = watched;
        let ends_at = decision.obligations.iter().find_map(|obligation| match obligation {
            Obligation::Expire(end) => Some(*end),
            _ => None,
        });
        let told = Some(Told {
            explanation: decision.explanation,
            permission: decision.permission,
            shadow,
            is_recorded: decision.obligations.contains(&Obligation::Record),
        });
        let outcome = match decision.verdict {
            Verdict::Allow(permit) => Ok(Allowed::Request(permit)),
            Verdict::Deny(denial) => {
                let status = StatusCode::from_u16(denial.http_status());
                Err((status.unwrap_or(StatusCode::FORBIDDEN), Why::Decided(denial.reason())))
            }
        };
        Self { told, ends_at, ..Self::new(outcome) }
    }
}

impl Requests {
    /// Serves a connection until it ends, or none of its requests may be.
    pub(crate) async fn serve(
        inbound: Arc<Inbound>,
        io: impl Transport,
        call: Call,
        client: SocketAddr,
        port: Port,
        template: Box<Template>,
    ) -> Ended {
        let mut held = Held::new(io);
        let seen = tokio::time::timeout(HEAD, see(held.clone())).await;
        let Ok(Ok((io, begins))) = seen else { return Ended::Broke(Broke::Mesh) };
        let mut view = inbound.shared().view();
        let world = view.borrow_and_update().clone();
        let stands = Stands::new(&call, world);
        let shared = Arc::clone(inbound.shared());
        let stop = shared.stop.clone();
        let requests = Arc::new(Self {
            application: Application::new(port.forward, client, begins, shared),
            inbound,
            call,
            template,
            stands: Mutex::new(stands),
            live: Mutex::default(),
            next: AtomicU64::new(0),
            ends: Notify::new(),
            last: Mutex::default(),
            switched: Mutex::default(),
        });
        let limits = PublicLimits {
            head_timeout: HEAD,
            idle_timeout: IDLE,
            half_close: true,
            ..PublicLimits::default()
        };
        let alpn = (begins == Begins::Http2).then_some(&b"h2"[..]);
        let service = Judge(Arc::clone(&requests));
        let served = serve_public_connection(io, alpn, service, &limits, stop);
        tokio::pin!(served);
        let ended = requests.while_judged(&mut served, &mut view).await;
        match ended {
            Ok(Ok(())) => {}
            // Who sent what is no request hears of it from hyper; whatever else ends with an error was cut off.
            Ok(Err(error)) if error.is_parse() => {}
            Ok(Err(_)) => return Ended::Broke(Broke::Mesh),
            Err(ended) => {
                // It holds what holds it.
                drop(requests.take_switched());
                return ended;
            }
        }
        if let Some(switched) = requests.take_switched() {
            return match requests.while_judged(switched, &mut view).await {
                Ok(Ok(())) => Ended::Closed,
                Ok(Err(broke)) => Ended::Broke(broke),
                Err(ended) => ended,
            };
        }
        // Who hears no end in time has lost it.
        let _ = tokio::time::timeout(HEAD, held.shutdown()).await;
        Ended::Closed
    }

    /// Runs something of this connection, and judges what lives whenever that may come out in another way.
    async fn while_judged<T>(
        &self,
        running: impl Future<Output = T>,
        view: &mut View,
    ) -> Result<T, Ended> {
        tokio::pin!(running);
        loop {
            tokio::select! {
                ended = &mut running => return Ok(ended),
                changed = view.changed() => {
                    if changed.is_err() {
                        return Err(Ended::Shutdown);
                    }
                    let world = view.borrow_and_update().clone();
                    let changed = self.lock_stands().changed(&self.call, world);
                    if let Some(standing) = changed {
                        self.judge_all(&standing).await;
                        if let Standing::None(why) = standing {
                            return Err(Ended::Cut(why));
                        }
                    }
                }
                () = self.look() => {
                    let now = Timestamp::now();
                    if self.earliest_end().is_some_and(|end| end <= now) {
                        let standing = self.stand_anew();
                        self.judge_all(&standing).await;
                    }
                }
            }
        }
    }

    /// Judges everything that lives; others have their turn between two.
    async fn judge_all(&self, standing: &Standing) {
        let all: Vec<Arc<Running>> = self.lock_live().values().map(Arc::clone).collect();
        for running in all {
            self.judge_again(&running, standing);
            tokio::task::yield_now().await;
        }
    }

    fn judge_again(&self, running: &Running, standing: &Standing) {
        let decided = running.decide(self, standing);
        match decided.outcome {
            Ok(_) => self.goes_on_until(running, decided.ends_at),
            Err((_, why)) => {
                // The first reason stands.
                let _ = running.why.set(why);
                running.token.cancel();
            }
        }
    }

    fn goes_on_until(&self, running: &Running, end: Option<Timestamp>) {
        *running.lock_end() = end;
        if end.is_some() {
            self.ends.notify_one();
        }
    }

    /// Counts a request that is allowed; the error says how long it is too early.
    fn count(&self, running: &Running, standing: &Standing) -> Result<(), Duration> {
        let Standing::Left(_, issuers, limits) = standing else { return Ok(()) };
        if limits.is_empty() {
            return Ok(());
        }
        let counts_subjects = limits.iter().any(|limit| limit.per == Per::Subject);
        let shown = counts_subjects.then(|| running.shown(self, issuers));
        let subject = shown.as_ref().and_then(|shown| shown.at(running.began).ok()?.subject());
        let caller = match self.call.source() {
            Some(id) => id.to_string(),
            None => limiter::caller(self.call.address),
        };
        let now = std::time::Instant::now();
        self.inbound.shared().limiter.take(limits, &caller, subject.as_deref(), now)
    }

    /// A request has become a stream: its token must hold for as long as that lasts.
    fn lasts(&self, running: &Running) {
        if !running.is_stream.swap(true, Ordering::AcqRel) {
            self.judge_again(running, &self.standing());
        }
    }

    /// Waits a while where requests have an end, and otherwise until one has.
    async fn look(&self) {
        while self.earliest_end().is_none() {
            self.ends.notified().await;
        }
        tokio::time::sleep(LOOK).await;
    }

    fn earliest_end(&self) -> Option<Timestamp> {
        self.lock_live().values().filter_map(|running| *running.lock_end()).min()
    }

    /// Verifies what a request shows; mostly that is what the one before has shown.
    fn verify(&self, headers: &HeaderMap, issuers: &Arc<Issuers>) -> Arc<Shown> {
        let value = headers.get(header::AUTHORIZATION);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some((before, (by, shown))), Some(value)) = (&*last, value)
            && before == value
            && Arc::ptr_eq(by, issuers)
        {
            return Arc::clone(shown);
        }
        let shown = Arc::new(issuers.verify(headers));
        if let (Some(value), Shown::Token(_)) = (value, &*shown) {
            *last = Some((value.clone(), (Arc::clone(issuers), Arc::clone(&shown))));
        }
        shown
    }

    /// How the connection stands now.
    fn standing(&self) -> Standing {
        let world = self.inbound.shared().world();
        self.lock_stands().now(&self.call, world)
    }

    /// The same, where what was let pass until a time has ended.
    fn stand_anew(&self) -> Standing {
        let world = self.inbound.shared().world();
        self.lock_stands().anew(&self.call, world)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<AnswerBody> {
        let (mut parts, body) = request.into_parts();
        let mut attempt = self.attempt();
        let kept = Kept::of(&parts);
        attempt.asked = Some(Asked::new(&kept.method, &kept.target));
        // Registered first, judged then: no change falls between.
        let registration = self.register(kept);
        let mut standing = self.standing();
        let mut decided = registration.running.decide(&self, &standing);
        if decided.ends_at.is_some_and(|end| end <= Timestamp::now()) {
            standing = self.stand_anew();
            decided = registration.running.decide(&self, &standing);
        }
        attempt.told = decided.told;
        if let Some(asked) = &mut attempt.asked {
            asked.token = decided.token;
        }
        let allowed = match decided.outcome {
            Ok(allowed) => allowed,
            Err((status, why)) => {
                attempt.denied(why);
                if is_of_schema(why) {
                    attempt.say(attempt.told.as_ref().map(|it| it.explanation.sentence.clone()));
                }
                return refusal(&mut attempt, status, why);
            }
        };
        if let Err(wait) = self.count(&registration.running, &standing) {
            // What was told is why it would be allowed.
            attempt.told = None;
            attempt.denied(Why::RateLimited);
            let mut refused =
                refusal(&mut attempt, StatusCode::TOO_MANY_REQUESTS, Why::RateLimited);
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            return refused;
        }
        self.goes_on_until(&registration.running, decided.ends_at);
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let upgrade = match (upgrade, asks_to_switch(&parts.headers)) {
            (_, Switch::No) => None,
            (Some(upgrade), Switch::WebSocket) => Some(upgrade),
            // Of a protocol that is not read nobody knows what it would carry: h2c carries requests.
            (_, Switch::WebSocket | Switch::Other) => {
                attempt.failed(Why::Upgrade, None);
                return refusal(&mut attempt, StatusCode::NOT_IMPLEMENTED, Why::Upgrade);
            }
        };
        let looked = self.look_into(body, allowed, &registration, &mut attempt).await;
        let (body, allowed) = match looked {
            Ok(looked) => looked,
            Err((status, why)) => return refusal(&mut attempt, status, why),
        };
        let Some(forwarded) = self.forwarded(parts, body, &allowed, &registration) else {
            attempt.failed(Why::Unforwardable, None);
            return refusal(&mut attempt, StatusCode::BAD_REQUEST, Why::Unforwardable);
        };
        let told = attempt.told.as_ref().map(|told| told.explanation.reason);
        attempt.allowed(Why::Decided(told.unwrap_or(Decision::IntentionMatched)));
        let application = &self.application;
        let sent = async {
            match &upgrade {
                Some(_) => application.send_upgrade(forwarded).await,
                None => application.send(forwarded).await,
            }
        };
        if is_grpc(registration.running.kept.headers.get(header::CONTENT_TYPE)) {
            self.lasts(&registration.running);
        }
        let answered = tokio::select! {
            biased;
            () = registration.token().cancelled() => {
                let why = registration.why().unwrap_or(Why::Requests);
                attempt.cut(why);
                return refusal(&mut attempt, StatusCode::FORBIDDEN, why);
            }
            answered = sent => answered,
        };
        match answered {
            Ok(mut response) => {
                if let Some(asked) = &mut attempt.asked {
                    asked.status = Some(response.status().as_u16());
                }
                if let Some(upgrade) = upgrade
                    && response.status() == StatusCode::SWITCHING_PROTOCOLS
                {
                    self.lasts(&registration.running);
                    let other = hyper::upgrade::on(&mut response);
                    let (mut parts, _) = response.into_parts();
                    take_hop_by_hop(&mut parts.headers);
                    say_websocket(&mut parts.headers);
                    let switched = switch(upgrade, other, attempt, registration);
                    *self.switched.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(switched.boxed());
                    return Response::from_parts(parts, AnswerBody::own(String::new()));
                }
                let (mut parts, body) = response.into_parts();
                if is_events(parts.headers.get(header::CONTENT_TYPE)) {
                    self.lasts(&registration.running);
                }
                take_hop_by_hop(&mut parts.headers);
                Response::from_parts(parts, AnswerBody::live(body, attempt, registration))
            }
            Err(error) => {
                let (status, why) = match &error {
                    NoAnswer::Unreachable(_) => {
                        (StatusCode::SERVICE_UNAVAILABLE, Why::ApplicationUnreachable)
                    }
                    NoAnswer::Broke(_) => (StatusCode::BAD_GATEWAY, Why::ApplicationBroke),
                };
                attempt.failed(why, Some(chain(&error)));
                refusal(&mut attempt, status, why)
            }
        }
    }

    fn take_switched(&self) -> Option<BoxFuture<'static, Result<(), Broke>>> {
        self.switched.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn attempt(&self) -> Attempt {
        (self.template)()
    }

    fn register(self: &Arc<Self>, kept: Kept) -> Arc<Registration> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let running = Arc::new(Running {
            kept,
            began: Timestamp::now(),
            is_stream: AtomicBool::new(false),
            checked: Mutex::default(),
            token: CancellationToken::new(),
            why: OnceLock::new(),
            ends_at: Mutex::new(None),
        });
        self.lock_live().insert(number, Arc::clone(&running));
        Arc::new(Registration { requests: Arc::downgrade(self), number, running })
    }

    /// The request for the application, byte for byte in its target; none where the permit is for another, or a header of the
    /// connection would take others away that were judged.
    fn forwarded(
        &self,
        mut parts: request::Parts,
        body: RequestBody,
        allowed: &Allowed,
        registration: &Registration,
    ) -> Option<Request<RequestBody>> {
        let kept = &registration.running.kept;
        let is_for_it = match allowed {
            Allowed::Connection(permit) => self.call.is_permitted_by(permit),
            Allowed::Request(permit) => permit.is_for(kept.method.as_str(), &kept.target),
        };
        if !is_for_it || !names_itself_alone(&parts.headers) {
            return None;
        }
        let is_websocket = asks_to_switch(&parts.headers) == Switch::WebSocket;
        take_hop_by_hop(&mut parts.headers);
        if is_websocket {
            say_websocket(&mut parts.headers);
        }
        parts.headers.remove(CLIENT_CERT);
        if let Some(id) = self.call.source() {
            let id = HeaderValue::from_str(&format!("URI={id}")).ok()?;
            parts.headers.insert(CLIENT_CERT, id);
        }
        if !kept.is_http2 {
            let target = parts.uri.path_and_query()?.clone();
            parts.uri = Uri::from(target);
            parts.version = Version::HTTP_11;
        }
        parts.extensions.clear();
        Some(Request::from_parts(parts, body))
    }

    fn lock_live(&self) -> MutexGuard<'_, HashMap<u64, Arc<Running>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_stands(&self) -> MutexGuard<'_, Stands> {
        self.stands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn lock_end(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.ends_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service of one connection.
struct Judge(Arc<Requests>);

impl Service<Request<Incoming>> for Judge {
    type Response = Response<AnswerBody>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Response<AnswerBody>, std::convert::Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Arc::clone(&self.0).answer(request).map(Ok).boxed()
    }
}

/// Whether a schema has refused it, so that the words say what in the request is wrong.
fn is_of_schema(why: Why) -> bool {
    matches!(
        why,
        Why::Decided(
            Decision::UndeclaredPath
                | Decision::UndeclaredMethod
                | Decision::BadParameter
                | Decision::BadBody
                | Decision::BodyTooLarge
        )
    )
}

/// Whether a body is of gRPC, whose calls may last.
fn is_grpc(kind: Option<&HeaderValue>) -> bool {
    kind.is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"application/grpc"))
}

/// Whether an answer is told piece by piece for as long as somebody listens.
fn is_events(kind: Option<&HeaderValue>) -> bool {
    kind.is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"))
}

fn refusal(attempt: &mut Attempt, status: StatusCode, why: Why) -> Response<AnswerBody> {
    if let Some(asked) = &mut attempt.asked {
        asked.status = Some(status.as_u16());
    }
    let mut response = Response::new(AnswerBody::own(format!("{}\n", why.as_str())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(WHY, HeaderValue::from_static(why.as_str()));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if let Some(token) = attempt.asked.as_ref().and_then(|asked| asked.token) {
        headers.insert(TOKEN, HeaderValue::from_static(token));
    }
    response
}
