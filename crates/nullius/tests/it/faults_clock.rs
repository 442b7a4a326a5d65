//! Clocks that are wrong: what differs by seconds works, what differs by minutes is refused and says so, and all is
//! well again when the clock is right.
//!
//! A library in front of the C library's gives a process another time of day; it reads from a file how far it is off.

use std::{fs, path::Path, path::PathBuf, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{
    faults_agents::{Agent, Plane},
    faults_lab::{Lab, PATIENCE},
};

/// Nothing waits for a clock: the next request counts.
const BACK_WITHIN: Duration = Duration::from_secs(5);

const SHIFT: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    const char *path = getenv("NULLIUS_TEST_CLOCK");
    if (failed || clock != CLOCK_REALTIME || !path) return failed;
    char text[32] = {0};
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    if (read(file, text, sizeof text - 1) > 0) time->tv_sec += atol(text);
    close(file);
    return 0;
}
"#;

/// A clock that a test sets, for the processes that are given its variables.
struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    fn new(directory: &Path, name: &str) -> Self {
        let source = directory.join("shift.c");
        let library = directory.join("shift.so");
        if !library.exists() {
            fs::write(&source, SHIFT).unwrap();
            let mut compile = Command::new("cc");
            compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
            assert!(compile.status().unwrap().success(), "a C compiler builds this project too");
        }
        let clock = Self { file: directory.join(name), library };
        clock.set(0);
        clock
    }

    /// So many seconds ahead of the true time.
    fn set(&self, seconds: i64) {
        let draft = self.file.with_extension("new");
        fs::write(&draft, seconds.to_string()).unwrap();
        fs::rename(&draft, &self.file).unwrap();
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.display().to_string()),
            ("NULLIUS_TEST_CLOCK", self.file.display().to_string()),
        ]
    }

    fn of(&self, mut agent: Agent) -> Agent {
        for (name, value) in self.variables() {
            agent = agent.with(name, &value);
        }
        agent
    }
}

#[test]
fn a_clock_that_is_wrong_is_named_and_nothing_passes_until_it_is_right() {
    let Some(plane) = Plane::shared() else { return };
    let clocks = TempDir::new().unwrap();
    let hub_clock = Clock::new(clocks.path(), "hub");
    let agent_clock = Clock::new(clocks.path(), "agent");
    let files = TempDir::new().unwrap();
    let state = files.path().join("hub");
    let lab = Lab::with(files, state, "", hub_clock.variables());
    let agent = agent_clock.of(Agent::install(&lab, &plane, "plane"));
    let namespace = plane.cluster.namespace("clock").unwrap();
    let (control, proxy) = agent.start();
    let ada = lab.clerk("ada", "plane", namespace.name());
    ada.works(PATIENCE);
    // What kubectl itself takes on this machine.
    let usual = ada.works(PATIENCE);

    for (clock, whose) in [(&agent_clock, "the agent's"), (&hub_clock, "the hub's")] {
        for seconds in [3, -3] {
            clock.set(seconds);
            let output = ada.kubectl().run(&["get", "configmaps"]).unwrap();
            assert_eq!(output.code, 0, "{whose} clock is {seconds} s off: {}", output.stderr);
        }
        for seconds in [120, -120, 3_600, -3_600] {
            clock.set(seconds);
            let refused = ada.kubectl().run(&["get", "configmaps"]).unwrap();
            eprintln!("{whose} clock is {seconds} s off: {}", refused.stderr.trim());
            assert_eq!(refused.code, 1, "{whose} clock is {seconds} s off");
            let told = ["check the clocks of hub and cluster", "s ago by the hub's clock"];
            assert!(told.iter().any(|part| refused.stderr.contains(part)), "{}", refused.stderr);
            clock.set(0);
            let back = ada.works(PATIENCE);
            assert!(back < BACK_WITHIN + 2 * usual, "back after {back:?}, usually {usual:?}");
        }
    }

    // The clocks of hub and agent agree, and the API server's is another: its tokens seem to have ended when made.
    drop((control, proxy));
    hub_clock.set(1_800);
    agent_clock.set(1_800);
    let log = plane.cluster.audit_log().unwrap();
    let of_role_writer = |line: &str| line.contains("/serviceaccounts/nullius-role-writer/token");
    let mints = || log.entries_where(of_role_writer).unwrap().len();
    let before = mints();
    let _running = agent.start();
    for _ in 0..3 {
        assert_eq!(ada.kubectl().run(&["get", "configmaps"]).unwrap().code, 1);
    }
    let minted = mints() - before;
    assert!((1..=5).contains(&minted), "{minted} tokens of role-writer were made");
    hub_clock.set(0);
    agent_clock.set(0);
    let back = ada.works(PATIENCE);
    eprintln!("{minted} tokens, back after {back:?}");
}
