//! Attempts of one workload, merged: pure, bounded, and without allocating where what is counted was counted before.
//!
//! Other sides share the room (`sides`). What is beyond a share is counted all the same, with nothing but who the other side is; and where even
//! those are too many, as `(other)`. Sums are exact: what lives is added as it moves, and what was told counts from nothing.

mod sides;

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use nullius_model::{Reason, Timestamp};

use self::sides::Sides;
use super::pace::{Bucket, DENIALS, FIRSTS, RECORDED, TURNS};
use crate::{
    access_log::{Direction, Outcome, Why},
    copy::Moved,
};

/// What stands for paths for which there is no room.
const OTHER: &str = "(other)";
/// What is to be told of single attempts, at most.
const WORDS: usize = 64;
/// Kinds of which a repetition waits to be told. Beyond that those of one side wait together.
const WAITING: usize = 256;
/// Kinds of which a line waits to be written.
const UNLOGGED: usize = 128;
/// Equal denials within so many milliseconds are told once, and then as a count.
const WINDOW: u64 = 30_000;

/// What makes two attempts alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alike<'a> {
    pub(crate) direction: Direction,
    pub(crate) outcome: Outcome,
    pub(crate) why: Why,
    /// The ID that the other side has proven.
    pub(crate) peer: Option<&'a str>,
    /// Where the other side is.
    pub(crate) address: Option<IpAddr>,
    /// The port that is called.
    pub(crate) port: u16,
    pub(crate) service: Option<&'a str>,
    pub(crate) wire: Option<&'static str>,
    pub(crate) permission: Option<&'a str>,
    pub(crate) shadow: Option<ShadowOf<'a>>,
    /// Of a request that was read.
    pub(crate) method: Option<&'static str>,
    /// Generalised.
    pub(crate) path: Option<&'a str>,
}

/// What intentions that are only watched would have decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShadowOf<'a> {
    pub(crate) allowed: bool,
    pub(crate) reason: Reason,
    pub(crate) permission: Option<&'a str>,
}

/// What else is to be known of an attempt.
pub(crate) struct Noted<'a> {
    /// When it began, in milliseconds of Unix time.
    pub(crate) millis: i64,
    pub(crate) number: u64,
    /// The number by which it was told before, where that is the end of what was allowed.
    pub(crate) of: Option<u64>,
    /// Whether it counts: what has counted before does not again.
    pub(crate) counts: bool,
    /// Whether somebody wants to know of it though it is allowed.
    pub(crate) is_recorded: bool,
    pub(crate) rule: Option<&'a str>,
    pub(crate) shadow_rule: Option<&'a str>,
    pub(crate) said: &'a dyn Fn() -> Said,
}

/// What is told of a single attempt beside its kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) path: String,
    pub(crate) rule: String,
    pub(crate) sentence: String,
    pub(crate) next: String,
    pub(crate) detail: String,
}

/// An attempt as it is kept: what [`Alike`] borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) direction: Direction,
    pub(super) outcome: Outcome,
    pub(super) why: Why,
    pub(super) peer: Option<Box<str>>,
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) service: Option<Box<str>>,
    pub(super) wire: Option<&'static str>,
    pub(super) permission: Option<Box<str>>,
    pub(super) shadow: Option<(bool, Reason, Option<Box<str>>)>,
    pub(super) method: Option<&'static str>,
    pub(super) path: Option<Box<str>>,
    /// Whether it stands for others, for which there was no room.
    pub(super) is_folded: bool,
}

impl Kind {
    fn of(alike: &Alike<'_>, is_folded: bool) -> Self {
        Self {
            direction: alike.direction,
            outcome: alike.outcome,
            why: alike.why,
            peer: alike.peer.map(Into::into),
            address: alike.address,
            port: alike.port,
            service: alike.service.map(Into::into),
            wire: alike.wire,
            permission: alike.permission.map(Into::into),
            shadow: alike.shadow.map(|it| (it.allowed, it.reason, it.permission.map(Into::into))),
            method: alike.method,
            path: alike.path.map(Into::into),
            is_folded,
        }
    }

