//! What the hub can order, carried out: ensure a plan, flush a session, keep only those that live.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nullius_kube::{KubeError, ObjectRef, StandingSession};
use nullius_model::{Order, SessionId, SessionPlan};
use nullius_proto::agent_v1::{CommandFailed, SessionFlushed, SessionReady, agent_message::Kind};
use tokio::time::Instant;

use super::{
    Core, Notice, sentence,
    session::{Phase, Session, Work},
};
use crate::alarm::AlarmKind;

/// Tries of a flush before the hub is told that it failed; the upkeep goes on trying.
const FLUSH_WAITS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// Objects by their text, with their UIDs.
type Objects = BTreeMap<String, String>;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    #[error("{}", sentence(.0))]
    Cluster(#[from] KubeError),
    #[error("the session has ended in this cluster")]
    Ended,
    #[error("{0}")]
    Unguarded(String),
    #[error("a newer plan, generation {0}, stands already")]
    Older(u64),
    #[error("the authority of workloads is not this agent's; `agent identity` hears of it")]
    NotOurs,
}

impl OrderError {
    fn is_refused(&self) -> bool {
        match self {
            Self::Cluster(error) => error.is_refused(),
            Self::Ended | Self::Older(_) | Self::NotOurs => true,
            Self::Unguarded(_) => false,
        }
    }
}

impl Core {
    /// What must happen the moment an order is heard, before anything that takes time: an ended session is refused,
    /// and its streams are cut.
    pub(crate) fn heed(&self, order: &Order) {
        match order {
            Order::Ensure(_) | Order::Rotate { .. } | Order::Federate(_) => {}
            Order::Flush { session, .. } => self.end(&self.session(session)),
            Order::Live { sessions } => {
                for session in self.all() {
                    if !sessions.contains(&session.id) {
                        self.end(&session);
                    }
                }
            }
        }
    }

