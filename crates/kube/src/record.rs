//! What stands in the cluster for a session: which objects, with which UIDs.
//!
//! The record lies on the session's own ServiceAccount, so that it survives the agent. Clean-up goes by these
//! UIDs: an object that merely carries our label or our name is not deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use nullius_model::{Namespace, SessionId, Timestamp, UserName};

use crate::{SESSIONS_NAMESPACE, account_name, names::BINDING_PREFIX};

/// One Kubernetes object of ours; in text `Kind/namespace/name` or `Kind/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectRef {
    ClusterRole { name: String },
    ClusterRoleBinding { name: String },
    RoleBinding { namespace: String, name: String },
    Secret { namespace: String, name: String },
    ServiceAccount { namespace: String, name: String },
}

/// Text that names no object of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no object that a session can have")]
pub struct ParseObjectRefError(String);

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterRole { name } => write!(f, "ClusterRole/{name}"),
            Self::ClusterRoleBinding { name } => write!(f, "ClusterRoleBinding/{name}"),
            Self::RoleBinding { namespace, name } => write!(f, "RoleBinding/{namespace}/{name}"),
            Self::Secret { namespace, name } => write!(f, "Secret/{namespace}/{name}"),
            Self::ServiceAccount { namespace, name } => {
                write!(f, "ServiceAccount/{namespace}/{name}")
            }
        }
    }
}

impl FromStr for ObjectRef {
    type Err = ParseObjectRefError;
    fn from_str(text: &str) -> Result<Self, ParseObjectRefError> {
        let parts: Vec<&str> = text.split('/').collect();
        let wrong =
            || ParseObjectRefError(text.chars().take(200).flat_map(char::escape_debug).collect());
        if parts.iter().any(|part| part.is_empty()) {
            return Err(wrong());
        }
        match parts.as_slice() {
            ["ClusterRole", name] => Ok(Self::ClusterRole { name: (*name).into() }),
            ["ClusterRoleBinding", name] => Ok(Self::ClusterRoleBinding { name: (*name).into() }),
            ["RoleBinding", namespace, name] => {
                Ok(Self::RoleBinding { namespace: (*namespace).into(), name: (*name).into() })
            }
            ["Secret", namespace, name] => {
                Ok(Self::Secret { namespace: (*namespace).into(), name: (*name).into() })
            }
            ["ServiceAccount", namespace, name] => {
                Ok(Self::ServiceAccount { namespace: (*namespace).into(), name: (*name).into() })
            }
            _ => Err(wrong()),
        }
    }
}

impl ObjectRef {
    /// Whether it is one that is made for this session, by its name and place.
    pub fn is_of(&self, session: &SessionId) -> bool {
        let bound = |name: &str| name.starts_with(&format!("{BINDING_PREFIX}{session}:"));
        match self {
            // Roles are shared by sessions.
            Self::ClusterRole { .. } => false,
            Self::ClusterRoleBinding { name } | Self::RoleBinding { name, .. } => bound(name),
            Self::Secret { namespace, name } | Self::ServiceAccount { namespace, name } => {
                namespace == SESSIONS_NAMESPACE && *name == account_name(session)
            }
        }
    }
}

/// A session as it stands in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingSession {
    /// The session.
    pub session: SessionId,
    /// The person, where the record says so.
    pub user: Option<UserName>,
    /// The plan generation that the objects have reached; zero until a plan was completed.
    pub generation: u64,
    /// When the session ends at the latest.
    pub expires_at: Option<Timestamp>,
    /// Namespaces of the plan that do not exist yet.
    pub awaits: BTreeSet<Namespace>,
    /// The objects with their UIDs.
    pub objects: BTreeMap<ObjectRef, String>,
}

impl StandingSession {
    pub(crate) fn empty(session: SessionId) -> Self {
        Self {
            session,
            user: None,
            generation: 0,
            expires_at: None,
            awaits: BTreeSet::new(),
            objects: BTreeMap::new(),
        }
    }

    /// Whether a whole plan stands, nothing of it awaited.
    pub fn is_complete(&self) -> bool {
        self.generation > 0 && self.awaits.is_empty()
    }

    /// The objects in their text form, for the audit.
    pub fn object_texts(&self) -> BTreeMap<String, String> {
        self.objects.iter().map(|(object, uid)| (object.to_string(), uid.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn an_object_survives_its_text_form() {
        for object in [
            ObjectRef::ClusterRole { name: "nullius:role:view-0".into() },
            ObjectRef::ClusterRoleBinding { name: "nullius:session:1:2".into() },
            ObjectRef::RoleBinding { namespace: "dev".into(), name: "nullius:session:1:2".into() },
            ObjectRef::Secret { namespace: "nullius-sessions".into(), name: "session-1".into() },
            ObjectRef::ServiceAccount {
                namespace: "nullius-sessions".into(),
                name: "session-1".into(),
            },
        ] {
            assert_eq!(object.to_string().parse::<ObjectRef>().unwrap(), object);
        }
        let session = SessionId::from_bits(1);
        let ours = |text: &str| text.parse::<ObjectRef>().unwrap().is_of(&session);
        assert!(ours(&format!("Secret/nullius-sessions/session-{session}")));
        assert!(ours(&format!("RoleBinding/dev/nullius:session:{session}:0a")));
        for other in [
            format!("Secret/nullius-system/session-{session}"),
            "Secret/nullius-sessions/session-2".to_owned(),
            "ServiceAccount/nullius-system/nullius-provisioner".to_owned(),
            "ClusterRoleBinding/nullius:ceiling".to_owned(),
            format!("ClusterRole/nullius:session:{session}:0a"),
        ] {
            assert!(!ours(&other), "{other}");
        }
        for bad in ["", "Pod/dev/a", "RoleBinding/dev", "ClusterRole/a/b", "Secret//a"] {
            assert!(bad.parse::<ObjectRef>().is_err(), "{bad}");
        }
    }
}
