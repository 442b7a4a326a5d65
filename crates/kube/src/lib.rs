//! Kubernetes: what joins a cluster, and the objects that a session has there.
//!
//! The one home of the `kube` client. [`JoinManifest`] is what an administrator applies once: accounts, their
//! rights, the admission policies that guard them, and the agent's Deployments. [`Sessions`] makes and removes a
//! session's ServiceAccount, bindings and token with two credentials, each of which can do only half of it. [`admission`] is what
//! the webhook needs of its cluster.

pub mod admission;
mod apply;
mod audit_webhook;
mod baseline;
mod ceiling;
mod connect;
mod dynamic;
mod error;
mod guard;
pub mod identity;
mod inventory;
mod issuer;
mod leader;
mod machine;
mod manifest;
mod names;
mod objects;
mod reader;
mod record;
mod roles;
mod rotation;
mod sessions;
mod token;
mod trust;

pub use apply::{Administrator, ApplyError};
pub use audit_webhook::{AuditWebhook, AuditWebhookStore, CallerFile};
pub use baseline::BaselineStore;
pub use ceiling::CeilingReader;
pub use connect::{ApiServer, ConnectError, Credential, InCluster, SharedToken};
pub use error::{KubeError, Step};
pub use guard::Guards;
pub use inventory::{Inventory, ObjectNews, ObjectPage, ServedKind};
pub use issuer::{IssuerDocument, kubernetes_version, read_issuer};
pub use leader::{LEADER_LEASE, Leadership};
pub use machine::{ClusterPlace, MachineError, MachineWriter};
pub use manifest::{
    CLEAN_UP, Deployments, HubPins, IdentityParts, JoinManifest, MeshHost, NodeHost, PullPolicy,
    Shape, env,
};
pub use names::{
    ADMISSION, ADMISSION_POLICIES_LABEL, ADMISSION_PORT, ADMISSION_SECRET, ADMISSION_STATUS,
    ADMISSION_WEBHOOKS, AGENT_ADMISSION, AGENT_AUDIT, AGENT_IDENTITY, AGENT_PROXY, AUDIT_PORT,
    AUDIT_SECRET, BASELINE, BASELINE_ROLES, BINDER, CEILING_BINDING, CONTROL_LEASE, CONTROL_PORT,
    CSI_DRIVER, EXCEPTED_POLICIES, HEALTH_PORT, IDENTITY, IDENTITY_DISABLED, IDENTITY_ENABLED,
    IDENTITY_LABEL, IDENTITY_PORT, IDENTITY_SECRET, JOIN_SECRET, MESH_DISABLED, MESH_EXEMPT,
    MESH_LABEL, MESH_NODE, MESH_SIDECAR, NODE, NODE_HEALTH_PORT, NODE_NAMESPACE, OwnAccount,
    POD_SECURITY_WEBHOOK, PROVISIONER, ROLE_PREFIX, ROLE_WRITER, SESSIONS_NAMESPACE,
    SYSTEM_NAMESPACE, TRUST_BUNDLE_KEY, TRUST_DOMAIN_KEY, TRUST_ISSUER_KEY, TRUST_MAP,
    TRUST_SECRET, account_name, role_object_name,
};
pub use reader::{ClusterReader, Listed, ReadError};
pub use record::{ObjectRef, ParseObjectRefError, StandingSession};
pub use rotation::{Fields, ROTATE, Rotation, RotationStore, Slot};
pub use sessions::{Ensured, Flushed, Sessions, Survey};
pub use token::{MintedToken, OwnTokens, SESSION_TOKEN_SECONDS};
pub use trust::{TrustRecord, TrustStore};
