//! Merged uses of admission policies, as the loop keeps them.

use nullius_model::{ClusterName, Plane, Timestamp, Use, UseKey};
use nullius_proto::agent_v1::AdmissionUse;

use super::{cut, decisions, principal, resource_name, told_time};
use crate::record::new_audit_id;

/// The use that an agent tells; none where it counts nothing.
pub(super) fn of(
    cluster: &ClusterName,
    used: &AdmissionUse,
    people: &decisions::People,
    now: Timestamp,
) -> Option<Use> {
    if used.count == 0 {
        return None;
    }
    let at = match used.namespace.as_str() {
        "" => String::new(),
        namespace => format!("@{}", cut(namespace, 63)),
    };
    let resource = resource_name(&used.group, &used.resource, &used.subresource) + &at;
    let last = told_time(used.last_millis, now);
    Some(Use {
        key: UseKey {
            plane: Plane::Admission,
            principal: principal(cluster, &used.username, people).label(),
            cluster: cluster.to_string(),
            action: cut(&used.operation, 32).to_lowercase(),
            resource: nullius_audit::display_safe(&resource).into_owned(),
            allowed: used.allowed,
            permission: used.permission.parse().ok(),
        },
        first: told_time(used.first_millis, now).min(last),
        last,
        // What no cluster can do in one interval is no count.
        count: used.count.min(1 << 40),
        sample: used.sample.parse().unwrap_or_else(|_| new_audit_id()),
    })
}
