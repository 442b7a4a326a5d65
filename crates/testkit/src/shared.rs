//! What end-to-end tests stand on: clusters that the test run has started, and a namespace of one's own in them.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use nullius_skip::skip;

use crate::{
    cluster::Cluster,
    config::Profile,
    environment::Environment,
    kubectl::{Kubectl, Output},
    state::StateDir,
};

/// The environment variable that names the test run's state directory.
const STATE: &str = "NULLIUS_TEST_STATE";
/// The environment variable in which a test run without clusters says why it has none.
pub const WITHOUT_CLUSTERS: &str = "NULLIUS_TEST_WITHOUT_CLUSTERS";

/// A running cluster of this profile, shared by the tests of a run.
///
/// `cargo xtask test` starts the clusters and names their directory. Without it, or where the machine lacks what nodes
/// need, a test skips on a person's machine (`None`, with the reason told) and fails in CI, where it must run.
///
/// # Panics
/// In CI when there is no such cluster, and anywhere when the named state cannot be read.
pub fn shared(profile: Profile) -> Option<Cluster> {
    shared_all(profile)?.into_iter().next()
}

/// All running clusters of this profile; at least one.
///
/// # Panics
/// As [`shared`].
#[expect(clippy::panic, reason = "the contract with a test that must not pass by not running")]
pub fn shared_all(profile: Profile) -> Option<Vec<Cluster>> {
    tell_panics();
    let missing = match state() {
        Err(missing) => missing,
        Ok(state) => match find(&state, profile) {
            Ok(clusters) => match whole(clusters) {
                Ok(clusters) if !clusters.is_empty() => return Some(clusters),
                Ok(_) => format!("no cluster of profile `{profile}` in `{}`", state.display()),
                Err(missing) => missing,
            },
            Err(error) => panic!("cannot read the test run's state: {error:#}"),
        },
    };
    skip(&missing);
    None
}

/// Tells of a panic when it happens: what libtest keeps is printed when all tests have ended, and says nothing of what else ran then.
fn tell_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            let told = format!("{} {panic}\n", thread.name().unwrap_or("a thread"));
            // Not by `eprint!`, which libtest keeps; and nothing can be done where it cannot be written.
            let _ = std::io::stderr().write_all(told.as_bytes());
            before(panic);
        }));
    });
}

/// The hub with agents and people that the test run has started, and the directory that it lives in.
///
/// # Panics
/// As [`shared`].
#[expect(clippy::panic, reason = "the contract with a test that must not pass by not running")]
pub fn environment() -> Option<(Environment, PathBuf)> {
    let missing = match state() {
        Err(missing) => missing,
        Ok(state) => match Environment::open(&state) {
            Ok(Some(environment)) => return Some((environment, state)),
            Ok(None) => format!("no hub runs in `{}`", state.display()),
            Err(error) => panic!("cannot read the test run's environment: {error:#}"),
        },
    };
    skip(&missing);
    None
}

/// The state directory of the test run, or why there is none.
fn state() -> Result<PathBuf, String> {
    std::env::var_os(STATE).map(PathBuf::from).ok_or_else(|| {
        let told = std::env::var(WITHOUT_CLUSTERS).ok();
        told.unwrap_or_else(|| {
            "it needs a Kubernetes cluster: run the test with `cargo xtask test`".to_owned()
        })
    })
}

/// These clusters, or what one of them lacks of its profile.
fn whole(clusters: Vec<Cluster>) -> Result<Vec<Cluster>, String> {
    match clusters.iter().find_map(|cluster| cluster.record().missing.clone()) {
        None => Ok(clusters),
        Some(missing) => Err(missing),
    }
}

fn find(state: &Path, profile: Profile) -> anyhow::Result<Vec<Cluster>> {
    let mut clusters = StateDir::open(state)?.clusters()?;
    clusters.retain(|cluster| cluster.record().profile.as_deref() == Some(profile.as_str()));
    Ok(clusters)
}

/// A namespace that belongs to one test; deleted when dropped.
pub struct TestNamespace {
    name: String,
    kubectl: Kubectl,
}

impl TestNamespace {
    pub(crate) fn create(cluster: &Cluster, purpose: &str) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{purpose}-{}-{number}", std::process::id());
        let kubectl = cluster.kubectl()?;
        kubectl.ok(&["create", "namespace", &name])?;
        let namespace = Self { name, kubectl };
        // Pods are refused before the namespace's ServiceAccount exists.
        let account = ["-n", &namespace.name, "get", "serviceaccount", "default"];
        crate::wait::wait_until(std::time::Duration::from_secs(90), "the ServiceAccount", || {
            namespace.kubectl.run(&account).ok().filter(|output| output.code == 0)
        })?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs kubectl as administrator in it; an exit code other than 0 is an error.
    pub fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.kubectl.ok(&self.in_namespace(args))
    }

    /// Runs kubectl as administrator in it.
    pub fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.kubectl.run(&self.in_namespace(args))
    }

    /// Applies a manifest in it as administrator.
    pub fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        let output =
            self.kubectl.run_with_input(&self.in_namespace(&["apply", "-f", "-"]), manifest)?;
        anyhow::ensure!(output.code == 0, "applying a manifest failed: {}", output.stderr.trim());
        Ok(())
    }

    fn in_namespace<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        ["-n", self.name.as_str()].into_iter().chain(args.iter().copied()).collect()
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        let _ = self.kubectl.run(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}
