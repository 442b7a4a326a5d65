//! Raw bytes both ways between an upgraded connection and an HTTP/2 stream.
//!
//! Each direction ends by itself (half-close); an error, a cut or a reset ends both at once, without a clean end
//! that the other side could take for one. Reading waits for the writer: neither side is buffered beyond a chunk.

use std::{
    future::{Future as _, poll_fn},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    inbound::Inbound,
    live::Stream,
    outcome::{Ended, Watcher},
};

const CHUNK: usize = 32 * 1024;
/// How long one direction may stay silent after the other has ended.
const LINGER: Duration = Duration::from_secs(60);

/// Why one direction stopped.
enum Stop {
    /// The connection on this side.
    Connection,
    /// The HTTP/2 stream.
    Stream(String),
}

/// Moves bytes until both sides have closed or something ends it; the connection is dropped in any case.
pub(crate) async fn pipe<IO>(
    io: IO,
    mut send: SendStream<Bytes>,
    recv: RecvStream,
    stream: &Arc<Stream>,
    mut watcher: Option<Watcher>,
) where
    IO: AsyncRead + AsyncWrite,
{
    let (read, write) = tokio::io::split(io);
    let moved = AtomicU64::new(0);
    let to_connection = AtomicU64::new(0);
    let ended = {
        let both = async {
            let (up, down) = (
                into_stream(read, &mut send, &moved),
                into_connection(
                    write,
                    Inbound::new(recv, Some(Arc::clone(stream))),
                    &moved,
                    &to_connection,
                ),
            );
            tokio::pin!(up, down);
            let first = tokio::select! {
                result = &mut up => result.map(|()| true),
                result = &mut down => result.map(|()| false),
            };
            let rest = async {
                match first {
                    Ok(true) => down.await,
                    Ok(false) => up.await,
                    Err(stop) => Err(stop),
                }
            };
            tokio::select! {
                result = rest => result,
                () = silence(&moved) => Err(Stop::Connection),
            }
        };
        tokio::select! {
            biased;
            why = stream.cut_down() => why.into(),
            result = both => match result {
                Ok(()) => Ended::Finished,
                Err(Stop::Connection) => Ended::ClientGone,
                Err(Stop::Stream(why)) => Ended::Broken(why),
            },
        }
    };
    if ended != Ended::Finished {
        send.send_reset(Reason::CANCEL);
    }
    if let Some(mut watcher) = watcher.take() {
        watcher.sent(to_connection.into_inner());
        watcher.ended(ended);
    }
}

async fn into_stream<R>(
    mut read: R,
    send: &mut SendStream<Bytes>,
    moved: &AtomicU64,
) -> Result<(), Stop>
where
    R: AsyncRead + Unpin,
{
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let count = tokio::select! {
            count = read.read_buf(&mut buffer) => count.map_err(|_| Stop::Connection)?,
            stop = was_reset(send) => return Err(stop),
        };
        if count == 0 {
            send.send_data(Bytes::new(), true).map_err(broken)?;
            return Ok(());
        }
        moved.fetch_add(1, Ordering::Relaxed);
        let mut data = buffer.split().freeze();
        while !data.is_empty() {
            send.reserve_capacity(data.len());
            let room = poll_fn(|cx| send.poll_capacity(cx)).await;
            let room = match room {
                Some(Ok(room)) => room.min(data.len()),
                Some(Err(error)) => return Err(broken(error)),
                None => return Err(Stop::Stream("the stream was reset".to_owned())),
            };
            if room > 0 {
                send.send_data(data.split_to(room), false).map_err(broken)?;
                moved.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn into_connection<W>(
    mut write: W,
    mut inbound: Inbound,
    moved: &AtomicU64,
    to_connection: &AtomicU64,
) -> Result<(), Stop>
where
    W: AsyncWrite + Unpin,
{
    while let Some(frame) = poll_fn(|cx| inbound.poll_frame(cx)).await {
        let frame = frame.map_err(|error| Stop::Stream(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        let written = async {
            write.write_all(&data).await?;
            write.flush().await
        };
        tokio::pin!(written);
        let written = poll_fn(|cx| {
            if let Poll::Ready(written) = written.as_mut().poll(cx) {
                return Poll::Ready(Ok(written));
            }
            // A reset must not wait for somebody who does not read.
            match inbound.take_in(cx) {
                Poll::Ready(Err(())) => Poll::Ready(Err(Stop::Stream("it was reset".to_owned()))),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        });
        written.await?.map_err(gone)?;
        moved.fetch_add(1, Ordering::Relaxed);
        to_connection.fetch_add(data.len() as u64, Ordering::Relaxed);
    }
    write.shutdown().await.map_err(gone)
}

/// Resolves when the other side resets the stream or the connection under it breaks.
async fn was_reset(send: &mut SendStream<Bytes>) -> Stop {
    match poll_fn(|cx| send.poll_reset(cx)).await {
        Ok(reason) => Stop::Stream(reason.to_string()),
        Err(error) => broken(error),
    }
}

/// Resolves when nothing was moved for a while.
async fn silence(moved: &AtomicU64) {
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(LINGER).await;
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

fn broken(error: h2::Error) -> Stop {
    Stop::Stream(error.to_string())
}

fn gone(_: io::Error) -> Stop {
    Stop::Connection
}
