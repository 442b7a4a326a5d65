//! What a process might try to get another's identity, or to keep others from theirs.

use std::{
    fs,
    io::{IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    net::{TcpListener, TcpStream},
    os::{
        fd::AsFd as _,
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            net::UnixStream as Plain,
        },
    },
    process::Command as Blocking,
    sync::Arc,
    time::{Duration, Instant},
};

use nullius_model::SystemClock;
use nullius_proto::spiffe::X509svidRequest;
use nullius_workload::{CgroupRoot, ClientError, Limits};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt};
use sha2::{Digest as _, Sha256};
use tokio::{io::AsyncReadExt as _, net::UnixStream, process::Command};
use tonic::Code;

use crate::{
    api::{raw, signed},
    world::{Authority, DOMAIN, Node, Workload, entry, own_user, probe, registered},
};

fn id(path: &str) -> String {
    format!("spiffe://{DOMAIN}{path}")
}

fn cat() -> String {
    fs::canonicalize("/bin/cat").unwrap().to_str().unwrap().to_owned()
}

/// Becomes `cat`, and waits until it is.
async fn become_cat(relay: &mut Workload) {
    relay.tell("").await;
    relay.tell("is it cat?").await;
    assert_eq!(relay.says().await, "is it cat?");
    let now = fs::read_link(format!("/proc/{}/exe", relay.pid())).unwrap();
    assert_eq!(now.to_str().unwrap(), cat());
}

#[tokio::test]
async fn another_program_in_the_same_process_loses_what_the_first_had() {
    let path = format!("unix:path:{}", probe().display());
    let mut node = Node::start(vec![entry("/probe", &[&own_user(), &path])]);
    let mut relay = Workload::start(&["relay", node.path(), &cat()]);
    assert_eq!(relay.says().await, format!("set {}", id("/probe")));
    become_cat(&mut relay).await;
    node.rotate().await;
    let told = relay.says().await;
    assert!(told.starts_with("error PermissionDenied: no identity is registered"), "{told}");
    node.end().await;
}

#[tokio::test]
async fn another_program_in_the_same_process_wins_nothing() {
    let path = format!("unix:path:{}", cat());
    let digest = Sha256::digest(fs::read(cat()).unwrap());
    let digest = format!("unix:sha256:{}", hex::encode(digest));
    let user = own_user();
    let entries = vec![
        entry("/user", &[&user]),
        entry("/path", &[&user, &path]),
        entry("/digest", &[&user, &digest]),
    ];
    let mut node = Node::start(entries);
    node.holdings
        .wait_for(|all| all.as_ref().is_some_and(|all| all.held.len() == 3))
        .await
        .unwrap();
    // The child of the relay talks; the relay connected, and becomes the program that has more.
    let mut relay = Workload::start(&["relay", node.path(), &cat()]);
    assert_eq!(relay.says().await, format!("set {}", id("/user")));
    become_cat(&mut relay).await;
    for _ in 0..2 {
        node.rotate().await;
        assert_eq!(relay.says().await, format!("set {}", id("/user")));
    }
    node.end().await;
}

#[tokio::test]
async fn executables_are_told_by_path_and_content() {
    let digest = format!("unix:sha256:{}", hex::encode(Sha256::digest(fs::read(probe()).unwrap())));
    let path = format!("unix:path:{}", probe().display());
    let user = own_user();
    let group = format!("unix:gid:{}", rustix::process::getegid().as_raw());
    let node = Node::start(vec![
        entry("/all", &[&user, &group, &path, &digest]),
        entry("/other-path", &[&user, &format!("unix:path:{}", cat())]),
        entry("/other-digest", &[&user, &format!("unix:sha256:{}", "00".repeat(32))]),
    ]);
    let mut workload = Workload::start(&["watch", node.path()]);
    assert_eq!(workload.says().await, format!("set {}", id("/all")));
    // A copy has the content, and not the path.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    fs::copy(probe(), &copy).unwrap();
    node.register(registered(
        &node.authority,
        vec![entry("/path", &[&user, &path]), entry("/digest", &[&user, &digest])],
    ));
    let mut workload = Workload::start_as(&mut Command::new(&copy), &["watch", node.path()]);
    assert_eq!(workload.says().await, format!("set {}", id("/digest")));
    node.end().await;
}

