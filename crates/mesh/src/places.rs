//! Places for those who have connected and not proven yet who they are.
//!
//! Whoever is slow there, or says nothing, keeps a place for ten seconds; so that one address cannot keep all, it has a share.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Places of one side.
const ALL: usize = 1_024;
/// Places that one address has.
const EACH: usize = 256;

/// Places of one side.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// A place for an address; none where it has its share, or nobody finds one.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = self.lock();
        if taken.all >= ALL || taken.by.get(&address).is_some_and(|count| *count >= EACH) {
            return None;
        }
        taken.all += 1;
        *taken.by.entry(address).or_default() += 1;
        Some(Place { places: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
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
    fn one_address_has_a_share_and_all_have_a_limit() {
        let places = Arc::new(Places::default());
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let take = |last: u8| (0..2 * ALL).map_while(|_| places.take(address(last))).collect();
        let mut taken: Vec<Vec<Place>> = (0..6).map(take).collect();
        let counts: Vec<usize> = taken.iter().map(Vec::len).collect();
        assert_eq!(counts, [EACH, EACH, EACH, EACH, 0, 0]);
        taken.remove(0);
        let next: Vec<Place> = take(5);
        assert_eq!(next.len(), EACH);
        drop((taken, next));
        let left = places.lock();
        assert!(left.all == 0 && left.by.is_empty());
    }
}
