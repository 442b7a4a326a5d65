//! HTTP/2 connections to one API server: the least loaded is used, a new one is opened when all are full.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use h2::{
    SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::Request;
use nullius_tls::HttpVersions;

use super::dial::{self, Dial};
use crate::wire::{self, Io};

/// More would be an attack on the API server, not a load.
const MAX_CONNECTIONS: usize = 64;
const STREAM_WINDOW: u32 = 1 << 20;
/// Enough for all streams that an API server allows: none waits for what another one's reader leaves.
const CONNECTION_WINDOW: u32 = 256 << 20;

#[derive(Default)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    connections: ArcSwap<Vec<Arc<Connection>>>,
    changing: Mutex<()>,
    opening: tokio::sync::Mutex<()>,
    /// The server agreed to HTTP/1.1 alone when it was asked last.
    only_http1: AtomicBool,
}

/// One HTTP/2 connection.
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    active: AtomicUsize,
    stopped: AtomicBool,
    pool: Weak<Shared>,
}

/// A place on a connection; free again when dropped.
pub(crate) struct Lease(Arc<Connection>);

/// How the next request goes out.
pub(super) enum Open {
    Http2(Arc<Connection>),
    /// Over HTTP/1.1; with a connection where one was just made.
    Http1(Option<Box<dyn Io>>),
    Full,
}

impl Pool {
    pub(super) async fn choose(&self, dial: &Arc<dyn Dial>) -> io::Result<Open> {
        if let Some(connection) = self.0.least_loaded() {
            return Ok(Open::Http2(connection));
        }
        if self.0.only_http1.load(Ordering::Acquire) {
            return Ok(Open::Http1(None));
        }
        let _one_at_a_time = self.0.opening.lock().await;
        if let Some(connection) = self.0.least_loaded() {
            return Ok(Open::Http2(connection));
        }
        if self.0.connections.load().len() >= MAX_CONNECTIONS {
            return Ok(Open::Full);
        }
        let dialled = dial::in_time(dial.as_ref(), HttpVersions::Either).await?;
        if dialled.speaks != HttpVersions::Http2 {
            self.0.only_http1.store(true, Ordering::Release);
            return Ok(Open::Http1(Some(dialled.io)));
        }
        self.open(dialled.io).await.map(Open::Http2)
    }

    async fn open(&self, io: Box<dyn Io>) -> io::Result<Arc<Connection>> {
        let (requests, mut driver) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(wire::MAX_FRAME)
            .max_header_list_size(wire::MAX_HEADER_LIST)
            .max_send_buffer_size(wire::MAX_SEND_BUFFER)
            .max_local_error_reset_streams(None)
            .enable_push(false)
            .handshake::<_, Bytes>(io)
            .await
            .map_err(io::Error::other)?;
        let pings = driver.ping_pong();
        let connection = Arc::new(Connection {
            requests,
            active: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            pool: Arc::downgrade(&self.0),
        });
        let driven = Arc::downgrade(&connection);
        tokio::spawn(async move {
            let silent = async {
                match pings {
                    Some(pings) => wire::silence(pings).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = driver => tracing::debug!(?ended, "end connection to api server"),
                () = silent => tracing::debug!("drop connection to silent api server"),
            }
            if let Some(connection) = driven.upgrade() {
                connection.stop();
            }
        });
        self.0.change(|connections| connections.push(Arc::clone(&connection)));
        Ok(connection)
    }
}

impl Shared {
    fn least_loaded(&self) -> Option<Arc<Connection>> {
        let connections = self.connections.load();
        let ready = connections.iter().filter(|connection| connection.has_room());
        ready.min_by_key(|connection| connection.active.load(Ordering::Acquire)).map(Arc::clone)
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<Arc<Connection>>)) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connections = self.connections.load().as_ref().clone();
        edit(&mut connections);
        self.connections.store(Arc::new(connections));
    }
}

impl Connection {
    /// Sends the head of a request; an error means that nothing was sent and the connection is of no more use.
    pub(super) async fn open(
        self: &Arc<Self>,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>, Lease), h2::Error> {
        self.active.fetch_add(1, Ordering::AcqRel);
        let lease = Lease(Arc::clone(self));
        let mut requests = self.requests.clone();
        let opened = match poll_fn(|cx| requests.poll_ready(cx)).await {
            Ok(()) => requests.send_request(request, ends),
            Err(error) => Err(error),
        };
        match opened {
            Ok((response, send)) => Ok((response, send, lease)),
            Err(error) => {
                self.stop();
                Err(error)
            }
        }
    }

    fn has_room(&self) -> bool {
        !self.stopped.load(Ordering::Acquire)
            && self.active.load(Ordering::Acquire) < self.requests.current_max_send_streams()
    }

    /// No new requests; running ones finish.
    fn stop(self: &Arc<Self>) {
        if self.stopped.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(pool) = self.pool.upgrade() {
            pool.change(|connections| connections.retain(|other| !Arc::ptr_eq(other, self)));
        }
    }
}

impl Lease {
    /// The connection takes no new requests any more.
    pub(super) fn stop(&self) {
        self.0.stop();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let left = self.0.active.fetch_sub(1, Ordering::AcqRel) - 1;
        if left > 0 {
            return;
        }
        // After a peak, one idle connection is enough.
        if let Some(pool) = self.0.pool.upgrade() {
            let idle =
                |connection: &&Arc<Connection>| connection.active.load(Ordering::Acquire) == 0;
            if pool.connections.load().iter().filter(idle).count() > 1 {
                self.0.stop();
            }
        }
    }
}
