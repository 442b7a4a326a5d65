//! The identities of one pod, and of processes of machines.

use std::collections::BTreeSet;

use nullius_model::{Namespace, SpiffeId, TrustDomain, Ttl};

use crate::{
    object::{JWT_TTL, WorkloadIdentity, X509_TTL},
    pod::Pod,
};

/// An identity that processes of a pod may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What tells it from others of the pod; in the order of these a process sees its identities, the default one first.
    pub key: Box<str>,
    /// The identity.
    pub spiffe_id: SpiffeId,
    /// The container whose processes have it; `None` stands for all.
    pub container: Option<Box<str>>,
    /// The user that must run them.
    pub uid: Option<u32>,
    /// The group that must run them.
    pub gid: Option<u32>,
    /// The path of what they must execute; on machines alone.
    pub path: Option<Box<str>>,
    /// The digest of what they must execute, in hexadecimal digits.
    pub sha256: Option<Box<str>>,
    /// How long an X.509-SVID lives.
    pub x509_ttl: Ttl,
    /// How long a JWT-SVID lives.
    pub jwt_ttl: Ttl,
    /// DNS names of certificates.
    pub dns_names: BTreeSet<String>,
    /// What it is for, where a workload has several.
    pub hint: Option<Box<str>>,
    /// Whom JWT-SVIDs may be for; anybody where it is empty.
    pub audiences: BTreeSet<String>,
    /// Trust domains whose bundles the workload is given.
    pub federates_with: BTreeSet<TrustDomain>,
}

/// The most identities that objects give one pod; what comes later in their order is left out.
pub const IDENTITIES_MAX: usize = 64;

/// The identities of an enrolled pod, and the names of objects that are for it and give it none, with the reason.
pub fn identities<'o>(
    pod: &Pod,
    domain: &TrustDomain,
    objects: impl IntoIterator<Item = &'o WorkloadIdentity>,
) -> (Vec<Identity>, Vec<(&'o str, String)>) {
    let (mut all, mut unfit) = (Vec::new(), Vec::new());
    let Some(default) = default_identity(pod, domain) else { return (all, unfit) };
    let mut is_said = false;
    for object in objects.into_iter().filter(|object| object.is_for(pod)) {
        let containers = match object.containers(pod) {
            None => vec![None],
            Some(some) => some.into_iter().map(Some).collect(),
        };
        for container in containers {
            if all.len() == IDENTITIES_MAX {
                unfit.push((object.name(), format!("the pod has {IDENTITIES_MAX} already")));
                break;
            }
            match added(object, pod, domain, container.map(|it| (&*it.name, &*it.id))) {
                Ok(mut identity) => {
                    // More about the default identity takes its place.
                    let is_default =
                        identity.spiffe_id == default.spiffe_id && object.is_for_whole_pods();
                    is_said |= is_default;
                    let place = if is_default { 0 } else { 1 };
                    identity.key = format!("{place}/{}", identity.key).into();
                    all.push(identity);
                }
                Err(why) => unfit.push((object.name(), why)),
            }
        }
    }
    if !is_said {
        all.push(default);
    }
    all.sort_by(|left, right| left.key.cmp(&right.key));
    (all, unfit)
}

/// The identity that an object gives processes of a machine that it names.
///
/// # Errors
///
/// Why it gives none there.
pub fn machine_identity(
    machine: &str,
    domain: &TrustDomain,
    object: &WorkloadIdentity,
) -> Result<Identity, String> {
    if !object.machines().is_some_and(|machines| machines.contains(machine)) {
        return Err("it does not name the machine".to_owned());
    }
    // Without an account no path below `sa/` is its own.
    let namespace = object.namespace().as_str().into();
    let fills = Pod { namespace, name: machine.into(), ..Pod::default() };
    added(object, &fills, domain, None)
}

/// The identity that every enrolled pod has.
fn default_identity(pod: &Pod, domain: &TrustDomain) -> Option<Identity> {
    let namespace: Namespace = pod.namespace.parse().ok()?;
    Some(Identity {
        key: "".into(),
        spiffe_id: SpiffeId::of_service_account(domain, &namespace, &pod.account),
        container: None,
        uid: None,
        gid: None,
        path: None,
        sha256: None,
        x509_ttl: X509_TTL,
        jwt_ttl: JWT_TTL,
        dns_names: BTreeSet::new(),
        hint: None,
        audiences: BTreeSet::new(),
        federates_with: BTreeSet::new(),
    })
}

fn added(
    object: &WorkloadIdentity,
    pod: &Pod,
    domain: &TrustDomain,
    container: Option<(&str, &str)>,
) -> Result<Identity, String> {
    let name = container.map_or("", |(name, _)| name);
    let path = object.path.fill(pod, name);
    // A pod or container may be named `sa`: what comes of the path counts, not what stands in the object.
    if !is_own_path(&path, pod) {
        return Err(format!(
            "the path {} is not of the pod's namespace, or of another account than the pod's",
            nullius_fields::shown(&path)
        ));
    }
    let id = format!("spiffe://{domain}{path}");
    let spiffe_id: SpiffeId = id.parse().map_err(|error| format!("{error}"))?;
    let mut dns_names = BTreeSet::new();
    for template in &object.dns_names {
        let dns = template.fill(pod, name);
        if let Some(wrong) = crate::dns::wrong(&dns, &pod.namespace) {
            return Err(format!("DNS name {}: {wrong}", nullius_fields::shown(&dns)));
        }
        dns_names.insert(dns);
    }
    let key = match container {
        None => object.name().to_owned(),
        Some((_, id)) => format!("{}/{id}", object.name()),
    };
    Ok(Identity {
        key: key.into(),
        spiffe_id,
        container: container.map(|(_, id)| id.into()),
        uid: object.unix.uid,
        gid: object.unix.gid,
        path: object.unix.path.clone(),
        sha256: object.unix.sha256.clone(),
        x509_ttl: object.x509_ttl,
        jwt_ttl: object.jwt_ttl,
        dns_names,
        hint: object.hint.clone(),
        audiences: object.audiences.clone(),
        federates_with: object.federates_with.clone(),
    })
}

/// Whether a path is below the pod's namespace, and of the pod's own account where it is of one.
fn is_own_path(path: &str, pod: &Pod) -> bool {
    let below = path.strip_prefix("/ns/").and_then(|rest| rest.strip_prefix(&*pod.namespace));
    let Some(rest) = below.and_then(|rest| rest.strip_prefix('/')) else { return false };
    match rest.strip_prefix("sa/") {
        Some(account) => account.split('/').next() == Some(&*pod.account),
        None => true,
    }
}
