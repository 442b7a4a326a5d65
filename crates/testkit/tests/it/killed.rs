//! Runs that are killed: the next start cleans what they left, and nothing stays behind in the end.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nullius_testkit::{ClusterConfig, Profile, Progress, StateDir, wait_until};

use crate::{Turn, page_pod, path};

/// Set for the process that starts a cluster only to be killed.
const VICTIM: &str = "NULLIUS_IT_VICTIM";

#[test]
fn a_killed_run_does_not_spoil_the_next_one() {
    // This test is also the program that gets killed.
    if std::env::var_os(VICTIM).is_some() {
        let state = StateDir::open(&path()).unwrap();
        let config = ClusterConfig::new("killed", Profile::Standard).nodes(2);
        nullius_testkit::Cluster::up(&state, config, Progress::Lines).unwrap();
        return;
    }
    let Some(turn) = Turn::wait() else {
        return;
    };
    let journal = turn.state.path().join("killed/journal.jsonl");
    let lines = || fs::read_to_string(&journal).unwrap_or_default().lines().count();

    // Killed in the middle: the slot and some processes are written down, and the nodes are being made.
    for reached in [1, 3, 7] {
        let mut victim = start_victim();
        wait_until(Duration::from_secs(180), "the start to get that far", || {
            (lines() >= reached).then_some(())
        })
        .unwrap();
        victim.kill().unwrap();
        victim.wait().unwrap();
    }

    // Killed when it ran: everything but the pods' processes, so that they are left without a parent.
    let cluster = turn.up(ClusterConfig::new("killed", Profile::Standard));
    let namespace = cluster.namespace("killed").unwrap();
    namespace.apply(&page_pod("a", "node1")).unwrap();
    namespace.kubectl(&["wait", "pod/a", "--for=condition=Ready", "--timeout=180s"]).unwrap();
    for process in cluster.processes() {
        kill(process.pid);
    }
    assert_eq!(turn.state.status().unwrap()[0].state, "broken");

    let again = turn.up(ClusterConfig::new("killed", Profile::Standard));
    assert!(again.is_ready());
    let namespace = again.namespace("again").unwrap();
    namespace.apply(&page_pod("a", "node1")).unwrap();
    namespace.kubectl(&["wait", "pod/a", "--for=condition=Ready", "--timeout=180s"]).unwrap();
    let network = again.record().nodes[0].network_namespace.clone();
    again.down().unwrap();
    nothing_is_left(&network, turn.state.path());
}

fn start_victim() -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::a_killed_run_does_not_spoil_the_next_one"])
        .env(VICTIM, "1")
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn kill(pid: u32) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

fn nothing_is_left(network: &str, state: &Path) {
    let slot = network.trim_end_matches("n1");
    let names = |directory: &str| -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    for directory in ["/run/netns", "/sys/class/net", "/run/nullius-dev", "/sys/fs/cgroup/pids"] {
        let left: Vec<_> =
            names(directory).into_iter().filter(|name| name.starts_with(slot)).collect();
        assert!(left.is_empty(), "left in {directory}: {left:?}");
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&state.display().to_string()), "{mounts}");
    assert!(!state.join("killed").exists());
    let routes = Command::new("ip").arg("route").output().unwrap();
    let routes = String::from_utf8_lossy(&routes.stdout).into_owned();
    assert!(!routes.contains(slot), "{routes}");
}
