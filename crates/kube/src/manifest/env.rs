//! Environment and files of the agent's pods: what the manifest writes and the command line reads.

/// `host:port` of the hub.
pub const HUB: &str = "NULLIUS_HUB";
/// Name of the cluster.
pub const CLUSTER: &str = "NULLIUS_CLUSTER";
/// File with the infrastructure root in PEM.
pub const INFRA_CA_FILE: &str = "NULLIUS_INFRA_CA_FILE";
/// The offline key, base64url.
pub const OFFLINE_KEY: &str = "NULLIUS_OFFLINE_KEY";
/// Identity of the hub fleet.
pub const HUB_ID: &str = "NULLIUS_HUB_ID";
/// File with the agent's projected token for the hub.
pub const HUB_TOKEN_FILE: &str = "NULLIUS_HUB_TOKEN_FILE";
/// File with the join token; absent once it is redeemed.
pub const JOIN_TOKEN_FILE: &str = "NULLIUS_JOIN_TOKEN_FILE";
/// File with the account's projected token for the API server.
pub const API_TOKEN_FILE: &str = "NULLIUS_API_TOKEN_FILE";
/// File with the cluster's CA.
pub const API_CA_FILE: &str = "NULLIUS_API_CA_FILE";
/// `host:port` of `agent control`, for `agent proxy`.
pub const CONTROL: &str = "NULLIUS_CONTROL";
/// Address that `agent control` listens on for proxies, `agent admission` for API servers, `agent identity` for nodes.
pub const LISTEN: &str = "NULLIUS_LISTEN";
/// Address that `agent control` hears the API server's audit webhook at; it hears none where this is absent.
pub const AUDIT_LISTEN: &str = "NULLIUS_AUDIT_LISTEN";
/// Address of health and readiness.
pub const HEALTH: &str = "NULLIUS_HEALTH";
/// Where the kubelet alone asks for health, for `nullius node`.
pub const PROBES: &str = "NULLIUS_PROBES";

/// File with the authority of API servers' client certificates, for `agent admission`; none is asked for where it is absent.
pub const CLIENT_CA_FILE: &str = "NULLIUS_ADMISSION_CLIENT_CA";

/// Namespaces in which exceptions from policies count, separated by commas; for `agent admission`.
pub const EXCEPTION_NAMESPACES: &str = "NULLIUS_EXCEPTION_NAMESPACES";
/// Name of the pod itself, for `agent admission` and `agent identity`: replicas tell each other what they know.
pub const POD: &str = "NULLIUS_POD";
/// The image of proxies that `agent admission` puts into pods; it puts none where this is absent.
pub const PROXY_IMAGE: &str = "NULLIUS_PROXY_IMAGE";
/// When that image is pulled, in Kubernetes' words.
pub const PROXY_PULL: &str = "NULLIUS_PROXY_PULL";

/// The trust domain of the cluster, for `agent identity`.
pub const TRUST_DOMAIN: &str = "NULLIUS_TRUST_DOMAIN";
/// Address of the Service of `agent identity`, under which nodes find it.
pub const ISSUER_HOST: &str = "NULLIUS_ISSUER_HOST";
/// And its port.
pub const ISSUER_PORT: &str = "NULLIUS_ISSUER_PORT";

/// Name of the node, for `nullius node`.
pub const NODE: &str = "NULLIUS_NODE";
/// Folder with the cluster's trust domain, its bundle and the address of `agent identity`.
pub const NODE_TRUST: &str = "NULLIUS_NODE_TRUST";
/// File with the node's projected token for `agent identity`.
pub const NODE_TOKEN_FILE: &str = "NULLIUS_NODE_TOKEN_FILE";
/// Socket of the Workload API.
pub const NODE_SOCKET: &str = "NULLIUS_NODE_SOCKET";
/// Folder of what the node remembers.
pub const NODE_STATE: &str = "NULLIUS_NODE_STATE";
/// The kubelet's root directory; where it is absent there is no CSI driver.
pub const KUBELET: &str = "NULLIUS_KUBELET";
/// The cgroup below which the kubelet keeps its pods.
pub const CGROUP_ROOT: &str = "NULLIUS_CGROUP_ROOT";
/// Directory of the host's network plugins; where it is absent the node has no part of the mesh.
pub const CNI_PROGRAMS: &str = "NULLIUS_CNI_PROGRAMS";
/// Directory of the host's networks.
pub const CNI_NETWORKS: &str = "NULLIUS_CNI_NETWORKS";
/// Socket of the node for its network plugin.
pub const CNI_SOCKET: &str = "NULLIUS_CNI_SOCKET";

pub(super) const NODE_TRUST_DIR: &str = "/etc/nullius/trust";
pub(super) const NODE_TOKEN_DIR: &str = "/var/run/nullius/identity";
pub(super) const NODE_TOKEN_PATH: &str = "/var/run/nullius/identity/token";
pub(super) const CLIENT_CA_DIR: &str = "/etc/nullius/client-ca";
pub(super) const CLIENT_CA_PATH: &str = "/etc/nullius/client-ca/ca.crt";
pub(super) const CONFIG_DIR: &str = "/etc/nullius";
pub(super) const INFRA_CA_PATH: &str = "/etc/nullius/infra-ca.pem";
pub(super) const HUB_TOKEN_DIR: &str = "/var/run/nullius/hub";
pub(super) const HUB_TOKEN_PATH: &str = "/var/run/nullius/hub/token";
pub(super) const JOIN_DIR: &str = "/var/run/nullius/join";
pub(super) const JOIN_TOKEN_PATH: &str = "/var/run/nullius/join/token";
pub(super) const API_DIR: &str = "/var/run/nullius/api";
pub(super) const API_TOKEN_PATH: &str = "/var/run/nullius/api/token";
pub(super) const API_CA_PATH: &str = "/var/run/nullius/api/ca.crt";
