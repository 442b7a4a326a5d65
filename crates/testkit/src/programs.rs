//! The programs a cluster is made of, built from Go modules once and kept in a cache.
//!
//! Each component has a directory named by its version (Kubernetes also by its module's content), filled aside and
//! renamed into place, so that a directory that exists is complete. A lock keeps two runs from building the same.

use std::{
    fs::{self, File},
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{
    interrupt::go_on,
    packages,
    progress::{Progress, seconds},
    versions::{CNI_PLUGINS, CONTAINERD, COREDNS, HELM, KubernetesVersion, Linking, RUNC, Tool},
};

/// A part of the cluster that is built by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// etcd, the control plane, kubelet, kube-proxy and kubectl.
    Kubernetes,
    /// containerd, runc and the CNI plugins, which nodes need.
    Nodes,
    /// The cluster's DNS server.
    CoreDns,
    /// Helm 3.
    Helm,
}

impl Component {
    /// Everything that can be built.
    pub const ALL: &'static [Self] = &[Self::Kubernetes, Self::Nodes, Self::CoreDns, Self::Helm];
}

/// Where the built programs of one Kubernetes version are.
#[derive(Clone, Debug)]
pub struct Programs {
    cache: PathBuf,
    kube: PathBuf,
    kubectl: PathBuf,
}

impl Programs {
    /// Builds what is asked for and not in the cache yet.
    pub fn ensure(
        kubernetes: KubernetesVersion,
        components: &[Component],
        progress: Progress,
    ) -> Result<Self> {
        let cache = cache_directory()?;
        fs::create_dir_all(&cache)
            .with_context(|| format!("cannot make the cache `{}`", cache.display()))?;
        let kubernetes_key = kubernetes_key(kubernetes)?;
        for component in components {
            match component {
                Component::Kubernetes => {
                    let about = format!("kubernetes {}", kubernetes.full());
                    ensure_directory(
                        &cache,
                        &kubernetes_key,
                        &about,
                        "4 min",
                        progress,
                        |staging| kubernetes_commands(kubernetes, staging),
                    )?;
                }
                Component::Nodes => {
                    packages::install_missing(progress)?;
                    for tool in [&CONTAINERD, &RUNC, &CNI_PLUGINS] {
                        ensure_tool(&cache, tool, progress)?;
                    }
                }
                Component::CoreDns => ensure_tool(&cache, &COREDNS, progress)?,
                Component::Helm => ensure_tool(&cache, &HELM, progress)?,
            }
        }
        let kubernetes = cache.join(kubernetes_key);
        Ok(Self { kube: kubernetes.join("kube"), kubectl: kubernetes.join("kubectl"), cache })
    }

    /// etcd and all of Kubernetes' programs in one: the first argument names which.
    pub fn kube(&self) -> &Path {
        &self.kube
    }

    /// kubectl at the cluster's version.
    pub fn kubectl(&self) -> &Path {
        &self.kubectl
    }

    /// The directory of containerd, its shim and `ctr`.
    pub fn containerd(&self) -> PathBuf {
        self.cache.join(key(&CONTAINERD))
    }

    /// The container runtime.
    pub fn runc(&self) -> PathBuf {
        self.cache.join(key(&RUNC)).join("runc")
    }

    /// The directory of the CNI plugins.
    pub fn cni_plugins(&self) -> PathBuf {
        self.cache.join(key(&CNI_PLUGINS))
    }

    /// The DNS server.
    pub fn coredns(&self) -> PathBuf {
        self.cache.join(key(&COREDNS)).join("coredns")
    }
}

/// Why no cluster can be started here, or `None` when one can: its programs are built, or Go can build them.
pub fn missing_for_clusters() -> Option<String> {
    let version = KubernetesVersion::V1_36;
    let built = || Some(cache_directory().ok()?.join(kubernetes_key(version).ok()?).is_dir());
    match built() {
        Some(true) => None,
        Some(false) | None => packages::missing_go().map(str::to_owned),
    }
}

/// Builds Helm 3 if it is not in the cache yet, and says where it is.
pub fn ensure_helm() -> Result<PathBuf> {
    let programs = Programs::ensure(KubernetesVersion::V1_36, &[Component::Helm], Progress::Lines)?;
    Ok(programs.cache.join(key(&HELM)).join("helm"))
}

/// The directory of everything built: `$XDG_CACHE_HOME/nullius/cluster`, or below `~/.cache`.
pub(crate) fn cache_directory() -> Result<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let absolute = |path: std::ffi::OsString| Some(PathBuf::from(path)).filter(|p| p.is_absolute());
    let base = std::env::var_os("XDG_CACHE_HOME").and_then(absolute).or_else(home).context(
        "neither XDG_CACHE_HOME nor HOME is set: one must name a place for the built programs",
    )?;
    Ok(base.join("nullius").join("cluster"))
}

