//! The way to the application. Where it is reached with the client's own address, the port is chosen here.
//!
//! It cannot be the client's own port: the application would have the same four numbers as the connection that was accepted for
//! it. Nor is it one that the client's system may take for its next connection (ephemeral ports begin at 32768), for the same reason.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use nullius_tls::tcp::prepare;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{Sockets, shared::Shared};

/// How long the application may take to accept.
const CONNECT: Duration = Duration::from_secs(5);
const FIRST: u16 = 1_024;
const LAST: u16 = 32_767;
/// Ports that are tried: some may be in use, or not long gone.
const TRIES: usize = 64;

/// The port that is tried next.
#[derive(Debug)]
pub(crate) struct Ports(AtomicU16);

impl Default for Ports {
    /// Begins anywhere: another process may have been here before.
    fn default() -> Self {
        Self(AtomicU16::new((random() & 0xffff) as u16))
    }
}

impl Ports {
    /// The next one that is not the client's own.
    fn next(&self, client: u16) -> u16 {
        loop {
            let next = FIRST + self.0.fetch_add(1, Ordering::Relaxed) % (LAST - FIRST + 1);
            if next != client {
                return next;
            }
        }
    }
}

/// Reaches the application for a client.
pub(crate) async fn reach(
    shared: &Shared,
    client: SocketAddr,
    to: SocketAddr,
) -> io::Result<TcpStream> {
    timeout(CONNECT, dial(shared, client, to)).await?
}

async fn dial(shared: &Shared, client: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let mut tries = 0;
    loop {
        tries += 1;
        let from = SocketAddr::new(client.ip(), shared.ports.next(client.port()));
        let dialled = match shared.sockets.connect_in(from, to) {
            Ok(socket) => socket.connect(to).await,
            Err(error) => Err(error),
        };
        match dialled {
            Ok(tcp) => {
                prepare(&tcp);
                return Ok(tcp);
            }
            Err(error) if is_taken(&error) && tries < TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

/// Connects by a socket that is not led back, from an address where one is given.
pub(crate) async fn go_out(
    sockets: &dyn Sockets,
    to: SocketAddr,
    from: Option<std::net::IpAddr>,
    patience: Duration,
) -> io::Result<TcpStream> {
    let socket: TcpSocket = sockets.connect_out(to)?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let tcp = timeout(patience, socket.connect(to)).await??;
    prepare(&tcp);
    Ok(tcp)
}

/// A number to spread load by; nothing secret is made of it.
pub(crate) fn random() -> u32 {
    u32::from_le_bytes(nullius_pki::random_bytes::<4>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_go_round_below_the_ephemeral_ones_and_leave_out_the_clients_own() {
        let ports = Ports(AtomicU16::new(u16::MAX - 40_000));
        for client in [0, FIRST, 2_000, LAST, 40_000] {
            for _ in 0..40_000 {
                let port = ports.next(client);
                assert!((FIRST..=LAST).contains(&port) && port != client, "{port}");
            }
        }
    }
}
