//! Istio's policies carried over: what comes allows no more, and what has no counterpart is named.

use nullius_intention::{
    Home, Imported, Intention, Intentions, Istio, Origin, RuleSet, Stand, import_istio,
};
use nullius_model::Timestamp;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::world::{connect_to, send, workload};

fn setup(until: Option<&str>) -> Istio {
    let permissive_until = until.map(|until| until.parse::<Timestamp>().unwrap());
    Istio {
        root_namespace: "istio-system".to_owned(),
        trust_domain: "cluster.local".to_owned(),
        permissive_until,
    }
}

fn policy(name: &str, namespace: &str, spec: Json) -> Json {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": name, "namespace": namespace }, "spec": spec,
    })
}

fn for_orders(name: &str, mut spec: Json) -> Json {
    spec["selector"] = json!({ "matchLabels": { "app": "orders" } });
    policy(name, "shop", spec)
}

fn imported(objects: &[Json]) -> Imported {
    import_istio(objects, &setup(None))
}

/// Whether a call passes under what was carried over.
fn allowed(imported: &Imported, from: &str, port: u16, request: (&str, &str)) -> bool {
    passes(&rules(imported), from, port, request)
}

/// What was carried over for `shop/orders`.
fn rules(imported: &Imported) -> RuleSet {
    let home = Home::of("cluster.local".parse().unwrap());
    let mut all = Intentions::default();
    for intention in &imported.intentions {
        all.put(Intention::read(&intention.to_json(), Origin::Cluster, &home).unwrap());
    }
    all.rules_for(workload())
}

fn passes(rules: &RuleSet, from: &str, port: u16, request: (&str, &str)) -> bool {
    let from = match from.split_once('/') {
        Some((namespace, account)) if !from.contains(':') => {
            format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
        }
        _ => from.to_owned(),
    };
    let accept = connect_to(rules, &from, port, nullius_intention::Protocol::Http);
    match accept.stand() {
        Stand::Decided(verdict) => verdict.is_allowed(),
        Stand::Requests => send(request.0, request.1).is_allowed(&accept),
    }
}

fn refusals(imported: &Imported) -> Vec<String> {
    imported.refused.iter().map(|it| format!("{}: {}", it.object, it.fault)).collect()
}

#[test]
fn rules_of_wider_sources_are_written_to_the_more_exact_ones() {
    let done = imported(&[
        for_orders(
            "read",
            json!({ "rules": [{
            "from": [{ "source": { "namespaces": ["shop"] } }], "to": [{ "operation": { "methods": ["GET"] } }],
        }] }),
        ),
        for_orders(
            "write",
            json!({ "rules": [{
            "from": [{ "source": { "principals": ["cluster.local/ns/shop/sa/web"] } }],
            "to": [{ "operation": { "methods": ["POST"], "paths": ["/orders*"] } }],
        }] }),
        ),
        for_orders(
            "no-admin",
            json!({ "action": "DENY", "rules": [{
            "to": [{ "operation": { "paths": ["/admin", "/admin/*"] } }],
        }] }),
        ),
    ]);
    assert_eq!(refusals(&done), [""; 0]);
    let is = |from, request| allowed(&done, from, 8080, request);
    assert!(is("shop/web", ("GET", "/x")) && is("shop/web", ("POST", "/orders7")));
    assert!(!is("shop/web", ("POST", "/x")) && !is("shop/web", ("GET", "/admin/x")));
    assert!(is("shop/app", ("GET", "/x")) && !is("shop/app", ("POST", "/orders")));
    assert!(!is("bank/x", ("GET", "/x")) && !is("bank/x", ("GET", "/admin")));
}

#[test]
fn ports_have_intentions_of_their_own() {
    let done = imported(&[for_orders(
        "a",
        json!({ "rules": [
        { "from": [{ "source": { "serviceAccounts": ["web"] } }] },
        { "from": [{ "source": { "namespaces": ["metrics"] } }], "to": [{ "operation": { "ports": ["9090"] } }] },
    ] }),
    )]);
    let names: Vec<_> = done.intentions.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["a", "a-9090"]);
    for (from, port, passes) in [
        ("shop/web", 8080, true),
        ("shop/web", 9090, true),
        ("metrics/x", 9090, true),
        ("metrics/x", 8080, false),
    ] {
        assert_eq!(allowed(&done, from, port, ("GET", "/")), passes, "{from} {port}");
    }
}

