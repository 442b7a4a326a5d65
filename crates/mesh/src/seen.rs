//! What is seen of calls: each attempt is counted, merged with those that are alike, and told where somebody wants to know of it.
//!
//! Everything is kept for each workload by itself, in bounds, so that one that is flooded takes nothing from its neighbours: what is
//! alike is one flow with exact sums, a denial that repeats is told once and then as a count, and lines of the access log have a pace.
//! `tally` is the pure part; who asks [`Seen`] tells it further.

mod meters;
mod pace;
mod path;
mod tally;
mod teller;
mod wire;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nullius_proto::node_v1::{SeenAttempt, SeenFlow};
use nullius_telemetry::Metrics;

pub use self::teller::{Hears, Teller, Unheard};
use self::{
    meters::MeshMeters,
    pace::Bucket,
    tally::{Abandoned, Counted, MovedBytes, Tally},
};
pub(crate) use self::{
    path::Generalised,
    tally::{Alike, Noted, Said, ShadowOf, Ticket},
};
use crate::{AccessLog, access_log::Direction, copy::Moved};

/// How often [`Seen::tick`] is to be called.
pub const TICK: Duration = Duration::from_secs(1);
/// Workloads that are gone, of which something is still to be told.
const GONE: usize = 1_000;

/// What a process sees, of all its workloads.
pub struct Seen {
    common: Arc<Common>,
    round: AtomicU32,
    witnesses: Mutex<Witnesses>,
}

/// All workloads, in the order in which they came.
#[derive(Default)]
struct Witnesses {
    all: Vec<Arc<Witness>>,
    /// What nobody will be told of some that are gone.
    abandoned: Abandoned,
}

/// What all workloads share.
struct Common {
    log: AccessLog,
    meters: MeshMeters,
    begun: Instant,
    /// Names this process in the ids of attempts.
    process: u64,
    next: AtomicU64,
}

/// Whether lines of the access log have a pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbours {
    /// None: the log is of this workload alone.
    None,
    /// The log is of others too.
    Some,
}

/// What is seen of the calls of one workload.
pub struct Witness {
    /// The UID of the pod; its name where it is none.
    workload: Arc<str>,
    /// As the access log calls it.
    name: Arc<str>,
    neighbours: Neighbours,
    common: Arc<Common>,
    state: Mutex<State>,
}

