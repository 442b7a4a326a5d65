//! The nouns of Nullius: ids, objects, identities, explanations, audit events and uses.
//!
//! Everything here is plain data that every plane shares. Strings are parsed once, at the edge, into the
//! types of this crate; nothing here reads a clock, opens a socket or decides anything.

mod audit;
mod baseline;
mod clock;
mod cluster;
mod explanation;
mod federation;
mod field_path;
mod finding;
mod fleet;
mod identity;
mod ids;
mod infra;
mod intention;
mod kind_home;
mod mesh;
mod object;
mod shares;
mod spiffe;
mod status;
mod trust;
mod usage;
mod wire;

pub use audit::{AuditEvent, AuditKind, AuditOutcome, KubeCall};
pub use baseline::{
    Amount, BASELINE_FROM, BASELINE_LABEL, BASELINE_LABELS, BASELINE_NAME, BASELINE_NEVER,
    BaselineLimit, BaselineLimitRange, BaselineNetworkPolicy, BaselinePodSecurity, BaselineQuota,
    BaselineRoleBinding, BaselineRoleRef, ENVIRONMENT_LABEL, NamespaceBaselineSpec, RoleKind,
    TrafficDirection,
};
pub use clock::{Clock, SystemClock, Timestamp, Ttl, TtlError};
pub use cluster::{
    ExceptedRule, ExceptedValues, ExceptionScope, KEPT_LEVEL_LABEL, PolicyExceptionSpec,
};
pub use explanation::{Explanation, Reason};
pub use federation::{BundleEndpointProfile, FederationSpec, ForeignTrust};
pub use field_path::{FieldPath, FieldStep};
pub use finding::{
    Enforcement, Finding, FindingSource, FindingState, FindingWaiver, FoundObject, FoundPart,
    Severity,
};
pub use fleet::{
    AUTHORITY_LIFE, Ceiling, ClusterCondition, ClusterSelector, ClusterSpec, ClusterStatus,
    ConditionStatus, GrantSpec, GrantSubject, GroupSpec, HubRole, LockSpec, LockTarget, PolicyRule,
    RoleSpec, SubjectKind, UserSpec, UserStatus,
};
pub use identity::{Factor, Identity, Principal, Proof};
pub use ids::{
    AuditId, ClusterName, CommandId, FindingId, GrantName, GroupName, InstanceId, Namespace,
    ObjectName, ParseNameError, PermissionId, RoleName, SessionId, UserName,
};
pub use infra::{InfraId, ParseInfraIdError};
pub use intention::{
    IntentionAction, IntentionApi, IntentionAudit, IntentionClaim, IntentionDestination,
    IntentionHeader, IntentionJwt, IntentionMode, IntentionPath, IntentionPermission,
    IntentionSource, IntentionSpec, Permissive,
};
pub use kind_home::KindHome;
pub use mesh::{CallKey, Calls, MeshParty, MeshShadow, MeshSide, MeshVerdict, PartyKind, payer};
pub use object::{API_VERSION, AnyObject, Kind, Object, ObjectMeta, UnknownKind};
pub use shares::{Shares, has_share};
pub use spiffe::{ParseSpiffeError, SpiffeId, TrustDomain};
pub use status::KubeStatus;
pub use trust::{AuthorityStage, Belief, RotationMode, RotationProgress, TrustBeside};
pub use usage::{Plane, Use, UseKey};
pub use wire::{Binding, Command, KeySet, Order, RequestAssertion, SessionPlan, SigningKey};
