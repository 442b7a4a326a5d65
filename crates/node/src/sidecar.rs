//! The proxy beside a pod's containers: the same data plane as the node's, in a process of the pod's own and without any capability.
//!
//! Its identity comes from the Workload API. What decides is told by the node, which also gives what takes rights: it hands over the listeners to
//! which the pod's traffic is led, and lets sockets go past the rules ([`sockets`]). While the node is away, what was told last decides.

mod follow;
mod sockets;
pub(crate) mod wire;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use nullius_mesh::{
    AccessLog, AccessLogTo, Captured, CapturedParts, Hears, Neighbours, Seen, Teller, Unheard,
    World,
};
use nullius_proto::node_v1::{SeenBatch, SeenReceipt};
use nullius_telemetry::{Metrics, Readiness};
use nullius_workload::{Endpoint, Holdings, PodUid};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use self::sockets::NodeSockets;
use self::{follow::Hearing, sockets::Led, wire::OwnPod};
use crate::{
    limit,
    mesh::{KnownView, Mailbox, WorldMaker, know},
};

/// Between two tries to get what the node has.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Where it finds its node.
#[derive(Debug, Clone)]
pub struct SidecarSettings {
    /// The node's socket for proxies.
    pub node: PathBuf,
    /// The Workload API.
    pub identity: Endpoint,
    /// Where lines of the access log go.
    pub access_log: AccessLogTo,
}

