//! What somebody may do where, and why.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json as Answer, extract::State};
use nullius_access::{HubAction, access_list};
use nullius_api::{AccessRow, Considered, ExplainAnswer, ExplainRequest, List, WhoseQuery};
use nullius_model::{
    AnyObject, Factor, GrantName, GrantSubject, Identity, Kind, ObjectName, PolicyRule, Proof,
    SessionId, Timestamp, UserName,
};
use nullius_rbac::{Attributes, ResourceAttributes};

use super::{
    call::{Call, Json, Person, Query},
    field_problem,
    problem::Problem,
};
use crate::Hub;

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
    Query(query): Query<WhoseQuery>,
) -> Result<Answer<List<AccessRow>>, Problem> {
    if query.all {
        return Err(Problem::invalid("name one person with `user`, or leave it out for yourself"));
    }
    let user = query.user.clone().unwrap_or_else(|| identity.user.clone());
    hub.allow(&identity, &HubAction::ExplainAccess { of: &user }, &call).await?;
    let snapshot = hub.snapshot();
    let now = hub.now();
    let whose = if user == identity.user { identity } else { imagined(&hub, &user, now) };
    let rows = access_list(&snapshot, &whose, now).into_iter();
    let rows = rows.filter(|row| row.inactive.is_none()).filter_map(|row| {
        let grant: GrantName = row.grant.as_str().parse().ok()?;
        Some(AccessRow {
            reachable: hub.clusters().is_reachable(&row.cluster),
            through: through(&snapshot, &row.grant, &whose),
            rules: rules(&snapshot, row.role.as_str()),
            cluster: row.cluster,
            namespaces: row.namespaces,
            role: row.role,
            grant,
            until: row.until,
        })
    });
    Ok(Answer(List { items: rows.collect(), next: None }))
}

pub(super) async fn explain(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
    Json(asked): Json<ExplainRequest>,
) -> Result<Answer<ExplainAnswer>, Problem> {
    hub.allow(&identity, &HubAction::ExplainAccess { of: &asked.user }, &call).await?;
    let attributes = attributes(&asked)?;
    let signed_in_at = (asked.user == identity.user).then_some(identity.signed_in_at);
    let snapshot = hub.snapshot();
    let answer = nullius_access::explain(
        &snapshot,
        &asked.user,
        &asked.cluster,
        &attributes,
        signed_in_at,
        hub.now(),
    );
    let considered = answer.considered.into_iter().filter_map(|grant| {
        let role = match snapshot.object(Kind::Grant, &grant.grant) {
            Some(AnyObject::Grant(object)) => object.spec.role.clone(),
            _ => None,
        };
        let name = grant.grant.as_str().parse().ok()?;
        Some(Considered { grant: name, role, matched: grant.allows, why: grant.why })
    });
    Ok(Answer(ExplainAnswer {
        allowed: answer.allowed,
        explanation: answer.explanation,
        considered: considered.collect(),
    }))
}

/// Reads `pods`, `deployments.apps/scale` or `/healthz`.
fn attributes(asked: &ExplainRequest) -> Result<Attributes<'_>, Problem> {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic());
    if !plain(&asked.verb) || asked.verb.len() > 64 {
        return Err(field_problem("verb", "write one verb, for example `get`"));
    }
    if asked.resource.starts_with('/') {
        return Ok(Attributes::url(&asked.verb, &asked.resource));
    }
    let (resource, subresource) = asked.resource.split_once('/').unwrap_or((&asked.resource, ""));
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    if !plain(resource) {
        let rule = "write `pods`, `deployments.apps/scale`, or a path that begins with `/`";
        return Err(field_problem("resource", rule));
    }
    let namespace = asked.namespace.as_deref().unwrap_or("");
    let name = asked.name.as_deref().unwrap_or("");
    let to = ResourceAttributes { group, resource, subresource, namespace, name };
    Ok(Attributes::resource(&asked.verb, to))
}

/// A person as if they had signed in just now.
fn imagined(hub: &Hub, user: &UserName, now: Timestamp) -> Identity {
    let factors = BTreeSet::from([Factor::Password, Factor::Totp]);
    Identity {
        user: user.clone(),
        groups: hub.snapshot().groups_of(user),
        session: SessionId::from_bits(0),
        proof: Proof { factors, factor_at: now },
        signed_in_at: now,
        expires_at: hub.settings().lifetimes.session.after(now),
    }
}

/// `you`, or the group through which a grant is held.
fn through(snapshot: &nullius_access::Snapshot, grant: &ObjectName, whose: &Identity) -> String {
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

fn rules(snapshot: &nullius_access::Snapshot, role: &str) -> Vec<PolicyRule> {
    let name: Option<ObjectName> = role.parse().ok();
    match name.and_then(|name| snapshot.object(Kind::Role, &name)) {
        Some(AnyObject::Role(role)) => role.spec.rules.clone(),
        _ => Vec::new(),
    }
}
