//! Merges uses of permissions in memory where decisions fall; a task writes them out every 30 s and at the end.
//!
//! A use that is known costs one hash, one short lock and three stores: no allocation.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Mutex,
};

use nullius_model::{AuditId, PermissionId, Plane, Timestamp, Use, UseKey};

use crate::lock::lock;

const SHARDS: usize = 16;
/// Different uses that one shard keeps apart until the next flush; what comes beyond is folded.
const USES_OF_SHARD: usize = 4_096;

/// What makes two uses the same, borrowed from the decision at hand; see [`UseKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UseRef<'a> {
    /// The plane.
    pub plane: Plane,
    /// Who, as [`nullius_model::Principal::label`].
    pub principal: &'a str,
    /// A cluster's name, or `hub`.
    pub cluster: &'a str,
    /// The verb.
    pub action: &'a str,
    /// What it acts on, without any object's name.
    pub resource: &'a str,
    /// Whether it was allowed.
    pub allowed: bool,
    /// The permission that allowed it, or the nearest that would have.
    pub permission: Option<&'a PermissionId>,
}

impl UseRef<'_> {
    fn is(&self, key: &UseKey) -> bool {
        self.allowed == key.allowed
            && self.plane == key.plane
            && self.principal == key.principal
            && self.cluster == key.cluster
            && self.action == key.action
            && self.resource == key.resource
            && self.permission == key.permission.as_ref()
    }

    fn to_key(self) -> UseKey {
        UseKey {
            plane: self.plane,
            principal: self.principal.to_owned(),
            cluster: self.cluster.to_owned(),
            action: self.action.to_owned(),
            resource: self.resource.to_owned(),
            allowed: self.allowed,
            permission: self.permission.cloned(),
        }
    }
}

/// Uses since the last flush.
#[derive(Debug, Default)]
pub struct UsageRecorder {
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, Vec<Use>>>; SHARDS],
}

impl UsageRecorder {
    /// Counts one use.
    pub fn record(&self, used: UseRef<'_>, at: Timestamp, sample: &AuditId) {
        if self.count(used, at, sample, USES_OF_SHARD) {
            return;
        }
        // Of these there are as many as principals and permissions: that needs no bound.
        let other = UseKey::FOLDED;
        let folded = UseRef { cluster: other, action: other, resource: other, ..used };
        self.count(folded, at, sample, usize::MAX);
    }

    /// Counts one use, unless it is a new one where there is no room.
    fn count(&self, used: UseRef<'_>, at: Timestamp, sample: &AuditId, room: usize) -> bool {
        let hash = self.hasher.hash_one(used);
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose a shard")]
        let shard = &self.shards[hash as usize % SHARDS];
        let mut uses = lock(shard);
        let known = uses
            .get_mut(&hash)
            .and_then(|same_hash| same_hash.iter_mut().find(|known| used.is(&known.key)));
        if let Some(known) = known {
            known.count += 1;
            known.first = known.first.min(at);
            known.last = known.last.max(at);
            return true;
        }
        if uses.len() >= room {
            return false;
        }
        uses.entry(hash).or_default().push(Use {
            key: used.to_key(),
            first: at,
            last: at,
            count: 1,
            sample: sample.clone(),
        });
        true
    }

    /// Takes what was counted, in the order of its keys.
    pub fn drain(&self) -> Vec<Use> {
        let mut all: Vec<Use> = self
            .shards
            .iter()
            .flat_map(|shard| std::mem::take(&mut *lock(shard)).into_values().flatten())
            .collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// Puts back what could not be written, so that the next flush tries again.
    pub fn put_back(&self, uses: Vec<Use>) {
        for used in uses {
            let key = UseRef {
                plane: used.key.plane,
                principal: &used.key.principal,
                cluster: &used.key.cluster,
                action: &used.key.action,
                resource: &used.key.resource,
                allowed: used.key.allowed,
                permission: used.key.permission.as_ref(),
            };
            let hash = self.hasher.hash_one(key);
            #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose a shard")]
            let mut uses = lock(&self.shards[hash as usize % SHARDS]);
            let same_hash = uses.entry(hash).or_default();
            match same_hash.iter_mut().find(|known| key.is(&known.key)) {
                Some(known) => {
                    known.count += used.count;
                    known.first = known.first.min(used.first);
                    known.last = known.last.max(used.last);
                }
                None => same_hash.push(used),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn uses_of_one_kind_become_one_row_and_a_failed_flush_loses_none() {
        let recorder = UsageRecorder::default();
        let permission = PermissionId::from_bits(1);
        let read = UseRef {
            plane: Plane::Access,
            principal: "person:ada",
            cluster: "dev",
            action: "get",
            resource: "core/pods@shop",
            allowed: true,
            permission: Some(&permission),
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let sample: AuditId = "a-1".parse().unwrap();
        recorder.record(read, at(10), &sample);
        recorder.record(read, at(5), &"a-2".parse().unwrap());
        recorder.record(UseRef { allowed: false, ..read }, at(7), &sample);
        let uses = recorder.drain();
        assert_eq!(uses.len(), 2);
        assert_eq!((uses[1].count, uses[1].first, uses[1].last), (2, at(5), at(10)));
        assert_eq!(uses[1].sample, sample);
        recorder.put_back(uses);
        recorder.record(read, at(20), &sample);
        assert_eq!(recorder.drain()[1].count, 3);
        assert!(recorder.drain().is_empty());
    }

    #[test]
    fn who_does_too_many_different_things_costs_a_bounded_memory_and_every_use_is_counted() {
        let recorder = UsageRecorder::default();
        let sample: AuditId = "a-1".parse().unwrap();
        let asked = 2 * SHARDS * USES_OF_SHARD;
        for number in 0..asked {
            let used = UseRef {
                plane: Plane::Access,
                principal: "person:eve",
                cluster: "dev",
                action: "get",
                resource: &format!("/made-up/{number}"),
                allowed: false,
                permission: None,
            };
            recorder.record(used, Timestamp::from_second(1).unwrap(), &sample);
        }
        let uses = recorder.drain();
        assert!(uses.len() <= SHARDS * USES_OF_SHARD + 1, "{}", uses.len());
        assert_eq!(uses.iter().map(|used| used.count).sum::<u64>(), asked as u64);
        let folded = uses.iter().find(|used| used.key.resource == UseKey::FOLDED).unwrap();
        assert_eq!(folded.key.principal, "person:eve");
    }
}
