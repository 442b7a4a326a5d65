//! Raw bytes both ways between an upgraded connection and an HTTP/2 stream.
//!
//! Each direction ends by itself (half-close). A cut or a reset ends both at once, without a clean end that the other
//! side could take for one. A connection to the API server that breaks is told in trailers, behind all that came from
//! it before: the client gets each byte first, and no clean end either. Reading waits for the writer: neither side is
//! buffered beyond a chunk.

use std::{
    future::{Future, poll_fn},
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
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    cut_short::CutShort,
    farewell::{Farewell, OnCut},
    headers,
    inbound::Inbound,
    live::{MAX_UNREAD, Stream, WhyCut},
    outcome::{Ended, Report},
};

const CHUNK: usize = 32 * 1024;
/// How long one direction may stay silent after the other has ended.
const LINGER: Duration = Duration::from_secs(60);
/// How long a client that was cut may take to hear why.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Whose connection is joined to the stream.
#[derive(Debug)]
pub(crate) enum Side {
    /// The client's, in the hub; its connection can be told that it ends before its time.
    Client(Option<CutShort>),
    /// The API server's, in the agent.
    Server,
}

/// What a client is told when its stream is cut.
pub(crate) struct LastWords {
    /// Where they fit.
    pub(crate) place: Farewell,
    /// What they say.
    pub(crate) why: OnCut,
}

/// Why one direction stopped before its end.
enum Stop {
    /// The connection on this side broke.
    Connection,
    /// The API server's connection broke, and all that came from it has arrived.
    Server,
    /// The HTTP/2 stream.
    Stream(String),
    /// One direction has ended and nothing moves in the other.
    Silence,
    /// What the stream belongs to has ended.
    Cut(WhyCut),
}

/// Why the other side reset the stream.
enum Reset {
    /// It has all that it needs.
    Enough,
    /// It was broken off.
    Broken(String),
}

/// Moves bytes until both sides have closed or something ends it, and tells the end as the hub sees it; the connection
/// is dropped in any case.
pub(crate) async fn pipe<IO>(
    io: IO,
    mut send: SendStream<Bytes>,
    recv: RecvStream,
    stream: &Arc<Stream>,
    side: Side,
    mut words: Option<LastWords>,
) -> Report
where
    IO: AsyncRead + AsyncWrite,
{
    let (mut read, mut write) = tokio::io::split(io);
    let inbound = Inbound::new(recv, Some(Arc::clone(stream)));
    let moved = AtomicU64::new(0);
    let to_connection = AtomicU64::new(0);
    let result = {
        let up = into_stream(&mut read, &mut send, &moved, &side);
        let place = words.as_mut().map(|words| &mut words.place);
        let down = into_connection(&mut write, inbound, &moved, &to_connection, place);
        tokio::select! {
            biased;
            why = stream.cut_down() => Err(Stop::Cut(why)),
            result = both_ways(up, down, &moved, &side) => result,
        }
    };
    let told = match side {
        Side::Server => matches!(result, Ok(()) | Err(Stop::Connection)),
        Side::Client(_) => result.is_ok(),
    };
    if !told {
        send.send_reset(Reason::CANCEL);
    }
    if let (Err(Stop::Cut(why)), Some(words)) = (&result, words) {
        let why = match why {
            WhyCut::Ended => (words.why)(),
            WhyCut::Unread => {
                format!("this session left more than {} MiB unread", MAX_UNREAD >> 20)
            }
        };
        if let Some(words) = words.place.words(why) {
            let say = async {
                write.write_all(&words).await?;
                write.shutdown().await
            };
            let _ = tokio::time::timeout(LAST_WORDS, say).await;
        }
    }
    if let (Err(Stop::Server), Side::Client(Some(cut_short))) = (&result, &side) {
        cut_short.set();
        let end = async {
            write.shutdown().await?;
            // Closing while the client still sends would throw away what is on its way to it.
            tokio::io::copy(&mut read, &mut tokio::io::sink()).await
        };
        tokio::select! {
            _ = tokio::time::timeout(LINGER, end) => {}
            _ = stream.cut_down() => {}
        }
    }
    let ended = match result {
        Ok(()) => Ended::Finished,
        Err(Stop::Connection | Stop::Silence) => Ended::ClientGone,
        Err(Stop::Server) => Ended::ServerGone,
        Err(Stop::Stream(why)) => Ended::Broken(why),
        Err(Stop::Cut(why)) => why.into(),
    };
    Report { ended, to_client: to_connection.into_inner() }
}

