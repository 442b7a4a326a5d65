//! The background scan: the replica that leads judges what stands in the cluster, slowly, and tells the hub.
//!
//! Once it reads all objects of the kinds that policies and Pod Security look at, in pages; from then on watches tell it
//! without content what changes, and it reads that alone. When policies, namespaces or exceptions say something else,
//! everything is looked at again. At most ten questions a second go to the API server.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use nullius_admission::background::{Background, Found, Measures, Standards, Told};
use nullius_kube::{Inventory, KubeError, ObjectNews, ObjectPage, ServedKind};
use nullius_model::{FoundObject, FoundPart, Timestamp};
use nullius_proto::{
    agent_v1::{
        FoundByScan, ObjectFindings, ObjectKey, ObjectPart, ScanDone, ScanId, ScanStanding,
        ScanWord, scan_word::Kind,
    },
    report::STANDING,
};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tokio_util::task::AbortOnDropHandle;

pub(crate) mod measures;

use crate::report::Reports;

/// Between two questions to the API server.
const BETWEEN: Duration = Duration::from_millis(100);
/// Everything is looked at again after so long, whatever the watches said.
const ROUND: Duration = Duration::from_secs(6 * 3_600);
/// Whether exceptions have ended is looked at this often.
const STANDARDS: Duration = Duration::from_secs(60);
/// After a round that could not be ended.
const AGAIN: Duration = Duration::from_secs(30);
/// Tries of one page.
const TRIES: u32 = 3;
/// Changes that wait to be queued.
const NEWS: usize = 256;
/// What the API server says who may not look.
const FORBIDDEN: u16 = 403;

/// What stands in a cluster.
pub(crate) trait Cluster: Send + Sync + 'static {
    /// The kinds that it serves.
    fn kinds(&self) -> impl Future<Output = Result<Vec<ServedKind>, Unread>> + Send;
    /// Some objects of a kind.
    fn page(
        &self,
        kind: &ServedKind,
        next: Option<String>,
    ) -> impl Future<Output = Result<ObjectPage, Unread>> + Send;
    /// One object.
    fn read(
        &self,
        kind: &ServedKind,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Value>, Unread>> + Send;
    /// News of all objects of a kind.
    fn news(&self, kind: &ServedKind) -> impl Stream<Item = ObjectNews> + Send + Unpin + 'static;
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The scan may not.
    Forbidden,
    /// For now.
    Failed(String),
}

impl From<KubeError> for Unread {
    fn from(error: KubeError) -> Self {
        match error {
            KubeError::Refused { .. } | KubeError::Api { code: FORBIDDEN, .. } => Self::Forbidden,
            error => Self::Failed(crate::control::sentence(&error)),
        }
    }
}

impl Cluster for Inventory {
    async fn kinds(&self) -> Result<Vec<ServedKind>, Unread> {
        Ok(Self::kinds(self).await?)
    }

    async fn page(&self, kind: &ServedKind, next: Option<String>) -> Result<ObjectPage, Unread> {
        Ok(Self::page(self, kind, next).await?)
    }

    async fn read(
        &self,
        kind: &ServedKind,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, Unread> {
        Ok(Self::read(self, kind, namespace, name).await?)
    }

    fn news(&self, kind: &ServedKind) -> impl Stream<Item = ObjectNews> + Send + Unpin + 'static {
        Self::news(self, kind)
    }
}

/// The scanner of one replica.
pub(crate) struct Scanner<C> {
    cluster: C,
    reports: Reports,
    /// What objects are judged by; none before everything is known.
    measures: watch::Receiver<Option<Arc<Measures>>>,
    /// The term in which this replica leads.
    leads: watch::Receiver<Option<u64>>,
    between: Interval,
}

/// A change that waits to be read.
struct Changed {
    kind: Arc<ServedKind>,
    namespace: String,
    name: String,
}

/// Why a round was not ended.
enum Stopped {
    /// Another replica leads.
    Deposed,
    /// The cluster could not be read.
    Unread(String),
}

impl<C: Cluster> Scanner<C> {
    pub(crate) fn new(
        cluster: C,
        reports: Reports,
        measures: watch::Receiver<Option<Arc<Measures>>>,
        leads: watch::Receiver<Option<u64>>,
    ) -> Self {
        let mut between = interval(BETWEEN);
        between.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { cluster, reports, measures, leads, between }
    }

    /// Scans while this replica leads, for as long as the process lives.
    pub(crate) async fn run(mut self) {
        loop {
            // Whoever tells it lives as long as the agent.
            let term = match self.leads.wait_for(Option::is_some).await {
                Ok(term) => term.unwrap_or_default(),
                Err(_) => return,
            };
            if self.measures.wait_for(Option::is_some).await.is_err() {
                return;
            }
            self.lead(term).await;
        }
    }

