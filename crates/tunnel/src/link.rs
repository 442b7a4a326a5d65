//! One tunnel connection as the hub holds it: the HTTP/2 client side of a connection that the agent dialled.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{
    PingPong, SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::{Request, StatusCode};
use nullius_model::{ClusterName, InstanceId};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::wire::{self, Class, Hello, Io};

const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
const HELLO_BYTES: usize = 4 * 1024;

/// Why a connection of an agent was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Only an `agent proxy` serves users' traffic.
    #[error("`{0}` is no agent proxy, so no users' traffic goes to it")]
    NotAProxy(String),
    /// HTTP/2 could not be agreed upon.
    #[error("the tunnel connection cannot speak http/2")]
    Handshake(#[source] h2::Error),
    /// It did not say hello in time.
    #[error("the agent did not say hello within {} s", HELLO_TIMEOUT.as_secs())]
    Timeout,
    /// It said something else.
    #[error("the agent's hello cannot be read: {0}")]
    Hello(String),
    /// It speaks another version.
    #[error(
        "the agent speaks tunnel version {theirs}, this hub {}: update the older",
        wire::VERSION
    )]
    Version {
        /// What it speaks.
        theirs: u32,
    },
    /// A newer epoch of the same instance was seen before.
    #[error("epoch {epoch} of agent `{instance}` is older than {newest}")]
    StaleEpoch {
        /// The instance.
        instance: InstanceId,
        /// What it came with.
        epoch: u64,
        /// What was seen.
        newest: u64,
    },
    /// The hub goes away.
    #[error("the hub is draining: attach to another replica")]
    Draining,
}

/// A connection that is ready for requests.
pub(crate) struct Link {
    pub(crate) cluster: ClusterName,
    pub(crate) instance: InstanceId,
    pub(crate) epoch: u64,
    pub(crate) class: Class,
    pub(crate) exporter: [u8; 32],
    pub(crate) agent_version: String,
    requests: SendRequest<Bytes>,
    active: AtomicUsize,
    draining: AtomicBool,
    close: CancellationToken,
}

/// What a connection needs to run, until it is registered.
pub(crate) struct Driver {
    connection: client::Connection<Box<dyn Io>, Bytes>,
    pings: PingPong,
}

/// A slot on a link; counts until it is dropped.
pub(crate) struct Slot {
    link: Arc<Link>,
    _running: TaskTrackerToken,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let left = self.link.active.fetch_sub(1, Ordering::AcqRel) - 1;
        if left == 0 && self.link.is_draining() {
            self.link.close();
        }
    }
}

/// A request that is on its way.
pub(crate) struct Opened {
    pub(crate) response: ResponseFuture,
    pub(crate) send: SendStream<Bytes>,
}

impl Link {
    /// Does the handshake and the first exchange.
    pub(crate) async fn establish(
        io: Box<dyn Io>,
        cluster: ClusterName,
        instance: InstanceId,
        class: Class,
        exporter: [u8; 32],
    ) -> Result<(Arc<Self>, Driver), AttachError> {
        let establish = async {
            let (requests, mut connection) = client::Builder::new()
                .initial_window_size(class.stream_window())
                .initial_connection_window_size(class.connection_window())
                .max_frame_size(wire::MAX_FRAME)
                .max_header_list_size(wire::MAX_HEADER_LIST)
                .max_send_buffer_size(wire::MAX_SEND_BUFFER)
                .max_local_error_reset_streams(None)
                .enable_push(false)
                .handshake::<_, Bytes>(io)
                .await
                .map_err(AttachError::Handshake)?;
            let Some(pings) = connection.ping_pong() else {
                return Err(AttachError::Hello("no pings".to_owned()));
            };
            let hello = {
                let exchange = hello(requests.clone());
                tokio::select! {
                    hello = exchange => hello?,
                    ended = &mut connection => {
                        let why = ended.map_or_else(|error| error.to_string(), |()| "it closed".to_owned());
                        return Err(AttachError::Hello(why));
                    }
                }
            };
            let link = Self {
                cluster,
                instance,
                epoch: hello.epoch,
                class,
                exporter,
                agent_version: hello.agent_version,
                requests,
                active: AtomicUsize::new(0),
                draining: AtomicBool::new(false),
                close: CancellationToken::new(),
            };
            Ok((Arc::new(link), Driver { connection, pings }))
        };
        tokio::time::timeout(HELLO_TIMEOUT, establish).await.unwrap_or(Err(AttachError::Timeout))
    }

