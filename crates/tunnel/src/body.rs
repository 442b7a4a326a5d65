//! One body type for everything that moves through the tunnel.
//!
//! A body is pulled: nothing is read from its source before its sink has room, so that no body is ever whole in
//! memory. Frames are handed on as they came, without copying.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    inbound::{Drained, Inbound},
    link::Slot,
    live::{Registration, Stream},
    outcome::{Ended, Watcher},
};

/// Any error of a body's source.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a stream broke off.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Its session, cluster or permission ended, or its client left too much unread.
    #[error("the stream was cut")]
    Cut,
    /// The HTTP/2 side broke it.
    #[error("the http/2 stream broke")]
    Http2(#[source] h2::Error),
    /// The source of the body broke.
    #[error("the body broke off")]
    Source(#[source] BoxError),
}

/// A body on its way through the tunnel.
pub struct TunnelBody {
    source: Source,
    stream: Option<Registration>,
    /// Counts on its link until the body is out.
    slot: Option<Slot>,
    watcher: Option<Watcher>,
}

enum Source {
    Empty,
    Full(Option<Bytes>),
    Http2(Inbound),
    Drained(Drained),
    Http1 {
        body: Incoming,
        ended: Option<Box<dyn FnOnce() + Send>>,
    },
    Foreign(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>),
    /// What was taken from a body before, then the rest of it.
    Again(VecDeque<Bytes>, Box<Source>),
}

impl TunnelBody {
    /// No body.
    pub fn empty() -> Self {
        Self::of(Source::Empty)
    }

    /// A body that is there already.
    pub fn full(bytes: Bytes) -> Self {
        Self::of(Source::Full(Some(bytes).filter(|bytes| !bytes.is_empty())))
    }

    /// A body from elsewhere, for example of a request that a web framework handed over.
    pub fn foreign<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self::of(Source::Foreign(Box::pin(http_body_util::BodyExt::map_err(body, Into::into))))
    }

    /// The body of an HTTP/2 message; what waits in it counts for `owner`.
    pub(crate) fn http2(stream: RecvStream, owner: Option<Arc<Stream>>) -> Self {
        if stream.is_end_stream() {
            return Self::empty();
        }
        Self::of(Source::Http2(Inbound::new(stream, owner)))
    }

    /// The same, for a reader that may not come back for long: what arrives is taken in all the same.
    pub(crate) fn drained(stream: RecvStream, owner: Option<Arc<Stream>>) -> Self {
        if stream.is_end_stream() {
            return Self::empty();
        }
        Self::of(Source::Drained(Drained::new(Inbound::new(stream, owner))))
    }

    /// Takes in what has arrived though nobody can use it yet.
    pub(crate) fn take_in(&mut self, cx: &mut Context<'_>) {
        if let Source::Http2(inbound) = &mut self.source {
            // Whatever it is, it comes out in its turn.
            let _ = inbound.take_in(cx);
        }
    }

    /// What of the body has not been polled out, as a body of its own behind `taken`.
    pub(crate) fn again(mut self, taken: VecDeque<Bytes>) -> Self {
        let rest = std::mem::replace(&mut self.source, Source::Empty);
        if taken.is_empty() {
            return Self::of(rest);
        }
        Self::of(Source::Again(taken, Box::new(rest)))
    }

    /// The body of an HTTP/1.1 answer; `ended` runs when its connection is free again.
    pub(crate) fn http1(body: Incoming, ended: impl FnOnce() + Send + 'static) -> Self {
        if body.is_end_stream() {
            ended();
            return Self::empty();
        }
        Self::of(Source::Http1 { body, ended: Some(Box::new(ended)) })
    }

    /// The same body, which breaks off when its registration is cut and reports its end.
    pub(crate) fn registered(
        mut self,
        stream: Registration,
        slot: Slot,
        watcher: Option<Watcher>,
    ) -> Self {
        self.stream = Some(stream);
        self.slot = Some(slot);
        self.watcher = watcher;
        self
    }

    fn of(source: Source) -> Self {
        Self { source, stream: None, slot: None, watcher: None }
    }

    fn finish(&mut self, ended: Ended) {
        self.stream = None;
        self.slot = None;
        if let Some(watcher) = self.watcher.take() {
            watcher.ended(ended);
        }
    }
}

impl Source {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Http2(inbound) => inbound.poll_frame(cx),
            Self::Drained(drained) => drained.poll_frame(cx),
            Self::Http1 { body, ended } => {
                let polled = ready!(Pin::new(body).poll_frame(cx));
                match polled {
                    Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
                    Some(Err(error)) => {
                        Poll::Ready(Some(Err(StreamError::Source(Box::new(error)))))
                    }
                    None => {
                        if let Some(ended) = ended.take() {
                            ended();
                        }
                        Poll::Ready(None)
                    }
                }
            }
            Self::Foreign(body) => body.as_mut().poll_frame(cx).map_err(StreamError::Source),
            Self::Again(taken, rest) => match taken.pop_front() {
                Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
                None => rest.poll_frame(cx),
            },
        }
    }
}

impl Body for TunnelBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        if let Some(stream) = &self.stream
            && let Poll::Ready(why) = stream.poll_cut(cx)
        {
            self.source = Source::Empty;
            self.finish(why.into());
            return Poll::Ready(Some(Err(StreamError::Cut)));
        }
        let polled = ready!(self.source.poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                if let (Some(watcher), Some(data)) = (&mut self.watcher, frame.data_ref()) {
                    watcher.sent(data.len() as u64);
                }
                if self.source.is_end_stream() {
                    self.finish(Ended::Finished);
                }
            }
            Some(Err(error)) => {
                let ended = Ended::Broken(error.to_string());
                self.finish(ended);
            }
            None => self.finish(Ended::Finished),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let cut = self.stream.as_ref().is_some_and(Registration::is_cut);
        !cut && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Http2(_) | Source::Drained(_) | Source::Again(..) => SizeHint::default(),
            Source::Http1 { body, .. } => body.size_hint(),
            Source::Foreign(body) => body.size_hint(),
        }
    }
}

impl Source {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Http2(inbound) => inbound.is_end_stream(),
            Self::Drained(drained) => drained.is_end_stream(),
            Self::Http1 { .. } => false,
            Self::Foreign(body) => body.is_end_stream(),
            Self::Again(taken, rest) => taken.is_empty() && rest.is_end_stream(),
        }
    }
}

impl Drop for TunnelBody {
    fn drop(&mut self) {
        let cut = self.stream.as_ref().and_then(|stream| stream.stream().why_cut());
        let ended = match cut {
            Some(why) => why.into(),
            None if self.source.is_end_stream() => Ended::Finished,
            None => Ended::ClientGone,
        };
        self.finish(ended);
    }
}

impl fmt::Debug for TunnelBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelBody").finish_non_exhaustive()
    }
}