/// Runs both directions until the last of them has ended, or what ended the first ends both.
async fn both_ways(
    up: impl Future<Output = Result<(), Stop>>,
    down: impl Future<Output = Result<(), Stop>>,
    moved: &AtomicU64,
    side: &Side,
) -> Result<(), Stop> {
    tokio::pin!(up, down);
    tokio::select! {
        first = &mut up => {
            first?;
            tokio::select! { last = down => last, stop = silence(moved) => Err(stop) }
        }
        first = &mut down => match (first, side) {
            // An API server that takes nothing more has perhaps said its last word, which is still to be read.
            (Ok(()), _) | (Err(Stop::Connection), Side::Server) => {
                tokio::select! { last = up => last, stop = silence(moved) => Err(stop) }
            }
            (Err(stop), _) => Err(stop),
        },
    }
}

async fn into_stream<R>(
    mut read: R,
    send: &mut SendStream<Bytes>,
    moved: &AtomicU64,
    side: &Side,
) -> Result<(), Stop>
where
    R: AsyncRead + Unpin,
{
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let count = tokio::select! {
            count = read.read_buf(&mut buffer) => count,
            stop = was_reset(send) => return unheard(read, stop).await,
        };
        let count = match (count, side) {
            (Ok(count), _) => count,
            (Err(_), Side::Client(_)) => return Err(Stop::Connection),
            (Err(_), Side::Server) => {
                let broke = HeaderValue::from_static("broken");
                let trailers = HeaderMap::from_iter([(headers::ENDED, broke)]);
                send.send_trailers(trailers).map_err(broken)?;
                return Err(Stop::Connection);
            }
        };
        if count == 0 {
            send.send_data(Bytes::new(), true).map_err(broken)?;
            return Ok(());
        }
        moved.fetch_add(1, Ordering::Relaxed);
        let mut data = buffer.split().freeze();
        while !data.is_empty() {
            send.reserve_capacity(data.len());
            let room = match poll_fn(|cx| send.poll_capacity(cx)).await {
                Some(Ok(room)) => room.min(data.len()),
                Some(Err(error)) => return unheard(read, reset(&error)).await,
                None => return unheard(read, was_reset(send).await).await,
            };
            if room > 0 {
                send.send_data(data.split_to(room), false).map_err(broken)?;
                moved.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Ends a direction whose other end takes nothing more. If it has heard enough (RFC 9113, section 8.1) the rest is
/// read and thrown away: closing a connection with unread bytes would throw away what is on its way to the client.
async fn unheard(mut read: impl AsyncRead + Unpin, reset: Reset) -> Result<(), Stop> {
    match reset {
        Reset::Enough => {
            let rest = tokio::io::copy(&mut read, &mut tokio::io::sink()).await;
            rest.map(drop).map_err(|_| Stop::Connection)
        }
        Reset::Broken(why) => Err(Stop::Stream(why)),
    }
}

/// Trailers say that the other side's connection broke.
async fn into_connection<W>(
    mut write: W,
    mut inbound: Inbound,
    moved: &AtomicU64,
    to_connection: &AtomicU64,
    mut place: Option<&mut Farewell>,
) -> Result<(), Stop>
where
    W: AsyncWrite + Unpin,
{
    while let Some(frame) = poll_fn(|cx| inbound.poll_frame(cx)).await {
        let frame = frame.map_err(|error| Stop::Stream(error.to_string()))?;
        // Without a close: what was cut short must not look whole.
        let Ok(data) = frame.into_data() else { return Err(Stop::Server) };
        if let Some(place) = &mut place {
            place.sends();
        }
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
        if let Some(place) = &mut place {
            place.sent(&data);
        }
        moved.fetch_add(1, Ordering::Relaxed);
        to_connection.fetch_add(data.len() as u64, Ordering::Relaxed);
    }
    if let Some(place) = place {
        place.ends();
    }
    match tokio::time::timeout(LINGER, write.shutdown()).await {
        Ok(closed) => closed.map_err(gone),
        Err(_) => Err(Stop::Silence),
    }
}

/// Resolves when the other side resets the stream or the connection under it breaks.
async fn was_reset(send: &mut SendStream<Bytes>) -> Reset {
    match poll_fn(|cx| send.poll_reset(cx)).await {
        Ok(Reason::NO_ERROR) => Reset::Enough,
        Ok(reason) => Reset::Broken(reason.to_string()),
        Err(error) => reset(&error),
    }
}

fn reset(error: &h2::Error) -> Reset {
    match error.reason() {
        Some(Reason::NO_ERROR) if error.is_reset() => Reset::Enough,
        _ => Reset::Broken(error.to_string()),
    }
}

/// Resolves when nothing was moved for a while.
async fn silence(moved: &AtomicU64) -> Stop {
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(LINGER).await;
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return Stop::Silence;
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
