//! The hub's public listener: HTTP/1.1 and HTTP/2 with limits that hold against the whole internet.
//!
//! hyper repairs some framing that we refuse, so HTTP/1.1 heads are looked at before it reads them. Heads must
//! arrive in time, streams and resets are counted, an idle connection ends, and what follows an upgrade that did
//! not come is never read as a request.

mod framing;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use nullius_tls::Transport;
use tokio_util::sync::CancellationToken;

use crate::{BoxError, Refusal, TunnelBody, cut_short::CutShort};
use framing::{Guard, Verdict};

/// What a client may take.
#[derive(Debug, Clone)]
pub struct PublicLimits {
    /// From the first byte of a request to the end of its headers, and from the connection to its first request.
    pub head_timeout: Duration,
    /// Without any request.
    pub idle_timeout: Duration,
    /// Bytes of request line and headers.
    pub head_bytes: usize,
    /// Headers of one request.
    pub headers: usize,
    /// Streams of one HTTP/2 connection at the same time.
    pub streams: u32,
    /// Whether who has sent all its requests of HTTP/1.1 may end its side and is still answered; else that ends what it asked for.
    pub half_close: bool,
}

impl Default for PublicLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(120),
            head_bytes: 32 * 1024,
            headers: 100,
            streams: 250,
            half_close: false,
        }
    }
}

/// Resets of accepted streams that wait at most; more is the rapid-reset attack.
const PENDING_RESETS: usize = 20;
const ERROR_RESETS: usize = 1_024;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const MAX_SEND_BUFFER: usize = 256 * 1024;

/// Serves one client until it goes, is idle too long, breaks the limits, or `shutdown` asks to finish.
///
/// `alpn` is what TLS agreed upon; without HTTP/2 it is HTTP/1.1, with upgrades.
pub async fn serve_public_connection<S, B>(
    io: impl Transport,
    alpn: Option<&[u8]>,
    service: S,
    limits: &PublicLimits,
    shutdown: CancellationToken,
) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let verdict = Verdict::default();
    let activity = Activity::default();
    let cut_short = CutShort::default();
    let front = Front {
        service,
        verdict: verdict.clone(),
        activity: activity.clone(),
        cut_short: cut_short.clone(),
        max_headers: limits.headers,
    };
    if alpn == Some(b"h2") {
        let io = TokioIo::new(Guard::http2(io, verdict, limits));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(limits.head_bytes as u32)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .max_local_error_reset_streams(ERROR_RESETS)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .serve_connection(io, front);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = &mut connection => return ended,
            () = shutdown.cancelled() => {}
            () = activity.idle(limits.idle_timeout) => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    } else {
        let io = TokioIo::new(Guard::http1(io, verdict, cut_short, limits));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .half_close(limits.half_close)
            .header_read_timeout(limits.idle_timeout)
            .max_headers(limits.headers)
            .max_header_size(limits.head_bytes)
            .max_buf_size(limits.head_bytes.max(64 * 1024))
            .serve_connection(io, front)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = &mut connection => return ended,
            () = shutdown.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }
}

/// The service behind the checks that need the whole connection.
struct Front<S> {
    service: S,
    verdict: Verdict,
    activity: Activity,
    cut_short: CutShort,
    max_headers: usize,
}

type Answer<B, E> = Pin<Box<dyn Future<Output = Result<Response<FrontBody<B>>, E>> + Send>>;

impl<S, B> Service<Request<Incoming>> for Front<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: Send + 'static,
{
    type Response = Response<FrontBody<B>>;
    type Error = S::Error;
    type Future = Answer<B, S::Error>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let busy = self.activity.begin();
        let refusal = match self.verdict.bad_framing() {
            Some(what) => Some(Refusal::new(400, format!("the request has bad framing: {what}"))),
            None if request.headers().len() > self.max_headers => {
                Some(Refusal::new(431, "the request has too many headers"))
            }
            None => None,
        };
        let is_http2 = request.version() == http::Version::HTTP_2;
        let without_body = is_http2 && request.method() == http::Method::HEAD;
        if let Some(refusal) = refusal {
            let mut response = refusal.into_response();
            if !is_http2 {
                close(&mut response);
            }
            let response = response.map(|body| {
                let kind = if without_body { Kind::Nothing } else { Kind::Own(Box::new(body)) };
                FrontBody { kind, _busy: busy }
            });
            return Box::pin(async move { Ok(response) });
        }
        let upgrades = request.headers().contains_key(header::UPGRADE);
        if upgrades {
            request.extensions_mut().insert(self.cut_short.clone());
        }
        let answered = self.service.call(request);
        Box::pin(async move {
            let mut response = answered.await?;
            if upgrades && !is_http2 && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                close(&mut response);
            }
            Ok(response.map(|body| {
                let kind = if without_body { Kind::Nothing } else { Kind::Inner(body) };
                FrontBody { kind, _busy: busy }
            }))
        })
    }
}

fn close<B>(response: &mut Response<B>) {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// A body that keeps its connection busy.
struct FrontBody<B> {
    kind: Kind<B>,
    _busy: Busy,
}

enum Kind<B> {
    /// HTTP/2 takes a body that answers HEAD for a broken server.
    Nothing,
    Own(Box<TunnelBody>),
    Inner(B),
}

impl<B> Body for FrontBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.kind {
            Kind::Nothing => Poll::Ready(None),
            Kind::Own(body) => Pin::new(&mut **body).poll_frame(cx).map_err(Into::into),
            Kind::Inner(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Nothing => true,
            Kind::Own(body) => body.is_end_stream(),
            Kind::Inner(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Nothing => SizeHint::with_exact(0),
            Kind::Own(body) => body.size_hint(),
            Kind::Inner(body) => body.size_hint(),
        }
    }
}

/// How many requests of a connection run.
#[derive(Clone, Default)]
struct Activity(Arc<Counts>);

#[derive(Default)]
struct Counts {
    running: AtomicUsize,
    begun: AtomicUsize,
}

struct Busy(Arc<Counts>);

impl Activity {
    fn begin(&self) -> Busy {
        self.0.running.fetch_add(1, Ordering::AcqRel);
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(&self.0))
    }

    /// Resolves when no request ran for the whole of a period.
    async fn idle(&self, period: Duration) {
        let mut before = self.0.begun.load(Ordering::Acquire);
        loop {
            tokio::time::sleep(period).await;
            let begun = self.0.begun.load(Ordering::Acquire);
            if begun == before && self.0.running.load(Ordering::Acquire) == 0 {
                return;
            }
            before = begun;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}
