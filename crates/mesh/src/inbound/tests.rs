#![allow(clippy::unwrap_used, reason = "test")]
use std::net::IpAddr;

use nullius_intention::{Home, Intention, Origin, RuleSet, Workload};
use nullius_model::SpiffeId;
use tokio::{sync::watch, task::JoinSet};

use super::*;
use crate::{
    Claim, Directory, Here,
    live::tests::{Counted, Counts, tls},
};

const CALLER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn rules(action: &str) -> Arc<RuleSet> {
    let object = serde_json::json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention",
        "metadata": { "name": "orders", "namespace": "shop" },
        "spec": {
            "destination": { "serviceAccount": "orders" },
            "sources": [{ "ipBlock": "192.0.2.0/24", "action": action }],
        },
    });
    let home = Home::of("dev.example".parse().unwrap());
    let mut rules = RuleSet::new(Workload {
        namespace: "shop".parse().unwrap(),
        service_account: "orders".to_owned(),
        labels: Default::default(),
    });
    rules.put(&Intention::read(&object, Origin::Cluster, &home).unwrap());
    Arc::new(rules)
}

#[tokio::test]
async fn who_lives_is_judged_again_by_what_decides_about_it_and_not_by_what_others_change() {
    const LIVE: usize = 10_000;
    let (tls, here) = (tls("orders"), Arc::<Here>::default());
    let world = |rules: &Arc<RuleSet>, directory: &Arc<Directory>| {
        let (tls, here) = (Arc::clone(&tls), Arc::clone(&here));
        Arc::new(World::new(1, tls, Arc::clone(rules), here, Arc::clone(directory)))
    };
    let allow = rules("allow");
    let mut directory = Arc::new(Directory::default());
    let (sender, view) = watch::channel(Some(world(&allow, &directory)));
    let counts: &Counts = Box::leak(Box::default());
    let mut live = JoinSet::new();
    for number in 0..LIVE {
        let (mut view, by) = (view.clone(), world(&allow, &directory));
        let address = if number == 0 { IpAddr::from([192, 0, 2, 8]) } else { CALLER };
        live.spawn(async move {
            let call =
                Call { peer: None, generation: 1, address, port: 80, protocol: Protocol::Http };
            let counted = Counted(Living { call: &call, by }, counts);
            while_allowed(std::future::pending(), &mut view, None, counted).await
        });
    }
    // All of them wait for news.
    for _ in 0..LIVE {
        tokio::task::yield_now().await;
    }
    for flip in 0..10_u8 {
        let at = SocketAddr::from(([10, 96, 0, 1], 80));
        let end = SocketAddr::from(([10, 0, 0, flip + 1], 80));
        Arc::make_mut(&mut directory).put_service(at, "evil/flaps".into(), vec![end]);
        let id: SpiffeId = format!("spiffe://dev.example/ns/evil/sa/a{flip}").parse().unwrap();
        let now = std::time::Instant::now();
        Arc::make_mut(&mut directory).tell(IpAddr::from([10, 0, 0, 9]), Claim::One(&id), now);
        sender.send_replace(Some(world(&allow, &directory)));
        assert_eq!(counts.settle(LIVE).await, 0, "it is no news to those who live");
    }
    // Somebody of the mesh has the address of one: it must prove itself.
    let id: SpiffeId = "spiffe://dev.example/ns/shop/sa/front".parse().unwrap();
    Arc::make_mut(&mut directory).put_pod(IpAddr::from([192, 0, 2, 8]), id);
    sender.send_replace(Some(world(&allow, &directory)));
    assert_eq!(counts.settle(LIVE).await, 1);
    assert_eq!(live.join_next().await.unwrap().unwrap(), Ended::Cut(Why::MustProve));
    // And a rule that is for all.
    sender.send_replace(Some(world(&rules("deny"), &directory)));
    assert_eq!(counts.settle(LIVE - 1).await, LIVE);
    let all = live.join_all().await;
    assert!(all.iter().all(|it| matches!(it, Ended::Cut(Why::Decided(_)))));
}
