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

mod places;

use super::{
    meters::{Cut, Holder},
    webhook::Webhook,
};
use crate::backoff::random;
use places::{Most, Place, Places};

const MOST: Most = Most { strangers: 64, known: 256 };
/// From the connection to the first request that names the path.
const STRANGER: Duration = Duration::from_secs(10);
/// A connection without requests. API servers end theirs after 90 seconds: they are to be the first.
const IDLE: Duration = Duration::from_secs(180);
/// The age at which a connection is sent away, and how much that differs from one to another.
const AGE: Duration = Duration::from_secs(600);
const AGE_SPREAD: Duration = Duration::from_secs(120);
const MOST_STREAMS: u32 = 1_024;
/// API servers still come for so long after a replica was told to stop.
const LINGER: Duration = Duration::from_secs(3);
/// What was begun is answered within so long.
const DRAIN: Duration = Duration::from_secs(12);
/// A stranger's goodbye takes no longer.
const FAREWELL: Duration = Duration::from_secs(1);

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

/// Serves until it is told to stop, a little longer for who still comes, and until what was begun is answered.
pub(super) async fn serve(
    listener: TcpListener,
    acceptor: WebhookAcceptor,
    webhook: Arc<Webhook>,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let drain = CancellationToken::new();
    let places = Places::new(MOST);
    let lingered = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::pin!(lingered);
    loop {
        let accepted = tokio::select! {
            () = &mut lingered => break,
            accepted = accept(&listener) => accepted,
        };
        let Some((stream, from)) = accepted else { continue };
        let connection = Connection {
            place: Arc::new(places.take(from.ip(), drain.child_token())),
            webhook: Arc::clone(&webhook),
        };
        count(&webhook, &places);
        let (acceptor, webhook, places) = (acceptor.clone(), Arc::clone(&webhook), places.clone());
        connections.spawn(async move {
            connection.run(stream, &acceptor).await;
            count(&webhook, &places);
        });
    }
    drop(listener);
    drain.cancel();
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "leave connections that do not end");
    }
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
        let leave = self.place.leave.clone();
        let serving =
            serve_public_connection(stream, alpn.as_deref(), service, &limits, leave.clone());
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            // Who goes away in the middle has nothing to be told.
            _ = &mut serving => return,
            () = leave.cancelled() => {}
            () = self.outstay(known_by) => {}
        }
        leave.cancel();
        let patience = if self.place.is_known() { DRAIN } else { FAREWELL };
        let _ = tokio::time::timeout(patience, serving).await;
    }

    /// Resolves when the connection has stood long enough for who holds it.
    async fn outstay(&self, known_by: Instant) {
        if tokio::time::timeout_at(known_by, self.place.known()).await.is_err() {
            return self.webhook.meters().cut.add_one(Cut::Late);
        }
        let spread = u64::try_from(AGE_SPREAD.as_millis()).unwrap_or(u64::MAX).max(1);
        tokio::time::sleep(AGE + Duration::from_millis(random() % spread)).await;
    }
}

#[cfg(test)]
mod tests;
