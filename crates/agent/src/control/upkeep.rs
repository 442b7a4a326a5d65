//! What control does by itself: sessions whose time is over go also while the hub is away, flushes that failed are
//! tried again, unused roles go, and newer key sets are followed.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use nullius_model::Timestamp;
use nullius_proto::agent_v1::{SessionFlushed, agent_message::Kind};
use tokio::time::Instant;

use super::{
    Core,
    session::{Phase, Session},
};
use crate::identity::Identity;

const EVERY: Duration = Duration::from_secs(10);
/// Roles are looked through once in so many rounds.
const ROLE_ROUNDS: u32 = 30;
/// The hub ends a session at its time; we do it a little later, in case it cannot.
const SLACK: SignedDuration = SignedDuration::from_secs(15);
/// An ended session is remembered longer than any assertion for it lives.
const REMEMBER: Duration = Duration::from_secs(180);

/// Runs for as long as the process lives.
pub(crate) async fn run(core: Arc<Core>) {
    for round in 1u32.. {
        tokio::time::sleep(EVERY).await;
        for session in core.all() {
            look_after(&core, &session).await;
        }
        core.count_sessions();
        if core.leads() && round.is_multiple_of(ROLE_ROUNDS) {
            if let Err(error) = core.take_lead().await {
                tracing::warn!(%error, "cannot look for what is half made");
            }
            prune_roles(&core).await;
        }
    }
}

/// Follows the key sets that come with renewed certificates.
pub(crate) async fn follow_key_sets(core: Arc<Core>, mut identity: Identity) {
    let first = identity.key_set.borrow_and_update().clone();
    core.install_key_set(&first).await;
    while identity.key_set.changed().await.is_ok() {
        let newest = identity.key_set.borrow_and_update().clone();
        core.install_key_set(&newest).await;
    }
    // Certificates are renewed for as long as the process lives.
    std::future::pending().await
}

async fn look_after(core: &Arc<Core>, session: &Arc<Session>) {
    // Who holds the work is at it already.
    let Ok(mut work) = session.work.try_lock() else { return };
    let stands = !work.standing.objects.is_empty() || !work.recorded.is_empty();
    let overdue = work.is_overdue(Timestamp::now(), SLACK);
    // One replica removes: who leads, and who was ordered to. The others only refuse.
    let removes = core.leads() || !work.flush_command.is_empty();
    if session.phase() == Phase::Ended && !removes {
        work.ended_at.get_or_insert_with(Instant::now);
    }
    let old = work.ended_at.is_some_and(|at| at.elapsed() > REMEMBER);
    drop(work);
    match session.phase() {
        Phase::Ended if stands && removes => flush(core, session).await,
        Phase::Ended if old => core.forget(&session.id),
        Phase::Ended => {}
        Phase::Ready { .. } | Phase::Absent if overdue && removes => flush(core, session).await,
        Phase::Ready { .. } | Phase::Absent if overdue => core.forget(&session.id),
        Phase::Absent if !stands => core.forget(&session.id),
        Phase::Ready { .. } | Phase::Absent => {}
    }
}

async fn flush(core: &Arc<Core>, session: &Arc<Session>) {
    match core.flush(session).await {
        Ok(objects) => core.outbox.send(Kind::SessionFlushed(SessionFlushed {
            command: session.work.lock().await.flush_command.clone(),
            session: session.id.to_string(),
            objects: objects.into_iter().collect(),
        })),
        Err(error) => {
            tracing::warn!(session = %session.id, %error, "cannot flush, try again later")
        }
    }
}

async fn prune_roles(core: &Arc<Core>) {
    let pruned = async {
        let survey = core.kube.survey().await?;
        core.kube.prune_roles(&survey).await
    };
    match pruned.await {
        Ok(roles) if roles.is_empty() => {}
        Ok(roles) => tracing::info!(roles = roles.len(), "prune roles"),
        Err(error) => tracing::warn!(%error, "cannot prune roles"),
    }
}
