//! Requests that are not whole yet: only so many of a caller are read at a time, only so many bytes of them are held, and none for long.
//!
//! gRPC reads a request to its end before anybody is asked about it, so that what counts callers does not see those that never end.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::{Bytes, Frame, SizeHint},
    service::Service,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep_until, timeout},
};
use tonic::{Status, body::Body};

/// How long a request may take until its answer begins.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a message may take from its first byte to its last.
const MESSAGE: Duration = Duration::from_secs(10);
/// What stands before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What of one caller may be unfinished at the same time; clones share it.
#[derive(Debug, Clone)]
pub struct Room {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Room {
    /// For so many requests whose answer has not begun, and so many bytes of messages that are not whole.
    pub fn new(requests: usize, bytes: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            bytes: Arc::new(Semaphore::new(bytes)),
        }
    }
}

/// Says by its head alone whether a request may come in, and whose it is.
type Admit = Arc<dyn Fn() -> Result<Room, Status> + Send + Sync>;

/// A service of one connection.
#[derive(Clone)]
pub struct Unfinished<S> {
    inner: S,
    admit: Admit,
}

impl<S> Unfinished<S> {
    /// Each request is asked about when nothing but its head was read; where there is no room it waits with that.
    pub fn new(inner: S, admit: impl Fn() -> Result<Room, Status> + Send + Sync + 'static) -> Self {
        Self { inner, admit: Arc::new(admit) }
    }
}

impl<S, B> Service<Request<B>> for Unfinished<S>
where
    S: Service<Request<Measured<B>>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let room = match (self.admit)() {
            Ok(room) => room,
            Err(status) => return Box::pin(std::future::ready(Ok(status.into_http()))),
        };
        let inner = self.inner.clone();
        Box::pin(async move {
            let answered = timeout(PATIENCE, async move {
                let _place = room.requests.acquire_owned().await;
                inner.call(request.map(|body| Measured::new(body, room.bytes))).await
            });
            answered.await.unwrap_or_else(|_| {
                Ok(Status::deadline_exceeded("the request was not whole in time").into_http())
            })
        })
    }
}

/// The body of a request, whose messages are counted from their prefix on.
pub struct Measured<B> {
    body: B,
    room: Arc<Semaphore>,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that were read, and of the message that were not.
    read: usize,
    left: usize,
    held: Option<OwnedSemaphorePermit>,
    /// When the message, or the first one, has to be whole.
    until: Option<Pin<Box<Sleep>>>,
}

