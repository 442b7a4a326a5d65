//! Tunnels that are open, and whoever wants a stream in one.
//!
//! A tunnel is for one source, one set of expected IDs, one address and one address to dial from: nothing else shares it. There is
//! one dial at a time for each; all who wait for it hear what came of it. A new SVID or bundle retires what stands: no stream begins
//! in it any more, and it closes with its last one.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use h2::client::SendRequest;
use nullius_model::{SpiffeId, Timestamp};
use nullius_tls::{WorkloadConnector, WorkloadPeer, WorkloadStream};
use tokio::time::{Instant, interval_at};

use crate::{
    Sockets, World,
    access_log::Why,
    inbound::{chain, why},
    reach::go_out,
    tunnel::{self, IDLE, STREAMS},
};

/// How long a destination in the mesh may take to accept.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// Dials for one stream: the first may have been for what is retired meanwhile, or be full when it stands.
const TRIES: usize = 4;

/// What a tunnel is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) source: SpiffeId,
    pub(crate) expected: Arc<[SpiffeId]>,
    pub(crate) to: SocketAddr,
    pub(crate) from: Option<IpAddr>,
    /// The name of the protocol.
    pub(crate) protocol: &'static [u8],
}

/// Why there is no tunnel.
#[derive(Debug, Clone)]
pub(crate) struct DialError {
    pub(crate) why: Why,
    pub(crate) detail: String,
}

impl DialError {
    pub(crate) fn unreachable(error: io::Error) -> Self {
        Self { why: Why::Unreachable, detail: error.to_string() }
    }
}

/// All tunnels of a proxy.
pub(crate) struct Pool {
    sockets: Arc<dyn Sockets>,
    slots: Mutex<HashMap<Key, Slot>>,
}

#[derive(Default)]
struct Slot {
    tunnels: Vec<Arc<Tunnel>>,
    dial: Option<Shared<BoxFuture<'static, Result<(), DialError>>>>,
}

/// An open tunnel.
pub(crate) struct Tunnel {
    sender: SendRequest<Bytes>,
    peer: Arc<WorkloadPeer>,
    generation: u64,
    streams: AtomicUsize,
    begun: AtomicU64,
    is_gone: AtomicBool,
}

/// A place for one stream in a tunnel.
pub(crate) struct Lease {
    tunnel: Arc<Tunnel>,
    /// Whether the tunnel was there before.
    pub(crate) is_reused: bool,
}

impl Lease {
    pub(crate) fn sender(&self) -> SendRequest<Bytes> {
        self.tunnel.sender.clone()
    }

    pub(crate) fn peer(&self) -> &Arc<WorkloadPeer> {
        &self.tunnel.peer
    }

    pub(crate) fn generation(&self) -> u64 {
        self.tunnel.generation
    }

