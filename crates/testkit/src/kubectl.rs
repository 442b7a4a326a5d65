//! kubectl as tests run it: with one kubeconfig, and with output and exit code as values.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    packages::find_on_path,
    programs::{Component, Programs},
    progress::Progress,
    versions::KubernetesVersion,
};

/// A kubectl program together with the kubeconfig it uses.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    environment: Vec<(String, String)>,
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
}

/// kubectl of the cluster's own version (built if need be) with this kubeconfig.
pub fn kubectl(kubeconfig: &Path) -> Result<Kubectl> {
    let wanted = [Component::Kubernetes];
    let programs = Programs::ensure(KubernetesVersion::V1_36, &wanted, Progress::Lines)?;
    Ok(Kubectl::new(programs.kubectl(), kubeconfig))
}

/// The kubectl that this machine has on PATH, if any, with this kubeconfig.
pub fn kubectl_on_path(kubeconfig: &Path) -> Option<Kubectl> {
    Some(Kubectl::new(&find_on_path("kubectl")?, kubeconfig))
}

impl Kubectl {
    /// This program with this kubeconfig.
    pub fn new(program: &Path, kubeconfig: &Path) -> Self {
        Self {
            program: program.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            environment: Vec::new(),
        }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The same with an environment variable more.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command for these arguments, for a caller that wants to run it in its own way.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("KUBECONFIG", &self.kubeconfig);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.run_with_input(args, "")
    }

    /// Runs it to its end with this text on standard input.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut child = self
            .command(args)
            .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run `{}`", self.program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not read all of it says so by its exit code.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        Ok(Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        })
    }

    /// Runs it and gives standard output; an exit code other than 0 is an error.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        self.run(args)?.into_ok(args)
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        let args = ["apply", "-f", "-"];
        self.run_with_input(&args, manifest)?.into_ok(&args)
    }

    /// Starts it in the background with piped streams (a watch, a port-forward, `exec -i`).
    pub fn spawn(&self, args: &[&str]) -> Result<Child> {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().with_context(|| format!("cannot run `{}`", self.program.display()))
    }
}

impl Output {
    fn into_ok(self, args: &[&str]) -> Result<String> {
        if self.code != 0 {
            bail!("`kubectl {}` ended with {}: {}", args.join(" "), self.code, self.stderr.trim());
        }
        Ok(self.stdout)
    }
}
