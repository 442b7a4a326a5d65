//! Sockets of the machine's own network: the only proof that a call which comes from a node's address was made by the node.
//!
//! What a node translates for others has its address as well, but no socket there.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto,
    netlink::{SOCK_DIAG, SocketAddrNetlink},
    recv, send, socket_with,
};

use crate::Caller;

/// The header of a message: length, type, flags, sequence, port.
const HEADER: usize = 16;
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const BY_FAMILY: u16 = 20;
const NOT_FOUND: i32 = 2;
/// States of TCP in which the one who called may still say something.
const SPEAKS: [u8; 4] = [1, 4, 5, 8];
/// It is being closed, or was just now: `TIME_WAIT`, `LAST_ACK`, `CLOSING`.
const ENDS: [u8; 3] = [6, 9, 11];
const INET: u8 = 2;
const INET6: u8 = 10;

/// The sockets of the network of the thread that opened this. To ask for one costs the same however many there are.
#[derive(Debug)]
pub struct HostSockets {
    kernel: Mutex<Kernel>,
}

#[derive(Debug)]
struct Kernel {
    socket: OwnedFd,
    sequence: u32,
}

/// A socket, by its four numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    state: u8,
    user: u32,
    /// 0 where no process has it any more.
    inode: u32,
}

impl HostSockets {
    /// Opens them; the error says also when the kernel does not tell of sockets at all.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG))?;
        // From then on nobody but the kernel answers.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        let opened = Self { kernel: Mutex::new(Kernel { socket, sequence: 0 }) };
        // The kernel says of what it does not know the same as of a socket that is not there.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let one = TcpStream::connect(listener.local_addr()?)?;
        match opened.find(one.local_addr()?, one.peer_addr()?)? {
            Some(_) => Ok(opened),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Who of this machine has called from `client` to `at`.
    #[must_use]
    pub fn caller(&self, client: SocketAddr, at: SocketAddr) -> Caller {
        match self.find(client, at) {
            Ok(found) => found.map_or(Caller::Unknown, Found::caller),
            Err(error) => {
                tracing::warn!(%error, "cannot see whether the node itself calls");
                Caller::Unknown
            }
        }
    }

    fn find(&self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Found>> {
        let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        kernel.sequence = kernel.sequence.wrapping_add(1);
        let sequence = kernel.sequence;
        send(&kernel.socket, &request(sequence, local, remote), SendFlags::empty())?;
        loop {
            // The kernel carries a request out while it is sent: its answer is there by then.
            let mut answer = [0; 4096];
            let (length, _) = recv(&kernel.socket, &mut answer, RecvFlags::empty())?;
            let answer = answer.get(..length).unwrap_or_default();
            match number(answer, 8) {
                // What an earlier question left behind.
                Some(of) if of != sequence => {}
                Some(_) => return read(answer),
                None => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

impl Found {
    fn caller(self) -> Caller {
        match self {
            Self { state, inode: 0, .. } if SPEAKS.contains(&state) => Caller::Left,
            Self { state, .. } if ENDS.contains(&state) => Caller::Left,
            // The kernel says user 0 also of what no process has.
            Self { state, user: 0, .. } if SPEAKS.contains(&state) => Caller::Root,
            Self { .. } => Caller::Unknown,
        }
    }
}

/// `inet_diag_req_v2`: one socket, by its four numbers.
fn request(sequence: u32, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = if local.is_ipv4() { INET } else { INET6 };
    let mut body = vec![family, u8::try_from(ipproto::TCP.as_raw().get()).unwrap_or(6), 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(local.port().to_be_bytes());
    body.extend(remote.port().to_be_bytes());
    for address in [local.ip(), remote.ip()] {
        let mut room = [0; 16];
        match address {
            IpAddr::V4(v4) => room[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => room = v6.octets(),
        }
        body.extend(room);
    }
    // Any interface, any cookie.
    body.extend(0_u32.to_ne_bytes());
    body.extend([0xff; 8]);
    let mut message = Vec::with_capacity(HEADER + body.len());
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    message.extend(length.to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// `inet_diag_msg`, or why there is none.
fn read(answer: &[u8]) -> io::Result<Option<Found>> {
    let cut = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = answer.get(4..6).and_then(|it| it.first_chunk()).copied().map(u16::from_ne_bytes);
    let body = answer.get(HEADER..).unwrap_or_default();
    match kind {
        Some(BY_FAMILY) => {
            let state = *body.get(1).ok_or_else(cut)?;
            let user = number(body, 64).ok_or_else(cut)?;
            let inode = number(body, 68).ok_or_else(cut)?;
            Ok(Some(Found { state, user, inode }))
        }
        Some(ERROR) => match number(body, 0).ok_or_else(cut)?.cast_signed().wrapping_neg() {
            NOT_FOUND => Ok(None),
            errno => Err(io::Error::from_raw_os_error(errno)),
        },
        Some(_) | None => Err(cut()),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_socket_is_its_owners_until_it_is_closed_and_a_listener_is_nobodys_call() {
        let sockets = HostSockets::open().unwrap();
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(any) else { continue };
            let at = listener.local_addr().unwrap();
            let client = TcpStream::connect(at).unwrap();
            let (served, from) = listener.accept().unwrap();
            let user = rustix::process::geteuid().as_raw();
            let found = sockets.find(from, at).unwrap().unwrap();
            assert_eq!((found.state, found.user), (1, user));
            let expected = if user == 0 { Caller::Root } else { Caller::Unknown };
            assert_eq!(sockets.caller(from, at), expected);
            // Another port, of either side: there a listener would answer.
            let other = SocketAddr::new(from.ip(), 1);
            assert_eq!(sockets.caller(other, at), Caller::Unknown);
            assert_eq!(sockets.caller(at, other), Caller::Unknown);
            // Who has closed has no process any more, and the kernel says user 0 of everybody's.
            drop(client);
            assert_eq!(sockets.caller(from, at), Caller::Left);
            drop(served);
        }
    }

    #[test]
    fn only_a_socket_that_a_process_of_root_has_is_one_of_the_node() {
        let caller = |state, user, inode| Found { state, user, inode }.caller();
        for (state, caller_is) in [
            (1, Caller::Root),
            (4, Caller::Root),
            (5, Caller::Root),
            (8, Caller::Root),
            // Begun, listening, or half of a handshake.
            (2, Caller::Unknown),
            (3, Caller::Unknown),
            (10, Caller::Unknown),
            (12, Caller::Unknown),
            (6, Caller::Left),
            (9, Caller::Left),
            (11, Caller::Left),
        ] {
            assert_eq!(caller(state, 0, 7), caller_is, "{state}");
            assert_ne!(caller(state, 1_000, 7), Caller::Root, "{state}");
            assert_ne!(caller(state, 0, 0), Caller::Root, "{state}");
        }
    }
}
