//! What each session has in each cluster: planned from the snapshot, made when first needed, changed when grants
//! change, flushed when the session ends.
//!
//! A plan is only the upper bound that Kubernetes enforces; every request is decided by itself. The warm path reads
//! two atomics.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use nullius_model::{Binding, ClusterName, Identity, SessionId, SessionPlan, Timestamp};

use crate::lock::lock;

/// What one session has in one cluster.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// Revision of the snapshot for which the objects are known to be right, plus one; 0 where nothing is known.
    fresh: AtomicU64,
    generation: AtomicU64,
    made: tokio::sync::Mutex<Made>,
}

/// The objects that stand in the cluster; held while they change.
#[derive(Debug, Default)]
pub(crate) struct Made {
    bindings: Option<BTreeSet<Binding>>,
    /// Revision of the newest snapshot that they were compared with.
    revision: u64,
    ended: bool,
}

/// All entries, by session and cluster.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    entries: Mutex<HashMap<SessionId, BTreeMap<ClusterName, Arc<Entry>>>>,
}

/// What has to happen before a request of a session can go to a cluster.
pub(crate) enum Step<'a> {
    /// Nothing: the objects of this generation stand.
    Ready(u64),
    /// These objects have to be made; tell [`Making::done`] when they stand.
    Make(Making<'a>),
    /// The session has ended.
    Ended,
}

/// A plan that is being carried out.
pub(crate) struct Making<'a> {
    entry: &'a Entry,
    made: tokio::sync::MutexGuard<'a, Made>,
    revision: u64,
    pub(crate) plan: SessionPlan,
}

impl Plans {
    /// The entry of a session in a cluster, made empty where there is none.
    pub(crate) fn entry(&self, session: &SessionId, cluster: &ClusterName) -> Arc<Entry> {
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.get(session).and_then(|of| of.get(cluster)) {
            return Arc::clone(entry);
        }
        let of_session = entries.entry(session.clone()).or_default();
        Arc::clone(of_session.entry(cluster.clone()).or_default())
    }

    /// The clusters in which a session has something.
    pub(crate) fn clusters_of(&self, session: &SessionId) -> Vec<ClusterName> {
        lock(&self.entries)
            .get(session)
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Every session with something anywhere.
    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        lock(&self.entries).keys().cloned().collect()
    }

    /// Takes a session out.
    pub(crate) fn remove(&self, session: &SessionId) -> BTreeMap<ClusterName, Arc<Entry>> {
        lock(&self.entries).remove(session).unwrap_or_default()
    }

    /// Takes a cluster out of all sessions.
    pub(crate) fn remove_cluster(&self, cluster: &ClusterName) {
        let mut entries = lock(&self.entries);
        for of_session in entries.values_mut() {
            of_session.remove(cluster);
        }
        entries.retain(|_, of_session| !of_session.is_empty());
    }
}

impl Entry {
    /// What a session needs now. `bindings` is asked for only when the snapshot is another than last time.
    pub(crate) async fn step(
        &self,
        identity: &Identity,
        revision: u64,
        now: Timestamp,
        bindings: impl FnOnce() -> BTreeSet<Binding>,
    ) -> Step<'_> {
        if self.fresh.load(Ordering::Acquire) == revision + 1 {
            return Step::Ready(self.generation.load(Ordering::Acquire));
        }
        let mut made = self.made.lock().await;
        if made.ended {
            return Step::Ended;
        }
        if revision < made.revision && made.bindings.is_some() {
            // A newer plan stands: what an older snapshot gave is not brought back.
            return Step::Ready(self.generation.load(Ordering::Acquire));
        }
        let bindings = bindings();
        if made.bindings.as_ref() == Some(&bindings) {
            made.revision = revision;
            self.fresh.store(revision + 1, Ordering::Release);
            return Step::Ready(self.generation.load(Ordering::Acquire));
        }
        // Also across restarts of the hub a later plan has a higher generation.
        let floor = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let generation = floor.max(self.generation.load(Ordering::Acquire) + 1);
        let plan = SessionPlan {
            session: identity.session.clone(),
            user: identity.user.clone(),
            generation,
            expires_at: identity.expires_at,
            bindings,
        };
        Step::Make(Making { entry: self, made, revision, plan })
    }

    /// Ends the entry once no order is under way: nothing is made for the session any more.
    pub(crate) async fn end(&self) {
        let mut made = self.made.lock().await;
        made.ended = true;
        self.fresh.store(0, Ordering::Release);
    }

    /// Compares what stands with the plan again, also under the same snapshot: grants and locks end by the clock.
    pub(crate) async fn doubt(&self) {
        let _no_order_under_way = self.made.lock().await;
        self.fresh.store(0, Ordering::Release);
    }

    /// Forgets what stands: the agent says that the objects are not there.
    pub(crate) async fn forget(&self) {
        let mut made = self.made.lock().await;
        made.bindings = None;
        self.fresh.store(0, Ordering::Release);
    }
}

