//! A person and their sessions: who they are, kubectl's credential, step-up, logout, and sessions of others.

use std::sync::Arc;

use axum::{
    Json as Answer,
    extract::{Path, State},
};
use http::StatusCode;
use nullius_access::{HubAction, Whose, hub_roles};
use nullius_api::{KubeCredential, List, SessionInfo, StepUpRequest, WhoAmI, WhoseQuery};
use nullius_model::{AnyObject, Kind, Principal, SessionId};

use super::{
    call::{Call, Json, Person, Query, path_name},
    problem::Problem,
};
use crate::{Hub, SessionEndCause};

pub(super) async fn who_am_i(
    State(hub): State<Arc<Hub>>,
    Person(identity): Person,
) -> Result<Answer<WhoAmI>, Problem> {
    let now = hub.now();
    hub.standing(&identity, now).map_err(Problem::denied)?;
    let snapshot = hub.snapshot();
    let name = identity.user.as_str().parse().ok();
    let object = name.and_then(|name| snapshot.object(Kind::User, &name));
    let display_name = match object {
        Some(AnyObject::User(user)) => user.spec.display_name.clone(),
        _ => None,
    };
    let hub_roles = hub_roles(&snapshot, &identity, now).into_keys().collect();
    Ok(Answer(WhoAmI {
        user: identity.user,
        display_name,
        groups: identity.groups.into_iter().collect(),
        session: identity.session,
        signed_in_at: identity.signed_in_at,
        expires_at: identity.expires_at,
        factors: identity.proof.factors.into_iter().collect(),
        factor_at: identity.proof.factor_at,
        hub_roles,
    }))
}

pub(super) async fn kube_credential(
    State(hub): State<Arc<Hub>>,
    Person(identity): Person,
) -> Result<Answer<KubeCredential>, Problem> {
    hub.kube_credential(&identity).map(Answer)
}

pub(super) async fn step_up(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
    Json(StepUpRequest { code }): Json<StepUpRequest>,
) -> Result<StatusCode, Problem> {
    hub.step_up(&identity, &code, &call).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn logout(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
) -> Result<StatusCode, Problem> {
    let by = Principal::Person { user: identity.user.clone() };
    hub.end_session_by(&identity.session, SessionEndCause::Logout, by, Some(&call)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
    Query(query): Query<WhoseQuery>,
) -> Result<Answer<List<SessionInfo>>, Problem> {
    let user = query.user.as_ref().unwrap_or(&identity.user);
    let of = if query.all { Whose::Everyone } else { Whose::Person(user) };
    hub.allow(&identity, &HubAction::ListSessions { of }, &call).await?;
    let sessions = match of {
        Whose::Everyone => hub.sessions().all(),
        Whose::Person(user) => hub.sessions().of_user(user),
    };
    let now = hub.now();
    let rows =
        sessions.into_iter().filter(|session| session.is_live(now)).map(|session| SessionInfo {
            user: session.user().clone(),
            signed_in_at: session.signed_in_at(),
            expires_at: session.expires_at(),
            last_used: session.last_used(),
            live: hub.clusters().live_streams(session.id()),
            clusters: hub.clusters().clusters_of(session.id()),
            current: *session.id() == identity.session,
            session: session.id().clone(),
        });
    Ok(Answer(List { items: rows.collect(), next: None }))
}

pub(super) async fn end(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
    Path(session): Path<String>,
) -> Result<StatusCode, Problem> {
    let id: SessionId = path_name(&session)?;
    let Some(session) = hub.sessions().find(&id) else {
        // Whoever may see everybody's sessions learns that there is none; the others are refused the same way
        // whether it lives or not.
        let everyone = HubAction::ListSessions { of: Whose::Everyone };
        hub.allow(&identity, &everyone, &call).await?;
        return Err(Problem::not_found(format!("session `{id}` does not exist or has ended")));
    };
    let permit = hub.allow(&identity, &HubAction::EndSession { of: session.user() }, &call).await?;
    let by = permit.by().clone();
    hub.end_session_by(&id, SessionEndCause::Ended, by, Some(&call)).await?;
    Ok(StatusCode::NO_CONTENT)
}
