//! The objects of a session and of a role, as they are written, and whether one that exists is ours.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Secret, ServiceAccount},
        rbac::v1::{
            ClusterRole, ClusterRoleBinding, PolicyRule as KubeRule, RoleBinding, RoleRef, Subject,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use nullius_model::{Binding, Namespace, PolicyRule, SessionId, SessionPlan};

use crate::{
    ObjectRef, ROLE_PREFIX, SESSIONS_NAMESPACE, StandingSession, account_name,
    names::{
        ACCOUNT_UID_ANNOTATION, AWAITS_ANNOTATION, BINDING_PREFIX, EXPIRES_ANNOTATION,
        GENERATION_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL, MARKER_TYPE, MARKER_UID_ANNOTATION,
        OBJECTS_ANNOTATION, ROLE_ANNOTATION, SESSION_LABEL, USER_ANNOTATION, binding_name,
        rules_hash,
    },
    role_object_name,
};

/// A binding of one of the two kinds.
#[derive(Debug, Clone)]
pub(crate) enum AnyBinding {
    Cluster(ClusterRoleBinding),
    Namespaced(RoleBinding),
}

pub(crate) fn account_ref(session: &SessionId) -> ObjectRef {
    ObjectRef::ServiceAccount { namespace: SESSIONS_NAMESPACE.into(), name: account_name(session) }
}

pub(crate) fn marker_ref(session: &SessionId) -> ObjectRef {
    ObjectRef::Secret { namespace: SESSIONS_NAMESPACE.into(), name: account_name(session) }
}

pub(crate) fn binding_ref(session: &SessionId, binding: &Binding) -> ObjectRef {
    let name = binding_name(session, binding);
    match &binding.namespace {
        None => ObjectRef::ClusterRoleBinding { name },
        Some(namespace) => ObjectRef::RoleBinding { namespace: namespace.to_string(), name },
    }
}

fn labels(session: &SessionId) -> BTreeMap<String, String> {
    BTreeMap::from([
        (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
        (SESSION_LABEL.to_owned(), session.to_string()),
    ])
}

/// The Secret that holds nothing: the session's token lives as long as it does.
pub(crate) fn marker(session: &SessionId) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(account_name(session)),
            namespace: Some(SESSIONS_NAMESPACE.into()),
            labels: Some(labels(session)),
            ..ObjectMeta::default()
        },
        type_: Some(MARKER_TYPE.into()),
        immutable: Some(true),
        ..Secret::default()
    }
}

/// The session's account; that it knows the marker's UID is what proves that we made it.
pub(crate) fn account(plan: &SessionPlan, marker_uid: &str) -> ServiceAccount {
    let annotations = BTreeMap::from([
        (USER_ANNOTATION.to_owned(), plan.user.to_string()),
        (EXPIRES_ANNOTATION.to_owned(), plan.expires_at.to_string()),
        (MARKER_UID_ANNOTATION.to_owned(), marker_uid.to_owned()),
    ]);
    ServiceAccount {
        metadata: ObjectMeta {
            name: Some(account_name(&plan.session)),
            namespace: Some(SESSIONS_NAMESPACE.into()),
            labels: Some(labels(&plan.session)),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// The annotations that record a completed plan on the account.
pub(crate) fn record_of(standing: &StandingSession) -> BTreeMap<String, String> {
    let objects = standing.object_texts();
    let awaits: Vec<&str> = standing.awaits.iter().map(Namespace::as_str).collect();
    let mut record = BTreeMap::from([
        (GENERATION_ANNOTATION.to_owned(), standing.generation.to_string()),
        (AWAITS_ANNOTATION.to_owned(), awaits.join(",")),
        // A map of strings: serialisation cannot fail, and an empty record is read as an incomplete session.
        (OBJECTS_ANNOTATION.to_owned(), serde_json::to_string(&objects).unwrap_or_default()),
    ]);
    if let Some(expires) = standing.expires_at {
        record.insert(EXPIRES_ANNOTATION.to_owned(), expires.to_string());
    }
    record
}

pub(crate) fn binding(session: &SessionId, account_uid: &str, binding: &Binding) -> AnyBinding {
    let role = role_object_name(&binding.role, &binding.rules);
    let metadata = ObjectMeta {
        name: Some(binding_name(session, binding)),
        namespace: binding.namespace.as_ref().map(ToString::to_string),
        labels: Some(labels(session)),
        annotations: Some(BTreeMap::from([
            (ACCOUNT_UID_ANNOTATION.to_owned(), account_uid.to_owned()),
            (ROLE_ANNOTATION.to_owned(), binding.role.to_string()),
        ])),
        ..ObjectMeta::default()
    };
    let role_ref = RoleRef {
        api_group: Some("rbac.authorization.k8s.io".into()),
        kind: "ClusterRole".into(),
        name: role,
    };
    let subjects = Some(vec![subject(session)]);
    match binding.namespace {
        None => AnyBinding::Cluster(ClusterRoleBinding { metadata, role_ref, subjects }),
        Some(_) => AnyBinding::Namespaced(RoleBinding { metadata, role_ref, subjects }),
    }
}

fn subject(session: &SessionId) -> Subject {
    Subject {
        api_group: None,
        kind: "ServiceAccount".into(),
        name: account_name(session),
        namespace: Some(SESSIONS_NAMESPACE.into()),
    }
}

pub(crate) fn cluster_role(name: &str, rules: &[PolicyRule]) -> ClusterRole {
    ClusterRole {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())])),
            ..ObjectMeta::default()
        },
        rules: Some(rules.iter().map(to_kube).collect()),
        aggregation_rule: None,
    }
}

