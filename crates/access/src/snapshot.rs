//! All fleet objects at one revision, indexed so that a decision costs less than a microsecond.
//!
//! A snapshot never changes. An object with an error in it, or one that names what does not exist, is kept and
//! gives nothing: a mistake makes rights narrower, never wider.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use nullius_model::{
    AnyObject, ClusterName, Explanation, GrantSpec, GrantSubject, GroupName, HubRole, Kind, Object,
    ObjectName, RoleName, RoleSpec, Timestamp, TrustDomain, UserName,
};
use nullius_rbac::rule_errors;

use crate::{
    FieldError,
    grant::{ClusterIndex, Gives, Grant, KubeRights, Role, selects},
    locks::Locks,
    permission, validate,
};

/// All fleet objects at one revision.
#[derive(Debug, Default)]
pub struct Snapshot {
    revision: u64,
    objects: BTreeMap<(Kind, ObjectName), Arc<AnyObject>>,
    people: HashMap<UserName, Person>,
    clusters: HashMap<ClusterName, ClusterIndex>,
    cluster_names: Vec<ClusterName>,
    roles: BTreeMap<RoleName, Arc<Role>>,
    grants: Vec<Grant>,
    /// By cluster, the grants that give rights there.
    grants_by_cluster: Vec<Vec<usize>>,
    /// People who are not disabled, with the grants that make them admin.
    admins: Vec<(UserName, Vec<usize>)>,
    pub(crate) locks: Locks,
    problems: Vec<Problem>,
}

/// A person of a snapshot with the grants that name them.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) disabled: bool,
    /// Groups that exist and that the person is in.
    pub(crate) groups: BTreeSet<GroupName>,
    /// Indexes into the grants, in order of the grants' names.
    grants: Vec<usize>,
}

/// A cluster with its place and labels.
type LabelledCluster<'a> = (ClusterIndex, ClusterName, &'a BTreeMap<String, String>);

/// An object that is kept and gives nothing, or gives less than it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: ObjectName,
    /// What is wrong with it.
    pub errors: Vec<FieldError>,
}

