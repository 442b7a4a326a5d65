//! A call to a Service of another cluster: a tunnel to a gateway there, and inside it mutual TLS with who is behind the Service.
//!
//! The gateway learns which Service is called, and by a workload of which identity the tunnel was opened. What is said inside it can
//! neither read nor answer: the destination proves its own identity, and learns that of the caller.

use std::{net::SocketAddr, sync::Arc};

use nullius_model::Timestamp;
use nullius_tls::{WorkloadPeer, WorkloadStream};

use super::{Outbound, Refused};
use crate::{
    Via, World,
    access_log::{Attempt, Why},
    inbound::{chain, why},
    pool::{DialError, Key, Lease},
    stream_io::StreamIo,
    tunnel::{ALPN_GATEWAY, ALPN_TLS},
};

/// A way through a gateway that is open.
pub(super) struct Through {
    pub(super) stream: Box<WorkloadStream<StreamIo>>,
    pub(super) living: Living,
}

/// What a call through a gateway lives by.
pub(super) struct Living {
    /// The place in the tunnel to the gateway.
    lease: Lease,
    /// Who has proven to be behind the Service, and the generation of bundles by which that was.
    peer: WorkloadPeer,
    generation: u64,
    gateway: SocketAddr,
    via: Arc<Via>,
    /// The address that was called; none of an upstream that somebody wrote, which stays as it is.
    called: Option<SocketAddr>,
}

impl Outbound {
    /// Opens a way through the gateway at an address.
    pub(super) async fn through(
        &self,
        world: &World,
        gateway: SocketAddr,
        via: &Arc<Via>,
        called: Option<SocketAddr>,
    ) -> Result<Through, Refused> {
        let outer = self.connector(world, ALPN_GATEWAY, &via.gateway_ids)?;
        let key = Key {
            source: world.tls.id().clone(),
            expected: Arc::clone(&via.gateway_ids),
            to: gateway,
            from: None,
            protocol: ALPN_GATEWAY,
        };
        let (send, recv, lease) = self.asked(world, &key, &via.service.to_string(), &outer).await?;
        let inner = self.connector(world, ALPN_TLS, &via.expect)?;
        let inside = inner.connect_inside(StreamIo::new(send, recv), gateway.ip()).await;
        let (stream, peer) =
            inside.map_err(|error| DialError { why: why(&error), detail: chain(&error) })?;
        let (via, generation) = (Arc::clone(via), world.generation);
        let living = Living { lease, peer, generation, gateway, via, called };
        Ok(Through { stream: Box::new(stream), living })
    }
}

impl Living {
    /// What is proven of it, for the access log.
    pub(super) fn tell(&self, attempt: &mut Attempt) {
        attempt.gateway = Some(self.lease.peer().id.clone());
        attempt.destination = Some(self.peer.id.clone());
    }

    /// Whether both are still proven, and the Service is still reached so.
    pub(super) fn still(&self, world: &World) -> Result<Option<Timestamp>, Why> {
        let is_proven = |peer, generation| {
            generation == world.generation || world.tls.still_proves(peer).is_ok()
        };
        if !is_proven(self.lease.peer(), self.lease.generation())
            || !is_proven(&self.peer, self.generation)
        {
            return Err(Why::NoLongerProven);
        }
        let Some(called) = self.called else { return Ok(None) };
        match world.directory.service(called).and_then(|it| it.via.clone()) {
            Some(now) if Arc::ptr_eq(&now, &self.via) => Ok(None),
            Some(now) => match now.service == self.via.service
                && now.gateways.contains(&self.gateway)
                && now.gateway_ids.contains(&self.lease.peer().id)
                && now.expect.contains(&self.peer.id)
            {
                true => Ok(None),
                false => Err(Why::OtherPod),
            },
            None => Err(Why::NotExported),
        }
    }
}
