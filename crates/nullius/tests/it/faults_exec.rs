//! A shell in a pod while what carries it stops: it is given its time, and then told.

use std::time::{Duration, Instant};

use nullius_testkit::wait_until;

use crate::{
    faults::HubDown, faults_lab::PATIENCE, people::Worker, running::Running, trail::events,
    world::World,
};

/// The hub lets what runs go on for 10 s, the agent for 30 s.
const HUB_DRAINS: Duration = Duration::from_secs(20);
const AGENT_DRAINS: Duration = Duration::from_secs(45);

/// A shell that answers.
fn shell(worker: &Worker<'_>) -> Running {
    let command = worker.kubectl().command(&["exec", "-i", "page", "--", "sh"]);
    let mut shell = Running::start("exec", command);
    shell.say("echo $((40 + 2))");
    shell.wait_line("42");
    shell
}

/// What tells that pods are reached.
const EXEC: [&str; 4] = ["exec", "page", "--", "true"];

#[test]
fn a_hub_told_to_stop_lets_a_shell_finish() {
    let Some(world) = World::alone() else { return };
    let (_namespace, worker) = world.worker_with_pod("finishes");
    let mut shell = shell(&worker);
    let stopping = HubDown::ask(&world);
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
    stopping.wait_end(HUB_DRAINS);
    eprintln!("the hub ended {:?} after the shell", began.elapsed());
    drop(stopping);
    worker.works_again(&EXEC);
}

#[test]
fn a_hub_told_to_stop_tells_a_shell_that_does_not_end() {
    let Some(world) = World::alone() else { return };
    let (_namespace, worker) = world.worker_with_pod("stays");
    let mut shell = shell(&worker);
    let began = Instant::now();
    let stopping = HubDown::ask(&world);
    let (code, said) = shell.wait_end(HUB_DRAINS);
    eprintln!("told after {:?}: {code} {said}", began.elapsed());
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("error: the hub stops, perhaps for an update"), "{said}");
    stopping.wait_end(HUB_DRAINS);
    drop(stopping);
    worker.works_again(&EXEC);
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
    worker.works_again(&EXEC);
    assert!(shell.is_running(), "the shell was cut");
    shell.say("echo $((50 + 4)); exit 7");
    let (code, said) = shell.wait_end(AGENT_DRAINS);
    assert!(said.contains("54"), "{said}");
    assert_eq!(code, 7, "{said}");
    wait_until(PATIENCE, "the old pod to end", || {
        let pods = direct.ok(&pods).ok()?;
        (!pods.contains(&pod)).then_some(())
    })
    .unwrap();
    worker.works_again(&EXEC);
    // An agent that goes away is nothing to be alarmed about.
    assert_eq!(alarms(), before, "{:#?}", &events(&world, &["--kind", "alarm"])[..1]);
}
