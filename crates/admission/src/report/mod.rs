//! Reports for other tools.

mod junit;
mod sarif;

pub use junit::junit;
pub use sarif::sarif;
