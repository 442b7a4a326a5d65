//! Which nodes are told, and what waits for each: keys alone, and no more than so many, however slow a node is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nullius_mesh::news::Uid;
use tokio::sync::Notify;

use super::{
    book::{Key, Name, Touched},
    ledger::{Ledger, NotSent, Refused, Stands},
};

/// Streams of one node: the part that runs and the one that replaces it, and what they left half open.
const STREAMS: usize = 8;
/// What waits for a node at most.
const WAITING_MAX: usize = 50_000;
/// Refusals of an intention that are looked at.
const REFUSALS: usize = 4;

/// All streams, by node.
#[derive(Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<Name, Vec<Arc<Stream>>>>>);

/// One stream.
pub(super) struct Stream {
    pub(super) name: Box<str>,
    node: Name,
    waiting: Mutex<Waiting>,
    news: Notify,
    ledger: Mutex<Ledger>,
}

/// What waits for a node.
enum Waiting {
    Keys(BTreeSet<Key>),
    /// More than is kept: the stream has to begin anew.
    TooMuch,
}

/// A stream for as long as it lives.
pub(super) struct Joined {
    stream: Arc<Stream>,
    streams: Streams,
}

/// How an intention stands on nodes that are connected here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Here {
    pub(super) in_force: usize,
    /// Who refuses it, and why; not all of them.
    pub(super) refused: Vec<(Name, String)>,
}

impl Streams {
    /// Tells those whom it concerns.
    pub(super) fn tell(&self, touched: &Touched) {
        if touched.all.is_empty() && touched.nodes.is_empty() {
            return;
        }
        let all = self.lock();
        for (node, streams) in &*all {
            let own = touched.nodes.get(node);
            for stream in streams {
                stream.add(touched.all.iter().chain(own.into_iter().flatten()));
            }
        }
    }

    /// A node is told from now on; nothing where too many streams of it stand.
    pub(super) fn join(&self, node: &str) -> Option<Joined> {
        let mut all = self.lock();
        let streams = all.entry(node.into()).or_default();
        if streams.len() >= STREAMS {
            return None;
        }
        let stream = Arc::new(Stream {
            name: format!("{:032x}", nullius_pki::random_bits()).into(),
            node: node.into(),
            waiting: Mutex::new(Waiting::Keys(BTreeSet::new())),
            news: Notify::new(),
            ledger: Mutex::default(),
        });
        streams.push(Arc::clone(&stream));
        Some(Joined { stream, streams: Self(Arc::clone(&self.0)) })
    }

    /// What a node says of one of its streams; nothing where it has no such stream.
    pub(super) fn report(
        &self,
        node: &str,
        stream: &str,
        sequence: u64,
        refused: Refused,
    ) -> Option<Result<(), NotSent>> {
        let all = self.lock();
        let stream = all.get(node)?.iter().find(|it| *it.name == *stream)?;
        let mut ledger = stream.ledger();
        Some(ledger.report(sequence, refused))
    }