impl<B> Measured<B> {
    fn new(body: B, room: Arc<Semaphore>) -> Self {
        let until = Some(Box::pin(sleep_until(Instant::now() + MESSAGE)));
        Self { body, room, prefix: [0; PREFIX], read: 0, left: 0, held: None, until }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Status> {
        while !bytes.is_empty() {
            if self.until.is_none() {
                self.until = Some(Box::pin(sleep_until(Instant::now() + MESSAGE)));
            }
            if let Some(free) = self.prefix.get_mut(self.read..).filter(|free| !free.is_empty()) {
                let count = free.len().min(bytes.len());
                let (now, later) = bytes.split_at(count);
                free[..count].copy_from_slice(now);
                (self.read, bytes) = (self.read + count, later);
                if self.read < PREFIX {
                    return Ok(());
                }
                let [_, length @ ..] = self.prefix;
                let length = u32::from_be_bytes(length);
                let full = |_| Status::resource_exhausted("too much is unfinished; end it first");
                let held = Arc::clone(&self.room).try_acquire_many_owned(length).map_err(full)?;
                self.held = Some(held);
                self.left = usize::try_from(length).unwrap_or(usize::MAX);
            } else {
                let count = self.left.min(bytes.len());
                (self.left, bytes) = (self.left - count, &bytes[count..]);
            }
            if self.left == 0 {
                (self.read, self.held, self.until) = (0, None, None);
            }
        }
        Ok(())
    }
}

impl<B> hyper::body::Body for Measured<B>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(match frame {
                None => None,
                Some(Err(error)) => Some(Err(Status::from_error(error.into()))),
                Some(Ok(frame)) => {
                    let counted = frame.data_ref().map_or(Ok(()), |data| this.take(data));
                    Some(counted.map(|()| frame))
                }
            });
        }
        let Some(until) = &mut this.until else { return Poll::Pending };
        ready!(until.as_mut().poll(cx));
        Poll::Ready(Some(Err(Status::deadline_exceeded("the message was not whole in time"))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::{channel::mpsc, future::join_all};
    use hyper::body::Body as _;

    use super::*;

    /// A service whose requests never end, and which counts those that it reads.
    #[derive(Clone, Default)]
    struct Endless(Arc<AtomicUsize>);

    impl<B> Service<Request<B>> for Endless {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn call(&self, _: Request<B>) -> Self::Future {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_never_end_are_few_and_do_not_last() {
        let endless = Endless::default();
        let read = Arc::clone(&endless.0);
        let room = Room::new(16, 0);
        // Two connections of one caller share the room.
        let admit = move || Ok(room.clone());
        let (one, two) =
            (Unfinished::new(endless.clone(), admit.clone()), Unfinished::new(endless, admit));
        let services: Vec<_> = (0..250).flat_map(|_| [one.clone(), two.clone()]).collect();
        let all = join_all(services.iter().map(|service| service.call(Request::new(()))));
        let all = tokio::spawn(all);
        tokio::time::sleep(PATIENCE / 2).await;
        assert_eq!(read.load(Ordering::Relaxed), 16, "the others wait with their heads alone");
        let answers = all.await.unwrap();
        for answer in answers {
            let status = Status::from_header_map(answer.unwrap().headers()).unwrap();
            assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        }
        // Who comes afterwards finds room.
        let before = read.load(Ordering::Relaxed);
        let later = one.call(Request::new(()));
        assert!(timeout(Duration::from_secs(1), later).await.is_err());
        assert_eq!(read.load(Ordering::Relaxed), before + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_admitted_is_answered_by_the_head_alone() {
        let endless = Endless::default();
        let read = Arc::clone(&endless.0);
        let service = Unfinished::new(endless, || Err(Status::resource_exhausted("wait")));
        let answer = service.call(Request::new(())).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(
            (status.code(), read.load(Ordering::Relaxed)),
            (tonic::Code::ResourceExhausted, 0)
        );
    }

    type Sent = mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>;

    struct Pieces(mpsc::UnboundedReceiver<Result<Frame<Bytes>, Infallible>>);

    impl hyper::body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            futures::Stream::poll_next(Pin::new(&mut self.0), cx)
        }
    }

    fn body(room: &Room) -> (Sent, Measured<Pieces>) {
        let (sent, pieces) = mpsc::unbounded();
        (sent, Measured::new(Pieces(pieces), Arc::clone(&room.bytes)))
    }

    async fn read(body: &mut Measured<Pieces>) -> Result<usize, tonic::Code> {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        match frame.unwrap() {
            Ok(frame) => Ok(frame.into_data().unwrap().len()),
            Err(status) => Err(status.code()),
        }
    }

    fn piece(sent: &Sent, bytes: &[u8]) {
        sent.unbounded_send(Ok(Frame::data(Bytes::copy_from_slice(bytes)))).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_held_from_the_prefix_to_the_end_of_a_message() {
        let room = Room::new(1, 100);
        let ((one, mut first), (two, mut second)) = (body(&room), body(&room));
        // A message, the prefix of another in two pieces, and half of that.
        piece(&one, &[0, 0, 0, 0, 2, 7, 7, 0, 0]);
        assert_eq!((read(&mut first).await, room.bytes.available_permits()), (Ok(9), 100));
        piece(&one, &[0, 0, 60, 7, 7]);
        assert_eq!((read(&mut first).await, room.bytes.available_permits()), (Ok(5), 40));
        piece(&two, &[0, 0, 0, 0, 41]);
        assert_eq!(read(&mut second).await, Err(tonic::Code::ResourceExhausted));
        piece(&one, &[7; 58]);
        assert_eq!((read(&mut first).await, room.bytes.available_permits()), (Ok(58), 100));
        // Whoever says nothing between two messages may stay.
        let pause = Duration::from_secs(3_600);
        assert!(timeout(pause, read(&mut first)).await.is_err());
        piece(&one, &[0]);
        assert_eq!(read(&mut first).await, Ok(1));
        assert_eq!(read(&mut first).await, Err(tonic::Code::DeadlineExceeded));
        let (_three, mut third) = body(&room);
        assert_eq!(read(&mut third).await, Err(tonic::Code::DeadlineExceeded), "not even one");
    }
}
