//! `agent proxy`: serves the tunnels and forwards what the hub has signed, with what control hands it.
//!
//! It has no rights in the cluster and no token for the API server: nothing of its own can ever go with a user's
//! request.

use std::{sync::Arc, time::Duration};

use nullius_kube::ApiServer;
use nullius_model::ClusterName;
use nullius_pki::Verifier;
use nullius_proto::agent_v1::AgentRole;
use nullius_tunnel::{Agent, Upstream};
use tokio_util::sync::CancellationToken;

use crate::{
    AgentError, ProxySettings, TunnelCount,
    alarm::Alarms,
    error::unless_stopped,
    health,
    identity::{EnrolError, Enroller, Identity, OnRefusal, TokenSource},
    lease::Lease,
    meters::Meters,
    tasks::Tasks,
};

pub(crate) mod gate;
mod handover;
mod tunnels;
mod upstream;

use gate::{Issuer, SessionGate};

/// How long running streams may go on after a pod's end was asked for.
const DRAIN: Duration = Duration::from_secs(30);
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Runs `agent proxy` in a pod until `shutdown`; running streams then have 30 s to end.
pub async fn run_proxy(
    settings: ProxySettings,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    unless_stopped(serve(settings, shutdown).await)
}

async fn serve(settings: ProxySettings, shutdown: CancellationToken) -> Result<(), AgentError> {
    nullius_tls::install_provider();
    let meters = Meters::new();
    let mut tasks = Tasks::new();
    let ready = health::start(settings.health, &meters, &mut tasks).await?;
    let api = ApiServer::in_cluster(&settings.api)?;
    let verifier = Arc::new(Verifier::new(settings.hub.offline_key, 0)?);
    let enroller = Enroller::new(
        settings.cluster.clone(),
        AgentRole::Proxy,
        settings.hub,
        TokenSource::File(settings.hub_token_file),
        Arc::clone(&verifier),
    )
    .map_err(EnrolError::from)?;
    // The cluster may join while the proxy waits.
    let (identity, renewal) = enroller.enrol(OnRefusal::Wait, &shutdown).await?;
    tasks.spawn_loop("certificate", renewal.run());

    let lease = Lease::new();
    let (alarms, raised) = Alarms::new(meters.clone());
    let control = handover::RemoteControl::new(&identity, settings.control)?;
    let parts = Parts {
        cluster: settings.cluster,
        verifier,
        identity,
        lease: lease.clone(),
        issuer: Arc::new(control.clone()),
        alarms,
        upstream: upstream::ClusterDial::new(&api, Some(&settings.api.ca_file))?,
        tunnels: settings.tunnels,
        meters: meters.clone(),
    };
    let proxy = start(parts, &mut tasks)?;
    tasks.spawn_loop("alarms", handover::forward_alarms(control.clone(), raised));
    tasks.spawn_loop("handover", handover::follow(control, Arc::clone(&proxy)));
    let serving = Arc::clone(&proxy);
    ready.follow(move || serving.is_ready());
    run(proxy, tasks, &shutdown).await
}

/// What a proxy is made of, in a pod or beside a kubeconfig.
pub(crate) struct Parts {
    pub(crate) cluster: ClusterName,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) identity: Identity,
    pub(crate) lease: Lease,
    pub(crate) issuer: Arc<dyn Issuer>,
    pub(crate) alarms: Alarms,
    pub(crate) upstream: upstream::ClusterDial,
    pub(crate) tunnels: TunnelCount,
    pub(crate) meters: Meters,
}

/// The way to the API server of a kubeconfig.
pub(crate) fn dial_of(api: &ApiServer) -> Result<upstream::ClusterDial, AgentError> {
    upstream::ClusterDial::new(api, None)
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) gate: Arc<SessionGate>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) agent: Agent,
    lease: Lease,
    meters: Meters,
}

/// Starts the gate and the tunnels.
pub(crate) fn start(parts: Parts, tasks: &mut Tasks) -> Result<Arc<Proxy>, AgentError> {
    let gate = Arc::new(SessionGate::new(
        parts.cluster.clone(),
        Arc::clone(&parts.verifier),
        parts.lease.clone(),
        parts.issuer,
        parts.alarms,
        parts.meters.clone(),
    ));
    let upstream = Upstream::new(parts.cluster.clone(), Arc::new(parts.upstream));
    let agent =
        Agent::new(parts.cluster, Arc::clone(&gate) as Arc<dyn nullius_tunnel::Gate>, upstream);
    let proxy = Arc::new(Proxy {
        gate,
        verifier: parts.verifier,
        agent,
        lease: parts.lease,
        meters: parts.meters.clone(),
    });
    let (identity, count, meters) = (&parts.identity, parts.tunnels, &parts.meters);
    for tunnel in tunnels::all(&proxy.agent, identity, count, &proxy.lease, meters)? {
        tasks.spawn_loop("tunnel", tunnel);
    }
    tasks.spawn_loop("lease", cut_when_lapsed(Arc::clone(&proxy)));
    tasks.spawn_loop("old tokens", gate::drop_old(Arc::clone(&proxy.gate)));
    Ok(proxy)
}

/// Runs until the end is asked for, then lets running streams end.
pub(crate) async fn run(
    proxy: Arc<Proxy>,
    mut tasks: Tasks,
    shutdown: &CancellationToken,
) -> Result<(), AgentError> {
    let result = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        error = tasks.failed() => Err(error),
    };
    if result.is_ok() {
        proxy.drain(DRAIN).await;
    }
    tasks.finish(STOP_PATIENCE).await;
    result
}

impl Proxy {
    /// Refuses a session from now on and cuts its streams.
    pub(crate) fn end(&self, session: &nullius_model::SessionId) {
        self.gate.end(session);
        let cut = self.agent.cut(session);
        if cut > 0 {
            tracing::info!(%session, streams = cut, "cut the streams of an ended session");
        }
    }

    /// Takes nothing new and gives running streams their time.
    pub(crate) async fn drain(&self, limit: Duration) {
        tracing::info!(streams = self.agent.streams(), seconds = limit.as_secs(), "drain");
        if tokio::time::timeout(limit, self.agent.drain()).await.is_err() {
            tracing::warn!(streams = self.agent.cut_all(), "cut streams that did not end in time");
        }
    }

    /// The lease of control as control told it.
    fn extend_lease(&self, start: tokio::time::Instant, length: Duration) {
        self.lease.extend(start, length);
    }

    /// Whether it can serve now.
    pub(crate) fn is_ready(&self) -> Result<(), &'static str> {
        if !self.lease.is_held() {
            return Err("control or the hub has not been heard lately");
        }
        if self.meters.tunnels_up() { Ok(()) } else { Err("no tunnel stands") }
    }
}

/// Without a lease nobody can say which sessions have ended, so none goes on.
async fn cut_when_lapsed(proxy: Arc<Proxy>) {
    loop {
        proxy.lease.held().await;
        proxy.lease.lapsed().await;
        let streams = proxy.agent.cut_all();
        if proxy.agent.is_draining() {
            continue;
        }
        tracing::warn!(streams, "refuse all sessions, the lease has lapsed");
    }
}
