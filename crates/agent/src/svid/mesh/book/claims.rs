//! Who is believed of those that say to have an address.

use std::net::IpAddr;

use nullius_kube::identity::PodNews;
use nullius_mesh::news::{ADDRESSES_MAX, Uid, is_address};

use super::{Book, Dirty, count_down};
use crate::svid::enrolment;

impl Book {
    /// A Service has other addresses than before.
    pub(super) fn take(&mut self, before: &[IpAddr], now: &[IpAddr], dirty: &mut Dirty) {
        for address in now {
            *self.taken.entry(*address).or_default() += 1;
        }
        for address in before {
            count_down(&mut self.taken, address);
        }
        for address in before.iter().chain(now) {
            dirty.pods.extend(self.addresses.get(address).into_iter().flatten().cloned());
        }
    }

    /// Addresses that a pod says to have.
    pub(super) fn claims_of(&self, news: &PodNews) -> Vec<IpAddr> {
        let mut claims: Vec<IpAddr> = Vec::new();
        // None before its namespace is known. A pod with the network of its node says so too, and is told without: the address is the
        // node's, but it is known then that a pod outside of the mesh is there.
        let is_somewhere = news.node.is_some() && !news.is_ended;
        if !is_somewhere || !self.namespaces.contains_key(&news.namespace) {
            return claims;
        }
        for address in news.parts.addresses.iter().filter(|it| is_address(it)) {
            if !claims.contains(address) && claims.len() < ADDRESSES_MAX {
                claims.push(*address);
            }
        }
        claims
    }

    /// Says who of those that claim an address is believed.
    pub(super) fn settle_address(&mut self, address: &IpAddr, settling: &Uid, dirty: &mut Dirty) {
        let claim = self.addresses.get(address).filter(|_| !self.taken.contains_key(address));
        let believed = claim.into_iter().flatten().min_by_key(|uid| self.belief(uid)).cloned();
        let before = match believed.clone() {
            Some(believed) => self.holders.insert(*address, believed),
            None => self.holders.remove(address),
        };
        if before == believed {
            return;
        }
        let others = before.into_iter().chain(believed).filter(|uid| uid != settling);
        dirty.pods.extend(others);
        dirty.services.extend(self.leading_to(address));
    }

    /// By what a pod is believed that it has an address; the least is believed most. A kubelet writes the address, so that a bad one may
    /// claim any: who runs goes before who is being deleted, so that an address that is given anew is that of the next pod; who is in
    /// the mesh before who is not, so that nobody is spoken to in the clear for it; then who was there first.
    pub(super) fn belief(&self, uid: &Uid) -> (bool, bool, i64, Uid) {
        let Some(pod) = self.pods.get(uid) else { return (true, true, i64::MAX, uid.clone()) };
        let parts = &pod.news.parts;
        let namespace = self.namespaces.get(&pod.news.namespace);
        let is_in_mesh = namespace.is_some_and(|it| enrolment::is_in_mesh(&pod.news, it));
        (parts.is_leaving, !is_in_mesh, parts.created, uid.clone())
    }
}
