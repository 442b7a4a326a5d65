//! A node from its start to its end.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nullius_model::SystemClock;
use nullius_telemetry::{Readiness, serve_health};
use nullius_workload::{Attestor, Holdings, Limits, Registered, bind, keep, serve};
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    NodeError, NodeSettings,
    csi::{Driver, Known},
    host, limit,
    link::Link,
    lock::{Lock, lock},
    memory::Memory,
    mesh::{self, KnownView},
    meters::Meters,
    proof::Proof,
    unix,
};

/// How long tasks have to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the node until `shutdown`; [`crate::enter_cgroups`] comes before.
pub async fn run_node(
    settings: NodeSettings,
    shutdown: CancellationToken,
) -> Result<(), NodeError> {
    limit::raise();
    let meters = Meters::new();
    let ready = Readiness::default();
    let mut tasks = Tasks { set: JoinSet::new(), stop: CancellationToken::new() };
    for address in [settings.health, settings.probes].into_iter().flatten() {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| NodeError::Listen { address, source })?;
        tasks.spawn_loop("health", serve_health(listener, ready.clone(), meters.all.clone()));
    }
    let locked = tokio::select! {
        locked = lock(&settings.state) => locked,
        () = shutdown.cancelled() => return Ok(()),
    };
    // Held until everything else has ended.
    let _lock: Lock =
        locked.map_err(|source| NodeError::State { path: settings.state.clone(), source })?;
    let proof = Proof::open(&settings.proof, &settings.state)?;
    let (started, refused) = start(&settings, proof, &meters, &ready, &mut tasks)?;
    tracing::info!(node = settings.node, socket = %started.display(), "node started");
    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        name = tasks.failed() => Err(NodeError::Ended(name)),
        Ok(why) = refused => Err(NodeError::Join(why)),
    };
    tasks.finish().await;
    // The next node makes it anew: until then nobody finds a socket where nobody listens.
    if let Err(error) = unix::remove(&started) {
        tracing::warn!(%error, "fail to remove the socket");
    }
    ended
}

/// Starts all of it; gives the path of the socket, and what says that a machine may not join.
fn start(
    settings: &NodeSettings,
    proof: Proof,
    meters: &Meters,
    ready: &Readiness,
    tasks: &mut Tasks,
) -> Result<(PathBuf, oneshot::Receiver<String>), NodeError> {
    let wrong = |source| NodeError::Socket { path: settings.socket.clone(), source };
    let folder =
        settings.socket.parent().ok_or_else(|| wrong(std::io::ErrorKind::InvalidInput.into()))?;
    DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(wrong)?;
    let (registered, watched) = watch::channel(None);
    let (heard, unwritten) = watch::channel(None);
    let link = Link::new(settings, proof, registered, heard, meters.clone());
    tasks.spawn_loop("memory", Memory::new(&settings.state).keep(unwritten));
    let clock = Arc::new(SystemClock);
    let (holdings, keeper) = keep(watched.clone(), link.issuer(), clock.clone());
    let attestor = Attestor::new(settings.cgroup_root.clone()).with_root(host::ROOT.into());
    let listener = bind(&settings.socket).map_err(wrong)?;
    let driver = settings.kubelet.as_deref();
    let driver =
        driver.map(|kubelet| Driver::bind(settings, kubelet, folder, meters)).transpose()?;
    let known = driver.as_ref().map(Driver::known);
    let is_serving = Arc::new(AtomicBool::new(true));
    let mesh = settings.mesh.as_ref().map(|mesh| {
        let (registered, holdings) = (watched.clone(), holdings.clone());
        let parts = mesh::Parts { settings, mesh, link: &link, meters, registered, holdings };
        mesh::start(parts, tasks)
    });
    follow(ready, watched, known, mesh.transpose()?, Arc::clone(&is_serving));
    tasks.spawn_loop("meters", measure(holdings.clone(), meters.clone()));
    tasks.spawn_loop("keeper", keeper);
    let stop = tasks.stop.clone();
    let issuer = link.issuer();
    let served =
        serve(listener, attestor, holdings, issuer, clock, Limits::default(), stop.clone());
    tasks.spawn("workload API", async move {
        served.await;
        is_serving.store(false, Ordering::Relaxed);
    });
    let (refuse, refused) = oneshot::channel();
    tasks.spawn_loop("link", link.run(refuse));
    if let Some(driver) = driver {
        tasks.spawn("CSI driver", driver.serve(stop));
    }
    Ok((settings.socket.clone(), refused))
}

/// When the node can do what pods need of it.
fn follow(
    ready: &Readiness,
    registered: watch::Receiver<Option<Arc<Registered>>>,
    known: Option<Known>,
    mesh: Option<KnownView>,
    is_serving: Arc<AtomicBool>,
) {
    ready.follow(move || {
        if !is_serving.load(Ordering::Relaxed) {
            return Err("the socket of the Workload API is closed");
        }
        if registered.borrow().is_none() {
            return Err("the agent has not told yet what is registered");
        }
        if mesh.as_ref().is_some_and(|mesh| mesh.borrow().is_none()) {
            return Err("the agent has not told yet which pods are in the mesh");
        }
        match &known {
            Some(known) if !known.is_known() => Err("the kubelet does not know the CSI driver yet"),
            Some(_) | None => Ok(()),
        }
    });
}

async fn measure(mut holdings: watch::Receiver<Option<Arc<Holdings>>>, meters: Meters) {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    loop {
        if let Some(holdings) = holdings.borrow_and_update().as_ref() {
            meters.entries.set((), count(holdings.registered.entries.len()));
            meters.held.set((), count(holdings.held.len()));
        }
        if holdings.changed().await.is_err() {
            return;
        }
    }
}

/// All tasks, which are named, told to stop, and waited for.
pub(crate) struct Tasks {
    set: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Tasks {
    /// Cancelled when all are to end.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// A task that ends by itself when told to stop.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.set.spawn(async move {
            task.await;
            name
        });
    }

    /// A task that never ends and may be dropped at any point.
    pub(crate) fn spawn_loop(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.set.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => name,
                () = task => name,
            }
        });
    }

    /// Resolves with the first task that ends though nobody told it to.
    async fn failed(&mut self) -> &'static str {
        match self.set.join_next().await {
            Some(Ok(name)) => name,
            Some(Err(_)) => "one that panicked",
            None => std::future::pending().await,
        }
    }

    async fn finish(mut self) {
        self.stop.cancel();
        let all = async { while self.set.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!(tasks = self.set.len(), "drop tasks that did not stop in time");
        }
        self.set.shutdown().await;
    }
}
