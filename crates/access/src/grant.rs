//! A grant made ready to be judged: references resolved, clusters found, permissions numbered.

use std::{collections::BTreeSet, sync::Arc};

use nullius_model::{
    ClusterName, GrantSpec, GrantSubject, HubRole, Namespace, ObjectName, PermissionId, PolicyRule,
    RoleName, Timestamp, UserName,
};
use nullius_rbac::{Attributes, Scope, Target, first_match};

use crate::{is_protected_namespace, permission};

/// A cluster's place in the snapshot.
pub(crate) type ClusterIndex = u32;

/// A role whose rules are valid.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) name: RoleName,
    pub(crate) uid: String,
    pub(crate) rules: Vec<PolicyRule>,
    pub(crate) digests: Vec<u128>,
}

/// A grant of a snapshot.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) name: ObjectName,
    pub(crate) spec: GrantSpec,
    pub(crate) gives: Gives,
}

/// What a grant gives once its references are resolved.
#[derive(Debug)]
pub(crate) enum Gives {
    /// Rights in clusters.
    Kube(KubeRights),
    /// A role on the hub's own objects.
    Hub { role: HubRole, permission: u128 },
    /// Nothing, with the reason.
    Nothing(String),
}

/// Rules of a role in some clusters, cluster-wide or in some namespaces.
#[derive(Debug)]
pub(crate) struct KubeRights {
    pub(crate) role: Arc<Role>,
    /// Sorted.
    pub(crate) clusters: Vec<ClusterIndex>,
    /// Sorted; none means cluster-wide.
    pub(crate) namespaces: Option<Vec<Namespace>>,
    /// One for each namespace (or one) and each rule, rules together.
    permissions: Vec<u128>,
}

impl KubeRights {
    pub(crate) fn new(
        grant_uid: &str,
        spec: &GrantSpec,
        role: Arc<Role>,
        clusters: Vec<ClusterIndex>,
    ) -> Self {
        let namespaces: Option<Vec<Namespace>> = spec.namespaces.as_ref().map(|namespaces| {
            let free = |namespace: &&Namespace| !is_protected_namespace(namespace.as_str());
            namespaces.iter().filter(free).cloned().collect()
        });
        let number = |namespace: Option<&Namespace>| -> Vec<u128> {
            let digests = role.digests.iter();
            digests
                .map(|rule| permission::kube_bits(grant_uid, &role.uid, *rule, namespace))
                .collect()
        };
        let permissions = match &namespaces {
            None => number(None),
            Some(namespaces) => namespaces.iter().flat_map(|name| number(Some(name))).collect(),
        };
        Self { role, clusters, namespaces, permissions }
    }

    pub(crate) fn in_cluster(&self, cluster: ClusterIndex) -> bool {
        self.clusters.binary_search(&cluster).is_ok()
    }

    fn permission(&self, scope: usize, rule: usize) -> Option<PermissionId> {
        let index = scope * self.role.rules.len() + rule;
        self.permissions.get(index).map(|bits| PermissionId::from_bits(*bits))
    }

