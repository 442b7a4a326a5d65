//! Who is on the other side of calls, and how much of the room each has: nobody's calls take it from others.
//!
//! Callers that have proven an ID, callers that have not, and who is called have rooms of their own. In each, whoever has as much as is left finds no
//! more (`has_share`): one side alone takes half, and another one that comes still finds some. Sides themselves are shared by namespace and by
//! address block in the same way, so that nobody with many of them takes the places of all others.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, RandomState},
    net::IpAddr,
};

use nullius_model::{Shares, has_share};

use super::{Alike, Kind, Passed, WAITING, WINDOW, has_own_path};
use crate::access_log::Direction;

/// Kinds of calls of a room that are kept apart.
pub(super) const FLOWS: usize = 512;
/// Of those, how many by their path.
pub(super) const PATHS: usize = FLOWS / 2;
/// Sides of a room.
pub(super) const SIDES: usize = 512;
/// Kinds of calls of one side that are counted together: they differ in closed words.
const FOLDED_OF_SIDE: usize = 4;
/// Kinds of one side of which a repetition waits.
const WAITING_OF_SIDE: usize = 8;

/// All of them.
#[derive(Debug)]
pub(super) struct Sides {
    places: HashMap<u64, usize, BuildHasherDefault<Passed>>,
    all: Vec<Option<Side>>,
    free: Vec<usize>,
    rooms: [Room; 3],
    turn: usize,
}

#[derive(Debug)]
struct Room {
    sides: Shares,
    kinds: usize,
    paths: usize,
}

/// Who has a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    /// Callers that have proven who they are.
    Proven,
    /// Other callers.
    Unproven,
    /// Who is called.
    Called,
}

#[derive(Debug)]
struct Side {
    hash: u64,
    lane: Lane,
    who: Who,
    /// Where it was first.
    address: Option<IpAddr>,
    kinds: usize,
    paths: usize,
    folded: usize,
    told_at: Option<u64>,
    /// Where its repetitions wait.
    waiting: VecDeque<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Proven(Box<str>),
    At(Option<IpAddr>),
    /// All for whom there was no place.
    Others,
}

impl Default for Sides {
    fn default() -> Self {
        let room = || Room { sides: Shares::new(SIDES), kinds: 0, paths: 0 };
        Self {
            places: HashMap::default(),
            all: Vec::new(),
            free: Vec::new(),
            rooms: [room(), room(), room()],
            turn: 0,
        }
    }
}

impl Sides {
    /// The side of an attempt; that of all others where there is no place for it.
    pub(super) fn of(&mut self, hasher: &RandomState, alike: &Alike<'_>) -> usize {
        let lane = Lane::of(alike);
        let hash = match alike.peer {
            Some(id) => hasher.hash_one((lane, id)),
            None => hasher.hash_one((lane, alike.address)),
        };
        if let Some(place) = self.places.get(&hash).copied() {
            // Another one with the same hash keeps its place.
            let is_it = self.side(place).is_some_and(|side| side.is_of(alike));
            return if is_it { place } else { self.others(hasher, alike) };
        }
        let (who, group) = match alike.peer {
            Some(id) => (Who::Proven(id.into()), of_namespace(id).to_owned()),
            None => (Who::At(alike.address), of_block(alike.address)),
        };
        match self.rooms[lane as usize].sides.take(&group, 1) {
            true => self.put(hash, lane, who, alike.address),
            false => self.others(hasher, alike),
        }
    }

    /// All for whom there is no place.
    pub(super) fn others(&mut self, hasher: &RandomState, alike: &Alike<'_>) -> usize {
        let lane = Lane::of(alike);
        let hash = hasher.hash_one((lane, "others"));
        match self.places.get(&hash) {
            Some(place) => *place,
            None => self.put(hash, lane, Who::Others, None),
        }
    }

    /// Whether it is known who it is.
    pub(super) fn is_known(&self, place: usize) -> bool {
        self.side(place).is_some_and(|side| side.who != Who::Others)
    }

    /// Where it was first.
    pub(super) fn address(&self, place: usize) -> Option<IpAddr> {
        self.side(place)?.address
    }

    pub(super) fn has_kind(&self, place: usize) -> bool {
        self.known(place).is_some_and(|(side, room)| has_share(side.kinds + 1, room.kinds, FLOWS))
    }

    pub(super) fn has_path(&self, place: usize) -> bool {
        self.known(place).is_some_and(|(side, room)| has_share(side.paths + 1, room.paths, PATHS))
    }

    pub(super) fn has_folded(&self, place: usize) -> bool {
        self.known(place).is_some_and(|(side, _)| side.folded < FOLDED_OF_SIDE)
    }

    /// A kind of calls begins.
    pub(super) fn enter(&mut self, place: usize, kind: &Kind) {
        let Some(side) = self.all.get_mut(place).and_then(Option::as_mut) else { return };
        let room = &mut self.rooms[side.lane as usize];
        if kind.is_folded {
            side.folded += 1;
            return;
        }
        let path = usize::from(has_own_path(kind));
        (side.kinds, side.paths) = (side.kinds + 1, side.paths + path);
        (room.kinds, room.paths) = (room.kinds + 1, room.paths + path);
    }

