//! Room for password hashes: so many at a time, so many waiting, the rest is told to come back.
//!
//! Turns go round among the sources that wait, and nobody has more than some places: for one source, and for one
//! name that is tried. When all places are taken, whoever has most gives one up for a newcomer; somebody who signed in
//! from that network before is let in before strangers.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::source::Network;
use crate::lock::lock;

/// Places for one name, for strangers and for those who signed in from there before alike.
const PLACES_FOR_NAME: usize = 4;

/// Room for password hashes.
#[derive(Debug, Clone)]
pub(crate) struct HashRoom {
    inner: Arc<Inner>,
}

/// Who asks for a turn.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) source: Network,
    /// The name that is tried, as the lock-out counts it.
    pub(crate) name: String,
    pub(crate) acquaintance: Acquaintance,
}

/// Whether that name signed in from that network before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquaintance {
    /// It did.
    Known,
    /// It did not.
    Stranger,
}

/// No room: come back after so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Busy {
    /// Seconds.
    pub(crate) retry_after: u32,
}

const BUSY: Busy = Busy { retry_after: 2 };

/// The right to hash once. It goes with the work, also when nobody waits for its outcome any more.
#[derive(Debug)]
pub(crate) struct Turn {
    room: Arc<Inner>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.room.pass_on();
    }
}

#[derive(Debug)]
struct Inner {
    places: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    free: usize,
    /// The round that was served last.
    round: u64,
    /// In the order of arrival.
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    who: Visitor,
    /// The first of a source waits for this round, its second for the next.
    round: u64,
    wake: oneshot::Sender<Turn>,
}

enum Joined {
    Now(Turn),
    Later(oneshot::Receiver<Turn>),
}

impl HashRoom {
    pub(crate) fn new(at_once: usize, places: usize) -> Self {
        let queue = Queue { free: at_once.max(1), round: 0, waiting: Vec::new() };
        Self { inner: Arc::new(Inner { places, queue: Mutex::new(queue) }) }
    }

    /// Waits for a turn; sent away when there are too many, perhaps after some waiting.
    pub(crate) async fn enter(&self, who: Visitor) -> Result<Turn, Busy> {
        match self.inner.join(who)? {
            Joined::Now(turn) => Ok(turn),
            Joined::Later(turn) => turn.await.map_err(|_| BUSY),
        }
    }
}

impl Inner {
    fn join(self: &Arc<Self>, who: Visitor) -> Result<Joined, Busy> {
        let mut queue = lock(&self.queue);
        if queue.free > 0 {
            queue.free -= 1;
            return Ok(Joined::Now(Turn { room: Arc::clone(self) }));
        }
        queue.waiting.retain(|waiting| !waiting.wake.is_closed());
        let of_source = queue.of_source(who.source);
        if of_source >= (self.places / 2).max(1) || queue.of_name(&who) >= PLACES_FOR_NAME {
            return Err(BUSY);
        }
        if queue.waiting.len() >= self.places {
            let place = queue.to_give_up(&who, of_source).ok_or(BUSY)?;
            queue.waiting.remove(place);
        }
        let last = queue.waiting.iter().filter(|waiting| waiting.who.source == who.source);
        let last = last.map(|waiting| waiting.round.saturating_add(1)).max();
        let round = last.unwrap_or(0).max(queue.round);
        let (wake, turn) = oneshot::channel();
        queue.waiting.push(Waiting { who, round, wake });
        Ok(Joined::Later(turn))
    }

    /// Gives a turn that came back to the next who waits. Whoever has gone away meanwhile drops it, and so passes it on.
    fn pass_on(self: &Arc<Self>) {
        let next = {
            let mut queue = lock(&self.queue);
            match queue.next() {
                Some(next) => next,
                None => {
                    queue.free += 1;
                    return;
                }
            }
        };
        let _ = next.wake.send(Turn { room: Arc::clone(self) });
    }
}

impl Queue {
    fn of_source(&self, source: Network) -> usize {
        self.waiting.iter().filter(|waiting| waiting.who.source == source).count()
    }

    fn of_name(&self, who: &Visitor) -> usize {
        let same = self.waiting.iter().filter(|waiting| {
            waiting.who.name == who.name && waiting.who.acquaintance == who.acquaintance
        });
        same.count()
    }

    /// Who makes room for a newcomer with so many places: the last of a source with more, or for an acquaintance the
    /// last stranger of the source with most.
    fn to_give_up(&self, newcomer: &Visitor, has: usize) -> Option<usize> {
        let candidates = self.waiting.iter().enumerate().filter_map(|(place, waiting)| {
            let of_source = self.of_source(waiting.who.source);
            let stranger = newcomer.acquaintance == Acquaintance::Known
                && waiting.who.acquaintance == Acquaintance::Stranger;
            (stranger || of_source > has + 1).then_some((stranger, of_source, place))
        });
        candidates.max().map(|(_, _, place)| place)
    }

