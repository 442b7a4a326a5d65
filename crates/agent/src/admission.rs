//! `agent admission`: answers API servers, which hold a request back until the policies have been asked.
//!
//! It begins to be asked only when it knows: every cache is complete and every policy compiled. Then it is ready, and the
//! replica that leads writes it into the webhook configurations. Its account reads what policies ask for and makes nothing.
//! That replica also judges what stands already, and tells the hub.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use nullius_admission::Sidecar;
use nullius_kube::{
    AGENT_ADMISSION, ApiServer, Credential, InCluster, Inventory, Leadership, SYSTEM_NAMESPACE,
    admission::Questions,
};
use nullius_model::{ClusterName, Namespace};
use nullius_pki::Verifier;
use nullius_proto::agent_v1::AgentRole;
use nullius_tls::{Protocol, WebRoots, WebhookAcceptor};
use tokio_util::sync::CancellationToken;

mod authority;
mod background;
mod baselines;
mod certificate;
mod exceptions;
mod facts;
mod lead;
mod levels;
mod listener;
mod meters;
mod policies;
mod record;
mod replicas;
#[cfg(test)]
mod tests;
mod timeout;
mod webhook;

use crate::{
    AgentError, HubSettings, health,
    identity::{EnrolError, Enroller, OnRefusal, TokenSource},
    meters::Meters,
    report,
    tasks::Tasks,
};
use facts::FactSource;
use policies::Engines;
use webhook::Webhook;

/// A replica that goes may have levels of Pod Security to raise. Reviews under way, and who still comes, have their time before.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// `agent admission` in a pod.
#[derive(Debug)]
pub struct AdmissionSettings {
    /// The cluster's name at the hub.
    pub cluster: ClusterName,
    /// Whom to trust, and who is told what is decided.
    pub hub: HubSettings,
    /// Projected token of the account for the hub.
    pub hub_token_file: PathBuf,
    /// The API server.
    pub api: InCluster,
    /// Projected token of the account for the API server.
    pub api_token_file: PathBuf,
    /// Where API servers connect.
    pub listen: SocketAddr,
    /// Authorities of API servers' client certificates, PEM; where the file is absent, none are asked for.
    pub client_ca_file: Option<PathBuf>,
    /// Namespaces in which exceptions from policies count.
    pub exception_namespaces: BTreeSet<Namespace>,
    /// The image of the proxy that pods get which are to have one of their own; none where the cluster has no mesh.
    pub proxy_image: Option<String>,
    /// When it is pulled, in Kubernetes' words.
    pub proxy_pull: Option<String>,
    /// The pod's name, by which this replica tells the others what it knows.
    pub pod: String,
    /// Where the kubelet asks for health.
    pub health: Option<SocketAddr>,
}

/// The DNS name by which API servers call the webhook.
pub(crate) fn service_name() -> String {
    format!("{AGENT_ADMISSION}.{SYSTEM_NAMESPACE}.svc")
}

