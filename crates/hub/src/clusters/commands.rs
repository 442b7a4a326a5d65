//! Orders to the agents of a cluster and their answers: who is attached, what was asked, who waits.
//!
//! An `agent control` attaches with an epoch; the highest epoch of an instance wins. Of several replicas one acts: that
//! with the highest term of leading, else the one that attached last. An order goes to it and is answered under its id, or fails when the agent goes away or the deadline passes. That a session
//! is flushed is believed only of the connection that was told to flush it, and only when each object is named.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nullius_model::{ClusterName, Command, CommandId, InstanceId, Order, SessionId, Timestamp};
use nullius_pki::{Signer, random_bits};
use nullius_proto::agent_v1::{self as wire, HubMessage, hub_message};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{limits::Budgets, lock::lock};

/// What the agents of a cluster may say unasked at once, and per minute on average.
const WORDS_AT_ONCE: u32 = 200;
const WORDS_PER_MINUTE: u32 = 60;
/// How long an agent may take for one order.
const DEADLINE: Duration = Duration::from_secs(10);
/// Flushes of one connection whose late answers are still known.
const FLUSHES: usize = 1_000;

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

/// How an agent stands in its cluster, as it said last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AgentState {
    /// What is missing of the admission policies; none while they are in force.
    pub(crate) unguarded: Option<String>,
    /// The ClusterRole that is the ceiling in the cluster.
    pub(crate) ceiling: Option<String>,
    /// The term in which it leads its replicas, 0 where it does not.
    pub(crate) term: u64,
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
    state: AgentState,
    serial: u64,
    to_agent: mpsc::Sender<HubMessage>,
    waiting: HashMap<CommandId, oneshot::Sender<Answer>>,
    flushes: HashMap<CommandId, Flushing>,
    gone: watch::Sender<bool>,
}

/// A flush that was ordered on a connection and is not acknowledged yet.
struct Flushing {
    session: SessionId,
    objects: BTreeMap<String, String>,
}

/// What an agent's word is worth that a session is flushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// It answers an order, and whoever gave that has been told.
    Told,
    /// It answers an order of this connection for which nobody waits any more.
    Late(SessionId),
    /// Nobody told this connection to flush this session under this id.
    Unordered,
    /// So many of the recorded objects are not named with their UID, so the session is not flushed.
    Short(usize),
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
        let (waiting, flushes) = (HashMap::new(), HashMap::new());
        let state = AgentState::default();
        let agent = Agent { about, state, serial, to_agent, waiting, flushes, gone };
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

    /// How the agent stands that acts for a cluster.
    pub(crate) fn state(&self, cluster: &ClusterName) -> Option<AgentState> {
        let mut agents = lock(&self.agents);
        acting(agents.get_mut(cluster)?).map(|agent| agent.state.clone())
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
        let message = |jws, heed_only| HubMessage {
            kind: Some(hub_message::Kind::Command(wire::Command { jws, heed_only })),
        };
        let (answer, answered) = oneshot::channel();
        let (to_agent, others) = self
            .enlist(cluster, &command, answer)
            .ok_or_else(|| CommandError::NoAgent(cluster.clone()))?;
        if matches!(command.order, Order::Flush { .. } | Order::Live { .. }) {
            // A full queue: that replica cannot mint for a session whose marker is gone either.
            let heed = message(jws.clone(), true);
            others.iter().for_each(|other| drop(other.try_send(heed.clone())));
        }
        let message = message(jws, false);
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

    /// Signs an order that an agent asks for: it has its id whenever it is given.
    pub(crate) fn sign(
        &self,
        cluster: &ClusterName,
        id: CommandId,
        order: Order,
        signer: &Signer,
        now: Timestamp,
    ) -> String {
        let revision = self.next_revision(now);
        let cluster = cluster.clone();
        signer.sign_command(&Command { cluster, id, revision, issued_at: now, order })
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
        command: &Command,
        answer: oneshot::Sender<Answer>,
    ) -> Option<(mpsc::Sender<HubMessage>, Vec<mpsc::Sender<HubMessage>>)> {
        let mut agents = lock(&self.agents);
        let of_cluster = agents.get_mut(cluster)?;
        let newest = acting(of_cluster)?;
        newest.waiting.retain(|_, waiting| !waiting.is_closed());
        newest.waiting.insert(command.id.clone(), answer);
        if let Order::Flush { session, objects } = &command.order
            && newest.flushes.len() < FLUSHES
        {
            let flushing = Flushing { session: session.clone(), objects: objects.clone() };
            newest.flushes.insert(command.id.clone(), flushing);
        }
        let (serial, to_agent) = (newest.serial, newest.to_agent.clone());
        let others = of_cluster.values().filter(|agent| agent.serial != serial);
        Some((to_agent, others.map(|agent| agent.to_agent.clone()).collect()))
    }
}

