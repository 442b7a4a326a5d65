//! Consul's intentions carried over: what comes allows no more, and what has no counterpart is named.

use nullius_intention::{
    Home, Imported, Intention, Intentions, Origin, Protocol, RuleSet, Services, Stand, Workload,
    import_consul,
};
use proptest::{prelude::*, sample::select};
use serde_json::{Value as Json, json};

use crate::world::{Sent, connect_to, send};

fn services(namespaces: &[&str], services: &[&str]) -> Services {
    let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Services::new(&texts(namespaces), &texts(services)).unwrap()
}

fn imported(objects: &[Json]) -> Imported {
    import_consul(objects, &services(&["shop"], &[]), &"dev.example".parse().unwrap())
}

/// An entry as `consul config read` prints it.
fn entry(name: &str, sources: Json) -> Json {
    json!({
        "Kind": "service-intentions", "Name": name, "Sources": sources,
        "Meta": { "owner": "team" }, "CreateIndex": 12, "ModifyIndex": 31,
    })
}

fn source(name: &str, action: &str) -> Json {
    json!({ "Name": name, "Action": action, "Precedence": 9, "Type": "consul", "Description": "" })
}

fn requests(name: &str, permissions: Json) -> Json {
    json!({ "Name": name, "Permissions": permissions, "Precedence": 9, "Type": "consul" })
}

fn provider() -> Json {
    json!({
        "Kind": "jwt-provider", "Name": "okta", "Issuer": "https://login.example",
        "Audiences": ["orders"], "JSONWebKeySet": { "Remote": { "URI": "https://login.example/keys" } },
    })
}

/// What was carried over for a workload `namespace/account`.
fn rules(imported: &Imported, of: &str) -> RuleSet {
    let home = Home::of("dev.example".parse().unwrap());
    let mut all = Intentions::default();
    for intention in &imported.intentions {
        all.put(Intention::read(&intention.to_json(), Origin::Cluster, &home).unwrap());
    }
    let (namespace, account) = of.split_once('/').unwrap();
    all.rules_for(Workload {
        namespace: namespace.parse().unwrap(),
        service_account: account.to_owned(),
        labels: Default::default(),
    })
}

fn passes(rules: &RuleSet, from: &str, request: &Sent) -> bool {
    let accept = connect_to(rules, from, 8080, Protocol::Http);
    match accept.stand() {
        Stand::Decided(verdict) => verdict.is_allowed(),
        Stand::Requests => request.is_allowed(&accept),
    }
}

fn allowed(imported: &Imported, from: &str, to: &str, request: &Sent) -> bool {
    passes(&rules(imported, to), from, request)
}

fn told(remarks: &[nullius_intention::Remark]) -> Vec<String> {
    remarks.iter().map(|it| format!("{}: {}", it.object, it.fault)).collect()
}

fn names(imported: &Imported) -> Vec<String> {
    imported.intentions.iter().map(|it| format!("{}/{}", it.namespace, it.name)).collect()
}

#[test]
fn the_most_exact_source_decides_and_the_first_permission_that_fits() {
    let done = imported(&[entry(
        "orders",
        json!([
            requests(
                "web",
                json!([
                    { "Action": "deny", "HTTP": { "PathPrefix": "/orders/internal" } },
                    { "Action": "allow", "HTTP": { "PathPrefix": "/orders", "Methods": ["GET", "head"] } },
                    { "Action": "allow", "HTTP": { "PathRegex": "/v[0-9]+/.*", "Header": [{ "Name": "X-Tenant", "Exact": "a" }] } },
                ])
            ),
            source("report", "allow"),
            source("*", "deny"),
        ]),
    )]);
    assert_eq!((told(&done.refused), told(&done.notes)), (vec![], vec![]));
    assert_eq!(names(&done), ["shop/orders"]);
    let is = |from: &str, request: Sent| allowed(&done, from, "shop/orders", &request);
    assert!(is("shop/web", send("GET", "/orders/7")) && is("shop/web", send("HEAD", "/ordersx")));
    assert!(!is("shop/web", send("POST", "/orders/7")));
    assert!(!is("shop/web", send("GET", "/orders/internals")), "a prefix ends anywhere");
    assert!(is("shop/web", send("PUT", "/v2/x").with("x-tenant", "a")));
    assert!(!is("shop/web", send("PUT", "/v2/x").with("x-tenant", "a").with("x-tenant", "a")));
    assert!(!is("shop/web", send("PUT", "/v2/x")));
    assert!(is("shop/report", send("PUT", "/")) && !is("shop/other", send("GET", "/orders/7")));
    assert!(!is("bank/report", send("PUT", "/")));
}