#[test]
fn headers_tokens_and_blocks_are_carried_over() {
    let done = imported(&[for_orders(
        "a",
        json!({ "rules": [
        { "from": [{ "source": { "principals": ["*"] } }],
          "when": [{ "key": "request.headers[x-tenant]", "values": ["a", "b*"], "notValues": ["bad"] }] },
        { "from": [{ "source": { "ipBlocks": ["10.1.0.0/16", "10.2.0.1"] } }] },
        { "from": [{ "source": { "requestPrincipals": ["https://login/ada"] } }] },
    ] }),
    )]);
    assert_eq!(refusals(&done), [""; 0]);
    assert!(
        allowed(&done, "10.1.0.7", 80, ("GET", "/"))
            && allowed(&done, "10.2.0.1", 80, ("GET", "/"))
    );
    assert!(!allowed(&done, "10.2.0.2", 80, ("GET", "/")));
    let spec = serde_json::to_value(&done.intentions[0].spec).unwrap();
    assert!(spec.to_string().contains(r#""regex":"a|b.*""#), "{spec}");
    assert!(
        spec.to_string()
            .contains(r#"{"claims":[{"path":["sub"],"values":["ada"]}],"issuer":"https://login"}"#)
    );
}

#[test]
fn allow_nothing_is_the_default_and_strict_too() {
    let strict = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "default", "namespace": "istio-system" }, "spec": { "mtls": { "mode": "STRICT" } },
    });
    let done = imported(&[policy("allow-nothing", "shop", json!({})), strict]);
    assert!(done.intentions.is_empty() && done.refused.is_empty());
    assert_eq!(done.notes.len(), 2);
}

#[test]
fn permissive_has_an_end_here() {
    let peer = |mode: &str| {
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": { "name": "open", "namespace": "shop" },
            "spec": { "selector": { "matchLabels": { "app": "orders" } }, "mtls": { "mode": mode } },
        })
    };
    assert_eq!(
        refusals(&imported(&[peer("PERMISSIVE")])),
        ["0: spec.mtls: `PERMISSIVE` has an end here: say when by `--permissive-until`"]
    );
    let done = import_istio(&[peer("PERMISSIVE")], &setup(Some("2027-01-31T00:00:00Z")));
    assert!(allowed(&done, "10.0.0.7", 80, ("GET", "/")));
    assert!(refusals(&imported(&[peer("DISABLE")]))[0].contains("mTLS is never left out"));
    // Istio takes callers without identity, but its policies do not allow them.
    let allow = for_orders(
        "a",
        json!({ "rules": [{ "from": [{ "source": { "namespaces": ["shop"] } }] }] }),
    );
    let done = import_istio(&[allow, peer("PERMISSIVE")], &setup(Some("2027-01-31T00:00:00Z")));
    assert!(!allowed(&done, "10.0.0.7", 80, ("GET", "/")) && done.notes.len() == 1);
}

