//! Two bounds on every change: nobody grants to themselves, and only admins grant what they lack.
//!
//! Both are judged by effect: the snapshot is compiled with the change in it, and what each person may do
//! afterwards is compared with before. So a relabelled cluster, a revived group or a widened role counts as what
//! it is. Grants and roles are judged by their text as well, since they may take effect later.

use std::collections::{BTreeMap, BTreeSet};

use nullius_model::{
    AnyObject, ClusterName, Explanation, GrantSpec, GroupName, HubRole, Kind, Namespace,
    ObjectName, PolicyRule, Reason, RoleSpec, Timestamp, UserName,
};
use nullius_rbac::{Missing, covers};

use super::{HubAction, role_word};
use crate::{
    Caller, Snapshot,
    grant::{Gives, Grant, KubeRights, Life, names_person},
    nearest::whom_to_ask,
    snapshot::{Change, Person},
};

/// Whoever wants to change something, and the state before.
pub(super) struct Bounds<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) caller: &'a Caller<'a>,
    pub(super) person: &'a Person,
    pub(super) now: Timestamp,
}

/// Whose rights count as held when a gain is looked for.
#[derive(Clone, Copy)]
enum Held<'a> {
    /// Those that the gaining person has before.
    Before(Option<&'a Person>),
    /// Those, and those of whoever makes the change.
    BeforeOrCaller(Option<&'a Person>),
}

impl Bounds<'_> {
    /// Why a change is refused, whatever the hub role allows otherwise.
    pub(super) fn crossed(
        &self,
        action: &HubAction<'_>,
        change: Change<'_>,
        role: HubRole,
    ) -> Option<Explanation> {
        if action.kind() == Some(Kind::Lock) {
            return None;
        }
        let after = self.snapshot.with(change);
        self.grants_to_self(change).or_else(|| self.gains_for_self(action, &after)).or_else(|| {
            match role {
                HubRole::Admin => None,
                HubRole::Operator | HubRole::Approver | HubRole::Auditor => {
                    self.beyond_text(action).or_else(|| self.gains_for_others(action, &after))
                }
            }
        })
    }

    /// Why somebody may not set the factors of another person anew: they would become more than they are.
    pub(super) fn beyond_as(&self, user: &UserName, role: HubRole) -> Option<Explanation> {
        if role == HubRole::Admin || *user == self.caller.identity.user {
            return None;
        }
        let target = self.snapshot.person(user)?;
        let more = self.first_gain(self.snapshot, target, Held::BeforeOrCaller(None), None)?;
        Some(self.escalation(&format!("`{user}` may {more}, which `{}` may not", self.me())))
    }

    fn me(&self) -> &UserName {
        &self.caller.identity.user
    }

    /// Groups of the caller, those that do not exist too.
    fn my_groups(&self) -> BTreeSet<GroupName> {
        let mut groups = self.caller.identity.groups.clone();
        groups.extend(self.stored_user(self.me()));
        groups
    }

    fn stored_user(&self, user: &UserName) -> BTreeSet<GroupName> {
        match self.stored(Kind::User, user.as_str()) {
            Some(AnyObject::User(user)) => user.spec.groups.clone(),
            _ => BTreeSet::new(),
        }
    }

    fn stored(&self, kind: Kind, name: &str) -> Option<&AnyObject> {
        self.snapshot.object(kind, &name.parse::<ObjectName>().ok()?)
    }

    fn stored_grant(&self, name: &ObjectName) -> Option<&GrantSpec> {
        match self.snapshot.object(Kind::Grant, name)? {
            AnyObject::Grant(grant) => Some(&grant.spec),
            _ => None,
        }
    }

    fn stored_role(&self, name: &ObjectName) -> Option<&RoleSpec> {
        match self.snapshot.object(Kind::Role, name)? {
            AnyObject::Role(role) => Some(&role.spec),
            _ => None,
        }
    }

    /// A change that by its text grants to whoever makes it.
    fn grants_to_self(&self, change: Change<'_>) -> Option<Explanation> {
        let Change::Put(object) = change else { return None };
        let groups = self.my_groups();
        let names_me = |spec: &GrantSpec| names_person(spec, self.me(), &groups);
        let me = self.me();
        match object {
            AnyObject::Grant(grant) => {
                let before = self.stored_grant(&grant.metadata.name).filter(|spec| names_me(spec));
                let narrower = before.is_some_and(|before| is_within(&grant.spec, before));
                (names_me(&grant.spec) && !narrower).then(|| {
                    let name = &grant.metadata.name;
                    self.self_grant(&format!("grant `{name}` names `{me}`, who wants to make it"))
                })
            }
            AnyObject::User(user) if user.metadata.name.as_str() == me.as_str() => {
                let joined = user.spec.groups.difference(&self.stored_user(me)).next().cloned();
                joined.map(|group| self.self_grant(&format!("`{me}` would join group `{group}`")))
            }
            AnyObject::Role(role) => {
                let name = &role.metadata.name;
                let mine = self.snapshot.grants().any(|grant| {
                    let uses = grant.spec.role.as_ref().map(|role| role.as_str());
                    uses == Some(name.as_str()) && names_me(&grant.spec)
                });
                let before = self.stored_role(name).map_or(&[][..], |spec| &spec.rules);
                let widened = covers(before, &role.spec.rules).err().filter(|_| mine)?;
                let more = first(&widened);
                Some(self.self_grant(&format!("role `{name}` would let `{me}` {more}")))
            }
            AnyObject::User(_)
            | AnyObject::Group(_)
            | AnyObject::Cluster(_)
            | AnyObject::Lock(_)
            | AnyObject::Federation(_) => None,
        }
    }

    /// A change after which whoever makes it may do more than before.
    fn gains_for_self(&self, action: &HubAction<'_>, after: &Snapshot) -> Option<Explanation> {
        let me_after = after.person(self.me()).filter(|person| !person.disabled)?;
        let gain =
            self.first_gain(after, me_after, Held::Before(Some(self.person)), new_cluster(action))?;
        Some(self.self_grant(&format!("`{}` could {gain} afterwards", self.me())))
    }

    /// A change after which somebody else may do more than before, and more than whoever makes it.
    fn gains_for_others(&self, action: &HubAction<'_>, after: &Snapshot) -> Option<Explanation> {
        let mut people: Vec<_> = after
            .people()
            .filter(|(user, person)| *user != self.me() && !person.disabled)
            .collect();
        people.sort_unstable_by_key(|(user, _)| *user);
        people.into_iter().find_map(|(user, person)| {
            let before = self.snapshot.person(user).filter(|person| !person.disabled);
            let held = Held::BeforeOrCaller(before);
            let gain = self.first_gain(after, person, held, new_cluster(action))?;
            let me = self.me();
            Some(
                self.escalation(&format!("`{user}` could {gain} afterwards, which `{me}` may not")),
            )
        })
    }

    /// A grant or role, as it was or as it would be, that gives what an operator does not hold.
    fn beyond_text(&self, action: &HubAction<'_>) -> Option<Explanation> {
        let (told, wanted) = match *action {
            HubAction::Create { object } => (None, Some(object)),
            HubAction::Update { before, after } => (Some(before), Some(after)),
            HubAction::Delete { object } => (Some(object), None),
            _ => return None,
        };
        let object = told.or(wanted)?;
        let (kind, name) = (object.kind(), object.name());
        let stored = self.snapshot.object(kind, name);
        let missing =
            stored.into_iter().chain(told).chain(wanted).find_map(|object| match object {
                AnyObject::Grant(grant) => self.lacks_for_grant(&grant.spec),
                AnyObject::Role(role) => self.lacks_anywhere(&role.spec.rules),
                AnyObject::User(_)
                | AnyObject::Group(_)
                | AnyObject::Cluster(_)
                | AnyObject::Lock(_)
                | AnyObject::Federation(_) => None,
            })?;
        let me = self.me();
        Some(self.escalation(&format!(
            "{kind} `{name}` gives the right to {missing}, which `{me}` lacks"
        )))
    }

    /// What a grant gives that the caller does not hold in the same clusters and namespaces, as long.
    fn lacks_for_grant(&self, spec: &GrantSpec) -> Option<String> {
        if let Some(role) = spec.hub_role {
            return Some(format!("act as hub role `{}`", role_word(role)));
        }
        let (Some(role), Some(selector)) = (&spec.role, &spec.clusters) else { return None };
        let Some(role) = self.snapshot.role(role) else {
            return Some(format!("whatever role `{role}` will hold"));
        };
        for scope in scopes(spec.namespaces.as_ref()) {
            let given = rules_in(&role.rules, scope);
            for cluster in &selector.names {
                let held = self.my_rules(spec, scope, |grant, rights| {
                    selects_name(grant, rights, self.snapshot, cluster)
                });
                if let Err(missing) = covers(&held, &given) {
                    return Some(tell(&missing, cluster.as_str(), scope));
                }
            }
            if !selector.match_labels.is_empty() {
                let held = self.my_rules(spec, scope, |grant, _| {
                    selects_labels(&grant.spec, &selector.match_labels)
                });
                if let Err(missing) = covers(&held, &given) {
                    return Some(tell(&missing, "of those labels", scope));
                }
            }
        }
        None
    }

    /// What rules give that the caller holds in no cluster at all.
    fn lacks_anywhere(&self, rules: &[PolicyRule]) -> Option<String> {
        let mine = self.my_live_grants().flat_map(|(_, rights)| rights.role.rules.iter().cloned());
        let held: Vec<PolicyRule> = mine.collect();
        covers(&held, rules).err().map(|missing| first(&missing))
    }

    fn my_live_grants(&self) -> impl Iterator<Item = (&Grant, &KubeRights)> {
        let signed_in_at = Some(self.caller.identity.signed_in_at);
        let live = move |grant: &&Grant| grant.is_live(signed_in_at, self.now);
        let grants = self.snapshot.grants_of(self.person).filter(live);
        grants.filter_map(|grant| Some((grant, grant.kube()?)))
    }

    /// The caller's rules in a scope that last as long as what `given` gives.
    fn my_rules(
        &self,
        given: &GrantSpec,
        scope: Option<&Namespace>,
        in_clusters: impl Fn(&Grant, &KubeRights) -> bool,
    ) -> Vec<PolicyRule> {
        let fits = self.my_live_grants().filter(|(grant, rights)| {
            lasts(&grant.spec, given) && reaches(rights, scope) && in_clusters(grant, rights)
        });
        fits.flat_map(|(_, rights)| rights.role.rules.iter().cloned()).collect()
    }

    /// The first right that a person has in `after` and that does not count as held before.
    fn first_gain(
        &self,
        after: &Snapshot,
        person: &Person,
        held: Held<'_>,
        new_cluster: Option<&str>,
    ) -> Option<String> {
        let before = match held {
            Held::Before(before) | Held::BeforeOrCaller(before) => before,
        };
        after.grants_of(person).find_map(|grant| {
            if matches!(grant.life(None, self.now), Life::Expired { .. }) {
                return None;
            }
            match &grant.gives {
                Gives::Nothing(_) => None,
                Gives::Hub { role, .. } => {
                    let had = before.is_some_and(|before| {
                        self.snapshot.grants_of(before).any(|old| {
                            old.hub().is_some_and(|(had, _)| had == *role)
                                && lasts(&old.spec, &grant.spec)
                        })
                    });
                    (!had).then(|| format!("act as hub role `{}`", role_word(*role)))
                }
                Gives::Kube(rights) => {
                    self.first_kube_gain(after, grant, rights, held, before, new_cluster)
                }
            }
        })
    }

    fn first_kube_gain(
        &self,
        after: &Snapshot,
        grant: &Grant,
        rights: &KubeRights,
        held: Held<'_>,
        before: Option<&Person>,
        new_cluster: Option<&str>,
    ) -> Option<String> {
        let old: Vec<(&Grant, &KubeRights)> = before
            .into_iter()
            .flat_map(|before| self.snapshot.grants_of(before))
            .filter(|old| lasts(&old.spec, &grant.spec))
            .filter_map(|old| Some((old, old.kube()?)))
            .collect();
        for index in &rights.clusters {
            let Some(cluster) = after.cluster_name(*index) else { continue };
            if new_cluster == Some(cluster.as_str()) {
                continue;
            }
            let in_cluster = |rights: &KubeRights| {
                self.snapshot.cluster(cluster).is_some_and(|index| rights.in_cluster(index))
            };
            let namespaces = grant.spec.namespaces.as_ref().filter(|_| rights.namespaces.is_some());
            for scope in scopes(namespaces) {
                let same = old.iter().any(|(old, had)| {
                    old.name == grant.name
                        && had.role.rules == rights.role.rules
                        && in_cluster(had)
                        && reaches(had, scope)
                });
                if same {
                    continue;
                }
                let mut rules: Vec<PolicyRule> = old
                    .iter()
                    .filter(|(_, had)| in_cluster(had) && reaches(had, scope))
                    .flat_map(|(_, had)| had.role.rules.iter().cloned())
                    .collect();
                if let Held::BeforeOrCaller(_) = held {
                    rules.extend(self.my_rules(&grant.spec, scope, |_, mine| in_cluster(mine)));
                }
                if let Err(missing) = covers(&rules, &rules_in(&rights.role.rules, scope)) {
                    return Some(tell(&missing, cluster.as_str(), scope));
                }
            }
        }
        None
    }

    fn self_grant(&self, fact: &str) -> Explanation {
        let sentence = format!("{fact}, and nobody grants to themselves");
        let next = match whom_to_ask_but(self.snapshot, self.me(), self.now) {
            Some(others) => format!("ask another admin ({others}) to do it"),
            None => "ask another admin to do it".to_owned(),
        };
        Explanation::new(Reason::SelfGrant, sentence).with_next(next)
    }

    fn escalation(&self, fact: &str) -> Explanation {
        let next = format!("{} to do it", whom_to_ask(self.snapshot, self.now));
        Explanation::new(
            Reason::Escalation,
            format!("{fact}; nobody gives or takes what they lack"),
        )
        .with_next(next)
    }
}

