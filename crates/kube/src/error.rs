//! What went wrong in the cluster: at which step, and what the API server said.

use std::fmt;

use crate::{ConnectError, ObjectRef};

/// A step of making, reading or removing objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    WriteRole(String),
    ReadBinder,
    WriteBinder,
    DeleteRole(String),
    ListRoles,
    Create(ObjectRef),
    Read(ObjectRef),
    Record(ObjectRef),
    Delete(ObjectRef),
    MintToken(String),
    List(&'static str),
    ReadIssuer,
    ReadVersion,
    ReadCeiling,
    Lead,
    ReadTrust,
    WriteTrust,
    DeleteJoinSecret,
    ProveGuards,
    ReadNamespace(String),
    ReviewAccess,
    ReadAuthority,
    ReviewToken,
    ReadAgain(String),
    WriteTrustMap,
    ReadAuditWebhook,
    WriteAuditWebhook,
    WriteAuthority,
    ReadRegistration,
    WriteRegistration,
    WriteStatus,
    ReadReplicas,
    WriteCondition,
    Keep(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteRole(name) => write!(f, "writing ClusterRole `{name}`"),
            Self::ReadBinder => f.write_str("reading the binder list"),
            Self::WriteBinder => f.write_str("writing the binder list"),
            Self::DeleteRole(name) => write!(f, "deleting ClusterRole `{name}`"),
            Self::ListRoles => f.write_str("listing ClusterRoles"),
            Self::Create(object) => write!(f, "creating `{object}`"),
            Self::Read(object) => write!(f, "reading `{object}`"),
            Self::Record(object) => write!(f, "recording on `{object}`"),
            Self::Delete(object) => write!(f, "deleting `{object}`"),
            Self::MintToken(account) => write!(f, "requesting a token of `{account}`"),
            Self::List(what) => write!(f, "listing {what}"),
            Self::ReadIssuer => f.write_str("reading the issuer of ServiceAccount tokens"),
            Self::ReadVersion => f.write_str("reading the version"),
            Self::ReadCeiling => f.write_str("reading the ceiling"),
            Self::Lead => f.write_str("agreeing on which replica leads"),
            Self::ReadTrust => f.write_str("reading the kept key set"),
            Self::WriteTrust => f.write_str("keeping the key set"),
            Self::DeleteJoinSecret => f.write_str("deleting the redeemed join token"),
            Self::ProveGuards => f.write_str("proving that the admission policies are in force"),
            Self::ReadNamespace(name) => write!(f, "reading the namespace `{name}`"),
            Self::ReviewAccess => f.write_str("asking who may do what"),
            Self::ReadAuthority => f.write_str("reading the Secret of the authority"),
            Self::ReadAgain(object) => write!(f, "reading `{object}` again"),
            Self::ReviewToken => f.write_str("asking whose a token is"),
            Self::WriteTrustMap => f.write_str("writing whom nodes believe"),
            Self::ReadAuditWebhook => f.write_str("reading the audit webhook's authority"),
            Self::WriteAuditWebhook => f.write_str("keeping the audit webhook's authority"),
            Self::WriteAuthority => f.write_str("keeping the Secret of the authority"),
            Self::ReadRegistration => f.write_str("reading the webhook configurations"),
            Self::WriteRegistration => f.write_str("writing the webhook configurations"),
            Self::WriteStatus => f.write_str("writing what is in force"),
            Self::ReadReplicas => f.write_str("reading what other replicas ask"),
            Self::WriteCondition => f.write_str("writing the condition of a policy"),
            Self::Keep(object) => write!(f, "keeping `{object}`"),
        }
    }
}

/// Why the cluster did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum KubeError {
    /// Kubernetes itself refuses these rights; trying again does not help.
    #[error(
        "the cluster refused {step}: {message}; narrow the role, or join the cluster with a higher ceiling"
    )]
    Refused { step: Step, message: String },
    /// An object with a name of ours that we did not make; it is left alone.
    #[error("`{object}` exists and is not ours ({why}); find out who made it, then delete it")]
    Foreign { object: ObjectRef, why: &'static str },
    /// The admission policies of the join manifest do not answer.
    #[error(
        "{0}, so no session is made in this cluster: apply the join manifest again as one of its administrators, `nullius cluster add NAME --manifest --image IMAGE | kubectl apply -f -`, or `nullius up`"
    )]
    Unguarded(String),
    /// The API server said no for another reason.
    #[error("{step} failed, the API server answered {code} {reason}: {message}")]
    Api { step: Step, code: u16, reason: String, message: String },
    /// The API server could not be asked.
    #[error("{step} failed, the API server did not answer")]
    Unreachable {
        step: Step,
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server cannot be addressed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The API server's answer made no sense.
    #[error("{step} failed, the answer lacks {what}")]
    Incomplete { step: Step, what: &'static str },
}

impl KubeError {
    /// Whether the cluster itself refused, so that trying again does not help.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Foreign { .. } | Self::Api { code: 422, .. })
    }

    pub(crate) fn at(step: Step) -> impl FnOnce(kube::Error) -> Self {
        move |error| Self::from_kube(step, error)
    }

    pub(crate) fn from_kube(step: Step, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if is_refusal(&status) => {
                Self::Refused { step, message: status.message }
            }
            kube::Error::Api(status) => Self::Api {
                step,
                code: status.code,
                reason: status.reason,
                message: status.message,
            },
            source => Self::Unreachable { step, source: Box::new(source) },
        }
    }
}

/// Rights above the ceiling (RBAC's escalation check) or against our own admission policies.
fn is_refusal(status: &kube::core::Status) -> bool {
    let escalation =
        status.code == 403 && status.message.contains("attempting to grant RBAC permissions");
    let policy = status.message.contains("ValidatingAdmissionPolicy 'nullius-");
    escalation || policy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, message: &str) -> KubeError {
        let status = kube::core::Status::failure(message, "Forbidden").with_code(code);
        KubeError::from_kube(
            Step::WriteRole("nullius:role:x".into()),
            kube::Error::Api(status.boxed()),
        )
    }

    #[test]
    fn only_the_ceiling_and_our_policies_count_as_a_refusal() {
        let ceiling = "clusterroles is forbidden: user \"x\" is attempting to grant RBAC permissions not currently held";
        assert!(answer(403, ceiling).is_refused());
        assert!(answer(422, "ValidatingAdmissionPolicy 'nullius-roles' with binding 'nullius-roles' denied request: no").is_refused());
        assert!(!answer(403, "quota exceeded").is_refused());
        assert!(!answer(500, "etcd is down").is_refused());
    }
}