#[test]
fn objects_of_kubernetes_say_the_same() {
    let object = json!({
        "apiVersion": "consul.hashicorp.com/v1alpha1", "kind": "ServiceIntentions",
        "metadata": { "name": "orders", "namespace": "consul" },
        "spec": {
            "destination": { "name": "orders" },
            "sources": [
                { "name": "web", "permissions": [
                    { "action": "allow", "http": { "pathExact": "/x", "methods": ["GET"],
                        "header": [{ "name": "x-a", "prefix": "b", "ignoreCase": true }, { "name": "x-b", "present": true, "invert": true }] } },
                ] },
                { "name": "report", "action": "allow" },
            ],
        },
        "status": { "conditions": [] },
    });
    let done = imported(&[object]);
    assert_eq!(told(&done.refused), [""; 0]);
    let is = |request: Sent| allowed(&done, "shop/web", "shop/orders", &request);
    assert!(is(send("GET", "/x").with("X-A", "Bc")) && !is(send("GET", "/x").with("x-a", "c")));
    assert!(!is(send("GET", "/x").with("x-a", "b").with("x-b", "")));
    let odd = json!({
        "apiVersion": "consul.hashicorp.com/v1alpha1", "kind": "ServiceIntentions",
        "metadata": { "name": "odd" },
        "spec": { "destination": { "name": "orders" }, "sources": [{ "name": "web", "peer": "east", "action": "allow" }] },
    });
    assert!(told(&imported(&[odd]).refused)[0].starts_with("0: spec.sources[0].peer: not carried"));
}

