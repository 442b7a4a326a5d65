//! What a cluster's mesh decided: flows become calls of the service graph and uses, denials become events of the audit.
//!
//! A cluster speaks of its own pods: whoever saw a call must be one of them, with an ID of the cluster's own trust domain. A word that says
//! something else, or that cannot be read in one way, is not believed, and counted; the rest of its batch is taken.

mod budget;
mod denial;
mod flow;
mod party;
mod refused;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use nullius_audit::Filter;
use nullius_model::{
    AnyObject, AuditEvent, AuditId, AuditKind, AuditOutcome, Calls, ClusterName, Kind, MeshParty,
    ObjectName, PartyKind, Principal, SpiffeId, Timestamp, TrustDomain, Use,
};
use nullius_proto::agent_v1::{MeshDenial, MeshSide, ReportBatch};
use nullius_store::{MeshLosses, Reader, StoreError, Tx};

use crate::Hub;

pub(crate) use budget::Budget;
pub(super) use budget::Unwritten;
pub(crate) use refused::Refused;

/// Events of one id that are looked at.
const EVENTS: u32 = 20;
/// The word of who was refused by a destination.
const REFUSED: &str = "refused-by-destination";

/// What is made of a batch.
#[derive(Debug, Default)]
pub(super) struct Heard {
    events: Vec<AuditEvent>,
    calls: Vec<Calls>,
    uses: Vec<Use>,
    losses: MeshLosses,
    /// What is to be told of denials that were too many, once in a while.
    pub(super) unwritten: Option<Unwritten>,
}

impl Heard {
    /// How many words are not believed.
    pub(super) fn disbelieved(&self) -> u64 {
        self.losses.disbelieved
    }

    /// The uses that were told.
    pub(super) fn uses(&self) -> &[Use] {
        &self.uses
    }

    /// Adds all but the uses to a transaction.
    pub(super) async fn write(
        &self,
        tx: &mut Tx,
        cluster: &ClusterName,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for event in &self.events {
            tx.audit(event)?;
        }
        let folded = tx.mesh().merge(cluster, &self.calls).await?;
        let folded = folded.saturating_add(self.losses.folded);
        tx.mesh().note(cluster, MeshLosses { folded, ..self.losses }, now).await
    }
}

/// The events that stand in the audit under the ids of denials.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<AuditId, Vec<AuditEvent>>);

/// Makes of a batch what is to be written.
pub(super) fn hear(hub: &Hub, cluster: &ClusterName, batch: &ReportBatch, known: &Known) -> Heard {
    let now = hub.now();
    let nodes = batch.disbelieved_nodes.values();
    let mut heard = Heard {
        losses: MeshLosses {
            flows: batch.lost_mesh_flows,
            denials: batch.lost_mesh_denials,
            disbelieved: nodes.fold(0, |sum: u64, more| sum.saturating_add(*more)),
            ..MeshLosses::default()
        },
        ..Heard::default()
    };
    let Some(domain) = trust_domain(hub, cluster) else {
        // Who has no trust domain has no mesh either.
        heard.disbelieve(batch.mesh_flows.len() + batch.mesh_denials.len());
        return heard;
    };
    for flow in &batch.mesh_flows {
        let Some(calls) = flow::read(flow, &domain, now) else {
            heard.disbelieve(1);
            continue;
        };
        if calls.key.is_folded() {
            let count = calls.connections.max(calls.requests);
            heard.losses.folded = heard.losses.folded.saturating_add(count);
        }
        heard.uses.extend(flow::used(hub, cluster, &calls, flow, &domain));
        heard.calls.push(calls);
    }
    heard.denials(hub, cluster, &batch.mesh_denials, known, &domain);
    heard
}

impl Known {
    /// Looks them up.
    pub(super) async fn of(hub: &Hub, told: &[MeshDenial]) -> Result<Self, StoreError> {
        let mut known = HashMap::new();
        let mut reader: Option<Reader> = None;
        for denial in told {
            let Ok(id) = denial.id.parse::<AuditId>() else { continue };
            let reader = match &mut reader {
                Some(reader) => reader,
                none => none.insert(hub.store().read().await?),
            };
            let filter =
                Filter { audit_id: Some(id.clone()), limit: Some(EVENTS), ..Filter::default() };
            let page = reader.audit().list(&filter, None).await?;
            let events: Vec<_> =
                page.entries.iter().filter_map(|entry| entry.event().ok()).collect();
            if !events.is_empty() {
                known.insert(id, events);
            }
        }
        Ok(Self(known))
    }
}

