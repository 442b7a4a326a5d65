//! `nullius proxy`: a workload's proxy from its file, or that of the pod in which it runs, until it is told to stop.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, Result};
use nullius_cli::ProxyArgs;
use nullius_mesh::{AccessLogTo, Config, Proxy, StartError};
use nullius_node::{SidecarSettings, run_sidecar};
use nullius_telemetry::{Metrics, Readiness, serve_health};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Misconfigured;

/// Runs the role until `shutdown`.
pub(crate) async fn run(args: ProxyArgs, shutdown: CancellationToken) -> Result<()> {
    let ProxyArgs { config, node_socket: node, identity_socket: identity, health, .. } = args;
    match config {
        Some(config) => run_by_file(&config, shutdown).await,
        None => {
            let settings = SidecarSettings { node, identity, access_log: AccessLogTo::Stdout };
            run_captured(settings, health, shutdown).await
        }
    }
}

async fn run_captured(
    settings: SidecarSettings,
    health: Option<SocketAddr>,
    shutdown: CancellationToken,
) -> Result<()> {
    let (metrics, ready) = (Metrics::new(), Readiness::default());
    serve_at(health, &ready, &metrics).await?;
    Ok(run_sidecar(settings, &metrics, &ready, shutdown).await?)
}

async fn run_by_file(config: &Path, shutdown: CancellationToken) -> Result<()> {
    let config = Config::read(config).context(Misconfigured)?;
    let (metrics, ready) = (Metrics::new(), Readiness::default());
    serve_at(config.health, &ready, &metrics).await?;
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

async fn serve_at(health: Option<SocketAddr>, ready: &Readiness, metrics: &Metrics) -> Result<()> {
    let Some(address) = health else { return Ok(()) };
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("`health` cannot listen at {address}"))?;
    tokio::spawn(serve_health(listener, ready.clone(), metrics.clone()));
    Ok(())
}
