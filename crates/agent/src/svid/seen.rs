//! What nodes tell of the calls of their pods: believed of pods that are on the node, and handed on to the hub.
//!
//! A node names the pod that saw a call by its UID, and the other side by what it has proven and by its address; whose pod that is, is
//! said here. A batch is taken once, under its number. What a node says of a pod that is not on it is not believed, and told as such.

mod pods;
mod words;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use nullius_kube::identity::{News, PodNews};
use nullius_model::{Timestamp, TrustDomain};
use nullius_proto::node_v1::{SeenBatch, SeenReceipt, seeing_server};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use self::pods::Pods;
use super::{meters::Refusal, service::IdentityService};
use crate::report::{MeshHeard, Reports};

/// Bytes of a batch: half of what a node's connection may have unfinished.
pub(super) const SEEN_MAX: usize = super::mesh::REPORT_MAX;
/// Flows and attempts of a batch.
const MOST: usize = 2_000;
/// Words that a node may tell at once, and on average each second.
const BURST: f64 = 60_000.0;
const SECOND: f64 = 500.0;
/// Processes of a node that are remembered, and how long: the part that runs and the one that replaces it.
const PROCESSES: usize = 4;
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// Nodes of which something is remembered before what is over is thrown away.
const NODES: usize = 10_000;

/// What all connections share.
pub(crate) struct Sightings {
    domain: TrustDomain,
    pods: RwLock<Pods>,
    nodes: Mutex<HashMap<Box<str>, Node>>,
    reports: Reports,
}

/// A node that tells.
struct Node {
    /// The last number of each of its processes, and when it came.
    processes: Vec<(Box<str>, u64, Instant)>,
    left: f64,
    at: Instant,
}

/// Whether a batch is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    New,
    /// It was taken before: its receipt was lost.
    Taken,
    TooFast,
}

impl Sightings {
    pub(crate) fn new(domain: TrustDomain, reports: Reports) -> Self {
        Self { domain, pods: RwLock::default(), nodes: Mutex::default(), reports }
    }

    /// Takes what is heard of pods.
    pub(crate) fn hear_pods(&self, news: News<PodNews>) {
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        pods.hear(news, Timestamp::now().as_millisecond());
    }

    /// Takes what a node tells, once; the time is also told in milliseconds of Unix time.
    fn take(
        &self,
        node: &str,
        batch: SeenBatch,
        now: Instant,
        millis: i64,
    ) -> Result<SeenReceipt, Status> {
        let number = batch.number;
        if let Some(why) = beyond_bounds(&batch) {
            return Err(Status::invalid_argument(why));
        }
        let pods = self.pods.read().unwrap_or_else(PoisonError::into_inner);
        if !pods.is_listed() {
            return Err(Status::unavailable("pods are still being read; tell it again"));
        }
        // Held until it is taken: the same batch on another connection waits for that.
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.len() > NODES {
            nodes.retain(|_, node| node.remembers(now));
        }
        let known = nodes.entry(node.into()).or_insert_with(|| Node::new(now));
        match known.turn(&batch, now) {
            Turn::Taken => return Ok(SeenReceipt { number }),
            Turn::TooFast => {
                return Err(Status::resource_exhausted("the node tells too much; tell it again"));
            }
            Turn::New => {}
        }
        let mut heard = MeshHeard {
            lost_denials: batch.lost_attempts,
            lost_flows: batch.lost_calls,
            ..MeshHeard::default()
        };
        for flow in batch.flows {
            match pods.on_node(&flow.pod, node) {
                Some(pod) => heard.flows.push(words::flow(&self.domain, &pods, pod, flow)),
                None if pods.may_be_gone(&flow.pod, millis) => {
                    let calls = flow.connections.saturating_add(flow.requests);
                    heard.lost_flows = heard.lost_flows.saturating_add(calls);
                }
                None => heard.disbelieved += 1,
            }
        }
        for attempt in batch.attempts {
            match pods.on_node(&attempt.pod, node) {
                Some(pod) => {
                    heard.denials.push(words::denial(&self.domain, &pods, pod, node, attempt));
                }
                None if pods.may_be_gone(&attempt.pod, millis) => {
                    heard.lost_denials = heard.lost_denials.saturating_add(attempt.count.max(1));
                }
                None => heard.disbelieved += 1,
            }
        }
        if heard.disbelieved > 0 {
            tracing::warn!(
                node,
                words = heard.disbelieved,
                "a node tells of pods that are not on it"
            );
        }
        self.reports.hear_mesh(node, heard);
        Ok(SeenReceipt { number })
    }
}

impl Node {
    fn new(now: Instant) -> Self {
        Self { processes: Vec::new(), left: BURST, at: now }
    }

    fn turn(&mut self, batch: &SeenBatch, now: Instant) -> Turn {
        let known = self.processes.iter_mut().find(|(process, ..)| **process == *batch.process);
        if known.as_ref().is_some_and(|(_, last, _)| batch.number <= *last) {
            return Turn::Taken;
        }
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * SECOND).min(BURST);
        self.at = now;
        let words = u32::try_from(batch.flows.len() + batch.attempts.len()).unwrap_or(u32::MAX);
        if self.left < f64::from(words) {
            return Turn::TooFast;
        }
        self.left -= f64::from(words);
        match known {
            Some((_, last, at)) => (*last, *at) = (batch.number, now),
            None => {
                if self.processes.len() >= PROCESSES {
                    let oldest = self.processes.iter().enumerate().min_by_key(|(_, it)| it.2);
                    oldest.map(|(place, _)| place).map(|place| self.processes.swap_remove(place));
                }
                self.processes.push((batch.process.as_str().into(), batch.number, now));
            }
        }
        Turn::New
    }

    fn remembers(&self, now: Instant) -> bool {
        self.processes.iter().any(|(.., at)| now.saturating_duration_since(*at) < REMEMBERED)
    }
}

fn beyond_bounds(batch: &SeenBatch) -> Option<&'static str> {
    let is_hex = batch.process.bytes().all(|byte| byte.is_ascii_hexdigit());
    if batch.number == 0 || batch.process.len() != 32 || !is_hex {
        return Some("a batch has the name of its process, 32 hexadecimal digits, and a number");
    }
    let words = batch.flows.len() + batch.attempts.len();
    (words > MOST).then_some("a batch has 2,000 words at most")
}

/// The service for one connection.
#[derive(Clone)]
pub(super) struct SeeingService {
    pub(super) identity: IdentityService,
    pub(super) sightings: Arc<Sightings>,
}

#[tonic::async_trait]
impl seeing_server::Seeing for SeeingService {
    async fn tell(&self, request: Request<SeenBatch>) -> Result<Response<SeenReceipt>, Status> {
        let caller =
            self.identity.prove_node(request.metadata(), request.get_ref().version).await?;
        let (now, millis) = (Instant::now(), Timestamp::now().as_millisecond());
        let taken = self.sightings.take(&caller.node.name, request.into_inner(), now, millis);
        if let Err(status) = &taken {
            let refusal = match status.code() {
                tonic::Code::ResourceExhausted => Refusal::Pace,
                tonic::Code::Unavailable => Refusal::Unready,
                _ => Refusal::Request,
            };
            self.identity.issuing.meters.refused.add_one(refusal);
        }
        taken.map(Response::new)
    }
}

#[cfg(test)]
mod tests;