    fn alike(&self) -> Alike<'_> {
        let shadow = self.shadow.as_ref().map(|(allowed, reason, permission)| ShadowOf {
            allowed: *allowed,
            reason: *reason,
            permission: permission.as_deref(),
        });
        Alike {
            direction: self.direction,
            outcome: self.outcome,
            why: self.why,
            peer: self.peer.as_deref(),
            address: self.address,
            port: self.port,
            service: self.service.as_deref(),
            wire: self.wire,
            permission: self.permission.as_deref(),
            shadow,
            method: self.method,
            path: self.path.as_deref(),
        }
    }
}

impl Hash for Alike<'_> {
    /// What differs most; equality looks at all.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let words = (u64::from(self.port) << 32)
            | (u64::from(self.outcome as u8) << 16)
            | (u64::from(self.direction as u8) << 8)
            | self.method.map_or(0, |method| method.len() as u64);
        state.write_u64(words);
        for text in [self.peer, self.path].into_iter().flatten() {
            state.write(text.as_bytes());
            state.write_u8(0xff);
        }
        match self.address {
            Some(IpAddr::V4(four)) => state.write_u32(four.to_bits()),
            Some(IpAddr::V6(six)) => state.write_u128(six.to_bits()),
            None => {}
        }
    }
}

/// How an attempt was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Apart,
    /// With others of the same side.
    OfSide,
    /// As one of `(other)`.
    Other,
}

/// A flow, as it is told.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) kind: Arc<Kind>,
    pub(super) rule: Option<Arc<str>>,
    pub(super) shadow_rule: Option<Arc<str>>,
    pub(super) counts: Counts,
    pub(super) first_millis: i64,
    pub(super) last_millis: i64,
    pub(super) sample: u64,
}

/// What is counted; exact since it was told last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) connections: u64,
    pub(super) requests: u64,
    pub(super) to_destination: u64,
    pub(super) to_source: u64,
}

/// A single attempt, or some that are alike, as they are told.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub(super) kind: Arc<Kind>,
    pub(super) first: One,
    pub(super) last_millis: i64,
    pub(super) count: u64,
}

/// A single attempt, beside its kind.
#[derive(Debug, Clone)]
pub(super) struct One {
    pub(super) number: u64,
    pub(super) of: Option<u64>,
    pub(super) millis: i64,
    pub(super) port: u16,
    pub(super) address: Option<IpAddr>,
    pub(super) said: Said,
}

impl One {
    fn of(alike: &Alike<'_>, noted: &Noted<'_>) -> Self {
        Self {
            number: noted.number,
            of: noted.of,
            millis: noted.millis,
            port: alike.port,
            address: alike.address,
            said: (noted.said)(),
        }
    }
}

/// What is in no word and in no flow any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Abandoned {
    pub(super) attempts: u64,
    pub(super) calls: u64,
}

/// Bytes, by direction and then to the destination and to the source.
pub(super) type MovedBytes = [[u64; 2]; 2];

/// An attempt that lives.
#[derive(Debug)]
pub(crate) struct Ticket(usize);

/// All attempts of a workload.
#[derive(Debug)]
pub(super) struct Tally {
    hasher: RandomState,
    places: HashMap<u64, Vec<usize>, BuildHasherDefault<Passed>>,
    flows: Vec<Option<Slot>>,
    free: Vec<usize>,
    sides: Sides,
    live: Vec<Option<Live>>,
    free_live: Vec<usize>,
    round: u32,
    cursor: usize,
    words: std::collections::VecDeque<Word>,
    /// How many kinds have a repetition that waits, and a line.
    repeating: usize,
    unlogged: usize,
    lost: u64,
    denials: Bucket,
    firsts: Bucket,
    turns: Bucket,
    recorded: Bucket,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            places: HashMap::default(),
            flows: Vec::new(),
            free: Vec::new(),
            sides: Sides::default(),
            live: Vec::new(),
            free_live: Vec::new(),
            round: 0,
            cursor: 0,
            words: Default::default(),
            repeating: 0,
            unlogged: 0,
            lost: 0,
            denials: DENIALS,
            firsts: FIRSTS,
            turns: TURNS,
            recorded: RECORDED,
        }
    }
}

