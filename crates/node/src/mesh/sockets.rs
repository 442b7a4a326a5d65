//! Sockets in a pod's network, as the data plane asks for them.

use std::{io, net::SocketAddr, sync::Arc};

use nullius_mesh::{Caller, HostSockets, Sockets};
use nullius_redirect::{Mark, Network};
use tokio::net::TcpSocket;

/// Those of one pod.
pub(crate) struct PodSockets {
    pub(crate) network: Arc<Network>,
    pub(crate) mark: Mark,
    /// Those of the host.
    pub(crate) host: Option<Arc<HostSockets>>,
}

impl Sockets for PodSockets {
    fn connect_out(&self, to: SocketAddr) -> io::Result<TcpSocket> {
        Ok(TcpSocket::from_std_stream(self.network.connect_out(self.mark, to)?.into()))
    }

    fn connect_in(&self, from: SocketAddr, _: SocketAddr) -> io::Result<TcpSocket> {
        Ok(TcpSocket::from_std_stream(self.network.connect_in(from)?.into()))
    }

    fn caller(&self, client: SocketAddr, at: SocketAddr) -> Caller {
        self.host.as_ref().map_or(Caller::Unknown, |host| host.caller(client, at))
    }
}
