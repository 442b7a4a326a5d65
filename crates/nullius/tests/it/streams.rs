//! kubectl into running pods: logs, exec, attach, cp, port-forward and debug, over every transport.

use std::{
    fs,
    process::{Child, Command},
    thread,
    time::Duration,
};

use nullius_testkit::{Kubectl, wait_until};
use sha2::{Digest as _, Sha256};

use crate::{
    running::{Running, get_page, port_of},
    transports,
    world::{World, ended_with},
};

/// How long a stream may take to end by itself.
const SOON: Duration = Duration::from_secs(120);

#[test]
fn logs_are_read_and_followed() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker_with_pod("logs");
    for (number, kubectl) in worker.kubectls().iter().enumerate() {
        let last = kubectl.ok(&["logs", "page", "--tail=1"]).unwrap();
        assert!(last.starts_with("tick "), "{last}");
        for way in transports::shown_with(number) {
            let kubectl = way.of(kubectl);
            let mut logs = Running::start(way.name, kubectl.command(&["logs", "-f", "page"]));
            logs.wait_line("tick 1");
            let number = |line: String| line[5..].parse::<u32>().unwrap();
            let first = number(logs.wait_line("tick "));
            // More than the kubelet holds back in a buffer of any layer.
            let mut last = first;
            while last < first + 5 {
                let next = number(logs.wait_line("tick "));
                assert_eq!(next, last + 1);
                last = next;
            }
            assert!(logs.is_running());
        }
        let no_container = kubectl.run(&["logs", "page", "-c", "other"]).unwrap();
        ended_with(&no_container, 1);
        assert!(no_container.stderr.contains("container other"), "{}", no_container.stderr);
    }
}

#[test]
fn commands_run_in_containers_over_every_transport() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker_with_pod("exec");
    for (number, kubectl) in worker.kubectls().iter().enumerate() {
        for way in transports::shown_with(number) {
            let kubectl = way.of(kubectl);
            let sh =
                |script: &str| kubectl.run(&["exec", "page", "--", "sh", "-c", script]).unwrap();
            let both = sh("echo out; echo err >&2; exit 7");
            ended_with(&both, 7);
            assert_eq!(both.stdout, "out\n", "{}", way.name);
            assert!(both.stderr.contains("err\n"), "{}", both.stderr);

            let piped = "exec -i page -- sh -c".split(' ').chain(["wc -c; echo done"]);
            let piped: Vec<_> = piped.collect();
            let counted = kubectl.run_with_input(&piped, &"x".repeat(300_000)).unwrap();
            ended_with(&counted, 0);
            assert_eq!(counted.stdout, "300000\ndone\n", "{}", way.name);

            let many = sh("dd if=/dev/zero bs=64k count=32 2>/dev/null | tr '\\0' y");
            assert_eq!(many.stdout.len(), 32 * 65_536, "{}", way.name);

            let mut shell =
                Running::start(way.name, kubectl.command(&["exec", "-i", "page", "--", "sh"]));
            shell.say("echo $((40 + 2))");
            shell.wait_line("42");
            shell.say("exit 9");
            assert_eq!(shell.wait_end(SOON).0, 9, "{}", way.name);

            a_terminal_is_one(&kubectl, way.name);
        }
        let missing = kubectl.run(&["exec", "page", "--", "no-such-program"]).unwrap();
        assert!(missing.code > 0 && missing.stderr.contains("no-such-program"), "{missing:?}");
    }
}

/// With `-t` the program has a terminal of the right size, whose exit code comes back.
fn a_terminal_is_one(kubectl: &Kubectl, way: &str) {
    let script = "test -t 0 && test -t 1 && echo terminal; \
                  for i in $(seq 600); do s=$(stty size); [ \"$s\" = '45 123' ] && break; sleep 0.1; done; \
                  echo \"size $s\"; read -r line; echo \"read $line\"; exit 5";
    let exec = kubectl.command(&["exec", "-it", "page", "--", "sh", "-c", script]);
    let mut terminal = Running::start(way, in_terminal(&exec));
    terminal.wait_line("terminal");
    terminal.wait_line("size 45 123");
    terminal.say("typed");
    terminal.wait_line("read typed");
    assert_eq!(terminal.wait_end(SOON).0, 5, "{way}");
}

/// The command inside a pseudo-terminal of 45 lines and 123 columns.
fn in_terminal(command: &Command) -> Command {
    let quoted =
        |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap().replace('\'', r"'\''"));
    let mut line = "stty rows 45 cols 123; exec ".to_owned() + &quoted(command.get_program());
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&quoted(argument));
    }
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]);
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap());
    }
    script
}

#[test]
fn a_running_program_is_attached_to() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker_with_pod("attach");
    for kubectl in worker.kubectls() {
        for way in &transports::ALL[..2] {
            let kubectl = way.of(&kubectl);
            let mut attached = Running::start(way.name, kubectl.command(&["attach", "-i", "page"]));
            attached.wait_line("tick ");
            attached.say("hello there");
            attached.wait_line("heard hello there");
            assert!(attached.is_running());
        }
    }
}