    /// Nobody shall use the tunnel any more.
    pub(crate) fn give_up(&self) {
        self.tunnel.is_gone.store(true, Ordering::Release);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.tunnel.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Tunnel {
    fn is_usable(&self, generation: u64, now: Timestamp) -> bool {
        self.generation == generation
            && now < self.peer.not_after
            && !self.is_gone.load(Ordering::Acquire)
    }
}

impl Pool {
    pub(crate) fn new(sockets: Arc<dyn Sockets>) -> Self {
        Self { sockets, slots: Mutex::default() }
    }

    /// A place in a tunnel of a generation; where there is none, one is dialled, by `spawn` in a task of its own, so that it
    /// comes to an end also when who asked first goes away.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        key: &Key,
        generation: u64,
        connector: &WorkloadConnector,
        spawn: impl Fn(BoxFuture<'static, ()>),
    ) -> Result<Lease, DialError> {
        let mut is_reused = true;
        for _ in 0..TRIES {
            let dial = {
                let mut slots = self.lock();
                let slot = slots.entry(key.clone()).or_default();
                let now = Timestamp::now();
                slot.tunnels.retain(|tunnel| tunnel.is_usable(generation, now));
                let count = |tunnel: &&Arc<Tunnel>| tunnel.streams.load(Ordering::Acquire);
                if let Some(tunnel) = slot.tunnels.iter().find(|tunnel| count(tunnel) < STREAMS) {
                    tunnel.streams.fetch_add(1, Ordering::AcqRel);
                    tunnel.begun.fetch_add(1, Ordering::AcqRel);
                    return Ok(Lease { tunnel: Arc::clone(tunnel), is_reused });
                }
                slot.dial
                    .get_or_insert_with(|| self.dial(key.clone(), generation, connector, &spawn))
                    .clone()
            };
            is_reused = false;
            dial.await?;
        }
        Err(DialError {
            why: Why::TunnelFailed,
            detail: "each tunnel was full or retired before it could be used".to_owned(),
        })
    }

    fn dial(
        self: &Arc<Self>,
        key: Key,
        generation: u64,
        connector: &WorkloadConnector,
        spawn: &impl Fn(BoxFuture<'static, ()>),
    ) -> Shared<BoxFuture<'static, Result<(), DialError>>> {
        let (pool, connector) = (Arc::clone(self), connector.clone());
        let (tell, told) = tokio::sync::oneshot::channel();
        let task = async move {
            let dialled = open(&*pool.sockets, &key, generation, &connector).await;
            let mut driver = None;
            let result = {
                let mut slots = pool.lock();
                let slot = slots.entry(key.clone()).or_default();
                slot.dial = None;
                match dialled {
                    Ok((tunnel, connection)) => {
                        driver = Some((Arc::downgrade(&tunnel), connection));
                        slot.tunnels.push(tunnel);
                        Ok(())
                    }
                    Err(error) => {
                        pool.tidy(&mut slots, &key);
                        Err(error)
                    }
                }
            };
            // Whoever asked may be gone.
            let _ = tell.send(result);
            if let Some((tunnel, connection)) = driver {
                pool.drive(&key, tunnel, connection).await;
            }
        };
        spawn(task.boxed());
        let ended = || DialError { why: Why::TunnelFailed, detail: "the proxy ends".to_owned() };
        async move { told.await.unwrap_or_else(|_| Err(ended())) }.boxed().shared()
    }

    /// Keeps a tunnel going until it breaks or nobody has used it for long.
    async fn drive(
        &self,
        key: &Key,
        tunnel: Weak<Tunnel>,
        mut connection: h2::client::Connection<WorkloadStream, Bytes>,
    ) {
        // Not at once: whoever it was dialled for has yet to take a place in it.
        let mut tick = interval_at(Instant::now() + IDLE, IDLE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before = 0;
        loop {
            tokio::select! {
                ended = &mut connection => {
                    if let Err(error) = ended {
                        tracing::debug!(to = %key.to, %error, "lose a tunnel");
                    }
                    break;
                }
                _ = tick.tick() => {
                    let Some(tunnel) = tunnel.upgrade() else { continue };
                    let _slots = self.lock();
                    let begun = tunnel.begun.load(Ordering::Acquire);
                    if begun == before && tunnel.streams.load(Ordering::Acquire) == 0 {
                        tunnel.is_gone.store(true, Ordering::Release);
                    }
                    before = begun;
                }
            }
            self.sweep(key);
        }
        if let Some(tunnel) = tunnel.upgrade() {
            tunnel.is_gone.store(true, Ordering::Release);
        }
        self.sweep(key);
    }

    /// Lets go of what nobody shall use any more, since it is of another generation or another pod has its address; it closes with its
    /// last stream. Where nothing is known, nothing is used.
    pub(crate) fn retire(&self, world: Option<&World>) {
        let now = Timestamp::now();
        self.lock().retain(|key, slot| {
            slot.tunnels.retain(|tunnel| {
                world.is_some_and(|world| {
                    let there = world.directory.expected(key.to.ip());
                    tunnel.is_usable(world.generation, now)
                        && there.is_none_or(|there| *there == key.expected)
                })
            });
            !slot.tunnels.is_empty() || slot.dial.is_some()
        });
    }

    fn sweep(&self, key: &Key) {
        let mut slots = self.lock();
        if let Some(slot) = slots.get_mut(key) {
            slot.tunnels.retain(|tunnel| !tunnel.is_gone.load(Ordering::Acquire));
        }
        self.tidy(&mut slots, key);
    }

    fn tidy(&self, slots: &mut HashMap<Key, Slot>, key: &Key) {
        let is_empty =
            slots.get(key).is_some_and(|slot| slot.tunnels.is_empty() && slot.dial.is_none());
        if is_empty {
            slots.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn open(
    sockets: &dyn Sockets,
    key: &Key,
    generation: u64,
    connector: &WorkloadConnector,
) -> Result<(Arc<Tunnel>, h2::client::Connection<WorkloadStream, Bytes>), DialError> {
    let (stream, peer) = dial(sockets, key.to, key.from, connector).await?;
    let (sender, connection) = tunnel::client(stream)
        .await
        .map_err(|error| DialError { why: Why::TunnelFailed, detail: error.to_string() })?;
    let tunnel = Tunnel {
        sender,
        peer: Arc::new(peer),
        generation,
        streams: AtomicUsize::new(0),
        begun: AtomicU64::new(0),
        is_gone: AtomicBool::new(false),
    };
    Ok((Arc::new(tunnel), connection))
}

/// Connects, and has it proven who is there.
pub(crate) async fn dial(
    sockets: &dyn Sockets,
    to: SocketAddr,
    from: Option<IpAddr>,
    connector: &WorkloadConnector,
) -> Result<(WorkloadStream, WorkloadPeer), DialError> {
    let tcp = go_out(sockets, to, from, CONNECT).await.map_err(DialError::unreachable)?;
    connector
        .connect(tcp, to.ip())
        .await
        .map_err(|error| DialError { why: why(&error), detail: chain(&error) })
}
