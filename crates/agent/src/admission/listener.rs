//! The webhook as API servers meet it: HTTP over TLS, one path for each entry behind a part that nobody guesses.
//!
//! Whoever is no API server gets nothing to learn from. Room for reviews is bounded by their length; one that finds none in time is
//! denied, and so is one whose answer would come too late.

use std::{
    convert::Infallible,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use nullius_admission::webhook::{Answer, BODY_MAX, Entry, NotRead, Review, Step, answer, refuse};
use nullius_model::{Reason, Timestamp};
use nullius_policy::Judged;
use nullius_tls::WebhookAcceptor;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    authority::Authority,
    facts::FactSource,
    meters::{AdmissionMeters, EntryLabel, Outcome},
    policies::{Engines, Standing},
    record,
    report::Reports,
    timeout::use_by,
};

const MOST_CONNECTIONS: usize = 256;
const MOST_STREAMS: u32 = 1_024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for the bodies of reviews under way, in units: what is made of a body is several times as long.
const ROOM_UNIT: usize = 64 * 1024;
const ROOM_UNITS: usize = 24 * 1024 * 1024 / ROOM_UNIT;
/// So many reviews wait for room at most.
const MOST_WAITING: usize = 2_048;
/// The uid stands at the beginning of what an API server writes.
const BEGINNING: usize = 16 * 1024;
/// API servers still come for so long after a replica was told to stop.
const LINGER: Duration = Duration::from_secs(3);
const DRAIN: Duration = Duration::from_secs(12);

const CROWDED: &str = "too many reviews wait";

/// Answers reviews.
pub(crate) struct Webhook {
    engines: Engines,
    facts: FactSource,
    authority: Authority,
    reports: Reports,
    meters: AdmissionMeters,
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Evaluations at a time: more than there are processors only delay each other.
    evaluations: Semaphore,
}

impl Webhook {
    pub(crate) fn new(
        engines: Engines,
        facts: FactSource,
        authority: Authority,
        reports: Reports,
        meters: AdmissionMeters,
    ) -> Self {
        let room = Arc::new(Semaphore::new(ROOM_UNITS));
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            engines,
            facts,
            authority,
            reports,
            meters,
            room,
            waiting: AtomicUsize::new(0),
            evaluations: Semaphore::new(2 * processors),
        }
    }

    /// Whether policies are in force.
    pub(crate) fn is_ready(&self) -> Result<(), &'static str> {
        if self.engines.standing().is_some() {
            return Ok(());
        }
        if self.engines.unreadable().is_empty() {
            return Err("it does not know everything yet that policies ask for");
        }
        Err("a file of policies cannot be read; the log says which")
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let Some(entry) = self.entry(&request) else {
            self.meters.reviews.add_one(Outcome::Stranger);
            return plain(StatusCode::NOT_FOUND, "");
        };
        let use_by = began + use_by(request.uri().query());
        let answered = self.answer(entry, request, use_by).await;
        self.meters.seconds.observe(EntryLabel(entry), began.elapsed());
        match answered {
            Ok((answer, review)) => {
                self.note(entry, &answer.judged, review.as_ref());
                let mut response = Response::new(Full::new(Bytes::from(answer.body)));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                response
            }
            Err(NotRead { told, .. }) => {
                self.meters.reviews.add_one(Outcome::Withheld);
                plain(StatusCode::BAD_REQUEST, &told)
            }
        }
    }

    /// The entry, for whoever knows the path.
    fn entry(&self, request: &Request<Incoming>) -> Option<Entry> {
        let (part, word) = request.uri().path().strip_prefix('/')?.split_once('/')?;
        let known = self.authority.borrow().as_ref().is_some_and(|believed| believed.knows(part));
        let entry = Entry::of_word(word)?;
        (known && request.method() == Method::POST).then_some(entry)
    }

    async fn answer(
        &self,
        entry: Entry,
        request: Request<Incoming>,
        use_by: Instant,
    ) -> Result<(Answer, Option<Review>), NotRead> {
        let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = declared.and_then(|text| text.parse().ok()).unwrap_or(BODY_MAX).min(BODY_MAX);
        let body = request.into_body();
        let Some(_room) = self.room(length, use_by).await else {
            // The uid is all that is read: the denial must be told, or the policy's failure would be ours to choose.
            let beginning = read(body, BEGINNING, use_by + LINGER).await;
            return unread(entry, &beginning, CROWDED);
        };
        let body = read(body, BODY_MAX + 1, use_by).await;
        let review = match Review::read(entry, &body) {
            Ok(review) => review,
            Err(NotRead { uid: Some(uid), told }) => {
                let told = format!("the admission review cannot be read ({told})");
                return Ok((refuse(&uid, &told), None));
            }
            Err(not_read) => return Err(not_read),
        };
        drop(body);
        let Some(standing) = self.engines.standing() else {
            let refused = refuse(review.uid(), "the policies are not known yet");
            return Ok((refused, Some(review)));
        };
        Ok(self.judge(review, standing, use_by).await)
    }

    async fn judge(
        &self,
        mut review: Review,
        standing: Arc<Standing>,
        use_by: Instant,
    ) -> (Answer, Option<Review>) {
        let uid = review.uid().to_owned();
        loop {
            let waited = tokio::time::timeout_at(use_by, self.evaluations.acquire()).await;
            let Ok(Ok(turn)) = waited else { return (refuse(&uid, CROWDED), Some(review)) };
            let asked = Arc::clone(&standing);
            // Expressions may take their time, and connections must not wait for them.
            let stepped = tokio::task::spawn_blocking(move || {
                let step =
                    review.step(&asked.engine, Timestamp::now(), &|| Instant::now() >= use_by);
                (review, step)
            });
            let step = match stepped.await {
                Ok((same, step)) => {
                    review = same;
                    step
                }
                Err(error) => {
                    tracing::error!(%error, "a review ended in a defect");
                    return (refuse(&uid, "the review ended in a defect"), None);
                }
            };
            drop(turn);
            match step {
                Step::Decided(judged) => return (answer(&uid, *judged), Some(review)),
                Step::Fetch(needs) => {
                    self.facts.fetch(&mut review, &standing, needs, use_by).await;
                }
            }
        }
    }

    /// Room for a body, as soon as there is some; `None` where too many wait for it, or it does not come in time.
    async fn room(&self, length: usize, use_by: Instant) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(length.div_ceil(ROOM_UNIT).max(1)).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(units) {
            return Some(room);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let waited =
            tokio::time::timeout_at(use_by, Arc::clone(&self.room).acquire_many_owned(units)).await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        waited.ok()?.ok()
    }

    fn note(&self, entry: Entry, judged: &Judged, review: Option<&Review>) {
        let explanation = &judged.decision.explanation;
        let outcome = match explanation.reason {
            Reason::PolicyPassed => Outcome::Allowed,
            Reason::PolicyRefused => Outcome::Denied,
            _ => Outcome::Withheld,
        };
        self.meters.reviews.add_one(outcome);
        match review {
            Some(review) => record::tell(&self.reports, review, judged, Timestamp::now()),
            None => {
                tracing::warn!(entry = entry.as_str(), why = %explanation, "refuse a review that cannot be read");
            }
        }
    }
}

