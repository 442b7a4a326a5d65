//! Room for what is held of bodies, and turns to look into long ones: shared, so that no caller takes them from the others of a workload,
//! and no namespace from the others of a node.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, Weak},
    time::Duration,
};

use nullius_model::Shares;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that are held of all bodies of a workload, and of all of a process: a node stands for many workloads.
pub(crate) const HELD_MAX: usize = 32 * 1024 * 1024;
const ALL_MAX: usize = 96 * 1024 * 1024;
/// What is kept free of both for bodies that are small.
const SMALL_HELD_MAX: usize = 2 * 1024 * 1024;
const SMALL_ALL_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a small body.
pub(crate) const SMALL: usize = 16 * 1024;
/// Bytes are counted by so many.
const PIECE: usize = 1024;
/// Long bodies that the process looks into at once: read, one can take a hundred times its bytes.
const AT_ONCE: usize = 2;
/// How long a long body waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

static ALL: LazyLock<Mutex<Shares>> = LazyLock::new(|| Mutex::new(Shares::new(ALL_MAX)));
static SMALL_ALL: LazyLock<Mutex<Shares>> =
    LazyLock::new(|| Mutex::new(Shares::new(SMALL_ALL_MAX)));
static NAMESPACES: LazyLock<Lines> = LazyLock::new(|| Lines::new(AT_ONCE));
static PROCESS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(AT_ONCE)));

/// Whose body it is.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    /// Who calls.
    pub(crate) caller: Box<str>,
    /// The namespace of the workload that is called.
    pub(crate) namespace: Box<str>,
}

/// What all bodies of a workload that are held may take.
pub(crate) struct Room {
    large: Arc<Part>,
    small: Arc<Part>,
    callers: Lines,
    /// Of each workload one waits with those of others.
    turn: Arc<Semaphore>,
}

/// A part of it.
struct Part {
    of_workload: Mutex<Shares>,
    of_all: &'static Mutex<Shares>,
    /// The longest body that it takes.
    most: usize,
}

/// Room that a body has, until this is dropped.
pub(crate) struct Place {
    part: Arc<Part>,
    whose: Whose,
    bytes: usize,
}

/// A long body may be looked into, as long as this is there.
pub(crate) struct Turn {
    _all: [OwnedSemaphorePermit; 4],
}

/// Those who wait, each in a line of its own: who has many waits for itself.
struct Lines {
    at_once: usize,
    by: Mutex<HashMap<Box<str>, Weak<Semaphore>>>,
}

