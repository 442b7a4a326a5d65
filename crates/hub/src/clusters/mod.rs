//! Everything between the hub and its clusters: agents come in, requests go out, credentials are made and flushed.
//!
//! * [`kube`]: a person's request, from the header to the audit.
//! * [`plans`]: what each session has in each cluster.
//! * [`commands`]: orders to agents and their answers.
//! * [`control`], [`enrolment`]: the gRPC services of `crates/proto`; [`joining`]: what the latter does.
//! * [`reports`]: what the cluster's agents tell, of admission, of its API server and of the mesh.
//! * [`authority`]: the cluster's authority for its workloads is certified.
//! * [`identities`]: who has which workload identity.
//! * [`foreign`]: bundles of trust domains of somebody else are fetched.
//! * [`agents`]: a connection of an agent, by its protocol.
//! * [`live`]: long requests that run, judged again when something changes.

pub(crate) mod agents;
mod authority;
mod commands;
mod control;
pub(crate) mod enrolment;
pub(crate) mod foreign;
pub(crate) mod identities;
mod joining;
pub(crate) mod kube;
mod live;
mod plans;
mod provision;
mod reports;
mod reviews;
mod seen;
mod status;
mod warm;

pub(crate) use authority::{
    Friend, Relayed, bundle_of, digest_of, friends, relayed, shown_progress,
};

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use nullius_model::{ClusterName, SessionId, Timestamp, UserName};
use nullius_proto::agent_v1::{self as wire, HubMessage, hub_message};
use nullius_tunnel::{TunnelOptions, Tunnels};
use tokio::sync::RwLock;

use crate::limits::Budgets;

use self::{commands::Commands, live::LiveRequests, plans::Plans};

/// How many seconds an agent serves sessions without hearing from the hub (the lease of a partitioned agent).
pub(crate) const LEASE_SECONDS: u32 = 60;
/// Seconds between heartbeats.
pub(crate) const HEARTBEAT_SECONDS: u32 = 10;

/// Service graphs that one person reads at once, and on average: each is a sum over much of what is kept.
const GRAPHS_AT_ONCE: u32 = 30;
const GRAPHS_PER_MINUTE: u32 = 30;

/// The state of all clusters in this process.
pub struct Clusters {
    pub(crate) tunnels: Tunnels,
    commands: Commands,
    plans: Plans,
    live: LiveRequests,
    seen: Mutex<seen::Seen>,
    pace: reports::Pace,
    counted: reports::Counted,
    mesh_budget: reports::Budget,
    mesh_refused: reports::Refused,
    graphs: Budgets<UserName>,
    connections: agents::Connections,
    asking: authority::Asking,
    reports: Budgets<ClusterName>,
    pub(crate) identities: identities::Identities,
    turns: Mutex<HashMap<ClusterName, Arc<RwLock<()>>>>,
}

impl Clusters {
    /// No agents, no sessions.
    pub(crate) fn new() -> Self {
        Self {
            tunnels: Tunnels::new(TunnelOptions::default()),
            commands: Commands::default(),
            plans: Plans::default(),
            live: LiveRequests::default(),
            seen: Mutex::default(),
            pace: reports::Pace::default(),
            counted: reports::Counted::default(),
            mesh_budget: reports::Budget::default(),
            mesh_refused: reports::Refused::default(),
            graphs: Budgets::new(GRAPHS_AT_ONCE, GRAPHS_PER_MINUTE),
            connections: agents::Connections::default(),
            identities: identities::Identities::default(),
            asking: authority::Asking::default(),
            reports: Budgets::new(authority::REPORTS_AT_ONCE, authority::REPORTS_PER_MINUTE),
            turns: Mutex::default(),
        }
    }

    /// Whether a person may read a service graph now.
    pub(crate) fn may_read_graph(&self, user: &UserName, now: Timestamp) -> bool {
        self.graphs.take(user, now).is_some()
    }

    /// How many agents of a cluster are connected, tunnel or control.
    pub(crate) fn agents_connected(&self, cluster: &ClusterName) -> u32 {
        let mut instances: Vec<_> =
            self.tunnels.agents(cluster).into_iter().map(|agent| agent.instance).collect();
        instances.extend(self.commands.attached(cluster).into_iter().map(|agent| agent.instance));
        instances.sort();
        instances.dedup();
        u32::try_from(instances.len()).unwrap_or(u32::MAX)
    }

    /// Whether requests to a cluster have a way: a tunnel of an `agent proxy` stands.
    pub(crate) fn is_reachable(&self, cluster: &ClusterName) -> bool {
        !self.tunnels.agents(cluster).is_empty()
    }

    /// How the agent stands that acts for a cluster; none where no `agent control` is attached.
    fn state_of(&self, cluster: &ClusterName) -> Option<commands::AgentState> {
        self.commands.state(cluster)
    }

    /// Kubernetes' version as an attached agent read it.
    pub(crate) fn kubernetes_version(&self, cluster: &ClusterName) -> Option<String> {
        let attached = self.commands.attached(cluster);
        attached.into_iter().max_by_key(|agent| agent.since).map(|agent| agent.kubernetes_version)
    }

    /// The clusters in which a session has credentials.
    pub(crate) fn clusters_of(&self, session: &SessionId) -> Vec<ClusterName> {
        self.plans.clusters_of(session)
    }

    /// Tells the agents' control connections that this hub goes away soon; tunnels are told by their own drain.
    pub(crate) fn announce_drain(&self, limit: std::time::Duration) {
        let seconds = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        let drain = hub_message::Kind::Drain(wire::Drain { seconds });
        self.commands.tell_all(&HubMessage { kind: Some(drain) });
    }

    /// Tells every agent which signers count; one that does not hear it is told when it attaches again.
    pub(crate) fn announce_key_set(&self, jws: String) {
        let key_set = hub_message::Kind::KeySet(wire::KeySet { jws });
        self.commands.tell_all(&HubMessage { kind: Some(key_set) });
    }

    /// Live streams and requests of a session.
    pub(crate) fn live_streams(&self, session: &SessionId) -> u32 {
        u32::try_from(self.tunnels.live(session)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    pub(super) mod lab;
}
