//! The pump that writes a body into an HTTP/2 stream.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use crate::{TunnelBody, body::StreamError, headers};

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
    pub(crate) fn again(self) -> Option<TunnelBody> {
        let Taken::Kept { frames, .. } = self.taken else { return None };
        Some(self.body.again(frames))
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
                            self.body.take_in(cx);
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
