//! Stable ids of permissions: a renamed file keeps its history, a changed rule is another permission.

use nullius_model::{HubRole, Namespace, PermissionId, PolicyRule};
use sha2::{Digest, Sha256};

/// A hash over parts, each with its length, so that no two lists of parts look the same.
struct Parts(Sha256);

impl Parts {
    fn of(domain: &str) -> Self {
        let mut parts = Self(Sha256::new());
        parts.add(domain.as_bytes());
        parts
    }

    fn add(&mut self, part: &[u8]) {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        self.0.update(length.to_be_bytes());
        self.0.update(part);
    }

    fn bits(self) -> u128 {
        let digest = self.0.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        u128::from_be_bytes(bytes)
    }
}

/// What a rule says, whatever the order of its entries.
pub(crate) fn rule_digest(rule: &PolicyRule) -> u128 {
    let mut parts = Parts::of("nullius rule 1");
    for list in [
        &rule.verbs,
        &rule.api_groups,
        &rule.resources,
        &rule.resource_names,
        &rule.non_resource_urls,
    ] {
        let mut entries: Vec<&str> = list.iter().map(String::as_str).collect();
        entries.sort_unstable();
        entries.dedup();
        parts.add(&u64::try_from(entries.len()).unwrap_or(u64::MAX).to_be_bytes());
        for entry in entries {
            parts.add(entry.as_bytes());
        }
    }
    parts.bits()
}

/// The permission that a rule of a role gives through a grant, in a namespace or cluster-wide.
pub(crate) fn kube_bits(
    grant_uid: &str,
    role_uid: &str,
    rule: u128,
    namespace: Option<&Namespace>,
) -> u128 {
    let mut parts = Parts::of("nullius kube permission 1");
    parts.add(grant_uid.as_bytes());
    parts.add(role_uid.as_bytes());
    parts.add(&rule.to_be_bytes());
    match namespace {
        Some(namespace) => parts.add(namespace.as_str().as_bytes()),
        None => parts.add(b"*"),
    }
    parts.bits()
}

/// The permission that a grant of a hub role gives.
pub(crate) fn hub_bits(grant_uid: &str, role: HubRole) -> u128 {
    let mut parts = Parts::of("nullius hub permission 1");
    parts.add(grant_uid.as_bytes());
    parts.add(crate::hub::role_word(role).as_bytes());
    parts.bits()
}

/// The permission that a policy gives through a binding: what it is asked of and lets pass.
#[must_use]
pub fn admission_permission(kind: &str, policy: &str, binding: &str) -> PermissionId {
    let mut parts = Parts::of("nullius admission permission 1");
    for part in [kind, policy, binding] {
        parts.add(part.as_bytes());
    }
    PermissionId::from_bits(parts.bits())
}