/// Why a proxy beside a pod's containers cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// It has no business here.
    #[error("the node does not hand this pod's traffic over: {0}")]
    Refused(String),
    /// The access log.
    #[error("the access log cannot be opened")]
    AccessLog(#[source] io::Error),
    /// Sockets that were handed over.
    #[error("the sockets that the node has handed over cannot be used")]
    Sockets(#[source] io::Error),
    /// A task that should go on has ended.
    #[error("the task `{0}` has ended by itself")]
    Ended(&'static str),
}

/// Takes the traffic of the pod in which this runs, until `shutdown`.
pub async fn run_sidecar(
    settings: SidecarSettings,
    metrics: &Metrics,
    ready: &Readiness,
    shutdown: CancellationToken,
) -> Result<(), SidecarError> {
    limit::raise();
    // It is held to the end, so that nobody takes the node's refusal for something else.
    let (tell_pod, own) = watch::channel(None);
    let (tell_holdings, holdings) = watch::channel(None);
    let (tell_known, known) = watch::channel(None);
    let (tell_world, world) = watch::channel(None);
    let heard = Arc::new(Mailbox::default());
    let mut tasks: JoinSet<Result<(), SidecarError>> = JoinSet::new();
    let hearing =
        Hearing { node: settings.node.clone(), own: tell_pod.clone(), heard: Arc::clone(&heard) };
    tasks.spawn(async { Err(SidecarError::Refused(hearing.run().await)) });
    let identities = follow::identities(settings.identity.clone(), own.clone(), tell_holdings);
    tasks.spawn(ends("identity", identities));
    tasks.spawn(ends("mesh news", know_on(own.clone(), holdings.clone(), heard, tell_known)));
    let ready_by = world.clone();
    ready.follow(move || match ready_by.borrow().is_some() {
        true => Ok(()),
        false => Err("it has no identity yet, or has not been told yet what stands in the mesh"),
    });
    let (log, writer) = AccessLog::open(&settings.access_log).map_err(SidecarError::AccessLog)?;
    let seen = Seen::new(log, metrics);
    let leading = Leading { settings, own, holdings, known, world: tell_world, seen };
    let ended = tokio::select! {
        ended = leading.run(world, &shutdown) => ended,
        Some(ended) = tasks.join_next() => match ended {
            Ok(ended) => ended,
            Err(_) => Err(SidecarError::Ended("one that panicked")),
        },
    };
    tasks.shutdown().await;
    drop(tell_pod);
    let _ = tokio::task::spawn_blocking(move || writer.finish()).await;
    ended
}

async fn ends(name: &'static str, task: impl Future<Output = ()>) -> Result<(), SidecarError> {
    task.await;
    Err(SidecarError::Ended(name))
}

/// Makes what decides of what is heard, once it is known whose proxy this is.
async fn know_on(
    own: watch::Receiver<Option<Arc<OwnPod>>>,
    holdings: watch::Receiver<Option<Arc<Holdings>>>,
    heard: Arc<Mailbox>,
    known: watch::Sender<Option<Arc<crate::mesh::Known>>>,
) {
    let Some(own) = there(own).await else { return };
    know(own.node.clone(), holdings, heard, known).await;
}

/// A value as soon as it is there.
async fn there<T: Clone>(mut view: watch::Receiver<Option<T>>) -> Option<T> {
    view.wait_for(Option::is_some).await.ok()?.clone()
}

/// Takes the traffic.
struct Leading {
    settings: SidecarSettings,
    own: watch::Receiver<Option<Arc<OwnPod>>>,
    holdings: watch::Receiver<Option<Arc<Holdings>>>,
    known: KnownView,
    world: watch::Sender<Option<Arc<World>>>,
    seen: Arc<Seen>,
}

impl Leading {
    async fn run(
        mut self,
        world: watch::Receiver<Option<Arc<World>>>,
        shutdown: &CancellationToken,
    ) -> Result<(), SidecarError> {
        let own = tokio::select! {
            own = there(self.own.clone()) => own,
            () = shutdown.cancelled() => return Ok(()),
        };
        let Some(own) = own else { return Err(SidecarError::Ended("mesh news")) };
        let Ok(pod) = own.uid.parse::<PodUid>() else {
            return Err(SidecarError::Refused(format!("`{}` is no UID of a pod", own.uid)));
        };
        let sockets = Arc::new(NodeSockets::new(&self.settings.node));
        let led = tokio::select! {
            led = listeners(&sockets) => led,
            () = shutdown.cancelled() => return Ok(()),
        };
        let name: Arc<str> = own.name.as_str().into();
        let seen = self.seen.workload(&own.uid, Arc::clone(&name), Neighbours::None);
        let captured = Captured::start(CapturedParts {
            name,
            world,
            sockets,
            inbound: led.inbound,
            outbound: led.outbound,
            seen,
        });
        let captured = captured.map_err(SidecarError::Sockets)?;
        tracing::info!(pod = %pod, "take the traffic of this pod");
        let told = CancellationToken::new();
        let telling = tokio::spawn(Teller::new(Nobody, Arc::clone(&self.seen)).run(told.clone()));
        tokio::select! {
            () = self.follow(pod) => {}
            () = shutdown.cancelled() => {}
        }
        tracing::info!("take nothing new and let what is open end");
        captured.stop().await;
        told.cancel();
        let _ = telling.await;
        Ok(())
    }

    /// Keeps what decides as it is known.
    async fn follow(&mut self, pod: PodUid) {
        // What it was given when it began is not known to a node that begins anew, and does not change.
        let addresses = self.own.borrow().as_ref().map(|own| own.addresses.clone());
        let mut maker = WorldMaker::new(pod, addresses.unwrap_or_default());
        loop {
            let own = self.own.borrow_and_update().clone();
            let known = self.known.borrow_and_update().clone();
            let holdings = self.holdings.borrow_and_update().clone();
            if let (Some(own), Some(known), Some(holdings)) = (own, known, holdings) {
                let of_node = Arc::new(own.node_addresses.iter().copied().collect());
                let workload = known.own.get(own.uid.as_str());
                let world = workload.and_then(|it| maker.make(&known, it, &holdings, &of_node));
                self.world.send_if_modified(|before| {
                    let is_same = match (&*before, &world) {
                        (Some(before), Some(world)) => Arc::ptr_eq(before, world),
                        (None, None) => true,
                        _ => false,
                    };
                    *before = world;
                    !is_same
                });
            }
            let changed = tokio::select! {
                changed = self.own.changed() => changed,
                changed = self.known.changed() => changed,
                changed = self.holdings.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }
}

/// The listeners, as soon as the node hands them over: a proxy that was here before must have ended.
async fn listeners(sockets: &Arc<NodeSockets>) -> Led {
    let mut told = String::new();
    loop {
        let asked = Arc::clone(sockets);
        let led = tokio::task::spawn_blocking(move || asked.listeners()).await;
        let error = match led {
            Ok(Ok(led)) => return led,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if error != told {
            tracing::warn!(%error, "cannot take the pod's traffic yet");
            told = error;
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// What it sees stands in its metrics and its access log; nobody is told of flows.
struct Nobody;

impl Hears for Nobody {
    async fn tell(&self, batch: SeenBatch) -> Result<SeenReceipt, Unheard> {
        Ok(SeenReceipt { number: batch.number })
    }
}
