//! The heart of control: the sessions that it knows, who may have their tokens, and whom to tell of changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nullius_kube::{KubeError, MintedToken, Sessions, StandingSession, TrustRecord, TrustStore};
use nullius_model::{ClusterName, SessionId, Timestamp};
use nullius_pki::{AssertionError, AssertionVerifier, CommandVerifier, Installed, Verifier};
use nullius_proto::agent_v1::AgentMessage;
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::Instant,
};

use super::{
    guards::State,
    is_fresh,
    outbox::Outbox,
    sentence,
    session::{Phase, Session, Step},
};
use crate::{
    alarm::{AlarmKind, Alarms},
    identity::Identity,
    lease::Lease,
    meters::Meters,
};

/// How long a request waits for its session's objects.
const PLAN_PATIENCE: Duration = Duration::from_secs(5);
/// How often an awaited namespace is looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const NOTICES: usize = 1_024;

/// What proxies are told as it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    SessionEnded(SessionId),
    KeySet(String),
    Lease,
}

/// Why a session's token is not given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error("the assertion is refused")]
    Assertion(#[from] AssertionError),
    #[error("the assertion is for session `{0}`")]
    OtherSession(SessionId),
    #[error("the session has ended in this cluster; sign in again with `nullius login`")]
    Ended,
    #[error("the agent has not heard its hub lately and refuses all sessions until it does")]
    Lease,
    #[error("the session's rights do not stand in the cluster yet; try again")]
    NotReady,
    #[error("the cluster gives no token for the session: {0}")]
    Cluster(String),
}

/// What control knows and does.
pub(crate) struct Core {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) assertions: AssertionVerifier,
    pub(crate) commands: CommandVerifier,
    pub(crate) kube: Sessions,
    pub(crate) lease: Lease,
    pub(crate) alarms: Alarms,
    pub(crate) outbox: Outbox,
    pub(crate) meters: Meters,
    pub(crate) notices: broadcast::Sender<Notice>,
    /// How the cluster bounds this agent, and whether it leads.
    pub(crate) state: watch::Sender<State>,
    /// The newest key set as the hub signed it.
    pub(crate) key_set: watch::Sender<String>,
    trust: TrustStore,
    hub_id: String,
    sessions: Mutex<BTreeMap<SessionId, Arc<Session>>>,
}

impl Core {
    pub(crate) fn new(
        cluster: ClusterName,
        verifier: Arc<Verifier>,
        kube: Sessions,
        trust: TrustStore,
        identity: Identity,
        alarms: Alarms,
        meters: Meters,
    ) -> (Arc<Self>, mpsc::Receiver<AgentMessage>) {
        let (outbox, outgoing) = Outbox::new();
        let first_key_set = identity.key_set.borrow().clone();
        let core = Self {
            assertions: AssertionVerifier::new(Arc::clone(&verifier), cluster.clone()),
            commands: CommandVerifier::new(Arc::clone(&verifier), cluster),
            verifier,
            kube,
            lease: Lease::new(),
            alarms,
            outbox,
            meters,
            notices: broadcast::Sender::new(NOTICES),
            state: watch::Sender::default(),
            key_set: watch::Sender::new(first_key_set),
            trust,
            hub_id: identity.hub.hub_id,
            sessions: Mutex::default(),
        };
        (Arc::new(core), outgoing)
    }

    /// Finds what stands in the cluster, and changes nothing: another replica may be at work on it.
    pub(crate) async fn adopt(&self) -> Result<(), KubeError> {
        for (_, standing) in self.kube.survey().await?.sessions {
            self.keep(Session::new(standing));
        }
        self.count_sessions();
        Ok(())
    }