    /// Carries out an order and gives the answer.
    pub(crate) async fn carry_out(self: &Arc<Self>, command: String, order: Order) -> Kind {
        let done = match order {
            Order::Ensure(plan) => self.ensure(&plan).await.map(|objects| {
                Kind::SessionReady(SessionReady {
                    command: command.clone(),
                    session: plan.session.to_string(),
                    generation: plan.generation,
                    objects: objects.into_iter().collect(),
                })
            }),
            Order::Flush { session, objects } => {
                let session = self.session(&session);
                self.note_recorded(&session, &command, &objects).await;
                let removed = self.flush(&session).await;
                removed.map(|objects| flushed(command.clone(), session.id.to_string(), objects))
            }
            Order::Live { sessions } => self
                .keep_only(&sessions)
                .await
                .map(|objects| flushed(command.clone(), String::new(), objects)),
            Order::Rotate { .. } | Order::Federate(_) => Err(OrderError::NotOurs),
        };
        self.count_sessions();
        done.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot carry out an order");
            if let OrderError::Cluster(KubeError::Foreign { .. }) = &error {
                self.alarms.raise(AlarmKind::ForeignObject, &error.to_string());
            }
            let refused = error.is_refused();
            Kind::CommandFailed(CommandFailed { command, message: error.to_string(), refused })
        })
    }

    async fn ensure(&self, plan: &SessionPlan) -> Result<Objects, OrderError> {
        let session = self.session(&plan.session);
        let mut work = session.work.lock().await;
        match session.phase() {
            Phase::Ended => return Err(OrderError::Ended),
            Phase::Ready { generation } if generation > plan.generation => {
                return Err(OrderError::Older(generation));
            }
            Phase::Ready { .. } => {}
            Phase::Absent => {
                if let Some(why) = self.unguarded() {
                    return Err(OrderError::Unguarded(why));
                }
            }
        }
        let began = Instant::now();
        let was_absent = session.phase() == Phase::Absent;
        let work = &mut *work;
        match self.kube.ensure(plan, &mut work.standing).await {
            Ok(ensured) => {
                if let Some(token) = ensured.token {
                    self.meters.tokens.add_one(());
                    work.token = Some(token);
                }
                work.plan = Some(plan.clone());
                session.phase.send_modify(|phase| *phase = phase.after_plan(plan.generation));
                let millis = began.elapsed().as_millis();
                tracing::info!(session = %plan.session, generation = plan.generation, millis, "make a plan stand");
                Ok(work.standing.object_texts())
            }
            Err(error) => {
                if was_absent {
                    self.clear_failed(work).await;
                }
                Err(error.into())
            }
        }
    }

    /// A session that could not be made leaves nothing behind.
    async fn clear_failed(&self, work: &mut Work) {
        if let Err(error) = self.remove(&mut work.standing).await {
            tracing::warn!(session = %work.standing.session, %error, "leave a half-made session to the upkeep");
        }
    }

    /// Removes an ended session's objects, trying a few times.
    pub(crate) async fn flush(&self, session: &Arc<Session>) -> Result<Objects, OrderError> {
        self.end(session);
        let mut work = session.work.lock().await;
        let work = &mut *work;
        work.token = None;
        work.plan = None;
        let mut removed = Objects::new();
        for wait in FLUSH_WAITS.into_iter().map(Some).chain([None]) {
            match self.flush_once(work, &mut removed).await {
                Ok(()) => break,
                Err(error) => match wait {
                    Some(wait) if !error.is_refused() => tokio::time::sleep(wait).await,
                    _ => return Err(error.into()),
                },
            }
        }
        // Under each of these names nothing stands any more, or something with another UID.
        let recorded = std::mem::take(&mut work.recorded).into_iter();
        removed.extend(recorded.map(|(object, uid)| (object.to_string(), uid)));
        work.ended_at.get_or_insert_with(Instant::now);
        tracing::info!(session = %session.id, objects = removed.len(), "flush a session");
        Ok(removed)
    }

    async fn flush_once(&self, work: &mut Work, removed: &mut Objects) -> Result<(), KubeError> {
        if work.standing.objects.is_empty()
            && let Some(found) = self.kube.load(&work.standing.session).await?
        {
            // Made by another replica, or before a restart.
            work.standing = found;
        }
        for (object, uid) in &work.recorded {
            work.standing.objects.entry(object.clone()).or_insert_with(|| uid.clone());
        }
        removed.append(&mut self.remove(&mut work.standing).await?);
        Ok(())
    }

    /// Removes every session of ours that does not live, however it came to stand.
    async fn keep_only(
        self: &Arc<Self>,
        live: &BTreeSet<SessionId>,
    ) -> Result<Objects, OrderError> {
        let survey = self.kube.survey().await?;
        for (object, why) in &survey.foreign {
            self.alarms.raise(AlarmKind::ForeignObject, &format!("`{object}`: {why}"));
        }
        let mut all = Objects::new();
        let mut failed = None;
        for (id, found) in &survey.sessions {
            if live.contains(id) {
                continue;
            }
            let session = self.session(id);
            self.take_over(&session, found).await;
            match self.flush(&session).await {
                Ok(removed) => {
                    self.outbox.send(flushed(String::new(), id.to_string(), removed.clone()));
                    all.extend(removed);
                }
                Err(error) => failed = Some(error),
            }
        }
        match self.kube.prune_roles(&survey).await {
            Ok(pruned) => tracing::debug!(roles = pruned.len(), "prune roles"),
            Err(error) => tracing::warn!(%error, "cannot prune roles"),
        }
        failed.map_or(Ok(all), Err)
    }

    /// Keeps what the hub has on record, as far as it is of this session: it goes as well, each by its UID.
    async fn note_recorded(&self, session: &Session, command: &str, recorded: &Objects) {
        let recorded = recorded
            .iter()
            .filter_map(|(object, uid)| Some((object.parse::<ObjectRef>().ok()?, uid.clone())));
        let mut work = session.work.lock().await;
        command.clone_into(&mut work.flush_command);
        work.recorded = recorded.filter(|(object, _)| object.is_of(&session.id)).collect();
    }

    /// Adds what the survey found to what is known.
    async fn take_over(&self, session: &Session, found: &StandingSession) {
        let mut work = session.work.lock().await;
        for (object, uid) in &found.objects {
            work.standing.objects.entry(object.clone()).or_insert_with(|| uid.clone());
        }
    }

    /// Refuses a session from now on and tells the proxies, which cut its streams.
    fn end(&self, session: &Session) {
        if session.end() {
            // Without a proxy nobody listens.
            let _ = self.notices.send(Notice::SessionEnded(session.id.clone()));
        }
    }
}

fn flushed(command: String, session: String, objects: Objects) -> Kind {
    Kind::SessionFlushed(SessionFlushed {
        command,
        session,
        objects: objects.into_iter().collect(),
    })
}
