//! The streams that run now, by session: what a logout, a lock or a changed grant ends at once.
//!
//! A stream registers after it was decided; a [`Mark`] taken before the decision makes sure that a cut which
//! came in between still ends it. Locks are sharded and held for a look-up only, never across an `.await`.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use h2::{Reason, SendStream};
use nullius_model::{ClusterName, PermissionId, SessionId, UserName};
use tokio::time::Instant;

const SHARDS: usize = 32;
const RECENT_CUTS: usize = 256;

/// Whose stream it is: what a cut looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The session.
    pub session: SessionId,
    /// The person; the agent does not know it.
    pub user: Option<UserName>,
    /// The cluster.
    pub cluster: ClusterName,
    /// The permission that allowed it, where one did.
    pub permission: Option<PermissionId>,
}

/// A moment before a decision: what was cut after it is not opened any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

type Cut = Arc<dyn Fn(&Owner) -> bool + Send + Sync>;

/// All live streams of a hub or an agent.
pub(crate) struct Live {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    serial: AtomicU64,
    cuts: AtomicU64,
    recent: Mutex<VecDeque<Cut>>,
}

type Shard = HashMap<SessionId, Session>;

#[derive(Default)]
struct Session {
    streams: HashMap<u64, Arc<Stream>>,
    /// Bytes that wait unread in all its streams.
    unread: Arc<AtomicUsize>,
}

/// Why a stream was ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhyCut {
    /// Its session, cluster or permission ended.
    Ended = 1,
    /// Its session left too much unread.
    Unread = 2,
}

/// What one session may leave unread, in bytes; more would be room that others need.
pub const MAX_UNREAD: usize = 64 << 20;

/// One stream's switch: thrown once, seen by everything that moves its bytes.
pub(crate) struct Stream {
    owner: Owner,
    serial: u64,
    ends: Option<Instant>,
    cut: AtomicU8,
    unread: Arc<AtomicUsize>,
    gone: AtomicBool,
    down: AtomicWaker,
    up: AtomicWaker,
    reset: Mutex<Option<SendStream<Bytes>>>,
}