    /// Finds what stands, whoever made it: what is half made goes, what is others' is told and left alone.
    pub(crate) async fn take_lead(&self) -> Result<(), KubeError> {
        let survey = self.kube.survey().await?;
        for (object, why) in &survey.foreign {
            self.alarms.raise(AlarmKind::ForeignObject, &format!("`{object}`: {why}"));
        }
        for session in self.all() {
            // Who holds the work knows better.
            let gone = !survey.sessions.contains_key(&session.id)
                && matches!(session.phase(), Phase::Ready { .. })
                && session.work.try_lock().is_ok();
            if gone {
                self.forget(&session.id);
            }
        }
        for (id, found) in survey.sessions {
            let known = self.sessions().get(&id).map(Arc::clone);
            let session = known.unwrap_or_else(|| self.keep(Session::new(found.clone())));
            // An order may be at work on it: by the time of the lock it is whole.
            let mut work = session.work.lock().await;
            match session.phase() {
                Phase::Ended => {}
                Phase::Ready { generation } if generation >= found.generation => {}
                Phase::Ready { .. } | Phase::Absent if found.generation > 0 => {
                    let generation = found.generation;
                    work.standing = found;
                    session.phase.send_modify(|phase| *phase = phase.after_plan(generation));
                }
                Phase::Ready { .. } | Phase::Absent => {
                    tracing::info!(session = %id, "remove what was half made");
                    self.remove(&mut work.standing).await?;
                }
            }
        }
        self.count_sessions();
        Ok(())
    }

    /// The session, known from now on.
    pub(crate) fn session(&self, id: &SessionId) -> Arc<Session> {
        let known = self.sessions().get(id).map(Arc::clone);
        known.unwrap_or_else(|| self.keep(Session::new(self.kube.begin(id))))
    }

