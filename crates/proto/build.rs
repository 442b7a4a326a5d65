//! Compiles `proto/` without a `protoc` on the machine.

const FILES: &[&str] = &[
    "nullius/agent/v1/agent.proto",
    "nullius/node/v1/node.proto",
    "nullius/node/v1/mesh.proto",
    "nullius/node/v1/machine.proto",
    "spiffe/workload.proto",
    "envoy/service_secret_v3.proto",
    "envoy/tls_v3.proto",
    "csi/csi.proto",
    "kubelet/pluginregistration.proto",
];

/// Messages in which private keys or tokens stand.
const SECRETS: &[&str] = &[
    ".nullius.node.v1.IssueJwtResponse",
    ".nullius.node.v1.JoinMachineRequest",
    ".csi.v1.NodePublishVolumeRequest",
    ".X509SVID",
    ".JWTSVID",
    ".ValidateJWTSVIDRequest",
    ".envoy.extensions.transport_sockets.tls.v3.DataSource",
    ".envoy.service.discovery.v3.DiscoveryResponse",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().skip_debug(SECRETS).compile_fds(descriptors)?;
    Ok(())
}