#[derive(Debug)]
struct Slot {
    hash: u64,
    side: usize,
    kind: Arc<Kind>,
    rule: Option<Arc<str>>,
    shadow_rule: Option<Arc<str>>,
    counts: Counts,
    /// Since it was told last.
    first_millis: Option<i64>,
    last_millis: i64,
    sample: u64,
    live: u32,
    was_idle: bool,
    told_at: Option<u64>,
    repeats: Option<Box<Repeats>>,
    unlogged: Option<(String, u64)>,
}

/// Attempts that wait to be told together.
#[derive(Debug)]
struct Repeats {
    first: One,
    last_millis: i64,
    count: u64,
}

#[derive(Debug)]
struct Live {
    flow: usize,
    moved: Arc<Moved>,
    /// How much of that is counted.
    counted: [u64; 2],
}

impl Live {
    /// What was moved and is not counted yet.
    fn take(&mut self) -> [u64; 2] {
        let moved = [&self.moved.to_destination, &self.moved.to_source];
        let moved = moved.map(|it| it.load(Ordering::Relaxed));
        let [destination, source] = std::mem::replace(&mut self.counted, moved);
        [moved[0].saturating_sub(destination), moved[1].saturating_sub(source)]
    }
}

/// What is hashed already.
#[derive(Debug, Default)]
struct Passed(u64);

impl Hasher for Passed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |all, byte| all.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Tally {
    pub(super) fn hash(&self, alike: &Alike<'_>) -> u64 {
        self.hasher.hash_one(alike)
    }

    /// Counts an attempt: gives where, and whether by itself.
    pub(super) fn count(
        &mut self,
        hash: u64,
        alike: &Alike<'_>,
        noted: &Noted<'_>,
    ) -> (usize, Counted) {
        let place = self.place(hash, alike, noted);
        let Some(slot) = self.flows.get_mut(place).and_then(Option::as_mut) else {
            return (place, Counted::Other);
        };
        if noted.counts {
            match slot.kind.method {
                Some(_) => slot.counts.requests += 1,
                None => slot.counts.connections += 1,
            }
            slot.first_millis =
                Some(slot.first_millis.map_or(noted.millis, |it| it.min(noted.millis)));
            slot.last_millis = slot.last_millis.max(noted.millis);
        }
        slot.was_idle = false;
        let counted = match slot.kind.is_folded {
            false => Counted::Apart,
            true if self.sides.is_known(slot.side) => Counted::OfSide,
            true => Counted::Other,
        };
        (place, counted)
    }

    fn place(&mut self, hash: u64, alike: &Alike<'_>, noted: &Noted<'_>) -> usize {
        if let Some(place) = self.find(hash, alike) {
            return place;
        }
        let side = self.sides.of(&self.hasher, alike);
        let is_path_left = alike.path.is_none() || self.sides.has_path(side);
        let kept = Alike { path: if is_path_left { alike.path } else { Some(OTHER) }, ..*alike };
        let hash = if is_path_left { hash } else { self.hash(&kept) };
        if !is_path_left && let Some(place) = self.find(hash, &kept) {
            return place;
        }
        if self.sides.has_kind(side) {
            return self.insert(hash, Kind::of(&kept, false), side, noted);
        }
        if let Some(place) = self.of_side(side, alike, noted) {
            return place;
        }
        // Only closed words are left: there are not many of those.
        let other = Alike { peer: None, address: None, ..folded(alike) };
        let hash = self.hash(&other);
        self.find(hash, &other).unwrap_or_else(|| {
            let others = self.sides.others(&self.hasher, alike);
            self.insert(hash, Kind::of(&other, true), others, noted)
        })
    }

    /// Where attempts of one side are counted together, of which there are too many different ones.
    fn of_side(&mut self, side: usize, alike: &Alike<'_>, noted: &Noted<'_>) -> Option<usize> {
        if !self.sides.is_known(side) {
            return None;
        }
        let all = Alike { address: self.sides.address(side), ..folded(alike) };
        let hash = self.hash(&all);
        let found = self.find(hash, &all);
        if found.is_none() && self.sides.has_folded(side) {
            return Some(self.insert(hash, Kind::of(&all, true), side, noted));
        }
        found
    }

