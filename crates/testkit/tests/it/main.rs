//! The development cluster's own tests, on real clusters as root; one scenario at a time, since each wants the machine.
//!
//! They run when a test run says so (`NULLIUS_TEST_STATE`, set by `cargo xtask test`) and use a state directory of their
//! own, so that clusters they kill are nobody else's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod control_plane;
mod killed;
mod names;
mod nodes;
mod two_clusters;

use std::{
    fs::File,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nullius_skip::skip;
use nullius_testkit::{
    Cluster, ClusterConfig, Progress, StateDir, WITHOUT_CLUSTERS, missing_for_nodes,
};

/// A scenario's turn: nobody else starts or kills clusters of this state directory meanwhile.
struct Turn {
    state: StateDir,
    _process: File,
    _thread: MutexGuard<'static, ()>,
}

impl Turn {
    /// Waits for a turn; `None` when the scenario cannot or need not run here, and it is not CI.
    fn wait() -> Option<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let reason = if std::env::var_os("NULLIUS_TEST_STATE").is_none() {
            let told = std::env::var(WITHOUT_CLUSTERS).ok();
            let usual = || "it needs Kubernetes clusters: run the test with `cargo xtask test`";
            Some(told.unwrap_or_else(|| usual().to_owned()))
        } else {
            missing_for_nodes()
        };
        if let Some(reason) = reason {
            skip(&reason);
            return None;
        }
        let thread = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let process = File::create("/tmp/nullius-it-0.lock").unwrap();
        process.lock().unwrap();
        // What a killed run left behind would be found by the scenario that looks for leftovers.
        StateDir::open(&path()).unwrap().down_all(Progress::Lines).unwrap();
        let state = StateDir::open(&path()).unwrap();
        Some(Self { state, _process: process, _thread: thread })
    }

    fn up(&self, config: ClusterConfig) -> Cluster {
        Cluster::up(&self.state, config, Progress::Lines).unwrap()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.state.down_all(Progress::Lines).unwrap();
    }
}

fn path() -> PathBuf {
    PathBuf::from("/tmp/nullius-it-0")
}

/// A pod that serves its node's name on port 8080, on this node.
fn page_pod(name: &str, node: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: page}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
  - name: page
    image: localhost/nullius-busybox:1
    imagePullPolicy: Never
    command: [sh, -c, "echo started; mkdir /www; echo page of {node} > /www/index.html; exec httpd -f -p 8080 -h /www"]
---
"#
    )
}