    /// The rule that allows a request, time and cluster apart. This is the way of every request, so it allocates
    /// nothing but the id of the permission that it finds.
    pub(crate) fn allows(&self, request: &Attributes<'_>) -> Option<Match<'_>> {
        let (place, namespace) = match &self.namespaces {
            None => (0, None),
            Some(namespaces) => {
                let wanted = request.namespace();
                let place = namespaces.binary_search_by(|name| name.as_str().cmp(wanted)).ok()?;
                (place, namespaces.get(place))
            }
        };
        let scope = match namespace {
            None => Scope::Cluster,
            Some(namespace) => Scope::Namespace(namespace.as_str()),
        };
        let rule = first_match(&self.role.rules, scope, request)?;
        Some(Match { rule, namespace, permission: self.permission(place, rule) })
    }

    /// How the rights bear on a request, for people who ask why.
    pub(crate) fn reach(&self, request: &Attributes<'_>) -> Reach<'_> {
        match self.allows(request) {
            Some(found) => Reach::Allows(found),
            None if self.namespaces.is_some() => self.out_of_reach(request),
            None => Reach::NoRule,
        }
    }

    /// Whether only the namespace is in the way, and which permission would be the nearest.
    fn out_of_reach(&self, request: &Attributes<'_>) -> Reach<'_> {
        let Some(rule) = first_match(&self.role.rules, Scope::Cluster, request) else {
            return Reach::NoRule;
        };
        let nearest = self.permission(0, rule);
        match request.target {
            Target::Resource(to) if !to.namespace.is_empty() => Reach::OtherNamespace { nearest },
            Target::Resource(_) | Target::Url(_) => Reach::ClusterWide { nearest },
        }
    }
}

/// How the rights of a grant bear on a request.
#[derive(Debug)]
pub(crate) enum Reach<'a> {
    /// A rule allows it.
    Allows(Match<'a>),
    /// A rule would allow it, but not in that namespace.
    OtherNamespace { nearest: Option<PermissionId> },
    /// A rule would allow it, but the request reaches beyond any namespace.
    ClusterWide { nearest: Option<PermissionId> },
    /// No rule allows it.
    NoRule,
}

/// The rule that allows a request.
#[derive(Debug)]
pub(crate) struct Match<'a> {
    /// Its place in the role.
    pub(crate) rule: usize,
    /// The namespace of the grant that it holds in; none where it is cluster-wide.
    pub(crate) namespace: Option<&'a Namespace>,
    /// The permission.
    pub(crate) permission: Option<PermissionId>,
}

/// Whether a grant counts at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It counts, and until when.
    Live { until: Option<Timestamp> },
    /// It ended for everyone.
    Expired { at: Timestamp },
    /// The sign-in is too long ago.
    SignInTooOld { at: Timestamp },
}

impl Grant {
    /// Whether the grant counts for somebody who signed in at that instant; without one, `duration` does not count.
    pub(crate) fn life(&self, signed_in_at: Option<Timestamp>, now: Timestamp) -> Life {
        if let Some(at) = self.spec.expires
            && at <= now
        {
            return Life::Expired { at };
        }
        let from_sign_in = match (self.spec.duration, signed_in_at) {
            (Some(duration), Some(start)) => Some(duration.after(start)),
            (Some(_) | None, _) => None,
        };
        if let Some(at) = from_sign_in
            && at <= now
        {
            return Life::SignInTooOld { at };
        }
        let until = match (self.spec.expires, from_sign_in) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Life::Live { until }
    }

    pub(crate) fn is_live(&self, signed_in_at: Option<Timestamp>, now: Timestamp) -> bool {
        matches!(self.life(signed_in_at, now), Life::Live { .. })
    }

    pub(crate) fn kube(&self) -> Option<&KubeRights> {
        match &self.gives {
            Gives::Kube(rights) => Some(rights),
            Gives::Hub { .. } | Gives::Nothing(_) => None,
        }
    }

    pub(crate) fn hub(&self) -> Option<(HubRole, PermissionId)> {
        match self.gives {
            Gives::Hub { role, permission } => Some((role, PermissionId::from_bits(permission))),
            Gives::Kube(_) | Gives::Nothing(_) => None,
        }
    }

    /// Whether the grant gives rights in a cluster, time apart.
    pub(crate) fn kube_in(&self, cluster: ClusterIndex) -> Option<&KubeRights> {
        self.kube().filter(|rights| rights.in_cluster(cluster))
    }
}

/// Whether a spec names a person, directly or by a group.
pub(crate) fn names_person(
    spec: &GrantSpec,
    user: &UserName,
    groups: &BTreeSet<nullius_model::GroupName>,
) -> bool {
    spec.subjects.iter().any(|subject| match subject {
        GrantSubject::User(name) => name == user,
        GrantSubject::Group(name) => groups.contains(name),
    })
}

/// Whether a selector selects a cluster with these labels.
pub(crate) fn selects(
    selector: &nullius_model::ClusterSelector,
    cluster: &ClusterName,
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    selector.names.contains(cluster)
        || (!selector.match_labels.is_empty()
            && selector.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value)))
}
