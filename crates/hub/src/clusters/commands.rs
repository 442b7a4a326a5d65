//! Orders to the agents of a cluster and their answers: who is attached, what was asked, who waits.
//!
//! An `agent control` attaches with an epoch; the highest epoch of an instance wins. An order goes to the agent that
//! attached last and is answered under its id, or fails when the agent goes away or the deadline passes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nullius_model::{ClusterName, Command, CommandId, InstanceId, Order, Timestamp};
use nullius_pki::{Signer, random_bits};
use nullius_proto::agent_v1::{self as wire, HubMessage, hub_message};
use tokio::sync::{mpsc, oneshot, watch};

use crate::limits::{Budgets, lock};

/// What the agents of a cluster may say unasked at once, and per minute on average.
const WORDS_AT_ONCE: u32 = 200;
const WORDS_PER_MINUTE: u32 = 60;
/// How long an agent may take for one order.
const DEADLINE: Duration = Duration::from_secs(10);

/// What an agent answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The session's objects stand; object → UID.
    Ready(BTreeMap<String, String>),
    /// The session's objects are gone; object → UID.
    Flushed(BTreeMap<String, String>),
    /// The order failed.
    Failed { message: String, refused: bool },
}

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(
        "cluster `{0}` has no agent connected; see `kubectl -n nullius-system get pods` in the cluster"
    )]
    NoAgent(ClusterName),
    #[error("the agent of cluster `{0}` went away while it worked; try again")]
    Gone(ClusterName),
    #[error("the agent of cluster `{0}` did not answer in time; try again")]
    Slow(ClusterName),
    #[error("cluster `{cluster}` refused: {message}")]
    Refused { cluster: ClusterName, message: String },
    #[error("the agent of cluster `{cluster}` failed: {message}")]
    Failed { cluster: ClusterName, message: String },
}

/// One attached agent, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) instance: InstanceId,
    pub(crate) epoch: u64,
    pub(crate) since: Timestamp,
    pub(crate) kubernetes_version: String,
}

struct Agent {
    about: Attached,
    serial: u64,
    to_agent: mpsc::Sender<HubMessage>,
    waiting: HashMap<CommandId, oneshot::Sender<Answer>>,
    gone: watch::Sender<bool>,
}

/// All attached agents by cluster and instance.
pub(crate) struct Commands {
    agents: Mutex<BTreeMap<ClusterName, HashMap<InstanceId, Agent>>>,
    revision: AtomicU64,
    serial: AtomicU64,
    words: Budgets<ClusterName>,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            agents: Mutex::default(),
            revision: AtomicU64::default(),
            serial: AtomicU64::default(),
            words: Budgets::new(WORDS_AT_ONCE, WORDS_PER_MINUTE),
        }
    }
}

/// An attached agent's place; dropping it detaches, and whoever waits is told.
pub(crate) struct Attachment<'a> {
    commands: &'a Commands,
    cluster: ClusterName,
    instance: InstanceId,
    serial: u64,
    /// Turns true when a newer connection of the same instance takes over.
    pub(crate) gone: watch::Receiver<bool>,
}

