//! Requests that are not whole yet: only so many of a connection are read at a time, and none for long.
//!
//! gRPC reads a request to its end before anybody is asked about it, so that what counts callers does not see those that never end.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::service::Service;
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Status, body::Body};

/// How long a request may take until its answer begins.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service of one connection.
#[derive(Clone)]
pub struct Unfinished<S> {
    inner: S,
    room: Arc<Semaphore>,
}

impl<S> Unfinished<S> {
    /// With so many requests at a time of which the answer has not begun; others wait with their head alone.
    pub fn new(inner: S, most: usize) -> Self {
        Self { inner, room: Arc::new(Semaphore::new(most)) }
    }
}

impl<S, B> Service<Request<B>> for Unfinished<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let (inner, room) = (self.inner.clone(), Arc::clone(&self.room));
        Box::pin(async move {
            let answered = timeout(PATIENCE, async move {
                let _place = room.acquire_owned().await;
                inner.call(request).await
            });
            answered.await.unwrap_or_else(|_| {
                Ok(Status::deadline_exceeded("the request was not whole in time").into_http())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    /// A service whose requests never end, and which counts those that it reads.
    #[derive(Clone, Default)]
    struct Endless(Arc<AtomicUsize>);

    impl Service<Request<()>> for Endless {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn call(&self, _: Request<()>) -> Self::Future {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_never_end_are_few_and_do_not_last() {
        let endless = Endless::default();
        let read = Arc::clone(&endless.0);
        let service = Unfinished::new(endless, 16);
        let all = tokio::spawn(join_all((0..500).map(|_| service.call(Request::new(())))));
        tokio::time::sleep(PATIENCE / 2).await;
        assert_eq!(read.load(Ordering::Relaxed), 16, "the others wait with their heads alone");
        let answers = all.await.unwrap();
        for answer in answers {
            let status = Status::from_header_map(answer.unwrap().headers()).unwrap();
            assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        }
        // Who comes afterwards finds room.
        let before = read.load(Ordering::Relaxed);
        let later = service.call(Request::new(()));
        assert!(timeout(Duration::from_secs(1), later).await.is_err());
        assert_eq!(read.load(Ordering::Relaxed), before + 1);
    }
}
