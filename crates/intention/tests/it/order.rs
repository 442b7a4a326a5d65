//! Which rule decides.

use nullius_intention::{
    Destinations, Home, Intention, Intentions, Labels, Origin, Protocol, Rest, RuleSet, Stand,
    Workload, explain_connection,
};
use nullius_model::{IntentionMode, Reason};
use serde_json::json;

use crate::world::{
    answer, connect, connect_to, decided, home, intention, now, object, of_fleet, orders, rules,
    send, workload,
};

const ALLOWED: (bool, Reason) = (true, Reason::IntentionMatched);
const DENIED: (bool, Reason) = (false, Reason::IntentionRefused);

#[test]
fn nothing_allows_nothing() {
    let rules = RuleSet::new(workload());
    assert_eq!(answer(&rules, "shop/web"), (false, Reason::NoIntention));
    assert_eq!(answer(&rules, "10.0.0.9"), (false, Reason::Unauthenticated));
}

#[test]
fn the_most_exact_source_decides_wherever_it_stands() {
    let rules = rules([orders(
        "shop/orders",
        json!([
            { "any": true, "action": "allow" },
            { "namespace": "batch", "action": "deny" },
            { "namespace": "batch", "serviceAccount": "report", "action": "allow" },
            { "trustDomain": "other.example", "action": "deny" },
            { "spiffeId": "spiffe://other.example/vm/7", "action": "allow" },
        ]),
    )]);
    assert_eq!(answer(&rules, "shop/web"), ALLOWED);
    assert_eq!(answer(&rules, "batch/job"), DENIED);
    assert_eq!(answer(&rules, "batch/report"), ALLOWED);
    assert_eq!(answer(&rules, "spiffe://other.example/vm/7"), ALLOWED);
    assert_eq!(answer(&rules, "spiffe://other.example/vm/8"), DENIED);
    assert_eq!(answer(&rules, "spiffe://third.example/vm/8"), (false, Reason::NoIntention));
}

#[test]
fn any_is_this_trust_domain() {
    let rules = rules([orders("shop/orders", json!([{ "any": true, "action": "allow" }]))]);
    assert_eq!(answer(&rules, "bank/vault"), ALLOWED);
    assert_eq!(
        answer(&rules, "spiffe://other.example/ns/shop/sa/web"),
        (false, Reason::NoIntention)
    );
    assert_eq!(answer(&rules, "10.0.0.9"), (false, Reason::Unauthenticated));
}

#[test]
fn the_destination_counts_before_the_source() {
    let rules = rules([
        intention(
            "nullius-system/all",
            json!({
                "destination": { "any": true }, "sources": [{ "namespace": "shop", "serviceAccount": "web", "action": "deny" }],
            }),
        ),
        intention(
            "nullius-system/orders",
            json!({
                "destination": { "namespace": "shop", "serviceAccount": "orders" }, "sources": [{ "any": true, "action": "allow" }],
            }),
        ),
    ]);
    let verdict = decided(&connect(&rules, "shop/web"));
    assert!(verdict.is_allowed());
    let by = verdict.by.unwrap();
    assert_eq!((by.rule.intention(), by.rule.precedence()), ("nullius-system/orders", 7));
}

#[test]
fn of_duplicates_a_deny_wins() {
    let allow = orders("shop/a", json!([{ "serviceAccount": "web", "action": "allow" }]));
    let deny = orders("shop/b", json!([{ "serviceAccount": "web", "action": "deny" }]));
    assert_eq!(answer(&rules([allow.clone(), deny.clone()]), "shop/web"), DENIED);
    assert_eq!(answer(&rules([deny, allow]), "shop/web"), DENIED);
    let twice = orders(
        "shop/c",
        json!([
            { "serviceAccount": "web", "action": "allow" }, { "serviceAccount": "web", "action": "deny" },
        ]),
    );
    assert_eq!(answer(&rules([twice]), "shop/web"), DENIED);
}

