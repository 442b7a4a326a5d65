//! What agents tell of their cluster: `agent admission` its decisions, merged uses and what its background scan finds, `agent control`
//! what the API server tells it, `agent identity` what the mesh decides.
//!
//! The cluster is the certificate's, never a message's. A batch is receipted once all of it is durable, in one
//! transaction with its number, so that one that comes again is counted once. Whoever tells too fast waits for its
//! receipts, and what it then loses is its own to say.

mod counted;
mod decisions;
mod mesh;
mod pace;
mod scan;
mod server;
mod uses;

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use nullius_model::{AuditKind, AuditOutcome, ClusterName, InfraId, InstanceId};
use nullius_proto::{
    VERSION,
    agent_v1::{
        Report, ReportBatch, ReportReceipt,
        report::Kind,
        reporting_server::{Reporting, ReportingServer},
    },
    report::{
        DECISIONS, DISBELIEVED_NODES, MESH_DENIALS, MESH_FLOWS, REPORT_BYTES, SCAN_WORDS,
        SERVER_MARKS, SERVER_WORDS, USES,
    },
};
use nullius_store::{BatchTurn, StoreError};
use nullius_tls::Protocol;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::control::agent_event;
use crate::{Hub, record::chain};

pub(super) use counted::Counted;
pub(super) use mesh::{Budget, Refused};
pub(super) use pace::Pace;

/// Receipts that wait for an agent which does not read them.
const RECEIPTS: usize = 8;
/// The first word of a connection comes at once.
const HELLO: Duration = Duration::from_secs(10);

/// The service for one connection, whose peer the TLS handshake has proven.
#[derive(Clone)]
pub(super) struct ReportingService {
    pub(super) hub: Arc<Hub>,
    pub(super) cluster: ClusterName,
    pub(super) instance: InstanceId,
    pub(super) teller: Teller,
}

/// Which agent tells: each its own words alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Teller {
    /// `agent admission`, of what policies decide and what stands.
    Policies,
    /// `agent control`, of what the API server says.
    ApiServer,
    /// `agent identity`, of what the mesh decides.
    Mesh,
}

/// The service that the proven peer may use on a connection of this protocol; none where it has nothing to tell there.
pub(super) fn service_for(
    hub: &Arc<Hub>,
    id: &InfraId,
    protocol: Protocol,
) -> Option<ReportingServer<ReportingService>> {
    let (cluster, instance, teller) = match (protocol, id) {
        (Protocol::Admission, InfraId::AgentAdmission { cluster, instance }) => {
            (cluster, instance, Teller::Policies)
        }
        (Protocol::Admission, InfraId::AgentControl { cluster, instance }) => {
            (cluster, instance, Teller::ApiServer)
        }
        (Protocol::Identity, InfraId::AgentIdentity { cluster, instance }) => {
            (cluster, instance, Teller::Mesh)
        }
        _ => return None,
    };
    let (cluster, instance) = (cluster.clone(), instance.clone());
    let service = ReportingService { hub: Arc::clone(hub), cluster, instance, teller };
    Some(ReportingServer::new(service).max_decoding_message_size(REPORT_BYTES))
}

type Receipts = Pin<Box<dyn Stream<Item = Result<ReportReceipt, Status>> + Send>>;

#[tonic::async_trait]
impl Reporting for ReportingService {
    type ReportStream = Receipts;

