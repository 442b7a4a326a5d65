//! The binary without a cluster: exit codes, completion, a hub from its first line to its last.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use rustix::process::Signal;

use crate::running::Running;

const SOON: Duration = Duration::from_secs(120);

fn nullius(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nullius"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NULLIUS_")) {
        command.env_remove(name);
    }
    command.env("NULLIUS_HOME", home).env("NO_COLOR", "1");
    command
}

fn run(home: &Path, args: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = nullius(home).args(args).output().unwrap();
    let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (status.code().unwrap(), said)
}

#[test]
fn a_wrong_command_line_or_configuration_ends_with_64() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    std::fs::write(path("bad.toml"), "stat = '/var/lib/nullius'\n").unwrap();
    let (state, bad, none) = (path("state"), path("bad.toml"), path("none.toml"));
    for (args, wanted) in [
        (&["lgoin"][..], "'login'"),
        (&["hub"], "--state"),
        (&["hub", "--config", &bad], "unknown field `stat`"),
        (&["hub", "--config", &none], "No such file"),
        (&["hub", "--state", &state, "--public-url", "https://hub.example/x"], "without a path"),
        (&["agent", "proxy", "--cluster", "dev"], "is not set"),
        (&["whoami"], "no hub is known here"),
    ] {
        let (code, said) = run(home.path(), args);
        assert_eq!(code, 64, "{args:?}: {said}");
        assert!(said.contains(wanted), "{args:?}: {said}");
    }
    for args in [&["--help"][..], &["version"], &["completion", "fish"], &["hub", "init", "--help"]]
    {
        let (code, said) = run(home.path(), args);
        assert_eq!(code, 0, "{args:?}: {said}");
    }
}

#[test]
fn a_shell_is_told_what_may_follow() {
    let home = tempfile::tempdir().unwrap();
    let complete = |index: &str, words: &[&str]| {
        let output = nullius(home.path())
            .env("NULLIUS_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", index)
            .env("_CLAP_IFS", "\n")
            .arg("--")
            .args(words)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(complete("1", &["nullius", "lo"]), "login\nlogout\nlock");
    assert_eq!(complete("2", &["nullius", "get", "gr"]), "groups\ngrants");
    assert_eq!(complete("3", &["nullius", "audit", "list", "--out"]), "--outcome\n--output");
    // Without a session there are no names, and no error either.
    assert_eq!(complete("3", &["nullius", "describe", "role", "dev"]), "");
}

#[test]
fn the_keys_are_opened_by_what_a_key_store_prints_and_by_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    let (state, store) = (path("state"), path("key store"));
    std::fs::write(&store, "what the key store keeps\n").unwrap();
    let asks = format!("cat '{store}'");
    let hub = |args: &[&str], command: &str| {
        let args = [&["hub"][..], args, &["--state", &state, "--listen", "127.0.0.1:0"]].concat();
        let mut hub = nullius(home.path());
        hub.args(args).env("NULLIUS_KEY_PASSPHRASE_COMMAND", command);
        hub
    };
    let (code, said) = Running::start("init", hub(&["init"], &asks)).wait_end(SOON);
    assert_eq!(code, 0, "{said}");
    assert!(!home.path().join("state/key").exists());
    for (command, exit, told) in [
        ("echo another passphrase", 1, "the passphrase is wrong"),
        ("exit 1", 64, "it failed: exit status: 1"),
        ("", 64, "passphrase of the keys is empty"),
    ] {
        let (code, said) = Running::start("hub", hub(&[], command)).wait_end(SOON);
        assert_eq!(code, exit, "`{command}`: {said}");
        assert!(said.contains(told), "`{command}`: {said}");
    }
    // A command in a file that others may write would be theirs.
    let config = path("hub.toml");
    std::fs::write(&config, "key-passphrase-command = \"true\"\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&config, mode).unwrap();
    let (code, said) = run(home.path(), &["hub", "--config", &config, "--state", &state]);
    assert_eq!(code, 64, "{said}");
    assert!(said.contains("can be written by others"), "{said}");

    let mut running = Running::start("hub", hub(&[], &asks));
    running.wait_line("listen");
    running.signal(Signal::TERM);
    assert_eq!(running.wait_end(SOON).0, 0);
}

#[test]
fn a_hub_tells_how_to_reach_it_and_ends_in_order() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state").display().to_string();
    let mut command = nullius(home.path());
    command.args(["hub", "--state", &state, "--listen", "127.0.0.1:0"]);
    let mut hub = Running::start("hub", command);
    assert!(hub.wait_line("https://").contains("listen"));
    // Where the output is collected, the link is in a file alone.
    let told = hub.wait_line("first-admin-link");
    let file = told.split('`').nth(1).unwrap_or_else(|| panic!("{told}"));
    let link = std::fs::read_to_string(file).unwrap();
    let login = hub.wait_line("nullius login --hub");
    let words: Vec<&str> = login.split_whitespace().collect();
    let [_, _, _, url, _, fingerprint] = words[..] else { panic!("{login}") };
    assert!(link.trim().starts_with(&format!("{url}/enrol?token=")), "{link} {url}");

    let sign_in = |vouched: &str| {
        let args = ["login", "--hub", url, "--ca-fingerprint", vouched, "--password-stdin"];
        let mut command = nullius(home.path());
        command.args(args);
        let mut running = Running::start("login", command);
        for line in ["admin", "guess", "123456"] {
            running.say(line);
        }
        running
    };
    let wrong = format!("sha256:{}", "0".repeat(64));
    let (code, said) = sign_in(&wrong).wait_end(SOON);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("is not the hub that was meant"), "{said}");
    let (code, said) = sign_in(fingerprint).wait_end(SOON);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("cannot sign in"), "{said}");

    hub.signal(Signal::TERM);
    let (code, said) = hub.wait_end(SOON);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("stopped"), "{said}");
}
