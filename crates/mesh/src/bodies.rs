//! Bodies of judged requests: counted as they pass, and cut where the right to them ends.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    access_log::{Attempt, End, Why},
    copy::Moved,
    held::HeldBody,
    requests::Registration,
    room::Place,
};

/// A request's body on its way to the application, without trailers; it may go on when the answer has ended.
pub(crate) struct RequestBody {
    /// What was looked into.
    held: Bytes,
    /// With what that broke off: what goes on is not whole.
    lost: Option<hyper::Error>,
    body: Option<Incoming>,
    moved: Arc<Moved>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// For as long as something is sent its right to that is looked at.
    _registration: Arc<Registration>,
    _place: Option<Place>,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming, moved: Arc<Moved>, registration: Arc<Registration>) -> Self {
        let (bytes, rest) = (Bytes::new(), Some(body));
        let held = HeldBody { bytes, rest, lost: None, place: None };
        Self::held(held, moved, registration)
    }

    pub(crate) fn held(body: HeldBody, moved: Arc<Moved>, registration: Arc<Registration>) -> Self {
        let HeldBody { bytes: held, rest: body, lost, place } = body;
        let cut = Box::pin(registration.token().clone().cancelled_owned());
        Self { held, lost, body, moved, cut, _registration: registration, _place: place }
    }

    fn count(&self, data: &Bytes) {
        self.moved.to_destination.fetch_add(data.len() as u64, Ordering::Relaxed);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        if !self.held.is_empty() {
            let data = std::mem::take(&mut self.held);
            self.count(&data);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(lost) = self.lost.take() {
            return Poll::Ready(Some(Err(BodyError::Lost(lost))));
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            match frame.data_ref() {
                Some(data) => self.count(data),
                // Some servers take them for headers, and they were not judged.
                None => return Poll::Ready(None),
            }
        }
        polled.map_err(BodyError::Lost)
    }

    fn is_end_stream(&self) -> bool {
        let has_ended = self.body.as_ref().is_none_or(Body::is_end_stream);
        self.held.is_empty() && self.lost.is_none() && has_ended
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.len() as u64;
        let Some(body) = &self.body else { return SizeHint::with_exact(held) };
        let rest = body.size_hint();
        let mut hint = SizeHint::new();
        if self.lost.is_some() {
            return hint;
        }
        hint.set_lower(rest.lower() + held);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}

/// An answer's body; the attempt lives as long as it.
pub(crate) struct AnswerBody(Kind);

enum Kind {
    Own(Option<Bytes>),
    Live(Box<Live>),
}

struct Live {
    body: Incoming,
    attempt: Attempt,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    registration: Arc<Registration>,
    has_ended: bool,
}

/// The right to an answer has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the request is allowed no more")]
    Cut,
    #[error("the application broke off")]
    Broke(#[source] hyper::Error),
    #[error("the caller broke off")]
    Lost(#[source] hyper::Error),
}

impl AnswerBody {
    /// A text of our own.
    pub(crate) fn own(text: String) -> Self {
        Self(Kind::Own(Some(text.into())))
    }

    /// What the application answers.
    pub(crate) fn live(body: Incoming, attempt: Attempt, registration: Arc<Registration>) -> Self {
        let cut = Box::pin(registration.token().clone().cancelled_owned());
        Self(Kind::Live(Box::new(Live { body, attempt, cut, registration, has_ended: false })))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let live = match &mut self.0 {
            Kind::Own(text) => return Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Kind::Live(live) => live,
        };
        if !live.has_ended && live.cut.as_mut().poll(cx).is_ready() {
            live.has_ended = true;
            live.attempt.cut(live.registration.why().unwrap_or(Why::Requests));
            return Poll::Ready(Some(Err(BodyError::Cut)));
        }
        let polled = Pin::new(&mut live.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    let moved = &live.attempt.moved;
                    moved.to_source.fetch_add(data.len() as u64, Ordering::Relaxed);
                }
                if live.body.is_end_stream() {
                    live.ends(End::Closed);
                }
            }
            Poll::Ready(Some(Err(_))) => live.ends(End::LocalBroke),
            Poll::Ready(None) => live.ends(End::Closed),
            Poll::Pending => {}
        }
        polled.map_err(BodyError::Broke)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Own(text) => text.is_none(),
            Kind::Live(live) => live.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Live(live) => live.body.size_hint(),
        }
    }
}

impl Live {
    fn ends(&mut self, end: End) {
        if !self.has_ended {
            self.has_ended = true;
            self.attempt.ended(end);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Without any byte it may never have been asked for one.
        let end = if self.body.is_end_stream() { End::Closed } else { End::MeshBroke };
        self.ends(end);
    }
}
