//! A cluster: started step by step, with everything that can run at the same time doing so, and used by its record.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, bail};
use serde_json::Value;

use crate::{
    api::Api,
    audit::AuditLog,
    config::{ClusterConfig, Dns, FoundBy},
    control_plane::{ControlPlane, first_objects},
    dns,
    image::{Image, busybox_image, pause_image},
    interrupt::go_on,
    kubectl::Kubectl,
    leftovers, network,
    network::Plan,
    node::{self, Node},
    owned, packages,
    process::{Daemon, log_tail},
    programs::{Component, Programs},
    progress::Progress,
    record::{ClusterRecord, Entry, Journal, ProcessRecord},
    shared::TestNamespace,
    slot::Slot,
    state::StateDir,
    wait::wait_until,
};

/// How long the control plane and then the nodes may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A Kubernetes cluster that can be used.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its own directory; none for a cluster that was brought along.
    directory: Option<PathBuf>,
    record: ClusterRecord,
}

/// Starts several clusters at the same time.
pub fn up_all(
    state: &StateDir,
    configs: Vec<ClusterConfig>,
    progress: Progress,
) -> Result<Vec<Cluster>> {
    thread::scope(|scope| {
        let started: Vec<_> = configs
            .into_iter()
            .map(|config| scope.spawn(move || Cluster::up(state, config, progress)))
            .collect();
        // All are waited for before the first error is told: none is left half started.
        let finished: Vec<_> = started.into_iter().map(thread::ScopedJoinHandle::join).collect();
        finished
            .into_iter()
            .map(|result| result.unwrap_or_else(|_| bail!("starting a cluster panicked")))
            .collect()
    })
}

impl Cluster {
    /// Starts a cluster, after cleaning what an earlier one of this name left behind.
    ///
    /// Where nodes cannot run (no root, not Linux) it is a control plane alone, and the record says what is missing.
    pub fn up(state: &StateDir, mut config: ClusterConfig, progress: Progress) -> Result<Self> {
        config.check()?;
        let missing = if config.nodes > 0 { packages::missing_for_nodes() } else { None };
        if let Some(missing) = &missing {
            progress.say(&format!("{}: control plane only: {missing}", config.name));
            config.nodes = 0;
        }
        let mut components = vec![Component::Kubernetes];
        if config.nodes > 0 {
            components.push(Component::Nodes);
            if config.dns == Dns::CoreDns {
                components.push(Component::CoreDns);
            }
        }
        let programs = Programs::ensure(config.kubernetes, &components, progress)?;

        go_on()?;
        let _lock = state.lock(&config.name, progress)?;
        let directory = state.directory(&config.name);
        leftovers::clear(&directory, None);
        owned::make(&directory)?;
        let start = Start {
            directory: &directory,
            config: &config,
            programs: &programs,
            journal: Journal::create(&directory)?,
            progress,
            began: Instant::now(),
        };
        let profile = (config.found_by == FoundBy::Profile).then_some(config.profile.as_str());
        let mut record = ClusterRecord::new(&config.name, profile);
        record.missing = missing;
        match start.run(record) {
            Ok(record) => Ok(Self { directory: Some(directory), record }),
            Err(error) => {
                let error = explain(error, &directory, &state.failed(&config.name));
                leftovers::clear(&directory, None);
                Err(error.context(format!("cannot start the cluster `{}`", config.name)))
            }
        }
    }

    /// Opens the cluster in this directory, if one got ready there.
    pub(crate) fn open(directory: &Path) -> Result<Option<Self>> {
        let record = ClusterRecord::read(directory)?;
        Ok(record.map(|record| Self { directory: Some(directory.to_owned()), record }))
    }

