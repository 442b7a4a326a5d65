//! Identities, from the agent to workloads.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use nullius_workload::{ClientError, WorkloadIdentities};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use crate::{
    agent::{AGENT, Authority, DOMAIN},
    node::{Host, agent_believing, free_address, page, serve_agent},
};

fn own() -> String {
    format!("unix:uid:{}", rustix::process::geteuid().as_raw())
}

fn names(told: &WorkloadIdentities) -> Vec<String> {
    told.identities.iter().map(|identity| identity.id().path().to_owned()).collect()
}

fn is_unavailable(told: Result<WorkloadIdentities, ClientError>, with: &str) -> Option<()> {
    match told {
        Err(ClientError::Unavailable(why)) if why.contains(with) => Some(()),
        _ => None,
    }
}

#[tokio::test]
async fn what_the_agent_registers_workloads_have_and_what_it_takes_back_they_lose() {
    let authority = Authority::create();
    let first = authority.registrations(&[("1", "/ns/shop/sa/front", &own())]);
    let agent = serve_agent(&authority, AGENT, first).await;
    let host = Host::create(&authority.bundle(), agent.address);
    let node = host.start(None);
    let told = host.identities().await;
    assert_eq!(names(&told), ["/ns/shop/sa/front"]);
    host.remembers(|_| true).await;
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(host.path("run")) & 0o777, 0o755);
    assert_eq!(mode(host.socket()) & 0o222, 0o222);
    assert_eq!(mode(host.path("state")) & 0o777, 0o700);
    assert_eq!(mode(host.path("state/registrations")) & 0o777, 0o600);
    // A token is for who it is asked for, and proves whose it is.
    let tokens = host.client().await.unwrap().tokens(vec!["bank".to_owned()], None).await.unwrap();
    assert_eq!(tokens[0].id.as_str(), format!("spiffe://{DOMAIN}/ns/shop/sa/front"));
    // Who streams is told of what comes and goes.
    let mut stream = host.client().await.unwrap().identities().await.unwrap();
    assert_eq!(names(&stream.next().await.unwrap()), ["/ns/shop/sa/front"]);
    let both = [("1", "/ns/shop/sa/front", own()), ("2", "/ns/shop/sa/back", own())];
    let both = both.each_ref().map(|(id, path, selector)| (*id, *path, selector.as_str()));
    agent.told.send_replace(Some(authority.registrations(&both)));
    while names(&stream.next().await.unwrap()) != ["/ns/shop/sa/front", "/ns/shop/sa/back"] {}
    agent.told.send_replace(Some(authority.registrations(&[])));
    loop {
        match stream.next().await {
            Ok(_) => {}
            Err(ClientError::Denied(_)) => break,
            Err(other) => panic!("{other}"),
        }
    }
    let (status, page) = host.page("/metrics").await.unwrap();
    assert_eq!(status, 200);
    assert!(page.contains("nullius_node_registrations_connected 1"), "{page}");
    assert!(page.contains("nullius_node_svids_issued_total{kind=\"jwt\"} 1"), "{page}");
    node.stop().await;
    assert!(!host.socket().exists(), "the socket goes with the node");
    agent.stop().await;
}

#[tokio::test]
async fn nobody_but_the_agent_is_believed() {
    let authority = Authority::create();
    let entries = authority.registrations(&[("1", "/ns/shop/sa/front", &own())]);
    // A workload of the same cluster, and the agent of another.
    let workload = serve_agent(&authority, "/ns/shop/sa/evil", entries.clone()).await;
    let mut host = Host::create(&authority.bundle(), workload.address);
    let node = host.start(None);
    host.until(|told| is_unavailable(told, "knows no identities yet")).await;
    let other = Authority::create();
    let foreign = serve_agent(&other, AGENT, entries.clone()).await;
    host.trust(&authority.bundle(), foreign.address);
    host.until(|told| is_unavailable(told, "knows no identities yet")).await;
    let (status, why) = host.page("/readyz").await.unwrap();
    assert_eq!((status, why.as_str()), (503, "the agent has not told yet what is registered"));
    // The right one is found as soon as it is there.
    let agent = serve_agent(&authority, AGENT, entries).await;
    host.trust(&authority.bundle(), agent.address);
    assert_eq!(names(&host.identities().await), ["/ns/shop/sa/front"]);
    node.stop().await;
}

#[tokio::test]
async fn while_the_agent_is_away_what_is_held_goes_on_and_a_new_node_remembers() {
    let authority = Authority::create();
    let first = authority.registrations(&[("1", "/ns/shop/sa/front", &own())]);
    let agent = serve_agent(&authority, AGENT, first.clone()).await;
    let mut host = Host::create(&authority.bundle(), agent.address);
    let node = host.start(None);
    host.identities().await;
    host.remembers(|_| true).await;
    agent.stop().await;
    assert_eq!(names(&host.identities().await), ["/ns/shop/sa/front"]);
    node.stop().await;
    // It knows whose the caller is, and that nobody signs.
    let node = host.start(None);
    host.is_ready().await;
    let no_svid = |told: Result<WorkloadIdentities, ClientError>| match told {
        Err(ClientError::Unavailable(why)) => (!why.contains("knows no identities")).then_some(why),
        _ => None,
    };
    host.until(no_svid).await;
    let again = serve_agent(&authority, AGENT, first).await;
    host.trust(&authority.bundle(), again.address);
    assert_eq!(names(&host.identities().await), ["/ns/shop/sa/front"]);
    node.stop().await;
}