#[tokio::test]
async fn a_mount_of_ones_own_makes_no_executable_of_the_host() {
    let unshare = ["--user", "--map-root-user", "--mount"];
    let works = Blocking::new("unshare").args(unshare).arg("true").output();
    if !works.is_ok_and(|output| output.status.success()) {
        nullius_skip::skip("it needs user namespaces and `unshare`");
        return;
    }
    let user = own_user();
    let victim = format!("unix:path:{}", cat());
    let node = Node::start(vec![entry("/victim", &[&user, &victim]), entry("/user", &[&user])]);
    let script = format!("mount --bind {} {} && exec {} \"$@\"", probe().display(), cat(), cat());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    let mut impostor = Workload::start_as(&mut command, &["watch", node.path()]);
    assert_eq!(impostor.says().await, format!("set {}", id("/user")), "its path is a mount");
    // In a user namespace of its own, no user is one of the host.
    let mut command = Command::new("unshare");
    command.args(unshare).arg(probe());
    let mut impostor = Workload::start_as(&mut command, &["watch", node.path()]);
    let told = impostor.says().await;
    assert!(told.starts_with("error PermissionDenied:"), "{told}");
    assert!(told.contains("in a container that is no pod's"), "{told}");
    node.end().await;
}

#[tokio::test]
async fn a_socket_that_was_passed_on_ends_with_who_connected() {
    let mut node = Node::start(vec![entry("/user", &[&own_user()])]);
    let mut relay = Workload::start(&["relay", node.path(), &cat()]);
    assert_eq!(relay.says().await, format!("set {}", id("/user")));
    // The child that has the socket lives on.
    relay.child.start_kill().unwrap();
    relay.child.wait().await.unwrap();
    node.rotate().await;
    let told = relay.says().await;
    assert!(told.starts_with("error"), "{told}");
    node.end().await;
}

#[tokio::test]
async fn a_socket_of_who_has_ended_is_nobodys() {
    let node = Node::start(vec![entry("/user", &[&own_user()])]);
    // It connects, leaves the socket to its child, and is gone before the child says anything.
    let mut relay = Workload::start(&["relay", node.path(), "/bin/true"]);
    relay.tell("").await;
    relay.child.wait().await.unwrap();
    let told = relay.says().await;
    // The child may have been told before the end, and never after it.
    let told = if told.starts_with("set") { relay.says().await } else { told };
    assert!(told.starts_with("error"), "{told}");
    node.end().await;
}

