//! `nullius proxy`: a workload's proxy from its file, until it is told to stop.

use anyhow::{Context as _, Result};
use nullius_cli::ProxyArgs;
use nullius_mesh::{Config, Proxy, StartError};
use tokio_util::sync::CancellationToken;

use crate::config::Misconfigured;

/// Runs the role until `shutdown`.
pub(crate) async fn run(args: ProxyArgs, shutdown: CancellationToken) -> Result<()> {
    let config = Config::read(&args.config).context(Misconfigured)?;
    let proxy = match Proxy::start(config).await {
        Ok(proxy) => proxy,
        Err(error @ StartError::Files(_)) => return Err(error).context(Misconfigured),
        Err(error @ (StartError::AccessLog(_) | StartError::Listen { .. })) => {
            return Err(error.into());
        }
    };
    Ok(proxy.run(shutdown).await?)
}
