//! etcd and the control plane's programs with the flags that a production cluster has.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    config::ClusterConfig,
    network::Plan,
    pki::{self, Authority, Subject, Usage},
    process::Daemon,
    programs::Programs,
    slot::Ports,
};

/// One entry a request (two for a watch: when it starts and when it ends).
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

/// The control plane of one cluster: where it lives and what it listens on.
pub(crate) struct ControlPlane<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) config: &'a ClusterConfig,
    pub(crate) programs: &'a Programs,
    pub(crate) plan: Plan,
    pub(crate) ports: Ports,
    /// The address that the API server listens on.
    pub(crate) bind: IpAddr,
    /// The address that others reach it at.
    pub(crate) advertise: IpAddr,
}

impl ControlPlane<'_> {
    pub(crate) fn server(&self) -> String {
        url(self.advertise, self.ports.api_server)
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.directory.join("pki")
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.directory.join("audit.log")
    }

    /// Makes all certificates, kubeconfigs and configuration files.
    pub(crate) fn write_files(&self) -> Result<()> {
        let pki = self.pki();
        fs::create_dir_all(&pki)?;
        let cluster = Authority::create(&pki, "ca", "kubernetes")?;
        let front_proxy = Authority::create(&pki, "front-proxy-ca", "front-proxy-ca")?;
        let etcd = Authority::create(&pki, "etcd-ca", "etcd-ca")?;
        pki::service_account_key(&pki)?;

        let client = |file: &str, name: &str, group: Option<&str>| {
            cluster.issue(&pki, file, Usage::Client, Subject::user(name, group))
        };
        client("admin", "admin", Some("system:masters"))?;
        client("kube-controller-manager", "system:kube-controller-manager", None)?;
        client("kube-scheduler", "system:kube-scheduler", None)?;
        client("kube-proxy", "system:kube-proxy", None)?;
        client("apiserver-kubelet-client", KUBELET_CLIENT, None)?;
        let front = Subject::user("front-proxy-client", None);
        front_proxy.issue(&pki, "front-proxy-client", Usage::Client, front)?;

        let names = self.api_server_names();
        let api = Subject { common_name: "kube-apiserver", organization: None, names: &names };
        cluster.issue(&pki, "apiserver", Usage::Server, api)?;
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server = Subject { common_name: "etcd", organization: None, names: &names };
        etcd.issue(&pki, "etcd-server", Usage::Both, server)?;
        let api = Subject::user("kube-apiserver-etcd-client", None);
        etcd.issue(&pki, "apiserver-etcd-client", Usage::Client, api)?;

        for node in 1..=self.config.nodes {
            let name = node_name(node);
            let user = format!("system:node:{name}");
            client(&name, &user, Some("system:nodes"))?;
            let addresses = self.plan.node(node).into_iter().map(|address| address.to_string());
            let names: Vec<_> = std::iter::once(name.clone()).chain(addresses).collect();
            let server =
                Subject { common_name: &user, organization: Some("system:nodes"), names: &names };
            cluster.issue(&pki, &format!("{name}-serving"), Usage::Server, server)?;
            self.write_kubeconfig(&name)?;
        }
        for user in ["admin", "kube-controller-manager", "kube-scheduler", "kube-proxy"] {
            self.write_kubeconfig(user)?;
        }
        self.write_config_files()
    }

    /// A kubeconfig that holds all it needs, so that it can be copied anywhere.
    fn write_kubeconfig(&self, user: &str) -> Result<()> {
        let pki = self.pki();
        let read = |name: String| -> Result<String> { Ok(base64(&fs::read(pki.join(name))?)) };
        let cluster = &self.config.name;
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {cluster}\n\
             clusters:\n- name: {cluster}\n  cluster:\n    server: {}\n    certificate-authority-data: {}\n\
             users:\n- name: {user}\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n\
             contexts:\n- name: {cluster}\n  context: {{cluster: {cluster}, user: {user}}}\n",
            self.server(),
            read("ca.crt".to_owned())?,
            read(format!("{user}.crt"))?,
            read(format!("{user}.key"))?,
        );
        pki::write_secret(&self.directory.join(format!("{user}.kubeconfig")), &text)
    }

    pub(crate) fn config_directory(&self) -> PathBuf {
        self.directory.join("config")
    }

    fn write_config_files(&self) -> Result<()> {
        let directory = self.config_directory();
        fs::create_dir_all(&directory)?;
        let api = &self.config.api_server;
        let policy = api.audit_policy.as_deref().unwrap_or(AUDIT_POLICY);
        let named = [
            ("audit-policy.yaml", Some(policy)),
            ("authentication.yaml", api.authentication.as_deref()),
            ("authorization.yaml", api.authorization.as_deref()),
            ("audit-webhook.kubeconfig", api.audit_webhook.as_deref()),
            ("admission.yaml", api.admission.as_deref()),
            ("encryption.yaml", api.encryption.as_deref()),
        ];
        let named = named.into_iter().filter_map(|(name, text)| Some((name, text?)));
        let further = api.files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        for (name, text) in named.chain(further) {
            if name.contains('/') || name.starts_with('.') {
                bail!("`{name}` is no plain file name");
            }
            pki::write_secret(&directory.join(name), &self.expand(text))?;
        }
        Ok(())
    }

    fn expand(&self, text: &str) -> String {
        text.replace("${CONFIG}", &self.config_directory().display().to_string())
    }

    fn api_server_names(&self) -> Vec<String> {
        let mut names: Vec<String> = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        .map(str::to_owned)
        .to_vec();
        let mut addresses: Vec<IpAddr> =
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), self.advertise];
        addresses.extend(self.plan.host());
        addresses.extend(self.plan.api_service());
        if !self.bind.is_unspecified() {
            addresses.push(self.bind);
        }
        addresses.sort();
        addresses.dedup();
        names.extend(addresses.iter().map(IpAddr::to_string));
        names
    }

    pub(crate) fn etcd(&self) -> Daemon<'_> {
        let client = format!("https://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("https://127.0.0.1:{}", self.ports.etcd_peer);
        let pki = self.pki();
        let file = |name: &str| pki.join(name).display().to_string();
        let mut args = Arguments::default();
        args.set("name", "etcd");
        args.set("data-dir", &self.directory.join("etcd").display().to_string());
        args.set("listen-client-urls", &client);
        args.set("advertise-client-urls", &client);
        args.set("listen-peer-urls", &peer);
        args.set("initial-advertise-peer-urls", &peer);
        args.set("initial-cluster", &format!("etcd={peer}"));
        for prefix in ["", "peer-"] {
            args.set(&format!("{prefix}cert-file"), &file("etcd-server.crt"));
            args.set(&format!("{prefix}key-file"), &file("etcd-server.key"));
            args.set(&format!("{prefix}trusted-ca-file"), &file("etcd-ca.crt"));
            args.set(&format!("{prefix}client-cert-auth"), "true");
        }
        // Data that nobody misses after a power cut: no reason to wait for the disk.
        args.set("unsafe-no-fsync", "true");
        self.daemon("etcd", args)
    }

    pub(crate) fn api_server(&self) -> Result<Daemon<'_>> {
        let api = &self.config.api_server;
        let pki = self.pki();
        let config = self.config_directory();
        let mut args = Arguments::default();
        let key = |name: &str| pki.join(name).display().to_string();
        let text = |name: &str| config.join(name).display().to_string();

        args.set("etcd-servers", &format!("https://127.0.0.1:{}", self.ports.etcd));
        args.set("etcd-cafile", &key("etcd-ca.crt"));
        args.set("etcd-certfile", &key("apiserver-etcd-client.crt"));
        args.set("etcd-keyfile", &key("apiserver-etcd-client.key"));
        args.set("bind-address", &self.bind.to_string());
        args.set("secure-port", &self.ports.api_server.to_string());
        args.set("advertise-address", &self.advertise.to_string());
        if self.advertise.is_loopback() {
            // Endpoints may not name loopback addresses, and without nodes nobody reads them.
            args.set("endpoint-reconciler-type", "none");
        }
        args.set("tls-cert-file", &key("apiserver.crt"));
        args.set("tls-private-key-file", &key("apiserver.key"));
        args.set("client-ca-file", &key("ca.crt"));

        args.set("service-account-issuer", "https://kubernetes.default.svc.cluster.local");
        args.set("service-account-key-file", &key("sa.pub"));
        args.set("service-account-signing-key-file", &key("sa.key"));
        args.set("service-account-jwks-uri", &format!("{}/openid/v1/jwks", self.server()));
        args.set("service-cluster-ip-range", &self.plan.service_ranges().join(","));
        args.set("allow-privileged", "true");

        args.set("kubelet-client-certificate", &key("apiserver-kubelet-client.crt"));
        args.set("kubelet-client-key", &key("apiserver-kubelet-client.key"));
        args.set("kubelet-certificate-authority", &key("ca.crt"));
        args.set("kubelet-preferred-address-types", "InternalIP");

        args.set("requestheader-client-ca-file", &key("front-proxy-ca.crt"));
        args.set("requestheader-allowed-names", "front-proxy-client");
        args.set("requestheader-extra-headers-prefix", "X-Remote-Extra-");
        args.set("requestheader-group-headers", "X-Remote-Group");
        args.set("requestheader-username-headers", "X-Remote-User");
        args.set("proxy-client-cert-file", &key("front-proxy-client.crt"));
        args.set("proxy-client-key-file", &key("front-proxy-client.key"));
        // The API server runs beside the nodes, without kube-proxy: webhooks and aggregated APIs are reached at
        // the pods' addresses.
        args.set("enable-aggregator-routing", "true");
        args.set("enable-admission-plugins", "NodeRestriction");
        args.set("enable-bootstrap-token-auth", "true");

        args.set("audit-policy-file", &text("audit-policy.yaml"));
        args.set("audit-log-path", &self.audit_log().display().to_string());
        args.set("audit-log-maxsize", "2048");
        if api.audit_webhook.is_some() {
            args.set("audit-webhook-config-file", &text("audit-webhook.kubeconfig"));
            args.set("audit-webhook-batch-max-wait", "1s");
        }
        match api.authorization {
            Some(_) => args.set("authorization-config", &text("authorization.yaml")),
            None => args.set("authorization-mode", "Node,RBAC"),
        }
        if api.authentication.is_some() {
            args.set("authentication-config", &text("authentication.yaml"));
        }
        if api.admission.is_some() {
            args.set("admission-control-config-file", &text("admission.yaml"));
        }
        if api.encryption.is_some() {
            args.set("encryption-provider-config", &text("encryption.yaml"));
        }
        self.set_gates(&mut args);
        for argument in &api.args {
            args.set_flag(&self.expand(argument)).with_context(|| {
                format!("`{argument}` is no argument for the API server; write `--flag=value`")
            })?;
        }
        Ok(self.daemon("kube-apiserver", args))
    }

    pub(crate) fn controller_manager(&self) -> Daemon<'_> {
        let key = |name: &str| self.pki().join(name).display().to_string();
        let mut args = self.component("kube-controller-manager", self.ports.controller_manager);
        args.set("root-ca-file", &key("ca.crt"));
        args.set("service-account-private-key-file", &key("sa.key"));
        args.set("use-service-account-credentials", "true");
        args.set("cluster-signing-cert-file", &key("ca.crt"));
        args.set("cluster-signing-key-file", &key("ca.key"));
        // Each controller asks for a token of its own first: the usual limit makes that take five seconds.
        args.set("kube-api-qps", "1000");
        args.set("kube-api-burst", "1000");
        args.set("controllers", "*,bootstrap-signer-controller,token-cleaner-controller");
        self.daemon("kube-controller-manager", args)
    }

    pub(crate) fn scheduler(&self) -> Daemon<'_> {
        let args = self.component("kube-scheduler", self.ports.scheduler);
        self.daemon("kube-scheduler", args)
    }

    /// What controller manager and scheduler have in common.
    fn component(&self, name: &str, port: u16) -> Arguments {
        let kubeconfig = self.kubeconfig(name).display().to_string();
        let mut args = Arguments::default();
        args.set("kubeconfig", &kubeconfig);
        args.set("authentication-kubeconfig", &kubeconfig);
        args.set("authorization-kubeconfig", &kubeconfig);
        args.set("client-ca-file", &self.pki().join("ca.crt").display().to_string());
        args.set("bind-address", "127.0.0.1");
        args.set("secure-port", &port.to_string());
        let certificates = self.directory.join(format!("{name}-serving"));
        args.set("cert-dir", &certificates.display().to_string());
        args.set("leader-elect", "false");
        self.set_gates(&mut args);
        args
    }

    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.directory.join(format!("{user}.kubeconfig"))
    }

    pub(crate) fn set_gates(&self, args: &mut Arguments) {
        if let Some(gates) = self.config.gates() {
            args.set("feature-gates", &gates);
        }
    }

    fn daemon<'b>(&'b self, name: &'b str, args: Arguments) -> Daemon<'b> {
        Daemon {
            name,
            program: self.programs.kube().to_owned(),
            args: args.with_program(name),
            directory: self.directory,
            log: self.directory.join(format!("{name}.log")),
            namespace: None,
            path: Vec::new(),
        }
    }
}

