//! The `:authority` of clients on a Unix socket.
//!
//! gRPC libraries (C, C++, Python, Java, Swift, and Go's in the kubelet) write the path of the socket there, which is no authority, and the HTTP/2 of this program
//! refuses such requests, as the specification says. Nothing here asks for the authority: its bytes that are none are
//! exchanged on the way, each for one, so that no length and no table of the connection changes.

mod huffman;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::huffman::Symbols;

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const NAME: &[u8] = b":authority";
/// Its place in the static table (RFC 7541, appendix A).
const INDEX: u64 = 1;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Follows what a client sends, and mends authorities in place.
#[derive(Debug, Default)]
pub struct AuthorityMender {
    at: At,
    block: Block,
}

/// Where in the frames (RFC 9113, section 4).
#[derive(Debug, Clone, Copy)]
enum At {
    /// In the preface, so many bytes of which are read.
    Preface(usize),
    /// In the head of a frame.
    Head([u8; 9], usize),
    /// Bytes that are passed over.
    Skip(u64),
    /// The length of the padding, in a frame with so many bytes.
    Padding { left: u64, has_priority: bool },
    /// Bytes before the fields, then so many bytes of fields and of padding.
    Before { skip: u64, fields: u64, padding: u64 },
    /// Fields, and the padding after them.
    Fields { fields: u64, padding: u64 },
}

/// Where in the fields (RFC 7541, section 6).
#[derive(Debug, Default)]
enum Block {
    /// Between two fields.
    #[default]
    Start,
    /// In a number.
    Number { value: u64, shift: u32, then: Then },
    /// At the length of a name, or of a value.
    Length { of: Text },
    /// In a name or value with so many bytes left.
    Bytes { of: Text, left: u64, is_plain: bool },
    /// In an authority in Huffman's code with so many bytes left.
    Coded { left: u64, symbols: Symbols },
    /// What follows is not understood: it is left as it is.
    Lost,
}

/// What a number is for.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// A field of the table, or a size of it.
    Nothing,
    /// The name of a field whose value follows.
    Value,
    /// The length of a text.
    Text { of: Text, is_plain: bool },
}

#[derive(Debug, Clone, Copy)]
enum Text {
    /// A name, of which so many bytes are those of `:authority`.
    Name { same: Option<usize> },
    /// The value of an authority.
    Authority,
    /// Another value.
    Other,
}

impl Default for At {
    fn default() -> Self {
        Self::Preface(0)
    }
}

impl AuthorityMender {
    /// Mends the next bytes of a connection.
    pub fn mend(&mut self, mut bytes: &mut [u8]) {
        while let [first, ..] = bytes {
            let taken = match self.at {
                At::Skip(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.at = skip(left - taken as u64);
                    taken
                }
                at => {
                    self.at = self.byte(at, first);
                    1
                }
            };
            bytes = bytes.get_mut(taken..).unwrap_or_default();
        }
    }

    fn byte(&mut self, at: At, byte: &mut u8) -> At {
        match at {
            At::Preface(read) if read + 1 == PREFACE => HEAD,
            At::Preface(read) => At::Preface(read + 1),
            At::Head(mut head, read) => {
                if let Some(place) = head.get_mut(read) {
                    *place = *byte;
                }
                match read + 1 == head.len() {
                    true => self.frame(head),
                    false => At::Head(head, read + 1),
                }
            }
            At::Skip(left) => skip(left.saturating_sub(1)),
            At::Padding { left, has_priority } => {
                let padding = u64::from(*byte).min(left - 1);
                before(left - 1 - padding, padding, has_priority)
            }
            At::Before { skip: 1, fields, padding } => in_fields(fields, padding),
            At::Before { skip, fields, padding } => At::Before { skip: skip - 1, fields, padding },
            At::Fields { fields, padding } => {
                self.field(byte);
                in_fields(fields - 1, padding)
            }
        }
    }

    /// What follows the head of a frame.
    fn frame(&mut self, head: [u8; 9]) -> At {
        let [a, b, c, kind, flags, ..] = head;
        let left = u64::from(u32::from_be_bytes([0, a, b, c]));
        match kind {
            HEADERS => {
                // A block begins; one that was not understood ended the tables, and with them what could be followed.
                if !matches!(self.block, Block::Lost) {
                    self.block = Block::Start;
                }
                let has_priority = flags & PRIORITY != 0;
                match flags & PADDED != 0 && left > 0 {
                    true => At::Padding { left, has_priority },
                    false => before(left, 0, has_priority),
                }
            }
            CONTINUATION => in_fields(left, 0),
            _ => skip(left),
        }
    }

