//! Requests by the rules of their source.

use nullius_intention::{Accept, Head, Stand, Version, explain_connection, explain_request};
use nullius_model::Reason;
use serde_json::{Value as Json, json};

use crate::world::{Sent, connect, intention, orders, rules, send};

fn accept(permissions: Json) -> Accept {
    connect(
        &rules([orders(
            "shop/orders",
            json!([{ "serviceAccount": "web", "permissions": permissions }]),
        )]),
        "shop/web",
    )
}

fn reason(sent: &Sent, accept: &Accept) -> Reason {
    sent.on(accept).unwrap().reason
}

#[test]
fn the_first_permission_that_fits_decides() {
    let accept = accept(json!([
        { "action": "deny", "paths": [{ "prefix": "/orders/internal" }] },
        { "action": "allow", "methods": ["GET"], "paths": [{ "prefix": "/orders" }] },
        { "action": "deny", "paths": [{ "prefix": "/" }] },
        { "action": "allow", "paths": [{ "prefix": "/" }] },
    ]));
    assert!(send("GET", "/orders/1?x=1").is_allowed(&accept));
    assert_eq!(reason(&send("GET", "/orders/internal/x"), &accept), Reason::IntentionRefused);
    assert_eq!(reason(&send("POST", "/orders/1"), &accept), Reason::IntentionRefused);
    let verdict = send("GET", "/orders").on(&accept).unwrap();
    assert_eq!(verdict.by.unwrap().permission, Some(1));
}

#[test]
fn no_permission_denies_and_never_asks_the_next_source() {
    let rules = rules([orders(
        "shop/orders",
        json!([
            { "serviceAccount": "web", "permissions": [{ "action": "allow", "methods": ["GET"] }] },
            { "any": true, "action": "allow" },
        ]),
    )]);
    let accept = connect(&rules, "shop/web");
    let verdict = send("POST", "/").on(&accept).unwrap();
    assert_eq!((verdict.is_allowed(), verdict.reason), (false, Reason::NoPermission));
    assert_eq!(verdict.by.unwrap().permission, Some(0), "the nearest is named");
}

#[test]
fn hosts_and_headers_must_fit() {
    let accept = accept(json!([
        { "action": "allow", "hosts": ["orders.shop"], "headers": [{ "name": "X-Tenant", "exact": "a" }] },
        { "action": "allow", "hosts": ["*.example.org"], "headers": [{ "name": "x-old", "present": false }] },
    ]));
    assert!(send("GET", "/").with("x-tenant", " a ").is_allowed(&accept));
    assert!(!send("GET", "/").is_allowed(&accept));
    assert!(!send("GET", "/").with("x-tenant", "A").is_allowed(&accept));
    let mut other = send("GET", "/");
    other.headers[0].1 = b"a.Example.ORG.:8443".to_vec();
    assert!(other.is_allowed(&accept));
    assert!(!other.clone().with("X-Old", "").is_allowed(&accept));
    other.headers[0].1 = b"example.org".to_vec();
    assert!(!other.is_allowed(&accept));
}

#[test]
fn claims_of_a_verified_token_are_facts_beside_the_identity() {
    let accept = accept(json!([{ "action": "allow", "jwt": {
        "issuer": "https://login", "claims": [{ "path": ["realm", "roles"], "values": ["reader", "writer"] }],
    } }]));
    let with = |issuer: &str, claims| send("GET", "/").token(issuer, claims).is_allowed(&accept);
    assert!(with("https://login", json!({ "realm": { "roles": ["x", "writer"] } })));
    assert!(with("https://login", json!({ "realm": { "roles": "reader" } })));
    assert!(!with("https://login", json!({ "realm": { "roles": ["x"] } })));
    assert!(!with("https://login", json!({ "realm": "reader" })));
    assert!(!with("https://other", json!({ "realm": { "roles": ["reader"] } })));
    assert!(!send("GET", "/").is_allowed(&accept));
}

#[test]
fn words_are_parts_of_a_text_between_spaces() {
    let accept = accept(json!([{ "action": "allow", "jwt": {
        "issuer": "i", "claims": [{ "path": ["scope"], "words": ["orders:write", "all"] }],
    } }]));
    let with =
        |scope: Json| send("GET", "/").token("i", json!({ "scope": scope })).is_allowed(&accept);
    assert!(with(json!("orders:read orders:write")) && with(json!("all")));
    assert!(with(json!(["orders:read", "orders:write"])));
    assert!(!with(json!("orders:writer")) && !with(json!("orders:read")) && !with(json!("")));
    assert!(!with(json!(7)) && !with(Json::Null));
}

