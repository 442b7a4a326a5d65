//! Processes in cgroups as a kubelet makes them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nullius_model::SystemClock;
use nullius_workload::{CgroupRoot, Limits};

use crate::world::{Authority, DOMAIN, Node, Workload, entry, own_user, registered};

const ONE: &str = "0a1b2c3d-0000-4111-8222-333344445555";
const TWO: &str = "0a1b2c3d-0000-4111-8222-666677778888";

/// A kubelet's cgroup for a test, removed at its end.
struct Kubelet {
    hierarchy: PathBuf,
    name: String,
    made: Vec<PathBuf>,
}

impl Kubelet {
    /// In the hierarchy of processes, or in the only one; nothing where this process may make none.
    fn create() -> Option<Self> {
        let unified = Path::new("/sys/fs/cgroup");
        let pids = unified.join("pids");
        let hierarchy = if pids.is_dir() { pids } else { unified.to_owned() };
        let name = format!("nullius-workload-{}", std::process::id());
        let mut kubelet = Self { hierarchy, name: name.clone(), made: Vec::new() };
        kubelet.make(&[&name]).ok()?;
        Some(kubelet)
    }

    fn make(&mut self, names: &[&str]) -> io::Result<PathBuf> {
        let mut path = self.hierarchy.clone();
        for name in names {
            path.push(name);
            if !path.is_dir() {
                fs::create_dir(&path)?;
                self.made.push(path.clone());
            }
        }
        Ok(path)
    }

    fn container(&mut self, pod: &str, container: char) -> PathBuf {
        let name = self.name.clone();
        let (pod, container) = (format!("pod{pod}"), container.to_string().repeat(64));
        self.make(&[&name, "kubepods", "burstable", &pod, &container]).unwrap()
    }

    fn root(&self) -> CgroupRoot {
        format!("/{}", self.name).parse().unwrap()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        for path in self.made.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

fn enter(container: &Path, pid: u32) {
    fs::write(container.join("cgroup.procs"), pid.to_string()).unwrap();
}

fn id(path: &str) -> String {
    format!("{DOMAIN}{path}")
}

#[tokio::test]
async fn a_pod_has_its_own_identity_and_loses_it_elsewhere() {
    let Some(mut kubelet) = Kubelet::create() else {
        nullius_skip::skip("it makes cgroups, for which it needs root");
        return;
    };
    let (one, two) = (kubelet.container(ONE, 'a'), kubelet.container(TWO, 'b'));
    let user = own_user();
    let authority = Authority::create(DOMAIN, std::sync::Arc::new(SystemClock));
    let first = registered(
        &authority,
        vec![
            entry("/one", &[&format!("k8s:pod-uid:{ONE}")]),
            entry("/one/main", &[&format!("k8s:container-id:{}", "a".repeat(64)), &user]),
            entry(
                "/one/side",
                &[&format!("k8s:pod-uid:{ONE}"), &format!("k8s:container-id:{}", "c".repeat(64))],
            ),
            entry("/two", &[&format!("k8s:pod-uid:{TWO}")]),
            entry("/host", &[&user]),
        ],
    );
    let mut node = Node::start_with(authority, Some(first), Limits::default(), kubelet.root());
    node.holdings
        .wait_for(|all| all.as_ref().is_some_and(|all| all.held.len() == 5))
        .await
        .unwrap();
    // The shell waits for a line before it becomes the workload, so that it is in its cgroup by then.
    let shell = || {
        let mut command = tokio::process::Command::new("/bin/sh");
        command.args(["-c", "read -r line; exec \"$@\"", "sh"]).arg(crate::world::probe());
        command
    };
    let mut in_one = Workload::start_as(&mut shell(), &["watch", node.path()]);
    enter(&one, in_one.pid());
    in_one.tell("").await;
    assert_eq!(
        in_one.says().await,
        format!("set spiffe://{} spiffe://{}", id("/one"), id("/one/main"))
    );
    let mut in_two = Workload::start_as(&mut shell(), &["watch", node.path()]);
    enter(&two, in_two.pid());
    in_two.tell("").await;
    assert_eq!(in_two.says().await, format!("set spiffe://{}", id("/two")));
    let mut on_host = Workload::start(&["watch", node.path()]);
    assert_eq!(on_host.says().await, format!("set spiffe://{}", id("/host")));
    // Moved while it is connected, it has what it was and is: nothing.
    enter(&two, in_one.pid());
    node.rotate().await;
    let told = in_one.says().await;
    assert!(told.starts_with("error PermissionDenied: no identity is registered"), "{told}");
    for workload in [in_one, in_two, on_host] {
        let mut child = workload.child;
        child.kill().await.unwrap();
    }
    node.end().await;
}
