//! Health, readiness and metrics for the kubelet and Prometheus: plain HTTP, nothing that is secret.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::Metrics;

const MOST_CONNECTIONS: usize = 32;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

type Question = Box<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

/// Whether a part can serve now; a sentence when it cannot.
#[derive(Clone, Default)]
pub struct Readiness(Arc<OnceLock<Question>>);

impl Readiness {
    /// From now on, what this says; before, it was starting.
    pub fn follow(&self, question: impl Fn() -> Result<(), &'static str> + Send + Sync + 'static) {
        // It is set once, by whoever started the part.
        let _ = self.0.set(Box::new(question));
    }

    fn ask(&self) -> Result<(), &'static str> {
        self.0.get().map_or(Err("starting"), |question| question())
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics` until it is dropped.
pub async fn serve_health(listener: TcpListener, ready: Readiness, metrics: Metrics) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (ready, metrics) = (ready.clone(), metrics.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(request.uri().path(), &ready, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // Who asks for health and goes away has nothing to be told.
            let _ = served.await;
            drop(place);
        });
    }
}

fn answer(path: &str, ready: &Readiness, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match ready.ask() {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        "/metrics" => (StatusCode::OK, metrics.render()),
        _ => (StatusCode::NOT_FOUND, "there is /healthz, /readyz and /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_cannot_serve_is_healthy_and_not_ready() {
        let ready = Readiness::default();
        let metrics = Metrics::new();
        assert_eq!(answer("/readyz", &ready, &metrics).status(), StatusCode::SERVICE_UNAVAILABLE);
        ready.follow(|| Err("no tunnel stands"));
        assert_eq!(answer("/healthz", &ready, &metrics).status(), StatusCode::OK);
        assert_eq!(answer("/readyz", &ready, &metrics).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer("/metrics", &ready, &metrics).status(), StatusCode::OK);
        assert_eq!(answer("/", &ready, &metrics).status(), StatusCode::NOT_FOUND);
    }
}