fn to_kube(rule: &PolicyRule) -> KubeRule {
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    KubeRule {
        verbs: rule.verbs.clone(),
        api_groups: some(&rule.api_groups),
        resources: some(&rule.resources),
        resource_names: some(&rule.resource_names),
        non_resource_urls: some(&rule.non_resource_urls),
    }
}

fn from_kube(rule: &KubeRule) -> PolicyRule {
    PolicyRule {
        verbs: rule.verbs.clone(),
        api_groups: rule.api_groups.clone().unwrap_or_default(),
        resources: rule.resources.clone().unwrap_or_default(),
        resource_names: rule.resource_names.clone().unwrap_or_default(),
        non_resource_urls: rule.non_resource_urls.clone().unwrap_or_default(),
    }
}

/// Whether a ClusterRole holds exactly what its name says.
pub(crate) fn check_role(role: &ClusterRole) -> Result<(), &'static str> {
    let name = role.metadata.name.as_deref().unwrap_or_default();
    let Some((_, hash)) = name.strip_prefix(ROLE_PREFIX).and_then(|rest| rest.rsplit_once('-'))
    else {
        return Err("its name is not that of a role of ours");
    };
    if role.aggregation_rule.is_some() {
        return Err("it aggregates other roles");
    }
    let rules: Vec<PolicyRule> = role.rules.iter().flatten().map(from_kube).collect();
    if rules_hash(&rules) == hash {
        Ok(())
    } else {
        Err("its rules are not those that its name promises")
    }
}

/// Whether account and marker were made by us, for this session and for each other.
pub(crate) fn check_pair(
    session: &SessionId,
    account: &ServiceAccount,
    marker: &Secret,
) -> Result<(), &'static str> {
    check_marker(session, marker)?;
    check_account(session, account, Some(marker.metadata.uid.as_deref().unwrap_or_default()))
}

/// Whether an account has the form of this session's, and names this marker; any marker, where none is known.
pub(crate) fn check_account(
    session: &SessionId,
    account: &ServiceAccount,
    marker_uid: Option<&str>,
) -> Result<(), &'static str> {
    check_meta(session, &account.metadata)?;
    let notes = account.metadata.annotations.as_ref();
    let named = notes.and_then(|all| all.get(MARKER_UID_ANNOTATION)).filter(|uid| !uid.is_empty());
    match (named, marker_uid) {
        (None, _) => Err("its record names no marker"),
        (Some(named), Some(uid)) if named != uid => {
            Err("its record does not name the UID of its marker")
        }
        (Some(_), _) => Ok(()),
    }
}