/// The Go module of the development cluster.
pub(crate) fn module_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/cluster")
}

/// The directory of one Kubernetes version in the cache.
fn kubernetes_key(kubernetes: KubernetesVersion) -> Result<String> {
    Ok(format!("kubernetes-{}-{}", kubernetes.full(), fingerprint(kubernetes)?))
}

fn fingerprint(kubernetes: KubernetesVersion) -> Result<String> {
    let module = module_directory();
    let mut digest = Sha256::new();
    digest.update(kubernetes.module());
    let sums = kubernetes.module_file().replace(".mod", ".sum");
    for file in [sums.as_str(), "cmd/kube/main.go", "cmd/kubectl/main.go"] {
        let path = module.join(file);
        let bytes = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        digest.update(bytes);
    }
    Ok(hex::encode(digest.finalize())[..12].to_owned())
}

fn kubernetes_commands(kubernetes: KubernetesVersion, staging: &Path) -> Result<Vec<Command>> {
    packages::require_go()?;
    let version = kubernetes.full();
    let (major, minor) = kubernetes.minor().split_once('.').unwrap_or((kubernetes.minor(), ""));
    let package = "k8s.io/component-base/version";
    let stamp = format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    );
    let commands = ["kube", "kubectl"].map(|program| {
        let mut command = Command::new("go");
        command
            .args(["build", "-trimpath", "-ldflags", &stamp, "-modfile"])
            .arg(kubernetes.module_file())
            .arg("-o")
            .arg(staging.join(program))
            .arg(format!("./cmd/{program}"))
            .env("CGO_ENABLED", "0")
            .current_dir(module_directory());
        command
    });
    Ok(commands.into())
}

fn key(tool: &Tool) -> String {
    format!("{}-{}", tool.name, tool.version)
}

fn ensure_tool(cache: &Path, tool: &Tool, progress: Progress) -> Result<()> {
    let about = format!("{} {}", tool.name, tool.version);
    ensure_directory(cache, &key(tool), &about, tool.about, progress, |staging| {
        packages::require_go()?;
        let mut command = Command::new("go");
        command.args(["install", "-trimpath", "-ldflags", "-s -w", "-tags", tool.tags]);
        for package in tool.packages {
            command.arg(format!("{package}@{}", tool.version));
        }
        let cgo = if tool.linking == Linking::Cgo { "1" } else { "0" };
        command.env("GOBIN", staging).env("CGO_ENABLED", cgo).current_dir(cache);
        Ok(vec![command])
    })
}

/// Makes `<cache>/<key>` with commands that fill a directory aside.
pub(crate) fn ensure_directory(
    cache: &Path,
    key: &str,
    about: &str,
    duration: &str,
    progress: Progress,
    commands: impl FnOnce(&Path) -> Result<Vec<Command>>,
) -> Result<()> {
    let finished = cache.join(key);
    if finished.is_dir() {
        return Ok(());
    }
    let lock = File::create(cache.join(format!("{key}.lock")))?;
    if lock.try_lock().is_err() {
        progress.say(&format!("waiting for another run that builds {about}"));
        lock.lock()?;
    }
    if finished.is_dir() {
        return Ok(());
    }
    let start = Instant::now();
    let line = format!("building {about} (first time only, about {duration})");
    progress.say(&line);
    let staging = cache.join(format!("{key}.part"));
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir_all(&staging)?;
    for command in commands(&staging)? {
        run(command, about, start, progress)?;
    }
    fs::rename(&staging, &finished)?;
    progress.done(&format!("built {about}"), start);
    Ok(())
}

/// Runs a build step, with a sign of life on a terminal.
fn run(mut command: Command, about: &str, start: Instant, progress: Progress) -> Result<()> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", command.get_program().display()))?;
    let stderr = child.stderr.take();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let lively = progress == Progress::Lines && std::io::stderr().is_terminal();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Err(interrupted) = go_on() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(interrupted);
        }
        thread::sleep(Duration::from_millis(250));
        if lively {
            eprint!("\r{} \r", seconds(start.elapsed()));
        }
    };
    let output = reader.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    let lines: Vec<_> =
        output.lines().filter(|line| !line.starts_with("go: downloading")).collect();
    bail!(
        "building {about} failed ({status}):\n{}",
        lines[lines.len().saturating_sub(20)..].join("\n")
    )
}
