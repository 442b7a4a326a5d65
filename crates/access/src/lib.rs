//! Who may do what where, judged over an immutable [`Snapshot`] of the fleet objects.
//!
//! Everything here is a pure function of a snapshot, a caller and an instant. A [`Judgement`] is an opinion;
//! only the `policy` crate seals it into a permit that somebody can act on. [`plan`] tells what a session may do
//! in a cluster at most, [`session`] how a session lives and ends.

#![forbid(unsafe_code)]

mod caller;
mod dangling;
mod explain;
mod grant;
mod hub;
mod judgement;
mod kube;
mod listing;
mod locks;
mod nearest;
mod permission;
mod protected;
mod review;
pub mod session;
mod snapshot;
mod validation;

pub use caller::{Caller, HubProcess, HubTask};
pub use dangling::left_without;
pub use explain::{AccessExplanation, ConsideredGrant, explain};
pub use hub::{HubAction, HubVerb, ReadScope, Whose, judge_hub, matrix_allows};
pub use judgement::{Judgement, Obligation, Ruling};
pub use kube::{judge_kube, judge_standing, review_access};
pub use listing::{AccessRow, access_list, hub_roles, plan, reachable_clusters};
pub use permission::admission_permission;
pub use protected::{
    PROTECTED_NAMESPACES, is_protected_namespace, protected_refusal, protected_request,
    without_protected,
};
pub use review::{NonResourceReview, ResourceReview, ReviewSpec};
pub use snapshot::{Change, Problem, Snapshot};
pub use validation::{FieldError, validate};
