//! The permission that let a request pass, as the RBAC authorizer names it: its binding and its role.

use nullius_model::{ClusterName, PermissionId};
use sha2::{Digest as _, Sha256};

const ALLOWED_BY: &str = "RBAC: allowed by ";

/// What the RBAC authorizer named as the source of a permission, `RoleBinding "read/shop" of Role "read"`; none where it was not RBAC that
/// allowed.
pub fn rbac_source(reason: &str) -> Option<&str> {
    let source = reason.strip_prefix(ALLOWED_BY)?;
    let (source, _subject) = source.split_once(" to ")?;
    let known = ["ClusterRoleBinding \"", "RoleBinding \""];
    known.iter().any(|kind| source.starts_with(kind)).then_some(source)
}

/// The stable id of that permission in a cluster: the same binding of the same role is the same permission.
pub fn rbac_permission(cluster: &ClusterName, reason: &str) -> Option<PermissionId> {
    let source = rbac_source(reason)?;
    let mut hash = Sha256::new();
    for part in ["nullius rbac permission 1", cluster.as_str(), source] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Some(PermissionId::from_bits(u128::from_be_bytes(bytes)))
}