    /// A cluster that the user brought along: kind, k3d, a cloud's.
    ///
    /// `kubectl` on PATH (or the built one) reads the kubeconfig, so that all its forms are understood.
    pub fn external(kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = fs::canonicalize(kubeconfig)
            .with_context(|| format!("cannot read the kubeconfig `{}`", kubeconfig.display()))?;
        let kubectl = match crate::kubectl::kubectl_on_path(&kubeconfig) {
            Some(kubectl) => kubectl,
            None => crate::kubectl::kubectl(&kubeconfig).context(
                "a cluster of yours is reached with `kubectl`, which is not on PATH: install it, or let it be built",
            )?,
        };
        let no_context = || {
            let file = kubeconfig.display();
            format!("the kubeconfig `{file}` has no current context with a server")
        };
        let view = kubectl.ok(&["config", "view", "--minify", "-o", "json"]);
        let view: Value = serde_json::from_str(&view.with_context(no_context)?)?;
        let text = |pointer: &str| view.pointer(pointer).and_then(Value::as_str);
        let server = text("/clusters/0/cluster/server").with_context(no_context)?;
        let mut record =
            ClusterRecord::new(text("/clusters/0/name").unwrap_or("external"), Some("external"));
        server.clone_into(&mut record.server);
        record.kubeconfig.clone_from(&kubeconfig);
        record.kubectl = Some(kubectl.program().to_owned());
        let version: Value = serde_json::from_str(&kubectl.ok(&["get", "--raw", "/version"])?)?;
        let version = version.get("gitVersion").and_then(Value::as_str);
        version.unwrap_or_default().clone_into(&mut record.kubernetes);
        Ok(Self { directory: None, record })
    }

    /// Ends it; a cluster that the user brought along is left alone.
    pub fn down(&self) -> Result<()> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let parent = directory.parent().context("a cluster's directory has a parent")?;
        StateDir::open(parent)?.down(&self.record.name, Progress::Silent)
    }

    /// What is known of it.
    pub fn record(&self) -> &ClusterRecord {
        &self.record
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// An administrator's kubeconfig, past Nullius.
    pub fn kubeconfig(&self) -> &Path {
        &self.record.kubeconfig
    }

    /// Its processes, as started (empty for a cluster that the user brought along).
    pub fn processes(&self) -> Vec<ProcessRecord> {
        self.directory.as_deref().map(Journal::processes).unwrap_or_default()
    }

    /// A file below its own directory, such as `pki/ca.crt` or `kube-apiserver.log`.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        let directory = self.directory.as_ref();
        Ok(directory.context("this cluster was brought along: its files are elsewhere")?.join(name))
    }

    /// kubectl of its own version, as administrator.
    pub fn kubectl(&self) -> Result<Kubectl> {
        match &self.record.kubectl {
            Some(program) => Ok(Kubectl::new(program, &self.record.kubeconfig)),
            None => crate::kubectl::kubectl(&self.record.kubeconfig),
        }
    }

    /// A blocking client for its API server, as administrator.
    pub fn api(&self) -> Result<Api> {
        let address = self.record.server.trim_start_matches("https://").parse();
        let address: SocketAddr =
            address.with_context(|| format!("`{}` names no address", self.record.server))?;
        let pki = self.file("pki")?;
        Api::new(address, &pki.join("ca.crt"), &pki.join("admin.crt"), &pki.join("admin.key"))
    }

    /// Whether its API server answers that it is ready.
    pub fn is_ready(&self) -> bool {
        if self.directory.is_none() {
            let ready = |kubectl: Kubectl| kubectl.run(&["get", "--raw", "/readyz"]);
            return self.kubectl().and_then(ready).is_ok_and(|output| output.code == 0);
        }
        let ready = |api: Api| api.get("/readyz");
        self.api().and_then(ready).is_ok_and(|response| response.is_success())
    }

    /// The API server's own audit log.
    pub fn audit_log(&self) -> Result<AuditLog> {
        let file = self.record.audit_log.as_deref();
        Ok(AuditLog::new(file.context("this cluster's audit log cannot be read from here")?))
    }

    /// Brings an image to all nodes.
    pub fn load_image(&self, image: &Image) -> Result<()> {
        let ctr = self.record.ctr.as_deref();
        let ctr = ctr.context("this cluster has no nodes of ours to bring an image to")?;
        let archive = tempfile::Builder::new().suffix(".tar").tempfile()?.into_temp_path();
        image.write(&archive)?;
        thread::scope(|scope| {
            let archive = &archive;
            let imports: Vec<_> = self
                .record
                .nodes
                .iter()
                .map(|node| scope.spawn(move || node::import(ctr, &node.containerd, archive)))
                .collect();
            imports.into_iter().try_for_each(|import| {
                import.join().unwrap_or_else(|_| bail!("importing an image panicked"))
            })
        })
    }

    /// A namespace of its own for a test, deleted when dropped.
    pub fn namespace(&self, purpose: &str) -> Result<TestNamespace> {
        TestNamespace::create(self, purpose)
    }
}

