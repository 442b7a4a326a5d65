//! Both roles in one process beside a kubeconfig: the way in for a laptop, with two identities all the same.
//!
//! The administrator of the kubeconfig applies the join manifest and mints the first token of the provisioner; then
//! that credential is dropped. From there on the process is its own accounts, which renew their tokens themselves,
//! and it enrols at the hub once as control and once as proxy.

use std::{future::Future, path::Path, pin::Pin, sync::Arc, time::Duration};

use nullius_kube::{
    Administrator, ApiServer, Credential, JoinManifest, MintedToken, OwnAccount, OwnTokens, Shape,
    SharedToken,
};
use nullius_model::{RequestAssertion, Timestamp};
use nullius_proto::agent_v1::{AgentRole, AgentShape, agent_message};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::{
    AgentError, BesideSettings,
    alarm::Alarms,
    backoff::{Backoff, random},
    control::{self, Core, IssueError, Notice},
    error::unless_stopped,
    health,
    identity::{EnrolError, Enroller, OnRefusal, TokenSource},
    meters::Meters,
    proxy::{
        self, Proxy,
        gate::{Handed, Issuer, NotHanded},
    },
    tasks::Tasks,
};

const OWN_TOKEN_SECONDS: i64 = 3_600;
/// What is left of sessions at the end is taken back, as far as that is possible in this time.
const TAKE_BACK: Duration = Duration::from_secs(8);

/// Runs control and proxy beside a kubeconfig until `shutdown`, and takes back what sessions had in the cluster.
pub async fn run_beside(
    settings: BesideSettings,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    unless_stopped(serve(settings, shutdown).await)
}

/// Reads a kubeconfig and asks its API server whether it is there, before anything is made.
pub async fn check_kubeconfig(path: &Path, context: Option<&str>) -> Result<(), AgentError> {
    nullius_tls::install_provider();
    let (_, administrator) = Administrator::from_kubeconfig(path, context).await?;
    Ok(administrator.greet().await?)
}

async fn serve(settings: BesideSettings, shutdown: CancellationToken) -> Result<(), AgentError> {
    nullius_tls::install_provider();
    let meters = Meters::new();
    let mut tasks = Tasks::new();
    let ready = health::start(settings.health, &meters, &mut tasks).await?;
    let (api, provisioner) = make_accounts(&settings, &mut tasks).await?;
    let own_tokens = OwnTokens::new(&api, provisioner.clone())?;

    let parts = control::Parts {
        cluster: settings.cluster.clone(),
        hub: settings.hub.clone(),
        api: api.clone(),
        provisioner,
        shape: AgentShape::Beside,
        own_tokens: own_tokens.clone(),
        hub_tokens: TokenSource::Minted(own_tokens.clone(), OwnAccount::Provisioner),
        join_token: settings.join_token,
        meters: meters.clone(),
    };
    let (core, _) = control::start(parts, &mut tasks, &shutdown).await?;

    let enroller = Enroller::new(
        settings.cluster.clone(),
        AgentRole::Proxy,
        settings.hub,
        TokenSource::Minted(own_tokens, OwnAccount::AgentProxy),
        Arc::clone(&core.verifier),
    )
    .map_err(EnrolError::from)?;
    let (identity, renewal) = enroller.enrol(OnRefusal::Fail, &shutdown).await?;
    tasks.spawn_loop("proxy's certificate", renewal.run());
    // Listen before there is a tunnel, so that no end of a session is missed.
    let notices = core.notices.subscribe();
    let (alarms, mut raised) = Alarms::new(meters.clone());
    let proxy = proxy::start(
        proxy::Parts {
            cluster: settings.cluster,
            verifier: Arc::clone(&core.verifier),
            identity,
            lease: core.lease.clone(),
            issuer: Arc::new(LocalControl(Arc::clone(&core))),
            alarms,
            upstream: proxy::dial_of(&api)?,
            tunnels: settings.tunnels,
            meters,
        },
        &mut tasks,
    )?;
    let outbox = core.outbox.clone();
    tasks.spawn_loop("proxy's alarms", async move {
        while let Some(alarm) = raised.recv().await {
            outbox.send(agent_message::Kind::Alarm(alarm));
        }
    });
    tasks.spawn_loop("sessions", end_sessions(Arc::clone(&core), Arc::clone(&proxy), notices));
    let serving = Arc::clone(&proxy);
    ready.follow(move || serving.is_ready());

    let result = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        error = tasks.failed() => Err(error),
    };
    if result.is_ok() {
        proxy.drain(settings.drain).await;
    }
    if tokio::time::timeout(TAKE_BACK, take_back(&core)).await.is_err() {
        tracing::warn!("leave objects of sessions in the cluster; the next start takes them back");
    }
    tasks.finish(Duration::from_secs(5)).await;
    result
}