    fn find(&self, hash: u64, alike: &Alike<'_>) -> Option<usize> {
        let same = self.places.get(&hash)?.iter().copied();
        let is_it = |place: &usize| self.slot(*place).is_some_and(|it| it.kind.alike() == *alike);
        same.into_iter().find(is_it)
    }

    fn slot(&self, place: usize) -> Option<&Slot> {
        self.flows.get(place).and_then(Option::as_ref)
    }

    fn insert(&mut self, hash: u64, kind: Kind, side: usize, noted: &Noted<'_>) -> usize {
        self.sides.enter(side, &kind);
        let slot = Slot {
            hash,
            side,
            rule: noted.rule.filter(|_| !kind.is_folded).map(Into::into),
            shadow_rule: noted.shadow_rule.filter(|_| !kind.is_folded).map(Into::into),
            kind: Arc::new(kind),
            counts: Counts::default(),
            first_millis: None,
            last_millis: noted.millis,
            sample: noted.number,
            live: 0,
            was_idle: false,
            told_at: None,
            repeats: None,
            unlogged: None,
        };
        let place = self.free.pop().unwrap_or(self.flows.len());
        match self.flows.get_mut(place) {
            Some(room) => *room = Some(slot),
            None => self.flows.push(Some(slot)),
        }
        self.places.entry(hash).or_default().push(place);
        place
    }

    fn remove(&mut self, place: usize) {
        let Some(slot) = self.flows.get_mut(place).and_then(Option::take) else { return };
        self.sides.leave(slot.side, &slot.kind);
        if let Some(same) = self.places.get_mut(&slot.hash) {
            same.retain(|it| *it != place);
            if same.is_empty() {
                self.places.remove(&slot.hash);
            }
        }
        self.free.push(place);
    }

    /// What was counted at a place lives from now on.
    pub(super) fn live(&mut self, flow: usize, moved: Arc<Moved>) -> Ticket {
        if let Some(slot) = self.flows.get_mut(flow).and_then(Option::as_mut) {
            slot.live += 1;
        }
        let one = Some(Live { flow, moved, counted: [0; 2] });
        let place = self.free_live.pop().unwrap_or(self.live.len());
        match self.live.get_mut(place) {
            Some(room) => *room = one,
            None => self.live.push(one),
        }
        Ticket(place)
    }

    /// It lives no more.
    pub(super) fn end(&mut self, ticket: Ticket, at_millis: i64) -> MovedBytes {
        let mut all = MovedBytes::default();
        let Some(mut live) = self.live.get_mut(ticket.0).and_then(Option::take) else { return all };
        self.free_live.push(ticket.0);
        if let Some(slot) = self.flows.get_mut(live.flow).and_then(Option::as_mut) {
            slot.add(live.take(), &mut all);
            slot.live = slot.live.saturating_sub(1);
            slot.last_millis = slot.last_millis.max(at_millis);
        }
        all
    }

    /// Counts what was moved by what lives.
    pub(super) fn settle(&mut self) -> MovedBytes {
        let mut all = MovedBytes::default();
        for live in self.live.iter_mut().flatten() {
            if let Some(slot) = self.flows.get_mut(live.flow).and_then(Option::as_mut) {
                slot.add(live.take(), &mut all);
            }
        }
        all
    }

    /// The next flow of a round that has something to tell. One of which nothing was heard for two rounds is forgotten.
    pub(super) fn take_flow(&mut self, round: u32, now: Timestamp) -> Option<Flow> {
        if round != self.round {
            (self.round, self.cursor) = (round, 0);
        }
        while self.cursor < self.flows.len() {
            let place = self.cursor;
            self.cursor += 1;
            let Some(slot) = self.flows.get_mut(place).and_then(Option::as_mut) else { continue };
            if slot.counts != Counts::default() {
                return Some(slot.take(now.as_millisecond()));
            }
            let is_busy = slot.live > 0 || slot.repeats.is_some() || slot.unlogged.is_some();
            if !is_busy && std::mem::replace(&mut slot.was_idle, true) {
                self.remove(place);
            }
        }
        None
    }

