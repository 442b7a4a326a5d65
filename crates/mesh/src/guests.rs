//! What guests of a gateway take, shared by who they have proven to be.
//!
//! An address says little of them: a whole cluster may have one, and one workload many. No trust domain has more than others have left, and
//! no workload more than others of its trust domain have left of half of all: whoever comes next finds room.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use nullius_model::{Shares, SpiffeId};

/// Room for guests.
#[derive(Debug)]
pub(crate) struct Guests {
    /// Of one trust domain, for all of its workloads.
    of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug)]
struct Taken {
    domains: Shares,
    /// By trust domain; those for which a gateway is are few.
    workloads: HashMap<Box<str>, Shares>,
}

/// Room that a guest has, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    guests: Arc<Guests>,
    id: SpiffeId,
}

impl Guests {
    /// Room for so many.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let taken = Taken { domains: Shares::new(most), workloads: HashMap::new() };
        Arc::new(Self { of_one: most / 2, taken: Mutex::new(taken) })
    }

    /// Room for one more; none where the guest, or its trust domain, has its share.
    pub(crate) fn take(self: &Arc<Self>, id: &SpiffeId) -> Option<Seat> {
        let domain = id.trust_domain();
        let mut taken = self.lock();
        let Taken { domains, workloads } = &mut *taken;
        if !domains.take(domain, 1) {
            return None;
        }
        let of_one = workloads.entry(domain.into()).or_insert_with(|| Shares::new(self.of_one));
        if !of_one.take(id.as_str(), 1) {
            domains.give(domain, 1);
            return None;
        }
        Some(Seat { guests: Arc::clone(self), id: id.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let domain = self.id.trust_domain();
        let mut taken = self.guests.lock();
        taken.domains.give(domain, 1);
        if let Some(of_one) = taken.workloads.get_mut(domain) {
            of_one.give(self.id.as_str(), 1);
        }
    }
}

/// Room for guests at each endpoint, as long as anybody has some there.
#[derive(Debug, Default)]
pub(crate) struct AtEndpoints(Mutex<HashMap<SocketAddr, Weak<Guests>>>);

impl AtEndpoints {
    /// Room for one more, of so many there.
    pub(crate) fn take(&self, at: SocketAddr, most: usize, id: &SpiffeId) -> Option<Seat> {
        let guests = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(&at).and_then(Weak::upgrade).unwrap_or_else(|| {
                all.retain(|_, guests| guests.strong_count() > 0);
                let guests = Guests::new(most);
                all.insert(at, Arc::downgrade(&guests));
                guests
            })
        };
        guests.take(id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn no_workload_takes_what_others_need_and_no_trust_domain() {
        let guests = Guests::new(256);
        let take = |id: &str| -> Vec<Seat> {
            let id: SpiffeId = id.parse().unwrap();
            (0..1_000).map_while(|_| guests.take(&id)).collect()
        };
        let greedy = take("spiffe://shop.example/ns/shop/sa/greedy");
        let other = take("spiffe://shop.example/ns/shop/sa/other");
        let far = take("spiffe://far.example/ns/far/sa/far");
        assert_eq!((greedy.len(), other.len(), far.len()), (64, 32, 64));
        // However many names somebody has, those of another trust domain find room.
        let names = (0..1_000).map(|nth| format!("spiffe://shop.example/ns/n{nth}/sa/x"));
        let many: Vec<Seat> = names.flat_map(|name| take(&name)).collect();
        assert!(greedy.len() + other.len() + many.len() <= 128, "{}", many.len());
        assert!(!take("spiffe://third.example/ns/shop/sa/front").is_empty());
        drop((greedy, other, far, many));
        assert_eq!(take("spiffe://third.example/ns/shop/sa/front").len(), 64);
    }
    #[test]
    fn what_is_taken_at_one_endpoint_is_free_at_another() {
        let at = |port| SocketAddr::from(([10, 0, 0, 7], port));
        let id: SpiffeId = "spiffe://shop.example/ns/shop/sa/front".parse().unwrap();
        let endpoints = AtEndpoints::default();
        let take = |port| (0..100).map_while(|_| endpoints.take(at(port), 16, &id)).collect();
        let (one, other): (Vec<Seat>, Vec<Seat>) = (take(1), take(2));
        assert_eq!((one.len(), other.len()), (4, 4));
        drop(one);
        let again: Vec<Seat> = take(1);
        assert_eq!((again.len(), take(2).len()), (4, 0));
        drop((other, again));
        drop(endpoints.take(at(3), 16, &id));
        assert_eq!(endpoints.0.lock().unwrap().len(), 1, "nobody is at the others");
    }
}
