//! The application behind a connection whose requests are judged: one connection of its own to it, by the same version of HTTP.

use std::{io, net::SocketAddr, sync::Arc};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, sync::Mutex};

use crate::{bodies::RequestBody, reach::reach, shared::Shared, stream_io::Begins};

const WINDOW: u32 = 4 << 20;

/// A way to the application.
pub(crate) struct Application {
    at: SocketAddr,
    client: SocketAddr,
    begins: Begins,
    shared: Arc<Shared>,
    one: Mutex<Option<http1::SendRequest<RequestBody>>>,
    many: Mutex<Option<http2::SendRequest<RequestBody>>>,
}

/// Why the application gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the application cannot be reached")]
    Unreachable(#[source] io::Error),
    #[error("the application broke off")]
    Broke(#[source] hyper::Error),
}

impl Application {
    /// The way to where the application listens, for one client.
    pub(crate) fn new(
        at: SocketAddr,
        client: SocketAddr,
        begins: Begins,
        shared: Arc<Shared>,
    ) -> Self {
        Self { at, client, begins, shared, one: Mutex::default(), many: Mutex::default() }
    }

    /// Sends a request. A connection that the application has closed meanwhile is made anew, as long as nothing was sent in it.
    pub(crate) async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, NoAnswer> {
        match self.begins {
            Begins::Http1 => self.send_http1(request).await,
            Begins::Http2 => self.send_http2(request).await,
        }
    }

    /// Sends a request that asks for another protocol, on a connection of its own.
    pub(crate) async fn send_upgrade(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let io = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::handshake(io).await.map_err(NoAnswer::Broke)?;
        let connection = connection.with_upgrades();
        self.shared.spawn(async move {
            // The request that it is for tells what broke.
            let _ = connection.await;
        });
        sender.send_request(request).await.map_err(NoAnswer::Broke)
    }

    async fn send_http1(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let kept = self.one.lock().await.take();
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
        {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    *self.one.lock().await = Some(sender);
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(NoAnswer::Broke(error.into_error())),
                },
            }
        }
        let io = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .handshake(io)
            .await
            .map_err(NoAnswer::Broke)?;
        self.shared.spawn(async move {
            // The request that it was for tells what broke.
            let _ = connection.await;
        });
        let response = sender.send_request(request).await.map_err(NoAnswer::Broke)?;
        *self.one.lock().await = Some(sender);
        Ok(response)
    }

    async fn send_http2(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let mut sender = {
            let mut kept = self.many.lock().await;
            match &*kept {
                Some(sender) if !sender.is_closed() => sender.clone(),
                Some(_) | None => {
                    let io = TokioIo::new(self.connect().await?);
                    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                        .initial_stream_window_size(WINDOW)
                        .initial_connection_window_size(4 * WINDOW)
                        .handshake(io)
                        .await
                        .map_err(NoAnswer::Broke)?;
                    self.shared.spawn(async move {
                        let _ = connection.await;
                    });
                    *kept = Some(sender.clone());
                    sender
                }
            }
        };
        sender.ready().await.map_err(NoAnswer::Broke)?;
        sender.send_request(request).await.map_err(NoAnswer::Broke)
    }

    async fn connect(&self) -> Result<TcpStream, NoAnswer> {
        reach(&self.shared, self.client, self.at).await.map_err(NoAnswer::Unreachable)
    }
}
