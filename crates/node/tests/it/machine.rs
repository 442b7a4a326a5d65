//! A machine outside of the cluster: it joins once, and is who it was after a restart.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::atomic::Ordering};

use nullius_workload::WorkloadIdentities;

use crate::{
    agent::{AGENT, Authority, JOIN_TOKEN},
    node::{Host, serve_agent},
};

fn names(told: &WorkloadIdentities) -> Vec<String> {
    told.identities.iter().map(|identity| identity.id().path().to_owned()).collect()
}

#[tokio::test]
async fn a_machine_joins_once_and_its_processes_have_identities() {
    let authority = Authority::create();
    let own = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
    let first = authority.registrations(&[("m/shop/db", "/ns/shop/db", &own)]);
    let agent = serve_agent(&authority, AGENT, first).await;
    let host = Host::create(&authority.bundle(), agent.address);
    let start = |token: &str| host.start_as_machine(&authority, agent.address.port(), token);
    // An agent that cannot say is asked again.
    agent.deaf.store(true, Ordering::Relaxed);
    let node = start(JOIN_TOKEN);
    let agent_hears = async {
        tokio::task::yield_now().await;
        agent.deaf.store(false, Ordering::Relaxed);
    };
    let (told, ()) = tokio::join!(host.identities(), agent_hears);
    assert_eq!(names(&told), ["/ns/shop/db"]);
    let mode = fs::metadata(host.path("state/machine")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    node.stop().await;

    // After a restart it has its key.
    let node = start(JOIN_TOKEN);
    assert_eq!(names(&host.identities().await), ["/ns/shop/db"]);
    node.stop().await;

    // Whoever has the token and not the key comes too late, and is told so.
    fs::remove_file(host.path("state/machine")).unwrap();
    let why = start(JOIN_TOKEN).ended().await;
    assert!(why.contains("cannot join") && why.contains("used already"), "{why}");
    let why = start("another").ended().await;
    assert!(why.contains("there is no such token"), "{why}");
    agent.stop().await;
}
