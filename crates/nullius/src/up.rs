//! `nullius up`: a hub and the agent of one cluster as one process, for a laptop.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use nullius_agent::{
    Address, AgentError, BesideSettings, HubSettings, TunnelCount, check_kubeconfig,
};
use nullius_cli::{Exit, UpArgs};
use nullius_model::{Ceiling, SystemClock};
use nullius_tls::InfraRoots;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{self, Config},
    hub::tell_first_steps,
};

/// Runs both until `shutdown`; the agent goes first, so that it can still take back what sessions had.
pub(crate) async fn run(args: UpArgs, shutdown: CancellationToken) -> Result<Exit> {
    let settings = config::hub_settings(&args.hub, Config::read(args.hub.config.as_deref())?)?;
    // Before there is a hub: what cannot work must leave nothing behind.
    check_kubeconfig(&args.kubeconfig, args.kube_context.as_deref()).await.map_err(unusable)?;
    let ceiling = Ceiling::try_from(args.ceiling.clone())
        .context("`--ceiling` is no ClusterRole")
        .context(config::Misconfigured)?;
    let stop_hub = CancellationToken::new();
    let running = nullius_hub::run(settings, Arc::new(SystemClock), stop_hub.clone()).await?;
    let outcome = beside(&args, ceiling, &running, shutdown).await;
    stop_hub.cancel();
    running.stopped().await;
    outcome.map(|()| Exit::Ok)
}

async fn beside(
    args: &UpArgs,
    ceiling: Ceiling,
    running: &nullius_hub::RunningHub,
    shutdown: CancellationToken,
) -> Result<()> {
    let hub = running.hub();
    let join_token = hub.bring_cluster(&args.cluster, ceiling.clone()).await?;
    eprintln!("hub      {}", hub.origin());
    eprintln!("cluster  {}", args.cluster);
    tell_first_steps(running);
    let keys = hub.keys();
    let settings = BesideSettings {
        cluster: args.cluster.clone(),
        ceiling,
        hub: HubSettings {
            addresses: vec![Address {
                host: running.listening().ip().to_string(),
                port: running.listening().port(),
            }],
            roots: InfraRoots::from_pem(keys.root().certificate_pem())?,
            offline_key: keys.offline_public().parse()?,
            hub_id: keys.hub_id().to_owned(),
        },
        kubeconfig: args.kubeconfig.clone(),
        context: args.kube_context.clone(),
        join_token: Some(join_token),
        tunnels: TunnelCount::default(),
        drain: Duration::from_secs(hub.settings().drain.as_secs().into()),
        health: None,
    };
    Ok(nullius_agent::run_beside(settings, shutdown).await?)
}

/// A kubeconfig that cannot be read is a wrong setting; an API server that is away is not.
fn unusable(error: AgentError) -> anyhow::Error {
    match error {
        AgentError::Connect(error) => anyhow::Error::new(error).context(config::Misconfigured),
        error => error.into(),
    }
}
