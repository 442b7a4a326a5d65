//! Which pod has which identities: the default one that every enrolled pod has, and what `WorkloadIdentity` objects of its namespace add.
//!
//! [`WorkloadIdentity::read`] takes an object strictly, [`identities`] says what a pod has. An identity is for a pod, for one of its
//! containers, or for processes of it; nobody outside the hub gives one that is not of the pod's own namespace. A [`Machine`] stands outside of
//! the cluster; [`machine_identity`] says what an object gives processes there.

#![forbid(unsafe_code)]

mod dns;
mod identity;
mod join;
mod later;
mod machine;
mod object;
mod pod;
mod spire;
mod template;

pub use identity::{IDENTITIES_MAX, Identity, identities, machine_identity};
pub use join::{MachineJoin, is_address};
pub use machine::{JoinToken, Machine, X509Pop};
pub use nullius_fields::Fault;
pub use object::{JWT_TTL, WorkloadIdentity, X509_TTL};
pub use pod::{Container, Owner, Pod};
pub use spire::{Imported, ImportedIdentity, Remark, Spire, import_spire};