/// A start that is going on.
struct Start<'a> {
    directory: &'a Path,
    config: &'a ClusterConfig,
    programs: &'a Programs,
    journal: Journal,
    progress: Progress,
    began: Instant,
}

impl Start<'_> {
    fn run(&self, mut record: ClusterRecord) -> Result<ClusterRecord> {
        let slot = Slot::claim(self.directory)?;
        self.journal.add(&Entry::Slot(slot.0))?;
        let plan = Plan { slot, families: self.config.addresses };
        if self.config.nodes > 0 {
            network::create_bridge(plan)?;
        }
        let (bind, advertise) = self.api_addresses(plan)?;
        let control_plane = ControlPlane {
            directory: self.directory,
            config: self.config,
            programs: self.programs,
            plan,
            ports: slot.ports()?,
            bind,
            advertise,
        };
        control_plane.write_files()?;
        self.spawn("", control_plane.etcd())?;
        self.spawn("", control_plane.api_server()?)?;
        self.step(&mut record, "started etcd and kube-apiserver");

        let nodes: Vec<_> = (1..=self.config.nodes)
            .map(|number| Node { control_plane: &control_plane, number })
            .collect();
        let pki = control_plane.pki();
        let address = SocketAddr::new(advertise, control_plane.ports.api_server);
        let api =
            Api::new(address, &pki.join("ca.crt"), &pki.join("admin.crt"), &pki.join("admin.key"))?;
        thread::scope(|scope| -> Result<()> {
            let runtimes: Vec<_> =
                nodes.iter().map(|node| scope.spawn(|| self.start_runtime(node))).collect();
            self.wait_for("the API server", || {
                api.get("/readyz").ok()?.is_success().then_some(())
            })?;
            self.step(&mut record, "API server ready");
            for (path, object) in first_objects(&control_plane) {
                api.create(&path, &object)?;
            }
            self.spawn("", control_plane.controller_manager())?;
            self.spawn("", control_plane.scheduler())?;
            for (node, runtime) in nodes.iter().zip(runtimes) {
                runtime.join().unwrap_or_else(|_| bail!("starting a node panicked"))?;
                let name = node.record().name;
                self.spawn(&name, node.kubelet())?;
                self.spawn(&name, node.proxy())?;
            }
            self.step(&mut record, "started controllers and kubelets");
            self.wait_for("the controllers", || default_account(&api))?;
            self.step(&mut record, "control plane ready");
            if !nodes.is_empty() {
                self.wait_for("the nodes", || nodes_ready(&api, nodes.len()))?;
                self.step(&mut record, "nodes ready");
                if self.config.dns == Dns::CoreDns {
                    dns::deploy(&control_plane)?;
                    self.wait_for("the cluster's DNS", || dns::is_ready(&api).then_some(()))?;
                    self.step(&mut record, "names resolve");
                }
            }
            Ok(())
        })?;

        record.kubernetes = self.config.kubernetes.full().to_owned();
        record.server = control_plane.server();
        record.kubeconfig = control_plane.kubeconfig("admin");
        record.certificate_authority = pki.join("ca.crt");
        record.audit_log = Some(control_plane.audit_log());
        record.nodes = nodes.iter().map(Node::record).collect();
        record.kubectl = Some(self.programs.kubectl().to_owned());
        if !nodes.is_empty() {
            record.host_address = plan.host().first().copied();
            record.ctr = Some(self.programs.containerd().join("ctr"));
        }
        record.write(self.directory)?;
        let what = match nodes.len() {
            0 => "control plane only".to_owned(),
            1 => "1 node".to_owned(),
            more => format!("{more} nodes"),
        };
        let line = format!("{}: Kubernetes {} up, {what}", record.name, record.kubernetes);
        self.progress.done(&line, self.began);
        Ok(record)
    }

    /// The address that the API server listens on, and the one that others reach it at.
    fn api_addresses(&self, plan: Plan) -> Result<(IpAddr, IpAddr)> {
        let usual = match plan.host().first() {
            Some(host) if self.config.nodes > 0 => *host,
            Some(_) | None => Ipv4Addr::LOCALHOST.into(),
        };
        let bind = self.config.api_server.bind.unwrap_or(usual);
        if bind.is_loopback() && self.config.nodes > 0 {
            bail!("the API server cannot listen on `{bind}`: nodes would not reach it there");
        }
        Ok((bind, if bind.is_unspecified() { usual } else { bind }))
    }

    /// Makes a node's network and starts its containerd with the images that are always there.
    fn start_runtime(&self, node: &Node<'_>) -> Result<()> {
        network::create_node(node.control_plane.plan, node.number, self.config.nodes)?;
        node.write_files()?;
        self.spawn(&node.record().name, node.containerd())?;
        let mut images = vec![pause_image(), busybox_image()?];
        if self.config.dns == Dns::CoreDns {
            images.push(dns::image(self.programs));
        }
        node.wait_for_containerd()?;
        for (number, image) in images.iter().enumerate() {
            let archive = node.directory().join(format!("image{number}.tar"));
            image.write(&archive)?;
            let ctr = self.programs.containerd().join("ctr");
            node::import(&ctr, &node.record().containerd, &archive)?;
            fs::remove_file(archive)?;
        }
        Ok(())
    }

    fn spawn(&self, owner: &str, daemon: Daemon<'_>) -> Result<()> {
        let mut process = daemon.spawn()?;
        if !owner.is_empty() {
            process.name = format!("{owner}/{}", process.name);
        }
        self.journal.add(&Entry::Process(process))
    }

    /// Waits for something, but not longer than all processes live.
    fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
        wait_until(PATIENCE, what, || {
            if let Some(value) = look() {
                return Some(Ok(value));
            }
            let ended = Journal::processes(self.directory).into_iter().find(|p| !p.is_alive());
            ended.map(|process| Err(anyhow::anyhow!("`{}` ended by itself", process.name)))
        })?
    }

    fn step(&self, record: &mut ClusterRecord, what: &str) {
        let seconds = (self.began.elapsed().as_secs_f64() * 100.0).round() / 100.0;
        record.timings.push((what.to_owned(), seconds));
    }
}

