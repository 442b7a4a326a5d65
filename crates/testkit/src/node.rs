//! A node: a network namespace with containerd, kubelet and kube-proxy of its own.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    cgroup,
    config::{AddressFamilies, Dns},
    control_plane::{Arguments, ControlPlane, node_name},
    owned::private_directory,
    process::Daemon,
    record::NodeRecord,
    wait::wait_until,
};

/// The image of the container that holds a pod's namespaces.
pub(crate) const PAUSE: &str = "localhost/nullius-pause:1";

/// One node of a cluster that is being started.
pub(crate) struct Node<'a> {
    pub(crate) control_plane: &'a ControlPlane<'a>,
    pub(crate) number: u8,
}

impl Node<'_> {
    pub(crate) fn directory(&self) -> PathBuf {
        self.control_plane.directory.join(format!("n{}", self.number))
    }

    pub(crate) fn record(&self) -> NodeRecord {
        let plan = self.control_plane.plan;
        NodeRecord {
            name: node_name(self.number),
            addresses: plan.node(self.number),
            pod_ranges: plan.pod_ranges(self.number),
            network_namespace: plan.slot.node(self.number),
            containerd: self.socket(),
        }
    }

    /// Makes its cgroups and configuration files.
    pub(crate) fn write_files(&self) -> Result<()> {
        cgroup::create(&self.cgroup())?;
        let directory = self.directory();
        fs::create_dir_all(directory.join("cni"))?;
        fs::create_dir_all(directory.join("cni-programs"))?;
        private_directory(&self.sockets())?;
        fs::write(directory.join("containerd.toml"), self.containerd_config())?;
        fs::write(directory.join("cni/10-pods.conflist"), self.cni_config())?;
        fs::write(directory.join("kubelet.json"), self.kubelet_config())?;
        fs::write(directory.join("kube-proxy.json"), self.proxy_config())?;
        Ok(())
    }

    pub(crate) fn containerd(&self) -> Daemon<'_> {
        let programs = self.control_plane.programs;
        let config = self.directory().join("containerd.toml");
        self.daemon(
            "containerd",
            programs.containerd().join("containerd"),
            vec!["--config".to_owned(), config.display().to_string()],
        )
    }

    pub(crate) fn wait_for_containerd(&self) -> Result<()> {
        let socket = self.socket();
        let what = format!("containerd of {}", node_name(self.number));
        wait_until(Duration::from_secs(120), &what, || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        })?;
        Ok(())
    }

    pub(crate) fn kubelet(&self) -> Daemon<'_> {
        let directory = self.directory();
        let kubeconfig = self.control_plane.kubeconfig(&node_name(self.number));
        let addresses: Vec<_> =
            self.control_plane.plan.node(self.number).iter().map(IpAddr::to_string).collect();
        let mut args = Arguments::default();
        args.set("config", &directory.join("kubelet.json").display().to_string());
        args.set("kubeconfig", &kubeconfig.display().to_string());
        args.set("hostname-override", &node_name(self.number));
        args.set("root-dir", &directory.join("kubelet").display().to_string());
        args.set("node-ip", &addresses.join(","));
        self.kube("kubelet", args)
    }

    pub(crate) fn proxy(&self) -> Daemon<'_> {
        let mut args = Arguments::default();
        args.set("config", &self.directory().join("kube-proxy.json").display().to_string());
        args.set("hostname-override", &node_name(self.number));
        self.kube("kube-proxy", args)
    }

    fn kube(&self, program: &'static str, args: Arguments) -> Daemon<'_> {
        let kube = self.control_plane.programs.kube().to_owned();
        self.daemon(program, kube, args.with_program(program))
    }

    fn daemon(&self, name: &'static str, program: PathBuf, args: Vec<String>) -> Daemon<'_> {
        Daemon {
            name,
            program,
            args,
            directory: self.control_plane.directory,
            log: self.directory().join(format!("{name}.log")),
            namespace: Some(self.control_plane.plan.slot.node(self.number)),
            path: vec![self.control_plane.programs.containerd()],
        }
    }

    fn socket(&self) -> PathBuf {
        self.sockets().join("containerd.sock")
    }

    fn sockets(&self) -> PathBuf {
        self.control_plane.plan.slot.sockets(self.number)
    }

    fn cgroup(&self) -> String {
        self.control_plane.plan.slot.node(self.number)
    }

    fn containerd_config(&self) -> String {
        let directory = self.directory();
        let directory = directory.display();
        let programs = self.control_plane.programs;
        let snapshotter = snapshotter(self.control_plane.directory);
        format!(
            r#"version = 3
root = "{directory}/root"
state = "{directory}/run"

[grpc]
  address = "{sockets}/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"

[plugins."io.containerd.nri.v1.nri"]
  disable = true

[plugins."io.containerd.shim.v1.manager"]
  socket_dir = "{sockets}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "{snapshotter}"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE (a container, say) scores below one's own cannot be set.
  restrict_oom_score_adj = true
  # The pods' network namespaces stand below the cluster's directory, and go with it.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    # What is added to this node's network alone stands in the first.
    bin_dirs = ["{directory}/cni-programs", "{cni}"]
    conf_dir = "{directory}/cni"
    use_internal_loopback = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{runc}"
      Root = "{directory}/runc"
      SystemdCgroup = false
"#,
            sockets = self.sockets().display(),
            cni = programs.cni_plugins().display(),
            runc = programs.runc().display(),
        )
    }

    fn cni_config(&self) -> String {
        let plan = self.control_plane.plan;
        let ranges: Vec<_> = plan
            .pod_ranges(self.number)
            .iter()
            .map(|range| serde_json::json!([{"subnet": range}]))
            .collect();
        let mut routes = vec![serde_json::json!({"dst": "0.0.0.0/0"})];
        if plan.families == AddressFamilies::DualStack {
            routes.push(serde_json::json!({"dst": "::/0"}));
        }
        let leases = self.directory().join("addresses");
        serde_json::json!({
            "cniVersion": "1.0.0",
            "name": plan.slot.node(self.number),
            "plugins": [
                {
                    "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                    "ipam": {"type": "host-local", "dataDir": leases, "ranges": ranges, "routes": routes},
                },
                {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}},
            ],
        })
        .to_string()
    }

    fn kubelet_config(&self) -> String {
        let directory = self.directory();
        let pki = self.control_plane.pki();
        let name = node_name(self.number);
        let mut config = serde_json::json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.cgroup()),
            "cgroupsPerQOS": true,
            "enforceNodeAllocatable": [],
            "failSwapOn": false,
            "localStorageCapacityIsolation": false,
            "containerRuntimeEndpoint": format!("unix://{}", self.socket().display()),
            "podLogsDir": directory.join("logs"),
            "tlsCertFile": pki.join(format!("{name}-serving.crt")),
            "tlsPrivateKeyFile": pki.join(format!("{name}-serving.key")),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": pki.join("ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDomain": "cluster.local",
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "50Mi"},
            "registerNode": true,
            "featureGates": self.control_plane.config.feature_gates,
        });
        if self.control_plane.config.dns == Dns::CoreDns {
            let server = self.control_plane.plan.dns_service().to_string();
            config["clusterDNS"] = serde_json::json!([server]);
        }
        config.to_string()
    }

    fn proxy_config(&self) -> String {
        let kubeconfig = self.control_plane.kubeconfig("kube-proxy");
        serde_json::json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": kubeconfig},
            "mode": "nftables",
            "clusterCIDR": self.control_plane.plan.cluster_ranges().join(","),
            // Limits of connection tracking are the host's, not a namespace's.
            "conntrack": {"maxPerCore": 0, "min": 0,
                          "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "featureGates": self.control_plane.config.feature_gates,
        })
        .to_string()
    }
}

/// Brings an image archive to a node.
pub(crate) fn import(ctr: &Path, socket: &Path, archive: &Path) -> Result<()> {
    let output = Command::new(ctr)
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(archive)
        .output()
        .with_context(|| format!("cannot run `{}`", ctr.display()))?;
    if !output.status.success() {
        bail!(
            "containerd did not take the image `{}`: {}",
            archive.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Overlay file systems cannot be stacked on one another (this machine may be a container itself).
fn snapshotter(directory: &Path) -> &'static str {
    const OVERLAY: u64 = 0x794c_7630;
    let on_overlay = rustix::fs::statfs(directory)
        .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| kind == OVERLAY));
    if on_overlay { "native" } else { "overlayfs" }
}
