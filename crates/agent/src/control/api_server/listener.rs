//! The audit webhook as API servers meet it: HTTP over TLS with a client certificate, one path, lists alone.
//!
//! Handshakes, connections, bytes and evaluations have budgets of their own, so that whoever knocks costs control nothing else. A list that
//! finds no room is turned away with 429; the API server tries again by its own rules.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_LENGTH, HeaderValue, RETRY_AFTER},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use nullius_audit::api_server::LIST_BYTES;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{
    authority::Accepts,
    hearing::{Hearing, NotTaken},
};

const MOST_HANDSHAKES: usize = 32;
const MOST_CONNECTIONS: usize = 64;
const MOST_STREAMS: u32 = 16;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Who is there is proven anew at least so often.
const CONNECTION_LIFE: Duration = Duration::from_secs(3_600);
/// Room for lists under way, in units.
const ROOM_UNIT: usize = 64 * 1024;
const ROOM_UNITS: usize = 24 * 1024 * 1024 / ROOM_UNIT;
/// Seconds after which an API server may try again.
const AGAIN: &str = "5";
const PATH: &str = "/audit";

/// Hears API servers.
pub(super) struct Ear {
    hearing: Arc<Hearing>,
    room: Arc<Semaphore>,
    /// One list at a time is read: control has other work for the processors.
    turn: Arc<Semaphore>,
}

impl Ear {
    pub(super) fn new(hearing: Hearing) -> Self {
        Self {
            hearing: Arc::new(hearing),
            room: Arc::new(Semaphore::new(ROOM_UNITS)),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Serves for as long as the process lives.
    pub(super) async fn serve(self, listener: TcpListener, accepts: Accepts) {
        let ear = Arc::new(self);
        let handshakes = Arc::new(Semaphore::new(MOST_HANDSHAKES));
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let Ok(turn) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (ear, accepts, places) = (Arc::clone(&ear), accepts.clone(), Arc::clone(&places));
            tokio::spawn(async move { ear.serve_one(stream, accepts, &places, turn).await });
        }
    }

    async fn serve_one(
        self: Arc<Self>,
        stream: TcpStream,
        mut accepts: Accepts,
        places: &Arc<Semaphore>,
        handshake: OwnedSemaphorePermit,
    ) {
        nullius_tls::tcp::prepare(&stream);
        let Some(acceptor) = accepts.borrow_and_update().clone() else { return };
        let stream = match acceptor.accept(stream).await {
            Ok(stream) => stream,
            Err(error) => {
                self.hearing.met_stranger();
                tracing::debug!(%error, "refuse who is no api server of this cluster");
                return;
            }
        };
        drop(handshake);
        let Ok(_place) = Arc::clone(places).try_acquire_owned() else { return };
        let ear = Arc::clone(&self);
        let service = service_fn(move |request: Request<Incoming>| {
            let ear = Arc::clone(&ear);
            async move { Ok::<_, Infallible>(ear.answer(request).await) }
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
            () = tokio::time::sleep(CONNECTION_LIFE) => {}
            // Another authority: who was proven by the one before is proven no more.
            _ = accepts.changed() => return,
        }
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(BODY_TIMEOUT, connection).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::POST || request.uri().path() != PATH {
            return plain(StatusCode::NOT_FOUND, "there is `POST /audit`");
        }
        let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length = declared.and_then(|text| text.parse().ok()).unwrap_or(LIST_BYTES);
        let units = u32::try_from(length.min(LIST_BYTES).div_ceil(ROOM_UNIT).max(1));
        let room = Arc::clone(&self.room).try_acquire_many_owned(units.unwrap_or(u32::MAX));
        let Ok(room) = room else { return later() };
        let body = match read(request.into_body()).await {
            Ok(body) => body,
            Err(status) => return plain(status, "the list did not come in time"),
        };
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return later() };
        let hearing = Arc::clone(&self.hearing);
        let heard = tokio::task::spawn_blocking(move || {
            let heard = hearing.hear(&body);
            drop((body, turn, room));
            heard
        });
        match heard.await {
            Ok(Ok(())) => plain(StatusCode::OK, ""),
            Ok(Err(NotTaken::NoRoom)) => later(),
            Ok(Err(error @ NotTaken::Unreadable(_))) => {
                tracing::warn!(%error, "an api server told what cannot be read");
                plain(StatusCode::BAD_REQUEST, &error.to_string())
            }
            Err(error) => {
                tracing::error!(%error, "hearing an api server ended in a defect");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
        }
    }
}

/// Reads a body until its end or one byte more than a list may have.
async fn read(mut body: Incoming) -> Result<Bytes, StatusCode> {
    let mut all = BytesMut::new();
    let reading = async {
        while all.len() <= LIST_BYTES {
            match body.frame().await {
                None => return Ok(()),
                Some(Err(_)) => return Err(StatusCode::BAD_REQUEST),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        let left = LIST_BYTES + 1 - all.len();
                        all.extend_from_slice(&data[..data.len().min(left)]);
                    }
                }
            }
        }
        Ok(())
    };
    let read = tokio::time::timeout(BODY_TIMEOUT, reading).await;
    read.map_err(|_| StatusCode::REQUEST_TIMEOUT)??;
    Ok(all.freeze())
}

fn later() -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::TOO_MANY_REQUESTS, "there is no room now");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(AGAIN));
    response
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    response
}
