//! What breaks: agent and hub are killed in the middle of work, and everything is right again afterwards.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use nullius_testkit::{Environment, wait_until};
use rustix::process::Signal;

use crate::{
    denials::Scaled,
    flush::Decoy,
    people::Worker,
    running::{Running, send_signal},
    trail::events,
    world::{World, ended_with},
};

/// How long hub and agents may take to find each other again.
const RECOVERY: Duration = Duration::from_secs(150);

/// Processes of `nullius` in the pods of a Deployment of the agent.
fn processes_of(world: &World, deployment: &str) -> Vec<u32> {
    processes_in(&pods_of(world, deployment))
}

/// The UIDs of the pods of a Deployment of the agent.
pub(crate) fn pods_of(world: &World, deployment: &str) -> Vec<String> {
    let label = format!("app.kubernetes.io/component={deployment}");
    let uids = "jsonpath={.items[*].metadata.uid}";
    let args = ["-n", "nullius-system", "get", "pods", "-l", &label, "-o", uids];
    let uids = world.direct().ok(&args).unwrap();
    uids.split_whitespace().map(str::to_owned).collect()
}

/// Processes of `nullius` in pods, also of those that the API server has forgotten.
pub(crate) fn processes_in(pods: &[String]) -> Vec<u32> {
    // systemd's names of cgroups have other dashes.
    let marks: Vec<String> =
        pods.iter().flat_map(|uid| [uid.clone(), uid.replace('-', "_")]).collect();
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

/// Who leads among the replicas of control, and the version of the Lease that says so.
fn leader(world: &World) -> (String, String) {
    let fields = "jsonpath={.spec.holderIdentity} {.metadata.resourceVersion}";
    let args = ["-n", "nullius-system", "get", "lease", "nullius-agent-control", "-o", fields];
    let said = world.direct().ok(&args).unwrap();
    let (holder, version) = said.split_once(' ').unwrap();
    (holder.to_owned(), version.to_owned())
}

#[test]
fn a_leader_of_control_that_hangs_or_dies_is_followed_by_another() {
    const CONTROL: &str = "nullius-agent-control";
    let Some(world) = World::alone() else { return };
    let (namespace, worker) = world.worker("followed");
    worker.kubectl().ok(&["get", "pods"]).unwrap();
    let _two = Scaled::up(&world, CONTROL, "2");
    let replicas = processes_of(&world, CONTROL);
    assert_eq!(replicas.len(), 2);

    // Who leads renews the Lease every two seconds, or so; when it hangs, another one takes it.
    let hangs = replicas.iter().copied().find(|replica| {
        send_signal(*replica, Signal::STOP);
        let (first, mut last) = leader(&world);
        let mut renewals = 0;
        let followed = wait_until(RECOVERY, "a renewal or another leader", || {
            let (now, version) = leader(&world);
            if now != first {
                return Some(true);
            }
            renewals += u32::from(version != last);
            last = version;
            // One may have been on its way when its sender was stopped.
            (renewals > 1).then_some(false)
        });
        if !followed.as_ref().unwrap() {
            send_signal(*replica, Signal::CONT);
        }
        followed.unwrap()
    });
    let hangs = hangs.expect("one of the two renews the Lease");
    let newcomer = Worker::hire(&world, "hung", namespace.name());
    newcomer.works_again(&["get", "pods"]);

    // What hung is killed; started again, it does not lead, and the session of before ends by the new leader.
    let (second, _) = leader(&world);
    send_signal(hangs, Signal::KILL);
    wait_until(RECOVERY, "the replica to be started again", || {
        let now = processes_of(&world, CONTROL);
        (now.len() == 2 && !now.contains(&hangs)).then_some(())
    })
    .unwrap();
    ended_with(&worker.nullius(&["logout"]), 0);
    let gone = || world.session_objects(&worker.session).is_empty().then_some(());
    wait_until(RECOVERY, "the objects of the ended session to go", gone).unwrap();
    assert_eq!(leader(&world).0, second);
    newcomer.works_again(&["get", "pods"]);

    // All of them at once.
    for replica in processes_of(&world, CONTROL) {
        send_signal(replica, Signal::KILL);
    }
    wait_until(RECOVERY, "another leader", || (leader(&world).0 != second).then_some(())).unwrap();
    ended_with(&newcomer.nullius(&["logout"]), 0);
    let gone = || world.session_objects(&newcomer.session).is_empty().then_some(());
    wait_until(RECOVERY, "the objects of the second session to go", gone).unwrap();
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
    let dead = Scaled::down(&world, "nullius-agent-control");
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
    watch.wait_end(RECOVERY);
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
