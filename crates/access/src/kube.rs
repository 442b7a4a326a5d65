//! Judges a request to a cluster: session, person, locks, cluster, protected objects, then grants by name.

use nullius_model::{ClusterName, Explanation, Reason, Timestamp};
use nullius_rbac::{Attributes, RequestInfo, Target};

use crate::{
    Caller, Judgement, Snapshot,
    grant::{ClusterIndex, Grant, KubeRights, Life, Match},
    nearest, protected,
    snapshot::Person,
};

/// Judges a request to a cluster's API server.
pub fn judge_kube(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    cluster: &ClusterName,
    request: &RequestInfo,
    now: Timestamp,
) -> Judgement {
    let refusal = protected::protected_request(request);
    judge(snapshot, caller, cluster, &request.attributes(), refusal, now)
}

/// Answers what somebody asks about themselves, by the same rules that judge their requests.
pub fn review_access(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    cluster: &ClusterName,
    asked: &Attributes<'_>,
    now: Timestamp,
) -> Judgement {
    let asked = asked.judged();
    judge(snapshot, caller, cluster, &asked, protected::protected_refusal(&asked), now)
}

/// Why a session may do nothing at all: it ended, its person is gone, or a lock is on it. None means it lives.
pub fn judge_standing(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    now: Timestamp,
) -> Option<Judgement> {
    standing(snapshot, caller, now).err().map(Judgement::deny)
}

/// The person of a session that lives and is not locked.
pub(crate) fn standing<'s>(
    snapshot: &'s Snapshot,
    caller: &Caller<'_>,
    now: Timestamp,
) -> Result<&'s Person, Explanation> {
    let identity = caller.identity;
    if identity.expires_at <= now {
        let sentence =
            format!("the session of `{}` ended at {}", identity.user, identity.expires_at);
        return Err(Explanation::new(Reason::SessionEnded, sentence)
            .with_next("sign in again with `nullius login`"));
    }
    let gone = |what: &str| {
        Explanation::new(Reason::UserGone, format!("user `{}` {what}", identity.user))
            .with_next("ask an admin")
    };
    let Some(person) = snapshot.person(&identity.user) else {
        return Err(gone("does not exist any more"));
    };
    if person.disabled {
        return Err(gone("is disabled"));
    }
    let locks = &snapshot.locks;
    let lock = locks
        .on_user(&identity.user, &person.groups, now)
        .or_else(|| locks.on_user(&identity.user, &identity.groups, now))
        .or_else(|| locks.on_session(&identity.session, now));
    match lock {
        Some(lock) => Err(lock),
        None => Ok(person),
    }
}

/// The cluster and whether it is open, for a person whom some grant gives rights there.
fn open_cluster(
    snapshot: &Snapshot,
    person: &Person,
    cluster: &ClusterName,
    now: Timestamp,
) -> Result<ClusterIndex, Explanation> {
    let index = snapshot
        .cluster(cluster)
        .filter(|index| snapshot.grants_of(person).any(|grant| grant.kube_in(*index).is_some()));
    let Some(index) = index else {
        let sentence = format!("cluster `{cluster}` does not exist, or no grant of yours names it");
        return Err(Explanation::new(Reason::UnknownCluster, sentence).with_next(
            "see `nullius access list` for your clusters, or ask an admin for a grant",
        ));
    };
    match snapshot.locks.on_cluster(cluster, now) {
        Some(lock) => Err(lock),
        None => Ok(index),
    }
}