#[test]
fn duplicate_lists_each_have_their_say() {
    let list = |name: &str, permissions| {
        orders(name, json!([{ "serviceAccount": "web", "permissions": permissions }]))
    };
    let rules = rules([
        list(
            "shop/a",
            json!([{ "action": "deny", "paths": [{ "prefix": "/admin" }] }, { "action": "allow", "methods": ["GET"] }]),
        ),
        list(
            "shop/b",
            json!([{ "action": "allow", "methods": ["POST"] }, { "action": "allow", "paths": [{ "prefix": "/admin" }] }]),
        ),
    ]);
    let accept = connect(&rules, "shop/web");
    assert!(send("GET", "/x").is_allowed(&accept));
    assert!(send("POST", "/x").is_allowed(&accept));
    assert!(!send("PUT", "/x").is_allowed(&accept));
    assert!(!send("POST", "/admin/x").is_allowed(&accept));
}

#[test]
fn the_longest_block_decides_and_is_as_exact_as_a_trust_domain() {
    let rules = rules([orders(
        "shop/orders",
        json!([
            { "ipBlock": "10.0.0.0/8", "action": "allow" },
            { "ipBlock": "10.66.0.0/16", "action": "deny" },
            { "ipBlock": "10.66.7.0/24", "action": "allow" },
            { "ipBlock": "2001:db8::/32", "action": "allow" },
            { "trustDomain": "other.example", "action": "deny" },
            { "spiffeId": "spiffe://other.example/vm/7", "action": "allow" },
        ]),
    )]);
    assert_eq!(answer(&rules, "10.1.1.1"), ALLOWED);
    assert_eq!(answer(&rules, "10.66.1.1"), DENIED);
    assert_eq!(answer(&rules, "10.66.7.1"), ALLOWED);
    assert_eq!(answer(&rules, "::ffff:10.66.1.1"), DENIED);
    assert_eq!(answer(&rules, "2001:db8::1"), ALLOWED);
    assert_eq!(answer(&rules, "192.0.2.1"), (false, Reason::Unauthenticated));
    // The tests' workloads call from 10.0.0.9.
    assert_eq!(answer(&rules, "spiffe://other.example/vm/8"), DENIED);
    assert_eq!(answer(&rules, "spiffe://other.example/vm/7"), ALLOWED);
    assert_eq!(answer(&rules, "shop/web"), ALLOWED);
}

#[test]
fn a_deny_of_a_higher_tier_is_final_and_an_allow_is_not() {
    let fleet = |action: &str| {
        of_fleet(
            "fleet/x",
            json!({
                "destination": { "any": true }, "sources": [{ "namespace": "shop", "action": action }],
            }),
        )
    };
    let cluster = |action: &str| {
        intention(
            "nullius-system/x",
            json!({
                "destination": { "namespace": "shop" }, "sources": [{ "any": true, "action": action }],
            }),
        )
    };
    let own =
        |action: &str| orders("shop/x", json!([{ "serviceAccount": "web", "action": action }]));
    assert_eq!(answer(&rules([fleet("deny"), cluster("allow"), own("allow")]), "shop/web"), DENIED);
    assert_eq!(answer(&rules([fleet("allow"), cluster("deny"), own("allow")]), "shop/web"), DENIED);
    assert_eq!(answer(&rules([fleet("allow"), cluster("allow"), own("deny")]), "shop/web"), DENIED);
    assert_eq!(
        answer(&rules([fleet("allow"), cluster("allow"), own("allow")]), "shop/web"),
        ALLOWED
    );
    assert_eq!(answer(&rules([fleet("allow")]), "shop/web"), ALLOWED);
    let verdict = decided(&connect(&rules([fleet("deny"), own("allow")]), "shop/web"));
    assert!(verdict.by.unwrap().label().contains("fleet tier"));
}

#[test]
fn lists_of_two_tiers_must_both_allow() {
    let rules = rules([
        intention(
            "nullius-system/x",
            json!({
                "destination": { "any": true },
                "sources": [{ "any": true, "permissions": [
                    { "action": "deny", "paths": [{ "prefix": "/debug" }] }, { "action": "allow", "paths": [{ "prefix": "/" }] },
                ] }],
            }),
        ),
        orders(
            "shop/x",
            json!([{ "serviceAccount": "web", "permissions": [{ "action": "allow", "methods": ["GET"] }] }]),
        ),
    ]);
    let accept = connect(&rules, "shop/web");
    assert!(send("GET", "/orders").is_allowed(&accept));
    assert!(!send("GET", "/debug").is_allowed(&accept));
    assert!(!send("POST", "/orders").is_allowed(&accept));
}

