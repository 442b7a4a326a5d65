//! A shell in a pod while what carries it stops: it is given its time, and then told.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use nullius_testkit::{Environment, wait_until};

use crate::{
    faults_lab::{PATIENCE, send_signal},
    people::Worker,
    running::Running,
    trail::events,
    world::World,
};

/// The hub lets what runs go on for 10 s, the agent for 30 s.
const HUB_DRAINS: Duration = Duration::from_secs(20);
const AGENT_DRAINS: Duration = Duration::from_secs(45);

/// A hub that was told to stop; started again when dropped, so that other tests have one.
struct Stopping {
    environment: Environment,
    state: std::path::PathBuf,
}

impl Stopping {
    fn tell(world: &World) -> Self {
        send_signal(world.environment.hub_process().unwrap().pid, "-TERM");
        Self { environment: world.environment.clone(), state: world.state.clone() }
    }

    fn wait_end(&self) {
        let hub = self.environment.hub_process().unwrap();
        wait_until(HUB_DRAINS, "the hub to end", || (!hub.is_alive()).then_some(())).unwrap();
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        let _ = self.environment.kill_hub();
        let started = self.environment.start_hub_again(&self.state);
        if !std::thread::panicking() {
            started.unwrap();
        }
    }
}

/// A shell that answers.
fn shell(worker: &Worker<'_>) -> Running {
    let command = worker.kubectl().command(&["exec", "-i", "page", "--", "sh"]);
    let mut shell = Running::start("exec", command);
    shell.say("echo $((40 + 2))");
    shell.wait_line("42");
    shell
}

#[track_caller]
fn works_again(worker: &Worker<'_>) {
    let worked = wait_until(PATIENCE, "kubectl exec to work again", || {
        let exec = worker.kubectl().run(&["exec", "page", "--", "true"]).ok()?;
        (exec.code == 0).then_some(())
    });
    worked.unwrap();
}

#[test]
fn a_hub_told_to_stop_lets_a_shell_finish() {
    let Some(world) = World::alone() else { return };
    let (_namespace, worker) = world.worker_with_pod("finishes");
    let mut shell = shell(&worker);
    let stopping = Stopping::tell(&world);
    wait_until(PATIENCE, "the hub to drain", || {
        let refused = worker.kubectl().run(&["get", "pods"]).unwrap();
        (refused.code != 0).then_some(())
    })
    .unwrap();
    // What runs goes on, to its own end.
    shell.say("echo $((50 + 4)); exit 7");
    let (code, said) = shell.wait_end(HUB_DRAINS);
    assert!(said.contains("54"), "{said}");
    assert_eq!(code, 7, "{said}");
    let began = Instant::now();
    stopping.wait_end();
    eprintln!("the hub ended {:?} after the shell", began.elapsed());
    drop(stopping);
    works_again(&worker);
}

#[test]
fn a_hub_told_to_stop_tells_a_shell_that_does_not_end() {
    let Some(world) = World::alone() else { return };
    let (_namespace, worker) = world.worker_with_pod("stays");
    let mut shell = shell(&worker);
    let began = Instant::now();
    let stopping = Stopping::tell(&world);
    let (code, said) = shell.wait_end(HUB_DRAINS);
    eprintln!("told after {:?}: {code} {said}", began.elapsed());
    assert_ne!(code, 0, "{said}");
    stopping.wait_end();
    drop(stopping);
    works_again(&worker);
}

#[test]
fn an_agents_pod_told_to_stop_lets_a_shell_finish_and_another_takes_over() {
    let Some(world) = World::alone() else { return };
    let (_namespace, worker) = world.worker_with_pod("handed");
    let alarms = || events(&world, &["--kind", "alarm"]).len();
    let before = alarms();
    let mut shell = shell(&worker);
    let direct = world.direct();
    let label = "app.kubernetes.io/component=nullius-agent-proxy";
    let pods = ["-n", "nullius-system", "get", "pods", "-l", label, "-o", "name"];
    let pod = direct.ok(&pods).unwrap().trim().to_owned();
    let delete = ["-n", "nullius-system", "delete", &pod, "--wait=false"];
    direct.ok(&delete).unwrap();
    // The next one serves meanwhile, and the shell still runs through the old.
    works_again(&worker);
    assert!(shell.is_running(), "the shell was cut");
    shell.say("echo $((50 + 4)); exit 7");
    let (code, said) = shell.wait_end(AGENT_DRAINS);
    assert!(said.contains("54"), "{said}");
    assert_eq!(code, 7, "{said}");
    wait_until(AGENT_DRAINS, "the old pod to end", || {
        let pods = direct.ok(&pods).ok()?;
        (!pods.contains(&pod)).then_some(())
    })
    .unwrap();
    works_again(&worker);
    // An agent that goes away is nothing to be alarmed about.
    assert_eq!(alarms(), before, "{:#?}", &events(&world, &["--kind", "alarm"])[..1]);
}