    /// All sessions that are known.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.sessions().values().map(Arc::clone).collect()
    }

    /// Sessions whose whole plan stands.
    pub(crate) fn ready(&self) -> Vec<SessionId> {
        let sessions = self.sessions();
        let ready = sessions.values().filter(|s| matches!(s.phase(), Phase::Ready { .. }));
        ready.map(|session| session.id.clone()).collect()
    }

    /// Sessions that have ended and are remembered.
    pub(crate) fn ended(&self) -> Vec<SessionId> {
        let sessions = self.sessions();
        let ended = sessions.values().filter(|session| session.phase() == Phase::Ended);
        ended.map(|session| session.id.clone()).collect()
    }

    /// Forgets a session; whoever asks for it is answered from what stands in the cluster.
    pub(crate) fn forget(&self, id: &SessionId) {
        self.sessions().remove(id);
    }

    /// The token of a session for a request that the hub has permitted.
    pub(crate) async fn issue(
        &self,
        id: &SessionId,
        generation: u64,
        assertion: &str,
        now: Timestamp,
    ) -> Result<MintedToken, IssueError> {
        let permitted = match self.assertions.read(assertion, now) {
            Ok(permitted) => permitted,
            Err(error) => {
                self.alarms.raise(AlarmKind::RefusedAssertion, &format!("from a proxy: {error}"));
                return Err(error.into());
            }
        };
        if permitted.sid != *id || permitted.plan != generation {
            self.alarms.raise(AlarmKind::RefusedAssertion, "a proxy asked for another session");
            return Err(IssueError::OtherSession(permitted.sid));
        }
        if !self.lease.is_held() {
            return Err(IssueError::Lease);
        }
        let session = self.session(id);
        self.reach(&session, generation).await?;
        let mut work = session.work.lock().await;
        if session.phase() == Phase::Ended {
            return Err(IssueError::Ended);
        }
        self.complete(&mut work).await;
        if let Some(token) = work.token.as_ref().filter(|token| is_fresh(token, now)) {
            return Ok(token.clone());
        }
        let minted = self.kube.mint(&work.standing).await;
        let token = minted.map_err(|error| IssueError::Cluster(sentence(&error)))?;
        self.meters.tokens.add_one(());
        work.token = Some(token.clone());
        Ok(token)
    }

    /// Checks a key set, makes it hold, keeps it and tells the proxies.
    pub(crate) async fn install_key_set(&self, jws: &str) {
        match self.verifier.install(jws) {
            Ok(Installed::Unchanged) => {}
            Ok(Installed::Replaced) => {
                tracing::info!(revision = self.verifier.revision(), "follow a newer key set");
            }
            Err(error) => {
                self.alarms.raise(AlarmKind::RefusedKeySet, &error.to_string());
                return;
            }
        }
        self.key_set.send_replace(jws.to_owned());
        // Without a proxy nobody listens.
        let _ = self.notices.send(Notice::KeySet(jws.to_owned()));
        let record = TrustRecord {
            hub_id: Some(self.hub_id.clone()),
            revision: self.verifier.revision().unwrap_or_default(),
            key_set: Some(jws.to_owned()),
        };
        if let Err(error) = self.trust.keep(&record).await {
            tracing::warn!(%error, "cannot keep the key set, a restart might believe an older one");
        }
    }

    /// Holds the lease on and tells the proxies.
    pub(crate) fn extend_lease(&self, start: Instant, length: Duration) {
        self.lease.extend(start, length);
        let _ = self.notices.send(Notice::Lease);
    }

    pub(crate) fn count_sessions(&self) {
        let standing = self.ready().len();
        self.meters.sessions.set((), i64::try_from(standing).unwrap_or(i64::MAX));
    }

    /// Waits until the session has what the request needs, or refuses.
    async fn reach(&self, session: &Session, generation: u64) -> Result<(), IssueError> {
        if session.phase().for_request(generation) == Step::Wait {
            self.look_up(session, generation).await?;
        }
        let mut phases = session.phase.subscribe();
        let reached = phases.wait_for(|phase| phase.for_request(generation) != Step::Wait);
        let step = match tokio::time::timeout(PLAN_PATIENCE, reached).await {
            Ok(Ok(phase)) => phase.for_request(generation),
            Ok(Err(_)) | Err(_) => Step::Wait,
        };
        match step {
            Step::Go => Ok(()),
            Step::Refuse => Err(IssueError::Ended),
            Step::Wait => Err(IssueError::NotReady),
        }
    }

    /// Another replica may have made it.
    async fn look_up(&self, session: &Session, generation: u64) -> Result<(), IssueError> {
        let mut work = session.work.lock().await;
        if session.phase().for_request(generation) != Step::Wait {
            return Ok(());
        }
        match self.kube.load(&session.id).await {
            Ok(Some(found)) if found.generation >= generation.max(1) => {
                let generation = found.generation;
                work.token = None;
                work.standing = found;
                session.phase.send_modify(|phase| *phase = phase.after_plan(generation));
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(IssueError::Cluster(sentence(&error))),
        }
    }

    /// Makes what waits for a namespace, where that exists by now.
    async fn complete(&self, work: &mut super::session::Work) {
        if work.standing.awaits.is_empty() || work.look_again > Instant::now() {
            return;
        }
        work.look_again = Instant::now() + LOOK_AGAIN;
        let Some(plan) = work.plan.clone() else { return };
        match self.kube.ensure(&plan, &mut work.standing).await {
            Ok(ensured) => work.token = ensured.token.or(work.token.take()),
            Err(error) => tracing::warn!(session = %plan.session, %error, "cannot complete a plan"),
        }
    }

    /// Removes a session's objects and says which.
    pub(crate) async fn remove(
        &self,
        standing: &mut StandingSession,
    ) -> Result<BTreeMap<String, String>, KubeError> {
        let flushed = self.kube.flush(standing).await?;
        for object in &flushed.foreign {
            let detail = format!("`{object}` has another UID than the one that was made");
            self.alarms.raise(AlarmKind::ForeignObject, &detail);
        }
        Ok(flushed.removed.iter().map(|(object, uid)| (object.to_string(), uid.clone())).collect())
    }

    fn keep(&self, session: Session) -> Arc<Session> {
        let mut sessions = self.sessions();
        let entry = sessions.entry(session.id.clone()).or_insert_with(|| Arc::new(session));
        Arc::clone(entry)
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, BTreeMap<SessionId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