    /// Moves the connection's bytes until it ends, is silent too long or is closed.
    pub(crate) async fn drive(self: Arc<Self>, driver: Driver) -> String {
        let Driver { connection, pings } = driver;
        let why = tokio::select! {
            ended = connection => match ended {
                Ok(()) => "closed".to_owned(),
                Err(error) => error.to_string(),
            },
            () = wire::silence(pings) => "the agent did not answer pings".to_owned(),
            () = self.close.cancelled() => "closed by the hub".to_owned(),
        };
        self.stop();
        why
    }

    /// Whether new requests may go here.
    pub(crate) fn takes_requests(&self) -> bool {
        !self.draining.load(Ordering::Acquire)
            && self.active.load(Ordering::Acquire) < self.requests.current_max_send_streams()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    /// No new requests from now on; running ones finish.
    pub(crate) fn stop(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// As [`Self::stop`]; the connection ends with what runs, at once if nothing does.
    pub(crate) fn retire(&self) {
        self.stop();
        if self.active() == 0 {
            self.close();
        }
    }

    /// Ends the connection with all that runs on it.
    pub(crate) fn close(&self) {
        self.stop();
        self.close.cancel();
    }

    /// Takes a place on the connection; who drains waits for it through `running`.
    pub(crate) fn slot(self: &Arc<Self>, running: &TaskTracker) -> Slot {
        self.active.fetch_add(1, Ordering::AcqRel);
        Slot { link: Arc::clone(self), _running: running.token() }
    }

    /// Sends the head of a request; an error means that nothing of it was sent.
    pub(crate) async fn open(&self, request: Request<()>, body: Rest) -> Result<Opened, h2::Error> {
        let mut requests = self.requests.clone();
        poll_fn(|cx| requests.poll_ready(cx)).await?;
        let (response, send) = requests.send_request(request, body == Rest::Nothing)?;
        Ok(Opened { response, send })
    }

    /// Tells the agent that the hub goes away, and takes no new requests.
    pub(crate) async fn announce_drain(&self) {
        self.stop();
        let Ok(uri) = wire::tunnel_uri(wire::DRAIN) else { return };
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = uri;
        if let Ok(opened) = self.open(request, Rest::Nothing).await {
            // The answer says no more than that it was heard; the connection may well end first.
            let _ = tokio::time::timeout(HELLO_TIMEOUT, opened.response).await;
        }
    }
}

/// What follows the head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    Body,
}

async fn hello(mut requests: SendRequest<Bytes>) -> Result<Hello, AttachError> {
    let unreadable = |error: &dyn std::fmt::Display| AttachError::Hello(error.to_string());
    poll_fn(|cx| requests.poll_ready(cx)).await.map_err(AttachError::Handshake)?;
    let mut request = Request::new(());
    *request.uri_mut() = wire::tunnel_uri(wire::HELLO).map_err(|error| unreadable(&error))?;
    let (response, _) = requests.send_request(request, true).map_err(AttachError::Handshake)?;
    let response = response.await.map_err(AttachError::Handshake)?;
    if response.status() != StatusCode::OK {
        return Err(AttachError::Hello(format!("status {}", response.status().as_u16())));
    }
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(AttachError::Handshake)?;
        if text.len() + data.len() > HELLO_BYTES {
            return Err(AttachError::Hello("too long".to_owned()));
        }
        text.extend_from_slice(&data);
        let _ = body.flow_control().release_capacity(data.len());
    }
    let hello: Hello = serde_json::from_slice(&text).map_err(|error| unreadable(&error))?;
    if hello.version != wire::VERSION {
        return Err(AttachError::Version { theirs: hello.version });
    }
    if !requests.is_extended_connect_protocol_enabled() {
        return Err(AttachError::Hello("no extended CONNECT".to_owned()));
    }
    Ok(hello)
}
