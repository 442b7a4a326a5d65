//! What `agent admission` does in the cluster: caches of what policies ask for, questions to the authorizer, the Secret of its
//! authority, and the webhook configurations that the join manifest made.

mod authority;
pub(crate) mod levels;
mod native;
mod objects;
mod questions;
mod registration;
mod replicas;

pub use authority::{AuthorityRecord, AuthorityStore, Generation};
pub use levels::{ExceptionStatuses, Labels, NamespaceLevels};
pub use native::NativePolicies;
pub(crate) use objects::{Heard, WATCH_SECONDS, listening};
pub use objects::{Objects, Room, Watched};
pub use questions::{AccessQuestion, AccessTarget, AccessVerdict, Questions};
pub use registration::{
    EXCLUDED_NAMESPACES, Registration, RegistrationStore, StatusStore, WebhookEntry, Written,
};
pub use replicas::{Asked, ReplicaStore};
