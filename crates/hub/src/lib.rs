//! The hub: sign-in, sessions, objects, decisions and audit of the whole fleet, in one process.
//!
//! Composition only: what is decided lies in `access` and `policy`, what is stored in `store`. From the top: [`run()`]
//! listens and serves until it is told to stop; `web` turns HTTP into `acts` and their errors into answers; `acts` is
//! what the hub does for people; [`clusters`] is Kubernetes traffic and agents; `decide`, `record` and `authenticate`
//! are what acts and clusters both stand on; [`Hub`] is what all of them share; `memory`, `keys` and `limits` are its
//! parts and know nothing of it.

#![forbid(unsafe_code)]

mod acts;
mod authenticate;
mod bearer;
pub mod clusters;
mod decide;
mod expiry;
mod hub;
mod keys;
mod limits;
mod lock;
mod mark;
mod memory;
mod metrics;
mod proof;
mod record;
mod run;
mod settings;
mod start;
mod web;

pub use acts::joins::BesideError;
pub use authenticate::KubeRefusal;
pub use bearer::BearerError;
pub use hub::Hub;
pub use keys::{
    Before, ChangeError, KeyInventory, KeyRow, Keys, KeysError, OpenKeysError, OperatorError,
    Rotated, Rotation, Uptake, export_offline_key, list_keys, rotate_keys,
};
pub use memory::{
    sessions::{Client, LiveSession, LiveSessions, SessionEndCause},
    usage::{UsageRecorder, UseRef},
};
pub use metrics::{CallOutcome, HubMetrics, SignInOutcome};
/// The form of the file beside the store, as [`AuditSettings`] names it.
pub use nullius_store::FileForm;
pub use proof::verify_state;
pub use run::{RunError, RunningHub, run};
pub use settings::{
    AuditSettings, HubSettings, Lifetimes, Limits, MetricsFor, Sealing, SettingsError,
};
pub use start::{FirstAdmin, InitError, init, init_with_offline_key};