/// The agent that acts for its cluster.
fn acting(of_cluster: &mut HashMap<InstanceId, Agent>) -> Option<&mut Agent> {
    of_cluster.values_mut().max_by_key(|agent| (agent.state.term, agent.serial))
}

impl Attachment<'_> {
    /// Takes how the agent stands; gives how it stood before.
    pub(crate) fn set_state(&self, state: AgentState) -> Option<AgentState> {
        let mut agents = lock(&self.commands.agents);
        let agent = agents.get_mut(&self.cluster)?.get_mut(&self.instance)?;
        (agent.serial == self.serial).then(|| std::mem::replace(&mut agent.state, state))
    }

    /// Whether orders for its cluster come to this connection.
    pub(crate) fn acts(&self) -> bool {
        let mut agents = lock(&self.commands.agents);
        let acting = agents.get_mut(&self.cluster).and_then(acting);
        acting.is_some_and(|agent| agent.serial == self.serial)
    }

    /// Hears that objects are gone: of the session that is named, or of all that do not live.
    pub(crate) fn flushed(
        &self,
        id: &CommandId,
        session: Option<&SessionId>,
        objects: BTreeMap<String, String>,
    ) -> Acknowledged {
        let mut agents = lock(&self.commands.agents);
        let agent = agents.get_mut(&self.cluster).and_then(|of| of.get_mut(&self.instance));
        let Some(agent) = agent.filter(|agent| agent.serial == self.serial) else {
            return Acknowledged::Unordered;
        };
        let Some(ordered) = agent.flushes.get(id) else {
            // Which sessions live is answered for all of them together.
            let waiting = if session.is_none() { agent.waiting.remove(id) } else { None };
            let told =
                waiting.is_some_and(|waiting| waiting.send(Answer::Flushed(objects)).is_ok());
            return if told { Acknowledged::Told } else { Acknowledged::Unordered };
        };
        if session != Some(&ordered.session) {
            return Acknowledged::Unordered;
        }
        let named = |(object, uid): &(&String, &String)| objects.get(*object) == Some(*uid);
        let missing = ordered.objects.iter().filter(|recorded| !named(recorded)).count();
        let waiting = agent.waiting.remove(id);
        if missing > 0 {
            let message = format!("it names {missing} recorded objects not as removed");
            let failed = Answer::Failed { message, refused: false };
            // Who waits hears it as a failure; the flush stays noted.
            let _ = waiting.map(|waiting| waiting.send(failed));
            return Acknowledged::Short(missing);
        }
        let session = ordered.session.clone();
        agent.flushes.remove(id);
        match waiting.map(|waiting| waiting.send(Answer::Flushed(objects))) {
            Some(Ok(())) => Acknowledged::Told,
            Some(Err(_)) | None => Acknowledged::Late(session),
        }
    }

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
                assert_eq!(two.flushed(&id, None, BTreeMap::new()), Acknowledged::Told);
                let again = two.flushed(&id, None, BTreeMap::new());
                assert_eq!(again, Acknowledged::Unordered, "answered once");
            });
        assert_eq!(result.unwrap(), Answer::Flushed(BTreeMap::new()));
        let heard = first.try_recv().unwrap().kind;
        let Some(hub_message::Kind::Command(heard)) = heard else { panic!("{heard:?}") };
        assert!(heard.heed_only, "the other one knows of it and does nothing");
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

    fn flush_order(session: u128, objects: &[(&str, &str)]) -> Order {
        let objects = objects.iter().map(|(object, uid)| ((*object).into(), (*uid).into()));
        Order::Flush { session: SessionId::from_bits(session), objects: objects.collect() }
    }

    fn id_of(commands: &Commands, agent: &Attachment<'_>) -> CommandId {
        let agents = lock(&commands.agents);
        agents[&dev()][&agent.instance].flushes.keys().next().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_is_acknowledged_by_whom_it_was_ordered_from_with_every_recorded_object() {
        let commands = Commands::default();
        let signer = Signer::generate().unwrap();
        let cluster = dev();
        let recorded = [("ServiceAccount/s/a", "uid-1"), ("Secret/s/a", "uid-2")];
        let all: BTreeMap<String, String> =
            recorded.iter().map(|(object, uid)| ((*object).into(), (*uid).into())).collect();
        let session = SessionId::from_bits(7);
        let (to_other, _other) = mpsc::channel(4);
        let other = commands.attach(&cluster, about(1, 1), to_other).unwrap();
        let (to_agent, mut received) = mpsc::channel(4);
        let agent = commands.attach(&cluster, about(2, 1), to_agent.clone()).unwrap();
        let early = CommandId::from_bits(1);
        let unasked = agent.flushed(&early, Some(&session), all.clone());
        assert_eq!(unasked, Acknowledged::Unordered, "nobody ordered it");

        let now = Timestamp::UNIX_EPOCH;
        let order = commands.order(&cluster, flush_order(7, &recorded), &signer, now);
        let (result, ()) = tokio::join!(order, async {
            received.recv().await.unwrap();
            let id = id_of(&commands, &agent);
            let wrong = SessionId::from_bits(8);
            for (who, session) in [(&agent, Some(&wrong)), (&agent, None), (&other, Some(&session))]
            {
                let told = who.flushed(&id, session, all.clone());
                assert_eq!(told, Acknowledged::Unordered);
            }
            let some = all.iter().take(1).map(|(o, u)| (o.clone(), u.clone())).collect();
            assert_eq!(agent.flushed(&id, Some(&session), some), Acknowledged::Short(1));
        });
        assert!(matches!(result, Err(CommandError::Failed { .. })), "{result:?}");

        // It tries on, and is heard late.
        let id = id_of(&commands, &agent);
        let mut remade = all.clone();
        remade.insert("Secret/s/a".into(), "uid-of-another".into());
        assert_eq!(agent.flushed(&id, Some(&session), remade), Acknowledged::Short(1));
        let late = agent.flushed(&id, Some(&session), all.clone());
        assert_eq!(late, Acknowledged::Late(session.clone()));
        let again = agent.flushed(&id, Some(&session), all.clone());
        assert_eq!(again, Acknowledged::Unordered, "acknowledged once");

        let order = commands.order(&cluster, flush_order(7, &recorded), &signer, now);
        assert!(matches!(order.await, Err(CommandError::Slow(_))));
        let id = id_of(&commands, &agent);
        let newer = commands.attach(&cluster, about(2, 2), to_agent).unwrap();
        for incarnation in [&agent, &newer] {
            let told = incarnation.flushed(&id, Some(&session), all.clone());
            assert_eq!(told, Acknowledged::Unordered, "an order of a connection before");
        }
    }

    #[test]
    fn of_several_replicas_the_highest_term_acts() {
        let commands = Commands::default();
        let (to_agent, _keep) = mpsc::channel(4);
        let first = commands.attach(&dev(), about(1, 1), to_agent.clone()).unwrap();
        let second = commands.attach(&dev(), about(2, 1), to_agent.clone()).unwrap();
        let leads = |term| AgentState { term, ..AgentState::default() };
        assert!(second.acts() && !first.acts(), "nobody leads: the last one");
        first.set_state(leads(4));
        assert!(first.acts() && !second.acts());
        second.set_state(leads(5));
        assert!(second.acts() && !first.acts(), "one that was paused still believes that it leads");
        drop(second);
        assert!(first.acts());
        first.set_state(leads(0));
        let third = commands.attach(&dev(), about(3, 1), to_agent).unwrap();
        assert!(third.acts());
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
