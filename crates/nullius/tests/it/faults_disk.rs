//! A full disk under the hub: nothing passes that could not be written down, and it goes on when there is room.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::Command,
};

use tempfile::TempDir;

use crate::{
    faults_agents::{Agent, Plane},
    faults_lab::{Lab, PATIENCE},
    running::Running,
    world::ended_with,
};

/// A small file system in memory that is really full when it is full.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None`, with the reason on standard error, where mounting is not permitted and nobody insists.
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=8m", "nullius-test"]).arg(directory.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(directory)),
            other => {
                nullius_skip::skip(&format!("mounting a small disk needs root: {other:?}"));
                None
            }
        }
    }

    /// Fills it to its last byte.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = File::create(&path).unwrap();
        let mut block = 1 << 16;
        while block > 0 {
            if file.write_all(&vec![0; block]).is_err() {
                block /= 2;
            }
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_closes_the_way_to_clusters_until_there_is_room() {
    let Some(plane) = Plane::shared() else { return };
    let Some(disk) = SmallDisk::mount() else { return };
    let state = disk.0.path().join("hub");
    let lab = Lab::with(TempDir::new().unwrap(), state, "", Vec::new());
    let agent = Agent::install(&lab, &plane, "plane");
    let namespace = plane.cluster.namespace("full").unwrap();
    let (_control, _proxy) = agent.start();
    let ada = lab.clerk("ada", "plane", namespace.name());
    ada.works(PATIENCE);
    let ben = lab.clerk("ben", "plane", namespace.name());
    ben.works(PATIENCE);
    let kubectl = ada.kubectl();
    kubectl.ok(&["create", "configmap", "before"]).unwrap();
    let mut watch = Running::start("watch", kubectl.command(&["get", "configmaps", "--watch"]));
    watch.wait_line("before");

    let filler = disk.fill();
    // The store's journal has some room of its own; what does not fit is refused as a whole.
    let description = "x".repeat(500);
    let groups: String = (0..400)
        .map(|number| {
            format!(
                "---\napiVersion: nullius.dev/v1alpha1\nkind: Group\nmetadata: {{name: g{number}}}\n\
                 spec: {{description: {description}}}\n"
            )
        })
        .collect();
    let refused =
        lab.environment.nullius_with_input("admin", &["apply", "-f", "-"], &groups).unwrap();
    ended_with(&refused, 1);
    assert!(refused.stderr.contains("so nothing is changed"), "{}", refused.stderr);
    for args in [
        &["get", "configmaps"][..],
        &["create", "configmap", "during"],
        &["delete", "configmap", "before"],
    ] {
        let refused = kubectl.run(args).unwrap();
        ended_with(&refused, 1);
        assert!(refused.stderr.contains("audit cannot be written"), "{args:?}: {}", refused.stderr);
    }
    let stands = plane.kubectl(&["-n", namespace.name(), "get", "configmaps", "-o", "name"]);
    assert!(stands.contains("before") && !stands.contains("during"), "{stands}");
    let bob = lab.environment.nullius("admin", &["user", "add", "bob"]).unwrap();
    ended_with(&bob, 1);
    assert!(bob.stderr.contains("look at its disk"), "{}", bob.stderr);
    // Who leaves has left, though it cannot be written down: nothing of theirs stays in the cluster.
    let session = ben.me()["session"].as_str().unwrap().to_owned();
    assert!(!plane.session_objects(&session).is_empty());
    let logout = ben.nullius(&["logout"]);
    ended_with(&logout, 0);
    nullius_testkit::wait_until(PATIENCE, "the flush", || {
        plane.session_objects(&session).is_empty().then_some(())
    })
    .unwrap();
    let code = ada.person.next_code().unwrap();
    let login = lab.login("elsewhere", "ada", &ada.person.password, &code);
    ended_with(&login, 1);
    assert!(login.stderr.contains("cannot record sign-ins"), "{}", login.stderr);

    fs::remove_file(filler).unwrap();
    let back = ada.works(PATIENCE);
    eprintln!("back after {back:?}");
    kubectl.ok(&["create", "configmap", "after"]).unwrap();
    watch.wait_line("after");
    let verdict = lab.admin_json(&["audit", "verify"]);
    assert_eq!(verdict["intact"], true, "{verdict}");
    // A request's end is written when its answer has been read.
    let created = ["--user", "ada", "--verb", "create", "--outcome", "done"];
    nullius_testkit::wait_until(PATIENCE, "both that were created", || {
        (lab.events(&created).len() >= 2).then_some(())
    })
    .unwrap();
    assert_eq!(lab.events(&created).len(), 2, "{:#?}", lab.events(&created));
}