/// The admins but one person, where they are few.
fn whom_to_ask_but(snapshot: &Snapshot, me: &UserName, now: Timestamp) -> Option<String> {
    let admins = snapshot.admins(now);
    let others: Vec<String> =
        admins.iter().filter(|user| *user != me).map(|user| format!("`{user}`")).collect();
    (1..=3).contains(&others.len()).then(|| others.join(", "))
}

/// A cluster that did not exist before: grants that select it were made with it in mind.
fn new_cluster<'a>(action: &HubAction<'a>) -> Option<&'a str> {
    match *action {
        HubAction::Create { object: AnyObject::Cluster(cluster) } => {
            Some(cluster.metadata.name.as_str())
        }
        _ => None,
    }
}

/// Whether one grant lasts at least as long as another.
fn lasts(held: &GrantSpec, given: &GrantSpec) -> bool {
    let within = |held: Option<i128>, given: Option<i128>| match (held, given) {
        (None, _) => true,
        (Some(held), Some(given)) => given <= held,
        (Some(_), None) => false,
    };
    let end = |spec: &GrantSpec| spec.expires.map(Timestamp::as_nanosecond);
    let length = |spec: &GrantSpec| spec.duration.map(|ttl| i128::from(ttl.as_secs()));
    within(end(held), end(given)) && within(length(held), length(given))
}