#[test]
fn ports_and_labels_narrow_a_destination() {
    let rules = rules([
        intention(
            "shop/a",
            json!({
                "destination": { "labels": { "app": "orders" }, "ports": [9090] },
                "sources": [{ "serviceAccount": "web", "action": "allow" }],
            }),
        ),
        intention(
            "shop/b",
            json!({
                "destination": { "labels": { "app": "other" } }, "sources": [{ "serviceAccount": "app", "action": "allow" }],
            }),
        ),
    ]);
    assert!(decided(&connect_to(&rules, "shop/web", 9090, Protocol::Tcp)).is_allowed());
    let verdict = decided(&connect(&rules, "shop/web"));
    assert_eq!(verdict.reason, Reason::NoIntention);
    assert_eq!(verdict.by.unwrap().rule.intention(), "shop/a", "the nearest is named");
    assert_eq!(answer(&rules, "shop/app"), (false, Reason::NoIntention));
}

#[test]
fn permissions_on_a_port_without_http_deny() {
    let rules = rules([orders(
        "shop/x",
        json!([
            { "serviceAccount": "web", "permissions": [{ "action": "allow", "paths": [{ "prefix": "/" }] }] },
        ]),
    )]);
    let verdict = decided(&connect_to(&rules, "shop/web", 5432, Protocol::Tcp));
    assert_eq!((verdict.is_allowed(), verdict.reason), (false, Reason::NotHttp));
}

#[test]
fn an_unknown_reference_denies() {
    let known = Home {
        federated: Some(["known.example".parse().unwrap()].into()),
        issuers: Some(["https://known".to_owned()].into()),
        ..home()
    };
    let read = |sources| {
        let spec = json!({ "destination": { "serviceAccount": "orders" }, "sources": sources });
        rules([Intention::read(&object("shop/x", spec), Origin::Cluster, &known).unwrap()])
    };
    let domains = read(json!([
        { "trustDomain": "gone.example", "action": "allow" }, { "trustDomain": "known.example", "action": "allow" },
    ]));
    assert_eq!(answer(&domains, "spiffe://gone.example/a"), (false, Reason::UnknownReference));
    assert_eq!(answer(&domains, "spiffe://known.example/a"), ALLOWED);
    let issuers = read(json!([{ "serviceAccount": "web", "permissions": [
        { "action": "allow", "methods": ["GET"], "jwt": { "issuer": "https://gone" } },
        { "action": "allow", "paths": [{ "prefix": "/" }] },
    ] }]));
    let accept = connect(&issuers, "shop/web");
    let verdict = send("GET", "/").on(&accept).unwrap();
    assert_eq!((verdict.is_allowed(), verdict.reason), (false, Reason::UnknownReference));
    assert!(send("POST", "/").is_allowed(&accept));
}

#[test]
fn permissive_lets_pass_what_no_rule_decides_until_its_end() {
    let with = |until: &str| {
        intention(
            "shop/x",
            json!({
                "destination": { "serviceAccount": "orders" },
                "permissive": { "until": until, "ports": [8080] },
                "sources": [
                    { "serviceAccount": "web", "action": "deny" },
                    { "serviceAccount": "app", "permissions": [{ "action": "allow", "methods": ["GET"] }] },
                ],
            }),
        )
    };
    let open = rules([with("2026-11-23T00:00:00Z")]);
    let verdict = decided(&connect(&open, "10.0.0.9"));
    assert_eq!((verdict.is_allowed(), verdict.reason), (true, Reason::Permissive));
    assert_eq!(verdict.ends_at.unwrap().to_string(), "2026-11-23T00:00:00Z");
    assert_eq!(answer(&open, "bank/vault"), (true, Reason::Permissive));
    assert_eq!(answer(&open, "shop/web"), DENIED);
    assert!(!send("POST", "/").is_allowed(&connect(&open, "shop/app")));
    assert_eq!(
        decided(&connect_to(&open, "10.0.0.9", 9090, Protocol::Tcp)).reason,
        Reason::Unauthenticated
    );
    let ended = rules([with("2026-11-22T12:00:00Z")]);
    assert_eq!(with("2026-11-22T12:00:00Z").permissive_until(), Some(now()));
    assert_eq!(answer(&ended, "10.0.0.9"), (false, Reason::Unauthenticated));
}

