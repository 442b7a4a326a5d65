//! `nullius node`: the part on each node that holds the SVIDs of the node's pods and hands them to who can be attested.
//!
//! It hears from `agent identity` what is registered for its node and has SVIDs signed there ([`nullius_workload`] keeps, renews and
//! serves them); it knows no Kubernetes API. To the kubelet it is a CSI driver, whose volumes are the directory of its socket.

mod csi;
mod error;
mod host;
mod link;
mod lock;
mod memory;
mod meters;
mod run;
mod settings;
mod trust;
mod unix;

pub use csi::DRIVER;
pub use error::NodeError;
pub use host::enter_cgroups;
pub use run::run_node;
pub use settings::NodeSettings;
