//! `nullius agent`: settings from the environment that the join manifest writes, then the role until it is told to stop.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::PathBuf, str::FromStr};

use anyhow::{Context as _, Result};
use nullius_agent::{
    Address, AdmissionSettings, ControlSettings, HubSettings, IdentitySettings, ProxySettings,
    TunnelCount,
};
use nullius_cli::AgentCommand;
use nullius_kube::{InCluster, SYSTEM_NAMESPACE, env};
use nullius_model::{ClusterName, Namespace};
use nullius_tls::InfraRoots;
use tokio_util::sync::CancellationToken;

use crate::config::Misconfigured;

/// Runs the role until `shutdown`.
pub(crate) async fn run(command: AgentCommand, shutdown: CancellationToken) -> Result<()> {
    let ended = match command {
        AgentCommand::Proxy(args) => {
            nullius_agent::run_proxy(proxy_settings(args.cluster).context(Misconfigured)?, shutdown)
                .await
        }
        AgentCommand::Control(args) => {
            nullius_agent::run_control(
                control_settings(args.cluster).context(Misconfigured)?,
                shutdown,
            )
            .await
        }
        AgentCommand::Admission(args) => {
            nullius_agent::run_admission(
                admission_settings(args.cluster).context(Misconfigured)?,
                shutdown,
            )
            .await
        }
        AgentCommand::Identity(args) => {
            nullius_agent::run_identity(
                identity_settings(args.cluster).context(Misconfigured)?,
                shutdown,
            )
            .await
        }
    };
    Ok(ended?)
}

fn control_settings(cluster: ClusterName) -> Result<ControlSettings> {
    Ok(ControlSettings {
        cluster,
        hub: hub_settings()?,
        hub_token_file: path(env::HUB_TOKEN_FILE)?,
        api: api_server()?,
        api_token_file: path(env::API_TOKEN_FILE)?,
        join_token_file: optional(env::JOIN_TOKEN_FILE).map(PathBuf::from),
        listen: parsed(env::LISTEN)?,
        audit_listen: optional(env::AUDIT_LISTEN).map(|_| parsed(env::AUDIT_LISTEN)).transpose()?,
        health: health()?,
    })
}

fn proxy_settings(cluster: ClusterName) -> Result<ProxySettings> {
    Ok(ProxySettings {
        cluster,
        hub: hub_settings()?,
        hub_token_file: path(env::HUB_TOKEN_FILE)?,
        api: api_server()?,
        control: parsed(env::CONTROL)?,
        tunnels: TunnelCount::default(),
        health: health()?,
    })
}

fn admission_settings(cluster: ClusterName) -> Result<AdmissionSettings> {
    Ok(AdmissionSettings {
        cluster,
        hub: hub_settings()?,
        hub_token_file: path(env::HUB_TOKEN_FILE)?,
        api: api_server()?,
        api_token_file: path(env::API_TOKEN_FILE)?,
        listen: parsed(env::LISTEN)?,
        client_ca_file: optional(env::CLIENT_CA_FILE).map(PathBuf::from),
        exception_namespaces: exception_namespaces()?,
        proxy_image: optional(env::PROXY_IMAGE),
        proxy_pull: optional(env::PROXY_PULL),
        pod: required(env::POD)?,
        health: health()?,
    })
}

fn identity_settings(cluster: ClusterName) -> Result<IdentitySettings> {
    Ok(IdentitySettings {
        cluster,
        trust_domain: parsed(env::TRUST_DOMAIN)?,
        hub: hub_settings()?,
        hub_token_file: path(env::HUB_TOKEN_FILE)?,
        api: api_server()?,
        api_token_file: path(env::API_TOKEN_FILE)?,
        listen: parsed(env::LISTEN)?,
        issuer: Address { host: required(env::ISSUER_HOST)?, port: parsed(env::ISSUER_PORT)? },
        pod: required(env::POD)?,
        health: health()?,
    })
}

/// Where exceptions count: in the agent's own namespace, unless others are named.
fn exception_namespaces() -> Result<BTreeSet<Namespace>> {
    let named = optional(env::EXCEPTION_NAMESPACES);
    let names = named.as_deref().unwrap_or(SYSTEM_NAMESPACE).split(',');
    names
        .map(|name| name.trim().parse())
        .collect::<Result<_, _>>()
        .with_context(|| format!("`{}` is wrong", env::EXCEPTION_NAMESPACES))
}

fn hub_settings() -> Result<HubSettings> {
    let ca = path(env::INFRA_CA_FILE)?;
    let pem = fs::read_to_string(&ca).with_context(|| format!("cannot read `{}`", ca.display()))?;
    let addresses = required(env::HUB)?;
    let addresses = addresses.split(',').map(|address| address.trim().parse::<Address>());
    Ok(HubSettings {
        addresses: addresses
            .collect::<Result<_, _>>()
            .with_context(|| format!("`{}` is wrong", env::HUB))?,
        roots: InfraRoots::from_pem(&pem)
            .with_context(|| format!("`{}` is no root", ca.display()))?,
        offline_key: parsed(env::OFFLINE_KEY)?,
        hub_id: required(env::HUB_ID)?,
    })
}

/// What the kubelet puts into each pod.
fn api_server() -> Result<InCluster> {
    Ok(InCluster {
        host: required("KUBERNETES_SERVICE_HOST")?,
        port: parsed("KUBERNETES_SERVICE_PORT")?,
        ca_file: path(env::API_CA_FILE)?,
    })
}

fn health() -> Result<Option<SocketAddr>> {
    optional(env::HEALTH).map(|_| parsed(env::HEALTH)).transpose()
}

fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn required(name: &str) -> Result<String> {
    optional(name).with_context(|| {
        format!(
            "`{name}` is not set: agents run from the manifest of `nullius cluster add --manifest`"
        )
    })
}

fn path(name: &str) -> Result<PathBuf> {
    required(name).map(PathBuf::from)
}

fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(name: &str) -> Result<T> {
    required(name)?.parse().with_context(|| format!("`{name}` cannot be read"))
}