    fn next(&mut self) -> Option<Waiting> {
        self.waiting.retain(|waiting| !waiting.wake.is_closed());
        let rounds = self.waiting.iter().enumerate().map(|(place, waiting)| (waiting.round, place));
        let (round, place) = rounds.min()?;
        self.round = round;
        Some(self.waiting.remove(place))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::{
        future::Future,
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn visitor(source: &str, name: &str) -> Visitor {
        let source = Network::of(source.parse().unwrap());
        Visitor { source, name: name.to_owned(), acquaintance: Acquaintance::Stranger }
    }

    fn known(source: &str, name: &str) -> Visitor {
        Visitor { acquaintance: Acquaintance::Known, ..visitor(source, name) }
    }

    type Entering<'a> = Pin<Box<dyn Future<Output = Result<Turn, Busy>> + 'a>>;

    fn entering(room: &HashRoom, who: Visitor) -> Entering<'_> {
        let mut entering: Entering<'_> = Box::pin(room.enter(who));
        assert!(look(&mut entering).is_pending());
        entering
    }

    /// Looks once.
    fn look(entering: &mut Entering<'_>) -> Poll<Result<Turn, Busy>> {
        entering.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn the_queue_before_the_password_hash_is_bounded() {
        let room = HashRoom::new(1, 1);
        let running = room.enter(visitor("192.0.2.1", "ada")).await.unwrap();
        let waiting = entering(&room, visitor("192.0.2.2", "ada"));
        assert_eq!(room.enter(visitor("192.0.2.3", "bob")).await.err(), Some(BUSY));
        drop(running);
        assert!(waiting.await.is_ok());
        assert!(room.enter(visitor("192.0.2.1", "ada")).await.is_ok());
    }

    #[tokio::test]
    async fn a_flood_from_one_source_delays_another_by_one_turn() {
        let room = HashRoom::new(1, 8);
        let running = room.enter(visitor("198.51.100.7", "x0")).await.unwrap();
        let mut flood: Vec<_> = (1..=4)
            .map(|number| entering(&room, visitor("198.51.100.7", &format!("x{number}"))))
            .collect();
        assert_eq!(room.enter(visitor("198.51.100.7", "x9")).await.err(), Some(BUSY), "half");
        let mut ada = entering(&room, visitor("192.0.2.1", "ada"));
        drop(running);
        let first = flood.remove(0).await.unwrap();
        assert!(look(&mut ada).is_pending());
        drop(first);
        assert!(look(&mut ada).is_ready(), "before the rest of the flood");
    }

    #[tokio::test]
    async fn when_all_places_are_taken_who_has_most_gives_one_up() {
        let room = HashRoom::new(1, 4);
        let _running = room.enter(visitor("198.51.100.7", "x0")).await.unwrap();
        let _one = entering(&room, visitor("198.51.100.7", "x1"));
        let two = entering(&room, visitor("198.51.100.7", "x2"));
        let _other = entering(&room, visitor("198.51.100.8", "x3"));
        let _more = entering(&room, visitor("198.51.100.8", "x4"));
        let mut ada = entering(&room, visitor("192.0.2.1", "ada"));
        assert!(look(&mut ada).is_pending(), "she has a place");
        let sources =
            ["198.51.100.7", "198.51.100.8"].map(|source| Network::of(source.parse().unwrap()));
        let left = sources.map(|source| lock(&room.inner.queue).of_source(source));
        assert_eq!(left.iter().sum::<usize>(), 3);
        drop(two);
    }

    #[tokio::test]
    async fn an_acquaintance_comes_before_strangers_and_one_name_has_few_places() {
        let room = HashRoom::new(1, 16);
        let _running = room.enter(visitor("203.0.113.1", "ada")).await.unwrap();
        let mut strangers = Vec::new();
        for number in 2..6 {
            strangers.push(entering(&room, visitor(&format!("203.0.113.{number}"), "ada")));
        }
        assert_eq!(room.enter(visitor("203.0.113.9", "ada")).await.err(), Some(BUSY));
        let _ada = entering(&room, known("192.0.2.1", "ada"));

        let room = HashRoom::new(1, 2);
        let _running = room.enter(visitor("203.0.113.1", "x")).await.unwrap();
        let mut one = entering(&room, visitor("203.0.113.2", "y"));
        let mut two = entering(&room, visitor("203.0.113.3", "z"));
        assert_eq!(room.enter(visitor("203.0.113.4", "w")).await.err(), Some(BUSY));
        let mut ada = entering(&room, known("192.0.2.1", "ada"));
        assert!(look(&mut ada).is_pending());
        let gone = [&mut one, &mut two].into_iter().filter_map(|entering| match look(entering) {
            Poll::Ready(outcome) => Some(outcome.err()),
            Poll::Pending => None,
        });
        assert_eq!(gone.collect::<Vec<_>>(), [Some(BUSY)]);
    }

    #[tokio::test]
    async fn who_goes_away_leaves_place_and_turn_to_the_others() {
        let room = HashRoom::new(1, 2);
        let running = room.enter(visitor("192.0.2.1", "ada")).await.unwrap();
        let gone = entering(&room, visitor("192.0.2.2", "bob"));
        let late = entering(&room, visitor("192.0.2.3", "eve"));
        drop(gone);
        drop(running);
        // The turn was sent, and is dropped before it was looked at.
        drop(late);
        assert!(room.enter(visitor("192.0.2.4", "kim")).await.is_ok());
    }
}