/// Whether a grant gives its subjects nothing that another did not.
fn is_within(spec: &GrantSpec, before: &GrantSpec) -> bool {
    let namespaces = match (&before.namespaces, &spec.namespaces) {
        (None, _) => true,
        (Some(before), Some(after)) => after.is_subset(before),
        (Some(_), None) => false,
    };
    let clusters = match (&before.clusters, &spec.clusters) {
        (Some(before), Some(after)) => {
            let labels = after.match_labels.is_empty()
                || (!before.match_labels.is_empty()
                    && has_all(&after.match_labels, &before.match_labels));
            after.names.is_subset(&before.names) && labels
        }
        (before, after) => before == after,
    };
    spec.role == before.role
        && spec.hub_role == before.hub_role
        && namespaces
        && clusters
        && lasts(before, spec)
}

fn has_all(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a grant selects every cluster that has these labels.
fn selects_labels(spec: &GrantSpec, labels: &BTreeMap<String, String>) -> bool {
    spec.clusters.as_ref().is_some_and(|selector| {
        !selector.match_labels.is_empty() && has_all(labels, &selector.match_labels)
    })
}

/// Whether a grant selects a cluster by name, one that does not exist yet too.
fn selects_name(
    grant: &Grant,
    rights: &KubeRights,
    snapshot: &Snapshot,
    cluster: &ClusterName,
) -> bool {
    let by_name =
        grant.spec.clusters.as_ref().is_some_and(|selector| selector.names.contains(cluster));
    by_name || snapshot.cluster(cluster).is_some_and(|index| rights.in_cluster(index))
}

/// Whether rights hold in a namespace, or cluster-wide where none is asked for.
fn reaches(rights: &KubeRights, scope: Option<&Namespace>) -> bool {
    match (&rights.namespaces, scope) {
        (None, _) => true,
        (Some(namespaces), Some(scope)) => namespaces.contains(scope),
        (Some(_), None) => false,
    }
}

/// The places that rights hold in: each namespace, or once cluster-wide.
fn scopes(namespaces: Option<&BTreeSet<Namespace>>) -> Vec<Option<&Namespace>> {
    match namespaces {
        None => vec![None],
        Some(namespaces) => namespaces.iter().map(Some).collect(),
    }
}

/// The rules that mean something in a scope: URLs only cluster-wide.
fn rules_in(rules: &[PolicyRule], scope: Option<&Namespace>) -> Vec<PolicyRule> {
    let counts = |rule: &&PolicyRule| scope.is_none() || rule.non_resource_urls.is_empty();
    rules.iter().filter(counts).cloned().collect()
}

fn first(missing: &[Missing]) -> String {
    missing.first().map(ToString::to_string).unwrap_or_default()
}

fn tell(missing: &[Missing], cluster: &str, scope: Option<&Namespace>) -> String {
    let more = first(missing);
    match scope {
        Some(namespace) => format!("{more} in namespace `{namespace}` of cluster `{cluster}`"),
        None => format!("{more} in cluster `{cluster}`"),
    }
}