#[test]
fn what_has_no_counterpart_is_refused_by_name_and_with_it_all_for_the_same_workloads() {
    let fine = for_orders(
        "fine",
        json!({ "rules": [{ "from": [{ "source": { "namespaces": ["shop"] } }] }] }),
    );
    for (spec, told) in [
        (
            json!({ "action": "CUSTOM", "provider": { "name": "x" }, "rules": [{}] }),
            "spec.provider: external authorizers",
        ),
        (
            json!({ "action": "AUDIT", "rules": [{}] }),
            "spec.action: `AUDIT` policies are not carried over",
        ),
        (
            json!({ "rules": [{ "from": [{ "source": { "notNamespaces": ["a"] } }] }] }),
            "notNamespaces: not carried over",
        ),
        (
            json!({ "rules": [{ "from": [{ "source": { "remoteIpBlocks": ["10.0.0.0/8"] } }] }] }),
            "an address that a header says",
        ),
        (
            json!({ "rules": [{ "from": [{ "source": { "namespaces": ["a"], "principals": ["b/c"] } }] }] }),
            "in two ways at once",
        ),
        (
            json!({ "rules": [{ "from": [{ "source": { "principals": ["*/sa/web"] } }] }] }),
            "it has a `*`",
        ),
        (
            json!({ "rules": [{ "from": [{ "source": { "requestPrincipals": ["*"] } }] }] }),
            "a token of any issuer",
        ),
        (
            json!({ "rules": [{ "to": [{ "operation": { "notPaths": ["/a"] } }] }] }),
            "requests are named, not left out",
        ),
        (
            json!({ "rules": [{ "to": [{ "operation": { "paths": ["/a/{*}"] } }] }] }),
            "templates of paths",
        ),
        (
            json!({ "rules": [{ "when": [{ "key": "request.auth.claims[iss]", "values": ["a"] }] }] }),
            "`request.auth.claims[iss]` is not carried over",
        ),
        (json!({ "rules": [{ "form": [] }] }), "did you mean `from`?"),
        (
            json!({ "rules": [{ "to": [{ "operation": { "paths": ["/a//b"] } }] }] }),
            "no intention can say it",
        ),
    ] {
        let done = imported(&[for_orders("odd", spec), fine.clone()]);
        assert!(done.intentions.is_empty(), "{told}: {:?}", done.intentions);
        assert!(
            refusals(&done).iter().any(|it| it.starts_with("0: ") && it.contains(told)),
            "{told}: {:?}",
            refusals(&done)
        );
    }
}

#[test]
fn what_istio_joins_across_levels_is_refused() {
    let rule = json!({ "rules": [{ "from": [{ "source": { "namespaces": ["shop"] } }] }] });
    let done = imported(&[policy("wide", "shop", rule.clone()), for_orders("own", rule.clone())]);
    assert_eq!(done.intentions.len(), 1);
    assert!(refusals(&done)[0].contains("joined with this one in Istio"), "{:?}", refusals(&done));
    let other = |labels: Json| {
        let mut spec = rule.clone();
        spec["selector"] = json!({ "matchLabels": labels });
        policy("other", "shop", spec)
    };
    let done = imported(&[for_orders("own", rule.clone()), other(json!({ "tier": "back" }))]);
    assert_eq!(done.refused.len(), 2, "{:?}", refusals(&done));
    let done = imported(&[for_orders("own", rule.clone()), other(json!({ "app": "web" }))]);
    assert_eq!(done.intentions.len(), 2, "{:?}", refusals(&done));
}

#[test]
fn a_deny_without_an_allow_is_refused() {
    let done = imported(&[for_orders(
        "a",
        json!({ "action": "DENY", "rules": [{ "to": [{ "operation": { "paths": ["/a"] } }] }] }),
    )]);
    assert!(done.intentions.is_empty());
    assert!(refusals(&done)[0].contains("add an ALLOW policy"));
}

#[test]
fn a_deny_of_an_outer_block_holds_within_it() {
    let done = imported(&[
        for_orders(
            "a",
            json!({ "rules": [{ "from": [{ "source": { "ipBlocks": ["10.1.0.0/16"] } }] }] }),
        ),
        for_orders(
            "b",
            json!({ "action": "DENY", "rules": [{ "from": [{ "source": { "ipBlocks": ["10.0.0.0/8"] } }] }] }),
        ),
    ]);
    assert!(!allowed(&done, "10.1.0.1", 80, ("GET", "/")), "{:?}", done.intentions);
}

/// A rule as both sides read it.
#[derive(Debug, Clone)]
struct Plain {
    from: Vec<&'static str>,
    methods: Vec<&'static str>,
    paths: Vec<&'static str>,
    ports: Vec<u16>,
}

impl Plain {
    fn to_json(&self) -> Json {
        let mut rule = json!({});
        let sources = self.from.iter().map(|from| {
            let (kind, text) = from.split_once('=').unwrap();
            let mut source = json!({});
            source[kind] = json!([text]);
            json!({ "source": source })
        });
        let sources: Vec<Json> = sources.collect();
        if !sources.is_empty() {
            rule["from"] = json!(sources);
        }
        let mut operation = json!({});
        if !self.methods.is_empty() {
            operation["methods"] = json!(self.methods);
        }
        if !self.paths.is_empty() {
            operation["paths"] = json!(self.paths);
        }
        if !self.ports.is_empty() {
            operation["ports"] = json!(self.ports.iter().map(u16::to_string).collect::<Vec<_>>());
        }
        if operation != json!({}) {
            rule["to"] = json!([{ "operation": operation }]);
        }
        rule
    }