struct State {
    tally: Tally,
    allowed_lines: Bucket,
    refused_lines: Bucket,
    /// Lines that found no room, to the workload and from it.
    lost_lines: [u64; 2],
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Seen {
    /// Nothing yet; what is counted stands in `metrics` too.
    pub fn new(log: AccessLog, metrics: &Metrics) -> Arc<Self> {
        let random = nullius_pki::random_bits().to_le_bytes();
        let process = random.first_chunk().copied().map_or(0, u64::from_le_bytes);
        let (meters, next) = (MeshMeters::new(metrics), AtomicU64::new(1));
        let common = Arc::new(Common { log, meters, begun: Instant::now(), process, next });
        Arc::new(Self { common, round: AtomicU32::new(0), witnesses: Mutex::default() })
    }

    /// Begins to look at the calls of a workload: a pod by its UID.
    pub fn workload(&self, workload: &str, name: Arc<str>, neighbours: Neighbours) -> Arc<Witness> {
        let witness = Arc::new(Witness {
            workload: workload.into(),
            name,
            neighbours,
            common: Arc::clone(&self.common),
            state: Mutex::new(State {
                tally: Tally::default(),
                allowed_lines: pace::ALLOWED_LINES,
                refused_lines: pace::REFUSED_LINES,
                lost_lines: [0; 2],
            }),
        });
        let mut witnesses = self.lock();
        witnesses.abandon_the_oldest();
        witnesses.all.push(Arc::clone(&witness));
        witness
    }

    /// Does what waits for its time: to be called each [`TICK`].
    pub fn tick(&self) {
        for witness in self.all() {
            witness.tick(self.common.millis());
        }
    }

    /// The same at the end: nothing waits any more.
    pub fn finish(&self) {
        for witness in self.all() {
            witness.lock().tally.finish();
            witness.tick(u64::MAX);
        }
    }

    /// A new round of flows begins: those that have something to tell are told once in it.
    pub fn begin_round(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
    }

    /// Flows of this round that were not taken yet, for about so many bytes; none where it is over. What is taken counts from nothing.
    pub fn take_flows(&self, bytes: usize) -> Vec<SeenFlow> {
        let (round, mut taken, mut left) = (self.round.load(Ordering::Relaxed), Vec::new(), bytes);
        for witness in self.all() {
            let mut state = witness.lock();
            witness.settle(&mut state);
            while left > 0
                && let Some(flow) = state.tally.take_flow(round, nullius_model::Timestamp::now())
            {
                let flow = wire::flow(&witness.workload, self.common.process, flow);
                left = left.saturating_sub(nullius_proto::encoded_len(&flow));
                taken.push(flow);
            }
            if left == 0 {
                return taken;
            }
        }
        self.forget_the_gone();
        taken
    }

    /// How many connections and requests are in no flow, and never will be.
    pub fn take_lost_calls(&self) -> u64 {
        std::mem::take(&mut self.lock().abandoned.calls)
    }

    /// What is to be told of single attempts, one of each workload after the other, for about so many bytes; with how many are in none.
    pub fn take_attempts(&self, bytes: usize) -> (Vec<SeenAttempt>, u64) {
        let (mut taken, mut left) = (Vec::new(), bytes);
        let mut lost = std::mem::take(&mut self.lock().abandoned.attempts);
        let all = self.all();
        for witness in &all {
            lost += witness.lock().tally.take_lost();
        }
        loop {
            let before = taken.len();
            for witness in &all {
                if left == 0 {
                    return (taken, lost);
                }
                let Some(word) = witness.lock().tally.take_word() else { continue };
                let attempt = wire::attempt(&witness.workload, self.common.process, word);
                left = left.saturating_sub(nullius_proto::encoded_len(&attempt));
                taken.push(attempt);
            }
            if taken.len() == before {
                return (taken, lost);
            }
        }
    }

    /// Workloads that are gone, and of which everything is told.
    fn forget_the_gone(&self) {
        self.lock().all.retain(|it| !it.is_gone() || !it.lock().tally.is_empty());
    }

    fn all(&self) -> Vec<Arc<Witness>> {
        self.lock().all.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Witnesses> {
        self.witnesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Witnesses {
    /// Gives up the oldest of those that are gone, where they are too many: nobody may have heard anything for long.
    fn abandon_the_oldest(&mut self) {
        if self.all.len() < GONE || self.all.iter().filter(|it| it.is_gone()).count() < GONE {
            return;
        }
        if let Some(oldest) = self.all.iter().position(|it| it.is_gone()) {
            let more = self.all.remove(oldest).lock().tally.abandon();
            self.abandoned.attempts += more.attempts;
            self.abandoned.calls += more.calls;
        }
    }
}

impl Common {
    fn millis(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// How an attempt is called.
pub(crate) fn id(process: u64, number: u64) -> String {
    format!("{process:016x}{number:016x}")
}

impl Witness {
    /// Whether its workload is, with all that called it and that it called.
    fn is_gone(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1
    }

    pub(crate) fn next(&self) -> u64 {
        self.common.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn process(&self) -> u64 {
        self.common.process
    }

    /// An attempt is allowed, and lives from now on.
    pub(crate) fn allowed(
        &self,
        alike: &Alike<'_>,
        noted: &Noted<'_>,
        moved: &Arc<Moved>,
    ) -> Ticket {
        self.measure(alike);
        let mut state = self.lock();
        let hash = state.tally.hash(alike);
        let (place, counted) = state.tally.count(hash, alike, noted);
        if noted.is_recorded {
            match counted {
                Counted::Apart | Counted::OfSide => {
                    state.tally.record(place, alike, noted, self.common.millis());
                }
                Counted::Other => state.tally.lose_one(),
            }
        }
        state.tally.live(place, Arc::clone(moved))
    }

    /// One that was allowed has ended.
    pub(crate) fn ended(&self, ticket: Ticket, at_millis: i64) {
        let mut state = self.lock();
        let moved = state.tally.end(ticket, at_millis);
        self.add(moved);
    }

    /// An attempt was denied, or came to nothing; where that is `told`, somebody wants to know. `line` is its line.
    pub(crate) fn refused(
        &self,
        alike: &Alike<'_>,
        noted: &Noted<'_>,
        is_told: bool,
        line: impl Fn() -> Option<String>,
    ) {
        self.measure(alike);
        let now = self.common.millis();
        let mut state = self.lock();
        let hash = state.tally.hash(alike);
        let (place, counted) = state.tally.count(hash, alike, noted);
        match (is_told, counted) {
            (true, Counted::Apart | Counted::OfSide) => {
                state.tally.refuse(place, alike, noted, now);
            }
            (true, Counted::Other) => state.tally.lose_one(),
            (false, _) => {}
        }
        if !self.common.log.is_open() {
            return;
        }
        let has_pace = self.neighbours == Neighbours::Some;
        if has_pace && !state.refused_lines.take(now) {
            let side = alike.direction.side();
            if counted != Counted::Apart || !state.tally.unlogged(place, line) {
                state.lost_lines[side] += 1;
            }
            return;
        }
        drop(state);
        self.put(alike.direction, line());
    }

    /// An attempt that was allowed is cut.
    pub(crate) fn cut(&self, alike: &Alike<'_>, noted: &Noted<'_>) {
        let now = self.common.millis();
        let mut state = self.lock();
        let hash = state.tally.hash(alike);
        match state.tally.count(hash, alike, noted) {
            (place, Counted::Apart | Counted::OfSide) => {
                state.tally.refuse(place, alike, noted, now);
            }
            (_, Counted::Other) => state.tally.lose_one(),
        }
    }

    /// The line of an attempt that was allowed.
    pub(crate) fn write(&self, direction: Direction, line: impl Fn() -> Option<String>) {
        if !self.common.log.is_open() {
            return;
        }
        if self.neighbours == Neighbours::Some {
            let now = self.common.millis();
            let mut state = self.lock();
            if !state.allowed_lines.take(now) {
                state.lost_lines[direction.side()] += 1;
                return;
            }
        }
        self.put(direction, line());
    }

    fn put(&self, direction: Direction, line: Option<String>) {
        if let Some(line) = line
            && !self.common.log.put(line)
        {
            self.lock().lost_lines[direction.side()] += 1;
        }
    }

    fn tick(&self, now: u64) {
        let mut state = self.lock();
        self.settle(&mut state);
        state.tally.tick(now);
        if !self.common.log.is_open() {
            return;
        }
        let State { tally, refused_lines, lost_lines, .. } = &mut *state;
        let mut lines = tally.take_unlogged(|| refused_lines.take(now));
        for direction in [Direction::Inbound, Direction::Outbound] {
            let lost = std::mem::take(&mut lost_lines[direction.side()]);
            if lost > 0 {
                lines.push((direction, lost, lost_line(&self.name, direction, lost)));
            }
        }
        drop(state);
        for (direction, count, line) in lines {
            if !self.common.log.put(line) {
                self.lock().lost_lines[direction.side()] += count;
            }
        }
    }

    /// Adds what was moved since the last time by what lives.
    fn settle(&self, state: &mut State) {
        let moved = state.tally.settle();
        self.add(moved);
    }

    fn add(&self, moved: MovedBytes) {
        for direction in [Direction::Inbound, Direction::Outbound] {
            let [to_destination, to_source] = moved[direction.side()];
            self.common.meters.moved(direction, to_destination, to_source);
        }
    }

    fn measure(&self, alike: &Alike<'_>) {
        self.common.meters.decided(
            alike.direction,
            alike.outcome,
            alike.why,
            alike.method.is_some(),
        );
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Direction {
    fn side(self) -> usize {
        match self {
            Self::Inbound => 0,
            Self::Outbound => 1,
        }
    }
}

fn lost_line(name: &str, direction: Direction, lost: u64) -> String {
    serde_json::json!({"lost": lost, "name": name, "direction": direction}).to_string()
}

#[cfg(test)]
mod tests;
