//! What a node is started with.

use std::{net::SocketAddr, path::PathBuf};

use nullius_workload::CgroupRoot;

use crate::{MeshSettings, ProofSettings};

/// Settings of `nullius node`. Paths are those of the host: what of them stands in the node's container stands there at the same place.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The node's name in Kubernetes; on a machine the file that it joins with. Only the log says it.
    pub node: String,
    /// How it proves itself, and whom it believes.
    pub proof: ProofSettings,
    /// The socket of the Workload API, alone in its directory.
    pub socket: PathBuf,
    /// The folder for what outlives a restart; it is nobody else's.
    pub state: PathBuf,
    /// The kubelet's root directory; without it there is no CSI driver.
    pub kubelet: Option<PathBuf>,
    /// The cgroup below which the kubelet keeps its pods.
    pub cgroup_root: CgroupRoot,
    /// Where health, readiness and metrics are served.
    pub health: Option<SocketAddr>,
    /// The same for the kubelet alone, where nobody else keeps it waiting.
    pub probes: Option<SocketAddr>,
    /// The part of the mesh; without it no pod's traffic is led.
    pub mesh: Option<MeshSettings>,
}
