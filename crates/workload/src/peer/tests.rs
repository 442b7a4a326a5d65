#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use std::{
    fs,
    process::{Child, Command, Stdio},
};

use super::*;

/// A process that lives until it is ended.
fn process() -> Child {
    Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn number(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

fn owner() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Another process of the same number, where the kernel lets this one ask for it. Others start processes too: then it is tried again.
fn successor(wanted: Pid) -> Option<Child> {
    let before = (wanted.as_raw_nonzero().get() - 1).to_string();
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", &before).ok()?;
        let child = process();
        if number(&child) == wanted {
            return Some(child);
        }
        end(child);
    }
    panic!("no process got the number {wanted:?}");
}

#[tokio::test]
async fn the_number_of_an_ended_process_is_nobody() {
    let child = process();
    let pid = number(&child);
    let peer = Peer::of_number(pid, owner()).unwrap();
    peer.still_there().unwrap();
    end(child);
    peer.ended().await;
    assert!(matches!(peer.still_there(), Err(PeerError::Gone)));
    let Some(other) = successor(pid) else {
        nullius_skip::skip("it chooses the number of a process, for which it needs root");
        return;
    };
    // The number is in use again, and the one that is held is not confused with it.
    assert!(fs::read_to_string(format!("/proc/{}/stat", other.id())).unwrap().contains("(cat)"));
    assert!(matches!(peer.still_there(), Err(PeerError::Gone)));
    assert!(matches!(peer.read("cgroup"), Err(PeerError::Gone)));
    assert!(matches!(peer.read("status"), Err(PeerError::Gone)));
    // Looked up anew, another owner than the socket names is refused.
    let (uid, gid) = owner();
    assert!(matches!(Peer::of_number(pid, (uid + 1, gid)), Err(PeerError::Gone)));
    end(other);
}

#[tokio::test]
async fn both_ways_find_the_same_process() {
    let (connected, _ours) = UnixStream::pair().unwrap();
    let by_socket = Peer::of(&connected).unwrap();
    let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
    let by_number = Peer::of_number(own, owner()).unwrap();
    assert_eq!(by_socket.owner, by_number.owner);
    assert_eq!(by_socket.started, by_number.started);
    assert!(by_socket.descriptor.is_some());
    assert!(matches!(by_socket.read("missing"), Err(PeerError::Gone)));
}

#[tokio::test]
async fn a_zombie_is_no_process() {
    let mut child = process();
    let peer = Peer::of_number(number(&child), owner()).unwrap();
    child.kill().unwrap();
    peer.ended().await;
    // Nobody has waited for it yet.
    assert!(matches!(peer.still_there(), Err(PeerError::Gone)));
    child.wait().unwrap();
}