    /// An attempt was refused; it is told, or waits with those that are alike. The first of a side for some time waits for no other side.
    pub(super) fn refuse(&mut self, place: usize, alike: &Alike<'_>, noted: &Noted<'_>, now: u64) {
        let Some(slot) = self.slot(place) else { return };
        let is_news = slot.repeats.is_none() && slot.is_due(now) && self.words.len() < WORDS;
        let is_first = is_news && self.sides.is_due(slot.side, now) && self.firsts.take(now);
        if is_first || (is_news && self.denials.take(now)) {
            self.tell(place, alike, noted, now);
        } else {
            self.repeat(place, alike, noted);
        }
    }

    /// An allowed attempt of which somebody wants to know; it waits with others where there are too many.
    pub(super) fn record(&mut self, place: usize, alike: &Alike<'_>, noted: &Noted<'_>, now: u64) {
        let Some(slot) = self.slot(place) else { return };
        if slot.repeats.is_none() && self.words.len() < WORDS && self.recorded.take(now) {
            self.tell(place, alike, noted, now);
        } else {
            self.repeat(place, alike, noted);
        }
    }

    fn tell(&mut self, place: usize, alike: &Alike<'_>, noted: &Noted<'_>, now: u64) {
        let Some(slot) = self.flows.get_mut(place).and_then(Option::as_mut) else { return };
        slot.told_at = Some(now);
        self.sides.told(slot.side, now);
        let (kind, first) = (Arc::clone(&slot.kind), One::of(alike, noted));
        self.words.push_back(Word { kind, first, last_millis: noted.millis, count: 1 });
    }

    fn repeat(&mut self, place: usize, alike: &Alike<'_>, noted: &Noted<'_>) {
        let Some(slot) = self.slot(place) else { return };
        let (side, is_folded) = (slot.side, slot.kind.is_folded);
        let has_room = is_folded || self.sides.may_wait(side, self.repeating);
        if slot.repeats.is_none() && !has_room {
            // What it was is known no more, but who.
            match self.of_side(side, alike, noted) {
                Some(together) => self.wait(together, alike, noted),
                None => self.lost += 1,
            }
        } else {
            self.wait(place, alike, noted);
        }
    }

    fn wait(&mut self, place: usize, alike: &Alike<'_>, noted: &Noted<'_>) {
        let Some(slot) = self.flows.get_mut(place).and_then(Option::as_mut) else { return };
        match &mut slot.repeats {
            Some(repeats) => {
                repeats.count += 1;
                repeats.last_millis = repeats.last_millis.max(noted.millis);
            }
            none => {
                let first = One::of(alike, noted);
                *none = Some(Box::new(Repeats { first, last_millis: noted.millis, count: 1 }));
                self.repeating += 1;
                self.sides.wait(slot.side, place);
            }
        }
    }

    /// Counts one that is in no word.
    pub(super) fn lose_one(&mut self) {
        self.lost += 1;
    }

    /// Tells what has waited long enough, of one side after the other.
    pub(super) fn tick(&mut self, now: u64) {
        let (sides, mut without) = (self.sides.len(), 0);
        while self.repeating > 0 && without < sides && self.words.len() < WORDS {
            let side = self.sides.next_turn();
            let due = self.sides.waiting(side).iter().position(|place| {
                let Some(slot) = self.flows.get(*place).and_then(Option::as_ref) else {
                    return false;
                };
                match slot.kind.outcome {
                    Outcome::Allowed => self.recorded.take(now),
                    Outcome::Denied | Outcome::Failed => slot.is_due(now) && self.turns.take(now),
                }
            });
            match due.and_then(|at| self.sides.end_waiting(side, at)) {
                Some(place) => {
                    self.tell_repeats(place, now);
                    without = 0;
                }
                None => without += 1,
            }
        }
    }

    /// Tells all that waits: nothing comes any more.
    pub(super) fn finish(&mut self) {
        for place in 0..self.flows.len() {
            self.tell_repeats(place, u64::MAX);
        }
        self.sides.nothing_waits();
    }

