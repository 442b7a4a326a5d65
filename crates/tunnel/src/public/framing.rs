//! Looks at the bytes of a client before HTTP does: heads that two readers could end in different places, and
//! heads that do not end in time.
//!
//! The guard changes no byte. It follows where HTTP/1.1 messages begin and end, and what it finds wrong the
//! service refuses; where it loses track, the connection is refused too.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use nullius_tls::Transport;

use super::PublicLimits;
use crate::cut_short::CutShort;

/// What the guard found, for the service; once bad, a connection stays so.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<OnceLock<&'static str>>);

impl Verdict {
    pub(super) fn bad_framing(&self) -> Option<&'static str> {
        self.0.get().copied()
    }
}

/// A byte stream that is looked at.
pub(super) struct Guard<IO> {
    io: IO,
    scan: Scan,
    verdict: Verdict,
    cut_short: CutShort,
    head_timeout: Duration,
    head_bytes: usize,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Where in a client's bytes we are.
#[derive(Debug)]
enum Scan {
    /// Bytes of HTTP/2's preface that are still to come.
    Preface(usize),
    /// In a head, or between two messages while it is empty.
    Head(Vec<u8>),
    /// In a body of so many bytes.
    Sized(u64),
    /// In the line before a chunk.
    ChunkLine(Vec<u8>),
    /// In a chunk and the line end behind it.
    Chunk(u64),
    /// In the lines behind the last chunk.
    Trailer(Vec<u8>),
    /// Not ours to look at.
    Opaque,
}

const PREFACE: usize = 24;
const LINE_MAX: usize = 4 * 1024;

impl<IO> Guard<IO> {
    /// `cut_short` says, when the connection ends, that it ended before its time.
    pub(super) fn http1(
        io: IO,
        verdict: Verdict,
        cut_short: CutShort,
        limits: &PublicLimits,
    ) -> Self {
        Self { cut_short, ..Self::new(io, Scan::Head(Vec::new()), verdict, limits) }
    }

    pub(super) fn http2(io: IO, verdict: Verdict, limits: &PublicLimits) -> Self {
        Self::new(io, Scan::Preface(PREFACE), verdict, limits)
    }

    fn new(io: IO, scan: Scan, verdict: Verdict, limits: &PublicLimits) -> Self {
        let deadline = Some(Box::pin(tokio::time::sleep(limits.head_timeout)));
        let (head_timeout, head_bytes) = (limits.head_timeout, limits.head_bytes);
        let cut_short = CutShort::default();
        Self { io, scan, verdict, cut_short, head_timeout, head_bytes, deadline }
    }

    fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let before = matches!(&self.scan, Scan::Head(head) if head.is_empty());
            match self.scan.step(bytes, self.head_bytes) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(what) => {
                    // The first finding stands.
                    let _ = self.verdict.0.set(what);
                    self.scan = Scan::Opaque;
                }
            }
            match &self.scan {
                Scan::Preface(_) => {}
                Scan::Head(head) if !head.is_empty() => {
                    if before && self.deadline.is_none() {
                        self.deadline = Some(Box::pin(tokio::time::sleep(self.head_timeout)));
                    }
                }
                _ => self.deadline = None,
            }
            if matches!(self.scan, Scan::Opaque) {
                return;
            }
        }
    }
}

impl Scan {
    /// Takes some bytes; an error says what is wrong with them.
    fn step(&mut self, bytes: &[u8], head_bytes: usize) -> Result<usize, &'static str> {
        match self {
            Self::Preface(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                if *left == 0 {
                    *self = Self::Opaque;
                }
                Ok(taken)
            }
            Self::Head(head) => {
                if head.is_empty() && matches!(bytes, [b'\r' | b'\n', ..]) {
                    return Ok(1);
                }
                let (taken, complete) = take_until(head, bytes, b"\r\n\r\n");
                if complete {
                    *self = read_head(head)?;
                } else if head.len() > head_bytes {
                    // hyper answers this itself.
                    *self = Self::Opaque;
                }
                Ok(taken)
            }
            Self::Sized(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::Head(Vec::new());
                }
                Ok(taken)
            }
            Self::ChunkLine(line) => {
                let (taken, complete) = take_until(line, bytes, b"\r\n");
                if complete {
                    *self = match chunk_size(line)? {
                        0 => Self::Trailer(b"\r\n".to_vec()),
                        size => Self::Chunk(size + 2),
                    };
                } else if line.len() > LINE_MAX {
                    return Err("a chunk without end of line");
                }
                Ok(taken)
            }
            Self::Chunk(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::ChunkLine(Vec::new());
                }
                Ok(taken)
            }
            Self::Trailer(lines) => {
                let (taken, complete) = take_until(lines, bytes, b"\r\n\r\n");
                if complete {
                    check_lines(lines)?;
                    *self = Self::Head(Vec::new());
                } else if lines.len() > LINE_MAX {
                    return Err("trailers without end");
                }
                Ok(taken)
            }
            Self::Opaque => Ok(bytes.len()),
        }
    }
}

