//! The hub: sign-in, sessions, objects, decisions and audit of the whole fleet, in one process.
//!
//! Composition only: what is decided lies in `access` and `policy`, what is stored in `store`. [`Hub`] is what every
//! part of the process shares; [`run`] builds it, listens and serves until it is told to stop. Kubernetes traffic and
//! agents are in [`clusters`], everything else that is reached by HTTP in `web`.

#![forbid(unsafe_code)]

mod authenticate;
mod changes;
pub mod clusters;
mod expiry;
mod keys;
mod limits;
mod logins;
mod mark;
mod metrics;
mod people;
mod people_state;
mod proof;
mod run;
mod session_end;
mod sessions;
mod settings;
mod start;
mod state;
mod usage;
mod web;

pub use authenticate::{BearerError, KubeRefusal};
pub use keys::{
    Before, ChangeError, KeyInventory, KeyRow, Keys, KeysError, OperatorError, Rotated, Rotation,
    Uptake, export_offline_key, list_keys, rotate_keys,
};
pub use metrics::{CallOutcome, HubMetrics, SignInOutcome};
/// The form of the file beside the store, as [`AuditSettings`] names it.
pub use nullius_store::FileForm;
pub(crate) use proof::prove_audit;
pub use proof::verify_state;
pub use run::{RunError, RunningHub, run};
pub use session_end::SessionEndCause;
pub use sessions::{Client, LiveSession, LiveSessions};
pub use settings::{
    AuditSettings, HubSettings, Lifetimes, Limits, MetricsFor, Sealing, SettingsError,
};
pub use start::{FirstAdmin, InitError, init, init_with_offline_key};
pub use state::Hub;
pub use usage::{UsageRecorder, UseRef};