/// Pods can be made once the namespace has its ServiceAccount and the authority's ConfigMap.
fn default_account(api: &Api) -> Option<()> {
    let there = |path: &str| api.get(path).is_ok_and(|response| response.is_success());
    (there("/api/v1/namespaces/default/serviceaccounts/default")
        && there("/api/v1/namespaces/default/configmaps/kube-root-ca.crt"))
    .then_some(())
}

/// Nodes count when they say `Ready` and nothing keeps pods away from them.
fn nodes_ready(api: &Api, wanted: usize) -> Option<()> {
    let list = api.get("/api/v1/nodes").ok()?.json().ok()?;
    let ready = |node: &&Value| {
        let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
        let ready = conditions.is_some_and(|conditions| {
            conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
        });
        ready && node.pointer("/spec/taints").is_none()
    };
    let count = list["items"].as_array()?.iter().filter(ready).count();
    (count == wanted).then_some(())
}

/// Adds the last words of processes that have ended, and keeps all logs for a closer look.
fn explain(mut error: Error, directory: &Path, kept: &Path) -> Error {
    let processes = Journal::processes(directory);
    for process in processes.iter().filter(|process| !process.is_alive()) {
        error = error.context(format!("`{}` said:\n{}", process.name, log_tail(&process.log)));
    }
    if owned::remove(kept).and_then(|()| owned::make(kept)).is_err() {
        return error;
    }
    for process in &processes {
        let _ = fs::copy(&process.log, kept.join(process.name.replace('/', "-") + ".log"));
    }
    error.context(format!("the logs are in `{}`", kept.display()))
}
