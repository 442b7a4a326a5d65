//! What arrives on an HTTP/2 stream, taken in also while nobody reads it.
//!
//! HTTP/2 bounds the bytes that wait on a stream, but not the pieces that they came in, and h2 ends a whole
//! connection when too many small pieces wait on it. So a stalled reader's pieces are taken in and joined, while
//! the sender gets new room only for what was read. What a session leaves unread in total is bounded, too.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;
use http_body::Frame;

use crate::{body::StreamError, headers, live::Stream};

/// Pieces below this size are joined.
const SMALL: usize = 4 * 1024;
/// Joined pieces are handed out in this size.
const JOINED: usize = 16 * 1024;

/// One stream's arrivals.
pub(crate) struct Inbound {
    stream: RecvStream,
    pieces: VecDeque<Bytes>,
    joined: BytesMut,
    held: usize,
    owner: Option<Arc<Stream>>,
    end: End,
}

enum End {
    /// More data may come.
    Open,
    /// No more data, perhaps trailers.
    Data,
    /// Everything is there.
    Trailers(Option<Box<HeaderMap>>),
    /// It broke.
    Broken(h2::Error),
    /// All was handed out.
    Over,
}

type Item = Option<Result<Frame<Bytes>, StreamError>>;

impl Inbound {
    pub(crate) fn new(stream: RecvStream, owner: Option<Arc<Stream>>) -> Self {
        Self {
            stream,
            pieces: VecDeque::new(),
            joined: BytesMut::new(),
            held: 0,
            owner,
            end: End::Open,
        }
    }

    /// Takes in all that has arrived; ready when nothing more can come, with an error if it broke.
    pub(crate) fn take_in(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ()>> {
        while matches!(self.end, End::Open) {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => self.hold(&data),
                Some(Err(error)) => self.end = End::Broken(error),
                None => self.end = End::Data,
            }
        }
        if matches!(self.end, End::Data) {
            self.end = match ready!(self.stream.poll_trailers(cx)) {
                Ok(trailers) => End::Trailers(trailers.map(headers::trailers).map(Box::new)),
                Err(error) => End::Broken(error),
            };
        }
        Poll::Ready(if matches!(self.end, End::Broken(_)) { Err(()) } else { Ok(()) })
    }

    /// The next frame: what was taken in before, then what arrives.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        if let Some(data) = self.next_held() {
            return Poll::Ready(Some(data.map(Frame::data)));
        }
        while matches!(self.end, End::Open) {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => return Poll::Ready(Some(self.release(data).map(Frame::data))),
                Some(Err(error)) => self.end = End::Broken(error),
                None => self.end = End::Data,
            }
        }
        let _ = ready!(self.take_in(cx));
        Poll::Ready(self.next_end())
    }

    /// The next frame of those that were taken in.
    fn next(&mut self) -> Poll<Item> {
        if let Some(data) = self.next_held() {
            return Poll::Ready(Some(data.map(Frame::data)));
        }
        match self.end {
            End::Open | End::Data => Poll::Pending,
            End::Trailers(_) | End::Broken(_) | End::Over => Poll::Ready(self.next_end()),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.held == 0
            && match &self.end {
                End::Open | End::Data => self.stream.is_end_stream(),
                End::Trailers(trailers) => trailers.is_none(),
                End::Broken(_) => false,
                End::Over => true,
            }
    }

    fn next_end(&mut self) -> Item {
        match std::mem::replace(&mut self.end, End::Over) {
            End::Trailers(Some(trailers)) => Some(Ok(Frame::trailers(*trailers))),
            End::Broken(error) => Some(Err(StreamError::Http2(error))),
            End::Open | End::Data | End::Trailers(None) | End::Over => None,
        }
    }

    fn hold(&mut self, data: &Bytes) {
        if data.is_empty() {
            return;
        }
        self.held += data.len();
        if let Some(owner) = &self.owner {
            owner.hold(data.len());
        }
        if data.len() >= SMALL {
            self.end_joining();
            self.pieces.push_back(data.clone());
            return;
        }
        self.joined.extend_from_slice(data);
        if self.joined.len() >= JOINED {
            self.end_joining();
        }
    }

    fn end_joining(&mut self) {
        if !self.joined.is_empty() {
            self.pieces.push_back(self.joined.split().freeze());
        }
    }

    fn next_held(&mut self) -> Option<Result<Bytes, StreamError>> {
        if self.held == 0 {
            return None;
        }
        if self.pieces.is_empty() {
            self.end_joining();
        }
        let data = self.pieces.pop_front()?;
        self.held -= data.len();
        if let Some(owner) = &self.owner {
            owner.let_go(data.len());
        }
        Some(self.release(data))
    }

    /// The reader has it, so the sender may send as much again.
    fn release(&mut self, data: Bytes) -> Result<Bytes, StreamError> {
        let released = self.stream.flow_control().release_capacity(data.len());
        released.map(|()| data).map_err(StreamError::Http2)
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let Some(owner) = &self.owner {
            owner.let_go(self.held);
        }
    }
}

