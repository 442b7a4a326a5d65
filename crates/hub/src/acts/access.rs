//! What somebody may do where, and why: the questions of `nullius access` answered from the newest objects.

use std::collections::BTreeSet;

use nullius_access::{HubAction, Snapshot, access_list};
use nullius_api::{AccessRow, Considered, ExplainAnswer, ExplainRequest};
use nullius_model::{
    AnyObject, Factor, GrantName, GrantSubject, Identity, Kind, ObjectName, PolicyRule, Proof,
    UserName,
};
use nullius_rbac::{Attributes, ResourceAttributes};

use crate::{
    Hub,
    decide::{Refusal, as_if_signed_in},
    record::Occasion,
};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExplainRefusal {
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A field cannot be read: which, and how it is written.
    #[error("{0}: {1}")]
    Field(&'static str, &'static str),
}

impl Hub {
    /// What somebody, or another person for those who may ask, may do in each cluster.
    pub(crate) async fn list_access(
        &self,
        identity: Identity,
        of: Option<UserName>,
        occasion: &Occasion,
    ) -> Result<Vec<AccessRow>, Refusal> {
        let user = of.unwrap_or_else(|| identity.user.clone());
        self.allow(&identity, &HubAction::ExplainAccess { of: &user }, occasion).await?;
        let (snapshot, now) = (self.snapshot(), self.now());
        let whose = if user == identity.user {
            identity
        } else {
            let factors = BTreeSet::from([Factor::Password, Factor::Totp]);
            let ends = self.settings.lifetimes.session.after(now);
            as_if_signed_in(&snapshot, &user, Proof { factors, factor_at: now }, now, ends)
        };
        let rows = access_list(&snapshot, &whose, now).into_iter();
        let rows = rows.filter(|row| row.inactive.is_none()).filter_map(|row| {
            let grant: GrantName = row.grant.as_str().parse().ok()?;
            Some(AccessRow {
                reachable: self.clusters.is_reachable(&row.cluster),
                through: through(&snapshot, &row.grant, &whose),
                rules: rules(&snapshot, row.role.as_str()),
                cluster: row.cluster,
                namespaces: row.namespaces,
                role: row.role,
                grant,
                until: row.until,
            })
        });
        Ok(rows.collect())
    }

    /// Whether a person may do one thing in a cluster, and which grants were considered.
    pub(crate) async fn explain_access(
        &self,
        identity: &Identity,
        asked: &ExplainRequest,
        occasion: &Occasion,
    ) -> Result<ExplainAnswer, ExplainRefusal> {
        let ExplainRequest { user, cluster, .. } = asked;
        self.allow(identity, &HubAction::ExplainAccess { of: user }, occasion).await?;
        let attributes = attributes(asked)?;
        let signed_in_at = (*user == identity.user).then_some(identity.signed_in_at);
        let (snapshot, now) = (self.snapshot(), self.now());
        let answer =
            nullius_access::explain(&snapshot, user, cluster, &attributes, signed_in_at, now);
        let considered = answer.considered.into_iter().filter_map(|grant| {
            let role = match snapshot.object(Kind::Grant, &grant.grant) {
                Some(AnyObject::Grant(object)) => object.spec.role.clone(),
                _ => None,
            };
            let name = grant.grant.as_str().parse().ok()?;
            Some(Considered { grant: name, role, matched: grant.allows, why: grant.why })
        });
        Ok(ExplainAnswer {
            allowed: answer.allowed,
            explanation: answer.explanation,
            considered: considered.collect(),
        })
    }
}

/// Reads `pods`, `deployments.apps/scale` or `/healthz`.
fn attributes(asked: &ExplainRequest) -> Result<Attributes<'_>, ExplainRefusal> {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic());
    if !plain(&asked.verb) || asked.verb.len() > 64 {
        return Err(ExplainRefusal::Field("verb", "write one verb, for example `get`"));
    }
    if asked.resource.starts_with('/') {
        return Ok(Attributes::url(&asked.verb, &asked.resource));
    }
    let (resource, subresource) = asked.resource.split_once('/').unwrap_or((&asked.resource, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    if !plain(resource) {
        let rule = "write `pods`, `deployments.apps/scale`, or a path that begins with `/`";
        return Err(ExplainRefusal::Field("resource", rule));
    }
    let namespace = asked.namespace.as_deref().unwrap_or("");
    let name = asked.name.as_deref().unwrap_or("");
    let to = ResourceAttributes { group, resource, subresource, namespace, name };
    Ok(Attributes::resource(&asked.verb, to))
}

/// `you`, or the group through which a grant is held.
fn through(snapshot: &Snapshot, grant: &ObjectName, whose: &Identity) -> String {
    let Some(AnyObject::Grant(grant)) = snapshot.object(Kind::Grant, grant) else {
        return "you".to_owned();
    };
    if grant.spec.subjects.contains(&GrantSubject::User(whose.user.clone())) {
        return "you".to_owned();
    }
    let mut groups = grant.spec.subjects.iter().filter_map(|subject| match subject {
        GrantSubject::Group(group) if whose.groups.contains(group) => Some(group.to_string()),
        GrantSubject::Group(_) | GrantSubject::User(_) => None,
    });
    groups.next().unwrap_or_else(|| "you".to_owned())
}

fn rules(snapshot: &Snapshot, role: &str) -> Vec<PolicyRule> {
    let name: Option<ObjectName> = role.parse().ok();
    match name.and_then(|name| snapshot.object(Kind::Role, &name)) {
        Some(AnyObject::Role(role)) => role.spec.rules.clone(),
        _ => Vec::new(),
    }
}
