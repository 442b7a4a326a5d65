//! HTTP/2 as both sides of a tunnel speak it.

use std::time::Duration;

use bytes::Bytes;

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
/// How long a connection may be open without a stream.
pub(crate) const IDLE: Duration = Duration::from_secs(300);

/// What our name of the protocol says that the port is the application's.
pub(crate) const ALPN_HBONE: &[u8] = b"nullius-hbone";
/// The application's bytes inside mutual TLS, for proxies that are not ours at the port of a pod: it tells them from the application's own TLS.
pub(crate) const ALPN_TLS: &[u8] = b"nullius";
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