    async fn lead(&mut self, term: u64) {
        let Some(standards) = self.standards().await else { return };
        let mut scan = Background::new(standards);
        let (tell_news, mut news) = mpsc::channel(NEWS);
        let mut watches: BTreeMap<ServedKind, AbortOnDropHandle<()>> = BTreeMap::new();
        let mut refused = self.reports.refused_words();
        for number in 1.. {
            let mark = ScanId { term, number };
            let kinds = match self.round(&mut scan, mark).await {
                Ok(kinds) => Some(kinds),
                Err(Stopped::Deposed) => return,
                Err(Stopped::Unread(why)) => {
                    tracing::warn!(%why, "cannot look at everything, try again later");
                    None
                }
            };
            let next = Instant::now() + if kinds.is_some() { ROUND } else { AGAIN };
            if let Some(kinds) = kinds {
                watches.retain(|kind, _| kinds.contains(kind));
                for kind in kinds {
                    let entry = watches.entry(kind.clone());
                    entry.or_insert_with(|| self.watch(kind, tell_news.clone()));
                }
            }
            if self.follow(&mut scan, mark, &mut news, next).await.is_err() {
                return;
            }
            if self.reports.refused_words() != refused {
                refused = self.reports.refused_words();
                // What the hub did not take must be told anew.
                let Some(standards) = self.standards().await else { return };
                scan = Background::new(standards);
            }
        }
    }

    async fn standards(&self) -> Option<Standards> {
        let measures = self.measures.borrow().clone()?;
        // It compiles policies, and connections must not wait for that.
        let made = tokio::task::spawn_blocking(move || Standards::new(&measures, Timestamp::now()));
        match made.await {
            Ok(standards) => Some(standards),
            Err(defect) if defect.is_panic() => resume_unwind(defect.into_panic()),
            // The process ends.
            Err(_) => None,
        }
    }

    /// Looks at everything once; gives the kinds that it looked at.
    async fn round(
        &mut self,
        scan: &mut Background,
        mark: ScanId,
    ) -> Result<Vec<ServedKind>, Stopped> {
        self.between.tick().await;
        let all = self.cluster.kinds().await.map_err(stopped)?;
        let looked = |kind: &ServedKind| scan.standards().look_at(&kind.group, &kind.plural);
        let mut kinds: Vec<ServedKind> = all.into_iter().filter(looked).collect();
        // What makes others comes first, so that each knows its maker.
        kinds.sort_by_key(|kind| (order(&kind.kind), kind.clone()));
        scan.begin();
        let (mut objects, mut faults) = (0, Vec::new());
        let mut standing = Vec::new();
        for kind in &kinds {
            match self.all_of(scan, mark, kind, &mut standing).await {
                Ok(count) => objects += count,
                Err(Unseen::Forbidden) => {
                    let plural = &kind.plural;
                    faults.push(format!(
                        "`{plural}` cannot be looked at: let the account `nullius-admission` get, list and watch them"
                    ));
                }
                Err(Unseen::Stopped(stopped)) => return Err(stopped),
            }
        }
        for told in scan.end() {
            self.tell(mark, told).await;
        }
        self.tell_standing(mark, &mut standing).await;
        faults.extend(scan.standards().faults());
        let done = ScanDone { objects, policies: scan.standards().count(), faults };
        self.reports.found(word(mark, Kind::Done(done))).await;
        tracing::info!(objects, kinds = kinds.len(), "looked at what stands in the cluster");
        Ok(kinds)
    }

    async fn all_of(
        &mut self,
        scan: &mut Background,
        mark: ScanId,
        kind: &ServedKind,
        standing: &mut Vec<String>,
    ) -> Result<u64, Unseen> {
        let (mut next, mut count, mut failed) = (None, 0, 0);
        loop {
            if *self.leads.borrow() != Some(mark.term) {
                return Err(Unseen::Stopped(Stopped::Deposed));
            }
            self.between.tick().await;
            let page = match self.cluster.page(kind, next.clone()).await {
                Ok(page) => page,
                Err(Unread::Forbidden) => return Err(Unseen::Forbidden),
                Err(Unread::Failed(why)) => {
                    failed += 1;
                    if failed >= TRIES {
                        return Err(Unseen::Stopped(Stopped::Unread(why)));
                    }
                    // A list that took too long has to begin anew; what was judged is known.
                    next = None;
                    tokio::time::sleep(failed * Duration::from_secs(1)).await;
                    continue;
                }
            };
            for object in &page.objects {
                count += 1;
                let seen = scan.sees(object);
                for told in seen.told {
                    self.tell(mark, told).await;
                }
                standing.extend(seen.stands);
                if standing.len() >= STANDING {
                    self.tell_standing(mark, standing).await;
                }
                // A page of objects takes its time; reviews come before the next of them.
                tokio::task::yield_now().await;
            }
            match page.next {
                Some(token) => next = Some(token),
                None => return Ok(count),
            }
        }
    }

    fn watch(
        &self,
        kind: ServedKind,
        news: mpsc::Sender<(Arc<ServedKind>, ObjectNews)>,
    ) -> AbortOnDropHandle<()> {
        let mut stream = self.cluster.news(&kind);
        let kind = Arc::new(kind);
        AbortOnDropHandle::new(tokio::spawn(async move {
            while let Some(one) = stream.next().await {
                if news.send((Arc::clone(&kind), one)).await.is_err() {
                    return;
                }
            }
        }))
    }

