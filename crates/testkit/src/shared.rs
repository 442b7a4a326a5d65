//! What end-to-end tests stand on: clusters that the test run has started, and a namespace of one's own in them.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Result;

use crate::{
    cluster::Cluster,
    config::Profile,
    environment::Environment,
    kubectl::{Kubectl, Output},
    state::StateDir,
};

/// The environment variable that names the test run's state directory.
const STATE: &str = "NULLIUS_TEST_STATE";

/// A running cluster of this profile, shared by the tests of a run.
///
/// `cargo xtask test` starts the clusters and names their directory. Without it a test skips on a person's machine
/// (`None`, with the reason on standard error) and fails in CI, where it must run.
///
/// # Panics
/// In CI (`CI=true`) when there is no such cluster, and anywhere when the named state cannot be read.
pub fn shared(profile: Profile) -> Option<Cluster> {
    shared_all(profile)?.into_iter().next()
}

/// All running clusters of this profile; at least one.
///
/// # Panics
/// As [`shared`].
#[expect(clippy::panic, reason = "the contract with a test that must not pass by not running")]
pub fn shared_all(profile: Profile) -> Option<Vec<Cluster>> {
    let missing = match std::env::var_os(STATE) {
        None => format!("{STATE} is not set: run the test with `cargo xtask test`"),
        Some(state) => match find(Path::new(&state), profile) {
            Ok(clusters) if !clusters.is_empty() => return Some(clusters),
            Ok(_) => format!("no cluster of profile `{profile}` in `{}`", state.display()),
            Err(error) => panic!("cannot read the test run's state: {error:#}"),
        },
    };
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        panic!("a test needs a Kubernetes cluster, and in CI it must run: {missing}");
    }
    eprintln!("skipped, this test needs a Kubernetes cluster: {missing}");
    None
}

/// The hub with agents and people that the test run has started, and the directory that it lives in.
///
/// # Panics
/// As [`shared`].
#[expect(clippy::panic, reason = "the contract with a test that must not pass by not running")]
pub fn environment() -> Option<(Environment, PathBuf)> {
    let missing = match std::env::var_os(STATE).map(PathBuf::from) {
        None => format!("{STATE} is not set: run the test with `cargo xtask test`"),
        Some(state) => match Environment::open(&state) {
            Ok(Some(environment)) => return Some((environment, state)),
            Ok(None) => format!("no hub runs in `{}`", state.display()),
            Err(error) => panic!("cannot read the test run's environment: {error:#}"),
        },
    };
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        panic!("a test needs a hub and a cluster, and in CI it must run: {missing}");
    }
    eprintln!("skipped, this test needs a hub and a cluster: {missing}");
    None
}

fn find(state: &Path, profile: Profile) -> Result<Vec<Cluster>> {
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
    pub(crate) fn create(cluster: &Cluster, purpose: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{purpose}-{}-{number}", std::process::id());
        let kubectl = cluster.kubectl()?;
        kubectl.ok(&["create", "namespace", &name])?;
        let namespace = Self { name, kubectl };
        // Pods are refused before the namespace's ServiceAccount exists.
        let account = ["-n", &namespace.name, "get", "serviceaccount", "default"];
        crate::wait::wait_until(std::time::Duration::from_secs(20), "the ServiceAccount", || {
            namespace.kubectl.run(&account).ok().filter(|output| output.code == 0)
        })?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs kubectl as administrator in it; an exit code other than 0 is an error.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl.ok(&self.in_namespace(args))
    }

    /// Runs kubectl as administrator in it.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.kubectl.run(&self.in_namespace(args))
    }

    /// Applies a manifest in it as administrator.
    pub fn apply(&self, manifest: &str) -> Result<()> {
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
