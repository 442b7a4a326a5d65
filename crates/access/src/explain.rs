//! Why somebody may or may not do something: every grant that names them, and how it bears on it.

use std::collections::BTreeSet;

use nullius_model::{
    ClusterName, Explanation, Identity, ObjectName, PermissionId, Proof, SessionId, Timestamp,
    UserName,
};
use nullius_rbac::Attributes;
use serde::Serialize;

use crate::{
    Caller, Judgement, Ruling, Snapshot,
    grant::{Gives, Grant, Life, Reach},
    kube,
};

/// The answer to `nullius access explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessExplanation {
    /// Who.
    pub user: UserName,
    /// Where.
    pub cluster: ClusterName,
    /// Whether it would be allowed.
    pub allowed: bool,
    /// Why, as the person themselves would be told.
    pub explanation: Explanation,
    /// The permission that allows it, or the nearest that would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<PermissionId>,
    /// Every grant that names the person, in the order in which they are tried.
    pub considered: Vec<ConsideredGrant>,
}

/// One grant and how it bears on the question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsideredGrant {
    /// The grant.
    pub grant: ObjectName,
    /// Whether it allows it.
    pub allows: bool,
    /// One sentence, lower case, no final stop.
    pub why: String,
}

/// Explains what a person may do, as if they had signed in at `signed_in_at` (now, where that is not given).
pub fn explain(
    snapshot: &Snapshot,
    user: &UserName,
    cluster: &ClusterName,
    asked: &Attributes<'_>,
    signed_in_at: Option<Timestamp>,
    now: Timestamp,
) -> AccessExplanation {
    let signed_in_at = signed_in_at.unwrap_or(now);
    let request = asked.judged();
    let as_if = Identity {
        user: user.clone(),
        groups: snapshot.groups_of(user),
        session: SessionId::from_bits(0),
        proof: Proof { factors: BTreeSet::new(), factor_at: signed_in_at },
        signed_in_at,
        expires_at: Timestamp::MAX,
    };
    let Judgement { ruling, permission, explanation, .. } =
        kube::review_access(snapshot, &Caller::new(&as_if), cluster, &request, now);
    let grants = snapshot.person(user).into_iter().flat_map(|person| snapshot.grants_of(person));
    let considered = grants
        .map(|grant| consider(snapshot, grant, cluster, &request, signed_in_at, now))
        .collect();
    AccessExplanation {
        user: user.clone(),
        cluster: cluster.clone(),
        allowed: ruling == Ruling::Allow,
        explanation,
        permission,
        considered,
    }
}

fn consider(
    snapshot: &Snapshot,
    grant: &Grant,
    cluster: &ClusterName,
    request: &Attributes<'_>,
    signed_in_at: Timestamp,
    now: Timestamp,
) -> ConsideredGrant {
    let said =
        |allows: bool, why: String| ConsideredGrant { grant: grant.name.clone(), allows, why };
    let rights = match &grant.gives {
        Gives::Kube(rights) => rights,
        Gives::Hub { role, .. } => {
            let role = crate::hub::role_word(*role);
            return said(false, format!("gives the hub role `{role}`, no rights in clusters"));
        }
        Gives::Nothing(why) => return said(false, format!("gives nothing: {why}")),
    };
    if !snapshot.cluster(cluster).is_some_and(|index| rights.in_cluster(index)) {
        return said(false, format!("does not select cluster `{cluster}`"));
    }
    match grant.life(Some(signed_in_at), now) {
        Life::Live { .. } => {}
        Life::Expired { at } => return said(false, format!("ended at {at}")),
        Life::SignInTooOld { at } => {
            return said(false, format!("counted until {at}, by its duration since sign-in"));
        }
    }
    let role = &rights.role.name;
    match rights.reach(request) {
        Reach::Allows(found) => {
            let rule = found.rule + 1;
            said(true, format!("role `{role}` allows it by rule {rule}"))
        }
        Reach::OtherNamespace { .. } => {
            let wanted: String =
                request.namespace().chars().take(63).flat_map(char::escape_debug).collect();
            said(false, format!("role `{role}` would allow it, but not in namespace `{wanted}`"))
        }
        Reach::ClusterWide { .. } => said(
            false,
            format!(
                "role `{role}` would allow it, but the grant holds in namespaces only and this reaches further"
            ),
        ),
        Reach::NoRule => said(false, format!("no rule of role `{role}` allows to {request}")),
    }
}
