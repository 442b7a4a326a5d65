//! HTTP/1.1 to an API server that offers nothing better (HTTP/2 switched off, or a balancer in front of it).

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Request, Response};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use nullius_tls::HttpVersions;

use super::dial::{self, Dial};
use crate::{TunnelBody, wire::Io};

const MAX_IDLE: usize = 32;
const MAX_HEADERS: usize = 128;
const MAX_BUFFER: usize = 64 * 1024;

/// Idle connections.
#[derive(Default)]
pub(super) struct Http1(Arc<Mutex<Vec<SendRequest<TunnelBody>>>>);

pub(super) enum Failure {
    Dial(io::Error),
    Broken(hyper::Error),
}

impl Http1 {
    /// Sends one request; again on a fresh connection where an idle one had ended before a byte was written.
    pub(super) async fn send(
        &self,
        dial: &Arc<dyn Dial>,
        fresh: Option<Box<dyn Io>>,
        mut request: Request<TunnelBody>,
    ) -> Result<Response<TunnelBody>, Failure> {
        let mut fresh = fresh;
        loop {
            let idle = if fresh.is_none() { self.idle().await } else { None };
            let was_idle = idle.is_some();
            let mut sender = match idle {
                Some(sender) => sender,
                None => {
                    let io = match fresh.take() {
                        Some(io) => io,
                        None => {
                            let dialled = dial::in_time(dial.as_ref(), HttpVersions::Http1).await;
                            dialled.map_err(Failure::Dial)?.io
                        }
                    };
                    let (sender, connection) = handshake(io).await.map_err(Failure::Broken)?;
                    tokio::spawn(connection);
                    sender
                }
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let idle = Arc::clone(&self.0);
                    let give_back = move || {
                        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                        if idle.len() < MAX_IDLE {
                            idle.push(sender);
                        }
                    };
                    return Ok(response.map(|body| TunnelBody::http1(body, give_back)));
                }
                Err(mut unsent) => match unsent.take_message() {
                    Some(message) if was_idle => request = message,
                    _ => return Err(Failure::Broken(unsent.into_error())),
                },
            }
        }
    }

    async fn idle(&self) -> Option<SendRequest<TunnelBody>> {
        loop {
            let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }
}

pub(super) async fn handshake(
    io: Box<dyn Io>,
) -> Result<
    (SendRequest<TunnelBody>, http1::Connection<TokioIo<Box<dyn Io>>, TunnelBody>),
    hyper::Error,
> {
    http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .handshake(TokioIo::new(io))
        .await
}