    /// It is forgotten, and its side with the last of them.
    pub(super) fn leave(&mut self, place: usize, kind: &Kind) {
        let Some(side) = self.all.get_mut(place).and_then(Option::as_mut) else { return };
        let room = &mut self.rooms[side.lane as usize];
        if kind.is_folded {
            side.folded -= 1;
        } else {
            let path = usize::from(has_own_path(kind));
            (side.kinds, side.paths) = (side.kinds - 1, side.paths - path);
            (room.kinds, room.paths) = (room.kinds - 1, room.paths - path);
        }
        if side.kinds + side.folded > 0 {
            return;
        }
        match &side.who {
            Who::Proven(id) => room.sides.give(of_namespace(id), 1),
            Who::At(address) => room.sides.give(&of_block(*address), 1),
            Who::Others => {}
        }
        self.places.remove(&side.hash);
        self.all[place] = None;
        self.free.push(place);
    }

    /// Whether nothing was told of it for some time.
    pub(super) fn is_due(&self, place: usize, now: u64) -> bool {
        let side = self.side(place);
        side.is_some_and(|it| it.told_at.is_none_or(|at| now >= at.saturating_add(WINDOW)))
    }

    pub(super) fn told(&mut self, place: usize, now: u64) {
        if let Some(side) = self.all.get_mut(place).and_then(Option::as_mut) {
            side.told_at = Some(now);
        }
    }

    /// Whether one more kind may wait by itself, where so many do.
    pub(super) fn may_wait(&self, place: usize, all: usize) -> bool {
        self.waiting(place).len() < WAITING_OF_SIDE && all < WAITING
    }

    pub(super) fn wait(&mut self, place: usize, flow: usize) {
        if let Some(side) = self.all.get_mut(place).and_then(Option::as_mut) {
            side.waiting.push_back(flow);
        }
    }

    pub(super) fn waiting(&self, place: usize) -> &VecDeque<usize> {
        static NONE: VecDeque<usize> = VecDeque::new();
        self.side(place).map_or(&NONE, |side| &side.waiting)
    }

    pub(super) fn end_waiting(&mut self, place: usize, at: usize) -> Option<usize> {
        self.all.get_mut(place)?.as_mut()?.waiting.remove(at)
    }

    pub(super) fn nothing_waits(&mut self) {
        self.all.iter_mut().flatten().for_each(|side| side.waiting.clear());
    }

    /// How many turns it takes until it is everybody's.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whose turn it is.
    pub(super) fn next_turn(&mut self) -> usize {
        self.turn = if self.turn + 1 < self.all.len() { self.turn + 1 } else { 0 };
        self.turn
    }

    fn put(&mut self, hash: u64, lane: Lane, who: Who, address: Option<IpAddr>) -> usize {
        let side = Side {
            hash,
            lane,
            who,
            address,
            kinds: 0,
            paths: 0,
            folded: 0,
            told_at: None,
            waiting: VecDeque::new(),
        };
        let place = self.free.pop().unwrap_or(self.all.len());
        match self.all.get_mut(place) {
            Some(room) => *room = Some(side),
            None => self.all.push(Some(side)),
        }
        self.places.insert(hash, place);
        place
    }

    fn side(&self, place: usize) -> Option<&Side> {
        self.all.get(place).and_then(Option::as_ref)
    }

    /// A side of whom it is known who it is, and its room.
    fn known(&self, place: usize) -> Option<(&Side, &Room)> {
        let side = self.side(place).filter(|side| side.who != Who::Others)?;
        Some((side, &self.rooms[side.lane as usize]))
    }
}

impl Lane {
    fn of(alike: &Alike<'_>) -> Self {
        match (alike.direction, alike.peer) {
            (Direction::Inbound, Some(_)) => Self::Proven,
            (Direction::Inbound, None) => Self::Unproven,
            (Direction::Outbound, _) => Self::Called,
        }
    }
}

impl Side {
    fn is_of(&self, alike: &Alike<'_>) -> bool {
        match (&self.who, alike.peer) {
            (Who::Proven(id), Some(peer)) => **id == *peer,
            (Who::At(address), None) => *address == alike.address,
            _ => false,
        }
    }
}

/// Namespace and trust domain of an ID; of one that has no namespace its trust domain.
fn of_namespace(id: &str) -> &str {
    let end = id.rfind("/sa/").or_else(|| id.match_indices('/').nth(2).map(|(at, _)| at));
    end.map_or(id, |end| &id[..end])
}

/// What somebody usually has of addresses: a /24, or a /48 of IPv6.
fn of_block(address: Option<IpAddr>) -> String {
    match address {
        Some(IpAddr::V4(four)) => format!("{:?}", &four.octets()[..3]),
        Some(IpAddr::V6(six)) => format!("{:x?}", &six.segments()[..3]),
        None => String::new(),
    }
}
