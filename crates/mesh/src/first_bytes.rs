//! Looks at the first bytes of a connection, and leaves them where they are: whoever is given the connection reads them.

use std::{io, time::Duration};

use nullius_tls::HANDSHAKE_TIMEOUT;
use rustix::net::{RecvFlags, recv};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::hello::{Beginning, HELLO_MAX};

/// How long it is waited for a client that may be waiting for the server.
pub(crate) const SILENCE: Duration = Duration::from_millis(200);
/// Bytes that are looked at first.
const LITTLE: usize = 2 * 1024;
/// Who sends fewer bytes at once than these is looked at again after a while: each look reads everything from the beginning.
pub(crate) const PIECE: usize = 64;
pub(crate) const WHILE: Duration = Duration::from_millis(20);

/// How a connection begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// With a client hello that asks for these protocols.
    Hello(Vec<Box<[u8]>>),
    /// With other bytes, or with none before its end.
    Other,
    /// Nothing came in time.
    Silence,
    /// A client hello that never became whole.
    Unfinished,
}

/// Looks until it can be told how a connection begins; of its first byte no longer than `silence`.
pub(crate) async fn look(tcp: &TcpStream, silence: Duration) -> io::Result<First> {
    let begun = Instant::now();
    let mut seen = 0;
    loop {
        let patience = if seen == 0 { silence } else { HANDSHAKE_TIMEOUT };
        let Ok(ready) = timeout_at(begun + patience, tcp.ready(Interest::READABLE)).await else {
            return Ok(if seen == 0 { First::Silence } else { First::Unfinished });
        };
        let is_closed = ready?.is_read_closed();
        // What was seen already is no news: to wait for more the system must hear that there is none.
        let peeked = tcp.try_io(Interest::READABLE, || match peek(tcp)? {
            (count, _) if count == seen && !is_closed => Err(io::ErrorKind::WouldBlock.into()),
            (count, beginning) => Ok((count, beginning)),
        });
        match peeked {
            Ok((_, Beginning::Hello(protocols))) => return Ok(First::Hello(protocols)),
            Ok((_, Beginning::Other)) => return Ok(First::Other),
            // No more will come.
            Ok((_, Beginning::More)) if is_closed => return Ok(First::Other),
            Ok((count, Beginning::More)) => {
                if count < seen + PIECE {
                    tokio::time::sleep(WHILE).await;
                }
                seen = count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Looks at what has come, as far as it matters; nothing of it is kept.
fn peek(tcp: &TcpStream) -> io::Result<(usize, Beginning)> {
    #[cfg(test)]
    tests::LOOKED.with(|looked| looked.set(looked.get() + 1));
    let mut bytes = vec![0; LITTLE];
    loop {
        let (_, count) = recv(tcp, bytes.as_mut_slice(), RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        if count < bytes.len() || count >= HELLO_MAX {
            let bytes = bytes.get(..count).unwrap_or_default();
            return Ok((count, Beginning::of(bytes)));
        }
        bytes.resize(HELLO_MAX, 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    thread_local! {
        /// How often somebody has looked.
        pub(super) static LOOKED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_are_told_and_still_there() {
        let (mut client, mut server) = pair().await;
        client.set_nodelay(true).unwrap();
        let beginning = b"\x16\x03\x01\0\x06\x01\0\0\x04abcX";
        let writer = tokio::spawn(async move {
            for byte in beginning {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            client
        });
        // A hello of four bytes is none.
        assert_eq!(look(&server, HANDSHAKE_TIMEOUT).await.unwrap(), First::Other);
        drop(writer.await.unwrap());
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, beginning);
    }

    #[tokio::test]
    async fn who_sends_a_hello_byte_by_byte_is_looked_at_now_and_then() {
        let (mut client, server) = pair().await;
        client.set_nodelay(true).unwrap();
        let writer = tokio::spawn(async move {
            client.write_all(b"\x16\x03\x01\x40\0\x01\0\x3f\xfc").await.unwrap();
            for _ in 0..2_000 {
                client.write_all(b"a").await.unwrap();
                tokio::task::yield_now().await;
            }
            client
        });
        let looked = LOOKED.with(std::cell::Cell::get);
        let begun = Instant::now();
        let seen = tokio::time::timeout(SILENCE, look(&server, SILENCE)).await;
        assert!(seen.is_err(), "it is not whole: {seen:?}");
        let looks = LOOKED.with(std::cell::Cell::get) - looked;
        let most = begun.elapsed().as_millis() / WHILE.as_millis() + 2_000 / PIECE as u128 + 4;
        assert!(u128::from(looks) <= most, "{looks} looks, {most} at most");
        drop(writer.await.unwrap());
    }

    #[tokio::test]
    async fn who_says_nothing_is_not_waited_for_and_who_ends_is_told() {
        let (client, server) = pair().await;
        let begun = Instant::now();
        assert_eq!(look(&server, SILENCE).await.unwrap(), First::Silence);
        assert!(begun.elapsed() >= SILENCE);
        drop(client);
        assert_eq!(look(&server, HANDSHAKE_TIMEOUT).await.unwrap(), First::Other);
        let (mut client, server) = pair().await;
        client.write_all(b"\x16\x03\x01").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(look(&server, HANDSHAKE_TIMEOUT).await.unwrap(), First::Other);
        assert!(begun.elapsed() < HANDSHAKE_TIMEOUT, "it was waited for what cannot come");
    }

    #[tokio::test]
    async fn a_hello_that_never_ends_is_given_up_and_costs_no_turns() {
        let (mut client, server) = pair().await;
        client.write_all(b"\x16\x03\x01\x02\0\x01").await.unwrap();
        server.readable().await.unwrap();
        tokio::time::pause();
        assert_eq!(look(&server, SILENCE).await.unwrap(), First::Unfinished);
    }
}
