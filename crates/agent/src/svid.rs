//! `agent identity`: the authority of the cluster's workloads, and the SVIDs that it issues to the nodes of the cluster.
//!
//! Its account alone reads the authority's key. The hub certifies the authority for the cluster's trust domain; nodes prove themselves
//! by the token of their pod, hear of the pods on themselves, and get SVIDs for those. Each replica issues; one of them, which
//! leads, replaces the authority in steps. While the hub is away issuing goes on, for as long as the authority lives.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
    time::Duration,
};

use nullius_intention::Home;
use nullius_kube::{
    AGENT_IDENTITY, ApiServer, Credential, InCluster, Leadership,
    identity::{
        Fleet, Follower, IdentityStore, MachineStore, ObjectNews, Reviewer, StatusStore, TrustMap,
    },
};
use nullius_model::{ClusterName, TrustDomain};
use nullius_pki::{CommandVerifier, Verifier};
use nullius_proto::agent_v1::AgentRole;
use nullius_tls::Protocol;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

mod attend;
mod callers;
mod endpoint;
mod enrolment;
mod federation;
mod issued;
mod joining;
mod lead;
mod listener;
mod mesh;
mod meters;
mod pace;
mod registry;
mod seen;
mod service;
mod standing;
mod telling;
mod turn;

use self::meters::SvidMeters;
use crate::{
    Address, AgentError, HubSettings, health,
    identity::{EnrolError, Enroller, Identity, OnRefusal, TokenSource},
    meters::Meters,
    report::{self, Waiting},
    tasks::Tasks,
};
use attend::Attending;
use callers::{Callers, Door};
use lead::{Asking, Leader};
use listener::Shown;
use mesh::{Mesh, Telling};
use registry::{Registry, Touched};
use seen::Sightings;
use service::Issuing;

const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// `agent identity` in a pod.
#[derive(Debug)]
pub struct IdentitySettings {
    /// The cluster's name at the hub.
    pub cluster: ClusterName,
    /// Who speaks for its workloads.
    pub trust_domain: TrustDomain,
    /// Whom to trust.
    pub hub: HubSettings,
    /// Projected token of the account for the hub.
    pub hub_token_file: PathBuf,
    /// The API server.
    pub api: InCluster,
    /// Projected token of the account for the API server.
    pub api_token_file: PathBuf,
    /// Where nodes connect.
    pub listen: SocketAddr,
    /// Under which address they find it: that of its Service.
    pub issuer: Address,
    /// The name of its own pod.
    pub pod: String,
    /// Where the kubelet asks for health.
    pub health: Option<SocketAddr>,
}

