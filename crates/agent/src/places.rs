//! Who holds a connection to a port that strangers reach, and who has to go when there are too many.
//!
//! Whoever has shown nothing yet is a stranger; strangers share few places, and hold none of those of who has. Where places are scarce,
//! whoever comes from where most come from goes first, and of these the one that has been here longest: an API server needs
//! its place as a stranger for a moment alone, and so does a node.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) strangers: usize,
    pub(crate) known: usize,
    /// Of one who has said who it is.
    pub(crate) of_one: usize,
}

/// All places; clones share them.
#[derive(Clone)]
pub(crate) struct Places(Arc<Shared>);

struct Shared {
    most: Most,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Of the place that was taken last: who has a lower one has been here longer.
    number: u64,
    strangers: BTreeMap<u64, Holder>,
    known: BTreeMap<u64, Holder>,
}

struct Holder {
    source: Source,
    /// Makes the holder go.
    go: CancellationToken,
}

/// Whose places are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Address(IpAddr),
    /// Who has said who it is, wherever it comes from.
    Named(Box<str>),
}

/// The place of one connection, which goes with the value.
pub(crate) struct Place {
    places: Places,
    number: u64,
    is_known: AtomicBool,
    known: CancellationToken,
    /// A stranger goes at once.
    pub(crate) cut: CancellationToken,
    /// Somebody who is known goes when what was begun is answered.
    pub(crate) leave: CancellationToken,
}

impl Places {
    pub(crate) fn new(most: Most) -> Self {
        Self(Arc::new(Shared { most, held: Mutex::default() }))
    }

    /// A place for a stranger, if need be that of another. `leave` is what makes it go in peace.
    pub(crate) fn take(&self, from: IpAddr, leave: CancellationToken) -> Place {
        let cut = CancellationToken::new();
        let mut held = self.held();
        held.number += 1;
        let number = held.number;
        held.strangers.insert(number, Holder { source: source(from), go: cut.clone() });
        make_room(&mut held.strangers, self.0.most.strangers, number);
        drop(held);
        let (is_known, known) = (AtomicBool::new(false), CancellationToken::new());
        Place { places: self.clone(), number, is_known, known, cut, leave }
    }