#[tokio::test]
async fn who_floods_harms_itself_alone() {
    let limits = Limits {
        connections: 100,
        connections_of_one: 4,
        streams_of_one: 5,
        burst: 20,
        requests_per_second: 1,
    };
    let authority = Authority::create(DOMAIN, Arc::new(SystemClock));
    let first = registered(&authority, vec![entry("/user", &[&own_user()])]);
    let node = Node::start_with(authority, Some(first), limits, CgroupRoot::default());
    let mut api = raw(&node).await;
    let mut streams = Vec::new();
    let refused = loop {
        match api.fetch_x509svid(signed(X509svidRequest {})).await {
            Ok(stream) => streams.push(stream.into_inner()),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(streams.len(), 5);
    // More connections are no way around.
    let mut other = raw(&node).await;
    let refused = other.fetch_x509svid(signed(X509svidRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut stream = UnixStream::connect(&node.socket).await.unwrap();
        // A server that serves speaks first; one that refuses closes.
        if stream.read_exact(&mut [0; 9]).await.is_ok() {
            open.push(stream);
        }
    }
    assert_eq!(open.len(), 2, "two of four places were taken");
    // Requests without end are refused before anybody is looked at.
    let mut last = None;
    for _ in 0..30 {
        last = api.fetch_x509svid(X509svidRequest {}).await.err();
    }
    assert_eq!(last.unwrap().code(), Code::ResourceExhausted);
    // What was open goes on.
    assert!(streams[0].message().await.unwrap().is_some());
    node.end().await;
}

#[tokio::test]
async fn garbage_ends_a_connection_and_nothing_else() {
    use tokio::io::AsyncWriteExt as _;

    let node = Node::start(vec![entry("/user", &[&own_user()])]);
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        &[0xff; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0",
    ] {
        let mut stream = UnixStream::connect(&node.socket).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    let mut client = node.client().await;
    assert_eq!(client.identities().await.unwrap().next().await.unwrap().identities.len(), 1);
    node.end().await;
}

#[tokio::test]
async fn a_socket_is_replaced_at_once_and_open_to_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("workload.sock");
    let first = nullius_workload::bind(&path).unwrap();
    let before = fs::metadata(&path).unwrap();
    assert_eq!(before.permissions().mode() & 0o777, 0o666);
    let _second = nullius_workload::bind(&path).unwrap();
    assert_ne!(fs::metadata(&path).unwrap().ino(), before.ino());
    drop(first);
    UnixStream::connect(&path).await.unwrap();
    assert!(nullius_workload::bind(&folder.path().join("missing/workload.sock")).is_err());
}

#[tokio::test]
async fn a_node_that_stops_tells_its_streams() {
    let node = Node::start(vec![entry("/user", &[&own_user()])]);
    let mut client = node.client().await;
    let mut sets = client.identities().await.unwrap();
    sets.next().await.unwrap();
    node.end().await;
    assert!(matches!(
        sets.next().await,
        Err(ClientError::Unavailable(_) | ClientError::Refused(_))
    ));
}

/// Hands over a connection that lingers for a minute where it is closed, as its other end, which is kept, does not read.
fn hand_over(to: &Plain, flags: SendFlags) -> impl Sized + use<> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut end = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let deaf = listener.accept().unwrap();
    end.set_nonblocking(true).unwrap();
    while end.write(&[0; 65_536]).is_ok() {}
    sockopt::set_socket_linger(&end, Some(Duration::from_secs(60))).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let all = [end.as_fd()];
    assert!(beside.push(SendAncillaryMessage::ScmRights(&all)));
    sendmsg(to, &[IoSlice::new(b"P")], &mut beside, flags).unwrap();
    deaf
}

/// The node runs on the one thread of this test: where it waited, nobody would be answered.
#[tokio::test]
async fn descriptors_that_nobody_asked_for_end_a_connection_and_keep_nobody_waiting() {
    let limits = Limits { connections_of_one: 8, ..Limits::default() };
    let authority = Authority::create(DOMAIN, Arc::new(SystemClock));
    let first = registered(&authority, vec![entry("/user", &[&own_user()])]);
    let node = Node::start_with(authority, Some(first), limits, CgroupRoot::default());
    let identities = async || {
        let mut client = node.client().await;
        client.identities().await.unwrap().next().await.unwrap().identities.len()
    };
    // From here on all that it takes is there.
    assert_eq!(identities().await, 1);
    let begun = Instant::now();
    let (mut deaf, mut open) = (Vec::new(), Vec::new());
    for flags in [SendFlags::empty(), SendFlags::OOB].repeat(2) {
        let stream = Plain::connect(&node.socket).unwrap();
        deaf.push(hand_over(&stream, flags));
        (&stream).write_all(b"RI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        open.push(stream);
    }
    // Some are gone before they are looked at, some stay.
    open.truncate(2);
    assert_eq!(identities().await, 1);
    let ends = tokio::task::spawn_blocking(move || {
        for mut stream in open {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut rest = Vec::new();
            match stream.read_to_end(&mut rest) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
            }
        }
    });
    ends.await.unwrap();
    // Nor who is refused because there are too many of theirs.
    let mut many = Vec::new();
    while many.len() < 16 {
        many.push(UnixStream::connect(&node.socket).await.unwrap());
    }
    let refused = Plain::connect(&node.socket).unwrap();
    deaf.push(hand_over(&refused, SendFlags::empty()));
    drop((many, refused));
    let mut client = node.client().await;
    while client.identities().await.is_err() {
        client = node.client().await;
    }
    // Nor who is not even accepted when it ends.
    let late = Plain::connect(&node.socket).unwrap();
    deaf.push(hand_over(&late, SendFlags::empty()));
    node.end().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