impl Commands {
    /// Attaches an agent; none where a connection with the same or a higher epoch is there already.
    pub(crate) fn attach(
        &self,
        cluster: &ClusterName,
        about: Attached,
        to_agent: mpsc::Sender<HubMessage>,
    ) -> Option<Attachment<'_>> {
        let instance = about.instance.clone();
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (gone, watched) = watch::channel(false);
        let mut agents = lock(&self.agents);
        let of_cluster = agents.entry(cluster.clone()).or_default();
        if of_cluster.get(&instance).is_some_and(|known| known.about.epoch >= about.epoch) {
            return None;
        }
        let agent = Agent { about, serial, to_agent, waiting: HashMap::new(), gone };
        if let Some(older) = of_cluster.insert(instance.clone(), agent) {
            older.gone.send_replace(true);
        }
        Some(Attachment {
            commands: self,
            cluster: cluster.clone(),
            instance,
            serial,
            gone: watched,
        })
    }

    /// Takes one of the words that agents of a cluster may say unasked: each is written to disk, and an agent that is
    /// not ours any more must not fill it. Gives how many were left out since the last, none where this one is.
    pub(crate) fn take_word(&self, cluster: &ClusterName, now: Timestamp) -> Option<u64> {
        self.words.take(cluster, now)
    }

    /// The agents of a cluster.
    pub(crate) fn attached(&self, cluster: &ClusterName) -> Vec<Attached> {
        let agents = lock(&self.agents);
        agents.get(cluster).into_iter().flat_map(HashMap::values).map(|a| a.about.clone()).collect()
    }

    /// Sends a message to every attached agent of every cluster; a full queue drops it, the next attach repeats it.
    pub(crate) fn tell_all(&self, message: &HubMessage) {
        for agent in lock(&self.agents).values().flat_map(HashMap::values) {
            let _ = agent.to_agent.try_send(message.clone());
        }
    }

    /// Detaches every agent of a cluster.
    pub(crate) fn drop_cluster(&self, cluster: &ClusterName) {
        if let Some(agents) = lock(&self.agents).remove(cluster) {
            for agent in agents.into_values() {
                agent.gone.send_replace(true);
            }
        }
    }

    /// Gives an order to the agent that attached last and waits for its answer.
    pub(crate) async fn order(
        &self,
        cluster: &ClusterName,
        order: Order,
        signer: &Signer,
        now: Timestamp,
    ) -> Result<Answer, CommandError> {
        let command = Command {
            cluster: cluster.clone(),
            id: CommandId::from_bits(random_bits()),
            revision: self.next_revision(now),
            issued_at: now,
            order,
        };
        let jws = signer.sign_command(&command);
        let message = HubMessage { kind: Some(hub_message::Kind::Command(wire::Command { jws })) };
        let (answer, answered) = oneshot::channel();
        let to_agent = self
            .enlist(cluster, command.id.clone(), answer)
            .ok_or_else(|| CommandError::NoAgent(cluster.clone()))?;
        let exchange = async {
            to_agent.send(message).await.map_err(|_| CommandError::Gone(cluster.clone()))?;
            answered.await.map_err(|_| CommandError::Gone(cluster.clone()))
        };
        match tokio::time::timeout(DEADLINE, exchange).await {
            Ok(Ok(Answer::Failed { message, refused: true })) => {
                Err(CommandError::Refused { cluster: cluster.clone(), message })
            }
            Ok(Ok(Answer::Failed { message, refused: false })) => {
                Err(CommandError::Failed { cluster: cluster.clone(), message })
            }
            Ok(answer) => answer,
            Err(_) => Err(CommandError::Slow(cluster.clone())),
        }
    }

    /// Grows also across restarts of the hub, as long as the clock does not go back by more than it ran.
    fn next_revision(&self, now: Timestamp) -> u64 {
        let floor = u64::try_from(now.as_microsecond()).unwrap_or_default();
        let next = |last: u64| Some(floor.max(last + 1));
        let last = self.revision.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        let last = last.unwrap_or_default();
        floor.max(last + 1)
    }

    fn enlist(
        &self,
        cluster: &ClusterName,
        id: CommandId,
        answer: oneshot::Sender<Answer>,
    ) -> Option<mpsc::Sender<HubMessage>> {
        let mut agents = lock(&self.agents);
        let newest = agents.get_mut(cluster)?.values_mut().max_by_key(|agent| agent.serial)?;
        newest.waiting.retain(|_, waiting| !waiting.is_closed());
        newest.waiting.insert(id, answer);
        Some(newest.to_agent.clone())
    }
}

impl Attachment<'_> {
    /// Hands an answer to whoever gave the order; false where nobody waits for it.
    pub(crate) fn answer(&self, id: &CommandId, answer: Answer) -> bool {
        let mut agents = lock(&self.commands.agents);
        let agent = agents.get_mut(&self.cluster).and_then(|of| of.get_mut(&self.instance));
        let waiting = agent
            .filter(|agent| agent.serial == self.serial)
            .and_then(|agent| agent.waiting.remove(id));
        waiting.is_some_and(|waiting| waiting.send(answer).is_ok())
    }
}