/// A registered stream; dropping it takes it out.
pub(crate) struct Registration {
    live: Arc<Live>,
    stream: Arc<Stream>,
    siblings: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            serial: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            recent: Mutex::default(),
        })
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark(self.cuts.load(Ordering::SeqCst))
    }

    /// Registers a stream that was decided after `mark`; a cut since then has already ended it. It is cut when it
    /// still runs at `ends`.
    pub(crate) fn enter(
        self: &Arc<Self>,
        mark: Mark,
        owner: Owner,
        ends: Option<Instant>,
    ) -> Registration {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (stream, siblings) = {
            let mut shard = lock(self.shard(&owner.session));
            let session = shard.entry(owner.session.clone()).or_default();
            let siblings = session.streams.len();
            let stream = Arc::new(Stream {
                owner,
                serial,
                ends,
                cut: AtomicU8::new(0),
                unread: Arc::clone(&session.unread),
                gone: AtomicBool::new(false),
                down: AtomicWaker::new(),
                up: AtomicWaker::new(),
                reset: Mutex::new(None),
            });
            session.streams.insert(serial, Arc::clone(&stream));
            (stream, siblings)
        };
        // A cut counts first and looks at the shards second; here it is the other way round, so that one of
        // the two sees the other.
        if self.cuts.load(Ordering::SeqCst) != mark.0 && self.was_cut_since(mark, &stream.owner) {
            stream.throw(WhyCut::Ended);
        }
        Registration { live: Arc::clone(self), stream, siblings }
    }

    /// Ends all streams that `cut` names, now and those decided before now; says how many ran.
    pub(crate) fn cut(&self, cut: impl Fn(&Owner) -> bool + Send + Sync + 'static) -> usize {
        let cut: Cut = Arc::new(cut);
        self.remember(&cut);
        let matched = self.matching(|stream| cut(&stream.owner));
        matched.iter().filter(|stream| stream.throw(WhyCut::Ended)).count()
    }

    /// As [`Self::cut`] for one session, without looking at the others.
    pub(crate) fn cut_session(&self, session: &SessionId) -> usize {
        let named = session.clone();
        let cut: Cut = Arc::new(move |owner: &Owner| owner.session == named);
        self.remember(&cut);
        let matched: Vec<Arc<Stream>> = lock(self.shard(session))
            .get(session)
            .map(|session| session.streams.values().cloned().collect())
            .unwrap_or_default();
        matched.iter().filter(|stream| stream.throw(WhyCut::Ended)).count()
    }

    /// Ends the streams whose right has run out.
    pub(crate) fn expire(&self, now: Instant) -> usize {
        let over = |stream: &Stream| stream.ends.is_some_and(|ends| ends <= now);
        self.matching(over).iter().filter(|stream| stream.throw(WhyCut::Ended)).count()
    }

    /// How many streams of a session run.
    pub(crate) fn count(&self, session: &SessionId) -> usize {
        lock(self.shard(session)).get(session).map_or(0, |session| session.streams.len())
    }

    /// How many bytes a session leaves unread in all its streams.
    pub(crate) fn unread(&self, session: &SessionId) -> usize {
        let shard = lock(self.shard(session));
        shard.get(session).map_or(0, |session| session.unread.load(Ordering::Relaxed))
    }

    fn matching(&self, wanted: impl Fn(&Stream) -> bool) -> Vec<Arc<Stream>> {
        let mut matched = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let streams = shard.values().flat_map(|session| session.streams.values());
            matched.extend(streams.filter(|stream| wanted(stream)).cloned());
        }
        matched
    }

    fn shard(&self, session: &SessionId) -> &Mutex<Shard> {
        let index = self.hasher.hash_one(session) as usize % self.shards.len();
        &self.shards[index]
    }

    fn remember(&self, cut: &Cut) {
        let mut recent = lock(&self.recent);
        if recent.len() == RECENT_CUTS {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(cut));
        self.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a cut after `mark` names the owner; true where that is no longer known.
    fn was_cut_since(&self, mark: Mark, owner: &Owner) -> bool {
        let recent = lock(&self.recent);
        let since = self.cuts.load(Ordering::SeqCst).saturating_sub(mark.0) as usize;
        since > recent.len() || recent.iter().rev().take(since).any(|cut| cut(owner))
    }
}

impl Stream {
    /// Ends the stream; false where it had ended already.
    fn throw(&self, why: WhyCut) -> bool {
        let first =
            self.cut.compare_exchange(0, why as u8, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if let Some(send) = lock(&self.reset).as_mut() {
            send.send_reset(Reason::CANCEL);
        }
        self.down.wake();
        self.up.wake();
        first
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) != 0
    }