    /// Follows changes until everything is to be looked at again; an error says that another replica leads.
    async fn follow(
        &mut self,
        scan: &mut Background,
        mark: ScanId,
        news: &mut mpsc::Receiver<(Arc<ServedKind>, ObjectNews)>,
        next: Instant,
    ) -> Result<(), Stopped> {
        let mut changed: BTreeMap<String, Changed> = BTreeMap::new();
        let mut order: VecDeque<String> = VecDeque::new();
        let mut standards_due = Instant::now() + STANDARDS;
        let refused = self.reports.refused_words();
        loop {
            tokio::select! {
                Some((kind, one)) = news.recv() => match one {
                    ObjectNews::Stands { uid, version, namespace, name } => {
                        if scan.knows(&uid, &version) {
                            continue;
                        }
                        let one = Changed { kind, namespace, name };
                        if changed.insert(uid.clone(), one).is_none() {
                            order.push_back(uid);
                        }
                    }
                    ObjectNews::Gone { uid } => {
                        changed.remove(&uid);
                        for told in scan.gone(&uid) {
                            self.tell(mark, told).await;
                        }
                    }
                },
                _ = self.between.tick(), if !order.is_empty() => {
                    let Some(one) = order.pop_front().and_then(|uid| changed.remove(&uid)) else { continue };
                    self.one(scan, mark, &one).await;
                }
                Ok(()) = self.leads.changed() => {
                    if *self.leads.borrow_and_update() != Some(mark.term) {
                        return Err(Stopped::Deposed);
                    }
                }
                Ok(()) = self.measures.changed() => standards_due = Instant::now(),
                () = tokio::time::sleep_until(standards_due) => {
                    standards_due = Instant::now() + STANDARDS;
                    let Some(standards) = self.standards().await else { continue };
                    if standards.hash() != scan.standards().hash() {
                        scan.judge_by(standards);
                        return Ok(());
                    }
                    if self.reports.refused_words() != refused {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep_until(next) => return Ok(()),
            }
        }
    }

    async fn one(&mut self, scan: &mut Background, mark: ScanId, one: &Changed) {
        match self.cluster.read(&one.kind, &one.namespace, &one.name).await {
            Ok(Some(object)) => {
                for told in scan.sees(&object).told {
                    self.tell(mark, told).await;
                }
            }
            // The watch says that it is gone, or the next round finds it as it then is.
            Ok(None) | Err(Unread::Forbidden) => {}
            Err(Unread::Failed(why)) => {
                tracing::debug!(%why, kind = one.kind.kind, name = one.name, "cannot look at a change");
            }
        }
    }

    async fn tell(&self, mark: ScanId, told: Told) {
        let Told { object, part, found } = told;
        let findings = ObjectFindings {
            object: Some(key_of(object)),
            part: match part {
                FoundPart::Object => ObjectPart::Object,
                FoundPart::Pods => ObjectPart::Pods,
            }
            .into(),
            findings: found.into_iter().map(finding_of).collect(),
        };
        self.reports.found(word(mark, Kind::Findings(findings))).await;
    }

    async fn tell_standing(&self, mark: ScanId, standing: &mut Vec<String>) {
        standing.sort();
        standing.dedup();
        if !standing.is_empty() {
            let uids = std::mem::take(standing);
            self.reports.found(word(mark, Kind::Standing(ScanStanding { uids }))).await;
        }
    }
}

/// Why the objects of a kind were not all seen.
enum Unseen {
    Forbidden,
    Stopped(Stopped),
}

fn stopped(unread: Unread) -> Stopped {
    match unread {
        Unread::Forbidden => Stopped::Unread("the agent's account may not list kinds".to_owned()),
        Unread::Failed(why) => Stopped::Unread(why),
    }
}

/// Makers before what they make.
fn order(kind: &str) -> u8 {
    match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "CronJob" => 0,
        "ReplicaSet" | "ReplicationController" | "Job" => 1,
        "Pod" => 3,
        _ => 2,
    }
}

fn word(mark: ScanId, kind: Kind) -> ScanWord {
    ScanWord { scan: Some(mark), kind: Some(kind) }
}

fn key_of(object: FoundObject) -> ObjectKey {
    let FoundObject { api_version, kind, namespace, name, uid } = object;
    ObjectKey { api_version, kind, namespace, name, uid }
}

fn finding_of(found: Found) -> FoundByScan {
    let waiver = found.waiver;
    let (waiver_owner, waiver_reason, waiver_expires) = match waiver {
        Some(waiver) => (waiver.owner, waiver.reason, waiver.expires),
        None => Default::default(),
    };
    FoundByScan {
        policy: found.policy,
        binding: found.binding,
        check: found.check,
        severity: found.severity.as_str().to_owned(),
        enforcement: found.enforcement.as_str().to_owned(),
        message: found.message,
        evidence: found.evidence,
        fix: found.fix,
        waiver_owner,
        waiver_reason,
        waiver_expires,
    }
}

#[cfg(test)]
mod tests;