/// Runs `agent identity` in a pod until `shutdown`.
pub async fn run_identity(
    settings: IdentitySettings,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    nullius_tls::install_provider();
    let meters = Meters::new();
    let counted = SvidMeters::new(&meters.all);
    let tcp = health::listen(settings.listen).await?;
    let mut tasks = Tasks::new();
    let ready = health::start(settings.health, &meters, &mut tasks).await?;
    let api = ApiServer::in_cluster(&settings.api)?;
    let account = Credential::File(settings.api_token_file);
    let domain = settings.trust_domain;

    let (standing, hears_secret) = standing::follow(&api, &account, domain.clone(), &mut tasks)?;
    let fleet = Fleet::new(&api, account.clone())?;
    let registry = Arc::new(RwLock::new(Registry::new(domain.clone())));
    let reviewer = Reviewer::new(&api, account.clone())?;
    let machines = fleet.machines();
    let door = Door::new(MachineStore::new(&api, account.clone())?, machines.hearing());
    let callers =
        Callers::new(&settings.cluster, reviewer, Arc::clone(&registry)).with_machines(door);
    let (reports, waiting) = report::open();
    let sightings = Arc::new(Sightings::new(domain.clone(), reports));
    let (issuing, mesh) = follow(
        &fleet,
        domain.clone(),
        Arc::clone(&sightings),
        |hears| {
            let hears = move || hears() && hears_secret();
            Issuing::new(registry, callers, standing.clone(), counted.clone(), hears)
        },
        &mut tasks,
    );
    hear_machines(machines, &issuing, &mut tasks);

    let shown = Shown::default();
    let id = standing::own_id(&domain)?;
    tasks.spawn_loop("certificate", shown.clone().keep(id, standing.clone()));
    let (enrolled, hub) = watch::channel(None);
    let verifier = Arc::new(Verifier::new(settings.hub.offline_key, 0)?);
    let (report, reported) = watch::channel(None);
    let (orders, ordered) = watch::channel(None);
    let (others, federated) = watch::channel(None);
    let attending = Attending {
        commands: CommandVerifier::new(Arc::clone(&verifier), settings.cluster.clone()),
        verifier: Arc::clone(&verifier),
        hub: hub.clone(),
        report: reported,
        ordered: orders,
        federated: others,
    };
    tasks.spawn_loop("orders of the hub", attending.run());
    let enrolment = Enrolment {
        cluster: settings.cluster.clone(),
        verifier,
        hub: settings.hub,
        token_file: settings.hub_token_file,
        enrolled,
    };
    tasks.spawn("hub", enrolment.keep(shutdown.clone(), tasks.stop()));
    tasks.spawn_loop("issued identities", Arc::clone(&issuing.issued).tell(hub.clone()));
    tasks.spawn("reports of the mesh", tell(waiting, hub.clone(), tasks.stop()));
    let (leads, led) = watch::channel(false);
    let identities = telling::Telling {
        issuing: Arc::clone(&issuing),
        store: StatusStore::workload_identities(&api, account.clone())?,
        machines: StatusStore::machines(&api, account.clone())?,
        leads: led.clone(),
    };
    tasks.spawn_loop("status of workload identities", identities.run());
    let told = StatusStore::intentions(&api, account.clone())?;
    let home = Home {
        trust_domain: domain.clone(),
        // Until the hub tells of others nodes know no other trust domain.
        federated: Some(Default::default()),
        issuers: None,
    };
    let telling = Telling::new(Arc::clone(&mesh), told, settings.pod, led, home, standing.clone());
    tasks.spawn_loop("status of intentions", telling.run());
    let leader = Leader {
        domain: domain.clone(),
        store: IdentityStore::new(&api, account.clone())?,
        trust: TrustMap::new(&api, account.clone())?,
        issuer: settings.issuer,
        standing,
        hub,
        meters: counted,
        asking: Asking::default(),
        written: None,
        leads,
        told: None,
        report,
        ordered,
        federated,
    };
    let holder = format!("{:032x}", nullius_pki::random_bits());
    let leadership = Leadership::new(&api, account, AGENT_IDENTITY, holder)?;
    tasks.spawn("leadership", leader.run(leadership, tasks.stop()));

    let (asked, shows, leaving) = (Arc::clone(&issuing), shown.clone(), shutdown.clone());
    ready.follow(move || {
        if leaving.is_cancelled() {
            return Err("it is told to stop");
        }
        asked.is_ready()?;
        if shows.is_there() { Ok(()) } else { Err("there is no SVID of its own yet") }
    });
    tracing::info!(cluster = %settings.cluster, trust_domain = %domain, address = %settings.listen, "issue identities to nodes");
    let stop = tasks.stop();
    tasks.spawn("nodes", async move {
        listener::serve(tcp, shown, issuing, mesh, sightings, stop).await;
        Ok(())
    });
    let result = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        error = tasks.failed() => Err(error),
    };
    tasks.finish(STOP_PATIENCE).await;
    result
}

/// Whether what is known of some objects is true.
type Hears = Box<dyn Fn() -> bool + Send + Sync>;

