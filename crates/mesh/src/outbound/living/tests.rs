#![allow(clippy::unwrap_used, reason = "test")]

use std::net::{IpAddr, SocketAddr};

use nullius_intention::{RuleSet, Workload};
use nullius_model::SpiffeId;
use nullius_tls::WorkloadTls;
use tokio::{sync::watch, task::JoinSet};

use super::*;
use crate::{
    Claim, Directory, Here, Wire,
    live::{
        Ended,
        tests::{Counted, Counts, front, tls, with_bundles},
        while_allowed,
    },
};

fn id(account: &str) -> SpiffeId {
    format!("spiffe://dev.example/ns/shop/sa/{account}").parse().unwrap()
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn hop(last: u8, over: Over) -> Hop {
    let at = SocketAddr::new(address(last), 80);
    Hop { destination: at, dial: at, from: None, over }
}

fn rules() -> Arc<RuleSet> {
    Arc::new(RuleSet::new(Workload {
        namespace: "shop".parse().unwrap(),
        service_account: "orders".to_owned(),
        labels: Default::default(),
    }))
}

/// As in `inbound`: of 10,000 that live none is judged for what is not about it.
#[tokio::test]
async fn who_calls_out_is_judged_again_by_who_is_there_and_not_by_what_others_change() {
    const LIVE: usize = 10_000;
    let peer: &WorkloadPeer = Box::leak(Box::new(front().await));
    let known = tls("orders");
    let (here, rules) = (Arc::<Here>::default(), rules());
    let world = |generation, tls: &Arc<WorkloadTls>, directory: &Arc<Directory>| {
        let (tls, here, rules) = (Arc::clone(tls), Arc::clone(&here), Arc::clone(&rules));
        Arc::new(World::new(generation, tls, rules, here, Arc::clone(directory)))
    };
    let mut directory = Arc::new(Directory::default());
    for last in [1, 2] {
        Arc::make_mut(&mut directory).put_pod(address(last), id("front"));
    }
    let (sender, view) = watch::channel(Some(world(1, &known, &directory)));
    let counts: &Counts = Box::leak(Box::default());
    let mut live = JoinSet::new();
    for number in 0..LIVE {
        let mut view = view.clone();
        live.spawn(async move {
            // One to another pod of the same account, one to somebody outside, and all others.
            let mesh = || Over::Mesh(Wire::Hbone, [id("front")].into());
            let hop = match number {
                0 => hop(2, mesh()),
                1 => hop(3, Over::Plain),
                _ => hop(1, mesh()),
            };
            let living = match number {
                1 => Living::plain(&hop),
                _ => Living::proven(&hop, peer, 1),
            };
            let counted = Counted(living, counts);
            while_allowed(std::future::pending(), &mut view, None, counted).await
        });
    }
    // All of them wait for news.
    for _ in 0..LIVE {
        tokio::task::yield_now().await;
    }
    sender.send_replace(Some(world(1, &known, &directory)));
    assert_eq!(counts.settle(LIVE).await, LIVE, "the first look judges");
    for flip in 0..10_u8 {
        let at = SocketAddr::from(([10, 96, 0, 1], 80));
        let end = SocketAddr::from(([10, 0, 0, flip + 1], 80));
        Arc::make_mut(&mut directory).put_service(at, "evil/flaps".into(), vec![end]);
        let id: SpiffeId = format!("spiffe://dev.example/ns/evil/sa/a{flip}").parse().unwrap();
        let now = Instant::now();
        Arc::make_mut(&mut directory).tell(address(9), Claim::One(&id), now);
        sender.send_replace(Some(world(1, &known, &directory)));
        assert_eq!(counts.settle(LIVE).await, LIVE, "it is no news to those who call");
    }
    // Another one has the address of one, and somebody of the mesh has what was outside of it.
    for last in [2, 3] {
        Arc::make_mut(&mut directory).put_pod(address(last), id("ledger"));
    }
    sender.send_replace(Some(world(1, &known, &directory)));
    assert_eq!(counts.settle(LIVE).await, LIVE + 2);
    for _ in 0..2 {
        assert_eq!(live.join_next().await.unwrap().unwrap(), Ended::Cut(Why::OtherPod));
    }
    // A new SVID is for all to hear, and ends nothing; then nobody stands behind the others any more.
    let renewed = tls("orders");
    sender.send_replace(Some(world(2, &renewed, &directory)));
    assert_eq!(counts.settle(LIVE - 2).await, 2 * LIVE);
    sender.send_replace(Some(world(2, &renewed, &directory)));
    assert_eq!(counts.settle(LIVE - 2).await, 2 * LIVE, "it was verified once");
    sender.send_replace(Some(world(3, &Arc::new(with_bundles("orders", [])), &directory)));
    let all = live.join_all().await;
    assert!(all.iter().all(|it| *it == Ended::Cut(Why::NoLongerProven)));
}