impl Heard {
    fn disbelieve(&mut self, words: usize) {
        let words = u64::try_from(words).unwrap_or(u64::MAX);
        self.losses.disbelieved = self.losses.disbelieved.saturating_add(words);
    }

    fn denials(
        &mut self,
        hub: &Hub,
        cluster: &ClusterName,
        told: &[MeshDenial],
        known: &Known,
        domain: &TrustDomain,
    ) {
        let mut seen = HashSet::new();
        let mut too_many = 0_u64;
        // What a destination tells may stand for what a source does.
        let is_of_source = |denial: &&MeshDenial| denial.side() == MeshSide::Source;
        let (of_sources, decided): (Vec<_>, Vec<_>) = told.iter().partition(is_of_source);
        for denial in decided.into_iter().chain(of_sources) {
            let id = denial.id.parse::<AuditId>().ok();
            let events = id.as_ref().and_then(|id| known.0.get(id)).map_or(&[][..], Vec::as_slice);
            let is_same = |event: &AuditEvent| {
                event.kind == AuditKind::Mesh && event.cluster.as_ref() == Some(cluster)
            };
            let is_new = id.as_ref().is_none_or(|id| seen.insert(id.clone()));
            if !is_new || events.iter().any(is_same) {
                // It was told before, perhaps by another replica of the agent.
                continue;
            }
            let Some((ends, mut event)) = denial::event(hub, cluster, denial, domain) else {
                self.disbelieve(1);
                continue;
            };
            let (refused, port) = (&hub.clusters().mesh_refused, denial::port(denial));
            if denial.reason == REFUSED
                && ends.is_seen_by_destination(&denial.wire, domain)
                && refused.knows(cluster, &ends, port)
            {
                continue;
            }
            let payer = ends.payer();
            if !hub.clusters().mesh_budget.take(cluster, &payer, event.outcome) {
                too_many = too_many.saturating_add(denial.count.max(1));
                continue;
            }
            if event.outcome == AuditOutcome::Denied {
                refused.remember(cluster, &ends, port);
            }
            // The Audit-ID of something else joins nothing.
            if let Some(id) = id.filter(|_| events.is_empty()) {
                event.audit_id = id;
            }
            self.events.push(event);
        }
        self.losses.unwritten_denials = too_many;
        self.unwritten = hub.clusters().mesh_budget.exceeded(cluster, too_many);
    }
}

/// The cluster whose workloads have IDs of a trust domain; that which tells of them, where the hub knows none.
fn home(hub: &Hub, teller: &ClusterName, own: &TrustDomain, id: &SpiffeId) -> ClusterName {
    if id.trust_domain() == own.as_str() {
        return teller.clone();
    }
    let snapshot = hub.snapshot();
    let is_home = |object: &AnyObject| {
        let AnyObject::Cluster(cluster) = object else { return None };
        let name: ClusterName = cluster.metadata.name.as_str().parse().ok()?;
        let domain = cluster.spec.trust_domain_of(name.as_str()).ok()?;
        (domain.as_str() == id.trust_domain()).then_some(name)
    };
    let found = snapshot.objects(Kind::Cluster).find_map(is_home);
    found.unwrap_or_else(|| teller.clone())
}

/// Who called, as the audit and uses name it: an ID that was proven, or whose pods those are that proved nothing.
fn principal(
    hub: &Hub,
    cluster: &ClusterName,
    domain: &TrustDomain,
    source: &MeshParty,
    address: Option<IpAddr>,
) -> Principal {
    if let Ok(id) = source.spiffe_id.parse::<SpiffeId>() {
        return Principal::Workload { cluster: home(hub, cluster, domain, &id), id };
    }
    // No person is called so: a name has no blank.
    let claimed = match (source.kind, address) {
        (PartyKind::Workload, _) => format!("pods of {}", source.label()),
        (_, Some(address)) => format!("address {address}"),
        (_, None) => format!("somebody {}", source.label()),
    };
    Principal::Unproven { claimed }
}

fn trust_domain(hub: &Hub, cluster: &ClusterName) -> Option<TrustDomain> {
    let name: ObjectName = cluster.as_str().parse().ok()?;
    let snapshot = hub.snapshot();
    let Some(AnyObject::Cluster(object)) = snapshot.object(Kind::Cluster, &name) else {
        return None;
    };
    object.spec.trust_domain_of(cluster.as_str()).ok()
}