/// Arrivals that a task of their own takes in, for a reader that nobody polls while it stalls.
pub(crate) struct Drained {
    shared: Arc<Mutex<Shared>>,
    task: tokio::task::AbortHandle,
}

struct Shared {
    inbound: Inbound,
    reader: Option<Waker>,
}

impl Drained {
    pub(crate) fn new(inbound: Inbound) -> Self {
        let shared = Arc::new(Mutex::new(Shared { inbound, reader: None }));
        let drained = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            std::future::poll_fn(|cx| {
                let mut shared = lock(&drained);
                let all = shared.inbound.take_in(cx);
                if let Some(reader) = shared.reader.take() {
                    reader.wake();
                }
                all.map(|_| ())
            })
            .await;
        });
        Self { shared, task: task.abort_handle() }
    }

    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Item> {
        let mut shared = lock(&self.shared);
        let next = shared.inbound.next();
        if next.is_pending() {
            shared.reader = Some(cx.waker().clone());
        }
        next
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        lock(&self.shared).inbound.is_end_stream()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use http::{Request, Response};

    use super::*;

    const PIECES: usize = 20_000;

    /// A stream on which as many single bytes arrive, all in pieces of their own, on a connection that bears few.
    async fn dribble() -> Inbound {
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(far).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                tokio::spawn(async move {
                    for byte in 0..PIECES {
                        send.reserve_capacity(1);
                        while send.capacity() == 0 {
                            std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
                        }
                        send.send_data(Bytes::from(vec![byte as u8]), false).unwrap();
                        tokio::task::yield_now().await;
                    }
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-end", "1".parse().unwrap());
                    send.send_trailers(trailers).unwrap();
                });
            }
        });
        let (mut requests, connection) = h2::client::Builder::new()
            .data_frame_budget(25_600)
            .handshake::<_, Bytes>(near)
            .await
            .unwrap();
        tokio::spawn(connection);
        let (response, _) = requests.send_request(Request::new(()), true).unwrap();
        // The connection lives as long as somebody may ask.
        std::mem::forget(requests);
        Inbound::new(response.await.unwrap().into_body(), None)
    }

    async fn read(mut next: impl FnMut(&mut Context<'_>) -> Poll<Item>) -> (Vec<usize>, usize) {
        let (mut pieces, mut trailers) = (Vec::new(), 0);
        let mut at = 0;
        while let Some(frame) = std::future::poll_fn(&mut next).await {
            match frame.unwrap().into_data() {
                Ok(data) => {
                    assert!(data.iter().all(|byte| {
                        at += 1;
                        *byte == (at - 1) as u8
                    }));
                    pieces.push(data.len());
                }
                Err(_) => trailers += 1,
            }
        }
        (pieces, trailers)
    }

    #[tokio::test]
    async fn a_reader_that_stalls_leaves_no_small_pieces_behind() {
        let drained = Drained::new(dribble().await);
        let all = || lock(&drained.shared).inbound.held == PIECES;
        while !all() {
            tokio::task::yield_now().await;
        }
        let (pieces, trailers) = read(|cx| drained.poll_frame(cx)).await;
        assert_eq!((pieces.iter().sum::<usize>(), trailers), (PIECES, 1));
        assert!(pieces.len() <= 2, "{} pieces", pieces.len());
        assert!(drained.is_end_stream());
    }

    #[tokio::test]
    async fn a_reader_that_keeps_up_gets_each_piece_as_it_comes() {
        let mut inbound = dribble().await;
        let (pieces, trailers) = read(|cx| inbound.poll_frame(cx)).await;
        assert_eq!((pieces.iter().sum::<usize>(), trailers), (PIECES, 1));
        assert_eq!(pieces.len(), PIECES);
        assert!(inbound.is_end_stream());
    }
}