/// Appends up to and with `end`; says how many bytes were taken and whether `end` was reached.
fn take_until(buffer: &mut Vec<u8>, bytes: &[u8], end: &[u8]) -> (usize, bool) {
    let from = buffer.len().saturating_sub(end.len() - 1);
    let old = buffer.len();
    buffer.extend_from_slice(bytes);
    let found = buffer[from..].windows(end.len()).position(|window| window == end);
    match found {
        Some(at) => {
            buffer.truncate(from + at + end.len());
            (buffer.len() - old, true)
        }
        None => (bytes.len(), false),
    }
}

/// Checks a head and says what follows it.
fn read_head(head: &[u8]) -> Result<Scan, &'static str> {
    check_lines(head)?;
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let request = lines.next().unwrap_or_default();
    // Libraries drop it without a word, and then what is judged is not what came.
    if request.contains(&b'#') {
        return Err("a fragment in its target");
    }
    let (mut lengths, mut codings, mut upgrades) = (0, 0, request.starts_with(b"CONNECT "));
    let mut length = 0;
    for line in lines.filter(|line| !line.is_empty()) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err("a header without colon");
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || name.iter().any(|byte| !byte.is_ascii_graphic()) {
            return Err("an odd header name");
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths += 1;
            length = read_length(value).ok_or("an odd `Content-Length`")?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            codings += 1;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a `Transfer-Encoding` other than `chunked`");
            }
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            upgrades = true;
        }
    }
    match (lengths, codings) {
        (0 | 1, 0) | (0, 1) => {}
        (_, 0) => return Err("several `Content-Length`"),
        (0, _) => return Err("several `Transfer-Encoding`"),
        _ => return Err("`Content-Length` beside `Transfer-Encoding`"),
    }
    Ok(match (upgrades, codings, length) {
        (true, ..) => Scan::Opaque,
        (false, 1, _) => Scan::ChunkLine(Vec::new()),
        (false, _, 0) => Scan::Head(Vec::new()),
        (false, _, length) => Scan::Sized(length),
    })
}

/// Each line ends with CR LF and with nothing else, holds no control bytes and does not continue the one before.
fn check_lines(lines: &[u8]) -> Result<(), &'static str> {
    let mut before = 0;
    for (index, byte) in lines.iter().enumerate() {
        match byte {
            b'\n' if before != b'\r' => return Err("a line that ends with a bare line feed"),
            b'\r' if lines.get(index + 1) != Some(&b'\n') => return Err("a bare carriage return"),
            b' ' | b'\t' if before == b'\n' => return Err("a header line that is folded"),
            b'\t' | b'\r' | b'\n' => {}
            0..=0x1f | 0x7f => return Err("a control byte"),
            _ => {}
        }
        before = *byte;
    }
    Ok(())
}

fn read_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    let size = std::str::from_utf8(digits).ok().filter(|digits| {
        (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    let clean = line.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t');
    match size.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
        Some(size) if clean => Ok(size),
        _ => Err("an odd chunk size"),
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let guard = &mut *self;
        let before = buffer.filled().len();
        match Pin::new(&mut guard.io).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                guard.look(&buffer.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let late = guard
                    .deadline
                    .as_mut()
                    .is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
                if late { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) } else { Poll::Pending }
            }
        }
    }
}

impl<IO: Transport> AsyncWrite for Guard<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut_short.is_set() {
            return Pin::new(&mut self.io).poll_cut_short(cx);
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
