//! Grants that name what is no more: they stay, and give nothing there until there is something of that name again.

use nullius_model::{AnyObject, GrantSpec, GrantSubject, Kind, ObjectName};

use crate::Snapshot;

/// The grants of a snapshot that name an object which is not in it, with what comes of that, a sentence each.
pub fn left_without(snapshot: &Snapshot, kind: Kind, name: &ObjectName) -> Vec<String> {
    if snapshot.object(kind, name).is_some() {
        return Vec::new();
    }
    let grants = snapshot.objects(Kind::Grant).filter_map(|object| match object {
        AnyObject::Grant(grant) => Some(grant),
        _ => None,
    });
    let told = grants.filter_map(|grant| {
        let nothing = loss(snapshot, &grant.spec, kind, name.as_str())?;
        let grant = &grant.metadata.name;
        Some(format!(
            "Grant `{grant}` names {kind} `{name}`, which is gone: it gives {nothing} until there is one of this name again; \
             if it is not meant to, delete it: `nullius delete grant {grant}`"
        ))
    });
    told.collect()
}

/// What a grant no longer gives when an object that it names is gone.
fn loss(snapshot: &Snapshot, grant: &GrantSpec, kind: Kind, name: &str) -> Option<&'static str> {
    match kind {
        Kind::Role => grant.role.as_ref().filter(|role| role.as_str() == name).map(|_| "nothing"),
        Kind::Group | Kind::User => {
            let named = grant.subjects.iter().any(|subject| match subject {
                GrantSubject::User(user) => kind == Kind::User && user.as_str() == name,
                GrantSubject::Group(group) => kind == Kind::Group && group.as_str() == name,
            });
            let others = grant.subjects.iter().any(|subject| exists(snapshot, subject));
            named.then_some(if others { "only its other subjects anything" } else { "nothing" })
        }
        Kind::Cluster => {
            let clusters = grant.clusters.as_ref()?;
            let named = clusters.names.iter().any(|cluster| cluster.as_str() == name);
            let others = !clusters.match_labels.is_empty()
                || clusters.names.iter().any(|cluster| snapshot.cluster(cluster).is_some());
            named.then_some(if others { "rights in its other clusters alone" } else { "nothing" })
        }
        Kind::Grant | Kind::Lock | Kind::Federation => None,
    }
}

fn exists(snapshot: &Snapshot, subject: &GrantSubject) -> bool {
    let (kind, name) = match subject {
        GrantSubject::User(user) => (Kind::User, user.as_str()),
        GrantSubject::Group(group) => (Kind::Group, group.as_str()),
    };
    name.parse().is_ok_and(|name| snapshot.object(kind, &name).is_some())
}