    /// What Istio says: whether the rule is for a call.
    fn is_for(&self, caller: &str, port: u16, (method, path): (&str, &str)) -> bool {
        let from = |from: &&str| {
            let (kind, text) = from.split_once('=').unwrap();
            let identity = caller.split_once('/').filter(|_| !caller.contains('.'));
            match kind {
                "namespaces" => identity.is_some_and(|(namespace, _)| namespace == text),
                "serviceAccounts" => identity.is_some() && caller == text,
                "principals" => identity.is_some(),
                // Workloads of the tests call from 10.0.0.9.
                _ => {
                    let block: ipnet::IpNet = text.parse().unwrap();
                    let address = if identity.is_some() { "10.0.0.9" } else { caller };
                    block.contains(&address.parse::<std::net::IpAddr>().unwrap())
                }
            }
        };
        let is_path = |wanted: &&str| match wanted.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == *wanted,
        };
        (self.from.is_empty() || self.from.iter().any(from))
            && (self.methods.is_empty() || self.methods.contains(&method))
            && (self.paths.is_empty() || self.paths.iter().any(is_path))
            && (self.ports.is_empty() || self.ports.contains(&port))
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    let some = |all: &[&'static str], most| {
        proptest::collection::vec(proptest::sample::select(all.to_vec()), 0..most)
    };
    let from = some(
        &[
            "namespaces=shop",
            "namespaces=bank",
            "serviceAccounts=shop/web",
            "serviceAccounts=bank/app",
            "principals=*",
            "ipBlocks=10.0.0.0/8",
            "ipBlocks=10.0.0.0/24",
        ],
        3,
    );
    let ports = proptest::collection::vec(proptest::sample::select(vec![80_u16, 90]), 0..2);
    (from, some(&["GET", "POST"], 2), some(&["/a", "/a*", "/a/*", "/*"], 2), ports)
        .prop_map(|(from, methods, paths, ports)| Plain { from, methods, paths, ports })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_passes_that_istio_would_not_let_pass(
        allows in proptest::collection::vec(plain(), 1..4),
        denies in proptest::collection::vec(plain(), 0..3),
    ) {
        let written = |all: &[Plain]| all.iter().map(Plain::to_json).collect::<Vec<_>>();
        let mut objects = vec![for_orders("allow", json!({ "rules": written(&allows) }))];
        if !denies.is_empty() {
            objects.push(for_orders("deny", json!({ "action": "DENY", "rules": written(&denies) })));
        }
        let done = imported(&objects);
        let by_identity = |all: &[Plain]| {
            all.iter().all(|rule| !rule.from.is_empty() && rule.from.iter().all(|it| !it.starts_with("ip")))
        };
        // A deny below `/a/` is one of `/a` too, which Istio lets pass.
        let is_exact = by_identity(&allows)
            && by_identity(&denies)
            && denies.iter().all(|rule| !rule.paths.contains(&"/a/*"));
        prop_assert!(!is_exact || done.refused.is_empty(), "{:?}", done.refused);
        let carried = rules(&done);
        for caller in ["shop/web", "shop/app", "bank/app", "bank/x", "dev/x", "10.0.0.7", "10.7.0.7", "192.0.2.1"] {
            for port in [80, 90, 70] {
                for request in [("GET", "/a"), ("POST", "/a/b"), ("GET", "/ab"), ("POST", "/")] {
                    let is = |all: &[Plain]| all.iter().any(|rule| rule.is_for(caller, port, request));
                    let istio = is(&allows) && !is(&denies);
                    let ours = passes(&carried, caller, port, request);
                    prop_assert!(istio || !ours, "{caller} {port} {request:?} under {:#?}", done.intentions);
                    prop_assert!(!is_exact || istio == ours, "{caller} {port} {request:?} is denied under {:#?}", done.intentions);
                }
            }
        }
    }
}
