//! Sorting of what carries our label into sessions of ours and objects of others.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Secret, ServiceAccount},
        rbac::v1::{ClusterRoleBinding, RoleBinding},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use nullius_model::SessionId;

use super::{Survey, uids};
use crate::{
    ObjectRef, SESSIONS_NAMESPACE, StandingSession,
    names::SESSION_LABEL,
    objects::{check_account, check_binding, check_marker, check_pair, marker_ref, read_record},
};

const NO_SESSION: &str = "its label names no session";

/// What the API server listed.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) accounts: Vec<ServiceAccount>,
    pub(super) markers: Vec<Secret>,
    pub(super) cluster: Vec<ClusterRoleBinding>,
    pub(super) namespaced: Vec<RoleBinding>,
}

/// Sorts by form and record, never by label alone.
pub(super) fn sort(listed: Listed) -> Survey {
    let mut survey = Survey::default();
    let markers = sort_markers(&mut survey, listed.markers);
    for account in listed.accounts {
        sort_account(&mut survey, &markers, &account);
    }
    for (session, marker) in markers {
        if let Some(uid) = marker.metadata.uid {
            entry(&mut survey, &session).objects.entry(marker_ref(&session)).or_insert(uid);
        }
    }
    for found in listed.cluster {
        let object = ObjectRef::ClusterRoleBinding { name: name_of(&found.metadata) };
        let ours = check_binding(&found.metadata, &found.role_ref, found.subjects.as_ref());
        sort_binding(&mut survey, object, ours, found.metadata.uid, found.role_ref.name);
    }
    for found in listed.namespaced {
        let namespace = found.metadata.namespace.clone().unwrap_or_default();
        let object = ObjectRef::RoleBinding { namespace, name: name_of(&found.metadata) };
        let ours = check_binding(&found.metadata, &found.role_ref, found.subjects.as_ref());
        sort_binding(&mut survey, object, ours, found.metadata.uid, found.role_ref.name);
    }
    for standing in survey.sessions.values_mut() {
        if uids(standing).is_err() {
            standing.generation = 0;
        }
    }
    survey
}

fn sort_markers(survey: &mut Survey, found: Vec<Secret>) -> BTreeMap<SessionId, Secret> {
    let mut markers = BTreeMap::new();
    for secret in found {
        let checked = session_of(&secret.metadata)
            .ok_or(NO_SESSION)
            .and_then(|session| check_marker(&session, &secret).map(|()| session));
        match checked {
            Ok(session) => {
                markers.insert(session, secret);
            }
            Err(why) => survey.foreign.push((
                ObjectRef::Secret {
                    namespace: SESSIONS_NAMESPACE.into(),
                    name: name_of(&secret.metadata),
                },
                why,
            )),
        }
    }
    markers
}

fn sort_account(
    survey: &mut Survey,
    markers: &BTreeMap<SessionId, Secret>,
    account: &ServiceAccount,
) {
    let checked = session_of(&account.metadata).ok_or(NO_SESSION).and_then(|session| {
        let marker = markers.get(&session);
        // Without a marker it is one whose flush was cut off between marker and account.
        match marker {
            Some(marker) => check_pair(&session, account, marker)?,
            None => check_account(&session, account, None)?,
        }
        Ok((read_record(&session, account, marker), session))
    });
    match checked {
        Ok((standing, session)) => {
            survey.sessions.insert(session, standing);
        }
        Err(why) => survey.foreign.push((
            ObjectRef::ServiceAccount {
                namespace: SESSIONS_NAMESPACE.into(),
                name: name_of(&account.metadata),
            },
            why,
        )),
    }
}

fn sort_binding(
    survey: &mut Survey,
    object: ObjectRef,
    ours: Result<SessionId, &'static str>,
    uid: Option<String>,
    role: String,
) {
    match (ours, uid) {
        (Ok(session), Some(uid)) => {
            survey.bound_roles.insert(role);
            entry(survey, &session).objects.insert(object, uid);
        }
        (Ok(_), None) => survey.foreign.push((object, "it has no UID")),
        (Err(why), _) => survey.foreign.push((object, why)),
    }
}

fn entry<'a>(survey: &'a mut Survey, session: &SessionId) -> &'a mut StandingSession {
    survey
        .sessions
        .entry(session.clone())
        .or_insert_with(|| StandingSession::empty(session.clone()))
}

fn session_of(metadata: &ObjectMeta) -> Option<SessionId> {
    metadata.labels.as_ref()?.get(SESSION_LABEL)?.parse().ok()
}

fn name_of(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}