impl Making<'_> {
    /// Notes that an order goes out, so that a flush knows of objects even if the answer is lost.
    pub(crate) fn begun(&mut self) {
        self.entry.fresh.store(0, Ordering::Release);
        self.entry.generation.store(self.plan.generation, Ordering::Release);
        self.made.bindings = None;
    }

    /// The objects stand.
    pub(crate) fn done(mut self) -> u64 {
        let generation = self.plan.generation;
        self.made.bindings = Some(self.plan.bindings);
        self.made.revision = self.revision;
        self.entry.fresh.store(self.revision + 1, Ordering::Release);
        generation
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
    use nullius_model::{Proof, Ttl};

    use super::*;

    fn identity() -> Identity {
        Identity {
            user: "ada".parse().unwrap(),
            groups: BTreeSet::new(),
            session: SessionId::from_bits(1),
            proof: Proof { factors: BTreeSet::new(), factor_at: Timestamp::UNIX_EPOCH },
            signed_in_at: Timestamp::UNIX_EPOCH,
            expires_at: Ttl::from_secs(3_600).after(Timestamp::UNIX_EPOCH),
        }
    }

    fn binding(namespace: &str) -> Binding {
        Binding {
            namespace: Some(namespace.parse().unwrap()),
            role: "viewer".parse().unwrap(),
            rules: Vec::new(),
        }
    }

    async fn make(entry: &Entry, revision: u64, bindings: &[Binding]) -> u64 {
        let wanted = bindings.iter().cloned().collect();
        match entry.step(&identity(), revision, Timestamp::UNIX_EPOCH, || wanted).await {
            Step::Make(mut making) => {
                making.begun();
                making.done()
            }
            Step::Ready(_) | Step::Ended => panic!("nothing to make"),
        }
    }

    #[tokio::test]
    async fn objects_are_made_once_and_again_only_when_the_plan_changes() {
        let entry = Entry::default();
        let first = make(&entry, 7, &[binding("shop")]).await;
        let never = || panic!("not asked on the warm path");
        let warm = entry.step(&identity(), 7, Timestamp::UNIX_EPOCH, never).await;
        assert!(matches!(warm, Step::Ready(generation) if generation == first));
        let same = || BTreeSet::from([binding("shop")]);
        let unchanged = entry.step(&identity(), 8, Timestamp::UNIX_EPOCH, same).await;
        assert!(matches!(unchanged, Step::Ready(generation) if generation == first));
        let wider = make(&entry, 9, &[binding("shop"), binding("ops")]).await;
        assert!(wider > first);
        let narrower = make(&entry, 10, &[binding("ops")]).await;
        assert!(narrower > wider);
    }

    #[tokio::test]
    async fn what_time_took_away_is_taken_from_the_cluster_without_any_change_of_objects() {
        let entry = Entry::default();
        make(&entry, 7, &[binding("shop"), binding("ops")]).await;
        entry.doubt().await;
        let left = || BTreeSet::from([binding("shop")]);
        let step = entry.step(&identity(), 7, Timestamp::UNIX_EPOCH, left).await;
        assert!(matches!(step, Step::Make(making) if making.plan.bindings == left()));
    }

    #[tokio::test]
    async fn an_older_snapshot_never_brings_back_what_a_newer_took() {
        let entry = Entry::default();
        let newest = make(&entry, 8, &[binding("shop")]).await;
        let before = || BTreeSet::from([binding("shop"), binding("ops")]);
        let late = entry.step(&identity(), 7, Timestamp::UNIX_EPOCH, before).await;
        assert!(matches!(late, Step::Ready(generation) if generation == newest));
    }

    #[tokio::test]
    async fn an_ended_entry_makes_nothing() {
        let entry = Entry::default();
        make(&entry, 1, &[binding("shop")]).await;
        entry.end().await;
        let again = entry.step(&identity(), 1, Timestamp::UNIX_EPOCH, BTreeSet::new).await;
        assert!(matches!(again, Step::Ended));
    }

    #[tokio::test]
    async fn an_order_whose_answer_was_lost_is_given_again() {
        let entry = Entry::default();
        let wanted = || BTreeSet::from([binding("shop")]);
        let Step::Make(mut lost) = entry.step(&identity(), 1, Timestamp::UNIX_EPOCH, wanted).await
        else {
            panic!("nothing to make");
        };
        lost.begun();
        let first = lost.plan.generation;
        drop(lost);
        let again = make(&entry, 1, &[binding("shop")]).await;
        assert!(again > first);
    }
}