    async fn report(
        &self,
        request: Request<Streaming<Report>>,
    ) -> Result<Response<Receipts>, Status> {
        let mut reports = request.into_inner();
        let epoch = self.greet(&mut reports).await?;
        let (receipts, outgoing) = mpsc::channel(RECEIPTS);
        let service = self.clone();
        tokio::spawn(async move {
            if let Err(status) = service.hear(epoch, &mut reports, &receipts).await {
                tracing::info!(cluster = %service.cluster, why = status.message(), "end the reports of an agent");
                // Nobody reads it where the agent has gone.
                let _ = receipts.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

impl ReportingService {
    async fn greet(&self, reports: &mut Streaming<Report>) -> Result<u64, Status> {
        let first = tokio::time::timeout(HELLO, reports.message());
        let first = first.await.map_err(|_| Status::deadline_exceeded("no hello"))??;
        let Some(Kind::Hello(hello)) = first.and_then(|report| report.kind) else {
            return Err(Status::invalid_argument("the first report must be hello"));
        };
        if hello.version != VERSION {
            return Err(Status::failed_precondition(format!(
                "the agent speaks version {} of the seam, this hub speaks {VERSION}; update the older",
                hello.version
            )));
        }
        self.known()?;
        let begun = async {
            let mut tx = self.hub.store().begin().await?;
            let (cluster, instance, now) = (&self.cluster, &self.instance, self.hub.now());
            let begun = tx.reports().begin(cluster, instance, hello.epoch, now).await?;
            tx.commit().await?;
            Ok(begun)
        };
        if begun.await.map_err(|error| unavailable(&error))? {
            return Ok(hello.epoch);
        }
        self.alarm("stale or replayed epoch of reports").await;
        Err(Status::aborted("a newer connection of this agent is known"))
    }

    async fn hear(
        &self,
        epoch: u64,
        reports: &mut Streaming<Report>,
        receipts: &mpsc::Sender<Result<ReportReceipt, Status>>,
    ) -> Result<(), Status> {
        while let Some(report) = reports.message().await? {
            let Some(Kind::Batch(batch)) = report.kind else {
                return Err(Status::invalid_argument(
                    "a report of a kind that this hub does not know",
                ));
            };
            self.known()?;
            if let Some(why) = beyond_bounds(&batch, self.teller) {
                self.alarm(&format!("report refused: {why}")).await;
                return Err(Status::invalid_argument(why));
            }
            tokio::time::sleep(self.hub.clusters().pace.take(&self.cluster, self.teller, &batch))
                .await;
            let number = batch.number;
            let turn = self.write(epoch, batch).await.map_err(|error| unavailable(&error))?;
            if turn == BatchTurn::Stale {
                return Err(Status::aborted("a newer connection of this agent tells now"));
            }
            if receipts.send(Ok(ReportReceipt { number })).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Makes a batch durable, all of it or nothing.
    async fn write(&self, epoch: u64, batch: ReportBatch) -> Result<BatchTurn, StoreError> {
        let (hub, cluster, instance) = (&self.hub, &self.cluster, &self.instance);
        let now = hub.now();
        let names = batch.decisions.iter().map(|decision| decision.username.as_str());
        let names = names.chain(batch.uses.iter().map(|used| used.username.as_str()));
        let names = names.chain(batch.server_words.iter().map(|word| word.username.as_str()));
        let people = self.people(names).await?;
        let joined = server::join(hub, cluster, &batch.server_words).await?;
        let known = mesh::Known::of(hub, &batch.mesh_denials).await?;
        let mut tx = hub.store().begin().await?;
        let turn = tx.reports().take(cluster, instance, epoch, batch.number, now).await?;
        let BatchTurn::New { missing } = turn else {
            tx.rollback().await?;
            return Ok(turn);
        };
        for decision in &batch.decisions {
            tx.audit(&decisions::event(hub, cluster, decision, &people, now))?;
        }
        for word in &joined {
            tx.audit(&word.event(hub, cluster, &people))?;
        }
        let heard = (self.teller == Teller::Mesh).then(|| mesh::hear(hub, cluster, &batch, &known));
        if let Some(heard) = &heard {
            heard.write(&mut tx, cluster, now).await?;
        }
        if let Some(gap) = self.gap(&batch, missing, heard.as_ref()) {
            tx.audit(&gap)?;
        }
        let told = batch.uses.iter().filter_map(|used| uses::of(cluster, used, &people, now));
        let claim = hub.clusters().counted.claim(cluster, &batch.server_uses);
        let of_server = batch.server_uses.iter().zip(claim.counts());
        let of_server =
            of_server.filter_map(|(used, count)| server::used(cluster, used, *count, &people, now));
        let of_mesh = heard.iter().flat_map(|heard| heard.uses().iter().cloned());
        let used: Vec<_> = told.chain(of_server).chain(of_mesh).collect();
        tx.usage().merge(&used).await?;
        scan::write(&mut tx, cluster, &batch.scan, now).await?;
        tx.commit().await?;
        claim.keep();
        Ok(turn)
    }

    /// Whose sessions the names are that ServiceAccounts of sessions have, as far as they have anything in this cluster.
    async fn people(
        &self,
        names: impl Iterator<Item = &str>,
    ) -> Result<decisions::People, StoreError> {
        let mut people: decisions::People = HashMap::new();
        let mut reader = None;
        for name in names {
            let Some(id) = decisions::session_of(name) else { continue };
            if people.contains_key(&id) {
                continue;
            }
            if reader.is_none() {
                reader = Some(self.hub.store().read().await?);
            }
            let Some(reader) = &mut reader else { continue };
            if reader.clusters().provisioned(&id, &self.cluster).await?.is_none() {
                continue;
            }
            if let Some(session) = reader.sessions().find(&id).await? {
                people.insert(id, session.user);
            }
        }
        Ok(people)
    }

    /// What was lost on the way, where something was.
    fn gap(
        &self,
        batch: &ReportBatch,
        missing: u64,
        heard: Option<&mesh::Heard>,
    ) -> Option<nullius_model::AuditEvent> {
        let unwritten = heard.and_then(|heard| heard.unwritten);
        let lost = [
            ("lost-decisions", batch.lost_decisions),
            ("lost-uses", batch.lost_uses),
            ("lost-events", batch.lost_server_words),
            ("turned-away-lists", batch.turned_away_lists),
            ("unreadable-lists", batch.unreadable_lists),
            ("unreadable-events", batch.unreadable_events),
            ("lost-mesh-denials", batch.lost_mesh_denials),
            ("lost-mesh-flows", batch.lost_mesh_flows),
            ("disbelieved-mesh-words", heard.map_or(0, mesh::Heard::disbelieved)),
            ("unwritten-mesh-denials", unwritten.map_or(0, |mesh::Unwritten(count)| count)),
            ("lost-batches", missing),
        ];
        if lost.iter().all(|(_, count)| *count == 0) {
            return None;
        }
        let (kind, what) = match self.teller {
            Teller::Policies => {
                (AuditKind::Admission, "decisions of the cluster were lost before they were told")
            }
            Teller::ApiServer => {
                (AuditKind::ApiServer, "not all that the api server said was taken or told")
            }
            Teller::Mesh => {
                (AuditKind::Mesh, "not all that the mesh decided was taken, told or written down")
            }
        };
        let failed = AuditOutcome::Failed;
        let mut event = agent_event(&self.hub, kind, failed, &self.cluster, &self.instance, what);
        let lost = lost.into_iter().filter(|(_, count)| *count > 0);
        event.facts.extend(lost.map(|(name, count)| (name.to_owned(), count.to_string())));
        Some(event)
    }

    async fn alarm(&self, what: &str) {
        let commands = &self.hub.clusters().commands;
        if commands.take_word(&self.cluster, self.hub.now()).is_none() {
            return;
        }
        let (kind, denied) = (AuditKind::Alarm, AuditOutcome::Denied);
        let event = agent_event(&self.hub, kind, denied, &self.cluster, &self.instance, what);
        self.hub.note(event).await;
    }

    fn known(&self) -> Result<(), Status> {
        if self.hub.snapshot().knows_cluster(&self.cluster) {
            return Ok(());
        }
        Err(Status::permission_denied("the cluster is not known any more"))
    }
}

/// Why a batch is more than an agent may tell at once.
fn beyond_bounds(batch: &ReportBatch, teller: Teller) -> Option<&'static str> {
    if batch.number == 0 {
        return Some("a batch without a number");
    }
    let of_policies = batch.decisions.len() + batch.uses.len() + batch.scan.len();
    let of_server = batch.server_words.len() + batch.server_uses.len();
    let of_mesh = batch.mesh_denials.len() + batch.mesh_flows.len() + batch.disbelieved_nodes.len();
    let (others, why) = match teller {
        Teller::Policies => {
            (of_server + of_mesh, "words of an api server or a mesh from an agent that hears none")
        }
        Teller::ApiServer => {
            (of_policies + of_mesh, "words of policies or a mesh from an agent that has none")
        }
        Teller::Mesh => (of_policies + of_server, "words of others from an agent of the mesh"),
    };
    if others > 0 {
        return Some(why);
    }
    let counts = [
        (batch.server_words.len(), SERVER_WORDS, "too many words of the api server in one batch"),
        (batch.server_uses.len(), USES, "too many uses in one batch"),
        (batch.decisions.len(), DECISIONS, "too many decisions in one batch"),
        (batch.uses.len(), USES, "too many uses in one batch"),
        (batch.scan.len(), SCAN_WORDS, "too many words of a scan in one batch"),
        (batch.mesh_denials.len(), MESH_DENIALS, "too many denials of the mesh in one batch"),
        (batch.mesh_flows.len(), MESH_FLOWS, "too many flows of the mesh in one batch"),
        (batch.disbelieved_nodes.len(), DISBELIEVED_NODES, "too many nodes in one batch"),
    ];
    if let Some((.., why)) = counts.iter().find(|(count, most, _)| count > most) {
        return Some(why);
    }
    let marks = batch.uses.iter().chain(&batch.server_uses).map(|used| used.marks.len());
    if marks.sum::<usize>() > SERVER_MARKS {
        return Some("too many marks of requests in one batch");
    }
    batch.scan.iter().find_map(scan::beyond_bounds)
}

fn unavailable(error: &StoreError) -> Status {
    tracing::warn!(error = %chain(error), "cannot write the reports of an agent down");
    Status::unavailable("the hub cannot write this down now; try again")
}

/// Text of an agent, cut.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => text[..at].to_owned(),
    }
}

/// Who accepted something, where an exception says it.
fn waiver(owner: &str, reason: &str, expires: &str) -> Option<nullius_model::FindingWaiver> {
    if owner.is_empty() && reason.is_empty() && expires.is_empty() {
        return None;
    }
    let cut = |text| cut(text, 500);
    let (owner, reason, expires) = (cut(owner), cut(reason), cut(expires));
    Some(nullius_model::FindingWaiver { owner, reason, expires })
}

/// Who is meant by a name, for decisions and uses alike.
fn principal(
    cluster: &ClusterName,
    username: &str,
    people: &decisions::People,
) -> nullius_model::Principal {
    let person = decisions::session_of(username).and_then(|id| people.get(&id));
    match person {
        Some(user) => nullius_model::Principal::Person { user: user.clone() },
        None => nullius_model::Principal::Kubernetes {
            cluster: cluster.clone(),
            username: nullius_audit::display_safe(&cut(username, 300)).into_owned(),
        },
    }
}

/// A time that an agent tells, kept within what can be true.
fn told_time(millis: i64, now: nullius_model::Timestamp) -> nullius_model::Timestamp {
    let told = nullius_model::Timestamp::from_millisecond(millis).unwrap_or(now);
    let week = jiff::SignedDuration::from_hours(7 * 24);
    told.clamp(now.checked_sub(week).unwrap_or(now), now)
}

/// The API group's part of a resource, as uses name it: `apps/deployments/scale`.
fn resource_name(group: &str, resource: &str, subresource: &str) -> String {
    let slash = if subresource.is_empty() { "" } else { "/" };
    cut(&format!("{group}/{resource}{slash}{subresource}"), 300)
}

#[cfg(test)]
mod tests;
