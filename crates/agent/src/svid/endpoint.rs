//! The bundle endpoint of the cluster's trust domain, profile `https_spiffe` (SPIFFE Federation, section 5.2.2): whoever asks at the port of
//! nodes over HTTP/1.1 is told the bundle, and the server proves itself by an SVID of that trust domain. Nobody is asked who they are.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use nullius_tls::WorkloadStream;

use super::standing::Followed;
use crate::places::Place;

/// Where the bundle is.
pub(crate) const PATH: &str = "/bundle";
/// Bytes of the head of a request.
const HEAD_MAX: usize = 8 * 1024;
/// All of a connection: one question.
const WITHIN: Duration = Duration::from_secs(5);
/// Seconds for which anybody may keep an answer, at most.
const KEEP_MAX: u64 = 300;

/// Answers one question, and ends the connection.
pub(crate) async fn serve(stream: WorkloadStream, place: Arc<Place>, standing: Followed) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &standing);
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(WITHIN)
        .max_buf_size(HEAD_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = tokio::time::timeout(WITHIN, serving) => {}
        () = place.leave.cancelled() => {}
    }
}

fn answer(method: &Method, path: &str, standing: &Followed) -> Response<Full<Bytes>> {
    let refused = |status| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    if path != PATH {
        return refused(StatusCode::NOT_FOUND);
    }
    if method != Method::GET {
        return refused(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Some(standing) = standing.borrow().clone() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE);
    };
    let bundle = &standing.bundle;
    let seconds = bundle.refresh_hint_secs().unwrap_or(KEEP_MAX).min(KEEP_MAX);
    let mut response = Response::new(Full::from(bundle.to_json().to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(value) = HeaderValue::try_from(format!("max-age={seconds}")) {
        headers.insert(header::CACHE_CONTROL, value);
    }
    response
}
