//! One body type for everything that moves through the tunnel, and the pump that writes a body into HTTP/2.
//!
//! A body is pulled: nothing is read from its source before its sink has room, so that no body is ever whole in
//! memory. Frames are handed on as they came, without copying.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    headers,
    link::Slot,
    live::Registration,
    outcome::{Ended, Watcher},
};

/// Any error of a body's source.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a stream broke off.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Its session, cluster or permission ended.
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
    Http2 {
        stream: RecvStream,
        data_ended: bool,
    },
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

    pub(crate) fn http2(stream: RecvStream) -> Self {
        if stream.is_end_stream() {
            return Self::empty();
        }
        Self::of(Source::Http2 { stream, data_ended: false })
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
            Self::Http2 { stream, data_ended } => poll_http2(stream, data_ended, cx),
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

fn poll_http2(
    stream: &mut RecvStream,
    data_ended: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
    while !*data_ended {
        match ready!(stream.poll_data(cx)) {
            Some(Ok(data)) if data.is_empty() && !stream.is_end_stream() => {}
            Some(Ok(data)) => {
                // The sink asked for it, so the sender may send as much again.
                let released = stream.flow_control().release_capacity(data.len());
                return Poll::Ready(Some(match released {
                    Ok(()) => Ok(Frame::data(data)),
                    Err(error) => Err(StreamError::Http2(error)),
                }));
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(StreamError::Http2(error)))),
            None => *data_ended = true,
        }
    }
    match ready!(stream.poll_trailers(cx)) {
        Ok(Some(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(headers::trailers(trailers))))),
        Ok(None) => Poll::Ready(None),
        Err(error) => Poll::Ready(Some(Err(StreamError::Http2(error)))),
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
            && stream.poll_cut(cx).is_ready()
        {
            self.source = Source::Empty;
            self.finish(Ended::Cut);
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
            Source::Http2 { .. } => SizeHint::default(),
            Source::Http1 { body, .. } => body.size_hint(),
            Source::Foreign(body) => body.size_hint(),
            Source::Again(..) => SizeHint::default(),
        }
    }
}

impl Source {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Http2 { stream, .. } => stream.is_end_stream(),
            Self::Http1 { .. } => false,
            Self::Foreign(body) => body.is_end_stream(),
            Self::Again(taken, rest) => taken.is_empty() && rest.is_end_stream(),
        }
    }
}

impl Drop for TunnelBody {
    fn drop(&mut self) {
        let ended = match &self.stream {
            Some(stream) if stream.is_cut() => Ended::Cut,
            _ if self.source.is_end_stream() => Ended::Finished,
            _ => Ended::ClientGone,
        };
        self.finish(ended);
    }
}

impl fmt::Debug for TunnelBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelBody").finish_non_exhaustive()
    }
}

/// Writes one body into one HTTP/2 stream, no faster than the stream takes it.
pub(crate) struct Upload {
    body: TunnelBody,
    send: SendStream<Bytes>,
    waiting: Option<Bytes>,
    taken: Taken,
    done: bool,
}

/// What was taken from a body so far: references to the beginning of it, for the case that the other side says
/// that it looked at nothing. A body that goes on is not kept.
enum Taken {
    Kept { frames: VecDeque<Bytes>, bytes: usize },
    TooMuch,
}

/// A short body can be sent again.
const KEPT_BYTES: usize = 64 * 1024;

impl Taken {
    fn note(&mut self, data: &Bytes) {
        if let Self::Kept { frames, bytes } = self {
            *bytes += data.len();
            frames.push_back(data.clone());
            if *bytes > KEPT_BYTES {
                *self = Self::TooMuch;
            }
        }
    }
}

impl Upload {
    pub(crate) fn new(body: TunnelBody, send: SendStream<Bytes>) -> Self {
        let taken = Taken::Kept { frames: VecDeque::new(), bytes: 0 };
        Self { body, send, waiting: None, taken, done: false }
    }

    /// Moves what can be moved; ready when all is sent, or when the other side wants no more of it.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(self.poll_move(cx));
        self.done = true;
        if let Err(error) = &result {
            // A body that broke off must not look like one that ended.
            let reason = match error {
                StreamError::Cut | StreamError::Source(_) => Reason::CANCEL,
                StreamError::Http2(error) => error.reason().unwrap_or(Reason::INTERNAL_ERROR),
            };
            self.send.send_reset(reason);
        }
        Poll::Ready(result)
    }

    /// Resolves when all is sent.
    pub(crate) async fn finish(&mut self) -> Result<(), StreamError> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The body from its beginning, if that is still known.
    pub(crate) fn again(mut self) -> Option<TunnelBody> {
        let Taken::Kept { frames, .. } = self.taken else { return None };
        let rest = std::mem::replace(&mut self.body.source, Source::Empty);
        if frames.is_empty() {
            return Some(TunnelBody::of(rest));
        }
        Some(TunnelBody::of(Source::Again(frames, Box::new(rest))))
    }

    /// The answer has begun: nothing will be sent again.
    pub(crate) fn forget(&mut self) {
        self.taken = Taken::TooMuch;
    }

    pub(crate) fn into_send(self) -> SendStream<Bytes> {
        self.send
    }

    fn poll_move(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        loop {
            if let Poll::Ready(reset) = self.send.poll_reset(cx) {
                return Poll::Ready(match reset {
                    Ok(Reason::NO_ERROR) => Ok(()),
                    Ok(reason) => Err(StreamError::Http2(reason.into())),
                    Err(error) => Err(StreamError::Http2(error)),
                });
            }
            if let Some(data) = self.waiting.take() {
                // Room is asked for after there is something to send: an idle stream pins none of the
                // connection's window.
                self.send.reserve_capacity(1);
                while self.send.capacity() == 0 {
                    match self.send.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(Some(Err(error))) => {
                            return Poll::Ready(Err(StreamError::Http2(error)));
                        }
                        Poll::Ready(None) => {
                            return Poll::Ready(Err(StreamError::Http2(Reason::CANCEL.into())));
                        }
                        Poll::Pending => {
                            self.waiting = Some(data);
                            return Poll::Pending;
                        }
                    }
                }
                let last = self.body.is_end_stream();
                self.send.send_data(data, last).map_err(StreamError::Http2)?;
                if last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => {
                        self.taken.note(&data);
                        self.waiting = Some(data);
                    }
                    Err(frame) => {
                        self.taken = Taken::TooMuch;
                        let Ok(trailers) = frame.into_trailers() else { continue };
                        self.send.reserve_capacity(0);
                        let trailers = headers::trailers(trailers);
                        return Poll::Ready(
                            self.send.send_trailers(trailers).map_err(StreamError::Http2),
                        );
                    }
                },
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => {
                    let ended = self.send.send_data(Bytes::new(), true);
                    return Poll::Ready(ended.map_err(StreamError::Http2));
                }
            }
        }
    }
}
