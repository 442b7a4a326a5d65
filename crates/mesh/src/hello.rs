//! How a connection begins, told from its first bytes without taking them: TLS that asks for this proxy, or anything else.
//!
//! Who wants the proxy says so by ALPN. A client hello that asks for other protocols, or for none, is the application's own TLS, and what
//! is no client hello is whatever it is. Nothing is believed of what is read here: who is somebody is proven by the handshake.

/// The bytes that are looked at: a client hello of ours with hybrid key exchange is shorter than 2 KiB.
pub const HELLO_MAX: usize = 16 * 1024;

/// The record of a handshake.
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const ALPN: u16 = 16;
const RECORD_HEAD: usize = 5;
const RECORD_MAX: usize = 16 * 1024;
const MESSAGE_HEAD: usize = 4;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// It cannot be told yet.
    More,
    /// A client hello, with the protocols that it asks for.
    Hello(Vec<Box<[u8]>>),
    /// Anything else.
    Other,
}

impl Beginning {
    /// Tells it from the first bytes. With [`HELLO_MAX`] bytes or more it is always told.
    pub fn of(bytes: &[u8]) -> Self {
        let is_long = bytes.len() >= HELLO_MAX;
        match message(bytes.get(..HELLO_MAX).unwrap_or(bytes)) {
            Ok(message) => protocols(&message).map_or(Self::Other, Self::Hello),
            Err(Short::More) if !is_long => Self::More,
            Err(Short::More | Short::Other) => Self::Other,
        }
    }
}

/// Why there is no whole message.
enum Short {
    More,
    Other,
}

/// The client hello without its head, from as many records as it is in.
fn message(mut bytes: &[u8]) -> Result<Vec<u8>, Short> {
    let mut message = Vec::new();
    loop {
        // Whatever is seen of a head must be one.
        let is_head = |at: usize, fits: fn(u8) -> bool| bytes.get(at).is_none_or(|it| fits(*it));
        if !is_head(0, |it| it == HANDSHAKE)
            || !is_head(1, |it| it == 3)
            || !is_head(2, |it| it < 5)
        {
            return Err(Short::Other);
        }
        let Some((&[_, _, _, high, low], rest)) = bytes.split_first_chunk::<RECORD_HEAD>() else {
            return Err(Short::More);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > RECORD_MAX {
            return Err(Short::Other);
        }
        let part = rest.get(..length).unwrap_or(rest);
        message.extend_from_slice(part);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Short::Other);
        }
        if let Some(&[_, a, b, c]) = message.first_chunk::<MESSAGE_HEAD>() {
            let length = u32::from_be_bytes([0, a, b, c]);
            let length = usize::try_from(length).map_err(|_| Short::Other)?;
            if length > HELLO_MAX {
                return Err(Short::Other);
            }
            if let Some(whole) = message.get(MESSAGE_HEAD..MESSAGE_HEAD + length) {
                return Ok(whole.to_vec());
            }
        }
        bytes = rest.get(length..).ok_or(Short::More)?;
    }
}

/// The protocols that a client hello asks for; none where it is not one.
fn protocols(message: &[u8]) -> Option<Vec<Box<[u8]>>> {
    let mut rest = Rest(message);
    rest.take(2 + 32)?;
    for wide in [false, true, false] {
        // The session, the cipher suites, the compression.
        if wide {
            rest.wide()?
        } else {
            rest.short()?
        };
    }
    if rest.0.is_empty() {
        return Some(Vec::new());
    }
    let mut extensions = Rest(rest.wide()?);
    let mut found: Option<Vec<Box<[u8]>>> = None;
    while !extensions.0.is_empty() {
        let kind = u16::from_be_bytes(extensions.take(2)?.try_into().ok()?);
        let mut body = Rest(extensions.wide()?);
        if kind != ALPN {
            continue;
        }
        // What is said twice is not said.
        if found.is_some() {
            return None;
        }
        let mut names = Rest(body.wide()?);
        let mut all = Vec::new();
        while !names.0.is_empty() {
            all.push(names.short()?.into());
        }
        found = Some(all);
    }
    rest.0.is_empty().then(|| found.unwrap_or_default())
}

/// What is left of bytes.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Behind a length of one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(length.into())
    }

    /// Behind a length of two bytes.
    fn wide(&mut self) -> Option<&'a [u8]> {
        let length = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests;