/// The denial of a review of which only the beginning was read.
fn unread(entry: Entry, beginning: &[u8], why: &str) -> Result<(Answer, Option<Review>), NotRead> {
    let uid = match Review::read(entry, beginning) {
        Ok(review) => Some(review.uid().to_owned()),
        Err(not_read) => not_read.uid,
    };
    match uid {
        Some(uid) => Ok((refuse(&uid, why), None)),
        None => Err(NotRead { uid: None, told: why.to_owned() }),
    }
}

/// Reads a body until its end, its limit or its time.
async fn read(mut body: Incoming, most: usize, until: Instant) -> Bytes {
    let hint = usize::try_from(body.size_hint().lower()).unwrap_or(0);
    let mut all = BytesMut::with_capacity(hint.min(most));
    while all.len() < most {
        let Ok(Some(Ok(frame))) = tokio::time::timeout_at(until, body.frame()).await else { break };
        if let Ok(data) = frame.into_data() {
            let left = most - all.len();
            all.extend_from_slice(&data[..data.len().min(left)]);
        }
    }
    all.freeze()
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    response
}

/// Serves until it is told to stop, a little longer for who still comes, and until what was begun is answered.
pub(crate) async fn serve(
    listener: TcpListener,
    acceptor: WebhookAcceptor,
    webhook: Arc<Webhook>,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let drain = CancellationToken::new();
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let lingered = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::pin!(lingered);
    loop {
        let accepted = tokio::select! {
            () = &mut lingered => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        let (acceptor, webhook) = (acceptor.clone(), Arc::clone(&webhook));
        let drain = drain.clone();
        connections.spawn(async move {
            serve_one(stream, &acceptor, webhook, drain).await;
            drop(place);
        });
    }
    drop(listener);
    drain.cancel();
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "leave connections that do not end");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(_) => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn serve_one(
    stream: TcpStream,
    acceptor: &WebhookAcceptor,
    webhook: Arc<Webhook>,
    drain: CancellationToken,
) {
    nullius_tls::tcp::prepare(&stream);
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a client did not get as far as asking");
            return;
        }
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let webhook = Arc::clone(&webhook);
        async move { Ok::<_, Infallible>(webhook.handle(request).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // Who goes away in the middle has nothing to be told.
        _ = connection.as_mut() => return,
        () = drain.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
