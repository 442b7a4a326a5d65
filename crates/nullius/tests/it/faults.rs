//! What breaks: agent and hub are killed in the middle of work, and everything is right again afterwards.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use nullius_testkit::{Environment, wait_until};
use rustix::process::Signal;

use crate::{
    denials::ScaledDown,
    flush::Decoy,
    people::Worker,
    running::{Running, send_signal},
    trail::events,
    world::{World, ended_with},
};

/// How long hub and agents may take to find each other again.
const RECOVERY: Duration = Duration::from_secs(45);

/// Processes of `nullius` in the pods of a Deployment of the agent.
fn processes_of(world: &World, deployment: &str) -> Vec<u32> {
    let label = format!("app.kubernetes.io/component={deployment}");
    let uids = "jsonpath={.items[*].metadata.uid}";
    let args = ["-n", "nullius-system", "get", "pods", "-l", &label, "-o", uids];
    let uids = world.direct().ok(&args).unwrap();
    // systemd's names of cgroups have other dashes.
    let marks: Vec<String> =
        uids.split_whitespace().flat_map(|uid| [uid.to_owned(), uid.replace('-', "_")]).collect();
    let all = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|pid: &u32| {
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "nullius" && marks.iter().any(|mark| cgroup.contains(mark))
    })
    .collect()
}

#[test]
fn an_agent_killed_in_the_middle_of_a_session_goes_on_with_it() {
    let Some(world) = World::alone() else { return };
    let (namespace, worker) = world.worker_with_pod("killed");
    worker.kubectl().ok(&["get", "pods"]).unwrap();
    let before = world.session_objects(&worker.session);
    for deployment in ["nullius-agent-control", "nullius-agent-proxy"] {
        let pids = processes_of(&world, deployment);
        assert_eq!(pids.len(), 1, "{deployment}");
        send_signal(pids[0], Signal::KILL);
        wait_until(RECOVERY, "the agent to be started again", || {
            let now = processes_of(&world, deployment);
            (now.len() == 1 && now != pids).then_some(())
        })
        .unwrap();
        worker.works_again(&["get", "pods"]);
    }
    assert_eq!(world.session_objects(&worker.session), before);
    // New sessions as well.
    let newcomer = Worker::hire(&world, "newcomer", namespace.name());
    newcomer.works_again(&["get", "pods"]);
    worker.kubectl().ok(&["exec", "page", "--", "true"]).unwrap();
}

#[test]
fn what_an_ended_session_left_while_the_agent_was_dead_goes_when_it_is_back() {
    let Some(world) = World::alone() else { return };
    let (namespace, worker) = world.worker("leftover");
    let stays = Worker::hire(&world, "stays", namespace.name());
    worker.kubectl().ok(&["get", "pods"]).unwrap();
    stays.kubectl().ok(&["get", "pods"]).unwrap();
    let decoy = Decoy::new(&namespace, &worker.session);
    let before = world.session_objects(&worker.session);
    let theirs = world.session_objects(&stays.session);
    let dead = ScaledDown::new(&world, "nullius-agent-control");
    let logout = worker.nullius(&["logout"]);
    ended_with(&logout, 0);
    let refused = worker.kubectl().run(&["get", "pods"]).unwrap();
    ended_with(&refused, 1);
    assert_eq!(world.session_objects(&worker.session), before, "nobody is there to remove them");
    drop(dead);
    wait_until(RECOVERY, "the leftovers to go", || {
        let left = world.session_objects(&worker.session);
        (left.len() == 1 && decoy.is(&left[0])).then_some(())
    })
    .unwrap();
    decoy.stands(&namespace);
    assert_eq!(world.session_objects(&stays.session), theirs);
    stays.works_again(&["get", "pods"]);
}

/// The shared hub after it was killed or told to stop; started again when dropped, so that other tests have one.
pub(crate) struct HubDown {
    environment: Environment,
    state: PathBuf,
}

impl HubDown {
    /// Ends it as a crash would.
    fn kill(world: &World) -> Self {
        let environment = world.environment.clone();
        environment.kill_hub().unwrap();
        Self { environment, state: world.state.clone() }
    }

    /// Asks it to end, as an init system does.
    pub(crate) fn ask(world: &World) -> Self {
        send_signal(world.environment.hub_process().unwrap().pid, Signal::TERM);
        Self { environment: world.environment.clone(), state: world.state.clone() }
    }

    /// Waits for its end by itself.
    #[track_caller]
    pub(crate) fn wait_end(&self, within: Duration) {
        let hub = self.environment.hub_process().unwrap();
        wait_until(within, "the hub to end", || (!hub.is_alive()).then_some(())).unwrap();
    }
}

impl Drop for HubDown {
    fn drop(&mut self) {
        let _ = self.environment.kill_hub();
        let started = self.environment.start_hub_again(&self.state);
        if !std::thread::panicking() {
            started.unwrap();
        }
    }
}

#[test]
fn sessions_survive_a_killed_hub_and_clients_are_told_soon() {
    let Some(world) = World::alone() else { return };
    let (_namespace, worker) = world.worker_with_pod("crash");
    let kubectl = worker.kubectl();
    kubectl.ok(&["get", "pods"]).unwrap();
    let before = world.session_objects(&worker.session);
    let mut watch = Running::start("watch", kubectl.command(&["get", "pods", "--watch"]));
    watch.wait_line("page");

    let down = HubDown::kill(&world);
    watch.wait_end(Duration::from_secs(10));
    let soon = |what: &str, part: &str| {
        let began = Instant::now();
        let refused = kubectl.run(&["get", "pods"]).unwrap();
        ended_with(&refused, 1);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{what}: told after {took:?}");
        assert!(refused.stderr.contains(part), "{what}: {}", refused.stderr);
    };
    soon("with a credential", "refused");
    worker.expire_credential();
    soon("without a credential", "cannot reach");
    let told = worker.nullius(&["whoami"]);
    ended_with(&told, 1);
    assert!(told.stderr.contains("next:"), "{}", told.stderr);

    drop(down);
    worker.works_again(&["get", "pods"]);
    assert_eq!(worker.session_now(), worker.session);
    assert_eq!(world.session_objects(&worker.session), before);
    kubectl.ok(&["exec", "page", "--", "true"]).unwrap();
    let verdict = world.admin_json(&["audit", "verify"]);
    assert_eq!(verdict["intact"], true, "{verdict}");
    let starts = events(&world, &["--kind", "lifecycle"]);
    assert!(starts.len() >= 2, "{starts:?}");
}