/// Whether a Secret has the form of this session's marker.
pub(crate) fn check_marker(session: &SessionId, marker: &Secret) -> Result<(), &'static str> {
    check_meta(session, &marker.metadata)?;
    if marker.type_.as_deref() != Some(MARKER_TYPE) {
        return Err("it is a Secret of another type");
    }
    let empty = marker.data.as_ref().is_none_or(BTreeMap::is_empty);
    if empty { Ok(()) } else { Err("it holds data") }
}

fn check_meta(session: &SessionId, metadata: &ObjectMeta) -> Result<(), &'static str> {
    if metadata.name.as_deref() != Some(&account_name(session)) {
        return Err("its name is not that of its session");
    }
    if metadata.labels.as_ref() != Some(&labels(session)) {
        return Err("its labels are not ours");
    }
    if metadata.deletion_timestamp.is_some() {
        return Err("it is being deleted");
    }
    Ok(())
}

/// Whether a binding is one that we made: named, labelled, and for exactly its session's account and a role of ours.
pub(crate) fn check_binding(
    metadata: &ObjectMeta,
    role_ref: &RoleRef,
    subjects: Option<&Vec<Subject>>,
) -> Result<SessionId, &'static str> {
    let label = metadata.labels.as_ref().and_then(|all| all.get(SESSION_LABEL));
    let session: SessionId =
        label.and_then(|text| text.parse().ok()).ok_or("its label names no session")?;
    let name = metadata.name.as_deref().unwrap_or_default();
    if !name.starts_with(&format!("{BINDING_PREFIX}{session}:")) {
        return Err("its name is not that of its session");
    }
    if role_ref.kind != "ClusterRole" || !role_ref.name.starts_with(ROLE_PREFIX) {
        return Err("it binds a role that is not ours");
    }
    let only = subjects.is_some_and(|all| *all == [subject(&session)]);
    if only { Ok(session) } else { Err("its subject is not its session's account alone") }
}

/// Reads the record from a session's account; what is missing or damaged leaves the session incomplete.
pub(crate) fn read_record(
    session: &SessionId,
    account: &ServiceAccount,
    marker: Option<&Secret>,
) -> StandingSession {
    let mut standing = StandingSession::empty(session.clone());
    let none = BTreeMap::new();
    let notes = account.metadata.annotations.as_ref().unwrap_or(&none);
    let note = |key: &str| notes.get(key).map(String::as_str);
    standing.user = note(USER_ANNOTATION).and_then(|user| user.parse().ok());
    standing.expires_at = note(EXPIRES_ANNOTATION).and_then(|time| time.parse().ok());
    standing.generation = note(GENERATION_ANNOTATION).and_then(|g| g.parse().ok()).unwrap_or(0);
    standing.awaits = note(AWAITS_ANNOTATION)
        .unwrap_or_default()
        .split(',')
        .filter_map(|name| name.parse().ok())
        .collect();
    let objects: BTreeMap<String, String> = note(OBJECTS_ANNOTATION)
        .and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or_default();
    for (object, uid) in objects {
        // Account and marker are taken from the objects themselves; nothing but the session's own bindings is
        // believed from a record.
        if let Ok(object) = object.parse::<ObjectRef>()
            && is_binding_of(session, &object)
        {
            standing.objects.insert(object, uid);
        }
    }
    if let Some(uid) = &account.metadata.uid {
        standing.objects.insert(account_ref(session), uid.clone());
    }
    if let Some(uid) = marker.and_then(|marker| marker.metadata.uid.as_ref()) {
        standing.objects.insert(marker_ref(session), uid.clone());
    }
    standing
}

fn is_binding_of(session: &SessionId, object: &ObjectRef) -> bool {
    match object {
        ObjectRef::RoleBinding { name, .. } | ObjectRef::ClusterRoleBinding { name } => name
            .strip_prefix(BINDING_PREFIX)
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(of, _)| of == session.as_str()),
        ObjectRef::ClusterRole { .. }
        | ObjectRef::Secret { .. }
        | ObjectRef::ServiceAccount { .. } => false,
    }
}

#[cfg(test)]
mod tests;
