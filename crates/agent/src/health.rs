//! Where an agent's health, readiness and metrics are served.

use std::net::SocketAddr;

use nullius_telemetry::{Readiness, serve_health};
use tokio::net::TcpListener;

use crate::{AgentError, meters::Meters, tasks::Tasks};

/// Listens, so that a port in use is told at once.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, AgentError> {
    TcpListener::bind(address).await.map_err(|source| AgentError::Listen { address, source })
}

/// Begins to serve health where it is asked for, before anything else runs.
pub(crate) async fn start(
    address: Option<SocketAddr>,
    meters: &Meters,
    tasks: &mut Tasks,
) -> Result<Readiness, AgentError> {
    let ready = Readiness::default();
    if let Some(address) = address {
        let listener = listen(address).await?;
        tasks.spawn_loop("health", serve_health(listener, ready.clone(), meters.all.clone()));
    }
    Ok(ready)
}