#[tokio::test]
async fn the_token_is_read_anew_and_a_newer_bundle_of_the_stream_counts() {
    let authority = Authority::create();
    let first = authority.registrations(&[("1", "/ns/shop/sa/front", &own())]);
    let token = Arc::new(Mutex::new("token-1".to_owned()));
    let agent = agent_believing(&token, &authority, AGENT, first).await;
    let mut host = Host::create(&authority.bundle(), agent.address);
    let node = host.start(None);
    host.identities().await;
    // The token ends, and with it the stream; what is told after that is heard with the next one.
    "token-2".clone_into(&mut token.lock().unwrap());
    host.token("token-2");
    let other = authority.registrations(&[("2", "/ns/shop/sa/back", &own())]);
    agent.told.send_replace(Some(other.clone()));
    let is_back = |told: Result<WorkloadIdentities, ClientError>| {
        (names(&told.ok()?) == ["/ns/shop/sa/back"]).then_some(())
    };
    host.until(is_back).await;
    // The next authority is told of by the stream, while the kubelet still has the old files.
    let next = Authority::create();
    let mut both = other.clone();
    let mut bundle = authority.bundle();
    for anchor in next.bundle().x509_authorities() {
        bundle.add_x509(anchor.clone()).unwrap();
    }
    let bundle = bundle.at(2, 300);
    both.bundles[0].jwks = bundle.to_json().to_string().into_bytes();
    agent.told.send_replace(Some(both));
    let anchors = |bytes: &[u8]| bytes.windows(8).filter(|part| part == b"\"x5c\":[\"").count();
    host.remembers(|bytes| anchors(bytes) == 2).await;
    agent.stop().await;
    let third = next.registrations(&[("3", "/ns/shop/sa/third", &own())]);
    let successor = agent_believing(&token, &next, AGENT, third).await;
    host.trust(&authority.bundle(), successor.address);
    let is_third = |told: Result<WorkloadIdentities, ClientError>| {
        (names(&told.ok()?) == ["/ns/shop/sa/third"]).then_some(())
    };
    host.until(is_third).await;
    node.stop().await;
}

#[tokio::test]
async fn a_second_node_waits_for_the_first() {
    let authority = Authority::create();
    let first = authority.registrations(&[("1", "/ns/shop/sa/front", &own())]);
    let agent = serve_agent(&authority, AGENT, first).await;
    let host = Host::create(&authority.bundle(), agent.address);
    // What a killed node leaves behind.
    std::fs::create_dir(host.path("run")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(host.socket()).unwrap());
    let one = host.start(None);
    host.identities().await;
    let inode = || {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(host.socket()).unwrap().ino()
    };
    let before = inode();
    let health = free_address();
    let second = host.start_at(None, health);
    // It listens for the kubelet at once, and says that it is starting.
    let starting = async {
        while page(health, "/readyz").await != Some((503, "starting".to_owned())) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), starting).await.unwrap();
    assert_eq!(names(&host.identities().await), ["/ns/shop/sa/front"]);
    assert_eq!(inode(), before, "the second leaves the socket of the first alone");
    one.stop().await;
    assert_eq!(names(&host.identities().await), ["/ns/shop/sa/front"]);
    second.stop().await;
}

#[tokio::test]
async fn who_floods_the_port_of_the_metrics_keeps_no_kubelet_waiting() {
    let authority = Authority::create();
    let agent = serve_agent(&authority, AGENT, authority.registrations(&[])).await;
    let host = Host::create(&authority.bundle(), agent.address);
    let node = host.start(None);
    host.is_ready().await;
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut tcp = TcpStream::connect(host.health).await.unwrap();
        tcp.write_all(b"GET /healthz HT").await.unwrap();
        held.push(tcp);
    }
    // The kubelet has three seconds.
    let kubelet = Duration::from_secs(3);
    let others = tokio::time::timeout(kubelet, page(host.health, "/healthz")).await;
    assert!(others.is_err(), "the port is held: {others:?}");
    for path in ["/healthz", "/readyz"] {
        let answer = tokio::time::timeout(kubelet, page(host.probes, path)).await;
        assert_eq!(answer.unwrap().unwrap().0, 200, "{path}");
    }
    drop(held);
    node.stop().await;
}

/// Leads the first connection to one agent, and those after it to another: replicas behind one address.
pub(crate) async fn replicas(first: SocketAddr, others: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut to = first;
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut agent = TcpStream::connect(std::mem::replace(&mut to, others)).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut tcp, &mut agent).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_node_leaves_a_replica_that_signs_nothing_and_one_that_says_nothing() {
    let authority = Authority::create();
    let first = authority.registrations(&[("1", "/ns/shop/sa/front", &own())]);
    let well = serve_agent(&authority, AGENT, first.clone()).await;
    let deaf = serve_agent(&authority, AGENT, first.clone()).await;
    deaf.deaf.store(true, Ordering::Relaxed);
    let silent = serve_agent(&authority, AGENT, first).await;
    silent.told.send_replace(None);
    for first in [&deaf, &silent] {
        let issuer = replicas(first.address, well.address).await;
        let host = Host::create(&authority.bundle(), issuer);
        let node = host.start(None);
        assert_eq!(names(&host.identities().await), ["/ns/shop/sa/front"]);
        node.stop().await;
    }
}
