//! What may enter a cluster, judged before it does: objects in files against the Pod Security Standards.
//!
//! [`Scan`] takes texts one at a time and ends in a [`Report`], which [`sarif`] and [`junit`] write for other tools.
//! [`Waivers`] are findings that somebody has accepted, with a reason and until a day.

#![forbid(unsafe_code)]

mod report;
mod scan;

pub use report::{junit, sarif};
pub use scan::{
    BrokenObject, Counts, Finding, Location, ObjectRef, Report, Scan, ScanFault, Severity, SpotAt,
    Waived, Waivers, WaiversError,
};
