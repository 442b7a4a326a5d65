//! `cargo xtask test`: everything that must hold, on real Kubernetes clusters where the machine can run them.
//!
//! Starts the clusters and one environment that the end-to-end tests share, runs every test of the workspace, and
//! ends all of it, also when a test failed. What a killed run left behind goes first. The end-to-end tests wait more than they
//! work, so the other programs run beside them. Where the machine cannot run
//! clusters or their nodes, the tests that need them skip; how many and why is said at the end, with what failed tests said.

mod failures;
mod programs;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use nullius_skip::{Extent, Skip, in_ci};
use nullius_testkit::{
    ClusterConfig, Component, Environment, EnvironmentConfig, KubernetesVersion, PYTHON_PACKAGES,
    Profile, Programs, Progress, StateDir, WITHOUT_CLUSTERS, ensure_browser, ensure_helm,
    ensure_python_packages, missing_for_clusters, missing_for_nodes, up_all,
};

use failures::{Failure, Failures};
use programs::Program;

/// How many tests of a program run at the same time, as libtest reads it.
const THREADS: &str = "RUST_TEST_THREADS";

/// The arguments of `cargo xtask test`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Only the tests of these packages [default: all].
    #[arg(short, long)]
    package: Vec<String>,
    /// No clusters: only what needs nothing but Rust runs; the rest is skipped, and counted as such.
    #[arg(long)]
    without_clusters: bool,
    /// Passed on to the tests, for example the name of one.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// What libtest counts: tests that skipped are among those that passed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
}

/// What a run of the tests gave.
#[derive(Debug, Default)]
struct Outcome {
    counts: Counts,
    failures: Vec<Failure>,
    skips: Vec<Skip>,
}

/// What programs gave.
#[derive(Debug, Default)]
struct Ran {
    counts: Counts,
    failures: Vec<Failure>,
}

/// What the end-to-end tests find.
enum Clusters<'a> {
    /// Clusters and an environment in this state directory.
    In(&'a Path),
    /// None, for this reason.
    Without(&'a str),
}

/// Runs the tests; fails when one failed.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let selected: Vec<&str> = if arguments.package.is_empty() {
        vec!["--workspace"]
    } else {
        arguments.package.iter().flat_map(|package| ["--package", package.as_str()]).collect()
    };
    let programs = programs::build(root, &selected)?;
    let python = match ensure_python_packages(Progress::Lines) {
        Ok(packages) => Some(packages),
        Err(why) if in_ci() => return Err(why.context("in CI workloads in Python and Envoy run")),
        Err(why) => {
            eprintln!(
                "test: no Python packages, so tests with workloads that need them are skipped: {why:#}"
            );
            None
        }
    };
    let run = Run { root, selected: &selected, rest: &arguments.rest, python: python.as_deref() };
    let without = match arguments.without_clusters {
        true => {
            Some("it needs a Kubernetes cluster, and `--without-clusters` starts none".to_owned())
        }
        false => missing_for_clusters(),
    };
    if let Some(why) = without {
        if in_ci() && !arguments.without_clusters {
            bail!("in CI the tests run on clusters: {why}");
        }
        eprintln!("test: no clusters, so tests that need one are skipped: {why}");
        return run.all(&programs, Clusters::Without(&why))?.finish();
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
        run.all(&programs, Clusters::In(state))
    });
    let ended = Environment::stop(state.path(), Progress::Lines)
        .and_then(|()| state.down_all(Progress::Lines));
    let outcome = outcome?;
    ended.context("the clusters could not be ended")?;
    outcome.finish()
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
    let mut components = vec![Component::Kubernetes];
    match missing_for_nodes() {
        None => components.push(Component::Nodes),
        Some(why) if in_ci() => bail!("in CI the tests run on nodes: {why}"),
        Some(why) => eprintln!("test: no nodes, so tests that need pods are skipped: {why}"),
    }
    Programs::ensure(KubernetesVersion::V1_36, &components, Progress::Lines)?;
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

/// A run of test programs.
#[derive(Clone, Copy)]
struct Run<'a> {
    root: &'a Path,
    selected: &'a [&'a str],
    rest: &'a [String],
    /// Where the Python packages of peers are.
    python: Option<&'a Path>,
}

