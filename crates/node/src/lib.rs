//! `nullius node`: the part on each node that holds the SVIDs of the node's pods and hands them to who can be attested; and the same on a
//! machine outside of the cluster, for its processes.
//!
//! It hears from `agent identity` what is registered for its node and has SVIDs signed there ([`nullius_workload`] keeps, renews and
//! serves them); it knows no Kubernetes API. To the kubelet it is a CSI driver, whose volumes are the directory of its socket; to the container
//! runtime a plugin of the network (CNI), after which the traffic of pods in the mesh is led through it.

mod cni;
mod csi;
mod descriptors;
mod error;
mod host;
mod limit;
mod link;
mod lock;
mod machine;
mod memory;
mod mesh;
mod meters;
mod proof;
mod run;
mod settings;
mod sidecar;
mod trust;
mod unix;
mod way;

pub use cni::{CniHost, InstallError, PLUGIN, PluginOutput, run_plugin, uninstall};
pub use csi::DRIVER;
pub use error::NodeError;
pub use host::enter_cgroups;
pub use mesh::MeshSettings;
pub use proof::ProofSettings;
pub use run::run_node;
pub use settings::NodeSettings;
pub use sidecar::{SidecarError, SidecarSettings, run_sidecar};