    fn tell_repeats(&mut self, place: usize, now: u64) {
        let Some(slot) = self.flows.get_mut(place).and_then(Option::as_mut) else { return };
        let Some(repeats) = slot.repeats.take() else { return };
        self.repeating -= 1;
        slot.told_at = Some(now);
        self.sides.told(slot.side, now);
        let Repeats { first, last_millis, count } = *repeats;
        self.words.push_back(Word { kind: Arc::clone(&slot.kind), first, last_millis, count });
    }

    /// Counts what will never be told.
    pub(super) fn abandon(&mut self) -> Abandoned {
        self.finish();
        let words = self.words.drain(..).map(|word| word.count);
        let calls =
            self.flows.iter().flatten().map(|it| it.counts.connections + it.counts.requests);
        Abandoned { attempts: words.sum::<u64>() + self.lost, calls: calls.sum() }
    }

    pub(super) fn take_word(&mut self) -> Option<Word> {
        self.words.pop_front()
    }

    /// How many attempts are in no word, though somebody wants to know of them.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Keeps a line for later, or counts it with one that is kept; false where there is no room.
    pub(super) fn unlogged(&mut self, place: usize, line: impl Fn() -> Option<String>) -> bool {
        let Some(slot) = self.flows.get_mut(place).and_then(Option::as_mut) else { return false };
        match &mut slot.unlogged {
            Some((_, count)) => *count += 1,
            None if self.unlogged >= UNLOGGED => return false,
            none => {
                let Some(line) = line() else { return false };
                self.unlogged += 1;
                *none = Some((line, 1));
            }
        }
        true
    }

    /// Lines that waited, each with how many it stands for, as long as more may be written.
    pub(super) fn take_unlogged(
        &mut self,
        mut may: impl FnMut() -> bool,
    ) -> Vec<(Direction, u64, String)> {
        let mut lines = Vec::new();
        if self.unlogged == 0 {
            return lines;
        }
        for slot in self.flows.iter_mut().flatten() {
            if slot.unlogged.is_some()
                && may()
                && let Some((line, count)) = slot.unlogged.take()
            {
                self.unlogged -= 1;
                let open = line.strip_suffix('}').unwrap_or(&line);
                lines.push((slot.kind.direction, count, format!("{open},\"count\":{count}}}")));
            }
        }
        lines
    }

    /// Whether nothing is left to be told.
    pub(super) fn is_empty(&self) -> bool {
        let is_told = |slot: &Slot| slot.counts == Counts::default() && slot.live == 0;
        self.words.is_empty()
            && self.repeating == 0
            && self.unlogged == 0
            && self.lost == 0
            && self.flows.iter().flatten().all(is_told)
    }
}

impl Slot {
    /// Whether it may be told again.
    fn is_due(&self, now: u64) -> bool {
        self.told_at.is_none_or(|at| now >= at.saturating_add(WINDOW))
    }

    fn add(&mut self, moved: [u64; 2], all: &mut MovedBytes) {
        let [to_destination, to_source] = moved;
        self.counts.to_destination += to_destination;
        self.counts.to_source += to_source;
        let side = &mut all[usize::from(self.kind.direction == Direction::Outbound)];
        side[0] += to_destination;
        side[1] += to_source;
    }

    fn take(&mut self, now: i64) -> Flow {
        if self.live > 0 {
            self.last_millis = self.last_millis.max(now);
        }
        let first = self.first_millis.take().unwrap_or(self.last_millis);
        self.was_idle = false;
        Flow {
            kind: Arc::clone(&self.kind),
            rule: self.rule.clone(),
            shadow_rule: self.shadow_rule.clone(),
            counts: std::mem::take(&mut self.counts),
            first_millis: first,
            last_millis: self.last_millis,
            sample: self.sample,
        }
    }
}

/// The same with nothing known but the other side, and closed words.
fn folded<'a>(alike: &Alike<'a>) -> Alike<'a> {
    Alike {
        port: 0,
        service: None,
        permission: None,
        shadow: None,
        method: alike.method.map(|_| OTHER),
        path: None,
        ..*alike
    }
}

fn has_own_path(kind: &Kind) -> bool {
    kind.path.as_deref().is_some_and(|path| path != OTHER)
}

#[cfg(test)]
mod tests;
