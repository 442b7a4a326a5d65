//! What one replica does for all: it replaces the authority in steps, has the hub certify each, and tells nodes whom to believe.

use std::{sync::Arc, time::Duration};

use nullius_kube::{
    Leadership,
    identity::{IdentityRecord, IdentityStore, TrustMap, TrustText},
};
use nullius_model::{Timestamp, TrustDomain};
use nullius_proto::{VERSION, agent_v1::CertifyRequest};
use rustls_pki_types::CertificateDer;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    attend::{Report, client, report_of},
    federation::{Federated, federated},
    meters::SvidMeters,
    standing::{Followed, Standing},
    turn::{Ordered, SETTLE, Told, Turn, certified, ordered, prepared, turn},
};
use crate::{Address, AgentError, backoff::random, error::chain, identity::Identity};

const ROUND: Duration = Duration::from_secs(2);
const ROUND_TIMEOUT: Duration = Duration::from_secs(4);
const RELEASE_WITHIN: Duration = Duration::from_secs(3);
const CERTIFY_TIMEOUT: Duration = Duration::from_secs(5);
/// One step, of which asking the hub is the longest part.
const STEP_TIMEOUT: Duration = Duration::from_secs(9);
/// The hub certifies few in an hour: it is asked again later, and later again.
const ASK_AGAIN: [u64; 5] = [5, 15, 60, 180, 600];
/// What nodes are told is written again this often, whatever became of it.
const WRITE_AGAIN: Duration = Duration::from_secs(60);

/// The hub, once this agent is enrolled there.
pub(crate) type Hub = watch::Receiver<Option<Identity>>;

/// The part of a replica that may lead.
pub(crate) struct Leader {
    pub(crate) domain: TrustDomain,
    pub(crate) store: IdentityStore,
    pub(crate) trust: TrustMap,
    pub(crate) issuer: Address,
    pub(crate) standing: Followed,
    pub(crate) hub: Hub,
    pub(crate) meters: SvidMeters,
    pub(crate) asking: Asking,
    pub(crate) written: Option<(TrustText, Instant)>,
    /// Whether this replica leads, for what else only one of them does.
    pub(crate) leads: watch::Sender<bool>,
    /// The anchor of what is next, and since when nodes can read it.
    pub(crate) told: Option<(String, Instant)>,
    /// What the hub hears.
    pub(crate) report: watch::Sender<Report>,
    /// What the hub ordered last.
    pub(crate) ordered: watch::Receiver<Option<Ordered>>,
    /// What the hub ordered of other trust domains last.
    pub(crate) federated: watch::Receiver<Option<Federated>>,
}

/// When the hub is asked again.
#[derive(Default)]
pub(crate) struct Asking {
    failures: usize,
    not_before: Option<Instant>,
}

impl Asking {
    /// Notes that the hub is asked now; says how long it is left in peace if nothing comes of it.
    fn again(&mut self, now: Instant) -> Duration {
        let wait = ASK_AGAIN.get(self.failures).or(ASK_AGAIN.last());
        let wait = Duration::from_secs(wait.copied().unwrap_or(60));
        self.failures += 1;
        self.not_before = Some(now + wait);
        wait
    }
}

impl Leader {
    /// Contends until it is told to stop, then gives way.
    pub(crate) async fn run(
        mut self,
        mut leadership: Leadership,
        stop: CancellationToken,
    ) -> Result<(), AgentError> {
        let (mut standing, mut hub) = (self.standing.clone(), self.hub.clone());
        let (mut orders, mut others) = (self.ordered.clone(), self.federated.clone());
        while !stop.is_cancelled() {
            let term = tokio::time::timeout(ROUND_TIMEOUT, leadership.contend()).await;
            let mut pause = ROUND + Duration::from_millis(random() % 500);
            let leads = matches!(term, Ok(Ok(Some(_))));
            self.leads.send_if_modified(|led| std::mem::replace(led, leads) != leads);
            match term {
                Ok(Ok(Some(_))) => {
                    // The Lease lasts longer than one step.
                    let step = tokio::time::timeout(STEP_TIMEOUT, self.step()).await;
                    if matches!(step, Ok(Progress::More)) {
                        pause = Duration::ZERO;
                    }
                }
                Ok(Ok(None)) => {
                    (self.written, self.told) = (None, None);
                    self.report.send_if_modified(|report| report.take().is_some());
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot ask who leads, try again"),
                Err(_) => tracing::debug!("nobody says in time who leads, try again"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                _ = standing.changed() => {}
                _ = hub.changed() => {}
                _ = orders.changed() => {}
                _ = others.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        // Another replica finds out by itself, a little later.
        let _ = tokio::time::timeout(RELEASE_WITHIN, leadership.release()).await;
        Ok(())
    }

    /// One step of whoever leads.
    async fn step(&mut self) -> Progress {
        let record = match self.store.load().await {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%error, "cannot read the cluster's authority, try again");
                return Progress::Done;
            }
        };
        self.tell_nodes(&record).await;
        self.tell_hub(&record);
        let others = self.federated.borrow().clone();
        if let Some(kept) = others.and_then(|it| federated(&record, &it, Timestamp::now())) {
            tracing::info!("the hub orders bundles of other trust domains");
            return self.keep(&kept).await;
        }
        let order = self.ordered.borrow().clone();
        if let Some(wished) = order.and_then(|order| ordered(&record, &order, Timestamp::now())) {
            tracing::info!(wish = %wished.wish, "the hub orders another authority");
            return self.keep(&wished).await;
        }
        match turn(&record, &self.domain, self.has_told(&record), Timestamp::now()) {
            Ok(Turn::Stay) => Progress::Done,
            Ok(Turn::Keep(next)) => {
                tracing::info!(step = step_of(&next), "replace the cluster's authority in steps");
                self.keep(&next).await
            }
            Ok(Turn::Certify) => self.certify(&record).await,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot replace the cluster's authority, try again");
                Progress::Done
            }
        }
    }

    /// Whether what is next has stood for long enough where nodes read it; by how this process counts time, whatever clocks say.
    fn has_told(&self, record: &IdentityRecord) -> Told {
        let next = record.next.as_ref().and_then(|next| next.certified.as_ref());
        let told = self.told.as_ref().zip(next).filter(|(told, next)| told.0 == next.anchor_pem);
        match told {
            Some(((_, since), _)) if since.elapsed() >= SETTLE => Told::Settled,
            Some(_) | None => Told::NotYet,
        }
    }

    async fn keep(&self, record: &IdentityRecord) -> Progress {
        match self.store.keep(record).await {
            Ok(_) => Progress::More,
            Err(error) => {
                tracing::warn!(%error, "cannot keep the cluster's authority, try again");
                Progress::Done
            }
        }
    }

    async fn certify(&mut self, record: &IdentityRecord) -> Progress {
        if self.asking.not_before.is_some_and(|at| Instant::now() < at) {
            return Progress::Done;
        }
        let Some(identity) = self.hub.borrow().clone() else { return Progress::Done };
        // The hub counts what it certified, whatever becomes of it here: only what is kept is the last.
        let wait = self.asking.again(Instant::now());
        let asked = tokio::time::timeout(CERTIFY_TIMEOUT, self.ask(record, &identity)).await;
        match asked.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
            Ok(Some(record)) => {
                tracing::info!("the hub certified an authority of this cluster");
                let kept = self.keep(&record).await;
                if kept == Progress::More {
                    self.asking = Asking::default();
                }
                kept
            }
            Ok(None) => Progress::More,
            Err(why) => {
                tracing::warn!(%why, wait_seconds = wait.as_secs(), "the hub certifies no authority of this cluster, try again");
                Progress::Done
            }
        }
    }

