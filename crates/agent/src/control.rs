//! `agent control`: makes and flushes what sessions have in the cluster, and hands their tokens to proxies.
//!
//! Start: a token of role-writer, the kept key set, proof that the admission policies stand, join and enrolment,
//! a survey of what stands. Then it attaches to the hub, and carries out what it says. Beside that it hears the API server's audit webhook.

use std::{path::Path, sync::Arc, time::Duration};

use nullius_kube::{
    ApiServer, AuditWebhookStore, CONTROL_LEASE, CeilingReader, Credential, Guards, KubeError,
    Leadership, OwnAccount, OwnTokens, Sessions, SharedToken, TrustRecord, TrustStore,
    kubernetes_version, read_issuer,
};
use nullius_model::ClusterName;
use nullius_pki::Verifier;
use nullius_proto::agent_v1::{self as wire, AgentRole, AgentShape};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    AgentError, ControlSettings, HubSettings,
    alarm::Alarms,
    error::unless_stopped,
    health,
    identity::{EnrolError, Enroller, Identity, OnRefusal, Renewal, TokenSource},
    meters::Meters,
    tasks::{Tasks, run_until},
};

mod api_server;
mod attach;
mod baselines;
mod core;
mod credentials;
mod guards;
mod lead;
mod orders;
mod outbox;
mod session;
mod token;
mod upkeep;

pub(crate) use self::core::{Core, IssueError, Notice};
pub(crate) use token::is_fresh;

/// Life of role-writer's token; it is renewed at half of it.
const OWN_TOKEN_SECONDS: i64 = 600;
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Runs `agent control` in a pod until `shutdown`.
pub async fn run_control(
    settings: ControlSettings,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    unless_stopped(Box::pin(serve(settings, shutdown)).await)
}

async fn serve(settings: ControlSettings, shutdown: CancellationToken) -> Result<(), AgentError> {
    nullius_tls::install_provider();
    let meters = Meters::new();
    let listener = health::listen(settings.listen).await?;
    let mut tasks = Tasks::new();
    let ready = health::start(settings.health, &meters, &mut tasks).await?;
    let heard = match settings.audit_listen {
        Some(address) => Some(health::listen(address).await?),
        None => None,
    };
    let api = ApiServer::in_cluster(&settings.api)?;
    let provisioner = Credential::File(settings.api_token_file);
    let webhook = AuditWebhookStore::new(&api, provisioner.clone())?;
    let parts = Parts {
        cluster: settings.cluster,
        hub: settings.hub,
        own_tokens: OwnTokens::new(&api, provisioner.clone())?,
        api,
        provisioner,
        shape: AgentShape::InCluster,
        hub_tokens: TokenSource::File(settings.hub_token_file),
        join_token: read_join_token(settings.join_token_file.as_deref()).await,
        meters,
    };
    // Neither a hub nor its sessions are needed for them.
    let keeping = baselines::run(parts.api.clone(), parts.own_tokens.clone(), tasks.stop());
    tasks.spawn("namespace baselines", keeping);
    let (core, identity) = start(parts, &mut tasks, &shutdown).await?;
    let lease = core.lease.clone();
    ready.follow(move || match lease.is_held() {
        true => Ok(()),
        false => Err("the hub has not been heard lately"),
    });
    if let Some(listener) = heard {
        api_server::hear(listener, webhook, identity.clone(), &core.meters, &mut tasks);
    }
    tasks.spawn_loop("credentials", credentials::serve(listener, identity, core)?);
    run_until(tasks, &shutdown, STOP_PATIENCE).await
}

/// What control is made of, in a pod or beside a kubeconfig.
pub(crate) struct Parts {
    pub(crate) cluster: ClusterName,
    pub(crate) hub: HubSettings,
    pub(crate) api: ApiServer,
    pub(crate) provisioner: Credential,
    /// Where this process runs, as it tells the hub when it joins.
    pub(crate) shape: AgentShape,
    pub(crate) own_tokens: OwnTokens,
    pub(crate) hub_tokens: TokenSource,
    pub(crate) join_token: Option<SecretString>,
    pub(crate) meters: Meters,
}

/// Starts all of control but the service for proxies.
pub(crate) async fn start(
    parts: Parts,
    tasks: &mut Tasks,
    shutdown: &CancellationToken,
) -> Result<(Arc<Core>, Identity), AgentError> {
    let role_writer = role_writer_token(&parts.own_tokens, tasks).await?;
    let trust = TrustStore::new(&parts.api, parts.provisioner.clone())?;
    let record = trust.load().await?;
    let verifier = Arc::new(believe(&parts.hub, &record)?);
    let guards = Guards::new(&parts.api, parts.provisioner.clone(), role_writer.clone())?;
    let proven = match guards.prove_soon().await {
        // It goes on without: what stands is flushed in its time, and the hub hears what is missing.
        proven @ (Ok(()) | Err(KubeError::Unguarded(_))) => proven,
        Err(error) => return Err(error.into()),
    };
    let ceiling = CeilingReader::new(&parts.api, parts.provisioner.clone())?;
    let holder = format!("{:032x}", nullius_pki::random_bits());
    let leadership = Leadership::new(&parts.api, parts.provisioner.clone(), CONTROL_LEASE, holder)?;
    let sessions = Sessions::new(&parts.api, parts.provisioner.clone(), role_writer)?;
    let version = kubernetes_version(&parts.api, parts.provisioner.clone()).await?;

    let (identity, renewal) = get_in(&parts, &trust, &record, &verifier, shutdown).await?;
    let (alarms, raised) = Alarms::new(parts.meters.clone());
    let (core, outgoing) =
        Core::new(parts.cluster, verifier, sessions, trust, identity.clone(), alarms, parts.meters);
    core.note_guards(proven);
    core.note_ceiling(ceiling.read().await);
    core.adopt().await?;

    tasks.spawn_loop("guards", guards::watch(Arc::clone(&core), guards, ceiling));
    tasks.spawn_loop("certificate", renewal.run());
    tasks.spawn_loop("key sets", upkeep::follow_key_sets(Arc::clone(&core), identity.clone()));
    tasks.spawn_loop("alarms", forward_alarms(Arc::clone(&core), raised));
    tasks.spawn_loop("upkeep", upkeep::run(Arc::clone(&core)));
    let stop = tasks.stop();
    tasks.spawn("leadership", lead::run(Arc::clone(&core), leadership, stop.clone()));
    let (core_of_hub, leaving) = (Arc::clone(&core), shutdown.clone());
    tasks
        .spawn("hub", attach::run(core_of_hub, identity.clone(), version, outgoing, leaving, stop));
    Ok((core, identity))
}

