//! Single-use secrets: join tokens for clusters, enrolment links for people, and what is done with the latter.

use std::sync::Arc;

use axum::{
    Json as Answer,
    extract::{Path, State},
};
use http::StatusCode;
use nullius_access::HubAction;
use nullius_api::{EnrolAnswer, EnrolConfirm, EnrolRequest, EnrolmentLink, JoinToken};
use nullius_model::{AnyObject, AuditKind, AuditOutcome, ClusterName, Kind, UserName};
use nullius_pki::random_token;
use nullius_store::{JoinToken as StoredJoin, StoreError, TokenHash};
use secrecy::{ExposeSecret, SecretString};

use super::{
    call::{Call, Json, Person, path_name},
    problem::Problem,
};
use crate::Hub;

pub(super) async fn join(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
    Path(name): Path<String>,
) -> Result<Answer<JoinToken>, Problem> {
    let cluster: ClusterName = path_name(&name)?;
    hub.audit_works()?;
    let action = HubAction::IssueJoinToken { cluster: &cluster };
    let permit = hub.allow(&identity, &action, &call).await?;
    let AnyObject::Cluster(object) = hub.cluster_object(&cluster).await? else {
        return Err(Problem::not_found(format!("cluster `{cluster}` does not exist")));
    };
    let now = hub.this_second();
    let token = random_token();
    let token = token.expose_secret().to_owned();
    let expires_at = hub.settings().lifetimes.join_token.after(now);
    let stored = StoredJoin {
        hash: TokenHash::of(&token),
        cluster: cluster.clone(),
        created_by: permit.by().label(),
        created_at: now,
        expires_at,
        used_at: None,
    };
    let mut event = hub.event_of(&call, AuditKind::Join, AuditOutcome::Begun);
    event.principal = permit.by().clone();
    event.session = Some(identity.session.clone());
    event.permission = permit.permission().cloned();
    event.cluster = Some(cluster.clone());
    event.target = Some(format!("Cluster/{cluster}"));
    event.facts.insert("expires".to_owned(), expires_at.to_string());
    let mut tx = hub.store().begin().await?;
    tx.tokens().create_join(&stored).await?;
    tx.audit(&event)?;
    tx.commit().await?;
    Ok(Answer(JoinToken {
        cluster,
        token,
        expires_at,
        hub_address: hub.address().to_owned(),
        hub_ca: hub.keys().root().certificate_pem().to_owned(),
        ceiling: object.spec.ceiling.cluster_role().to_owned(),
        hub_id: hub.keys().hub_id().to_owned(),
        offline_key: hub.keys().offline_public(),
    }))
}

pub(super) async fn enrolment(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Person(identity): Person,
    Path(name): Path<String>,
) -> Result<Answer<EnrolmentLink>, Problem> {
    let user: UserName = path_name(&name)?;
    hub.audit_works()?;
    let action = HubAction::IssueEnrolment { user: &user };
    let permit = hub.allow(&identity, &action, &call).await?;
    if !hub.snapshot().may_sign_in(&user) {
        return Err(StoreError::NotFound { kind: Kind::User, name: user.to_string() }.into());
    }
    let mut event = hub.event_of(&call, AuditKind::Enrol, AuditOutcome::Begun);
    event.principal = permit.by().clone();
    event.session = Some(identity.session.clone());
    event.permission = permit.permission().cloned();
    event.target = Some(format!("User/{user}"));
    let mut tx = hub.store().begin().await?;
    let link = hub.create_enrolment(&mut tx, &user).await?;
    tx.audit(&event)?;
    tx.commit().await?;
    Ok(Answer(link))
}

pub(super) async fn enrol(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Json(EnrolRequest { token, password }): Json<EnrolRequest>,
) -> Result<Answer<EnrolAnswer>, Problem> {
    let password = SecretString::from(password);
    Ok(Answer(hub.begin_enrolment(&token, password, &call).await?))
}

pub(super) async fn confirm(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Json(EnrolConfirm { token, code }): Json<EnrolConfirm>,
) -> Result<StatusCode, Problem> {
    hub.confirm_enrolment(&token, &code, &call).await?;
    Ok(StatusCode::NO_CONTENT)
}