#[test]
fn a_shadow_is_told_beside_and_decides_nothing() {
    let shadow = intention(
        "shop/new",
        json!({
            "destination": { "serviceAccount": "orders" }, "mode": "shadow",
            "sources": [{ "serviceAccount": "web", "action": "deny" }, { "serviceAccount": "app", "action": "allow" }],
        }),
    );
    assert_eq!(shadow.mode(), IntentionMode::Shadow);
    let rules = rules([
        shadow,
        orders("shop/old", json!([{ "serviceAccount": "web", "action": "allow" }])),
    ]);
    for (from, real, other) in [("shop/web", true, false), ("shop/app", false, true)] {
        let accept = connect(&rules, from);
        assert_eq!(decided(&accept).is_allowed(), real, "{from}");
        let Some(Stand::Decided(verdict)) = accept.shadow() else { panic!("no shadow of {from}") };
        assert_eq!(verdict.is_allowed(), other, "{from}");
    }
}

#[test]
fn a_changed_intention_takes_the_place_of_the_old_one() {
    let mut rules = rules([orders(
        "shop/x",
        json!([
            { "serviceAccount": "web", "action": "allow" }, { "ipBlock": "10.0.0.0/8", "action": "allow" },
        ]),
    )]);
    assert_eq!(answer(&rules, "shop/web"), ALLOWED);
    rules.put(&orders("shop/x", json!([{ "serviceAccount": "app", "action": "allow" }])));
    assert_eq!(answer(&rules, "shop/web"), (false, Reason::NoIntention));
    assert_eq!(answer(&rules, "10.1.1.1"), (false, Reason::Unauthenticated));
    assert_eq!(answer(&rules, "shop/app"), ALLOWED);
    rules.put(&intention("shop/x", json!({
        "destination": { "serviceAccount": "elsewhere" }, "sources": [{ "any": true, "action": "allow" }],
    })));
    assert!(rules.is_empty());
    assert_eq!(answer(&rules, "shop/app"), (false, Reason::NoIntention));
}

#[test]
fn pods_have_the_rules_of_their_workload_as_both_come_and_go() {
    let address = |last: u8| std::net::IpAddr::from([10, 0, 0, last]);
    let other = Workload { service_account: "other".to_owned(), ..workload() };
    let mut all = Destinations::default();
    all.put(orders("shop/x", json!([{ "serviceAccount": "web", "action": "allow" }])));
    all.put_pod(address(1), workload());
    all.put_pod(address(2), workload());
    all.put_pod(address(3), other.clone());
    let allowed = |all: &Destinations, last| {
        all.rules(address(last)).is_some_and(|rules| answer(rules, "shop/web") == ALLOWED)
    };
    assert!(allowed(&all, 1) && allowed(&all, 2) && !allowed(&all, 3));
    let held = std::sync::Arc::clone(all.rules(address(1)).unwrap());
    all.put(orders("shop/x", json!([{ "serviceAccount": "web", "action": "deny" }])));
    assert!(!allowed(&all, 1) && !allowed(&all, 2));
    assert_eq!(answer(&held, "shop/web"), ALLOWED, "who holds rules keeps them whole");
    all.put(intention("shop/x", json!({
        "destination": { "serviceAccount": "other" }, "sources": [{ "serviceAccount": "web", "action": "allow" }],
    })));
    assert!(!allowed(&all, 1) && allowed(&all, 3));
    // Another pod has the address now.
    all.put_pod(address(2), other);
    assert!(allowed(&all, 2));
    all.remove(nullius_intention::Tier::Namespace, "shop/x");
    assert!(!allowed(&all, 2) && all.intentions().is_empty());
    all.remove_pod(address(2));
    assert!(all.rules(address(2)).is_none() && all.rules(address(3)).is_some());
}

