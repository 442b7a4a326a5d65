//! A call to a Service of another cluster: a tunnel to a gateway there, and inside it mutual TLS with who is behind the Service.
//!
//! The gateway learns which Service is called, and by a workload of which identity the tunnel was opened. What is said inside it can
//! neither read nor answer: the destination proves its own identity, and learns that of the caller.

use std::{net::SocketAddr, sync::Arc};

use futures::future::BoxFuture;
use http::StatusCode;
use nullius_model::Timestamp;
use nullius_tls::{WorkloadConnector, WorkloadPeer, WorkloadStream};
use tokio::time::timeout;

use super::{ANSWER, Outbound, Refused, begin, refusal};
use crate::{
    Via, World,
    access_log::{Attempt, Why},
    inbound::{chain, why},
    live::Judge,
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
        let inner = self.connector(world, ALPN_TLS, &via.expect)?;
        let authority = via.service.to_string();
        let spawn = |task: BoxFuture<'static, ()>| self.shared.spawn(task);
        loop {
            let lease = self.shared.pool.lease(&key, world.generation, &outer, spawn).await?;
            let failed = match self.inside(&lease, &authority, &inner, gateway).await {
                Ok((stream, peer)) => {
                    let (via, generation) = (Arc::clone(via), world.generation);
                    let living = Living { lease, peer, generation, gateway, via, called };
                    return Ok(Through { stream: Box::new(stream), living });
                }
                Err(Failed::Answered(refused)) => return Err(refused),
                Err(Failed::Tunnel(detail)) => detail,
            };
            // Nobody answers in it: a tunnel that broke while nobody used it is dialled anew, once.
            lease.give_up();
            if !lease.is_reused {
                return Err(DialError { why: Why::TunnelFailed, detail: failed }.into());
            }
        }
    }

    /// Asks a gateway for the Service, and does the handshake with who is behind it. The client hello goes with the question: a gateway
    /// leads nothing else on.
    async fn inside(
        &self,
        lease: &Lease,
        authority: &str,
        inner: &WorkloadConnector,
        gateway: SocketAddr,
    ) -> Result<(WorkloadStream<StreamIo>, WorkloadPeer), Failed> {
        let begun = timeout(ANSWER, begin(lease, authority)).await;
        let (response, send) = begun
            .unwrap_or_else(|_| Err("no stream can begin in it".to_owned()))
            .map_err(Failed::Tunnel)?;
        let (io, answer) = StreamIo::asked(send, response);
        let error = match inner.connect_inside(io, gateway.ip()).await {
            Ok(proven) => return Ok(proven),
            Err(error) => error,
        };
        let detail = chain(&error);
        Err(match answer.get() {
            None => Failed::Tunnel(detail),
            Some((StatusCode::OK, _)) => {
                Failed::Answered(DialError { why: why(&error), detail }.into())
            }
            Some((status, headers)) => Failed::Answered(refusal(*status, headers)),
        })
    }
}

/// Why there is no way through.
enum Failed {
    /// The gateway has answered: it is not for the tunnel.
    Answered(Refused),
    Tunnel(String),
}

/// A call through a gateway that lives, and by what it was judged last.
pub(super) struct Judged<'l> {
    living: &'l Living,
    /// None before the first look, which judges.
    by: Option<Arc<World>>,
}

impl Judged<'_> {
    /// Whether two worlds say the same about it.
    fn is_same(&self, one: &World, other: &World) -> bool {
        let via = |world: &World| {
            self.living.called.and_then(|called| world.directory.service(called)?.via.clone())
        };
        one.generation == other.generation
            && Arc::ptr_eq(&one.tls, &other.tls)
            && (Arc::ptr_eq(&one.directory, &other.directory) || via(one) == via(other))
    }
}

impl Judge for Judged<'_> {
    fn is_as_before(&mut self, world: &Arc<World>) -> bool {
        let is_as_before = self.by.as_ref().is_some_and(|by| self.is_same(by, world));
        if is_as_before {
            // What is of before is let go.
            self.by = Some(Arc::clone(world));
        }
        is_as_before
    }

    fn judge(&mut self, world: &Arc<World>) -> Result<Option<Timestamp>, Why> {
        self.by = Some(Arc::clone(world));
        self.living.still(world)
    }
}

impl Living {
    /// What is proven of it, for the access log.
    pub(super) fn tell(&self, attempt: &mut Attempt) {
        attempt.gateway = Some(self.lease.peer().id.clone());
        attempt.destination = Some(self.peer.id.clone());
    }

    /// Judges it for as long as it lives.
    pub(super) fn judge(&self) -> Judged<'_> {
        Judged { living: self, by: None }
    }

    /// Whether both are still proven, and the Service is still reached so.
    fn still(&self, world: &World) -> Result<Option<Timestamp>, Why> {
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
