//! Locks by what they cover, found without walking all of them.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Display,
    hash::Hash,
};

use nullius_model::{
    ClusterName, Explanation, GroupName, LockSpec, LockTarget, ObjectName, Reason, SessionId,
    Timestamp, UserName,
};

/// The locks of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    users: HashMap<UserName, Vec<Lock>>,
    groups: HashMap<GroupName, Vec<Lock>>,
    sessions: HashMap<SessionId, Vec<Lock>>,
    clusters: HashMap<ClusterName, Vec<Lock>>,
}

#[derive(Debug)]
struct Lock {
    name: ObjectName,
    message: Option<String>,
    expires: Option<Timestamp>,
}

impl Locks {
    pub(crate) fn add(&mut self, name: &ObjectName, spec: &LockSpec) {
        let lock =
            Lock { name: name.clone(), message: spec.message.clone(), expires: spec.expires };
        match &spec.target {
            LockTarget::User(user) => self.users.entry(user.clone()).or_default(),
            LockTarget::Group(group) => self.groups.entry(group.clone()).or_default(),
            LockTarget::Session(session) => self.sessions.entry(session.clone()).or_default(),
            LockTarget::Cluster(cluster) => self.clusters.entry(cluster.clone()).or_default(),
        }
        .push(lock);
    }

    /// Why a session is locked.
    pub(crate) fn on_session(&self, session: &SessionId, now: Timestamp) -> Option<Explanation> {
        live(&self.sessions, session, now).map(|lock| lock.explain("this session", &""))
    }

    /// Why a cluster is locked.
    pub(crate) fn on_cluster(&self, cluster: &ClusterName, now: Timestamp) -> Option<Explanation> {
        live(&self.clusters, cluster, now).map(|lock| lock.explain("cluster", cluster))
    }

    /// Why a person is locked, by name or by one of their groups.
    pub(crate) fn on_user(
        &self,
        user: &UserName,
        groups: &BTreeSet<GroupName>,
        now: Timestamp,
    ) -> Option<Explanation> {
        if let Some(lock) = live(&self.users, user, now) {
            return Some(lock.explain("user", user));
        }
        groups.iter().find_map(|group| {
            live(&self.groups, group, now).map(|lock| lock.explain("group", group))
        })
    }
}

fn live<'a, K: Hash + Eq>(
    locks: &'a HashMap<K, Vec<Lock>>,
    target: &K,
    now: Timestamp,
) -> Option<&'a Lock> {
    if locks.is_empty() {
        return None;
    }
    locks.get(target)?.iter().find(|lock| lock.expires.is_none_or(|end| now < end))
}

impl Lock {
    fn explain(&self, what: &str, name: &dyn Display) -> Explanation {
        let name = name.to_string();
        let covered = if name.is_empty() {
            format!("{what} is locked")
        } else {
            format!("{what} `{name}` is locked")
        };
        let sentence = match (&self.message, self.expires) {
            (Some(message), _) => format!("{covered}: {message}"),
            (None, Some(end)) => format!("{covered} until {end}"),
            (None, None) => covered,
        };
        Explanation::new(Reason::Locked, sentence)
            .with_rule(format!("Lock/{}", self.name))
            .with_next("ask an admin or approver to remove the lock")
    }
}
