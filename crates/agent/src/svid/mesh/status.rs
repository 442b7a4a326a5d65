//! How intentions stand, in their own status: each replica says of how many of its nodes it heard that one is in force, whoever leads
//! adds that up, and says whether it can be read at all.
//!
//! What stands already is not written again. Of replicas that are gone nothing counts, and what they said is taken away.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use nullius_intention::{Destination, Home, Intention, Origin};
use nullius_kube::identity::{ObjectNews, StatusStore};
use nullius_mesh::news::Uid;
use nullius_model::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{
    Mesh,
    book::{Book, Name},
    streams::Here,
};
use crate::{condition::Condition, svid::standing::Followed};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(2);
/// Nodes come back first when a replica begins.
const BEGIN: Duration = Duration::from_secs(5);
/// What is written in one round; the rest is for the next.
const WRITES: usize = 25;
/// What was written is there when the watch says so, or it is written again after so long.
const WRITTEN: Duration = Duration::from_secs(30);
/// What could not be written is tried again after so long.
const AGAIN: Duration = Duration::from_secs(30);
/// One write.
const PATIENCE: Duration = Duration::from_secs(5);
const LEADER: &str = "nullius-identity:leader";
/// Faults of an intention that its status tells.
const FAULTS: usize = 20;

/// Says how intentions stand.
pub(crate) struct Telling {
    mesh: Arc<Mesh>,
    store: StatusStore,
    /// The name of the own pod.
    replica: String,
    /// Whether this replica leads.
    leads: watch::Receiver<bool>,
    home: Home,
    /// What says whom nodes know.
    standing: Followed,
    read: HashMap<Uid, Read>,
    /// The namespace of which something was written last.
    served: Name,
    /// What was written last, by intention and by who says it, and until when that is not done again.
    written: HashMap<(Uid, String), (Option<Value>, Instant)>,
}

/// Whether an intention can be read, and what it is for. What it says beside that is for nodes, and not held here.
type Reading = Arc<Result<For, String>>;

/// What an intention is for.
#[derive(Debug)]
struct For {
    destination: Destination,
    limits: Limits,
}

/// Whether an intention limits requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limits {
    None,
    Some,
}

/// An intention as it was read, and where it is.
#[derive(Clone)]
struct Read {
    json: Arc<[u8]>,
    reading: Reading,
    /// Nodes with pods for which it is, at a turn of the book.
    nodes: Arc<BTreeSet<Name>>,
    turn: Option<u64>,
    /// Where its limits are for ports of which nothing is read.
    unread: BTreeSet<u16>,
}

/// Something to be written.
struct Saying {
    uid: Uid,
    news: ObjectNews,
    manager: String,
    status: Option<Value>,
}

impl Telling {
    pub(crate) fn new(
        mesh: Arc<Mesh>,
        store: StatusStore,
        replica: String,
        leads: watch::Receiver<bool>,
        home: Home,
        standing: Followed,
    ) -> Self {
        let (read, written) = (HashMap::new(), HashMap::new());
        let served = Name::default();
        Self { mesh, store, replica, leads, home, standing, read, served, written }
    }