    /// Why it was cut, if it was.
    pub(crate) fn why_cut(&self) -> Option<WhyCut> {
        match self.cut.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(WhyCut::Ended),
            _ => Some(WhyCut::Unread),
        }
    }

    /// So many more bytes wait unread; a session that leaves too much loses the stream that went too far.
    pub(crate) fn hold(&self, bytes: usize) {
        let before = self.unread.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > MAX_UNREAD && self.throw(WhyCut::Unread) {
            tracing::warn!(session = %self.owner.session, "cut stream of session that reads too little");
        }
    }

    /// So many were read, or given up.
    pub(crate) fn let_go(&self, bytes: usize) {
        self.unread.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Ready once cut; wakes what reads from the upstream.
    pub(crate) fn poll_down(&self, cx: &Context<'_>) -> Poll<WhyCut> {
        self.down.register(cx.waker());
        self.why_cut().map_or(Poll::Pending, Poll::Ready)
    }

    /// Resolves once cut, or once nobody reads the answer any more: then the request's body is of no use either.
    pub(crate) async fn over(&self) {
        poll_fn(|cx| {
            self.up.register(cx.waker());
            let over = self.is_cut() || self.gone.load(Ordering::SeqCst);
            if over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Resolves once cut, for the task that moves bytes from the upstream.
    pub(crate) async fn cut_down(&self) -> WhyCut {
        poll_fn(|cx| self.poll_down(cx)).await
    }

    /// Hands over what resets the stream, so that a cut does not wait for a client that does not read.
    pub(crate) fn reset_with(&self, mut send: SendStream<Bytes>) {
        let mut slot = lock(&self.reset);
        if self.is_cut() {
            send.send_reset(Reason::CANCEL);
        } else if !self.gone.load(Ordering::SeqCst) {
            *slot = Some(send);
        }
    }
}

impl Registration {
    /// The switch, for tasks of their own.
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// How many streams of the session ran when this one came.
    pub(crate) fn siblings(&self) -> usize {
        self.siblings
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.stream.is_cut()
    }

    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<WhyCut> {
        self.stream.poll_down(cx)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let session = &self.stream.owner.session;
        {
            let mut shard = lock(self.live.shard(session));
            if let Some(live) = shard.get_mut(session) {
                live.streams.remove(&self.stream.serial);
                if live.streams.is_empty() {
                    shard.remove(session);
                }
            }
        }
        self.stream.gone.store(true, Ordering::SeqCst);
        self.stream.up.wake();
        // The last handle that could keep the h2 stream open; h2 resets what has not ended.
        drop(lock(&self.stream.reset).take());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn owner(session: u128, user: &str, cluster: &str) -> Owner {
        Owner {
            session: SessionId::from_bits(session),
            user: Some(user.parse().unwrap()),
            cluster: cluster.parse().unwrap(),
            permission: None,
        }
    }

    #[test]
    fn a_cut_ends_the_streams_it_names_and_no_other() {
        let live = Live::new();
        let one = live.enter(live.mark(), owner(1, "ada", "dev"), None);
        let two = live.enter(live.mark(), owner(1, "ada", "prod"), None);
        let other = live.enter(live.mark(), owner(2, "bob", "dev"), None);
        assert_eq!(live.count(&SessionId::from_bits(1)), 2);

        let prod = "prod".parse().unwrap();
        assert_eq!(live.cut(move |owner| owner.cluster == prod), 1);
        assert!(two.is_cut() && !one.is_cut() && !other.is_cut());

        assert_eq!(live.cut_session(&SessionId::from_bits(1)), 1);
        assert!(one.is_cut() && !other.is_cut());

        drop((one, two));
        assert_eq!(live.count(&SessionId::from_bits(1)), 0);
        assert_eq!(live.count(&SessionId::from_bits(2)), 1);
    }

    #[test]
    fn a_cut_between_decision_and_opening_ends_the_stream_too() {
        let live = Live::new();
        let before = live.mark();
        live.cut_session(&SessionId::from_bits(1));
        assert!(live.enter(before, owner(1, "ada", "dev"), None).is_cut());
        assert!(!live.enter(before, owner(2, "bob", "dev"), None).is_cut());
        assert!(!live.enter(live.mark(), owner(1, "ada", "dev"), None).is_cut());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_its_right_has_run_out() {
        let live = Live::new();
        let now = Instant::now();
        let soon = now + std::time::Duration::from_secs(5);
        let short = live.enter(live.mark(), owner(1, "ada", "dev"), Some(soon));
        let long = live.enter(live.mark(), owner(1, "ada", "dev"), None);
        assert_eq!(live.expire(now), 0);
        assert_eq!(live.expire(soon), 1);
        assert!(short.is_cut() && !long.is_cut());
    }

    #[test]
    fn a_session_that_leaves_too_much_unread_loses_the_stream_that_went_too_far() {
        let live = Live::new();
        let first = live.enter(live.mark(), owner(1, "ada", "dev"), None);
        let second = live.enter(live.mark(), owner(1, "ada", "dev"), None);
        let other = live.enter(live.mark(), owner(2, "bob", "dev"), None);
        first.stream().hold(MAX_UNREAD);
        other.stream().hold(MAX_UNREAD);
        assert!(!first.is_cut() && !other.is_cut());
        second.stream().hold(1);
        assert_eq!(second.stream().why_cut(), Some(WhyCut::Unread));
        second.stream().let_go(1);
        first.stream().let_go(1);
        first.stream().hold(1);
        assert!(!first.is_cut() && !other.is_cut());
    }

    #[test]
    fn a_decision_older_than_the_memory_of_cuts_is_not_trusted() {
        let live = Live::new();
        let before = live.mark();
        for session in 0..=RECENT_CUTS as u128 {
            live.cut_session(&SessionId::from_bits(1_000 + session));
        }
        assert!(live.enter(before, owner(1, "ada", "dev"), None).is_cut());
    }
}