#[test]
fn a_label_that_is_not_known_takes_nobody_out_of_a_deny_and_brings_nobody_into_an_allow() {
    let at = |label: &str| json!({ "namespace": "shop", "labels": { "zone": label } });
    let named = |name: &str, spec| intention(&format!("nullius-system/{name}"), spec);
    let allow = || orders("shop/x", json!([{ "any": true, "action": "allow" }]));
    let from_web =
        |action: &str| json!([{ "namespace": "shop", "serviceAccount": "web", "action": action }]);
    let is_allowed = |labels: Labels, intentions: Vec<Intention>| {
        let mut all = Intentions::default();
        intentions.into_iter().for_each(|each| drop(all.put(each)));
        answer(&all.rules_for(Workload { labels, ..workload() }), "shop/web")
    };
    let deny = || named("pci", json!({ "destination": at("pci"), "sources": from_web("deny") }));
    let wear = |zone: &str, rest| Labels::new([("zone".to_owned(), zone.to_owned())].into(), rest);
    let crowd = || Labels::new(workload().labels.known().clone(), Rest::Unknown);
    assert_eq!(is_allowed(workload().labels, vec![allow(), deny()]), ALLOWED);
    assert_eq!(is_allowed(crowd(), vec![allow(), deny()]), DENIED);
    // What is known of such a pod is known.
    assert_eq!(is_allowed(wear("pci", Rest::Unknown), vec![allow(), deny()]), DENIED);
    assert_eq!(is_allowed(wear("dmz", Rest::Unknown), vec![allow(), deny()]), ALLOWED);
    // Lists are for it too, and nobody is let in by one, nor by an allow.
    let list = || {
        named(
            "list",
            json!({ "destination": at("pci"), "sources": [
            { "namespace": "shop", "serviceAccount": "web",
              "permissions": [{ "action": "allow", "paths": [{ "prefix": "/" }] }] },
        ] }),
        )
    };
    let unknown = (false, Reason::UnknownReference);
    assert_eq!(is_allowed(crowd(), vec![allow(), list()]), unknown);
    let open = || named("open", json!({ "destination": at("pci"), "sources": from_web("allow") }));
    assert_eq!(is_allowed(crowd(), vec![open()]), (false, Reason::NoIntention));
    assert_eq!(is_allowed(wear("pci", Rest::Unknown), vec![open()]), ALLOWED);
    let permissive = named(
        "permissive",
        json!({
            "destination": at("pci"), "permissive": { "until": "2036-01-01T00:00:00Z" },
        }),
    );
    assert_eq!(is_allowed(crowd(), vec![permissive]), (false, Reason::NoIntention));
    // A condition does not take what is not known for what is not there.
    let condition = orders(
        "shop/x",
        json!([{ "serviceAccount": "web", "permissions": [
        { "action": "deny", "when": "has(destination.labels.zone)" },
        { "action": "allow", "paths": [{ "prefix": "/" }] },
    ] }]),
    );
    let judged = |labels| {
        let mut rules = RuleSet::new(Workload { labels, ..workload() });
        rules.put(&condition);
        send("GET", "/").on(&connect(&rules, "shop/web")).unwrap().reason
    };
    assert_eq!(judged(workload().labels), Reason::IntentionMatched);
    assert_eq!(judged(crowd()), Reason::ConditionFailed);
    // Limits count, those that come and go too; and who is refused is told why.
    let limits = named(
        "limits",
        json!({
            "destination": at("pci"), "limits": [{ "requestsPerSecond": 5 }],
        }),
    );
    let mut rules = RuleSet::new(Workload { labels: crowd(), ..workload() });
    rules.put(&limits);
    rules.put(&list());
    assert_eq!(rules.limits(8080).len(), 1);
    let accept = connect(&rules, "shop/web");
    let told = explain_connection(&accept, &decided(&accept)).to_string();
    assert!(told.contains("more labels"), "{told}");
    rules.remove(limits.tier(), limits.name());
    rules.remove(list().tier(), "nullius-system/list");
    assert!(rules.is_empty() && rules.limits(8080).is_empty());
    assert_eq!(answer(&rules, "shop/web"), (false, Reason::NoIntention));
}
