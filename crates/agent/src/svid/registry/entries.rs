//! The entries of one pod, as its node is told them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use nullius_kube::identity::PodNews;
use nullius_model::TrustDomain;
use nullius_registration::{Container, Identity, Owner, Pod, WorkloadIdentity, identities};
use nullius_workload::{Entry, ParseSelectorError, Selector, wire::PodName};
use rustls_pki_types::DnsName;

use super::Registered;

type Name = Box<str>;

/// The entries of an enrolled pod, by their ids. The default identity has the pod's UID as its id, others begin with it. `is_new`
/// says whether something has not been told of an object yet.
pub(super) fn entries_of<'o>(
    news: &PodNews,
    domain: &TrustDomain,
    objects: impl Iterator<Item = &'o WorkloadIdentity>,
    mut is_new: impl FnMut(String) -> bool,
) -> BTreeMap<Name, Registered> {
    let (identities, unfit) = identities(&pod_of(news), domain, objects);
    for (object, why) in unfit {
        let (namespace, pod) = (&*news.namespace, &*news.name);
        if is_new(format!("WorkloadIdentity/{namespace}/{object}")) {
            tracing::warn!(
                namespace,
                object,
                pod,
                why,
                "give no identity to a pod by a WorkloadIdentity"
            );
        }
    }
    let entries = identities.into_iter().filter_map(|identity| {
        let id: Name = match &*identity.key {
            "" => news.uid.clone(),
            key => format!("{}/{key}", news.uid).into(),
        };
        match entry_of(news, identity) {
            Ok(entry) => Some((id, entry)),
            Err(error) => {
                tracing::warn!(pod = &*news.name, %error, "give no identity to a pod");
                None
            }
        }
    });
    entries.collect()
}

/// The ids of a pod's entries among those of its node.
pub(super) fn ids_of<'n>(
    on_node: &'n BTreeMap<Name, Registered>,
    uid: &'n str,
) -> impl Iterator<Item = &'n Name> {
    let from = on_node.range::<str, _>((Bound::Included(uid), Bound::Unbounded));
    from.map(|(id, _)| id).take_while(move |id| id.starts_with(uid))
}

/// Whether a pod has an entry by an object.
pub(super) fn gives(
    on_node: &BTreeMap<Name, Registered>,
    pod: &PodNews,
    object: &WorkloadIdentity,
) -> bool {
    let is_by = |id: &Name| {
        let key = id.get(pod.uid.len()..).and_then(|rest| rest.get("/0/".len()..));
        key.is_some_and(|key| key.split('/').next() == Some(object.name()))
    };
    ids_of(on_node, &pod.uid).any(is_by)
}

fn entry_of(news: &PodNews, identity: Identity) -> Result<Registered, ParseSelectorError> {
    // By what the API server alone says: annotations are free text of whoever makes a pod.
    let entry = entry(identity, Some(format!("k8s:pod-uid:{}", news.uid)))?;
    let pod = PodName {
        namespace: news.namespace.clone(),
        name: news.name.clone(),
        service_account: news.account.clone(),
    };
    let namespace = news.namespace.clone();
    Ok(Registered { entry: Arc::new(entry), namespace, pod: Some(pod) })
}

/// The entry of an identity, for what it says of processes and where they run.
pub(super) fn entry(
    identity: Identity,
    place: Option<String>,
) -> Result<Entry, ParseSelectorError> {
    let selectors = [
        place,
        identity.container.map(|id| format!("k8s:container-id:{id}")),
        identity.uid.map(|uid| format!("unix:uid:{uid}")),
        identity.gid.map(|gid| format!("unix:gid:{gid}")),
        identity.path.map(|path| format!("unix:path:{path}")),
        identity.sha256.map(|digest| format!("unix:sha256:{digest}")),
    ];
    let selectors: Result<BTreeSet<Selector>, _> =
        selectors.into_iter().flatten().map(|text| text.parse()).collect();
    Ok(Entry {
        spiffe_id: identity.spiffe_id,
        selectors: selectors?,
        ttl: identity.x509_ttl,
        jwt_ttl: identity.jwt_ttl,
        // They are names by the reading of the object.
        dns_names: identity
            .dns_names
            .into_iter()
            .filter_map(|it| DnsName::try_from(it).ok())
            .collect(),
        hint: identity.hint,
        audiences: identity.audiences,
        federates_with: identity.federates_with,
    })
}

fn pod_of(news: &PodNews) -> Pod {
    let parts = &news.parts;
    let labels =
        parts.labels.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
    let containers = parts.containers.iter().map(|container| Container {
        name: container.name.clone(),
        id: container.id.clone(),
        image: container.image.clone(),
    });
    let owner = parts.owner.as_ref();
    Pod {
        namespace: news.namespace.clone(),
        name: news.name.clone(),
        uid: news.uid.clone(),
        account: news.account.clone(),
        labels: labels.collect(),
        owner: owner.map(|(kind, name)| Owner { kind: kind.clone(), name: name.clone() }),
        containers: containers.collect(),
    }
}