#[test]
fn files_are_copied_both_ways_whole() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker_with_pod("copies");
    let folder = tempfile::tempdir().unwrap();
    for (number, kubectl) in worker.kubectls().iter().enumerate() {
        // The large file with one of them: with the other the bytes take the same way.
        let megabytes = if number == 0 { 64 } else { 4 };
        let there = folder.path().join(format!("there-{number}"));
        let digest = write_noise(&there, megabytes);
        for way in &transports::ALL[..2] {
            let kubectl = way.of(kubectl);
            let from = there.to_str().unwrap();
            kubectl.ok(&["cp", from, "page:/tmp/copy"]).unwrap();
            let sum = kubectl.ok(&["exec", "page", "--", "sha256sum", "/tmp/copy"]).unwrap();
            assert_eq!(sum.split(' ').next(), Some(digest.as_str()), "{}", way.name);
            let back = folder.path().join("back");
            kubectl.ok(&["cp", "page:/tmp/copy", back.to_str().unwrap()]).unwrap();
            assert_eq!(digest_of(&back), digest, "{}", way.name);
            fs::remove_file(back).unwrap();
        }
    }
}

/// A file that no layer can make smaller; gives its digest.
fn write_noise(file: &std::path::Path, megabytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = Vec::with_capacity(megabytes << 20);
    while noise.len() < megabytes << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    fs::write(file, &noise).unwrap();
    hex::encode(Sha256::digest(&noise))
}

fn digest_of(file: &std::path::Path) -> String {
    hex::encode(Sha256::digest(fs::read(file).unwrap()))
}

#[test]
fn ports_are_forwarded_for_real_requests() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker_with_pod("forward");
    worker
        .kubectl()
        .ok(&["exec", "page", "--", "sh", "-c", "head -c 3000000 /dev/zero >/www/large"])
        .unwrap();
    for (number, kubectl) in worker.kubectls().iter().enumerate() {
        for way in transports::shown_with(number) {
            let kubectl = way.of(kubectl);
            let args = ["port-forward", "pod/page", ":8080", "--address=127.0.0.1"];
            let mut forward = Running::start(way.name, kubectl.command(&args));
            let port = port_of(&forward.wait_line("Forwarding from"));
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let page = get_page(port, "/").unwrap();
                        assert!(page.ends_with("the page\n"), "{}: {page}", way.name);
                    });
                }
            });
            let large = get_page(port, "/large").unwrap();
            assert!(large.len() > 3_000_000, "{}: {}", way.name, large.len());
            assert!(forward.is_running());
        }
    }
}

#[test]
fn readers_that_stand_still_hold_nobody_up() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker_with_pod("stalled");
    let kubectl = worker.kubectl();
    // Endless output that nobody reads fills every buffer on the way.
    let stalled: Vec<Child> = transports::ALL
        .iter()
        .flat_map(|way| [way.of(&kubectl), way.of(&kubectl)])
        .map(|kubectl| kubectl.spawn(&["exec", "page", "--", "cat", "/dev/zero"]).unwrap())
        .collect();
    let mut logs = Running::start("logs", kubectl.command(&["logs", "-f", "page"]));
    logs.wait_line("tick");
    for _ in 0..3 {
        kubectl.ok(&["get", "pods"]).unwrap();
        let many = ["exec", "page", "--", "sh", "-c", "head -c 4000000 /dev/zero | tr '\\0' y"];
        assert_eq!(kubectl.ok(&many).unwrap().len(), 4_000_000);
        logs.wait_line("tick");
    }
    for mut child in stalled {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    kubectl.ok(&["exec", "page", "--", "true"]).unwrap();
}

#[test]
fn an_ephemeral_container_looks_into_a_pod() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker_with_pod("debug");
    for (number, kubectl) in worker.kubectls().iter().enumerate() {
        let name = format!("--container=look-{number}");
        let image = "--image=localhost/nullius-busybox:1";
        let debug = [
            "debug",
            "page",
            image,
            &name,
            "--target=page",
            "--",
            "sh",
            "-c",
            "echo looking; cd /proc/1/root && ls www",
        ];
        kubectl.ok(&debug).unwrap();
        let logs = ["logs", "page", "-c", &format!("look-{number}")];
        let seen = wait_until(SOON, "what the ephemeral container prints", || {
            kubectl.run(&logs).ok().filter(|output| output.stdout.contains("index.html"))
        });
        assert!(seen.unwrap().stdout.starts_with("looking\n"));

        let name = format!("--container=ask-{number}");
        let debug = [
            "debug",
            "page",
            "-i",
            image,
            &name,
            "--",
            "sh",
            "-c",
            "read -r line; echo \"asked $line\"",
        ];
        let output = kubectl.run_with_input(&debug, "something\n").unwrap();
        ended_with(&output, 0);
        // The kubelet writes logs down after the command has ended.
        let logs = ["logs", "page", "-c", &format!("ask-{number}")];
        let seen = wait_until(SOON, "what the ephemeral container printed", || {
            kubectl.run(&logs).ok().filter(|output| !output.stdout.is_empty())
        });
        assert_eq!(seen.unwrap().stdout, "asked something\n");
    }
}