impl Drop for Attachment<'_> {
    fn drop(&mut self) {
        let mut agents = lock(&self.commands.agents);
        let Some(of_cluster) = agents.get_mut(&self.cluster) else { return };
        if of_cluster.get(&self.instance).is_some_and(|agent| agent.serial == self.serial) {
            of_cluster.remove(&self.instance);
        }
        if of_cluster.is_empty() {
            agents.remove(&self.cluster);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
    use std::collections::BTreeSet;

    use super::*;

    fn about(instance: u128, epoch: u64) -> Attached {
        Attached {
            instance: InstanceId::from_bits(instance),
            epoch,
            since: Timestamp::UNIX_EPOCH,
            kubernetes_version: String::new(),
        }
    }

    fn live_order() -> Order {
        Order::Live { sessions: BTreeSet::new() }
    }

    fn dev() -> ClusterName {
        "dev".parse().unwrap()
    }

    #[tokio::test]
    async fn an_order_is_answered_by_the_agent_that_attached_last() {
        let commands = Commands::default();
        let signer = Signer::generate().unwrap();
        let (to_first, mut first) = mpsc::channel(4);
        let (to_second, mut second) = mpsc::channel(4);
        let _one = commands.attach(&dev(), about(1, 1), to_first).unwrap();
        let two = commands.attach(&dev(), about(2, 1), to_second).unwrap();
        let order = live_order();
        let cluster = dev();
        let (result, ()) =
            tokio::join!(commands.order(&cluster, order, &signer, Timestamp::UNIX_EPOCH), async {
                assert!(second.recv().await.is_some());
                let id = {
                    let agents = lock(&commands.agents);
                    agents[&cluster][&two.instance].waiting.keys().next().unwrap().clone()
                };
                assert!(two.answer(&id, Answer::Flushed(BTreeMap::new())));
                assert!(!two.answer(&id, Answer::Flushed(BTreeMap::new())), "answered once");
            });
        assert_eq!(result.unwrap(), Answer::Flushed(BTreeMap::new()));
        assert!(first.try_recv().is_err());
    }

    #[tokio::test]
    async fn an_agent_that_goes_away_leaves_nobody_waiting() {
        let commands = Commands::default();
        let signer = Signer::generate().unwrap();
        let cluster = dev();
        let none = commands.order(&cluster, live_order(), &signer, Timestamp::UNIX_EPOCH);
        assert_eq!(none.await, Err(CommandError::NoAgent(dev())));

        let (to_agent, mut received) = mpsc::channel(4);
        let agent = commands.attach(&cluster, about(1, 1), to_agent).unwrap();
        let (result, ()) = tokio::join!(
            commands.order(&cluster, live_order(), &signer, Timestamp::UNIX_EPOCH),
            async {
                received.recv().await.unwrap();
                drop(agent);
            }
        );
        assert_eq!(result, Err(CommandError::Gone(dev())));
    }

    #[test]
    fn the_highest_epoch_of_an_instance_wins() {
        let commands = Commands::default();
        let (to_agent, _keep) = mpsc::channel(4);
        let old = commands.attach(&dev(), about(1, 5), to_agent.clone()).unwrap();
        assert!(commands.attach(&dev(), about(1, 5), to_agent.clone()).is_none(), "replayed epoch");
        assert!(commands.attach(&dev(), about(1, 4), to_agent.clone()).is_none(), "stale epoch");
        let new = commands.attach(&dev(), about(1, 6), to_agent).unwrap();
        assert!(*old.gone.borrow());
        drop(old);
        assert_eq!(commands.attached(&dev()).len(), 1, "the newer one stays");
        drop(new);
        assert!(commands.attached(&dev()).is_empty());
    }

    #[test]
    fn revisions_grow_even_when_the_clock_stands_still() {
        let commands = Commands::default();
        let now = Timestamp::from_second(1_000).unwrap();
        let first = commands.next_revision(now);
        assert!(commands.next_revision(now) > first);
        assert!(commands.next_revision(Timestamp::UNIX_EPOCH) > first + 1);
    }
}