#[test]
fn of_two_issuers_that_know_somebody_of_one_name_only_the_one_that_is_named_counts() {
    let accept = accept(json!([{
        "action": "allow", "jwt": { "issuer": "https://own" }, "when": "jwt.sub == 'anna'",
    }]));
    let anna = |issuer| send("GET", "/").token(issuer, json!({ "sub": "anna" }));
    assert!(anna("https://own").is_allowed(&accept));
    assert!(!anna("https://partner").is_allowed(&accept));
}

#[test]
fn a_token_counts_beside_an_identity_and_not_in_its_place() {
    let jwt = json!({ "issuer": "https://login" });
    let rules = rules([orders(
        "shop/orders",
        json!([{ "ipBlock": "10.0.0.0/8", "permissions": [
        { "action": "deny", "methods": ["PUT"], "jwt": jwt },
        { "action": "allow", "methods": ["GET"], "jwt": jwt },
        { "action": "allow", "methods": ["PUT", "HEAD"] },
    ] }]),
    )]);
    let sent = |method: &str, from: &str| {
        send(method, "/").token("https://login", json!({})).is_allowed(&connect(&rules, from))
    };
    assert!(sent("GET", "shop/web") && !sent("GET", "10.0.0.9"));
    assert!(!sent("PUT", "shop/web") && !sent("PUT", "10.0.0.9") && sent("HEAD", "10.0.0.9"));
}

#[test]
fn conditions_see_source_destination_request_and_token() {
    let holds = |when: &str| {
        let jwt = json!({ "issuer": "https://login" });
        let accept = accept(json!([{ "action": "allow", "jwt": jwt, "when": when }]));
        let sent = send("GET", "/orders/a%20b?x=1").with("X-Tenant", "a").with("x-tenant", "b");
        sent.token("https://login", json!({ "sub": "ada", "n": 7 })).on(&accept).unwrap()
    };
    for when in [
        "source.id == 'spiffe://dev.example/ns/shop/sa/web' && source.trustDomain == 'dev.example'",
        "source.namespace == destination.namespace && source.serviceAccount == 'web'",
        "cidr('10.0.0.0/8').containsIP(source.address)",
        "destination.serviceAccount == 'orders' && destination.port == 8080 && destination.labels['app'] == 'orders'",
        "request.method == 'GET' && request.path == '/orders/a b' && request.query == 'x=1'",
        "request.host == 'orders.shop' && request.headers['x-tenant'] == ['a', 'b']",
        "jwt.sub == 'ada' && jwt.n == 7 && !has(jwt.role)",
    ] {
        assert!(holds(when).is_allowed(), "{when}");
    }
    assert_eq!(holds("request.method == 'POST'").reason, Reason::NoPermission);
}

#[test]
fn a_condition_without_a_value_denies_though_a_later_permission_allows() {
    let accept = accept(json!([
        { "action": "deny", "jwt": { "issuer": "i" }, "when": "jwt.role == 'guest'" },
        { "action": "allow", "paths": [{ "prefix": "/" }] },
    ]));
    let verdict = send("GET", "/").token("i", json!({})).on(&accept).unwrap();
    assert_eq!((verdict.is_allowed(), verdict.reason), (false, Reason::ConditionFailed));
    assert!(verdict.failure.unwrap().contains("no such key"));
    assert!(send("GET", "/").token("i", json!({ "role": "member" })).is_allowed(&accept));
    assert_eq!(
        reason(&send("GET", "/").token("i", json!({ "role": "guest" })), &accept),
        Reason::IntentionRefused
    );
}

#[test]
fn a_condition_that_costs_too_much_denies() {
    let accept = accept(json!([{ "action": "allow", "when":
        "[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, [0,1,2,3,4,5,6,7,8,9].all(c, [0,1,2,3,4,5,6,7,8,9].all(d, [0,1,2,3,4,5,6,7,8,9].all(e, a+b+c+d+e >= 0)))))",
    }]));
    let verdict = send("GET", "/").on(&accept).unwrap();
    assert_eq!((verdict.is_allowed(), verdict.reason), (false, Reason::ConditionFailed));
    assert!(verdict.failure.unwrap().contains("cost limit"));
}

#[test]
fn only_the_rules_of_the_source_are_left() {
    let rules = rules([orders(
        "shop/orders",
        json!([
            { "serviceAccount": "web", "permissions": [{ "action": "allow", "methods": ["GET"] }] },
            { "serviceAccount": "app", "permissions": [{ "action": "allow", "methods": ["POST"] }] },
        ]),
    )]);
    let accept = connect(&rules, "shop/web");
    assert!(matches!(accept.stand(), Stand::Requests));
    let left: Vec<_> = accept.residual().iter().map(|rule| rule.index()).collect();
    assert_eq!(left, [0]);
    assert!(!send("POST", "/").is_allowed(&accept));
}