impl Run<'_> {
    /// Runs the programs in two lanes: the end-to-end tests beside all others, which go one after the other.
    fn all(self, programs: &[Program], clusters: Clusters<'_>) -> Result<Outcome> {
        let told =
            tempfile::NamedTempFile::new().context("cannot make a file for what is skipped")?;
        let world = |command: &mut Command| {
            command.env(nullius_skip::FILE, told.path());
            if let Some(packages) = self.python {
                command.env(PYTHON_PACKAGES, packages);
            }
            match clusters {
                Clusters::In(state) => command.env("NULLIUS_TEST_STATE", state),
                Clusters::Without(why) => command.env(WITHOUT_CLUSTERS, why),
            };
        };
        let lane = |end_to_end: bool| -> Result<Ran> {
            let mut ran = Ran::default();
            for program in programs.iter().filter(|program| program.end_to_end == end_to_end) {
                let mut command = program.command(self.rest);
                world(&mut command);
                if end_to_end && std::env::var_os(THREADS).is_none() {
                    let cores =
                        std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                    command.env(THREADS, (2 * cores).to_string());
                }
                ran += counted(&program.name, &mut command)?;
            }
            if !end_to_end && programs.iter().any(|program| program.of_library) {
                let mut command = programs::examples(self.root, self.selected, self.rest);
                world(&mut command);
                ran += counted("examples of the documentation", &mut command)?;
            }
            Ok(ran)
        };
        let (waiting, working) = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lane(true));
            let working = lane(false);
            (waiting.join(), working)
        });
        let mut ran = working?;
        ran += waiting.map_err(|_| anyhow::anyhow!("the lane of end-to-end tests ended"))??;
        let skips = nullius_skip::read(told.path()).context("cannot read what was skipped")?;
        Ok(Outcome { counts: ran.counts, failures: ran.failures, skips })
    }
}

/// Runs a program, shows what it prints, and counts its tests; one that ends without saying why counts as one that failed.
fn counted(name: &str, command: &mut Command) -> Result<Ran> {
    println!("running {name}");
    let began = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot run {name}"))?;
    let output = child.stdout.take().context("the tests have no output")?;
    let (mut counts, mut failures) = (Counts::default(), Failures::of(name));
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what the tests print")?;
        println!("{line}");
        counts.add(&line);
        failures.add(&line);
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        println!("{name} ended before its tests did: {status}");
        counts.failed += 1;
    }
    println!("{name} took {:.0} s", began.elapsed().as_secs_f32());
    Ok(Ran { counts, failures: failures.found() })
}

impl std::ops::AddAssign for Ran {
    fn add_assign(&mut self, other: Self) {
        self.counts.passed += other.counts.passed;
        self.counts.failed += other.counts.failed;
        self.counts.ignored += other.counts.ignored;
        self.failures.extend(other.failures);
    }
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

impl Outcome {
    /// Says what ran and what did not; fails when a test failed or none ran.
    fn finish(&self) -> Result<()> {
        print!("{}", self.report());
        match (self.counts.failed, self.passed()) {
            (0, 0) => bail!("no test ran"),
            (0, _) => Ok(()),
            (failed, _) => bail!("{failed} tests failed"),
        }
    }

    fn passed(&self) -> u32 {
        self.counts.passed.saturating_sub(self.skipped())
    }

    /// Tests that returned without running.
    fn skipped(&self) -> u32 {
        let tests = self.skips.iter().filter(|skip| skip.extent == Extent::Whole);
        tests.map(|skip| &skip.test).collect::<BTreeSet<_>>().len().try_into().unwrap_or(u32::MAX)
    }

    /// What failed and what it said, reasons with the tests that skipped, and the counts as the last line.
    fn report(&self) -> String {
        let mut by_reason = BTreeMap::<_, Vec<&str>>::new();
        for skip in &self.skips {
            by_reason.entry((skip.extent, &skip.reason)).or_default().push(&skip.test);
        }
        let mut text = String::new();
        for ((extent, reason), tests) in by_reason {
            let what = match extent {
                Extent::Whole => "skipped",
                Extent::Part => "left out of",
            };
            let s = if tests.len() == 1 { "" } else { "s" };
            text += &format!("{what} {} test{s}: {reason}\n", tests.len());
            tests.iter().for_each(|test| text += &format!("    {test}\n"));
        }
        self.failures.iter().for_each(|failure| text += &failure.report());
        let skipped = self.skipped() + self.counts.ignored;
        text += &format!(
            "{} passed, {} failed, {skipped} skipped\n",
            self.passed(),
            self.counts.failed
        );
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn the_counts_of_all_binaries_add_up() {
        let mut counts = Counts::default();
        counts.add("running 5 tests");
        counts.add("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s");
        counts.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.5s");
        assert_eq!(counts, Counts { passed: 6, failed: 2, ignored: 1 });
    }

    #[test]
    fn a_test_that_skipped_has_not_passed_and_its_reason_is_told() {
        let skip = |extent, reason: &str, test: &str| Skip {
            extent,
            reason: reason.to_owned(),
            test: test.to_owned(),
        };
        let outcome = Outcome {
            counts: Counts { passed: 9, failed: 0, ignored: 1 },
            failures: Vec::new(),
            skips: vec![
                skip(Extent::Whole, "no root", "x a"),
                skip(Extent::Whole, "no root", "x b"),
                skip(Extent::Whole, "no disk", "x b"),
                skip(Extent::Part, "no kubectl", "x c"),
            ],
        };
        assert_eq!(
            outcome.report(),
            "skipped 1 test: no disk\n    x b\nskipped 2 tests: no root\n    x a\n    x b\n\
             left out of 1 test: no kubectl\n    x c\n7 passed, 0 failed, 3 skipped\n"
        );
        outcome.finish().unwrap();
        let counts = Counts { passed: 2, ..Counts::default() };
        assert!(Outcome { counts, ..outcome }.finish().is_err(), "all were skipped");
    }
}