    /// Looks again and again, for as long as the process lives.
    pub(crate) async fn run(mut self) {
        tokio::time::sleep(BEGIN).await;
        let mut led = false;
        loop {
            let leads = *self.leads.borrow_and_update();
            let is_elsewhere = self.looks_around();
            let is_due =
                self.mesh.restless.swap(false, Ordering::AcqRel) || leads != led || is_elsewhere;
            led = leads;
            if is_due && self.mesh.is_ready().is_ok() {
                if !self.round(leads).await {
                    self.mesh.note_standing();
                }
            } else if is_due {
                self.mesh.note_standing();
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// Whether nodes know other trust domains than before: what intentions say of those is read again.
    fn looks_around(&mut self) -> bool {
        let standing = self.standing.borrow_and_update();
        let Some(standing) = standing.as_deref() else { return false };
        let federated = Some(standing.beside.bundles.keys().cloned().collect());
        if self.home.federated == federated {
            return false;
        }
        self.home.federated = federated;
        self.read.clear();
        true
    }

    /// Writes what is other than it stands; whether nothing is left for later.
    async fn round(&mut self, leads: bool) -> bool {
        let now = Instant::now();
        self.written.retain(|_, (_, until)| now < *until);
        let mut left = WRITES;
        let mut is_done = true;
        let sayings = self.sayings(leads).await;
        for saying in in_turn(sayings, &self.served) {
            let key = (saying.uid.clone(), saying.manager.clone());
            if let Some((status, _)) = self.written.get(&key)
                && *status == saying.status
            {
                // It is on its way, or was refused a moment ago.
                is_done = false;
                continue;
            }
            if left == 0 {
                return false;
            }
            left -= 1;
            self.served.clone_from(&saying.news.namespace);
            let said = self.store.say(&saying.news, &saying.manager, saying.status.as_ref());
            let said = tokio::time::timeout(PATIENCE, said).await;
            let pause = match said {
                Ok(Ok(())) => WRITTEN,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot say how an intention stands, try again");
                    AGAIN
                }
                Err(_) => {
                    tracing::warn!("cannot say in time how an intention stands, try again");
                    AGAIN
                }
            };
            self.written.insert(key, (saying.status, Instant::now() + pause));
            is_done = false;
        }
        is_done
    }

    /// What does not stand yet.
    async fn sayings(&mut self, leads: bool) -> Vec<Saying> {
        let mesh = Arc::clone(&self.mesh);
        let standing: Vec<(Uid, ObjectNews)> = {
            let book = mesh.book();
            book.intentions().map(|(uid, standing)| (uid.clone(), standing.news.clone())).collect()
        };
        self.read_all(&standing).await;
        // What is heard of the cluster waits for the book, and for nothing else here.
        let (all, replicas) = {
            let book = mesh.book();
            let all = standing.into_iter().filter_map(|(uid, news)| {
                let read = self.look(&book, &uid)?;
                Some((uid, news, read))
            });
            (all.collect::<Vec<_>>(), book.replicas())
        };
        let mut sayings = Vec::new();
        let mut there = BTreeSet::new();
        let now = Timestamp::now();
        for (uid, news, read) in &all {
            there.insert(uid.clone());
            let here = mesh.streams.here(uid, news.generation, &read.nodes);
            let mut say = |manager: String, status: Option<Value>| {
                sayings.push(Saying { uid: uid.clone(), news: news.clone(), manager, status });
            };
            if let Some(entry) = own_entry(news, &self.replica, &here) {
                say(manager(&self.replica), Some(json!({ "replicas": [entry] })));
            }
            if !leads {
                continue;
            }
            for gone in entries(&news.status).filter_map(|entry| entry["name"].as_str()) {
                if gone != self.replica && !replicas.contains(gone) {
                    say(manager(gone), None);
                }
            }
            let lives = |name: &str| name == self.replica || replicas.contains(name);
            if let Some(status) = whole(news, read, &here, &self.replica, lives, now) {
                say(LEADER.to_owned(), Some(status));
            }
        }
        self.read.retain(|uid, _| there.contains(uid));
        sayings
    }

    /// Reads intentions as a node does, where they are others than before: where nobody waits, since each may take a while.
    async fn read_all(&mut self, standing: &[(Uid, ObjectNews)]) {
        let is_new = |(uid, news): &&(Uid, ObjectNews)| {
            self.read.get(uid).is_none_or(|known| known.json != news.json)
        };
        for (uid, news) in standing.iter().filter(is_new).cloned().collect::<Vec<_>>() {
            let (json, home) = (Arc::clone(&news.json), self.home.clone());
            let reading = tokio::task::spawn_blocking(move || what_for(&news, &home)).await;
            // It is looked at again in the next round.
            let Ok(reading) = reading else { continue };
            let (nodes, unread) = (Arc::default(), BTreeSet::new());
            let read = Read { json, reading: Arc::new(reading), nodes, turn: None, unread };
            self.read.insert(uid, read);
        }
    }

    /// Looks for the nodes of an intention, where those may be others.
    fn look(&mut self, book: &Book, uid: &Uid) -> Option<Read> {
        let known = self.read.get_mut(uid)?;
        if let Ok(is_for) = &*known.reading {
            let turn = Some(book.turn_of(&is_for.destination));
            if known.turn != turn {
                known.turn = turn;
                known.nodes = Arc::new(book.nodes_of(&is_for.destination));
                if is_for.limits == Limits::Some {
                    known.unread = book.unread(&is_for.destination);
                }
            }
        }
        Some(known.clone())
    }
}

/// One of each namespace, then the next of each, beginning behind the one that was served last: who changes many objects keeps the status
/// of no others from being written.
fn in_turn(all: Vec<Saying>, served: &str) -> Vec<Saying> {
    let count = all.len();
    let mut by: BTreeMap<(bool, Name), VecDeque<Saying>> = BTreeMap::new();
    for saying in all {
        let namespace = saying.news.namespace.clone();
        by.entry((*namespace <= *served, namespace)).or_default().push_back(saying);
    }
    let mut ordered = Vec::with_capacity(count);
    while !by.is_empty() {
        ordered.extend(by.values_mut().filter_map(VecDeque::pop_front));
        by.retain(|_, rest| !rest.is_empty());
    }
    ordered
}

pub(super) fn read(news: &ObjectNews, home: &Home) -> Result<Intention, String> {
    if news.is_left_out() {
        return Err(CROWDED.to_owned());
    }
    let object: Value = serde_json::from_slice(&news.json).map_err(|error| error.to_string())?;
    Intention::read(&object, Origin::Cluster, home).map_err(|faults| {
        let more = faults.len().saturating_sub(FAULTS);
        let told = faults.iter().take(FAULTS).map(ToString::to_string);
        let rest = (more > 0).then(|| format!("and {more} more"));
        told.chain(rest).collect::<Vec<_>>().join("; ")
    })
}

fn what_for(news: &ObjectNews, home: &Home) -> Result<For, String> {
    let read = read(news, home)?;
    let limits = if read.limits().is_empty() { Limits::None } else { Limits::Some };
    Ok(For { destination: read.destination().clone(), limits })
}

/// Of an intention whose limits count nothing somewhere.
fn unlimited(ports: &BTreeSet<u16>) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = ports.iter().take(SHOWN).map(u16::to_string).collect();
    let more = if ports.len() > SHOWN { ", …" } else { "" };
    format!(
        "it can be read; its limits count nothing at port {}{more} of some pods, since their Services say that no HTTP is spoken there (`appProtocol`, the port's name)",
        shown.join(", ")
    )
}

/// Of an intention for which its namespace has no room.
const CROWDED: &str = "its namespace has more than 1,000 intentions, or more than 4 MiB of them, or their expressions take more than 16 MiB when they are compiled (a quarter more for those that deny, limit, have permissions or a schema), or all namespaces have more than 40,000, and no node is told of this one: take others away, then apply it again";

/// As whom a replica writes.
fn manager(replica: &str) -> String {
    format!("nullius-identity:{replica}")
}

fn entries(status: &Value) -> impl Iterator<Item = &Value> {
    status["replicas"].as_array().into_iter().flatten()
}

/// What a replica has to say, where it does not stand already. Who has heard of no node says nothing.
fn own_entry(news: &ObjectNews, replica: &str, here: &Here) -> Option<Value> {
    let mut entry = json!({
        "name": replica, "observedGeneration": news.generation, "inForce": here.in_force,
    });
    if !here.refused.is_empty() {
        let refused = here.refused.iter();
        let refused: Vec<Value> =
            refused.map(|(node, why)| json!({ "node": node, "message": why })).collect();
        entry["refused"] = refused.into();
    }
    match entries(&news.status).find(|it| it["name"] == *replica) {
        Some(standing) => (*standing != entry).then_some(entry),
        None => (*here != Here::default()).then_some(entry),
    }
}

/// What whoever leads has to say, where it does not stand already.
fn whole(
    news: &ObjectNews,
    read: &Read,
    here: &Here,
    own: &str,
    lives: impl Fn(&str) -> bool,
    now: Timestamp,
) -> Option<Value> {
    let (reading, nodes, unread) = (&*read.reading, read.nodes.len(), &read.unread);
    let others = entries(&news.status).filter(|entry| {
        let name = entry["name"].as_str().unwrap_or_default();
        name != own && lives(name) && entry["observedGeneration"] == news.generation
    });
    let others: Vec<&Value> = others.collect();
    let count = |entry: &&Value| entry["inForce"].as_u64().and_then(|it| usize::try_from(it).ok());
    // A node may be heard twice while it goes from one replica to the other.
    let in_force = here.in_force + others.iter().filter_map(count).sum::<usize>();
    let in_force = in_force.min(nodes);
    let refusal = here.refused.first().map(|(node, why)| (&**node, why.as_str())).or_else(|| {
        let first = others.iter().find_map(|entry| entry["refused"].get(0))?;
        Some((first["node"].as_str()?, first["message"].as_str()?))
    });
    let accepted = match reading {
        Ok(_) if unread.is_empty() => ("True", "Accepted", "it can be read".to_owned()),
        Ok(_) => ("True", "Accepted", unlimited(unread)),
        Err(why) if news.is_left_out() => ("False", "Crowded", why.clone()),
        Err(faults) => ("False", "Refused", faults.clone()),
    };
    let is_in_force = match (reading, refusal) {
        (Err(_), _) if news.is_left_out() => {
            ("False", "Crowded", "no node is told of it".to_owned())
        }
        (Err(_), _) => (
            "False",
            "Refused",
            "nodes that could read it before keep what it said then; others know nothing of it"
                .to_owned(),
        ),
        (Ok(_), _) if nodes == 0 => {
            ("False", "NoWorkloads", "no pod in the mesh is its destination".to_owned())
        }
        (Ok(_), _) if in_force == nodes => {
            ("True", "InForce", format!("on {in_force} of {nodes} nodes"))
        }
        (Ok(_), Some((node, why))) => {
            let told = format!("on {in_force} of {nodes} nodes; `{node}` refuses it: {why}");
            ("False", "RefusedByNodes", told)
        }
        (Ok(_), None) => ("False", "Pending", format!("on {in_force} of {nodes} nodes")),
    };
    let condition = |kind, (status, reason, message): (&'static str, &'static str, String)| {
        Condition::new(kind, status, reason, &message).write(&news.status, news.generation, now)
    };
    let status = json!({
        "observedGeneration": news.generation,
        "nodes": nodes,
        "inForce": in_force,
        "conditions": [condition("Accepted", accepted), condition("InForce", is_in_force)],
    });
    (!news.says(&status)).then_some(status)
}

#[cfg(test)]
mod tests;
