//! The data plane of one pod whose connections are led here.

use std::{collections::BTreeSet, io, net::TcpListener, sync::Arc};

use tokio::sync::watch;

use crate::{
    Sockets, Witness, World,
    front::{Front, Pod},
    inbound::Inbound,
    outbound::{self, Outbound},
    shared::{Shared, Side, adopt},
};

/// What it is made of.
#[derive(Debug)]
pub struct CapturedParts {
    /// `NAMESPACE/NAME` of the pod, for the access log.
    pub name: Arc<str>,
    /// What decides; as long as that is nothing, nothing is let through.
    pub world: watch::Receiver<Option<Arc<World>>>,
    /// Makes sockets in the pod's network.
    pub sockets: Arc<dyn Sockets>,
    /// What others send to the pod is led there, and the local address of a connection is where it was going (`TPROXY`).
    pub inbound: Vec<TcpListener>,
    /// What the pod sends is led there, and the system knows where it was going (`REDIRECT`).
    pub outbound: Vec<TcpListener>,
    /// What is seen of its calls.
    pub seen: Arc<Witness>,
}

/// A pod whose connections are led here, until it is stopped; when this is dropped, everything is cut at once.
pub struct Captured {
    shared: Arc<Shared>,
}

impl Captured {
    /// Serves it, on the runtime that this is called on.
    pub fn start(parts: CapturedParts) -> io::Result<Self> {
        let CapturedParts { name, world, sockets, inbound, outbound, seen } = parts;
        let own_ports: BTreeSet<u16> = inbound
            .iter()
            .chain(&outbound)
            .map(|socket| Ok(socket.local_addr()?.port()))
            .collect::<io::Result<_>>()?;
        let shared = Shared::new(world, seen, sockets);
        let pod = Pod { name: Arc::clone(&name), own_ports: own_ports.clone() };
        let called = Inbound::new(Front::Pod(pod), Arc::clone(&shared));
        let front = outbound::Front::Pod(name, own_ports);
        let calls = Outbound::new(front, Arc::clone(&shared));
        let inbound = inbound.into_iter().map(|socket| (socket, Side::In(Arc::clone(&called))));
        let outbound = outbound.into_iter().map(|socket| (socket, Side::Out(Arc::clone(&calls))));
        let sides: Vec<_> = inbound
            .chain(outbound)
            .map(|(socket, side)| Ok((adopt(socket)?, side)))
            .collect::<io::Result<_>>()?;
        for (socket, side) in sides {
            shared.spawn(Arc::clone(&shared).serve(socket, side));
        }
        drop(shared.retire());
        Ok(Self { shared })
    }

    /// Takes nothing new, gives what is open 20 seconds, and ends.
    pub async fn stop(self) {
        self.shared.drain().await;
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.kill.cancel();
    }
}
