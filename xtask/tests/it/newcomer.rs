//! No Go, no kubectl, no root: each is told with what to do about it, and what can run without it runs.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

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
pub(crate) fn built(command: &mut Command) -> &mut Command {
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
