//! The webhook's port: TLS, HTTP, and who may hold a connection for how long.
//!
//! Whoever has neither named the path nor shown a certificate gets one of few places for a moment, and one wrong request ends the
//! connection. Those who have go on for minutes, then are sent away in peace, so that API servers spread over the replicas.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{
    Request, Version,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    service::service_fn,
};
use nullius_tls::WebhookAcceptor;
use nullius_tunnel::{PublicLimits, serve_public_connection};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    meters::{Cut, Holder},
    webhook::Webhook,
};
use crate::{
    backoff::random,
    places::{Most, Place, Places},
};

const MOST: Most = Most { strangers: 64, known: 256, of_one: 256 };
/// From the connection to the first request that names the path.
const STRANGER: Duration = Duration::from_secs(10);
/// A connection without requests. API servers end theirs after 90 seconds: they are to be the first.
const IDLE: Duration = Duration::from_secs(180);
/// The age at which a connection is sent away, and how much that differs from one to another.
const AGE: Duration = Duration::from_secs(600);
const AGE_SPREAD: Duration = Duration::from_secs(120);
const MOST_STREAMS: u32 = 1_024;
/// A replica that was told to stop stays until nobody has come for so long: API servers come until they have heard of it.
const QUIET: Duration = Duration::from_secs(3);
/// It stays no longer than this, whoever comes.
const LINGER: Duration = Duration::from_secs(15);
/// The age at which a connection to a replica that stops is sent away, so that who still comes has to come again and is seen.
const AGE_STOPPING: Duration = Duration::from_secs(1);
/// What was begun is answered within so long.
const DRAIN: Duration = Duration::from_secs(12);
/// A stranger's goodbye takes no longer.
const FAREWELL: Duration = Duration::from_secs(1);
/// Over HTTP/1.1 only an answer can say that no request may follow: a connection that just ends may end while one is on its way, and
/// that request would fail. So who is sent away has so long to ask once more, which API servers do that are busy.
const PARTING: Duration = Duration::from_secs(5);

/// Whoever sends the requests of one connection.
pub(super) struct Caller(Arc<Place>);

impl Caller {
    /// It has named what strangers do not know.
    pub(super) fn is_known(&self) {
        self.0.make_known();
    }

    /// It has named something else: nothing more is heard of this connection.
    pub(super) fn is_wrong(&self) {
        self.0.leave.cancel();
    }
}

/// Serves until it is told to stop, longer while somebody still comes, and until what was begun is answered.
pub(super) async fn serve(
    listener: TcpListener,
    acceptor: WebhookAcceptor,
    webhook: Arc<Webhook>,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    // Who was there when it was told to stop leaves at once, who comes afterwards in the end.
    let (drain, end) = (CancellationToken::new(), CancellationToken::new());
    let places = Places::new(MOST);
    let mut stop: Option<Stop> = None;
    loop {
        let accepted = tokio::select! {
            // What waits to be accepted is accepted before the end is looked at.
            biased;
            accepted = accept(&listener) => accepted,
            () = shutdown.cancelled(), if stop.is_none() => {
                drain.cancel();
                stop = Some(Stop::begin());
                continue;
            }
            () = Stop::over(stop.as_ref()) => break,
        };
        if let Some(stop) = &mut stop
            && !stop.put_off()
        {
            break;
        }
        let Some((stream, from)) = accepted else { continue };
        let (leave, age) = match &stop {
            None => (drain.child_token(), age()),
            Some(_) => (end.child_token(), AGE_STOPPING),
        };
        let place = Arc::new(places.take(from.ip(), leave));
        let connection = Connection { place, webhook: Arc::clone(&webhook), age };
        count(&webhook, &places);
        let (acceptor, webhook, places) = (acceptor.clone(), Arc::clone(&webhook), places.clone());
        connections.spawn(async move {
            connection.run(stream, &acceptor).await;
            count(&webhook, &places);
        });
    }
    drop(listener);
    end.cancel();
    connections.close();
    if tokio::time::timeout(PARTING + DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "leave connections that do not end");
    }
}

/// When a replica that was told to stop no longer accepts connections.
struct Stop {
    at: Instant,
    latest: Instant,
}

