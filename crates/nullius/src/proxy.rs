//! `nullius proxy`: a workload's proxy from its file, until it is told to stop.

use anyhow::{Context as _, Result};
use nullius_cli::ProxyArgs;
use nullius_mesh::{Config, Proxy, StartError};
use nullius_telemetry::{Metrics, Readiness, serve_health};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Misconfigured;

/// Runs the role until `shutdown`.
pub(crate) async fn run(args: ProxyArgs, shutdown: CancellationToken) -> Result<()> {
    let config = Config::read(&args.config).context(Misconfigured)?;
    let (metrics, ready) = (Metrics::new(), Readiness::default());
    if let Some(address) = config.health {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("`health` cannot listen at {address}"))?;
        tokio::spawn(serve_health(listener, ready.clone(), metrics.clone()));
    }
    let proxy = match Proxy::start(config, &metrics).await {
        Ok(proxy) => proxy,
        Err(error @ StartError::Files(_)) => return Err(error).context(Misconfigured),
        Err(error @ (StartError::AccessLog(_) | StartError::Listen { .. })) => {
            return Err(error.into());
        }
    };
    let leaving = shutdown.clone();
    ready.follow(move || match leaving.is_cancelled() {
        true => Err("it is told to stop"),
        false => Ok(()),
    });
    Ok(proxy.run(shutdown).await?)
}
