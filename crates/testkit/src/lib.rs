//! A real Kubernetes cluster on one machine, and what end-to-end tests need around it.
//!
//! [`Cluster::up`] starts etcd, the control plane and, as root on Linux, nodes (network namespaces with containerd,
//! kubelet and kube-proxy of their own) from programs that [`Programs`] builds once from Go modules. Nothing is
//! simulated, every certificate is verified, and whatever a killed run leaves behind is cleaned by the next one.
//! Tests ask for a running cluster with [`shared()`] and work in a [`TestNamespace`].

mod api;
mod audit;
mod cgroup;
mod cluster;
mod config;
mod control_plane;
mod dns;
mod environment;
mod image;
mod interrupt;
mod kubectl;
mod leftovers;
mod network;
mod node;
mod owned;
mod packages;
mod pki;
mod port;
mod process;
mod programs;
mod progress;
mod python;
mod record;
mod shared;
mod slot;
mod state;
mod stub_api;
mod turn;
mod versions;
mod wait;

pub use api::{Api, Response};
pub use audit::{AuditEntry, AuditLog};
pub use cluster::{Cluster, up_all};
pub use config::{AddressFamilies, ApiServerConfig, ClusterConfig, Dns, FoundBy, Profile};
pub use environment::{
    AgentPlace, Environment, EnvironmentCluster, EnvironmentConfig, Person, earlier_code,
    example_rights,
};
pub use image::{Content, File, Image, busybox_image, image_from_binary, pause_image};
pub use interrupt::interrupt;
pub use kubectl::{Kubectl, Output, kubectl, kubectl_on_path};
pub use packages::{ensure_browser, missing_for_browser, missing_for_nodes};
pub use port::free_address;
pub use programs::{Component, Programs, ensure_helm, missing_for_clusters};
pub use progress::Progress;
pub use python::{PYTHON_PACKAGES, ensure_python_packages};
pub use record::{ClusterRecord, NodeRecord, ProcessRecord};
pub use shared::{TestNamespace, WITHOUT_CLUSTERS, environment, shared, shared_all};
pub use state::{StateDir, Status};
pub use stub_api::{StubApi, stub_certificate};
pub use turn::{Company, Turn};
pub use versions::KubernetesVersion;
pub use wait::wait_until;
