//! No Go, no kubectl, no root: each is told with what to do about it, and what can run without it runs.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

/// A machine whose programs are these alone, with an empty home. What cargo builds is there already.
struct Machine {
    home: TempDir,
}

impl Machine {
    fn with(programs: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("bin");
        fs::create_dir(&folder).unwrap();
        for program in programs {
            let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
                .map(|folder| folder.join(program))
                .find(|file| file.is_file());
            std::os::unix::fs::symlink(found.unwrap(), folder.join(program)).unwrap();
        }
        Self { home }
    }

    fn state(&self) -> String {
        self.home.path().join("state").display().to_string()
    }

    fn xtask(&self, args: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(args).env("HOME", self.home.path()).env("PATH", self.home.path().join("bin"));
        said(built(&mut command).env_remove("XDG_CACHE_HOME"))
    }
}

/// The task without its cargo, which would build for minutes what the test run has built.
fn built(command: &mut Command) -> &mut Command {
    command.env("CARGO", "/bin/true").env_remove("NULLIUS_DEV_STATE").env_remove("CI")
}

fn said(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (status.code().unwrap(), said)
}

#[test]
fn without_go_it_is_told_where_to_get_it_and_what_works_without() {
    let machine = Machine::with(&[]);
    let state = machine.state();
    for task in [
        &["up", "--state", &state][..],
        &["up", "--detach", "--nodes", "0", "--state", &state],
        &["cluster", "up", "--profile", "control-plane", "--state", &state],
    ] {
        let (code, said) = machine.xtask(task);
        assert_eq!(code, 1, "{task:?}: {said}");
        for part in [
            "needs Go 1.26 or newer",
            "`go` is not on PATH",
            "https://go.dev/dl",
            "--kubeconfig FILE",
        ] {
            assert!(said.contains(part), "{task:?}: `{part}` is not in: {said}");
        }
        if task[0] == "up" {
            assert!(!Path::new(&state).exists(), "{task:?}: something was left: {said}");
        }
    }
}

#[test]
fn a_directory_with_files_of_ones_own_is_refused_and_stays_as_it_is() {
    let machine = Machine::with(&[]);
    let state = machine.state();
    // A clone of this repository, with other things beside it: `--state ..` from inside of it.
    let files = ["nullius/src/main.rs", "Cargo.lock", "x.failed/notes", "x.lock"];
    for file in files {
        let file = Path::new(&state).join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "mine").unwrap();
    }
    for task in [
        &["down", "--state", &state][..],
        &["up", "--state", &state],
        &["cluster", "down", "--state", &state],
        &["cluster", "up", "--state", &state],
    ] {
        let (code, said) = machine.xtask(task);
        assert_eq!(code, 1, "{task:?}: {said}");
        for part in ["`Cargo.lock`", "`nullius`", "no development cluster made", "name a new or"] {
            assert!(said.contains(part), "{task:?}: `{part}` is not in: {said}");
        }
        for file in files {
            let text = fs::read_to_string(Path::new(&state).join(file));
            assert_eq!(text.unwrap_or_default(), "mine", "{task:?} touched {file}");
        }
    }
}

#[test]
fn a_cluster_of_ones_own_needs_kubectl_and_says_so() {
    let machine = Machine::with(&[]);
    let kubeconfig = machine.home.path().join("config").display().to_string();
    let up = ["up", "--detach", "--kubeconfig", &kubeconfig, "--state", &machine.state()];
    let (code, said) = machine.xtask(&up);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("cannot read the kubeconfig `{kubeconfig}`")), "{said}");

    fs::write(&kubeconfig, "apiVersion: v1\nkind: Config\n").unwrap();
    let (code, said) = machine.xtask(&up);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("`kubectl`, which is not on PATH: install it"), "{said}");
}

/// An unprivileged person: a user namespace gives this process another user without rights.
fn unprivileged(task: &[&str]) -> (i32, String) {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000", env!("CARGO_BIN_EXE_xtask")]);
    said(built(command.args(task)))
}

#[test]
fn without_root_there_is_a_control_plane_and_everything_works_on_it() {
    // The programs of Kubernetes are there where a test run has started clusters.
    if std::env::var_os("NULLIUS_TEST_STATE").is_none() {
        crate::skip_without_clusters();
        return;
    }
    let state = tempfile::Builder::new().prefix("nullius").tempdir_in("/tmp").unwrap();
    let state = state.path().join("s").display().to_string();
    let (code, said) = unprivileged(&["up", "--detach", "-o", "json", "--state", &state]);
    assert_eq!(code, 0, "{said}");
    let lacks = "dev: control plane only: nodes need root (network namespaces, mounts, cgroups): run the same command with `sudo`";
    assert!(said.contains(lacks), "{said}");
    let last = said.lines().find(|line| line.starts_with('{')).unwrap();
    let environment: Value = serde_json::from_str(last).unwrap();
    assert_eq!(environment["kind"], "DevEnvironment");
    let kubeconfig = Path::new(environment["kubeconfig"].as_str().unwrap());
    let kubectl = nullius_testkit::kubectl(kubeconfig).unwrap();
    let worked = kubectl.run(&["-n", "shop", "get", "configmaps"]);
    let (ended, end) = unprivileged(&["down", "--state", &state]);
    let worked = worked.unwrap();
    assert_eq!(worked.code, 0, "{}", worked.stderr);
    assert_eq!(ended, 0, "{end}");
    assert!(!Path::new(&state).exists(), "{end}");
}
