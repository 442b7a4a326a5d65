//! How much of the node the proxies of one pod may take: connections, questions, streams of news.
//!
//! Before it is known whose process connects, its number counts; after that its pod does, whatever processes that has.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nullius_workload::PodUid;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Connections of one pod: its proxy has two, and so has the one that replaces it.
const OF_ONE: usize = 6;
/// Connections of which it is not known yet whose they are.
const STRANGERS: usize = 256;
/// How long a process that was refused is not looked at again.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// Between two questions of one pod, and after one that nobody asks by mistake.
const PACE: Duration = Duration::from_millis(1);
const SLOW: Duration = Duration::from_secs(1);
/// A pod hears all that stands so often at once, and then once in this time.
const STREAMS: u32 = 3;
const STREAM_EVERY: Duration = Duration::from_secs(10);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Guests(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By the number of a process, who is being looked at.
    strangers: HashMap<i32, usize>,
    all_strangers: usize,
    refused: HashMap<i32, Instant>,
    pods: BTreeMap<PodUid, Arc<Guest>>,
}

/// One pod.
#[derive(Debug)]
pub(crate) struct Guest {
    connections: Mutex<usize>,
    /// When its next question is taken.
    next: tokio::sync::Mutex<Instant>,
    news: Mutex<News>,
}

#[derive(Debug)]
struct News {
    left: u32,
    at: Instant,
    current: CancellationToken,
}

/// Somebody who is being looked at.
pub(crate) struct Stranger<'g> {
    guests: &'g Guests,
    process: i32,
}

/// A connection that counts as one of its pod's.
pub(crate) struct Seat {
    pub(crate) guest: Arc<Guest>,
}

impl Guests {
    /// Lets a process be looked at; nobody who has too many connections, was refused a moment ago, or comes when too many do.
    pub(crate) fn stranger(&self, process: i32) -> Option<Stranger<'_>> {
        let now = Instant::now();
        let mut inner = lock(&self.0);
        if inner.refused.get(&process).is_some_and(|until| now < *until) {
            return None;
        }
        let own = inner.strangers.get(&process).copied().unwrap_or_default();
        if own >= OF_ONE || inner.all_strangers >= STRANGERS {
            return None;
        }
        inner.strangers.insert(process, own + 1);
        inner.all_strangers += 1;
        Some(Stranger { guests: self, process })
    }

    /// A place for a pod that is known now, in place of that of its process; none where it has too many.
    pub(crate) fn seat(&self, pod: &PodUid, stranger: &Stranger<'_>) -> Option<Seat> {
        let guest = {
            let mut inner = lock(&self.0);
            let now = Instant::now();
            inner.pods.retain(|_, guest| Arc::strong_count(guest) > 1 || !guest.is_forgotten(now));
            Arc::clone(inner.pods.entry(pod.clone()).or_insert_with(|| Arc::new(Guest::new(now))))
        };
        let is_free = {
            let mut connections = lock(&guest.connections);
            let is_free = *connections < OF_ONE;
            *connections += usize::from(is_free);
            is_free
        };
        if !is_free {
            stranger.refuse();
            return None;
        }
        Some(Seat { guest })
    }
}

impl Stranger<'_> {
    /// Does not look at the process again for a while.
    pub(crate) fn refuse(&self) {
        let now = Instant::now();
        let refused = &mut lock(&self.guests.0).refused;
        refused.retain(|_, until| now < *until);
        refused.insert(self.process, now + REFUSED_FOR);
    }
}

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        let mut inner = lock(&self.guests.0);
        inner.all_strangers -= 1;
        if let Some(own) = inner.strangers.get_mut(&self.process) {
            *own -= 1;
            if *own == 0 {
                inner.strangers.remove(&self.process);
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *lock(&self.guest.connections) -= 1;
    }
}

impl Guest {
    fn new(now: Instant) -> Self {
        let news = News { left: STREAMS, at: now, current: CancellationToken::new() };
        Self {
            connections: Mutex::default(),
            next: tokio::sync::Mutex::new(now),
            news: Mutex::new(news),
        }
    }

    /// Waits until another question of the pod is taken, on whichever connection.
    pub(crate) async fn turn(&self) {
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        *next = Instant::now() + PACE;
    }

    /// The pod has asked what no proxy asks.
    pub(crate) async fn slow_down(&self) {
        let mut next = self.next.lock().await;
        *next = Instant::now() + SLOW;
    }

