//! The nouns of Nullius: ids, objects, identities, explanations, audit events and uses.
//!
//! Everything here is plain data that every plane shares. Strings are parsed once, at the edge, into the
//! types of this crate; nothing here reads a clock, opens a socket or decides anything.

mod audit;
mod clock;
mod cluster;
mod explanation;
mod field_path;
mod finding;
mod fleet;
mod identity;
mod ids;
mod infra;
mod object;
mod status;
mod usage;
mod wire;

pub use audit::{AuditEvent, AuditKind, AuditOutcome, KubeCall};
pub use clock::{Clock, SystemClock, Timestamp, Ttl, TtlError};
pub use cluster::{ExceptedRule, ExceptedValues, ExceptionScope, PolicyExceptionSpec};
pub use explanation::{Explanation, Reason};
pub use field_path::{FieldPath, FieldStep};
pub use finding::{
    Enforcement, Finding, FindingSource, FindingState, FindingWaiver, FoundObject, FoundPart,
    Severity,
};
pub use fleet::{
    Ceiling, ClusterCondition, ClusterSelector, ClusterSpec, ClusterStatus, ConditionStatus,
    GrantSpec, GrantSubject, GroupSpec, HubRole, LockSpec, LockTarget, PolicyRule, RoleSpec,
    SubjectKind, UserSpec, UserStatus,
};
pub use identity::{Factor, Identity, Principal, Proof};
pub use ids::{
    AuditId, ClusterName, CommandId, FindingId, GrantName, GroupName, InstanceId, Namespace,
    ObjectName, ParseNameError, PermissionId, RoleName, SessionId, UserName,
};
pub use infra::{InfraId, ParseInfraIdError};
pub use object::{API_VERSION, AnyObject, Kind, Object, ObjectMeta, UnknownKind};
pub use status::KubeStatus;
pub use usage::{Plane, Use, UseKey};
pub use wire::{Binding, Command, KeySet, Order, RequestAssertion, SessionPlan, SigningKey};
