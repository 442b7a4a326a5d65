//! What may enter a cluster, judged before it does: objects in files against the Pod Security Standards, requests against
//! admission policies with what a [`State`] of files knows of the cluster.
//!
//! [`Scan`] takes texts one at a time and ends in a [`Report`], which [`sarif`] and [`junit`] write for other tools.
//! [`Waivers`] are findings that somebody has accepted, with a reason and until a day.

#![forbid(unsafe_code)]

mod report;
mod scan;
mod state;

pub use report::{junit, sarif};
pub use scan::{
    BrokenObject, Counts, Finding, Location, ObjectRef, Report, Scan, ScanFault, Severity, SpotAt,
    Waived, Waivers, WaiversError,
};
pub use state::{HOLDS, Lack, Lacking, NotSendable, NotTaken, Person, Place, State, request_of};
