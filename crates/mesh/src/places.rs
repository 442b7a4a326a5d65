//! Places for those who connect: to prove who they are, to stay, or to ask whether a pod lives.
//!
//! Whoever is slow to prove anything, or says nothing, keeps a place for ten seconds. So that one address cannot keep all, it has a
//! share; and those of whom the cluster says nothing cannot keep more than some together, so that pods of the mesh find a place.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) all: usize,
    /// Those that one address has.
    pub(crate) each: usize,
    /// Those that strangers have together.
    pub(crate) strangers: usize,
}

/// Whether the cluster says of an address that a pod of the mesh has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Mesh,
    Stranger,
}

/// Places of one side.
#[derive(Debug)]
pub(crate) struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    strangers: usize,
    by: HashMap<IpAddr, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
    from: Origin,
}

impl Places {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// A place for an address; none where it has its share, or nobody like it finds one.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, from: Origin) -> Option<Place> {
        let Limits { all, each, strangers } = self.limits;
        let mut taken = self.lock();
        let is_full =
            taken.all >= all || (from == Origin::Stranger && taken.strangers >= strangers);
        if is_full || taken.by.get(&address).is_some_and(|count| *count >= each) {
            return None;
        }
        taken.all += 1;
        taken.strangers += usize::from(from == Origin::Stranger);
        *taken.by.entry(address).or_default() += 1;
        Some(Place { places: Arc::clone(self), address, from })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        taken.strangers -= usize::from(self.from == Origin::Stranger);
        if let Some(count) = taken.by.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_a_share_strangers_have_one_and_all_have_a_limit() {
        let places = Places::new(Limits { all: 100, each: 20, strangers: 50 });
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let take = |last: u8, from: Origin| -> Vec<Place> {
            (0..200).map_while(|_| places.take(address(last), from)).collect()
        };
        let mut taken: Vec<Vec<Place>> = (0..4).map(|last| take(last, Origin::Stranger)).collect();
        taken.extend((4..8).map(|last| take(last, Origin::Mesh)));
        let counts: Vec<usize> = taken.iter().map(Vec::len).collect();
        assert_eq!(counts, [20, 20, 10, 0, 20, 20, 10, 0]);
        taken.remove(0);
        let next = take(9, Origin::Stranger);
        assert_eq!(next.len(), 20);
        drop((taken, next));
        let left = places.lock();
        assert!(left.all == 0 && left.strangers == 0 && left.by.is_empty());
    }
}
