//! Everything that the hub remembers: one SQLite file behind repositories, and the audit trail beside it.
//!
//! Writes go through a [`Tx`]: all of its changes and the audit events about them become durable together or not at
//! all. Reads go through a [`Reader`]. [`AuditWriter`] takes the events of requests, many to a commit. The SQL keeps
//! to what PostgreSQL speaks too; SQLite alone is named in `database` and `schema`.

mod attempts;
mod audit;
mod clusters;
mod credentials;
mod database;
mod directory;
mod error;
mod findings;
mod foreign;
mod kept;
mod keys;
mod logins;
mod mesh;
mod objects;
mod reports;
mod row;
mod schema;
mod sessions;
mod tokens;
mod trust;
mod usage;

pub use attempts::{Attempts, AttemptsMut};
pub use audit::{
    Audit, AuditOptions, AuditState, AuditStatus, AuditUnavailable, AuditWriter, FileForm,
    FileSink, Page, Position, Share, SignError, Signer, Slot, StartError, StoredEntry, Tail,
    VerifyError,
};
pub use clusters::{
    AgentShape, CertifiedAuthority, ClusterTrust, Clusters, ClustersMut, ProvisionState,
    Provisioned,
};
pub use credentials::{Credential, Credentials, CredentialsMut, Sealed, TotpStep};
pub use database::{Committed, Reader, Store, StoreUrl, StoreUrlError, Tx};
pub use directory::is_held;
pub use error::{DatabaseError, OpenError, StoreError};
pub use findings::{
    FindingFilter, FindingPlace, Findings, FindingsMut, Looked, NewFinding, Room, ScanEnd,
    ScanMark, ScanState,
};
pub use foreign::ForeignBundle;
pub use kept::TrustKept;
pub use keys::{Keys, KeysMut};
pub use logins::{Approval, DevicePoll, LoginCode, LoginKind, Logins, LoginsMut};
pub use mesh::{CallFilter, Mesh, MeshLosses, MeshMut, MeshTold};
pub use objects::{Objects, ObjectsMut, Precondition, StoredChange};
pub use reports::{BatchTurn, Reports, ReportsMut};
pub use sessions::{
    EndReason, NewSession, SessionClient, SessionRecord, Sessions, SessionsMut, TokenMatch,
};
pub use tokens::{EnrolmentLink, JoinToken, Redemption, TokenHash, Tokens, TokensMut};
pub use trust::{ToldAuthority, ToldTrust, Trust, TrustMut, TrustRotation, TrustStanding};
pub use usage::{Usage, UsageMut, UseFilter};
