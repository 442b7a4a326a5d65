#![allow(clippy::unwrap_used, reason = "test")]

use nullius_intention::{RuleSet, Workload};
use nullius_tls::WorkloadTls;

use super::*;
use crate::{
    Directory, Exports, Here,
    live::tests::{front, tls, with_bundles},
};

fn service(name: &str) -> Exported {
    format!("{name}.shop.svc.clusterset.local:80").parse().unwrap()
}

fn world(generation: u64, tls: &Arc<WorkloadTls>, exports: &Arc<Exports>) -> Arc<World> {
    let rules = Arc::new(RuleSet::new(Workload {
        namespace: "nullius-system".parse().unwrap(),
        service_account: "nullius-gateway".to_owned(),
        labels: Default::default(),
    }));
    let (here, directory) = (Arc::<Here>::default(), Arc::<Directory>::default());
    let world = World::new(generation, Arc::clone(tls), rules, here, directory);
    Arc::new(world.with_exports(Arc::clone(exports)))
}

fn exports(partner: &str, services: &[(&str, u8)]) -> Arc<Exports> {
    let mut exports = Exports::new([partner]);
    for (name, last) in services {
        exports.put(service(name), [SocketAddr::from(([10, 0, 0, *last], 80))]);
    }
    Arc::new(exports)
}

#[tokio::test]
async fn calls_are_judged_again_by_what_is_theirs_and_not_by_what_others_change() {
    let client = SocketAddr::from(([192, 0, 2, 1], 40_000));
    let turns = Arc::new(Semaphore::new(TURNS));
    let guest = Guest { peer: front().await, generation: 1, client, turns };
    let (orders, known) = (service("orders"), tls("gateway"));
    let before = exports("dev.example", &[("orders", 7)]);
    // What is said of a world: none where it is no news.
    let look = |living: &mut Living<'_>, world: Arc<World>| match living.is_as_before(&world) {
        true => None,
        false => Some(living.judge(&world)),
    };
    let begin = || {
        let mut living = Living { guest: &guest, exported: &orders, by: None };
        let first = look(&mut living, world(1, &known, &before));
        assert_eq!(first, Some(Ok(None)), "the first look judges");
        living
    };
    let mut living = begin();
    for last in 1..10 {
        let flaps = exports("dev.example", &[("orders", last), ("other", last)]);
        assert_eq!(look(&mut living, world(1, &known, &flaps)), None);
    }
    // A new SVID of the gateway has each verified once.
    let renewed = tls("gateway");
    assert_eq!(look(&mut living, world(2, &renewed, &before)), Some(Ok(None)));
    assert_eq!(look(&mut living, world(2, &renewed, &before)), None);
    let gone = Arc::new(with_bundles("gateway", []));
    let refused = look(&mut living, world(3, &gone, &before));
    assert_eq!(refused, Some(Err(Why::NoLongerProven)));
    for (after, why) in [
        (exports("dev.example", &[("other", 7)]), Why::NotExported),
        (exports("far.example", &[("orders", 7)]), Why::NotFederated),
    ] {
        assert_eq!(look(&mut begin(), world(1, &known, &after)), Some(Err(why)));
    }
}

#[test]
fn one_machine_of_ipv6_is_one_address() {
    let network = |text: &str| network(text.parse().unwrap());
    assert_eq!(network("2001:db8:0:1::1"), network("2001:db8:0:1:ffff:ffff:ffff:ffff"));
    assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
    assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
}