#[test]
fn a_token_is_wanted_of_whom_its_permission_is_for_and_no_other_permission_is_asked() {
    let jwt = |value: &str| json!({ "Providers": [{ "Name": "okta", "VerifyClaims": [{ "Path": ["perms", "role"], "Value": value }] }] });
    let orders = |jwt: Json| {
        entry(
            "orders",
            json!([requests(
                "web",
                json!([
                    { "Action": "allow", "HTTP": { "PathPrefix": "/admin" }, "JWT": jwt },
                    { "Action": "allow", "HTTP": { "PathPrefix": "/" } },
                ])
            )]),
        )
    };
    let done = imported(&[orders(jwt("admin")), provider()]);
    assert_eq!(told(&done.refused), [""; 0]);
    let is = |request: &Sent| allowed(&done, "shop/web", "shop/orders", request);
    let admin = |role: &str| {
        let mut sent = send("GET", "/admin")
            .token("https://login.example", json!({ "perms": { "role": role } }));
        sent.tokens[0].audiences = vec!["orders".to_owned()];
        sent
    };
    assert!(is(&admin("admin")) && !is(&admin("guest")));
    assert!(!is(&send("GET", "/admin")), "the next permission is not asked");
    assert!(is(&send("GET", "/x")));
    // For all callers.
    let mut all = entry("orders", json!([source("web", "allow"), source("x", "deny")]));
    all["JWT"] = jwt("admin");
    let done = imported(&[all.clone(), provider()]);
    let is = |from: &str, request: &Sent| allowed(&done, from, "shop/orders", request);
    assert!(is("shop/web", &admin("admin")) && !is("shop/web", &admin("guest")));
    assert!(!is("shop/web", &send("GET", "/x")) && !is("shop/x", &admin("admin")));
    // Of all callers and of one permission: one token that says both.
    let mut both = orders(jwt("admin"));
    both["JWT"] = json!({ "Providers": [{ "Name": "okta" }] });
    let spec = imported(&[both, provider()]).intentions[0].to_json()["spec"].to_string();
    assert_eq!(spec.matches(r#""values":["admin"]"#).count(), 1, "{spec}");
    assert_eq!(spec.matches(r#""issuer":"https://login.example""#).count(), 2, "{spec}");
    let other =
        json!({ "Kind": "jwt-provider", "Name": "other", "Issuer": "https://other.example" });
    let mut two = orders(jwt("admin"));
    two["JWT"] = json!({ "Providers": [{ "Name": "other" }] });
    let refused = told(&imported(&[two, provider(), other]).refused);
    assert!(refused[0].contains("two tokens at once"), "{refused:?}");
    assert!(told(&imported(&[all]).refused)[0].starts_with(
        "0: JWT.Providers[0].Name: there is no `jwt-provider` `okta`, which says who issues"
    ));
    let mut cookie = provider();
    cookie["Locations"] = json!([{ "Cookie": { "Name": "session" } }]);
    let refused = told(&imported(&[orders(jwt("admin")), cookie]).refused);
    assert!(refused[0].starts_with("1: Locations[0]: not carried over"), "{refused:?}");
    assert!(refused[1].contains("`jwt-provider` `okta` was refused"), "{refused:?}");
}

#[test]
fn intentions_for_all_destinations_stand_with_the_exact_ones_in_one_tier() {
    let done = imported(&[
        entry("*", json!([source("web", "allow"), source("monitor", "deny")])),
        entry("orders", json!([source("monitor", "allow"), source("*", "deny")])),
    ]);
    assert_eq!(told(&done.refused), [""; 0]);
    assert_eq!(names(&done), ["nullius-system/shop", "nullius-system/shop.orders"]);
    for (from, to, passes) in [
        ("shop/web", "shop/bill", true),
        ("shop/web", "shop/orders", false),
        ("shop/monitor", "shop/orders", true),
        ("shop/monitor", "shop/bill", false),
        ("bank/web", "shop/bill", false),
        ("shop/web", "bank/bill", false),
    ] {
        assert_eq!(allowed(&done, from, to, &send("GET", "/")), passes, "{from} {to}");
    }
    // What only denies is the default, and is lifted by what is more exact.
    let done = imported(&[
        entry("*", json!([source("*", "deny")])),
        entry("orders", json!([source("web", "allow")])),
    ]);
    assert_eq!(names(&done), ["shop/orders"]);
    assert!(told(&done.notes)[0].starts_with("0: it allows nothing"), "{:?}", done.notes);
    // One that would reach what was refused is refused with it.
    let done = imported(&[
        entry("*", json!([source("web", "allow")])),
        entry("orders", json!([{ "Name": "web", "Action": "deny", "SamenessGroup": "x" }])),
        entry("bill", json!([source("web", "allow")])),
    ]);
    assert_eq!(names(&done), ["shop/bill"]);
    assert!(told(&done.refused).iter().any(|it| it.starts_with("0: it is for all destinations")));
}

#[test]
fn services_are_accounts_as_one_says() {
    let of = |namespaces: &[&str], all: &[&str], objects: &[Json]| {
        import_consul(objects, &services(namespaces, all), &"dev.example".parse().unwrap())
    };
    let orders = entry("orders", json!([source("web", "allow"), source("Cache_1", "allow")]));
    let done = of(&["shop"], &["Cache_1=infra/cache"], std::slice::from_ref(&orders));
    assert_eq!(told(&done.refused), [""; 0]);
    assert!(allowed(&done, "infra/cache", "shop/orders", &send("GET", "/")));
    let refused = told(&of(&["shop"], &[], std::slice::from_ref(&orders)).refused);
    assert_eq!(
        refused,
        [
            "0: Sources[1].Name: no service account is called `Cache_1`: say which account it is by `--service Cache_1=NAMESPACE/ACCOUNT`"
        ]
    );
    let done = of(&[], &["orders=a/b", "web=c/d", "Cache_1=e/f"], std::slice::from_ref(&orders));
    assert_eq!(names(&done), ["a/b"]);
    assert!(allowed(&done, "c/d", "a/b", &send("GET", "/")));
    // An account that another service is.
    let refused = told(&of(&["shop"], &["front=shop/web", "Cache_1=e/f"], &[orders]).refused);
    assert!(refused[0].contains("`shop/web` stands for another service"), "{refused:?}");
    // All services: those of the namespace, and who is elsewhere.
    let all = entry("orders", json!([source("*", "allow"), source("queue", "deny")]));
    let elsewhere = ["cache=infra/cache", "queue=infra/queue"];
    let done = of(&["shop"], &elsewhere, std::slice::from_ref(&all));
    let is = |from| allowed(&done, from, "shop/orders", &send("GET", "/"));
    assert!(is("shop/x") && is("infra/cache") && !is("infra/queue") && !is("infra/x"));
    let refused = told(&of(&[], &["orders=a/b", "queue=a/c"], std::slice::from_ref(&all)).refused);
    assert!(
        refused[0].starts_with("0: Sources[0].Name: nothing says which namespace"),
        "{refused:?}"
    );
    let everywhere = entry("*", json!([source("web", "allow")]));
    let refused = told(&of(&["shop"], &elsewhere, &[everywhere]).refused);
    assert!(refused[0].contains("`cache` is in the namespace `infra`"), "{refused:?}");
    // Namespaces of Consul.
    let mut bill = entry(
        "bill",
        json!([{ "Name": "web", "Namespace": "default", "Action": "allow" }, source("*", "allow")]),
    );
    bill["Namespace"] = json!("money");
    let done = of(&["shop", "money=bank"], &[], std::slice::from_ref(&bill));
    let is = |from| allowed(&done, from, "bank/bill", &send("GET", "/"));
    assert!(is("shop/web") && is("bank/x") && !is("shop/x"));
    assert!(told(&of(&["shop"], &[], &[bill]).refused)[0].contains("--service money/bill="));
    for (namespaces, all) in [
        (&["shop", "x=shop"][..], &[][..]),
        (&["shop", "bank"], &[]),
        (&["Shop"], &[]),
        (&["shop"], &["web"]),
        (&["shop"], &["web=x"]),
        (&["shop"], &["web=x/Y"]),
        (&["shop"], &["a=x/y", "b=x/y"]),
        (&["shop"], &["a=x/y", "a=x/z"]),
        (&["shop"], &["money/a=shop/y"]),
    ] {
        let texts = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert!(Services::new(&texts(namespaces), &texts(all)).is_err(), "{namespaces:?} {all:?}");
    }
}

#[test]
fn what_has_no_counterpart_is_refused_by_name_and_with_it_all_for_the_same_destination() {
    let http = |http: Json| requests("web", json!([{ "Action": "allow", "HTTP": http }]));
    let header = |header: Json| http(json!({ "PathPrefix": "/", "Header": [header] }));
    let mut alone = source("web", "allow");
    for (odd, wanted) in [
        (
            json!({ "Name": "web", "Action": "allow", "Peer": "east" }),
            "Sources[1].Peer: not carried over",
        ),
        (
            json!({ "Name": "web", "Action": "allow", "SamenessGroup": "g" }),
            "Sources[1].SamenessGroup: not carried over",
        ),
        (
            json!({ "Name": "web", "Action": "allow", "Partition": "east" }),
            "Sources[1].Partition: not carried over",
        ),
        (
            json!({ "Name": "*", "Action": "allow", "Namespace": "*" }),
            "Sources[1].Namespace: not carried over",
        ),
        (json!({ "Name": "web*", "Action": "allow" }), "Sources[1].Name: `web*` has a `*` in it"),
        (
            json!({ "Name": "web", "Action": "allow", "Type": "external" }),
            "Sources[1].Type: not carried over",
        ),
        (json!({ "Name": "web", "Action": "audit" }), "Sources[1].Action: `audit` is unknown here"),
        (json!({ "Name": "web" }), "Sources[1]: Consul takes either"),
        (json!({ "Action": "allow" }), "Sources[1].Name: it is missing"),
        (json!({ "Name": "report", "Action": "deny" }), "Sources[1]: this source stands twice"),
        (json!({ "Name": "web", "Action": "allow", "action": "deny" }), "unknown field"),
        (http(json!({ "PathRegex": "/[[a]]" })), "HTTP.PathRegex: not carried over"),
        (http(json!({ "PathRegex": "/(" })), "no intention can say it"),
        (http(json!({ "PathExact": "/a%20b" })), "no intention can say it"),
        (http(json!({ "PathExact": "/a", "PathPrefix": "/b" })), "HTTP: Consul takes one of"),
        (http(json!({ "PathPrefix": "/", "Methods": ["CONNECT"] })), "no intention can say it"),
        (http(json!({ "PathPrefix": "/", "Grpc": true })), "HTTP.Grpc: unknown field"),
        (header(json!({ "Name": "x" })), "Header[0]: Consul takes exactly one of"),
        (
            header(json!({ "Name": "x", "Regex": "a", "IgnoreCase": true })),
            "ignores the case of texts alone",
        ),
        (header(json!({ "Name": ":authority", "Exact": "a" })), "no intention can say it"),
        (
            header(json!({ "Name": "x-forwarded-client-cert", "Exact": "a" })),
            "anybody can write it",
        ),
    ] {
        let done = imported(&[
            entry("orders", json!([source("report", "allow"), odd])),
            entry("bill", json!([alone])),
        ]);
        assert_eq!(names(&done), ["shop/bill"], "{wanted}");
        let refused = told(&done.refused);
        assert!(
            refused.iter().any(|it| it.starts_with("0: ") && it.contains(wanted)),
            "{wanted}: {refused:?}"
        );
    }
    alone["Name"] = json!("x");
    let twice = [entry("orders", json!([source("web", "allow")])), entry("orders", json!([alone]))];
    let done = imported(&twice);
    assert!(done.intentions.is_empty() && done.refused.len() == 2, "{done:?}");
    let refused =
        told(&imported(&[entry("*", json!([http(json!({ "PathPrefix": "/" }))]))]).refused);
    assert!(refused[0].contains("no permissions for all destinations"), "{refused:?}");
    for (object, wanted) in [
        (
            json!({ "SourceName": "web", "DestinationName": "orders", "Action": "allow" }),
            "read `/v1/config/service-intentions`",
        ),
        (json!({ "kind": "service-intentions", "name": "x" }), "neither a config entry"),
        (json!("Kind = service-intentions"), "neither a config entry"),
        (
            json!({ "apiVersion": "auth.consul.hashicorp.com/v2beta1", "kind": "TrafficPermissions" }),
            "write `ServiceIntentions`",
        ),
    ] {
        let refused = told(&imported(&[object]).refused);
        assert!(refused[0].contains(wanted), "{wanted}: {refused:?}");
    }
    let beside = [
        json!({ "Kind": "service-defaults", "Name": "orders", "Protocol": "http" }),
        json!({ "apiVersion": "v1", "kind": "Service" }),
    ];
    assert_eq!(imported(&beside), Imported::default());
}

/// A part of a permission about a header, as both sides read it.
#[derive(Debug, Clone)]
struct PlainHeader {
    way: &'static str,
    text: &'static str,
    invert: bool,
    ignore_case: bool,
}

/// A permission.
#[derive(Debug, Clone)]
struct Plain {
    allow: bool,
    path: Option<(&'static str, &'static str)>,
    methods: Vec<&'static str>,
    header: Option<PlainHeader>,
    jwt: bool,
}

#[derive(Debug, Clone)]
enum Said {
    Action(bool),
    Permissions(Vec<Plain>),
}

/// Entries: a destination with sources.
type Entries = std::collections::BTreeMap<&'static str, Vec<(&'static str, Said)>>;

impl PlainHeader {
    fn to_json(&self) -> Json {
        let mut header = json!({ "Name": "x-t" });
        match self.way {
            "Present" => header["Present"] = json!(true),
            way => header[way] = json!(self.text),
        }
        if self.invert {
            header["Invert"] = json!(true);
        }
        if self.ignore_case && !matches!(self.way, "Present" | "Regex") {
            header["IgnoreCase"] = json!(true);
        }
        header
    }

    /// What Envoy says of all lines as one text; what is not there is like nothing, and unlike nothing.
    fn is_for(&self, lines: &[&str]) -> bool {
        if self.way == "Present" {
            return lines.is_empty() == self.invert;
        }
        if lines.is_empty() {
            return false;
        }
        let fold = |text: &str| match self.ignore_case && self.way != "Regex" {
            true => text.to_ascii_lowercase(),
            false => text.to_owned(),
        };
        let (all, wanted) = (fold(&lines.join(",")), fold(self.text));
        let is = match self.way {
            "Exact" => all == wanted,
            "Prefix" => all.starts_with(&wanted),
            "Suffix" => all.ends_with(&wanted),
            "Contains" => all.contains(&wanted),
            // The one expression of these tests.
            _ => {
                assert_eq!(self.text, "a[bc]*");
                all.strip_prefix('a').is_some_and(|rest| rest.chars().all(|c| "bc".contains(c)))
            }
        };
        is != self.invert
    }
}

impl Plain {
    fn to_json(&self) -> Json {
        let mut http = json!({});
        if let Some((way, text)) = self.path {
            http[way] = json!(text);
        }
        if !self.methods.is_empty() {
            http["Methods"] = json!(self.methods);
        }
        if let Some(header) = &self.header {
            http["Header"] = json!([header.to_json()]);
        }
        if http == json!({}) {
            http["PathPrefix"] = json!("/");
        }
        let mut permission =
            json!({ "Action": if self.allow { "allow" } else { "deny" }, "HTTP": http });
        if self.jwt {
            permission["JWT"] = json!({ "Providers": [{ "Name": "okta" }] });
        }
        permission
    }

    fn is_for(&self, request: &Asked) -> bool {
        let path = self.path.is_none_or(|(way, text)| match way {
            "PathExact" => request.path == text,
            "PathPrefix" => request.path.starts_with(text),
            _ => {
                assert_eq!(text, "/a.*b");
                request.path.starts_with("/a")
                    && request.path.len() > 2
                    && request.path.ends_with('b')
            }
        });
        path && (self.methods.is_empty() || self.methods.contains(&request.method))
            && self.header.as_ref().is_none_or(|header| header.is_for(&request.lines))
    }
}

/// A request.
#[derive(Debug, Clone)]
struct Asked {
    method: &'static str,
    path: &'static str,
    lines: Vec<&'static str>,
    token: bool,
}

/// What Consul says, its default policy being to deny: of all entries for the destination the one of the highest precedence decides.
fn consul(entries: &Entries, from: &str, to: &str, request: &Asked) -> bool {
    let mut found = Vec::new();
    for (destination, sources) in entries {
        for (source, said) in sources {
            let is = |name: &str, wanted: &str| name == "*" || name == wanted;
            if is(destination, to) && is(source, from) {
                let precedence = match (*destination, *source) {
                    ("*", "*") => 5,
                    ("*", _) => 6,
                    (_, "*") => 8,
                    _ => 9,
                };
                found.push((precedence, said));
            }
        }
    }
    match found.into_iter().max_by_key(|(precedence, _)| *precedence) {
        None => false,
        Some((_, Said::Action(allow))) => *allow,
        Some((_, Said::Permissions(all))) => all
            .iter()
            .find(|permission| permission.is_for(request))
            .is_some_and(|it| it.allow && (request.token || !it.jwt)),
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    let paths = select(vec![
        None,
        Some(("PathExact", "/a")),
        Some(("PathPrefix", "/a")),
        Some(("PathPrefix", "/a/")),
        Some(("PathPrefix", "/")),
        Some(("PathRegex", "/a.*b")),
    ]);
    let ways = select(vec!["Present", "Exact", "Prefix", "Suffix", "Contains", "Regex"]);
    let header = (ways, select(vec!["a", "b", "B", "a,b"]), any::<bool>(), any::<bool>()).prop_map(
        |(way, text, invert, ignore_case)| {
            let text = if way == "Regex" { "a[bc]*" } else { text };
            PlainHeader { way, text, invert, ignore_case }
        },
    );
    let methods = proptest::collection::vec(select(vec!["GET", "POST"]), 0..2);
    (any::<bool>(), paths, methods, proptest::option::of(header), proptest::bool::weighted(0.2))
        .prop_map(|(allow, path, methods, header, jwt)| Plain { allow, path, methods, header, jwt })
}

fn entries() -> impl Strategy<Value = Entries> {
    let said = prop_oneof![
        any::<bool>().prop_map(Said::Action),
        proptest::collection::vec(plain(), 1..4).prop_map(Said::Permissions),
    ];
    let sources = proptest::collection::btree_map(select(vec!["web", "app", "*"]), said, 1..3);
    let sources = sources.prop_map(|all| all.into_iter().collect::<Vec<_>>());
    proptest::collection::btree_map(select(vec!["orders", "bill", "*"]), sources, 1..4).prop_map(
        |mut all: Entries| {
            // Consul takes no permissions there.
            for (_, said) in all.get_mut("*").into_iter().flatten() {
                if let Said::Permissions(permissions) = said {
                    *said = Said::Action(permissions[0].allow);
                }
            }
            all
        },
    )
}

fn requests_of_all_kinds() -> Vec<Asked> {
    let mut all = Vec::new();
    for (method, path) in [
        ("GET", "/a"),
        ("POST", "/a/b"),
        ("GET", "/ab"),
        ("POST", "/"),
        ("GET", "/a/"),
        ("GET", "/x"),
    ] {
        for lines in [
            vec![],
            vec!["a"],
            vec!["b"],
            vec!["ab"],
            vec!["A"],
            vec!["a", "b"],
            vec!["a", "a"],
            vec!["a,b"],
        ] {
            for token in [true, false] {
                all.push(Asked { method, path, lines: lines.clone(), token });
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_passes_that_consul_would_not_let_pass(all in entries()) {
        // What is denied below `/a/` is denied at `/a` too.
        let mut permissions = all.values().flatten().flat_map(|(_, said)| match said {
            Said::Action(_) => [].iter(),
            Said::Permissions(all) => all.iter(),
        });
        let is_below = permissions.any(|it| (!it.allow || it.jwt) && it.path == Some(("PathPrefix", "/a/")));
        let mut objects: Vec<Json> = all.iter().map(|(name, sources)| {
            let sources: Vec<Json> = sources.iter().map(|(source_name, said)| match said {
                Said::Action(allow) => source(source_name, if *allow { "allow" } else { "deny" }),
                Said::Permissions(all) => requests(source_name, all.iter().map(Plain::to_json).collect()),
            }).collect();
            entry(name, json!(sources))
        }).collect();
        objects.push(json!({ "Kind": "jwt-provider", "Name": "okta", "Issuer": "https://login.example" }));
        let done = imported(&objects);
        prop_assert!(done.refused.is_empty(), "{:?}", done.refused);
        for to in ["orders", "bill", "other"] {
            let carried = rules(&done, &format!("shop/{to}"));
            for from in ["web", "app", "other"] {
                for request in requests_of_all_kinds() {
                    let mut sent = send(request.method, request.path);
                    for line in &request.lines {
                        sent = sent.with("x-t", line);
                    }
                    if request.token {
                        sent = sent.token("https://login.example", json!({ "sub": "ada" }));
                    }
                    let ours = passes(&carried, &format!("shop/{from}"), &sent);
                    let consul = consul(&all, from, to, &request);
                    prop_assert!(consul || !ours, "{from} {to} {request:?} passes under {:#?}", done.intentions);
                    // What is denied is looked at in every way: with a slash behind it, with each part of a header, without it.
                    let is_looked_at_twice = request.path.ends_with('/') || (is_below && request.path == "/a");
                    let is_one = matches!(request.lines.as_slice(), [line] if !line.contains(','));
                    let is_plain = is_one && !is_looked_at_twice;
                    prop_assert!(!is_plain || consul == ours, "{from} {to} {request:?} is denied under {:#?}", done.intentions);
                }
            }
        }
    }
}
