//! What is taken, and how each wrong field is told.

use nullius_intention::{Home, Intention, Origin, Per, RuleSet, Tier, Workload};
use nullius_model::IntentionSpec;
use serde_json::{Value as Json, json};

use crate::world::{home, intention, object, of_fleet, orders};

fn faults(object: &Json) -> Vec<String> {
    let read = Intention::read(object, Origin::Cluster, &home());
    read.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// The faults of an intention for `shop/orders`.
fn wrong(spec: Json) -> Vec<String> {
    faults(&object("shop/orders", spec))
}

fn wrong_source(source: Json) -> Vec<String> {
    wrong(json!({ "destination": { "serviceAccount": "orders" }, "sources": [source] }))
}

fn wrong_permission(permission: Json) -> Vec<String> {
    wrong_source(json!({ "serviceAccount": "web", "permissions": [permission] }))
}

#[track_caller]
fn told(faults: &[String], field: &str, words: &str) {
    let found = faults
        .iter()
        .any(|fault| fault.starts_with(&format!("{field}: ")) && fault.contains(words));
    assert!(found, "no `{field}: …{words}…` in {faults:#?}");
}

#[test]
fn a_whole_intention_is_read_and_the_model_writes_what_is_read() {
    let spec = json!({
        "destination": { "serviceAccount": "orders", "labels": { "app": "orders" }, "ports": [8080] },
        "mode": "enforce",
        "audit": "all",
        "permissive": { "until": "2027-01-31T00:00:00Z", "ports": [8080] },
        "sources": [
            { "serviceAccount": "web", "permissions": [{
                "action": "allow", "methods": ["GET", "HEAD"],
                "paths": [{ "prefix": "/orders" }, { "exact": "/" }, { "regex": "/v[0-9]+/.*" }],
                "hosts": ["orders.shop", "*.example.org"],
                "headers": [{ "name": "X-Tenant", "exact": "a" }, { "name": "x-debug", "present": false },
                            { "name": "x-role", "regex": "guest|bot", "invert": true }],
                "jwt": { "issuer": "https://login.example", "audiences": ["orders"],
                         "claims": [{ "path": ["realm", "roles"], "values": ["reader", 7, true] }] },
                "when": "source.namespace == 'shop' && request.headers['x-tenant'][0] == jwt.sub",
            }] },
            { "spiffeId": "spiffe://other.example/vm/7", "action": "allow" },
            { "namespace": "batch", "action": "deny" },
            { "namespace": "batch", "trustDomain": "other.example", "action": "allow" },
            { "trustDomain": "other.example", "action": "deny" },
            { "any": true, "action": "deny" },
            { "ipBlock": "10.0.0.0/8", "action": "allow" },
            { "ipBlock": "2001:db8::/32", "action": "deny" },
        ],
    });
    let read = intention("shop/orders", spec.clone());
    assert_eq!((read.name(), read.tier()), ("shop/orders", Tier::Namespace));
    let order: Vec<u8> = read.rules().iter().map(|rule| rule.precedence()).collect();
    assert_eq!(order, [9, 9, 8, 8, 7, 7, 7, 7]);
    let subjects: Vec<_> = read.rules().iter().map(|rule| rule.subject().to_string()).collect();
    assert_eq!(subjects[0], "spiffe://dev.example/ns/shop/sa/web");
    assert_eq!(subjects[3], "spiffe://other.example/ns/batch/*");
    assert_eq!(subjects[5], "spiffe://dev.example/*");
    let model: IntentionSpec = serde_json::from_value(spec).unwrap();
    let written = serde_json::to_value(&model).unwrap();
    assert_eq!(intention("shop/orders", written).rules().len(), 8);
}

#[test]
fn every_wrong_field_is_told_at_once() {
    let found = wrong(json!({
        "destination": { "serviceAccount": "Orders", "ports": [70000, 0, "http", 80.5], "labels": {} },
        "mode": "permissive",
        "audit": "some",
        "openapi": "orders.yaml",
        "sourcs": [],
        "sources": [
            { "ipBlock": "10.0.0.1/8", "action": "allow" },
            { "ipBlock": "10.0.0.1", "action": "allow" },
            { "ipBlock": "ten", "action": "allow" },
            { "trustDomain": "Other.example", "action": "allow" },
            { "spiffeId": "spiffe://other.example/", "action": "allow" },
            { "serviceAccount": "web", "rateLimit": 7, "action": "alow" },
            { "action": "allow" },
            { "any": true },
            { "any": true, "ipBlock": "::/0", "action": "deny" },
            "web",
        ],
    }));
    told(&found, "spec.destination.serviceAccount", "`Orders` is no name of a service account");
    told(&found, "spec.destination.ports[0]", "70000 is no port: 1 to 65535 are");
    told(&found, "spec.destination.ports[1]", "0 is no port");
    told(&found, "spec.destination.ports[2]", "found the text `http`");
    told(&found, "spec.destination.ports[3]", "found the number 80.5");
    told(&found, "spec.destination.labels", "it is empty");
    told(&found, "spec.mode", "use `enforce` or `shadow`");
    told(&found, "spec.audit", "use `all`");
    told(&found, "spec.openapi", "unknown field");
    told(&found, "spec.sourcs", "did you mean `sources`?");
    told(&found, "spec.sources[0].ipBlock", "write `10.0.0.0/8`");
    told(&found, "spec.sources[1].ipBlock", "write `10.0.0.1/32`");
    told(&found, "spec.sources[2].ipBlock", "is no block of addresses");
    told(&found, "spec.sources[3].trustDomain", "a trust domain is written in lower case");
    told(&found, "spec.sources[4].spiffeId", "a segment of the path is empty");
    told(&found, "spec.sources[5].rateLimit", "it belongs to limits of single sources");
    told(&found, "spec.sources[5].action", "use `allow` or `deny`");
    told(&found, "spec.sources[6]", "it names nobody");
    told(&found, "spec.sources[7]", "it says nothing");
    told(&found, "spec.sources[8].ipBlock", "`any` names the source already");
    told(&found, "spec.sources[9]", "expected a mapping, found the text `web`");
}

#[test]
fn every_wrong_part_of_a_permission_is_told() {
    let found = wrong_permission(json!({
        "action": "permit",
        "methods": ["get", "*", "CONNECT", ""],
        "paths": [
            { "exact": "orders" }, { "prefix": "/a/*" }, { "exact": "/a//b" }, { "exact": "/a/../b" },
            { "exact": "/a%20b" }, { "exact": "/a?b=c" }, { "regex": "(" }, { "exact": "/a", "prefix": "/a" }, {},
            { "regex": "(a{500}){500}" },
        ],
        "hosts": ["Orders.shop", "*", "a:80", "a..b"],
        "headers": [
            { "name": ":path", "exact": "/" }, { "name": "host", "exact": "a" },
            { "name": "x-forwarded-client-cert", "contains": "web" }, { "name": "x y", "exact": "a" },
            { "name": "x", "exact": "a", "prefix": "a" }, { "name": "x" }, { "exact": "a" },
            { "name": "x", "present": true, "invert": true },
        ],
        "jwt": { "audience": "a", "claims": [{ "path": [], "values": [{}] }] },
        "when": "sorce.id == 'a'",
        "bodies": 7,
    }));
    let at = |part: &str| format!("spec.sources[0].permissions[0].{part}");
    told(&found, &at("action"), "`permit` is unknown here");
    told(&found, &at("methods[0]"), "write `GET`");
    told(&found, &at("methods[1]"), "leave `methods` out");
    told(&found, &at("methods[2]"), "never forwarded");
    told(&found, &at("methods[3]"), "it is empty");
    told(&found, &at("paths[0].exact"), "must begin with `/`");
    told(&found, &at("paths[1].prefix"), "a `*` stands for itself");
    told(&found, &at("paths[2].exact"), "no request has such a path");
    told(&found, &at("paths[3].exact"), "no request has such a path");
    told(&found, &at("paths[4].exact"), "compared decoded");
    told(&found, &at("paths[5].exact"), "a path has no query");
    told(&found, &at("paths[6].regex"), "unclosed group");
    told(&found, &at("paths[7]"), "say one of");
    told(&found, &at("paths[8]"), "say one of");
    told(&found, &at("paths[9].regex"), "larger than 64 KiB");
    told(&found, &at("hosts[0]"), "write `orders.shop`");
    told(&found, &at("hosts[1]"), "leave `hosts` out");
    told(&found, &at("hosts[2]"), "is no host");
    told(&found, &at("hosts[3]"), "is no host");
    told(&found, &at("headers[0].name"), "name it by `methods`, `paths` or `hosts`");
    told(&found, &at("headers[1].name"), "name it by `hosts`");
    told(&found, &at("headers[2].name"), "anybody can write it");
    told(&found, &at("headers[3].name"), "no name of a header");
    told(&found, &at("headers[4]"), "say one of");
    told(&found, &at("headers[5]"), "say one of");
    told(&found, &at("headers[6].name"), "say which header");
    told(&found, &at("headers[7].invert"), "alone");
    told(&found, &at("jwt.audience"), "did you mean `audiences`?");
    told(&found, &at("jwt.issuer"), "say who issues the token");
    told(&found, &at("jwt.claims[0].path"), "the list is empty");
    told(&found, &at("jwt.claims[0].values[0]"), "found a mapping");
    told(&found, &at("when"), "undeclared reference to 'sorce'");
    told(&found, &at("bodies"), "unknown field");
}

#[test]
fn an_empty_match_is_refused() {
    told(
        &wrong_permission(json!({ "action": "allow" })),
        "spec.sources[0].permissions[0]",
        "it is for every request",
    );
    told(
        &wrong(json!({ "destination": {}, "sources": [{ "any": true, "action": "allow" }] })),
        "spec.destination",
        "it names nothing",
    );
    told(
        &wrong(json!({ "destination": { "serviceAccount": "a" }, "sources": [] })),
        "spec.sources",
        "the list is empty",
    );
    told(
        &wrong(json!({ "destination": { "serviceAccount": "a" } })),
        "spec.sources",
        "say who calls",
    );
    told(
        &wrong(json!({ "sources": [{ "any": true, "action": "allow" }] })),
        "spec.destination",
        "it is missing",
    );
    told(
        &wrong_source(json!({ "any": false, "action": "deny" })),
        "spec.sources[0].any",
        "say `true`",
    );
    told(
        &wrong_source(json!({ "serviceAccount": "", "action": "deny" })),
        "spec.sources[0].serviceAccount",
        "it is empty",
    );
    told(
        &wrong_source(json!({ "any": true, "permissions": [] })),
        "spec.sources[0].permissions",
        "the list is empty",
    );
}

#[test]
fn wide_destinations_are_for_the_cluster_and_the_fleet_alone() {
    let any =
        json!({ "destination": { "any": true }, "sources": [{ "any": true, "action": "deny" }] });
    let other = json!({ "destination": { "namespace": "bank" }, "sources": [{ "any": true, "action": "deny" }] });
    let own = json!({ "destination": { "namespace": "shop" }, "sources": [{ "any": true, "action": "deny" }] });
    let into = json!({
        "destination": { "namespace": "bank", "serviceAccount": "vault" }, "sources": [{ "any": true, "action": "allow" }],
    });
    for (spec, field) in
        [(&any, "any"), (&other, "namespace"), (&own, "namespace"), (&into, "namespace")]
    {
        told(&wrong(spec.clone()), &format!("spec.destination.{field}"), "its own namespace");
        assert_eq!(intention("nullius-system/x", spec.clone()).tier(), Tier::Cluster);
        assert_eq!(of_fleet("shop/x", spec.clone()).tier(), Tier::Fleet);
    }
}

#[test]
fn permissive_has_an_end() {
    let with = |permissive: Json, mode: &str| {
        wrong(json!({
            "destination": { "serviceAccount": "orders", "ports": [80] }, "permissive": permissive, "mode": mode,
        }))
    };
    told(&with(json!({}), "enforce"), "spec.permissive.until", "it is missing");
    told(
        &with(json!({ "until": "soon" }), "enforce"),
        "spec.permissive.until",
        "`soon` is no time",
    );
    told(
        &with(json!({ "until": "2027-01-31T00:00:00Z", "ports": [81] }), "enforce"),
        "spec.permissive.ports",
        "81 is not among",
    );
    told(
        &with(json!({ "until": "2027-01-31T00:00:00Z" }), "shadow"),
        "spec.permissive",
        "decides nothing",
    );
    assert!(with(json!({ "until": "2027-01-31T00:00:00Z", "ports": [80] }), "enforce").is_empty());
}

#[test]
fn what_is_no_intention_is_told() {
    told(
        &faults(&json!({ "kind": "Intention" }))
            .iter()
            .map(|it| format!(": {it}"))
            .collect::<Vec<_>>(),
        "",
        "expected `apiVersion",
    );
    let mut object =
        object("shop/orders", json!({ "destination": { "serviceAccount": "a" }, "sources": [] }));
    object["metadata"] = json!({ "name": "A b" });
    object["data"] = json!({});
    let found = faults(&object);
    told(&found, "metadata.name", "is not a valid object name");
    told(&found, "metadata.namespace", "an intention is of a namespace");
    told(&found, "data", "unknown field");
    told(&found, "spec.sources", "the list is empty");
}

#[test]
fn ids_are_of_the_object_and_of_what_is_said() {
    let web = json!({ "serviceAccount": "web", "action": "allow" });
    let app = json!({ "serviceAccount": "app", "action": "allow" });
    let one = orders("shop/orders", json!([web, app]));
    let turned = orders("shop/orders", json!([app, web]));
    assert_eq!(one.rules()[0].id(), turned.rules()[1].id());
    assert_ne!(one.rules()[0].id(), one.rules()[1].id());
    assert_ne!(one.rules()[0].id(), orders("shop/other", json!([web])).rules()[0].id());
    let with_uid = |name: &str| {
        let mut object = object(
            name,
            json!({ "destination": { "serviceAccount": "orders" }, "sources": [web] }),
        );
        object["metadata"]["uid"] = json!("5f0c2a7e-0000-4000-8000-000000000001");
        Intention::read(&object, Origin::Cluster, &home()).unwrap()
    };
    assert_eq!(with_uid("shop/a").rules()[0].id(), with_uid("shop/b").rules()[0].id());
}

#[test]
fn a_home_of_which_more_is_known_still_reads_the_same() {
    let known = Home { federated: Some([].into()), issuers: Some([].into()), ..home() };
    let object = object(
        "shop/orders",
        json!({
            "destination": { "serviceAccount": "orders" }, "sources": [{ "trustDomain": "other.example", "action": "allow" }],
        }),
    );
    assert!(Intention::read(&object, Origin::Cluster, &known).is_ok());
}

/// The faults of an intention of the system.
fn wrong_system(spec: Json) -> Vec<String> {
    faults(&object("nullius-system/login", spec))
}

#[test]
fn issuers_are_declared_for_the_cluster_and_by_nobody_else() {
    let issuers = json!([
        { "issuer": "https://a", "jwksUrl": "https://a/keys" },
        { "issuer": "b", "jwks": "{\"keys\":[]}" },
    ]);
    let any = json!({ "any": true });
    let spec = json!({ "destination": any, "issuers": issuers });
    let read = intention("nullius-system/login", spec.clone());
    let model: IntentionSpec = serde_json::from_value(spec).unwrap();
    let written = serde_json::to_value(&model).unwrap();
    assert_eq!(intention("nullius-system/login", written).issuers(), read.issuers());
    let names: Vec<&str> = read.issuers().iter().map(|it| &*it.issuer).collect();
    assert_eq!((names, read.rules().len()), (vec!["https://a", "b"], 0));
    // Who owns a namespace names no issuer, neither for others nor for itself.
    let own = json!({ "destination": { "serviceAccount": "orders" }, "issuers": issuers });
    told(&wrong(own), "spec.issuers", "in `nullius-system`");
    let narrow = json!({ "destination": { "namespace": "shop" }, "issuers": issuers });
    told(&wrong_system(narrow), "spec.issuers", "say `destination: {any: true}`");
    let fleet = of_fleet("shop/login", json!({ "destination": any, "issuers": issuers }));
    assert_eq!(fleet.issuers().len(), 2);
}

#[test]
fn an_issuer_says_in_one_way_where_its_keys_are() {
    let of =
        |issuers: Json| wrong_system(json!({ "destination": { "any": true }, "issuers": issuers }));
    let one = |issuer: Json| of(json!([issuer]));
    let url = "https://a/keys";
    let at = "spec.issuers[0]";
    told(&one(json!({ "jwksUrl": url })), &format!("{at}.issuer"), "say who issues");
    told(&one(json!({ "issuer": "a" })), at, "in one way");
    told(&one(json!({ "issuer": "a", "jwksUrl": url, "jwks": "{\"keys\":[]}" })), at, "in one way");
    told(
        &one(json!({ "issuer": "a", "jwks": "keys" })),
        &format!("{at}.jwks"),
        "no JSON web key set",
    );
    told(
        &one(json!({ "issuer": "a", "jwks": "{\"keys\":[]}", "ca": "x" })),
        &format!("{at}.ca"),
        "leave it out",
    );
    told(
        &one(json!({ "issuer": "a", "jwksUrl": url, "ca": "x" })),
        &format!("{at}.ca"),
        "no certificate",
    );
    told(
        &one(json!({ "issuer": "a", "jwksUrl": url, "keys": [] })),
        &format!("{at}.keys"),
        "unknown field",
    );
    for bad in [
        "http://a/keys",
        "a/keys",
        "https://",
        "https:///keys",
        "https://u:p@a/keys",
        "https://a/keys#x",
        "https://a/ keys",
        "https://a/\r\nX: y",
        "file:///etc/passwd",
    ] {
        told(
            &one(json!({ "issuer": "a", "jwksUrl": bad })),
            &format!("{at}.jwksUrl"),
            "write `https://",
        );
    }
    let twice = json!([{ "issuer": "a", "jwksUrl": url }, { "issuer": "a", "jwksUrl": url }]);
    told(&of(twice), "spec.issuers[1].issuer", "stands already");
}

#[test]
fn limits_count_whole_requests_of_each_caller_or_subject() {
    let of = |limits: Json| json!({ "destination": { "serviceAccount": "orders", "ports": [8080] }, "limits": limits });
    let spec = of(json!([
        { "requestsPerSecond": 50, "burst": 100 },
        { "requestsPerSecond": 5, "per": "subject" },
    ]));
    let read = intention("shop/orders", spec.clone());
    let [wide, narrow] = read.limits() else { panic!("two limits") };
    assert_eq!((wide.per_second, wide.burst, wide.per), (50, 100, Per::Source));
    assert_eq!((narrow.per_second, narrow.burst, narrow.per), (5, 5, Per::Subject));
    assert_ne!(wide.name, narrow.name);
    let model: IntentionSpec = serde_json::from_value(spec.clone()).unwrap();
    let written = intention("shop/orders", serde_json::to_value(&model).unwrap());
    assert_eq!(written.limits(), read.limits());
    let rules = rules_of(&[read]);
    assert_eq!((rules.limits(8080).len(), rules.limits(8081).len()), (2, 0));
    // What is only watched limits nothing.
    let mut watched = spec;
    watched["mode"] = json!("shadow");
    assert!(rules_of(&[intention("shop/orders", watched)]).limits(8080).is_empty());
    let at = "spec.limits[0]";
    for (limit, field, words) in [
        (json!({}), "requestsPerSecond", "it is missing"),
        (json!({ "requestsPerSecond": 0 }), "requestsPerSecond", "0 is no whole number from 1"),
        (json!({ "requestsPerSecond": 1_000_001 }), "requestsPerSecond", "is no whole number"),
        (json!({ "requestsPerSecond": 1.5 }), "requestsPerSecond", "1.5 is no whole number"),
        (json!({ "requestsPerSecond": "5" }), "requestsPerSecond", "is no whole number"),
        (json!({ "requestsPerSecond": 5, "burst": -1 }), "burst", "-1 is no whole number"),
        (json!({ "requestsPerSecond": 5, "per": "ip" }), "per", "`source`"),
        (json!({ "requestsPerSecond": 5, "every": 1 }), "every", "unknown field"),
    ] {
        told(&wrong(of(json!([limit]))), &format!("{at}.{field}"), words);
    }
    let many = vec![json!({ "requestsPerSecond": 5 }); 9];
    told(&wrong(of(json!(many))), "spec.limits", "8 may be");
}

fn rules_of(intentions: &[Intention]) -> RuleSet {
    let mut rules = RuleSet::new(Workload {
        namespace: "shop".parse().unwrap(),
        service_account: "orders".to_owned(),
        labels: Default::default(),
    });
    intentions.iter().for_each(|it| rules.put(it));
    rules
}

#[test]
fn a_condition_on_a_token_names_whose_token_and_a_claim_is_compared_in_one_way() {
    let when = json!({ "action": "allow", "when": "jwt.sub == 'anna'" });
    told(&wrong_permission(when), "spec.sources[0].permissions[0].when", "jwt: {issuer:");
    let claim = |claim: Json| {
        let jwt = json!({ "issuer": "https://a", "claims": [claim] });
        wrong_permission(json!({ "action": "allow", "jwt": jwt }))
    };
    let at = "spec.sources[0].permissions[0].jwt.claims[0]";
    told(&claim(json!({ "path": ["scope"] })), at, "one of `values` and `words`");
    let both = json!({ "path": ["scope"], "values": ["a"], "words": ["a"] });
    told(&claim(both), at, "one of `values` and `words`");
    let two = json!({ "path": ["scope"], "words": ["a b"] });
    told(&claim(two), &format!("{at}.words[0]"), "is no word");
}
