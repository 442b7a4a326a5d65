//! Messages of netlink: written attribute by attribute, sent, and their answers read.

use std::io;

use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::set_socket_send_buffer_size_force;

/// The header of every message: length, type, flags, sequence, port.
const HEADER: usize = 16;
/// What every socket may send at once.
const USUAL_BUFFER: usize = 64 * 1024;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NESTED: u16 = 1 << 15;
/// The request that an error repeats is cut after its header.
const FLAG_CAPPED: u16 = 0x100;
/// An error carries attributes.
const FLAG_ACK_ATTRIBUTES: u16 = 0x200;
const ACK_MESSAGE: u16 = 1;
const ACK_OFFSET: u16 = 2;

/// It is a request.
pub const REQUEST: u16 = 0x1;
/// An answer is wanted also when all went well.
pub const ACK: u16 = 0x4;
/// All that there is.
pub const DUMP: u16 = 0x300;
/// Takes the place of what is there.
pub const REPLACE: u16 = 0x100;
/// Fails when it is there.
pub const EXCLUSIVE: u16 = 0x200;
/// Makes it when it is not there.
pub const CREATE: u16 = 0x400;
/// Behind those that are there.
pub const APPEND: u16 = 0x800;

/// The parts of the kernel that are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Routes and their rules.
    Route = 0,
    /// Netfilter.
    Netfilter = 12,
}

/// One or more messages, ready to be sent.
#[derive(Debug, Default, Clone)]
pub struct Messages {
    bytes: Vec<u8>,
    start: usize,
    is_too_long: bool,
}

impl Messages {
    /// Begins a message; what is written next belongs to it.
    pub fn begin(&mut self, kind: u16, flags: u16, sequence: u32, fixed: &[u8]) -> &mut Self {
        self.end();
        self.start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(fixed);
        self.align();
        self
    }

    /// Writes an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = self.length(value.len() + 4);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.align();
        self
    }

    /// Writes a text attribute, with the zero at its end that the kernel wants.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Writes a number as netfilter takes it: in network order.
    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// Writes an attribute of attributes.
    pub fn nested(&mut self, kind: u16, inner: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.attribute(kind | NESTED, &[]);
        inner(self);
        let length = self.length(self.bytes.len() - start);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// What is too long to be said is not sent.
    fn length(&mut self, length: usize) -> u16 {
        u16::try_from(length).unwrap_or_else(|_| {
            self.is_too_long = true;
            u16::MAX
        })
    }

    /// All messages, as they go to the kernel.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.end();
        self.bytes
    }

    fn end(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.start).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(self.start..self.start + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// A connection to one part of the kernel, in the network namespace of the thread that opened it.
pub struct Connection(Socket);

/// One message of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A request was carried out.
    Done {
        /// Which one.
        sequence: u32,
    },
    /// A request was refused.
    Refused {
        /// Which one.
        sequence: u32,
        /// The kernel's reason, as a number of errno.
        errno: i32,
        /// The kernel's words, where it has any.
        message: Option<String>,
        /// Which byte of the request it is about.
        offset: Option<u32>,
    },
    /// Something that was asked for: what follows the header.
    Object {
        /// Which request it answers.
        sequence: u32,
        /// The message's type.
        kind: u16,
        /// Its content.
        body: Vec<u8>,
    },
}

impl Connection {
    /// Opens one.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let mut socket = Socket::new(protocol as isize)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Both only make errors say more.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        // The kernel carries requests out while they are sent: what it has to say is there by then.
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Sends messages at once.
    pub fn send(&self, messages: Messages) -> io::Result<()> {
        if messages.is_too_long {
            let told = "an attribute is longer than netlink can say";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
        }
        let bytes = messages.into_bytes();
        if bytes.len() > USUAL_BUFFER {
            // The messages of a transaction go in one piece, with the kernel's own notes beside them.
            set_socket_send_buffer_size_force(&self.0, bytes.len().saturating_mul(2))?;
        }
        match self.0.send(&bytes, 0)? {
            sent if sent == bytes.len() => Ok(()),
            _ => Err(io::Error::other("the kernel took only a part of the messages")),
        }
    }

    /// The next answers; an error of kind `WouldBlock` when there are no more.
    pub fn receive(&self) -> io::Result<Vec<Answer>> {
        let (bytes, from) = self.0.recv_from_full()?;
        match from.port_number() {
            0 => parse(&bytes).ok_or_else(|| io::Error::other("the kernel's answer is cut")),
            _ => Err(io::Error::other("an answer came from another process")),
        }
    }

    /// Sends one request that wants an acknowledgement, and waits for it.
    pub fn ask(&self, messages: Messages) -> io::Result<()> {
        self.send(messages)?;
        for answer in self.receive()? {
            match answer {
                Answer::Done { .. } => return Ok(()),
                Answer::Refused { errno, .. } => return Err(io::Error::from_raw_os_error(errno)),
                Answer::Object { .. } => {}
            }
        }
        Err(io::Error::other("the kernel did not say what became of a request"))
    }

    /// Asks for all objects of a type: type and content of each.
    pub fn list(&self, messages: Messages) -> io::Result<Vec<(u16, Vec<u8>)>> {
        self.send(messages)?;
        let mut objects = Vec::new();
        loop {
            for answer in self.receive()? {
                match answer {
                    Answer::Done { .. } => return Ok(objects),
                    Answer::Refused { errno, .. } => {
                        return Err(io::Error::from_raw_os_error(errno));
                    }
                    Answer::Object { kind, body, .. } => objects.push((kind, body)),
                }
            }
        }
    }
}

/// Reads the attributes behind the fixed part of a message; those that are cut are left out.
#[must_use]
pub fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) {
        let length = usize::from(length);
        let Some(value) = bytes.get(4..length) else { break };
        found.push((kind & !NESTED, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn parse(mut bytes: &[u8]) -> Option<Vec<Answer>> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..length)?;
        let (kind, flags, sequence) = (u16_at(bytes, 4)?, u16_at(bytes, 6)?, u32_at(bytes, 8)?);
        answers.push(match kind {
            ERROR => error(sequence, flags, body)?,
            DONE => Answer::Done { sequence },
            _ => Answer::Object { sequence, kind, body: body.to_vec() },
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(answers)
}

fn error(sequence: u32, flags: u16, body: &[u8]) -> Option<Answer> {
    let errno = u32_at(body, 0)?.cast_signed().checked_neg()?;
    if errno == 0 {
        return Some(Answer::Done { sequence });
    }
    let mut answer = Answer::Refused { sequence, errno, message: None, offset: None };
    let Answer::Refused { message, offset, .. } = &mut answer else { return None };
    if flags & FLAG_ACK_ATTRIBUTES != 0 {
        let request = match flags & FLAG_CAPPED {
            0 => usize::try_from(u32_at(body, 4)?).ok()?.next_multiple_of(4),
            _ => HEADER,
        };
        for (kind, value) in attributes(body.get(4 + request..).unwrap_or_default()) {
            match kind {
                ACK_MESSAGE => {
                    let text = value.strip_suffix(&[0]).unwrap_or(value);
                    *message = Some(String::from_utf8_lossy(text).into_owned());
                }
                ACK_OFFSET => *offset = u32_at(value, 0),
                _ => {}
            }
        }
    }
    Some(answer)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