    /// Asks the replicas of the hub in turn.
    async fn ask(
        &self,
        record: &IdentityRecord,
        identity: &Identity,
    ) -> Result<Option<IdentityRecord>, String> {
        let Some(next) = &record.next else { return Ok(None) };
        let told = |error: &dyn std::error::Error| chain(error);
        let csr = prepared(next, &self.domain).and_then(|prepared| prepared.request());
        let csr = csr.map_err(|error| told(&error))?;
        let request = CertifyRequest {
            version: VERSION,
            trust_domain: self.domain.to_string(),
            certificate_request: csr.as_der().to_vec(),
        };
        let mut last = "no address is configured".to_owned();
        for address in &identity.hub.addresses {
            let mut client = client(identity, address).map_err(|error| error.chain())?;
            match client.certify(request.clone()).await {
                Ok(answer) => {
                    let answer = answer.into_inner();
                    let (certificate, root) = (
                        CertificateDer::from(answer.certificate),
                        CertificateDer::from(answer.root),
                    );
                    let now = Timestamp::now();
                    return certified(record, &self.domain, certificate, &root, now)
                        .map_err(|error| told(&error));
                }
                Err(status) => last = status.message().to_owned(),
            }
        }
        Err(last)
    }

    fn tell_hub(&self, record: &IdentityRecord) {
        let report = report_of(record, &self.domain, Timestamp::now());
        self.report.send_if_modified(|told| {
            let is_new = told.as_deref() != Some(&report);
            if is_new {
                *told = Some(Arc::new(report));
            }
            is_new
        });
    }

    /// Nodes read whom to believe from a ConfigMap before they have anything else: what stands in the Secret now, not what a watch saw.
    async fn tell_nodes(&mut self, record: &IdentityRecord) {
        let Ok(Some(standing)) = Standing::of(record, &self.domain, Timestamp::now()) else {
            return;
        };
        let ends = standing.authority.not_after().as_second();
        self.meters.authority_ends.set((), ends);
        let text = TrustText {
            bundle: standing.bundle.to_json().to_string(),
            trust_domain: self.domain.to_string(),
            issuer: self.issuer.to_string(),
        };
        if let Some((written, at)) = &self.written
            && *written == text
            && at.elapsed() < WRITE_AGAIN
        {
            return;
        }
        match self.trust.write(&text).await {
            Ok(()) => {
                self.written = Some((text, Instant::now()));
                let next = record.next.as_ref().and_then(|next| next.certified.as_ref());
                let anchor = next.map(|next| next.anchor_pem.clone());
                if self.told.as_ref().map(|told| &told.0) != anchor.as_ref() {
                    self.told = anchor.map(|anchor| (anchor, Instant::now()));
                }
            }
            Err(error) => {
                // Nothing is activated that nodes may not have heard of.
                (self.written, self.told) = (None, None);
                tracing::warn!(%error, "cannot tell nodes whom to believe, try again; no other authority signs before that");
            }
        }
    }
}

/// Whether there may be more to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

fn step_of(record: &IdentityRecord) -> &'static str {
    match (&record.current, &record.next, &record.previous) {
        (_, Some(_), _) => "prepared",
        (Some(_), None, Some(_)) => "activated",
        (Some(_), None, None) => "retired",
        (None, None, _) => "nothing",
    }
}