/// Runs `agent admission` in a pod until `shutdown`; reviews under way are answered first.
pub async fn run_admission(
    settings: AdmissionSettings,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    nullius_tls::install_provider();
    let meters = Meters::new();
    let counted = meters::AdmissionMeters::new(&meters.all);
    let tcp = health::listen(settings.listen).await?;
    let clients = client_roots(settings.client_ca_file.as_deref())?;
    let mut tasks = Tasks::new();
    let ready = health::start(settings.health, &meters, &mut tasks).await?;
    let api = ApiServer::in_cluster(&settings.api)?;
    let account = Credential::File(settings.api_token_file);

    let engines =
        Engines::start(&api, &account, settings.exception_namespaces, counted.clone(), &mut tasks)?;
    let gate = baselines::Gate::watch(&api, &account, engines.clone(), &mut tasks)?;
    let levels = levels::Levels::new(engines.clone(), gate.clone());
    tasks.spawn_loop("levels", levels.clone().follow());
    let authority = authority::follow(&api, &account, &mut tasks)?;
    let certificate = certificate::Serving::new(service_name())?;
    tasks.spawn_loop("certificate", certificate.clone().keep(authority.clone()));
    let (reports, waiting) = report::open();
    let told = reports.clone();
    let hub = Hub {
        cluster: settings.cluster.clone(),
        settings: settings.hub,
        token_file: settings.hub_token_file,
        waiting,
    };
    tasks.spawn("hub", hub.tell(shutdown.clone(), tasks.stop()));

    let facts = FactSource::new(Questions::new(&api, account.clone())?, engines.clone());
    let pull_policy = settings.proxy_pull;
    let sidecar = settings.proxy_image.map(|image| Sidecar { image, pull_policy });
    let injects = sidecar.is_some();
    let webhook = Webhook::new(engines.clone(), facts, gate.clone(), authority, reports, counted);
    let webhook = Arc::new(webhook.injecting(sidecar));
    let acceptor = WebhookAcceptor::new(certificate.shown(), clients.as_ref())?;
    let holder = format!("{:032x}", nullius_pki::random_bits());
    let leadership = Leadership::new(&api, account.clone(), AGENT_ADMISSION, holder)?;
    let pod = settings.pod;
    let saying =
        replicas::Saying::new(&api, &account, engines.clone(), levels.clone(), pod.clone())?;
    tasks.spawn_loop("replicas", saying.run());
    let (terms, leads) = tokio::sync::watch::channel(None);
    let leader = lead::Leader::new(&api, &account, engines.clone(), gate, levels, pod, terms)?;
    let leader = leader.injecting(injects);
    let measures = background::measures::follow(&api, &account, engines.clone(), &mut tasks);
    let inventory = Inventory::new(&api, account.clone())?;
    let scanner = background::Scanner::new(inventory, told, measures, leads);
    tasks.spawn_loop("background scan", scanner.run());
    let stop = tasks.stop();
    // Who is told to go gives way at once, not when the last review is answered.
    let (leave, told, until) = (stop.child_token(), shutdown.clone(), stop.clone());
    tasks.spawn("leave", {
        let leave = leave.clone();
        async move {
            until.run_until_cancelled(told.cancelled()).await;
            leave.cancel();
            until.cancelled().await;
            Ok(())
        }
    });
    tasks.spawn("leadership", leader.run(leadership, leave, stop.clone()));

    let (asked, leaving) = (Arc::clone(&webhook), shutdown.clone());
    ready.follow(move || {
        if leaving.is_cancelled() {
            return Err("it is told to stop");
        }
        asked.is_ready()?;
        if certificate.is_shown() { Ok(()) } else { Err("there is no serving certificate yet") }
    });
    tracing::info!(cluster = %settings.cluster, address = %settings.listen, "answer API servers");
    let drained = CancellationToken::new();
    let serving = listener::serve(tcp, acceptor, webhook, shutdown.clone());
    let done = drained.clone();
    tasks.spawn("webhook", async move {
        serving.await;
        done.cancel();
        // It has ended because it was told to, and what else runs goes on until it is told too.
        stop.cancelled().await;
        Ok(())
    });
    let result = tokio::select! {
        () = drained.cancelled() => Ok(()),
        error = tasks.failed() => Err(error),
    };
    tasks.finish(STOP_PATIENCE).await;
    result
}

/// The hub as this role knows it: whoever decides does not wait for it.
struct Hub {
    cluster: ClusterName,
    settings: HubSettings,
    token_file: PathBuf,
    waiting: report::Waiting,
}

impl Hub {
    /// Enrols, and tells what is decided.
    async fn tell(
        self,
        shutdown: CancellationToken,
        stop: CancellationToken,
    ) -> Result<(), AgentError> {
        let verifier = Arc::new(Verifier::new(self.settings.offline_key, 0)?);
        let enroller = Enroller::new(
            self.cluster,
            AgentRole::Admission,
            self.settings,
            TokenSource::File(self.token_file),
            verifier,
        )
        .map_err(EnrolError::from)?;
        let enrolled = enroller.enrol(OnRefusal::Wait, &shutdown).await;
        let (identity, renewal) = match enrolled {
            Ok(enrolled) => enrolled,
            // What policies decide goes on without a hub.
            Err(error) => {
                tracing::warn!(error = %AgentError::from(error).chain(), "cannot tell the hub what is decided");
                stop.cancelled().await;
                return Ok(());
            }
        };
        tokio::select! {
            told = self.waiting.tell(identity, Protocol::Admission, stop) => told,
            () = renewal.run() => Err(AgentError::Ended("certificate")),
        }
    }
}

fn client_roots(file: Option<&std::path::Path>) -> Result<Option<WebRoots>, AgentError> {
    let Some(file) = file else { return Ok(None) };
    let pem = match std::fs::read(file) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let told = format!("`{}` cannot be read: {error}", file.display());
            return Err(AgentError::Settings(told));
        }
    };
    Ok(Some(WebRoots::from_pem(&pem)?))
}
