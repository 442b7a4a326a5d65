//! `cargo xtask up` as a program that others start: what its last line promises, and that it ends however it ends.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nullius_testkit::{Environment, kubectl, missing_for_nodes, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::{newcomer::built, skip_without_clusters};

/// The second start with everything built, from nothing to a kubectl that works.
const GOAL: Duration = Duration::from_secs(20);
/// A machine that is busy with other things is given more before the test fails.
const BOUND: Duration = Duration::from_secs(300);
/// How long the end may take, also in the middle of a start.
const END: Duration = Duration::from_secs(120);

/// A state directory that nothing runs in any more when the test has ended.
struct State {
    path: PathBuf,
    _parent: TempDir,
}

impl State {
    /// `None` where no cluster can be started.
    fn new() -> Option<Self> {
        if std::env::var_os("NULLIUS_TEST_STATE").is_none() {
            skip_without_clusters();
            return None;
        }
        // Root's sockets want a short path.
        let parent = tempfile::Builder::new().prefix("nullius").tempdir_in("/tmp").unwrap();
        Some(Self { path: parent.path().join("s"), _parent: parent })
    }

    fn xtask(&self, task: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        built(command.args(task).arg("--state").arg(&self.path));
        command
    }

    /// As somebody without root: a user namespace gives the process another user without rights.
    fn unprivileged(&self, task: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-user=1000", "--map-group=1000"]);
        command.arg(env!("CARGO_BIN_EXE_xtask"));
        built(command.args(task).arg("--state").arg(&self.path));
        command
    }
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = self.xtask(&["down"]).output();
    }
}

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Waits for the end; gives the exit code and what was said on standard error.
fn end(mut child: Child) -> (i32, String) {
    let ended = wait_until(END, "the end of `up`", || child.try_wait().unwrap());
    if ended.is_err() {
        child.kill().unwrap();
    }
    let said = child.wait_with_output().unwrap().stderr;
    let said = String::from_utf8(said).unwrap();
    (ended.unwrap_or_else(|error| panic!("{error}: {said}")).code().unwrap(), said)
}

/// A start that runs, with its output in pipes.
fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until a start is in the middle: the cluster's first processes run.
fn wait_for_processes(state: &State) {
    let journal = state.path.join("dev/journal.jsonl");
    let processes = || fs::read_to_string(&journal).unwrap_or_default().matches("pid").count();
    wait_until(Duration::from_secs(120), "the first processes of the cluster", || {
        (processes() >= 2).then_some(())
    })
    .unwrap();
}

/// Checks the line that others read, field by field, and that each value is good for what it is there for.
fn check_contract(line: &str) {
    let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(json["apiVersion"], "nullius.dev/v1alpha1");
    assert_eq!(json["kind"], "DevEnvironment");
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
    let hub = text(&json["hub_url"]);
    assert!(hub.starts_with("https://"), "{hub}");

    let file = PathBuf::from(text(&json["kubeconfig"]));
    assert!(file.is_absolute(), "{file:?}");
    let developer = kubectl(&file).unwrap();
    developer.ok(&["-n", "shop", "get", "configmap", "web-pages"]).unwrap();
    let refused = developer.run(&["-n", "ops", "get", "secrets"]).unwrap();
    assert!(refused.stderr.contains("`dora` may not list `secrets`"), "{}", refused.stderr);
    let server = ["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"];
    let through = developer.ok(&server).unwrap();
    assert!(through.starts_with(&hub), "{through} is not the hub, {hub}");

    let clusters = json["clusters"].as_array().unwrap();
    assert_eq!(clusters.len(), 1, "{line}");
    assert_eq!(clusters[0]["name"], "dev");
    let file = PathBuf::from(text(&clusters[0]["direct_kubeconfig"]));
    assert!(file.is_absolute(), "{file:?}");
    let direct = kubectl(&file).unwrap();
    let past = direct.ok(&server).unwrap();
    assert!(!past.starts_with(&hub), "{past} is the hub");
    let me = direct.ok(&["auth", "whoami", "-o", "json"]).unwrap();
    let me: Value = serde_json::from_str(&me).unwrap();
    let groups = me["status"]["userInfo"]["groups"].as_array().unwrap();
    assert!(groups.contains(&"system:masters".into()), "{me}");

    let users: Vec<(String, Vec<String>)> = json["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| {
            assert!(!text(&user["password"]).is_empty() && !text(&user["totp_secret"]).is_empty());
            let groups = user["groups"].as_array().unwrap();
            (text(&user["name"]), groups.iter().map(text).collect())
        })
        .collect();
    let expected = [
        ("admin", vec![]),
        ("dora", vec!["developers"]),
        ("vic", vec!["viewers"]),
        ("olga", vec!["admins"]),
    ];
    let expected = expected.map(|(name, groups)| {
        (name.to_owned(), groups.into_iter().map(str::to_owned).collect::<Vec<String>>())
    });
    assert_eq!(users, expected);
    // Password and secret are enough to sign in with.
    let environment: Environment = serde_json::from_str(line).unwrap();
    environment.person("vic").unwrap().sign_in(&environment).unwrap();
}

/// The result: the last line of standard output.
fn last_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout.clone()).unwrap().lines().last().unwrap().to_owned()
}

#[test]
fn a_killed_start_is_forgotten_by_the_next_and_an_interrupted_one_leaves_nothing() {
    let Some(state) = State::new() else { return };
    if let Some(missing) = missing_for_nodes() {
        nullius_skip::skip(&missing);
        return;
    }
    let mut killed = spawn(&mut state.xtask(&["up"]));
    wait_for_processes(&state);
    killed.kill().unwrap();
    killed.wait().unwrap();

    let began = Instant::now();
    let output = state.xtask(&["up", "--detach", "-o", "json"]).output().unwrap();
    let line = last_line(&output);
    let developer = kubectl(&state.path.join("nullius/kubeconfig")).unwrap();
    developer.ok(&["-n", "shop", "get", "pods"]).unwrap();
    let took = began.elapsed();
    // Not by a macro: those are shown for tests that fail.
    let _ = writeln!(
        io::stderr(),
        "second start, to a working kubectl: {:.1} s (goal: {} s)",
        took.as_secs_f32(),
        GOAL.as_secs()
    );
    assert!(took < BOUND, "{took:?}");
    check_contract(&line);
    let down = state.xtask(&["down"]).output().unwrap();
    assert!(down.status.success() && !state.path.exists(), "{down:?}");

    let interrupted = spawn(&mut state.xtask(&["up"]));
    wait_for_processes(&state);
    send("-TERM", &interrupted);
    let (code, said) = end(interrupted);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("ending: what was started"), "{said}");
    assert!(said.contains("it was interrupted"), "{said}");
    assert!(!said.contains("Nullius is up"), "{said}");
    assert!(!state.path.exists(), "{said}");
}

#[test]
fn without_root_there_is_a_control_plane_and_a_closed_terminal_ends_it() {
    let Some(state) = State::new() else { return };
    let mut up = spawn(&mut state.unprivileged(&["up", "-o", "json"]));
    let mut line = String::new();
    BufReader::new(up.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line.is_empty() {
        panic!("{}", end(up).1);
    }
    check_contract(&line);
    send("-HUP", &up);
    let (code, said) = end(up);
    assert_eq!(code, 0, "{said}");
    let lacks = "dev: control plane only: nodes need root (network namespaces, mounts, cgroups): run the same command with `sudo`";
    assert!(said.contains(lacks), "{said}");
    assert!(said.contains("ending: what was started"), "{said}");
    assert!(!Path::new(&state.path).exists(), "{said}");
}