/// Follows the cluster's objects, and tells nodes what changed for them.
fn follow(
    fleet: &Fleet,
    domain: TrustDomain,
    sightings: Arc<Sightings>,
    issuing: impl FnOnce(Hears) -> Issuing,
    tasks: &mut Tasks,
) -> (Arc<Issuing>, Arc<Mesh>) {
    let (mut pods, mut namespaces, mut nodes) = (fleet.pods(), fleet.namespaces(), fleet.nodes());
    let mut declared = fleet.workload_identities();
    let hearing = (pods.hearing(), namespaces.hearing(), nodes.hearing(), declared.hearing());
    let hears = move || hearing.0() && hearing.1() && hearing.2() && hearing.3();
    let issuing = Arc::new(issuing(Box::new(hears.clone())));
    // Identities do not wait for what the mesh needs beside them.
    let (mut services, mut slices, mut intentions) =
        (fleet.services(), fleet.slices(), fleet.intentions());
    let hearing = (services.hearing(), slices.hearing(), intentions.hearing());
    let hears = move || hears() && hearing.0() && hearing.1() && hearing.2();
    let mesh = Arc::new(Mesh::new(domain, hears));
    let (heard, also) = (Arc::clone(&issuing), Arc::clone(&mesh));
    tasks.spawn_loop("pods", async move {
        while let Some(news) = pods.next().await {
            heard.hear(|registry| registry.hear_pods(news.clone()));
            sightings.hear_pods(news.clone());
            also.hear(|book| book.hear_pods(news));
        }
    });
    let (heard, also) = (Arc::clone(&issuing), Arc::clone(&mesh));
    tasks.spawn_loop("namespaces", async move {
        while let Some(news) = namespaces.next().await {
            heard.hear(|registry| registry.hear_namespaces(news.clone()));
            also.hear(|book| book.hear_namespaces(news));
        }
    });
    let heard = Arc::clone(&issuing);
    tasks.spawn_loop("nodes' objects", async move {
        while let Some(news) = nodes.next().await {
            heard.hear(|registry| registry.hear_nodes(news));
        }
    });
    let heard = Arc::clone(&issuing);
    tasks.spawn_loop("workload identities", async move {
        while let Some(news) = declared.next().await {
            heard.hear(|registry| registry.hear_declared(news));
        }
    });
    let heard = Arc::clone(&mesh);
    tasks.spawn_loop("services", async move {
        while let Some(news) = services.next().await {
            heard.hear(|book| book.hear_services(news));
        }
    });
    let heard = Arc::clone(&mesh);
    tasks.spawn_loop("endpoint slices", async move {
        while let Some(news) = slices.next().await {
            heard.hear(|book| book.hear_slices(news));
        }
    });
    let heard = Arc::clone(&mesh);
    tasks.spawn_loop("intentions", async move {
        while let Some(news) = intentions.next().await {
            heard.hear_intentions(news);
        }
    });
    tasks.spawn_loop("keys of issuers", mesh::keep_issuers(Arc::clone(&mesh)));
    (issuing, mesh)
}

/// Follows machines outside of the cluster. Nobody else waits for them: a cluster whose manifest is of before has none.
fn hear_machines(mut machines: Follower<ObjectNews>, issuing: &Arc<Issuing>, tasks: &mut Tasks) {
    let heard = Arc::clone(issuing);
    tasks.spawn_loop("machines", async move {
        while let Some(news) = machines.next().await {
            heard.hear(|registry| registry.hear_machines(news));
        }
    });
}

/// Tells the hub what the mesh decided, once this agent is enrolled.
async fn tell(
    waiting: Waiting,
    mut hub: watch::Receiver<Option<Identity>>,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    let enrolled = stop.run_until_cancelled(hub.wait_for(Option::is_some)).await;
    let identity = enrolled.and_then(|it| it.ok()?.clone());
    match identity {
        Some(identity) => waiting.tell(identity, Protocol::Identity, stop).await,
        None => {
            stop.cancelled().await;
            Ok(())
        }
    }
}

impl Issuing {
    fn hear(&self, change: impl FnOnce(&mut Registry) -> Touched) {
        let mut registry = self.registry.write().unwrap_or_else(PoisonError::into_inner);
        let touched = change(&mut registry);
        let count = i64::try_from(registry.count()).unwrap_or(i64::MAX);
        drop(registry);
        self.restless.store(true, Ordering::Release);
        self.meters.entries.set((), count);
        if !touched.is_empty() {
            self.callers.hear();
        }
        self.news.tell(touched);
    }
}

/// This agent at the hub.
struct Enrolment {
    cluster: ClusterName,
    hub: HubSettings,
    token_file: PathBuf,
    enrolled: watch::Sender<Option<Identity>>,
    verifier: Arc<Verifier>,
}

impl Enrolment {
    /// Enrols, and keeps the certificate fresh. Who issues does not wait for it.
    async fn keep(
        self,
        shutdown: CancellationToken,
        stop: CancellationToken,
    ) -> Result<(), AgentError> {
        let tokens = TokenSource::File(self.token_file);
        let enroller =
            Enroller::new(self.cluster, AgentRole::Identity, self.hub, tokens, self.verifier)
                .map_err(EnrolError::from)?;
        match enroller.enrol(OnRefusal::Wait, &shutdown).await {
            Ok((identity, renewal)) => {
                self.enrolled.send_replace(Some(identity));
                tokio::select! {
                    () = stop.cancelled() => Ok(()),
                    () = renewal.run() => Err(AgentError::Ended("certificate")),
                }
            }
            // What is issued goes on without a hub.
            Err(error) => {
                let error = AgentError::from(error);
                tracing::warn!(error = %error.chain(), "cannot have authorities certified");
                stop.cancelled().await;
                Ok(())
            }
        }
    }
}