impl Default for Room {
    fn default() -> Self {
        let part = |held, of_all, most| {
            let of_workload = Mutex::new(Shares::new(held));
            Arc::new(Part { of_workload, of_all, most })
        };
        Self {
            large: part(HELD_MAX, &ALL, usize::MAX),
            small: part(SMALL_HELD_MAX, &SMALL_ALL, SMALL),
            callers: Lines::new(1),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Room {
    /// Has room for so many bytes of a body; false where there is none beside what it has.
    pub(crate) fn has_room(&self, whose: &Whose, bytes: usize, place: &mut Option<Place>) -> bool {
        if place.as_mut().is_some_and(|place| place.grow(bytes)) {
            return true;
        }
        let parts = [&self.large, &self.small].into_iter().filter(|part| bytes <= part.most);
        for part in parts {
            let mut new = Place { part: Arc::clone(part), whose: whose.clone(), bytes: 0 };
            if new.grow(bytes) {
                *place = Some(new);
                return true;
            }
        }
        false
    }

    /// Waits until a long body may be looked into; none where that takes too long.
    pub(crate) async fn turn(&self, whose: &Whose) -> Option<Turn> {
        let all = async {
            // Nobody closes them.
            let of_caller = self.callers.of(&whose.caller).acquire_owned().await.ok()?;
            let of_workload = Arc::clone(&self.turn).acquire_owned().await.ok()?;
            let of_namespace = NAMESPACES.of(&whose.namespace).acquire_owned().await.ok()?;
            let of_process = Arc::clone(&PROCESS).acquire_owned().await.ok()?;
            Some(Turn { _all: [of_caller, of_workload, of_namespace, of_process] })
        };
        tokio::time::timeout(PATIENCE, all).await.ok().flatten()
    }
}

impl Place {
    /// Has so many bytes in its part of the room.
    fn grow(&mut self, bytes: usize) -> bool {
        let bytes = bytes.max(1).next_multiple_of(PIECE);
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let Part { of_workload, of_all, most } = &*self.part;
        if bytes > *most || !lock(of_workload).take(&self.whose.caller, more) {
            return false;
        }
        if !lock(of_all).take(&self.whose.namespace, more) {
            lock(of_workload).give(&self.whose.caller, more);
            return false;
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.part.of_workload).give(&self.whose.caller, self.bytes);
        lock(self.part.of_all).give(&self.whose.namespace, self.bytes);
    }
}

impl Lines {
    fn new(at_once: usize) -> Self {
        Self { at_once, by: Mutex::default() }
    }

    fn of(&self, who: &str) -> Arc<Semaphore> {
        let mut by = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = by.get(who).and_then(Weak::upgrade) {
            return line;
        }
        let line = Arc::new(Semaphore::new(self.at_once));
        // Those in which nobody waits go when there is no room for one more anyway.
        if by.len() == by.capacity() {
            by.retain(|_, line| line.strong_count() > 0);
        }
        by.insert(who.into(), Arc::downgrade(&line));
        line
    }
}

fn lock(shares: &Mutex<Shares>) -> std::sync::MutexGuard<'_, Shares> {
    shares.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use tokio::time::Instant;

    use super::*;

    fn whose(caller: &str, namespace: &str) -> Whose {
        Whose { caller: caller.into(), namespace: namespace.into() }
    }

    /// So many bytes in bodies of a length.
    fn fill(room: &Room, whose: &Whose, length: usize) -> Vec<Place> {
        let one = || {
            let mut place = None;
            room.has_room(whose, length, &mut place).then(|| place.unwrap())
        };
        std::iter::from_fn(one).collect()
    }

    /// What is static is one for all tests of the process: those who look at it are in one.
    #[tokio::test(start_paused = true)]
    async fn nobody_takes_room_or_turns_from_all_others() {
        const MEGA: usize = 1024 * 1024;
        let room = Room::default();
        let greedy = whose("spiffe://a/ns/evil/sa/one", "shop");
        let all = fill(&room, &greedy, MEGA);
        assert_eq!(all.len(), 16, "half of what the workload has");
        let small = fill(&room, &greedy, 1_000);
        assert!(small.len() > 1_000, "small ones have more");
        let other = whose("spiffe://a/ns/shop/sa/front", "shop");
        assert_eq!(fill(&room, &other, 8 * MEGA).len(), 1);
        let mut place = None;
        assert!(room.has_room(&other, 100, &mut place));
        assert!(room.has_room(&other, SMALL, &mut place), "it grows");
        drop(place);
        // Others of the namespace take no more than half of what the node has.
        let rooms: Vec<Room> = (0..8).map(|_| Room::default()).collect();
        let held: Vec<Vec<Place>> =
            rooms.iter().map(|room| fill(room, &greedy, 2 * MEGA)).collect();
        let sum: usize = held.iter().flatten().map(|place| place.bytes).sum();
        assert!((30 * MEGA..=48 * MEGA).contains(&sum), "{sum}");
        let elsewhere = whose("spiffe://a/ns/bank/sa/web", "bank");
        assert!(!fill(&Room::default(), &elsewhere, 8 * MEGA).is_empty());
        // One that is small no more leaves the room of small ones.
        let mut place = small.into_iter().next();
        assert!(!room.has_room(&greedy, MEGA, &mut place));
        drop((all, held, place));
        let mut place = fill(&room, &greedy, 1_000).pop();
        assert!(room.has_room(&greedy, MEGA, &mut place));
        drop(place);
        for shares in [&room.large.of_workload, &*ALL, &room.small.of_workload, &*SMALL_ALL] {
            assert!(lock(shares).take("whoever", 1_000), "{shares:?}");
            lock(shares).give("whoever", 1_000);
        }

        // Who has many waits for itself.
        let first = room.turn(&greedy).await.unwrap();
        let room = Arc::new(room);
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let (room, greedy) = (Arc::clone(&room), greedy.clone());
                tokio::spawn(async move {
                    let turn = room.turn(&greedy).await;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    turn.is_some()
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(first);
        let begun = Instant::now();
        assert!(room.turn(&other).await.is_some());
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let mut got = 0;
        for turn in waiting {
            got += usize::from(turn.await.unwrap());
        }
        assert!((10..100).contains(&got), "{got} of a hundred that each take a third of a second");
        let kept = room.callers.by.lock().unwrap().len();
        assert!(kept <= 2, "{kept}");
        let other_room = Room::default();
        let held = [room.turn(&other).await.unwrap(), other_room.turn(&other).await.unwrap()];
        let begun = Instant::now();
        assert!(Room::default().turn(&elsewhere).await.is_none());
        assert_eq!(begun.elapsed(), PATIENCE);
        drop(held);
        assert!(Room::default().turn(&elsewhere).await.is_some());
    }
}