pub(crate) fn judge(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    cluster: &ClusterName,
    request: &Attributes<'_>,
    protected: Option<Explanation>,
    now: Timestamp,
) -> Judgement {
    let opened = standing(snapshot, caller, now).and_then(|person| {
        open_cluster(snapshot, person, cluster, now).map(|index| (person, index))
    });
    let (person, index) = match opened {
        Ok(opened) => opened,
        Err(refusal) => return Judgement::deny(refusal),
    };
    if let Some(refusal) = protected {
        return Judgement::deny(refusal);
    }

    if for_everyone(request)
        && let Some(end) = live_until(snapshot, caller, person, index, now)
    {
        let sentence = format!(
            "everyone who may use cluster `{cluster}` may read what it offers and ask about themselves"
        );
        return Judgement::allow(None, Explanation::new(Reason::SignedIn, sentence)).until(end);
    }
    for grant in snapshot.grants_of(person) {
        let Some(rights) = grant.kube_in(index) else { continue };
        let Some(end) = end_of(grant, caller, now) else { continue };
        if let Some(matched) = rights.allows(request) {
            return allowed(caller, cluster, grant, rights, &matched).until(end);
        }
    }
    nearest::denial(snapshot, caller, person, cluster, index, request, now)
}

/// When what a grant allows this session ends; none where the grant does not count.
fn end_of(grant: &Grant, caller: &Caller<'_>, now: Timestamp) -> Option<Timestamp> {
    let session_end = caller.identity.expires_at;
    match grant.life(Some(caller.identity.signed_in_at), now) {
        Life::Live { until } => Some(until.map_or(session_end, |until| until.min(session_end))),
        Life::Expired { .. } | Life::SignInTooOld { .. } => None,
    }
}

/// Until when the session has any right in a cluster; none where it has none.
fn live_until(
    snapshot: &Snapshot,
    caller: &Caller<'_>,
    person: &Person,
    cluster: ClusterIndex,
    now: Timestamp,
) -> Option<Timestamp> {
    let grants = snapshot.grants_of(person).filter(|grant| grant.kube_in(cluster).is_some());
    grants.filter_map(|grant| end_of(grant, caller, now)).max()
}

fn allowed(
    caller: &Caller<'_>,
    cluster: &ClusterName,
    grant: &Grant,
    rights: &KubeRights,
    matched: &Match<'_>,
) -> Judgement {
    let user = &caller.identity.user;
    let role = &rights.role.name;
    let sentence = match matched.namespace {
        Some(namespace) => {
            format!("`{user}` has role `{role}` in namespace `{namespace}` of cluster `{cluster}`")
        }
        None => format!("`{user}` has role `{role}` in cluster `{cluster}`"),
    };
    let explanation = Explanation::new(Reason::GrantMatched, sentence).with_rule(rule_text(
        grant,
        rights,
        matched.rule,
    ));
    Judgement::allow(matched.permission.clone(), explanation)
}

/// `Grant/dev-shop → Role/developer rule 2`.
pub(crate) fn rule_text(grant: &Grant, rights: &KubeRights, rule: usize) -> String {
    format!("Grant/{} → Role/{} rule {}", grant.name, rights.role.name, rule + 1)
}

/// Paths that Kubernetes lets every authenticated user read (`system:discovery`, `system:public-info-viewer`).
const DISCOVERY: [&str; 8] =
    ["/livez", "/readyz", "/healthz", "/version", "/version/", "/openapi", "/api", "/apis"];
const DISCOVERY_BELOW: [&str; 3] = ["/openapi/", "/api/", "/apis/"];

/// What Kubernetes gives to everyone who is signed in: discovery, and questions about oneself.
pub(crate) fn for_everyone(request: &Attributes<'_>) -> bool {
    match request.target {
        Target::Url(path) => {
            request.verb == "get"
                && (DISCOVERY.contains(&path)
                    || DISCOVERY_BELOW.iter().any(|prefix| path.starts_with(prefix)))
        }
        Target::Resource(to) => {
            let review = matches!(
                (to.group, to.resource),
                ("authorization.k8s.io", "selfsubjectaccessreviews" | "selfsubjectrulesreviews")
                    | ("authentication.k8s.io", "selfsubjectreviews")
            );
            review && request.verb == "create" && to.subresource.is_empty()
        }
    }
}
