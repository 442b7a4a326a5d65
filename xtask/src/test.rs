//! `cargo xtask test`: everything that must hold, on real Kubernetes clusters where the machine can run them.
//!
//! Starts the clusters and one environment that the end-to-end tests share, runs every test of the workspace, and
//! ends all of it, also when a test failed. What a killed run left behind goes first.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use nullius_testkit::{
    ClusterConfig, Component, Environment, EnvironmentConfig, KubernetesVersion, Profile, Programs,
    Progress, StateDir, ensure_browser, ensure_helm, up_all,
};

/// The arguments of `cargo xtask test`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Only the tests of these packages [default: all].
    #[arg(short, long)]
    package: Vec<String>,
    /// No clusters: only what needs nothing but Rust; the rest says that it was skipped.
    #[arg(long)]
    without_clusters: bool,
    /// Passed on to the tests, for example the name of one.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Passed, failed and ignored tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
}

/// Runs the tests; fails when one failed.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let selected: Vec<&str> = if arguments.package.is_empty() {
        vec!["--workspace"]
    } else {
        arguments.package.iter().flat_map(|package| ["--package", package.as_str()]).collect()
    };
    let build = ["test", "--locked", "--no-run"];
    crate::ci::cargo(root, &[&build[..], &selected].concat())?;
    if arguments.without_clusters {
        return finish(run_tests(root, &selected, &arguments.rest, None)?);
    }
    // The end-to-end tests have built the binary too.
    let began = Instant::now();
    let state = StateDir::open(&default_state())?;
    Environment::stop(state.path(), Progress::Lines)?;
    state.down_all(Progress::Lines)?;
    let state = StateDir::open(&default_state())?;
    let outcome = with_environment(&state, root, |state| {
        eprintln!(
            "test: clusters and environment ready after {:.1} s",
            began.elapsed().as_secs_f32()
        );
        run_tests(root, &selected, &arguments.rest, Some(state))
    });
    let ended = Environment::stop(state.path(), Progress::Lines)
        .and_then(|()| state.down_all(Progress::Lines));
    let counts = outcome?;
    ended.context("the clusters could not be ended")?;
    finish(counts)
}

fn default_state() -> PathBuf {
    let developer = StateDir::default_path();
    let name = developer.file_name().unwrap_or_default().to_string_lossy().replace("dev", "test");
    developer.with_file_name(name)
}

fn with_environment<T>(
    state: &StateDir,
    root: &Path,
    work: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    let version = KubernetesVersion::V1_36;
    Programs::ensure(version, &[Component::Kubernetes, Component::Nodes], Progress::Lines)?;
    ensure_helm()?;
    ensure_browser(Progress::Lines)?;
    let configs = vec![
        ClusterConfig::new("dev", Profile::Standard),
        ClusterConfig::new("plane", Profile::ControlPlane),
    ];
    let clusters = up_all(state, configs, Progress::Lines)?;
    let environment = EnvironmentConfig::new(state.path(), crate::up::binary(root));
    let with_nodes =
        clusters.into_iter().filter(|cluster| cluster.record().name == "dev").collect();
    Environment::start(environment, with_nodes, Progress::Lines)?;
    work(state.path())
}

fn run_tests(
    root: &Path,
    selected: &[&str],
    rest: &[String],
    state: Option<&Path>,
) -> Result<Counts> {
    let mut command = Command::new(crate::ci::cargo_program());
    command
        .args(["test", "--locked", "--no-fail-fast"])
        .args(selected)
        .current_dir(root)
        .stdout(Stdio::piped());
    if !rest.is_empty() {
        command.arg("--").args(rest);
    }
    if let Some(state) = state {
        command.env("NULLIUS_TEST_STATE", state);
    }
    let mut child = command.spawn().context("cannot run cargo")?;
    let output = child.stdout.take().context("the tests have no output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what the tests print")?;
        println!("{line}");
        counts.add(&line);
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        bail!("`cargo test` failed before a test could");
    }
    Ok(counts)
}

impl Counts {
    /// Adds what libtest says at the end of a binary: `test result: ok. 5 passed; 0 failed; 0 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next(), words.next()) else { continue };
            let Ok(count) = count.parse::<u32>() else { continue };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

fn finish(counts: Counts) -> Result<()> {
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.ignored);
    if counts.failed > 0 {
        bail!("{} tests failed", counts.failed);
    }
    if counts.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_all_binaries_add_up() {
        let mut counts = Counts::default();
        counts.add("running 5 tests");
        counts.add("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s");
        counts.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.5s");
        assert_eq!(counts, Counts { passed: 6, failed: 2, ignored: 1 });
    }
}
