//! An API server that hangs, is killed, and comes back: those who want it are told which one is away.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nullius_testkit::{Cluster, wait_until};
use rustix::process::Signal;

use crate::{
    faults_agents::{Agent, Plane},
    faults_lab::{Lab, PATIENCE, Program},
    running::send_signal,
    world::ended_with,
};

/// A connection that does not come up is given up after 5 s, one that falls silent after 30 s.
const TOLD_WITHIN: Duration = Duration::from_secs(12);
const SILENT_TOLD_WITHIN: Duration = Duration::from_secs(35);
const BACK_WITHIN: Duration = Duration::from_secs(120);

/// The API server of a cluster, as its process.
pub(crate) struct ApiServer {
    pub(crate) pid: u32,
    command: Vec<String>,
    marker: String,
}

impl ApiServer {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let processes = cluster.processes();
        let process = processes.iter().rev().find(|process| process.name == "kube-apiserver");
        let pid = process.unwrap().pid;
        let read = |file: &str| -> Vec<String> {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
            parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
        };
        let marker = read("environ").into_iter().find(|v| v.starts_with("NULLIUS_DEV_CLUSTER="));
        Self { pid, command: read("cmdline"), marker: marker.unwrap() }
    }

    /// Starts it again as it was.
    fn start(&self, log: &Path) -> Program {
        self.start_with(log, &[])
    }

    /// Starts it again with arguments of which the last one of a name counts.
    pub(crate) fn start_with(&self, log: &Path, more: &[String]) -> Program {
        let (name, value) = self.marker.split_once('=').unwrap();
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(more).env(name, value);
        Program::start("the API server", log, &mut command)
    }
}

/// Wakes the API server whatever happens.
struct Asleep(u32);

impl Asleep {
    fn put(pid: u32) -> Self {
        send_signal(pid, Signal::STOP);
        Self(pid)
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        send_signal(self.0, Signal::CONT);
    }
}

#[test]
fn an_api_server_that_is_away_is_told_by_the_name_of_its_cluster() {
    let Some(plane) = Plane::second() else { return };
    let lab = Lab::new("");
    let agent = Agent::install(&lab, &plane, "second");
    let namespace = plane.cluster.namespace("api-down").unwrap();
    let (_control, _proxy) = agent.start();
    let ada = lab.clerk("ada", "second", namespace.name());
    ada.works(PATIENCE);
    let api_server = ApiServer::of(&plane.cluster);

    let bob = lab.clerk("bob", "second", namespace.name());
    // What kubectl itself takes on this machine is nobody's silence.
    let usual = ada.works(PATIENCE);
    let asleep = Asleep::put(api_server.pid);
    thread::scope(|scope| {
        for person in [&ada, &bob] {
            let kubectl = person.kubectl();
            scope.spawn(move || {
                let began = Instant::now();
                let refused = kubectl.run(&["get", "configmaps"]).unwrap();
                let took = began.elapsed();
                eprintln!("{} is told after {took:?}: {}", person.person.name, refused.stderr);
                ended_with(&refused, 1);
                assert!(refused.stderr.contains("`second`"), "{}", refused.stderr);
                assert!(took < SILENT_TOLD_WITHIN + 2 * usual, "{took:?}, and usually {usual:?}");
            });
        }
    });
    drop(asleep);
    let back = bob.works(BACK_WITHIN);
    eprintln!("awake: back after {back:?}");

    send_signal(api_server.pid, Signal::KILL);
    let began = Instant::now();
    let told = ada.is_refused(TOLD_WITHIN, "`second`");
    eprintln!("killed: told after {:?}: {told}", began.elapsed());
    assert!(told.contains("(ServiceUnavailable)"), "{told}");
    let unavailable = lab.wait_event(
        "the failure in the audit",
        &["--user", "ada", "--kind", "kube-request", "--outcome", "failed"],
        |event| event["kube"]["code"] == 503,
    );
    assert_eq!(unavailable["cluster"], "second");

    let _again = api_server.start(&agent.file("kube-apiserver.log"));
    wait_until(PATIENCE, "the API server", || plane.cluster.is_ready().then_some(())).unwrap();
    let back = ada.works(BACK_WITHIN);
    bob.works(BACK_WITHIN);
    eprintln!("started again: back after {back:?}");
}
