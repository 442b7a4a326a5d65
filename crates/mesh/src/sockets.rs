//! Where sockets come from: this process's own network, or that of a pod.

use std::{fmt, io, net::SocketAddr};

use tokio::net::TcpSocket;

/// Makes the sockets by which a proxy reaches others. None of them may be led back to the proxy.
pub trait Sockets: Send + Sync {
    /// One for an address, not connected: what leaves by it is not led through the proxy again.
    fn connect_out(&self, to: SocketAddr) -> io::Result<TcpSocket>;

    /// One for the application, not connected, bound to exactly `from`: the client's address, which is not of this machine, and a
    /// port that the proxy chose. `AddrInUse` makes it choose another.
    fn connect_in(&self, from: SocketAddr, to: SocketAddr) -> io::Result<TcpSocket>;

    /// Who of the node has called from `client` to `at`: what the node translates for others has its address as well. Where nobody can
    /// say, the node does not call.
    fn caller(&self, client: SocketAddr, at: SocketAddr) -> Caller {
        let (_, _) = (client, at);
        Caller::Unknown
    }
}

/// Who of a node has called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A process of its user 0, as the kubelet is.
    Root,
    /// Somebody there who has closed by now: it is not known any more who it was, and there is nothing to say to them.
    Left,
    /// Somebody else.
    Unknown,
}

impl fmt::Debug for dyn Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sockets")
    }
}

/// Those of this process's own network. The application is reached from the proxy's own address.
#[derive(Debug)]
pub(crate) struct OwnNetwork;

impl Sockets for OwnNetwork {
    fn connect_out(&self, to: SocketAddr) -> io::Result<TcpSocket> {
        match to.is_ipv4() {
            true => TcpSocket::new_v4(),
            false => TcpSocket::new_v6(),
        }
    }

    fn connect_in(&self, _: SocketAddr, to: SocketAddr) -> io::Result<TcpSocket> {
        self.connect_out(to)
    }
}