impl Stop {
    fn begin() -> Self {
        let now = Instant::now();
        Self { at: now + QUIET, latest: now + LINGER }
    }

    /// Somebody has come; false when it is too late for that.
    fn put_off(&mut self) -> bool {
        let now = Instant::now();
        self.at = (now + QUIET).min(self.latest);
        now < self.latest
    }

    /// Resolves when it is time; never where nobody has said stop.
    async fn over(stop: Option<&Self>) {
        match stop {
            Some(stop) => tokio::time::sleep_until(stop.at).await,
            None => std::future::pending().await,
        }
    }
}

/// How old a connection gets; not all the same, so that they do not come again together.
fn age() -> Duration {
    let spread = u64::try_from(AGE_SPREAD.as_millis()).unwrap_or(u64::MAX).max(1);
    AGE + Duration::from_millis(random() % spread)
}

async fn accept(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => Some(accepted),
        Err(_) => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

fn count(webhook: &Webhook, places: &Places) {
    let (strangers, known) = places.count();
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let connections = &webhook.meters().connections;
    connections.set(Holder::Stranger, number(strangers));
    connections.set(Holder::Known, number(known));
}

struct Connection {
    place: Arc<Place>,
    webhook: Arc<Webhook>,
    /// The age at which it is sent away.
    age: Duration,
}

impl Connection {
    async fn run(self, stream: TcpStream, acceptor: &WebhookAcceptor) {
        let cut = self.place.cut.clone();
        tokio::select! {
            () = cut.cancelled() => self.webhook.meters().cut.add_one(Cut::Crowded),
            () = self.talk(stream, acceptor) => {}
        }
    }

    async fn talk(&self, stream: TcpStream, acceptor: &WebhookAcceptor) {
        let known_by = Instant::now() + STRANGER;
        nullius_tls::tcp::prepare(&stream);
        let stream = match tokio::time::timeout_at(known_by, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a client did not get as far as asking");
                return;
            }
            Err(_) => return self.webhook.meters().cut.add_one(Cut::Late),
        };
        let tls = stream.get_ref().1;
        // A certificate was verified where one is shown.
        if tls.peer_certificates().is_some() {
            self.place.make_known();
        }
        let alpn = tls.alpn_protocol().map(<[u8]>::to_vec);
        let (webhook, place) = (Arc::clone(&self.webhook), Arc::clone(&self.place));
        let service = service_fn(move |request: Request<Incoming>| {
            let (webhook, caller) = (Arc::clone(&webhook), Caller(Arc::clone(&place)));
            async move {
                let is_http1 = request.version() < Version::HTTP_2;
                let mut response = webhook.handle(request, &caller).await;
                if is_http1 && caller.0.leave.is_cancelled() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let limits =
            PublicLimits { idle_timeout: IDLE, streams: MOST_STREAMS, ..PublicLimits::default() };
        let (leave, close) = (self.place.leave.clone(), CancellationToken::new());
        let serving =
            serve_public_connection(stream, alpn.as_deref(), service, &limits, close.clone());
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            // Who goes away in the middle has nothing to be told.
            _ = &mut serving => return,
            () = leave.cancelled() => {}
            () = self.outstay(known_by) => {}
        }
        leave.cancel();
        // HTTP/2 has a word of its own for it.
        let is_told_by_answers = alpn.as_deref() != Some(b"h2") && self.place.is_known();
        if is_told_by_answers && tokio::time::timeout(PARTING, &mut serving).await.is_ok() {
            return;
        }
        close.cancel();
        if tokio::time::timeout(FAREWELL, &mut serving).await.is_err() && self.place.is_known() {
            let _ = tokio::time::timeout(DRAIN - FAREWELL, serving).await;
        }
    }

    /// Resolves when the connection has stood long enough for who holds it.
    async fn outstay(&self, known_by: Instant) {
        if tokio::time::timeout_at(known_by, self.place.known()).await.is_err() {
            return self.webhook.meters().cut.add_one(Cut::Late);
        }
        tokio::time::sleep(self.age).await;
    }
}

#[cfg(test)]
mod tests;
