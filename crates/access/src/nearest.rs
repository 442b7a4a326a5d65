//! What to tell somebody whom no grant allows: what is in the way, and what to ask whom for.

use nullius_model::{ClusterName, Explanation, PermissionId, Reason, Timestamp};
use nullius_rbac::{Attributes, first_match};

use crate::{
    Caller, Judgement, Snapshot,
    grant::{ClusterIndex, Life, Reach, Role},
    kube::{for_everyone, rule_text},
    snapshot::Person,
};

/// The denial of a request that no live grant allows.
pub(crate) fn denial(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    person: &Person,
    cluster: &ClusterName,
    index: ClusterIndex,
    request: &Attributes<'_>,
    now: Timestamp,
) -> Judgement {
    let user = &caller.identity.user;
    let place = place(request, cluster);
    let sentence = format!("`{user}` may not {request} in {place}");
    let explanation = Explanation::new(Reason::NoGrant, sentence);

    if let Some((permission, rule, next)) = over(snapshot, caller, person, index, request, now) {
        let explanation = explanation.with_rule(rule).with_next(next);
        return Judgement::deny(explanation).nearest(permission);
    }
    let ask = whom_to_ask(snapshot, now);
    if let Some((permission, role)) = elsewhere(snapshot, person, index, request) {
        let next = format!("{ask} for a grant of role `{}` in {place}", role.name);
        return Judgement::deny(explanation.with_next(next)).nearest(permission);
    }
    let permission = of_others(snapshot, index, request);
    let next = match smallest_role(snapshot, request) {
        Some(role) => format!("{ask} for a grant of role `{}` in {place}", role.name),
        None => format!("{ask} for a role that allows to {request}, and a grant of it in {place}"),
    };
    Judgement::deny(explanation.with_next(next)).nearest(permission)
}

/// `namespace `ops` of cluster `dev`` or `cluster `dev``.
fn place(request: &Attributes<'_>, cluster: &ClusterName) -> String {
    match request.namespace() {
        "" => format!("cluster `{cluster}`"),
        namespace => {
            let shown: String = namespace.chars().take(63).flat_map(char::escape_debug).collect();
            format!("namespace `{}` of cluster `{cluster}`", shown.replace('`', "'"))
        }
    }
}

/// A grant of the caller that would allow it, had it not ended; for what everyone may do, any grant that ended.
fn over(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    person: &Person,
    cluster: ClusterIndex,
    request: &Attributes<'_>,
    now: Timestamp,
) -> Option<(Option<PermissionId>, String, String)> {
    snapshot.grants_of(person).find_map(|grant| {
        let rights = grant.kube_in(cluster)?;
        let next = match grant.life(Some(caller.identity.signed_in_at), now) {
            Life::Live { .. } => return None,
            Life::Expired { at } => {
                format!("grant `{}` ended at {at}; {} to renew it", grant.name, whom_to_ask(snapshot, now))
            }
            Life::SignInTooOld { at } => format!(
                "grant `{}` counted until {at}, some time after your sign-in; sign in again with `nullius login`",
                grant.name
            ),
        };
        match rights.reach(request) {
            Reach::Allows(found) => {
                Some((found.permission, rule_text(grant, rights, found.rule), next))
            }
            Reach::OtherNamespace { .. } | Reach::ClusterWide { .. } | Reach::NoRule => {
                for_everyone(request).then(|| (None, format!("Grant/{}", grant.name), next))
            }
        }
    })
}

/// A role that the caller has in another namespace of the cluster, or only in namespaces.
fn elsewhere<'s>(
    snapshot: &'s Snapshot,
    person: &'s Person,
    cluster: ClusterIndex,
    request: &Attributes<'_>,
) -> Option<(Option<PermissionId>, &'s Role)> {
    snapshot.grants_of(person).find_map(|grant| {
        let rights = grant.kube_in(cluster)?;
        match rights.reach(request) {
            Reach::OtherNamespace { nearest } | Reach::ClusterWide { nearest } => {
                Some((nearest, rights.role.as_ref()))
            }
            Reach::Allows(_) | Reach::NoRule => None,
        }
    })
}

/// The permission by which others do it in this cluster; only its id is told.
fn of_others(
    snapshot: &Snapshot,
    cluster: ClusterIndex,
    request: &Attributes<'_>,
) -> Option<PermissionId> {
    let mut others = snapshot.grants_in(cluster);
    others.find_map(|grant| grant.kube()?.allows(request)?.permission)
}

/// The role that allows it and otherwise as little as possible.
fn smallest_role<'s>(snapshot: &'s Snapshot, request: &Attributes<'_>) -> Option<&'s Role> {
    let scope = nullius_rbac::Scope::Cluster;
    let fitting =
        snapshot.roles().filter(|role| first_match(&role.rules, scope, request).is_some());
    fitting.min_by_key(|role| breadth(role))
}

fn breadth(role: &Role) -> usize {
    let entry = |text: &String| if text.contains('*') { 100 } else { 1 };
    let sum = |list: &[String]| list.iter().map(entry).sum::<usize>().max(1);
    let breadth_of_rule = |rule: &nullius_model::PolicyRule| {
        sum(&rule.verbs)
            .saturating_mul(sum(&rule.api_groups))
            .saturating_mul(sum(&rule.resources))
            .saturating_mul(sum(&rule.non_resource_urls))
    };
    role.rules.iter().map(breadth_of_rule).fold(0, usize::saturating_add)
}

/// `ask an admin (`ada`, `root`)`, with the names where they are few.
pub(crate) fn whom_to_ask(snapshot: &Snapshot, now: Timestamp) -> String {
    let admins = snapshot.admins(now);
    if admins.is_empty() || admins.len() > 3 {
        return "ask an admin".to_owned();
    }
    let names: Vec<String> = admins.iter().map(|user| format!("`{user}`")).collect();
    format!("ask an admin ({})", names.join(", "))
}
