//! HTTP/2 as both sides of a tunnel speak it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::Request;

use crate::{World, shared::Shared};

/// Of one stream.
const STREAM_WINDOW: u32 = 4 << 20;
/// Of all streams of a connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
const FRAME: u32 = 1 << 20;
const HEADERS: u32 = 16 << 10;
/// Streams that a client has open on one connection.
pub(crate) const STREAMS: usize = 100;
/// Streams that a server lets one connection have: others keep theirs longer open than we do.
const SERVER_STREAMS: u32 = 256;
/// Resets of streams that nobody has looked at yet; more is the rapid-reset attack.
const PENDING_RESETS: usize = 20;
const ERROR_RESETS: usize = 1_024;
/// Bytes of one stream that wait to be sent.
const SEND_BUFFER: usize = 1 << 20;
/// The same of guests of a gateway. A frame is read whole before any window counts it.
const GUEST_FRAME: u32 = 16 << 10;
const GUEST_SEND_BUFFER: usize = 64 << 10;
/// How long a connection may be open without a stream.
pub(crate) const IDLE: Duration = Duration::from_secs(300);

/// What our name of the protocol says that the port is the application's.
pub(crate) const ALPN_HBONE: &[u8] = b"nullius-hbone";
/// The application's bytes inside mutual TLS, for proxies that are not ours at the port of a pod: it tells them from the application's own TLS.
pub(crate) const ALPN_TLS: &[u8] = b"nullius";
/// A gateway of a cluster: CONNECT names a Service that it exports, and inside is the caller's own mutual TLS with the destination.
pub(crate) const ALPN_GATEWAY: &[u8] = b"nullius-gateway";
pub(crate) const ALPN_H2: &[u8] = b"h2";
pub(crate) const ALPN_HTTP1: &[u8] = b"http/1.1";

/// The serving side.
pub(crate) fn server() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADERS)
        .max_concurrent_streams(SERVER_STREAMS)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(ERROR_RESETS))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// Received bytes of a guest's connection that wait to be passed on, and of each of its calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    connection: u32,
    stream: u32,
}

/// For as many connections as have room for it.
pub(crate) const WIDE: Windows = Windows { connection: 1 << 20, stream: 512 << 10 };
/// For all others.
pub(crate) const NARROW: Windows = Windows { connection: 64 << 10, stream: 32 << 10 };

/// The serving side of a gateway. Its guests are of others, and anybody of them can have it hold what nobody reads: all that is held for
/// one is small.
pub(crate) fn gateway(windows: Windows) -> h2::server::Builder {
    let mut builder = server();
    builder
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_frame_size(GUEST_FRAME)
        .max_send_buffer_size(GUEST_SEND_BUFFER);
    builder
}

/// Serves a tunnel until its peer goes, nobody uses it, or what it was opened by is of before: then it takes nothing new, and what is
/// open goes on.
pub(crate) async fn serve<IO>(
    shared: &Shared,
    mut connection: h2::server::Connection<IO, Bytes>,
    generation: u64,
    mut begin: impl FnMut(Request<RecvStream>, SendResponse<Bytes>),
) where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut view = shared.view();
    let mut tick = tokio::time::interval(IDLE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    let (mut is_leaving, mut is_used) = (false, true);
    let retired = async {
        let is_other = |world: &Option<Arc<World>>| {
            world.as_ref().is_none_or(|world| world.generation != generation)
        };
        tokio::select! {
            _ = view.wait_for(is_other) => {}
            () = shared.stop.cancelled() => {}
        }
    };
    tokio::pin!(retired);
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    is_used = true;
                    begin(request, respond);
                }
                Some(Err(_)) | None => return,
            },
            () = &mut retired, if !is_leaving => {
                connection.graceful_shutdown();
                is_leaving = true;
            }
            _ = tick.tick(), if !is_leaving => {
                if !is_used && !connection.has_streams() {
                    connection.graceful_shutdown();
                    is_leaving = true;
                }
                is_used = false;
            }
        }
    }
}

/// The asking side.
pub(crate) async fn client<IO>(
    io: IO,
) -> Result<(h2::client::SendRequest<Bytes>, h2::client::Connection<IO, Bytes>), h2::Error>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADERS)
        .max_send_buffer_size(SEND_BUFFER)
        .initial_max_send_streams(STREAMS)
        .handshake(io)
        .await
}