/// Joins where that is still to be done, and enrols.
async fn get_in(
    parts: &Parts,
    trust: &TrustStore,
    record: &TrustRecord,
    verifier: &Arc<Verifier>,
    shutdown: &CancellationToken,
) -> Result<(Identity, Renewal), AgentError> {
    let enroller = Enroller::new(
        parts.cluster.clone(),
        AgentRole::Control,
        parts.hub.clone(),
        parts.hub_tokens.clone(),
        Arc::clone(verifier),
    )
    .map_err(EnrolError::from)?;
    let joined = record.hub_id.as_deref() == Some(parts.hub.hub_id.as_str());
    let refused = match (&parts.join_token, joined) {
        (None, true) => None,
        (None, false) => return Err(EnrolError::NoJoinToken.into()),
        (Some(token), _) => join(&enroller, token, parts, trust, shutdown).await?,
    };
    match enroller.enrol(OnRefusal::Fail, shutdown).await {
        Ok(identity) => {
            // Used or too old: nobody should find it any more.
            if refused.is_some()
                && let Err(error) = trust.forget_join_token().await
            {
                tracing::warn!(%error, "cannot delete the old join token");
            }
            Ok(identity)
        }
        // A token that was redeemed before is refused and of no matter, unless enrolling fails as well.
        Err(EnrolError::Refused(reason)) => {
            Err(EnrolError::Refused(refused.unwrap_or(reason)).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Redeems the join token; gives the hub's reason where it does not take it.
async fn join(
    enroller: &Enroller,
    token: &SecretString,
    parts: &Parts,
    trust: &TrustStore,
    shutdown: &CancellationToken,
) -> Result<Option<String>, AgentError> {
    let issuer = read_issuer(&parts.api, parts.provisioner.clone()).await?;
    let mut backoff = crate::backoff::Backoff::default();
    loop {
        let (name, keys) = (issuer.issuer.clone(), issuer.jwks.clone());
        let joining = enroller.join(token, name, keys, parts.shape);
        let joined = tokio::select! {
            () = shutdown.cancelled() => return Err(EnrolError::Stopped.into()),
            joined = joining => joined,
        };
        match joined {
            Ok(()) => break,
            Err(EnrolError::Refused(reason)) => {
                tracing::warn!(%reason, "join token is not taken, go on as if joined");
                return Ok(Some(reason));
            }
            Err(error @ EnrolError::Unreachable { .. }) => {
                let wait = backoff.after_failure(crate::backoff::random());
                tracing::warn!(%error, "cannot join, try again");
                tokio::select! {
                    () = shutdown.cancelled() => return Err(EnrolError::Stopped.into()),
                    () = tokio::time::sleep(wait) => {}
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    tracing::info!(cluster = %parts.cluster, "join the hub");
    let hub_id = Some(parts.hub.hub_id.clone());
    trust.keep(&TrustRecord { hub_id, ..TrustRecord::default() }).await?;
    trust.forget_join_token().await?;
    Ok(None)
}

/// What is believed before the hub is heard: the pinned key, and nothing older than what was kept.
fn believe(hub: &HubSettings, record: &TrustRecord) -> Result<Verifier, AgentError> {
    let ours = record.hub_id.as_deref() == Some(hub.hub_id.as_str());
    let floor = if ours { record.revision } else { 0 };
    let verifier = Verifier::new(hub.offline_key, floor)?;
    if let Some(kept) = record.key_set.as_ref().filter(|_| ours)
        && let Err(error) = verifier.install(kept)
    {
        tracing::warn!(%error, "kept key set is not used, wait for the hub's");
    }
    Ok(verifier)
}

async fn role_writer_token(
    own_tokens: &OwnTokens,
    tasks: &mut Tasks,
) -> Result<Credential, AgentError> {
    let shared = SharedToken::default();
    let first = own_tokens.mint(OwnAccount::RoleWriter, None, OWN_TOKEN_SECONDS).await?;
    shared.replace(&first.token);
    let renewing = token::keep_renewed(
        own_tokens.clone(),
        OwnAccount::RoleWriter,
        shared.clone(),
        OWN_TOKEN_SECONDS,
        first,
    );
    tasks.spawn_loop("role-writer's token", renewing);
    Ok(Credential::Shared(shared))
}

async fn forward_alarms(core: Arc<Core>, mut raised: mpsc::Receiver<wire::Alarm>) {
    while let Some(alarm) = raised.recv().await {
        core.outbox.send(wire::agent_message::Kind::Alarm(alarm));
    }
}

async fn read_join_token(path: Option<&Path>) -> Option<SecretString> {
    let text = tokio::fs::read_to_string(path?).await.ok()?;
    let token = text.trim();
    (!token.is_empty()).then(|| SecretString::from(token.to_owned()))
}

/// An error of the cluster in one line with its cause, as the hub's people read it.
pub(crate) fn sentence(error: &KubeError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