/// The user name of the API server at the kubelets.
pub(crate) const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

/// What is created right after the API server is ready, as path and object.
pub(crate) fn first_objects(control_plane: &ControlPlane<'_>) -> Vec<(String, serde_json::Value)> {
    let mut objects = vec![(
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".to_owned(),
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": KUBELET_CLIENT},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                        "name": "system:kubelet-api-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": KUBELET_CLIENT}],
        }),
    )];
    for node in 1..=control_plane.config.nodes {
        let ranges = control_plane.plan.pod_ranges(node);
        // Made before the kubelet registers itself: routes follow the plan, not the order of arrival.
        objects.push((
            "/api/v1/nodes".to_owned(),
            serde_json::json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": node_name(node)},
                "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
            }),
        ));
    }
    objects
}

/// A node's name in Kubernetes.
pub(crate) fn node_name(number: u8) -> String {
    format!("node{number}")
}

/// Flags of a program, each once.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    flags: BTreeMap<String, String>,
}

impl Arguments {
    pub(crate) fn set(&mut self, flag: &str, value: &str) {
        self.flags.insert(flag.to_owned(), value.to_owned());
    }

    fn set_flag(&mut self, argument: &str) -> Option<()> {
        let (flag, value) = argument.strip_prefix("--")?.split_once('=')?;
        self.set(flag, value);
        Some(())
    }

    pub(crate) fn with_program(self, program: &str) -> Vec<String> {
        let flags = self.flags.into_iter().map(|(flag, value)| format!("--{flag}={value}"));
        std::iter::once(program.to_owned()).chain(flags).collect()
    }
}

fn url(address: IpAddr, port: u16) -> String {
    format!("https://{}", std::net::SocketAddr::new(address, port))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_later_argument_replaces_an_earlier_one() {
        let mut args = Arguments::default();
        args.set("audit-log-mode", "blocking");
        args.set_flag("--audit-log-mode=batch").unwrap();
        assert!(args.set_flag("audit-log-mode=batch").is_none());
        assert!(args.set_flag("--audit-log-mode").is_none());
        assert_eq!(args.with_program("x"), ["x", "--audit-log-mode=batch"]);
    }
}
