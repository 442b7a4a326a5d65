//! Seals judgements into decisions: the only crate that can make a permit.
//!
//! Whoever does a guarded thing takes a reference to its permit, so that forgetting to ask does not compile, and
//! asks the permit whether it is for exactly that thing, so that asking for something else does not help. What a
//! judge cannot decide, because it panicked or lacks state, is denied. Beside it, [`pod_security`] measures pods by
//! Kubernetes' own standards, [`admission_policy`] asks Kubernetes' own policies, [`exception`] says what is accepted
//! of what they find, and [`baseline`] says what a namespace must have before pods run there.

#![forbid(unsafe_code)]

pub mod admission_policy;
pub mod baseline;
mod decide;
mod decide_admission;
mod decide_intention;
mod decision;
mod document;
pub mod exception;
mod go_text;
mod permit;
pub mod pod_security;

pub use decide::{decide_hub, decide_hub_process, decide_kube, decide_review};
pub use decide_admission::{
    Admission, Judged, decide_admission, decide_injection, decide_pod_security, defer_admission,
    withhold_admission,
};
pub use decide_intention::{
    Accepted, BodyDecided, Shadow, Watched, decide_body, decide_body_at_once, decide_connection,
    decide_request, refuse_request,
};
pub use decision::{
    AdmissionDecision, Decision, Denial, HubDecision, KubeDecision, ReviewDecision, StepUp, Verdict,
};
pub use nullius_access::Obligation;
pub use permit::{
    AdmissionPermit, ConnectionPermit, HubPermit, KubePermit, RequestPermit, ReviewPermit,
};
