//! What may enter a cluster, judged before it does: objects in files against the Pod Security Standards, requests against
//! admission policies with what a [`State`] of files knows of the cluster.
//!
//! [`Scan`] takes texts one at a time and ends in a [`Report`], which [`sarif`] and [`junit`] write for other tools.
//! [`Policies`] are what it asks beside the Pod Security Standards: those of files, and good practice ([`PRACTICE`]).
//! [`Trials`] are tests of policies: requests in files, and what policies must make of them.
//! [`Export`] are policies for an API server that asks them by itself.
//! [`Difference`] is what changes between two states of files.
//! [`Recording`] is what of a cluster is kept for them.
//! [`inject()`] puts a proxy of the mesh beside the containers of a pod.
//! [`webhook`] is the same for what an API server asks before it stores anything.
//! [`Waivers`] are findings that somebody has accepted, with an owner, a reason and until a day.

#![forbid(unsafe_code)]

pub mod background;
mod compare;
mod export;
mod inject;
mod own;
mod policies;
mod practice;
mod proposed;
mod recording;
mod report;
mod scan;
mod stand_in;
mod state;
mod trial;
pub mod webhook;

pub use compare::{Change, Difference, Findings, PolicyChange, Right, Rights, Side};
pub use export::{EXPORTED, Export, ExportForm, Exported, ExportedPolicy, Family};
pub use inject::{InTheWay, Injected, PROXY, Sidecar, inject};
pub use own::own_faults;
pub use policies::{Policies, PolicyAbout};
pub use practice::{PRACTICE, excludable};
pub use recording::{NotRecorded, Recording, Wanted};
pub use report::{
    BrokenObject, Counts, FaultKind, Finding, Location, ObjectRef, ObjectTrace, Report, ScanFault,
    SpotAt, Waived, junit, sarif,
};
pub use scan::{Depth, Scan, Sender, Waivers, WaiversError};
pub use state::{HOLDS, Lack, Lacking, NotSendable, NotTaken, Person, Place, State, request_of};
pub use trial::{
    CaseCounts, CaseOutcome, CaseReport, Coverage, ExpressionCoverage, Failure, PolicyCoverage,
    Reason, SeenSide, TrialReport, Trials, trial_junit,
};