#[test]
fn a_shadow_of_permissions_is_told_for_each_request() {
    let rules = rules([
        orders("shop/old", json!([{ "serviceAccount": "web", "action": "allow" }])),
        intention(
            "shop/new",
            json!({
                "destination": { "serviceAccount": "orders" }, "mode": "shadow",
                "sources": [{ "serviceAccount": "web", "permissions": [{ "action": "deny", "methods": ["DELETE"] }] }],
            }),
        ),
    ]);
    let accept = connect(&rules, "shop/web");
    assert!(matches!(accept.shadow(), Some(Stand::Requests)));
    let host: [(&[u8], &[u8]); 1] = [(b"host", b"a")];
    for (method, allowed) in [("GET", true), ("DELETE", false)] {
        let head = Head {
            method: method.as_bytes(),
            target: b"/",
            authority: None,
            headers: &host,
            version: Version::Http1,
        };
        let judged = accept.judge(&head.read(accept.reads()).unwrap(), &[]);
        assert!(judged.verdict.is_allowed());
        assert_eq!(judged.shadow.unwrap().is_allowed(), allowed, "{method}");
    }
}

#[test]
fn a_request_that_was_read_for_less_than_the_rules_look_at_is_denied() {
    let accept = accept(json!([{ "action": "allow", "paths": [{ "prefix": "/" }] }]));
    let host: [(&[u8], &[u8]); 1] = [(b"host", b"a")];
    let head = Head {
        method: b"GET",
        target: b"/",
        authority: None,
        headers: &host,
        version: Version::Http1,
    };
    let request = head.read(nullius_intention::Reads::NoPaths).unwrap();
    let verdict = accept.judge(&request, &[]).verdict;
    assert_eq!((verdict.is_allowed(), verdict.reason), (false, Reason::Unreadable));
}

#[test]
fn an_explanation_names_tier_intention_source_permission_what_did_not_fit_and_the_next_step() {
    let accept = accept(json!([
        { "action": "deny", "headers": [{ "name": "x-debug", "present": true }] },
        { "action": "allow", "methods": ["GET"], "paths": [{ "prefix": "/orders" }] },
    ]));
    let host: [(&[u8], &[u8]); 1] = [(b"host", b"a")];
    let told = |target: &str| {
        let head = Head {
            method: b"GET",
            target: target.as_bytes(),
            authority: None,
            headers: &host,
            version: Version::Http1,
        };
        let request = head.read(accept.reads()).unwrap();
        let verdict = accept.judge(&request, &[]).verdict;
        explain_request(&accept, &request, &[], &verdict)
    };
    let denied = told("/admin%0a");
    assert_eq!(
        denied.sentence,
        "no permission is for it: `spiffe://dev.example/ns/shop/sa/web` may not send GET `/admin\\n` to `shop/orders` at port 8080 \
         (shop/orders.sources[0].permissions[0]: header `x-debug` present is not so; \
         shop/orders.sources[0].permissions[1]: path `/admin\\n` is not below `/orders`)"
    );
    assert_eq!(
        denied.rule.unwrap(),
        "Intention shop/orders sources[0] permissions[1], namespace tier, for spiffe://dev.example/ns/shop/sa/web"
    );
    assert!(denied.next.unwrap().starts_with("add a permission"));
    let allowed = told("/orders");
    assert_eq!(
        allowed.to_string(),
        "`spiffe://dev.example/ns/shop/sa/web` may send GET `/orders` to `shop/orders` at port 8080 (by Intention shop/orders \
         sources[0] permissions[1], namespace tier, for spiffe://dev.example/ns/shop/sa/web)"
    );
}

#[test]
fn a_refused_connection_is_told_with_the_way_to_allow_it() {
    let rules = rules([intention(
        "shop/x",
        json!({
            "destination": { "serviceAccount": "orders", "ports": [9090] },
            "sources": [{ "serviceAccount": "web", "action": "allow" }],
        }),
    )]);
    let told = |from: &str| {
        let accept = connect(&rules, from);
        let Stand::Decided(verdict) = accept.stand() else { panic!("requests decide") };
        explain_connection(&accept, verdict)
    };
    let next = told("shop/web").next.unwrap();
    assert!(next.contains("is for port 9090 alone: add 8080"), "{next}");
    let next = told("bank/vault").next.unwrap();
    assert_eq!(
        next,
        "to allow it, name the source {spiffeId: spiffe://dev.example/ns/bank/sa/vault, action: allow} in an Intention of namespace \
         `shop` with the destination `serviceAccount: orders`"
    );
    assert!(told("10.0.0.9").next.unwrap().contains("ipBlock"));
}