    /// A byte of the fields.
    fn field(&mut self, byte: &mut u8) {
        let bits = u64::from(*byte);
        self.block = match std::mem::replace(&mut self.block, Block::Lost) {
            Block::Start => match *byte {
                0x80.. => number(bits, 7, Then::Nothing),
                0x40.. => number(bits, 6, Then::Value),
                0x20.. => number(bits, 5, Then::Nothing),
                _ => number(bits, 4, Then::Value),
            },
            Block::Number { value, shift, then } => {
                let more =
                    (bits & 0x7f).checked_shl(shift).and_then(|more| value.checked_add(more));
                match more {
                    Some(value) if shift > 28 || value > u64::from(u32::MAX) => Block::Lost,
                    Some(value) if bits & 0x80 == 0 => then.with(value),
                    Some(value) => Block::Number { value, shift: shift + 7, then },
                    None => Block::Lost,
                }
            }
            Block::Length { of } => {
                let is_plain = bits & 0x80 == 0;
                number(bits, 7, Then::Text { of, is_plain })
            }
            Block::Bytes { of, left, is_plain } => {
                let of = match of {
                    Text::Name { same } if is_plain => {
                        let same = same.filter(|same| NAME.get(*same) == Some(byte));
                        Text::Name { same: same.map(|same| same + 1) }
                    }
                    Text::Authority if is_plain => {
                        if !byte.is_ascii_alphanumeric() && *byte != b'.' {
                            *byte = b'-';
                        }
                        of
                    }
                    of => of,
                };
                after_bytes(of, left - 1, is_plain)
            }
            Block::Coded { left, mut symbols } => {
                symbols.mend(byte);
                match left {
                    0 | 1 => Block::Start,
                    _ => Block::Coded { left: left - 1, symbols },
                }
            }
            Block::Lost => Block::Lost,
        };
    }
}

const HEAD: At = At::Head([0; 9], 0);

fn skip(left: u64) -> At {
    if left == 0 { HEAD } else { At::Skip(left) }
}

fn before(left: u64, padding: u64, has_priority: bool) -> At {
    match left.min(5) {
        skip if has_priority && skip > 0 => At::Before { skip, fields: left - skip, padding },
        _ => in_fields(left, padding),
    }
}

fn in_fields(fields: u64, padding: u64) -> At {
    if fields == 0 { skip(padding) } else { At::Fields { fields, padding } }
}

/// A number that begins in the low bits of a byte (RFC 7541, section 5.1).
fn number(bits: u64, prefix: u32, then: Then) -> Block {
    let most = (1 << prefix) - 1;
    match bits & most {
        value if value == most => Block::Number { value, shift: 0, then },
        value => then.with(value),
    }
}

fn after_bytes(of: Text, left: u64, is_plain: bool) -> Block {
    if left > 0 && !is_plain && matches!(of, Text::Authority) {
        return Block::Coded { left, symbols: Symbols::default() };
    }
    if left > 0 {
        return Block::Bytes { of, left, is_plain };
    }
    match of {
        Text::Name { same } if same == Some(NAME.len()) => Block::Length { of: Text::Authority },
        Text::Name { .. } => Block::Length { of: Text::Other },
        Text::Authority | Text::Other => Block::Start,
    }
}

impl Then {
    fn with(self, value: u64) -> Block {
        match self {
            Self::Nothing => Block::Start,
            Self::Value if value == 0 => Block::Length { of: Text::Name { same: Some(0) } },
            Self::Value if value == INDEX => Block::Length { of: Text::Authority },
            Self::Value => Block::Length { of: Text::Other },
            Self::Text { of, is_plain } => after_bytes(of, value, is_plain),
        }
    }
}

/// A connection whose client's authorities are mended.
pub struct Mended<S> {
    stream: S,
    mender: AuthorityMender,
}

impl<S> Mended<S> {
    /// Mends what comes over a connection from its beginning on.
    pub fn new(stream: S) -> Self {
        Self { stream, mender: AuthorityMender::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(new) = buffer.filled_mut().get_mut(before..) {
            self.mender.mend(new);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