/// Makes the agent's accounts and gives the provisioner's credential; the administrator's is dropped here.
async fn make_accounts(
    settings: &BesideSettings,
    tasks: &mut Tasks,
) -> Result<(ApiServer, Credential), AgentError> {
    let context = settings.context.as_deref();
    let (api, administrator) =
        Administrator::from_kubeconfig(&settings.kubeconfig, context).await?;
    let manifest = JoinManifest {
        cluster: settings.cluster.clone(),
        ceiling: settings.ceiling.clone(),
        shape: Shape::Beside,
    };
    administrator.apply(&manifest).await?;
    let first = administrator.first_token(OwnAccount::Provisioner, OWN_TOKEN_SECONDS).await?;
    drop(administrator);
    let shared = SharedToken::default();
    shared.replace(&first.token);
    let credential = Credential::Shared(shared.clone());
    let renewing = Renewing {
        tokens: OwnTokens::new(&api, credential.clone())?,
        shared,
        kubeconfig: settings.kubeconfig.clone(),
        context: settings.context.clone(),
    };
    tasks.spawn_loop("provisioner's token", renewing.run(first));
    Ok((api, credential))
}

/// Renews the provisioner's token with itself. After a long sleep of the machine it has ended; the kubeconfig is then
/// read once more, for one token, and dropped again.
struct Renewing {
    tokens: OwnTokens,
    shared: SharedToken,
    kubeconfig: std::path::PathBuf,
    context: Option<String>,
}

impl Renewing {
    async fn run(self, first: MintedToken) {
        let mut current = first;
        let mut backoff = Backoff::default();
        loop {
            // By the clock on the wall, which goes on while the machine sleeps.
            while is_young(&current, Timestamp::now()) {
                tokio::time::sleep(Duration::from_secs(15)).await;
            }
            match self.renew(&current).await {
                Ok(token) => {
                    self.shared.replace(&token.token);
                    current = token;
                    backoff.reset();
                }
                Err(error) => {
                    tracing::warn!(error = %error.chain(), "cannot renew the provisioner's token, try again");
                    tokio::time::sleep(backoff.after_failure(random())).await;
                }
            }
        }
    }

    async fn renew(&self, current: &MintedToken) -> Result<MintedToken, AgentError> {
        if Timestamp::now() < current.expires_at {
            return Ok(self.tokens.mint(OwnAccount::Provisioner, None, OWN_TOKEN_SECONDS).await?);
        }
        tracing::info!("read the kubeconfig again, the provisioner's token has ended");
        let context = self.context.as_deref();
        let (_, administrator) = Administrator::from_kubeconfig(&self.kubeconfig, context).await?;
        Ok(administrator.first_token(OwnAccount::Provisioner, OWN_TOKEN_SECONDS).await?)
    }
}

/// Whether less than half of its life is over.
fn is_young(token: &MintedToken, now: Timestamp) -> bool {
    let life = token.expires_at.duration_since(token.issued_at);
    now.duration_since(token.issued_at) < life / 2
}

/// Control in the same process.
struct LocalControl(Arc<Core>);

impl Issuer for LocalControl {
    fn issue<'a>(
        &'a self,
        permitted: &'a RequestAssertion,
        assertion: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Handed, NotHanded>> + Send + 'a>> {
        Box::pin(async move {
            let issued = self.0.issue(&permitted.sid, permitted.plan, assertion, Timestamp::now());
            match issued.await {
                Ok(token) => Ok(Handed { token: token.token, expires_at: token.expires_at }),
                Err(error) => Err(not_handed(&error)),
            }
        })
    }
}

fn not_handed(error: &IssueError) -> NotHanded {
    let text = error.to_string();
    match error {
        IssueError::Ended => NotHanded::Ended(text),
        IssueError::Assertion(_) | IssueError::OtherSession(_) => NotHanded::Refused(text),
        IssueError::Lease | IssueError::NotReady | IssueError::Cluster(_) => {
            NotHanded::Unavailable(text)
        }
    }
}

/// Cuts the streams of sessions as they end.
async fn end_sessions(
    core: Arc<Core>,
    proxy: Arc<Proxy>,
    mut notices: broadcast::Receiver<Notice>,
) {
    loop {
        match notices.recv().await {
            Ok(Notice::SessionEnded(session)) => proxy.end(&session),
            Ok(Notice::KeySet(_) | Notice::Lease) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => {
                core.ended().iter().for_each(|session| proxy.end(session));
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

async fn take_back(core: &Arc<Core>) {
    for session in core.all() {
        if let Err(error) = core.flush(&session).await {
            tracing::warn!(session = %session.id, %error, "cannot take a session's objects back");
        }
    }
}
