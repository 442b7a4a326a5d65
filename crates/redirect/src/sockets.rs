//! Sockets in a pod's network that belong to a process outside of it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{INBOUND_PORT, Mark, Network, OUTBOUND_PORT, RedirectError, plan::BORROWED};

const BACKLOG: i32 = 4096;
/// What a pod without IPv6 says: unknown to the kernel, or turned off.
const NO_IPV6: [i32; 2] = [97, 99];

/// Where the proxy takes what is led to it; one of each for each family that the pod has.
#[derive(Debug)]
pub struct Listeners {
    /// What comes to the pod; the local address of an accepted connection is the one that was called.
    pub inbound: Vec<TcpListener>,
    /// What the pod sends; whom it called says the table of connections (`SO_ORIGINAL_DST`).
    pub outbound: Vec<TcpListener>,
}

impl Network {
    /// Listens for what is led. Nothing is taken from who listened before: they must have ended.
    pub fn listen(&self, mark: Mark) -> Result<Listeners, RedirectError> {
        let listen = |port: u16, transparent: Option<Mark>, v4: Ipv4Addr, v6: Ipv6Addr| {
            let v4 = SocketAddr::new(IpAddr::V4(v4), port);
            let v6 = SocketAddr::new(IpAddr::V6(v6), port);
            self.inside(|| {
                let mut listeners = vec![listener(v4, transparent)?];
                match listener(v6, transparent) {
                    Ok(listener) => listeners.push(listener),
                    Err(error) if error.raw_os_error().is_some_and(|e| NO_IPV6.contains(&e)) => {}
                    Err(error) => return Err(error),
                }
                Ok(listeners)
            })
            .map_err(|source| RedirectError::Listen { port, source })
        };
        let (any4, any6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
        Ok(Listeners {
            inbound: listen(INBOUND_PORT, Some(mark), any4, any6)?,
            outbound: listen(OUTBOUND_PORT, None, Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)?,
        })
    }

    /// A socket for a call of the proxy to the outside, which is not led to the proxy again; not yet connected.
    pub fn connect_out(&self, mark: Mark, to: SocketAddr) -> io::Result<Socket> {
        self.inside(|| {
            let socket = new_socket(to)?;
            socket.set_mark(mark.0)?;
            Ok(socket)
        })
    }

    /// A socket for a call of the proxy to the application in the name of a client, bound to the client's address; not yet connected.
    ///
    /// The port must be none that the client calls this pod from: the application's end of the call would have the same four numbers
    /// as the connection that the proxy took from the client.
    pub fn connect_in(&self, from: SocketAddr) -> io::Result<Socket> {
        self.inside(|| {
            let socket = new_socket(from)?;
            borrow(&socket, from.is_ipv6())?;
            socket.bind(&from.into())?;
            Ok(socket)
        })
    }
}

/// Lets a socket be bound to any address. It reaches nobody but the pod then: what has this mark is delivered inside.
pub(crate) fn borrow(socket: &Socket, is_ipv6: bool) -> io::Result<()> {
    make_transparent(socket, is_ipv6)?;
    socket.set_mark(BORROWED)?;
    // A call that has ended keeps its port for a minute from others, and not from a next call of ours: without, one address would have as
    // many calls in a minute as there are ports.
    socket.set_reuse_address(true)
}

fn listener(at: SocketAddr, transparent: Option<Mark>) -> io::Result<TcpListener> {
    let socket = new_socket(at)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier process that are still being closed are no hindrance.
    socket.set_reuse_address(true)?;
    if let Some(mark) = transparent {
        make_transparent(&socket, at.is_ipv6())?;
        // Accepted connections have it too.
        socket.set_mark(mark.0)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn new_socket(of: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::new(Domain::for_address(of), kind, Some(Protocol::TCP))
}

fn make_transparent(socket: &Socket, is_ipv6: bool) -> io::Result<()> {
    match is_ipv6 {
        false => socket.set_ip_transparent_v4(true),
        true => socket.set_ip_transparent_v6(true),
    }
}