/// A change that somebody wants to make.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// The object is created, or takes the place of the one with its name.
    Put(&'a AnyObject),
    /// The object goes.
    Remove(Kind, &'a ObjectName),
}

impl Snapshot {
    /// Compiles the objects of one revision.
    pub fn compile<'a>(objects: impl IntoIterator<Item = &'a AnyObject>, revision: u64) -> Self {
        let keyed = objects
            .into_iter()
            .map(|object| ((object.kind(), object.name().clone()), Arc::new(object.clone())));
        Self::compile_shared(keyed.collect(), revision)
    }

    /// The snapshot as it would be after a change.
    #[must_use]
    pub fn with(&self, change: Change<'_>) -> Self {
        let mut objects = self.objects.clone();
        match change {
            Change::Put(object) => {
                let key = (object.kind(), object.name().clone());
                objects.insert(key, Arc::new(object.clone()));
            }
            Change::Remove(kind, name) => {
                objects.remove(&(kind, name.clone()));
            }
        }
        Self::compile_shared(objects, self.revision)
    }

    fn compile_shared(
        objects: BTreeMap<(Kind, ObjectName), Arc<AnyObject>>,
        revision: u64,
    ) -> Self {
        let mut snapshot = Self { revision, objects, ..Self::default() };
        snapshot.add_clusters();
        snapshot.add_roles();
        snapshot.add_locks();
        snapshot.add_grants();
        snapshot.add_people();
        snapshot.find_problems();
        snapshot
    }

    /// The revision of the store that this is.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// One object.
    pub fn object(&self, kind: Kind, name: &ObjectName) -> Option<&AnyObject> {
        self.objects.get(&(kind, name.clone())).map(Arc::as_ref)
    }

    /// All objects of a kind, in order of their names.
    pub fn objects(&self, kind: Kind) -> impl Iterator<Item = &AnyObject> {
        let all = self.objects.iter();
        all.filter(move |((of, _), _)| *of == kind).map(|(_, object)| object.as_ref())
    }

    /// The cluster that has a trust domain.
    pub fn cluster_of_domain(&self, domain: &TrustDomain) -> Option<&ObjectName> {
        self.objects(Kind::Cluster).find_map(|object| match object {
            AnyObject::Cluster(it) => {
                let name = &it.metadata.name;
                it.spec.has_trust_domain(name.as_str(), domain).then_some(name)
            }
            _ => None,
        })
    }

    /// Federations with a trust domain of somebody else.
    pub fn federations_with<'s>(
        &'s self,
        domain: &'s TrustDomain,
    ) -> impl Iterator<Item = &'s ObjectName> {
        self.objects(Kind::Federation).filter_map(move |object| match object {
            AnyObject::Federation(it) => {
                let foreign = it.spec.federates_with.as_ref()?;
                (foreign.trust_domain == *domain).then_some(&it.metadata.name)
            }
            _ => None,
        })
    }

    /// A federation that names a cluster.
    pub fn federation_of(&self, cluster: &str) -> Option<&ObjectName> {
        self.objects(Kind::Federation).find_map(|object| match object {
            AnyObject::Federation(it) => {
                let is_named = it.spec.clusters.iter().any(|named| named.as_str() == cluster);
                is_named.then_some(&it.metadata.name)
            }
            _ => None,
        })
    }

    /// Objects that give nothing, or less than they say, each with why.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether a cluster is known.
    pub fn knows_cluster(&self, cluster: &ClusterName) -> bool {
        self.clusters.contains_key(cluster)
    }

    /// The groups that a person is in and that exist.
    pub fn groups_of(&self, user: &UserName) -> BTreeSet<GroupName> {
        self.people.get(user).map(|person| person.groups.clone()).unwrap_or_default()
    }

    /// Whether a person exists and is not disabled, and so may sign in.
    pub fn may_sign_in(&self, user: &UserName) -> bool {
        self.people.get(user).is_some_and(|person| !person.disabled)
    }

    /// Why a cluster is locked, where it is.
    pub fn lock_on_cluster(&self, cluster: &ClusterName, now: Timestamp) -> Option<Explanation> {
        self.locks.on_cluster(cluster, now)
    }

    /// The people whom a live grant makes admin and whom no lock stops, by name.
    pub fn admins(&self, now: Timestamp) -> BTreeSet<UserName> {
        let live =
            |index: &usize| self.grants.get(*index).is_some_and(|grant| grant.is_live(None, now));
        let free = |user: &UserName| {
            let person = self.people.get(user);
            person.is_some_and(|it| self.locks.on_user(user, &it.groups, now).is_none())
        };
        let admins = self.admins.iter();
        let admins = admins.filter(|(user, grants)| grants.iter().any(live) && free(user));
        admins.map(|(user, _)| user.clone()).collect()
    }

    pub(crate) fn person(&self, user: &UserName) -> Option<&Person> {
        self.people.get(user)
    }

    pub(crate) fn people(&self) -> impl Iterator<Item = (&UserName, &Person)> {
        self.people.iter()
    }

    pub(crate) fn cluster(&self, name: &ClusterName) -> Option<ClusterIndex> {
        self.clusters.get(name).copied()
    }

    pub(crate) fn cluster_name(&self, index: ClusterIndex) -> Option<&ClusterName> {
        self.cluster_names.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn role(&self, name: &RoleName) -> Option<&Arc<Role>> {
        self.roles.get(name)
    }

    pub(crate) fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values().map(Arc::as_ref)
    }

    pub(crate) fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter()
    }

    /// The grants that name a person, in order of their names.
    pub(crate) fn grants_of(&self, person: &Person) -> impl Iterator<Item = &Grant> {
        person.grants.iter().filter_map(|index| self.grants.get(*index))
    }

    /// The grants that give rights in a cluster, in order of their names.
    pub(crate) fn grants_in(&self, cluster: ClusterIndex) -> impl Iterator<Item = &Grant> {
        let place = usize::try_from(cluster).ok();
        let grants = place.and_then(|place| self.grants_by_cluster.get(place));
        grants.into_iter().flatten().filter_map(|index| self.grants.get(*index))
    }

    pub(crate) fn has(&self, kind: Kind, name: &str) -> bool {
        name.parse().is_ok_and(|name: ObjectName| self.objects.contains_key(&(kind, name)))
    }

    fn add_clusters(&mut self) {
        for object in self.objects.values() {
            let AnyObject::Cluster(cluster) = object.as_ref() else { continue };
            let Ok(name) = cluster.metadata.name.as_str().parse::<ClusterName>() else { continue };
            let Ok(index) = ClusterIndex::try_from(self.cluster_names.len()) else { continue };
            self.clusters.insert(name.clone(), index);
            self.cluster_names.push(name);
        }
    }

    fn add_roles(&mut self) {
        for object in self.objects.values() {
            let AnyObject::Role(role) = object.as_ref() else { continue };
            if let Some(role) = ready_role(role) {
                self.roles.insert(role.name.clone(), Arc::new(role));
            }
        }
    }

    fn add_locks(&mut self) {
        for object in self.objects.values() {
            let AnyObject::Lock(lock) = object.as_ref() else { continue };
            self.locks.add(&lock.metadata.name, &lock.spec);
        }
    }

    fn add_grants(&mut self) {
        let mut labelled = Vec::new();
        let mut grants = Vec::new();
        for object in self.objects.values() {
            let AnyObject::Cluster(cluster) = object.as_ref() else { continue };
            let Ok(name) = cluster.metadata.name.as_str().parse::<ClusterName>() else { continue };
            let Some(index) = self.cluster(&name) else { continue };
            labelled.push((index, name, &cluster.metadata.labels));
        }
        for object in self.objects.values() {
            let AnyObject::Grant(grant) = object.as_ref() else { continue };
            grants.push(Grant {
                name: grant.metadata.name.clone(),
                gives: self.resolve(grant, &labelled),
                spec: grant.spec.clone(),
            });
        }
        let mut by_cluster = vec![Vec::new(); self.cluster_names.len()];
        for (index, grant) in grants.iter().enumerate() {
            for cluster in grant.kube().into_iter().flat_map(|rights| &rights.clusters) {
                let place = usize::try_from(*cluster).ok();
                if let Some(grants) = place.and_then(|place| by_cluster.get_mut(place)) {
                    grants.push(index);
                }
            }
        }
        self.grants_by_cluster = by_cluster;
        self.grants = grants;
    }

    fn resolve(&self, grant: &Object<GrantSpec>, clusters: &[LabelledCluster<'_>]) -> Gives {
        let spec = &grant.spec;
        let uid = grant.metadata.uid.as_deref().unwrap_or(grant.metadata.name.as_str());
        let (role, selector) = match (&spec.role, &spec.clusters, spec.hub_role) {
            (None, None, Some(role)) if spec.namespaces.is_none() => {
                return Gives::Hub { role, permission: permission::hub_bits(uid, role) };
            }
            (Some(role), Some(selector), None) => (role, selector),
            _ => return Gives::Nothing("it is neither a role in clusters nor a hub role".into()),
        };
        let Some(role) = self.roles.get(role) else {
            return Gives::Nothing(format!("role `{role}` does not exist or has errors"));
        };
        if spec.namespaces.as_ref().is_some_and(BTreeSet::is_empty) {
            return Gives::Nothing("its list of namespaces is empty".into());
        }
        let mut selected: Vec<ClusterIndex> = if selector.match_labels.is_empty() {
            selector.names.iter().filter_map(|name| self.cluster(name)).collect()
        } else {
            let all = clusters.iter().filter(|(_, name, labels)| selects(selector, name, labels));
            all.map(|(index, ..)| *index).collect()
        };
        selected.sort_unstable();
        Gives::Kube(KubeRights::new(uid, spec, Arc::clone(role), selected))
    }

    fn add_people(&mut self) {
        let mut by_user: HashMap<&UserName, Vec<usize>> = HashMap::new();
        let mut by_group: HashMap<&GroupName, Vec<usize>> = HashMap::new();
        for (index, grant) in self.grants.iter().enumerate() {
            for subject in &grant.spec.subjects {
                match subject {
                    GrantSubject::User(user) => by_user.entry(user).or_default().push(index),
                    GrantSubject::Group(group) => by_group.entry(group).or_default().push(index),
                }
            }
        }
        let mut people = HashMap::new();
        let mut admins = Vec::new();
        for object in self.objects.values() {
            let AnyObject::User(user) = object.as_ref() else { continue };
            let Ok(name) = user.metadata.name.as_str().parse::<UserName>() else { continue };
            let exists = |group: &&GroupName| self.has(Kind::Group, group.as_str());
            let groups: BTreeSet<GroupName> =
                user.spec.groups.iter().filter(exists).cloned().collect();
            let direct = by_user.get(&name).into_iter().flatten();
            let through = groups.iter().filter_map(|group| by_group.get(group)).flatten();
            let grants: BTreeSet<usize> = direct.chain(through).copied().collect();
            let disabled = user.spec.disabled;
            let is_admin = |index: &usize| {
                let role = self.grants.get(*index).and_then(Grant::hub);
                role.is_some_and(|(role, _)| role == HubRole::Admin)
            };
            let admin: Vec<usize> = grants.iter().copied().filter(is_admin).collect();
            if !disabled && !admin.is_empty() {
                admins.push((name.clone(), admin));
            }
            people.insert(name, Person { disabled, groups, grants: grants.into_iter().collect() });
        }
        self.people = people;
        self.admins = admins;
    }

    fn find_problems(&mut self) {
        let mut problems = Vec::new();
        for object in self.objects.values() {
            if let Err(errors) = validate(object, self) {
                problems.push(Problem { kind: object.kind(), name: object.name().clone(), errors });
            }
        }
        self.problems = problems;
    }
}

/// A role with valid name and rules.
pub(crate) fn ready_role(role: &Object<RoleSpec>) -> Option<Role> {
    let name: RoleName = role.metadata.name.as_str().parse().ok()?;
    if !rule_errors(&role.spec.rules).is_empty() {
        return None;
    }
    Some(Role {
        uid: role.metadata.uid.clone().unwrap_or_else(|| name.to_string()),
        name,
        digests: role.spec.rules.iter().map(permission::rule_digest).collect(),
        rules: role.spec.rules.clone(),
    })
}