    /// Begins a stream of news, which ends the one before; none when there were too many in too short a time.
    pub(crate) fn stream(&self) -> Option<CancellationToken> {
        let mut news = lock(&self.news);
        news.refill(Instant::now());
        news.left = news.left.checked_sub(1)?;
        news.current.cancel();
        news.current = CancellationToken::new();
        Some(news.current.clone())
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        let mut news = lock(&self.news);
        news.refill(now);
        news.left == STREAMS
    }
}

impl News {
    fn refill(&mut self, now: Instant) {
        while self.left < STREAMS && now.duration_since(self.at) >= STREAM_EVERY {
            self.left += 1;
            self.at += STREAM_EVERY;
        }
        if self.left == STREAMS {
            self.at = now;
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn pod(last: u8) -> PodUid {
        format!("00000000-0000-0000-0000-0000000000{last:02x}").parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_is_looked_at_so_often_and_a_pod_has_so_many_connections() {
        let guests = Guests::default();
        let mut strangers: Vec<_> = (0..OF_ONE).map(|_| guests.stranger(1).unwrap()).collect();
        assert!(guests.stranger(1).is_none());
        let other = guests.stranger(2).unwrap();
        let seats: Vec<_> = strangers.iter().map(|it| guests.seat(&pod(1), it).unwrap()).collect();
        strangers.clear();
        // Another process of the pod finds nothing, and is not looked at again for a while; another pod does.
        assert!(guests.seat(&pod(1), &other).is_none());
        drop(other);
        assert!(guests.stranger(2).is_none());
        let third = guests.stranger(3).unwrap();
        assert!(guests.seat(&pod(2), &third).is_some());
        tokio::time::advance(REFUSED_FOR).await;
        let again = guests.stranger(2).unwrap();
        drop(seats);
        assert!(guests.seat(&pod(1), &again).is_some());
        drop((again, third));

        let many: Vec<_> = (0..1_000).filter_map(|process| guests.stranger(process)).collect();
        assert_eq!(many.len(), STRANGERS);
        drop(many);
        assert!(guests.stranger(1).is_some() && lock(&guests.0).strangers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_asks_without_end_keeps_nobody_waiting_but_itself() {
        let guests = Guests::default();
        let (one, two) = (guests.stranger(1).unwrap(), guests.stranger(2).unwrap());
        let greedy: Vec<_> = (0..3).map(|_| guests.seat(&pod(1), &one).unwrap()).collect();
        let other = guests.seat(&pod(2), &two).unwrap();
        let begun = Instant::now();
        // On all of its connections together.
        for number in 0..300 {
            greedy[number % 3].guest.turn().await;
        }
        assert!(begun.elapsed() >= PACE * 299, "{:?}", begun.elapsed());
        let begun = Instant::now();
        other.guest.turn().await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        greedy[0].guest.slow_down().await;
        greedy[1].guest.turn().await;
        assert!(begun.elapsed() >= SLOW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_has_one_stream_of_news_and_begins_it_seldom() {
        let guests = Guests::default();
        let stranger = guests.stranger(1).unwrap();
        let seat = guests.seat(&pod(1), &stranger).unwrap();
        let first = seat.guest.stream().unwrap();
        let second = seat.guest.stream().unwrap();
        assert!(first.is_cancelled() && !second.is_cancelled());
        let third = seat.guest.stream().unwrap();
        assert!(seat.guest.stream().is_none());
        assert!(second.is_cancelled() && !third.is_cancelled(), "who is refused ends nobody's");
        // Nor is that forgotten by who connects anew.
        drop(seat);
        let seat = guests.seat(&pod(1), &stranger).unwrap();
        assert!(seat.guest.stream().is_none());
        tokio::time::advance(STREAM_EVERY).await;
        assert!(seat.guest.stream().is_some() && seat.guest.stream().is_none());
        tokio::time::advance(STREAM_EVERY * 100).await;
        assert_eq!((0..10).filter(|_| seat.guest.stream().is_some()).count(), 3);
        // What nobody needs any more is not kept.
        drop(seat);
        tokio::time::advance(STREAM_EVERY * 100).await;
        let _other = guests.seat(&pod(2), &stranger).unwrap();
        assert_eq!(lock(&guests.0).pods.len(), 1);
    }
}
