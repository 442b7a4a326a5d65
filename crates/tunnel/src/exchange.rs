//! One request and its answer over HTTP/2, as the hub makes it to an agent and the agent to an API server.
//!
//! The body is sent while the answer is awaited, in the same task. What was certainly not processed
//! (`REFUSED_STREAM`, or beyond the last stream of a `GOAWAY`; RFC 9113 section 8.7) can be sent again, as long as
//! its body is unsent or short.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::Response;

use crate::{TunnelBody, body::StreamError, live::Stream, upload::Upload};

/// A request on its way.
pub(crate) struct Exchange {
    response: ResponseFuture,
    upload: Sending,
}

enum Sending {
    Nothing(SendStream<Bytes>),
    Body(Box<Upload>),
}

/// Why there is no answer.
pub(crate) enum Failure {
    /// The other side did not look at it; the body is whole.
    NotProcessed(Box<TunnelBody>, h2::Error),
    /// Nobody knows how far it came.
    Broken(h2::Error),
    /// The client's body broke off.
    Body(StreamError),
}

impl Exchange {
    pub(crate) fn without_body(response: ResponseFuture, send: SendStream<Bytes>) -> Self {
        Self { response, upload: Sending::Nothing(send) }
    }

    pub(crate) fn with_body(
        response: ResponseFuture,
        send: SendStream<Bytes>,
        body: TunnelBody,
    ) -> Self {
        Self { response, upload: Sending::Body(Box::new(Upload::new(body, send))) }
    }

    /// Waits for the head of the answer; dropping this future cancels the request.
    pub(crate) async fn answer(mut self) -> Result<(Response<RecvStream>, Remainder), Failure> {
        let answered = poll_fn(|cx| {
            if let Sending::Body(upload) = &mut self.upload
                && let Poll::Ready(Err(error)) = upload.poll(cx)
                && !matches!(error, StreamError::Http2(_))
            {
                return Poll::Ready(Err(Failure::Body(error)));
            }
            match Pin::new(&mut self.response).poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::Broken(error))),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match answered {
            Ok(response) => {
                let remainder = match self.upload {
                    Sending::Nothing(send) => Remainder::Done(send),
                    Sending::Body(upload) if upload.is_done() => {
                        Remainder::Done(upload.into_send())
                    }
                    Sending::Body(mut upload) => {
                        upload.forget();
                        Remainder::Running(upload)
                    }
                };
                Ok((response, remainder))
            }
            Err(Failure::Broken(error)) if not_processed(&error) => {
                let body = match self.upload {
                    Sending::Nothing(_) => Some(TunnelBody::empty()),
                    Sending::Body(upload) => upload.again(),
                };
                Err(match body {
                    Some(body) => Failure::NotProcessed(Box::new(body), error),
                    None => Failure::Broken(error),
                })
            }
            Err(failure) => Err(failure),
        }
    }
}

/// What is left of a request when its answer begins.
pub(crate) enum Remainder {
    /// It was sent.
    Done(SendStream<Bytes>),
    /// Its body goes on.
    Running(Box<Upload>),
}

impl Remainder {
    /// Sees to it that the rest is sent, and that a cut of the stream reaches the other side at once.
    pub(crate) fn run_beside(self, stream: &Arc<Stream>) {
        match self {
            Self::Done(send) => stream.reset_with(send),
            Self::Running(mut upload) => {
                let stream = Arc::clone(stream);
                tokio::spawn(async move {
                    tokio::select! {
                        () = stream.over() => {
                            let mut send = upload.into_send();
                            send.send_reset(Reason::CANCEL);
                        }
                        _ = upload.finish() => stream.reset_with(upload.into_send()),
                    }
                });
            }
        }
    }
}

/// Whether the other side promises that it did nothing.
pub(crate) fn not_processed(error: &h2::Error) -> bool {
    error.is_remote()
        && (error.is_go_away()
            || error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM))
}
