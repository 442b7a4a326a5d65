//! Pods of the mesh on this node: their traffic is led through this process.
//!
//! `follow` hears what stands in the cluster (`heard` is what waits of it), `known` makes of it what decides (`rules`, and `said` for what cannot
//! be read any more), `report` and `remember` tell that to the agent and the disk, `pods` leads each pod's traffic as soon as its network is
//! there (from the plugin, or found by its processes: `find`), `world` keeps what decides about one pod. `desk` answers the plugin. `tell` says to
//! the agent what was seen of calls. A pod whose own proxy takes its traffic is led to that: `sidecars` hands it what takes rights, `relay` says
//! what it is told.

mod addresses;
mod desk;
mod find;
mod follow;
mod guests;
mod heard;
mod known;
mod pods;
mod relay;
mod remember;
mod report;
mod rules;
mod said;
mod sidecars;
mod sockets;
mod tell;
mod world;

use std::{path::PathBuf, sync::Arc};

use nullius_mesh::{AccessLog, AccessLogTo, HostSockets, Seen, Teller};
use nullius_workload::{Attestor, Holdings, Registered};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    CniHost, NodeError, NodeSettings,
    cni::{Attachments, keep_installed, serve},
    link::Link,
    meters::Meters,
    run::Tasks,
    unix,
};

use self::{desk::FrontDesk, follow::Follower, pods::Leader, sidecars::Sidecars};
pub(crate) use self::{
    follow::know,
    heard::{Heard, Mailbox, Scope},
    known::Known,
    sidecars::folder as proxies_folder,
    world::WorldMaker,
};

/// How the mesh is part of a node.
#[derive(Debug, Clone)]
pub struct MeshSettings {
    /// Where the plugin goes, and how it finds this node.
    pub cni: CniHost,
}

/// What is known of the mesh, once it is.
pub(crate) type KnownView = watch::Receiver<Option<Arc<Known>>>;

/// What the rest of the node gives.
pub(crate) struct Parts<'p> {
    pub(crate) settings: &'p NodeSettings,
    pub(crate) mesh: &'p MeshSettings,
    pub(crate) link: &'p Link,
    pub(crate) meters: &'p Meters,
    pub(crate) registered: watch::Receiver<Option<Arc<Registered>>>,
    pub(crate) holdings: watch::Receiver<Option<Arc<Holdings>>>,
}

/// Starts all of it.
pub(crate) fn start(parts: Parts<'_>, tasks: &mut Tasks) -> Result<KnownView, NodeError> {
    let Parts { settings, mesh, link, meters, registered, holdings } = parts;
    let state = |source| NodeError::State { path: settings.state.clone(), source };
    let secret = pods::Secret::of(&settings.state).map_err(state)?;
    let listener = unix::bind(&mesh.cni.socket)?;
    let (attach, attachments) = watch::channel(Attachments::new());
    let (tell, known) = watch::channel(None);
    let (lead, led) = watch::channel(Default::default());
    let (place, places) = watch::channel(Default::default());
    let proxies = sidecars::bind(&proxies_folder(&mesh.cni.socket))?;
    let (tell_addresses, addresses) = watch::channel(addresses::now());
    let follower = Follower {
        node: settings.node.clone(),
        link: link.clone(),
        state: settings.state.clone(),
        registered,
        known: tell,
        meters: meters.clone(),
    };
    let (log, writer) = AccessLog::open(&AccessLogTo::Stdout)
        .map_err(|source| NodeError::State { path: PathBuf::from("standard output"), source })?;
    let seen = Seen::new(log, &meters.all);
    let teller = Teller::new(link.clone(), Arc::clone(&seen));
    // Of this thread's network, which is the host's.
    let host = match HostSockets::open() {
        Ok(host) => Some(Arc::new(host)),
        Err(error) => {
            tracing::error!(
                %error,
                "cannot see the host's sockets: probes of pods in the mesh are judged as calls of strangers; load the kernel module \
                 `tcp_diag`"
            );
            None
        }
    };
    let beside = Arc::new(Sidecars {
        node: settings.node.clone(),
        attestor: Attestor::new(settings.cgroup_root.clone()),
        places,
        known: known.clone(),
        addresses: addresses.clone(),
        host: host.clone(),
        guests: Default::default(),
        steps: Arc::default(),
        looks: sidecars::looks(),
    });
    let leader = Leader::new(pods::Parts {
        cgroups: settings.cgroup_root.clone(),
        secret,
        known: known.clone(),
        attachments,
        holdings,
        addresses,
        host,
        seen,
        led: lead,
        places: place,
    });
    let desk = Arc::new(FrontDesk::new(settings.node.clone(), known.clone(), led));
    let stop = tasks.stop();
    tasks.spawn_loop("mesh news", follower.run());
    tasks.spawn_loop("node addresses", addresses::follow(tell_addresses));
    tasks.spawn("CNI", serve(listener, attach, desk, stop.clone()));
    tasks.spawn("proxies beside pods", sidecars::serve(beside, proxies, stop.clone()));
    tasks.spawn_loop("CNI plugin", keep_installed(mesh.cni.clone(), "/proc/self/exe".into()));
    tasks.spawn("mesh", async move {
        let told = CancellationToken::new();
        let telling = tokio::spawn(teller.run(told.clone()));
        leader.run(stop).await;
        // Everything that it led has ended, and is told.
        told.cancel();
        let _ = telling.await;
        // It waits for what is told to it, on a thread where that is no harm.
        let _ = tokio::task::spawn_blocking(move || writer.finish()).await;
    });
    Ok(known)
}