    /// How many strangers there are, and how many others.
    pub(crate) fn count(&self) -> (usize, usize) {
        let held = self.held();
        (held.strangers.len(), held.known.len())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Its holder is no stranger.
    pub(crate) fn make_known(&self) {
        self.know(None);
    }

    /// Its holder is no stranger, and is somebody: neighbours with many places do not count for it.
    pub(crate) fn make_known_as(&self, who: &str) {
        self.know(Some(who));
    }

    fn know(&self, who: Option<&str>) {
        // Each review says it again.
        if self.is_known() || self.is_known.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut held = self.places.held();
        // One that has to go already has none any more.
        if let Some(holder) = held.strangers.remove(&self.number) {
            let source = who.map_or(holder.source, |who| Source::Named(who.into()));
            let is_named = matches!(source, Source::Named(_));
            let holder = Holder { go: self.leave.clone(), source: source.clone() };
            held.known.insert(self.number, holder);
            if is_named {
                leave_oldest(&mut held.known, &source, self.places.0.most.of_one);
            }
            make_room(&mut held.known, self.places.0.most.known, self.number);
        }
        drop(held);
        self.known.cancel();
    }

    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// Waits until its holder is no stranger.
    pub(crate) async fn known(&self) {
        self.known.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held();
        held.strangers.remove(&self.number);
        held.known.remove(&self.number);
    }
}

/// Makes the oldest of one source go where it has too many.
fn leave_oldest(holders: &mut BTreeMap<u64, Holder>, source: &Source, most: usize) {
    let mut own = holders.iter().filter(|(_, holder)| holder.source == *source);
    let Some((&oldest, _)) = own.next().filter(|_| own.count() >= most) else { return };
    if let Some(holder) = holders.remove(&oldest) {
        holder.go.cancel();
    }
}

/// Makes one go where there are too many; never the one that has just come.
fn make_room(holders: &mut BTreeMap<u64, Holder>, most: usize, newest: u64) {
    if holders.len() <= most {
        return;
    }
    let mut by_source: BTreeMap<&Source, (usize, u64)> = BTreeMap::new();
    for (number, holder) in holders.iter().filter(|(number, _)| **number != newest) {
        by_source.entry(&holder.source).or_insert((0, *number)).0 += 1;
    }
    // The newest counts for its source, so that nobody gains by coming again.
    if let Some(counted) = holders.get(&newest).and_then(|newest| by_source.get_mut(&newest.source))
    {
        counted.0 += 1;
    }
    let worst =
        by_source.values().max_by_key(|(count, oldest)| (*count, std::cmp::Reverse(*oldest)));
    let worst = worst.map(|(_, oldest)| *oldest);
    let Some(holder) = worst.and_then(|oldest| holders.remove(&oldest)) else { return };
    holder.go.cancel();
}

/// Addresses of one source: a machine has a whole network of those of version 6.
fn source(address: IpAddr) -> Source {
    Source::Address(match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most { strangers: 3, known: 2, of_one: 2 };

    fn from(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn take(places: &Places, address: IpAddr) -> Place {
        places.take(address, CancellationToken::new())
    }

    #[test]
    fn whoever_takes_most_places_loses_the_oldest_of_them() {
        let places = Places::new(MOST);
        let quiet = take(&places, from(1));
        let many: Vec<Place> = (0..20).map(|_| take(&places, from(2))).collect();
        assert!(!quiet.cut.is_cancelled(), "others came from elsewhere");
        let stay: Vec<bool> = many.iter().map(|place| !place.cut.is_cancelled()).collect();
        assert_eq!(stay.iter().filter(|stays| **stays).count(), 2);
        assert!(stay[18] && stay[19], "the youngest stay");
        assert_eq!(places.count(), (3, 0));
        drop(many);
        assert_eq!(places.count(), (1, 0));
    }

    #[test]
    fn strangers_take_no_place_of_who_is_known_however_many_come() {
        let places = Places::new(MOST);
        let server = take(&places, from(1));
        server.make_known();
        server.make_known();
        let many: Vec<Place> = (0..100).map(|_| take(&places, from(1))).collect();
        assert!(server.is_known() && !server.cut.is_cancelled() && !server.leave.is_cancelled());
        assert_eq!(places.count(), (3, 1));
        drop((server, many));
        assert_eq!(places.count(), (0, 0));
    }

    #[test]
    fn of_too_many_who_are_known_one_leaves_in_peace() {
        let places = Places::new(MOST);
        let known: Vec<Place> = [1, 2, 2]
            .into_iter()
            .map(|last| {
                let place = take(&places, from(last));
                place.make_known();
                place
            })
            .collect();
        let leave: Vec<bool> = known.iter().map(|place| place.leave.is_cancelled()).collect();
        assert_eq!(leave, [false, true, false]);
        assert!(known.iter().all(|place| !place.cut.is_cancelled()));
        assert_eq!(places.count(), (0, 2));
    }

    #[test]
    fn who_says_who_it_is_has_few_places_and_takes_none_of_its_neighbours() {
        let places = Places::new(Most { strangers: 3, known: 4, of_one: 3 });
        let known = |who: &str| {
            // All come from one network.
            let place = take(&places, from(1));
            place.make_known_as(who);
            place
        };
        let quiet = known("a");
        let many: Vec<Place> = (0..20).map(|_| known("b")).collect();
        let stay: Vec<bool> = many.iter().map(|place| !place.leave.is_cancelled()).collect();
        assert_eq!(stay.iter().filter(|stays| **stays).count(), 3);
        assert!(stay[17..].iter().all(|stays| *stays), "the youngest stay");
        let other = known("c");
        assert!(!quiet.leave.is_cancelled() && !other.leave.is_cancelled());
        assert!(many[17].leave.is_cancelled(), "who has most makes room");
    }

    #[test]
    fn who_lost_its_place_gets_none_by_showing_something_later() {
        let places = Places::new(MOST);
        let first = take(&places, from(1));
        let _more: Vec<Place> = (0..3).map(|_| take(&places, from(1))).collect();
        assert!(first.cut.is_cancelled());
        first.make_known();
        assert_eq!(places.count(), (3, 0));
    }

    #[test]
    fn a_machine_with_a_network_of_addresses_is_one_source() {
        let places = Places::new(MOST);
        let address = |text: &str| text.parse::<IpAddr>().unwrap_or(from(0));
        let quiet = take(&places, address("2001:db8:0:1::1"));
        let many: Vec<Place> =
            (0..9).map(|last| take(&places, address(&format!("2001:db8:0:2::{last}")))).collect();
        assert!(!quiet.cut.is_cancelled());
        assert!(many.iter().filter(|place| !place.cut.is_cancelled()).count() == 2);
        assert_eq!(source(address("::ffff:10.0.0.7")), Source::Address(from(7)));
    }
}
