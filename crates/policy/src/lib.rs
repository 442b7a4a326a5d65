//! Seals judgements into decisions: the only crate that can make a permit.
//!
//! Whoever does a guarded thing takes a reference to its permit, so that forgetting to ask does not compile, and
//! asks the permit whether it is for exactly that thing, so that asking for something else does not help. What a
//! judge cannot decide, because it panicked or lacks state, is denied. Beside it, [`pod_security`] measures pods by
//! Kubernetes' own standards, [`admission_policy`] asks Kubernetes' own policies, and [`exception`] says what is accepted
//! of what they find.

#![forbid(unsafe_code)]

pub mod admission_policy;
mod decide;
mod decide_admission;
mod decision;
pub mod exception;
mod go_text;
mod permit;
pub mod pod_security;

pub use decide::{decide_hub, decide_hub_process, decide_kube, decide_review};
pub use decide_admission::{Admission, Judged, decide_admission, withhold_admission};
pub use decision::{
    AdmissionDecision, Decision, Denial, HubDecision, KubeDecision, ReviewDecision, StepUp, Verdict,
};
pub use nullius_access::Obligation;
pub use permit::{AdmissionPermit, HubPermit, KubePermit, ReviewPermit};
