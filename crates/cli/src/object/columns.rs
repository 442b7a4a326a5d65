//! Objects as rows: which columns each kind has, and why a list is empty.

use nullius_model::{
    AnyObject, ClusterSelector, GrantSpec, GrantSubject, HubRole, Kind, LockTarget, Timestamp,
};

use crate::output::{Table, age, relative, relative_or_never};

/// The table of a kind.
pub(crate) fn table(kind: Kind, objects: &[AnyObject], now: Timestamp) -> Table {
    let mut table = match kind {
        Kind::User => {
            Table::new(["NAME", "DISPLAY NAME", "STATE", "GROUPS", "LAST SIGN-IN", "AGE"])
                .wide("DISPLAY NAME")
        }
        Kind::Group => Table::new(["NAME", "AGE", "DESCRIPTION"]).sentence_last(),
        Kind::Cluster => {
            Table::new(["NAME", "STATE", "VERSION", "CEILING", "LABELS", "AGE"]).wide("LABELS")
        }
        Kind::Role => Table::new(["NAME", "RULES", "AGE", "DESCRIPTION"]).sentence_last(),
        Kind::Grant => Table::new([
            "NAME",
            "SUBJECTS",
            "ROLE",
            "CLUSTERS",
            "NAMESPACES",
            "UNTIL",
            "DURATION",
            "AGE",
        ])
        .wide("DURATION"),
        Kind::Lock => Table::new(["NAME", "TARGET", "UNTIL", "AGE", "MESSAGE"]).sentence_last(),
        Kind::Federation => {
            Table::new(["NAME", "CLUSTERS", "WITH", "AGE", "DESCRIPTION"]).sentence_last()
        }
    };
    for object in objects {
        row(&mut table, object, now);
    }
    table
}

fn row(table: &mut Table, object: &AnyObject, now: Timestamp) {
    let metadata = object.metadata();
    let name = metadata.name.to_string();
    let old = age(metadata.creation_timestamp, now);
    match object {
        AnyObject::User(user) => table.row([
            name,
            user.spec.display_name.clone().unwrap_or_default(),
            user_state(
                user.spec.disabled,
                user.status.as_ref().is_some_and(|status| status.enrolled),
            ),
            join(&user.spec.groups),
            relative_or_never(user.status.as_ref().and_then(|status| status.last_sign_in), now),
            old,
        ]),
        AnyObject::Group(group) => {
            table.row([name, old, group.spec.description.clone().unwrap_or_default()]);
        }
        AnyObject::Cluster(cluster) => {
            let status = cluster.status.clone().unwrap_or_default();
            table.row([
                name,
                cluster_state(&status, now),
                status.kubernetes_version.unwrap_or_default(),
                cluster.spec.ceiling.cluster_role().to_owned(),
                join(metadata.labels.iter().map(|(key, value)| format!("{key}={value}"))),
                old,
            ]);
        }
        AnyObject::Role(role) => table.row([
            name,
            role.spec.rules.len().to_string(),
            old,
            role.spec.description.clone().unwrap_or_default(),
        ]),
        AnyObject::Grant(grant) => table.row([
            name,
            join(grant.spec.subjects.iter().map(subject)),
            granted_role(&grant.spec),
            grant.spec.clusters.as_ref().map(selector).unwrap_or_default(),
            namespaces(&grant.spec),
            grant.spec.expires.map(|at| relative(at, now)).unwrap_or_default(),
            grant.spec.duration.map(|ttl| ttl.to_string()).unwrap_or_default(),
            old,
        ]),
        AnyObject::Lock(lock) => table.row([
            name,
            target(&lock.spec.target),
            lock.spec.expires.map_or_else(|| "removed".to_owned(), |at| relative(at, now)),
            old,
            lock.spec.message.clone().unwrap_or_default(),
        ]),
        AnyObject::Federation(federation) => table.row([
            name,
            join(federation.spec.clusters.iter().map(ToString::to_string)),
            federation
                .spec
                .federates_with
                .as_ref()
                .map_or_else(|| "each other".to_owned(), |it| it.trust_domain.to_string()),
            old,
            federation.spec.description.clone().unwrap_or_default(),
        ]),
    }
}

/// Why a list of a kind is empty and what to do next.
pub(crate) fn empty(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "no users yet: `nullius user add NAME`",
        Kind::Group => "no groups yet: write a `Group` and `nullius apply -f FILE`",
        Kind::Cluster => "no clusters yet: `nullius cluster add NAME`",
        Kind::Role => "no roles yet: write a `Role` and `nullius apply -f FILE`",
        Kind::Grant => {
            "no grants yet, so nobody may reach a cluster: write a `Grant` and `nullius apply -f FILE`"
        }
        Kind::Lock => {
            "no locks: nothing is stopped; `nullius lock add --user NAME` stops somebody at once"
        }
        Kind::Federation => {
            "no federations: workloads believe those of their own cluster alone; `nullius trust federate CLUSTER CLUSTER`"
        }
    }
}

/// `active`, `not enrolled` or `disabled`.
pub(crate) fn user_state(disabled: bool, enrolled: bool) -> String {
    match (disabled, enrolled) {
        (true, _) => "disabled",
        (false, false) => "not enrolled",
        (false, true) => "active",
    }
    .to_owned()
}

/// Whether agents of a cluster are there.
pub(crate) fn cluster_state(status: &nullius_model::ClusterStatus, now: Timestamp) -> String {
    match (status.joined_at, status.agents_connected) {
        (None, _) => "not joined".to_owned(),
        (Some(_), 0) => match status.last_seen {
            Some(at) => format!("away, seen {}", relative(at, now)),
            None => "away".to_owned(),
        },
        (Some(_), 1) => "connected (1 agent)".to_owned(),
        (Some(_), agents) => format!("connected ({agents} agents)"),
    }
}

/// `user ada` or `group devs`.
pub(crate) fn subject(subject: &GrantSubject) -> String {
    match subject {
        GrantSubject::User(name) => format!("user {name}"),
        GrantSubject::Group(name) => format!("group {name}"),
    }
}

/// The role of a grant, on clusters or on the hub.
pub(crate) fn granted_role(spec: &GrantSpec) -> String {
    match (&spec.role, spec.hub_role) {
        (Some(role), _) => role.to_string(),
        (None, Some(role)) => format!("hub {}", hub_role(role)),
        (None, None) => String::new(),
    }
}

/// The word of a hub role.
pub(crate) fn hub_role(role: HubRole) -> &'static str {
    match role {
        HubRole::Admin => "admin",
        HubRole::Operator => "operator",
        HubRole::Approver => "approver",
        HubRole::Auditor => "auditor",
    }
}

/// Names and labels of a selector.
pub(crate) fn selector(selector: &ClusterSelector) -> String {
    let names = selector.names.iter().map(ToString::to_string);
    let labels = join(selector.match_labels.iter().map(|(key, value)| format!("{key}={value}")));
    join(names.chain((!labels.is_empty()).then_some(labels)))
}

/// The namespaces of a grant in words.
pub(crate) fn namespaces(spec: &GrantSpec) -> String {
    match (&spec.namespaces, &spec.clusters) {
        (Some(names), _) => join(names),
        (None, Some(_)) => "all".to_owned(),
        (None, None) => String::new(),
    }
}

/// `user eve`, `cluster dev`.
pub(crate) fn target(target: &LockTarget) -> String {
    match target {
        LockTarget::User(name) => format!("user {name}"),
        LockTarget::Group(name) => format!("group {name}"),
        LockTarget::Session(id) => format!("session {id}"),
        LockTarget::Cluster(name) => format!("cluster {name}"),
    }
}

fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}