    /// How an intention stands on some nodes.
    pub(super) fn here(&self, uid: &str, generation: i64, nodes: &BTreeSet<Name>) -> Here {
        let all = self.lock();
        let mut here = Here::default();
        for (node, streams) in nodes.iter().filter_map(|node| all.get_key_value(node)) {
            let mut why = None;
            let mut is_in_force = false;
            for stream in streams {
                match stream.ledger().stands(uid, generation) {
                    Stands::InForce => is_in_force = true,
                    Stands::Refused(told) => why = Some(told.to_owned()),
                    Stands::Pending => {}
                }
            }
            here.in_force += usize::from(is_in_force);
            if let Some(why) = why.filter(|_| !is_in_force && here.refused.len() < REFUSALS) {
                here.refused.push((node.clone(), why));
            }
        }
        here.refused.sort();
        here
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Vec<Arc<Stream>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// Waits until there is something to tell.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// What waits; nothing where it has become too much.
    pub(super) fn take(&self) -> Option<BTreeSet<Key>> {
        match &mut *self.waiting() {
            Waiting::Keys(keys) => Some(std::mem::take(keys)),
            Waiting::TooMuch => None,
        }
    }

    /// A message was sent with which all up to it counts.
    pub(super) fn sent(&self, sequence: u64, intentions: BTreeMap<Uid, Option<i64>>) {
        self.ledger().sent(sequence, intentions);
    }

    fn add<'k>(&self, keys: impl Iterator<Item = &'k Key>) {
        let mut waiting = self.waiting();
        let Waiting::Keys(all) = &mut *waiting else { return };
        let before = all.len();
        all.extend(keys.cloned());
        if all.len() > WAITING_MAX {
            *waiting = Waiting::TooMuch;
        } else if all.len() == before {
            return;
        }
        self.news.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::ops::Deref for Joined {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut all = self.streams.lock();
        if let Some(streams) = all.get_mut(&self.stream.node) {
            streams.retain(|stream| !Arc::ptr_eq(stream, &self.stream));
            if streams.is_empty() {
                all.remove(&self.stream.node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn pods(from: usize, to: usize) -> BTreeSet<Key> {
        (from..to).map(|number| Key::Workload(format!("pod-{number}").as_str().into())).collect()
    }

    #[test]
    fn a_node_hears_what_is_for_it_and_no_other_hears_that() {
        let streams = Streams::default();
        let (a, b) = (streams.join("a").unwrap(), streams.join("b").unwrap());
        let touched = Touched {
            all: pods(0, 2),
            nodes: BTreeMap::from([("a".into(), pods(2, 3)), ("c".into(), pods(3, 4))]),
            standing: false,
        };
        streams.tell(&touched);
        assert_eq!(a.take().unwrap(), pods(0, 3));
        assert_eq!(b.take().unwrap(), pods(0, 2));
        assert_eq!(a.take().unwrap(), BTreeSet::new());
        drop(a);
        assert_eq!(streams.lock().len(), 1);
        let all: Vec<_> = (0..STREAMS).map(|_| streams.join("a")).collect();
        assert!(all.iter().all(Option::is_some) && streams.join("a").is_none());
    }

    #[test]
    fn a_node_that_does_not_read_is_let_go_and_what_waits_is_bounded() {
        let streams = Streams::default();
        let stream = streams.join("a").unwrap();
        for round in 0..10 {
            let all = pods(round * 10_000, (round + 1) * 10_000);
            streams.tell(&Touched { all, ..Touched::default() });
        }
        assert!(stream.take().is_none());
        streams.tell(&Touched { all: pods(0, 1), ..Touched::default() });
        assert!(stream.take().is_none(), "what was missed is missed");
    }

    #[test]
    fn an_intention_is_in_force_where_a_stream_of_the_node_says_so() {
        let streams = Streams::default();
        let (a, b) = (streams.join("a").unwrap(), streams.join("b").unwrap());
        let again = streams.join("a").unwrap();
        for stream in [&a, &b, &again] {
            stream.sent(1, BTreeMap::from([("i".into(), Some(3))]));
        }
        let report = |node, stream: &Joined, refused: HashMap<_, _>| {
            streams.report(node, &stream.name, 1, Refused { named: refused, more: false })
        };
        let odd = HashMap::from([(Uid::from("i"), (3, "odd".to_owned()))]);
        assert_eq!(report("a", &again, HashMap::new()), Some(Ok(())));
        assert_eq!(report("b", &b, odd), Some(Ok(())));
        assert_eq!(report("b", &a, HashMap::new()), None, "of another node");
        let nodes = |names: &[&str]| names.iter().map(|name| Name::from(*name)).collect();
        let here = streams.here("i", 3, &nodes(&["a", "b", "c"]));
        assert_eq!(here, Here { in_force: 1, refused: vec![("b".into(), "odd".to_owned())] });
        assert_eq!(streams.here("i", 3, &nodes(&["c"])), Here::default());
        assert_eq!(streams.here("i", 4, &nodes(&["a", "b"])), Here::default());
        drop(again);
        assert_eq!(streams.here("i", 3, &nodes(&["a"])).in_force, 0);
    }
}
