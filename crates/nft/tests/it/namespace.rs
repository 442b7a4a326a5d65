//! A network namespace of a test's own.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Puts the calling thread into a new network namespace, which ends with it; `false` where that may not be done.
pub(crate) fn enter() -> bool {
    if !rustix::process::geteuid().is_root() {
        nullius_skip::skip("a network namespace takes root");
        return false;
    }
    unshare(CloneFlags::CLONE_NEWNET).expect("root makes a network namespace");
    true
}

/// What the program `nft` prints; a child begins in the namespace of the thread that starts it.
pub(crate) fn nft(arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new("nft").args(arguments).output() else {
        nullius_skip::skip("the program `nft` is not here");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}
