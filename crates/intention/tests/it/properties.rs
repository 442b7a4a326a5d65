//! What always holds: against a slow model of servers, and of intentions in any order.

use std::sync::LazyLock;

use nullius_intention::{Accept, Intention, RuleSet, Stand};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::world::{connect, intention, of_fleet, orders, rules, send};

/// Whatever a server might make of a path: parameters dropped, decoded until nothing changes, backslashes turned, slashes merged,
/// dots resolved.
fn canonical(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut path: Vec<u8> = path
        .split('/')
        .map(|it| it.split(';').next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("/")
        .into_bytes();
    loop {
        let decoded = decode(&path);
        if decoded == path {
            break;
        }
        path = decoded;
    }
    let path = String::from_utf8_lossy(&path).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        let segment = segment.split(['\0', ';']).next().unwrap_or_default();
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    format!("/{}", segments.join("/"))
}

fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| bytes[at] == b'%')
        {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

static ALL_BUT_ADMIN: LazyLock<Accept> = LazyLock::new(|| {
    let permissions = json!([
        { "action": "deny", "paths": [{ "prefix": "/admin" }] },
        { "action": "allow", "paths": [{ "prefix": "/" }] },
    ]);
    connect(
        &rules([orders(
            "shop/orders",
            json!([{ "serviceAccount": "web", "permissions": permissions }]),
        )]),
        "shop/web",
    )
});

fn target() -> impl Strategy<Value = String> {
    let parts = [
        "/", "/", "//", ".", "..", "%2e", "%2E", "%252e", "admin", "%61dmin", "adm%69n", "x", ";",
        "%3b", ";a=b", "\\", "%5c", "%2f", "%252f", "%00", "%", "%2", "%25", "?", "#", "%0a", "é",
        "%c3%a9", "%c0%af", " ",
    ];
    proptest::collection::vec(proptest::sample::select(parts.to_vec()), 0..9)
        .prop_map(|parts| format!("/{}", parts.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_path_that_differs_from_its_canonical_form_slips_past_a_deny(target in target()) {
        let accept = &*ALL_BUT_ADMIN;
        if send("GET", &target).is_allowed(accept) {
            let seen = canonical(&target);
            prop_assert!(seen != "/admin" && !seen.starts_with("/admin/"), "{target} is {seen}");
        }
    }

    #[test]
    fn what_is_let_pass_is_read_by_all_alike(target in target()) {
        let accept = &*ALL_BUT_ADMIN;
        let host: [(&[u8], &[u8]); 1] = [(b"host", b"a")];
        let head = nullius_intention::Head {
            method: b"GET", target: target.as_bytes(), authority: None, headers: &host,
            version: nullius_intention::Version::Http1,
        };
        if let Ok(request) = head.read(accept.reads()) {
            let path = request.path();
            let bare = if path.len() > 1 { path.strip_suffix('/').unwrap_or(path) } else { path };
            // A `%` that stands for itself is the one thing that a second decoding could change, and it has no digits behind it.
            prop_assert_eq!(bare, canonical(&target), "{}", target);
        }
    }
}

fn action() -> impl Strategy<Value = Json> {
    let permission = (any::<bool>(), 0..3usize).prop_map(|(allow, which)| {
        let action = if allow { "allow" } else { "deny" };
        match which {
            0 => json!({ "action": action, "methods": ["GET"] }),
            1 => json!({ "action": action, "paths": [{ "prefix": "/a" }] }),
            _ => json!({ "action": action, "paths": [{ "prefix": "/" }] }),
        }
    });
    prop_oneof![
        Just(json!({ "action": "allow" })),
        Just(json!({ "action": "deny" })),
        proptest::collection::vec(permission, 1..4).prop_map(|all| json!({ "permissions": all })),
    ]
}

fn source() -> impl Strategy<Value = Json> {
    let who = prop_oneof![
        Just(json!({ "serviceAccount": "web" })),
        Just(json!({ "serviceAccount": "app" })),
        Just(json!({ "namespace": "shop" })),
        Just(json!({ "any": true })),
        Just(json!({ "trustDomain": "other.example" })),
        Just(json!({ "ipBlock": "10.0.0.0/8" })),
        Just(json!({ "ipBlock": "10.0.0.0/24" })),
    ];
    (who, action()).prop_map(|(who, action)| {
        let (Json::Object(mut all), Json::Object(action)) = (who, action) else {
            return Json::Null;
        };
        all.extend(action);
        Json::Object(all)
    })
}

/// An intention of one of the tiers, and the number that makes its name.
fn written() -> impl Strategy<Value = (u8, Vec<Json>, bool)> {
    (0..5u8, proptest::collection::vec(source(), 1..4), any::<bool>())
}

fn made(number: usize, (place, sources, with_port): &(u8, Vec<Json>, bool)) -> Intention {
    let ports = if *with_port { json!([8080]) } else { Json::Null };
    let spec = |destination: Json| {
        let mut destination = destination;
        destination["ports"] = ports.clone();
        json!({ "destination": destination, "sources": sources })
    };
    let own = json!({ "serviceAccount": "orders" });
    match place {
        0 => of_fleet(&format!("fleet/x{number}"), spec(json!({ "any": true }))),
        1 => of_fleet(&format!("shop/x{number}"), spec(own)),
        2 => intention(&format!("nullius-system/x{number}"), spec(json!({ "namespace": "shop" }))),
        3 => intention(&format!("nullius-system/x{number}"), spec(json!({ "any": true }))),
        _ => intention(&format!("shop/x{number}"), spec(own)),
    }
}

const CALLERS: [&str; 4] = ["shop/web", "shop/app", "bank/x", "spiffe://other.example/vm/7"];
const REQUESTS: [(&str, &str); 4] =
    [("GET", "/a"), ("GET", "/b"), ("POST", "/a/x"), ("POST", "/b")];

/// What each caller may do, and by which rule.
fn outcomes(rules: &RuleSet) -> Vec<(bool, String)> {
    let mut all = Vec::new();
    for caller in CALLERS.into_iter().chain(["10.0.0.7", "10.7.0.7", "192.0.2.1"]) {
        let accept = connect(rules, caller);
        for (method, target) in REQUESTS {
            let verdict = match accept.stand() {
                Stand::Decided(verdict) => verdict.clone(),
                Stand::Requests => send(method, target).on(&accept).unwrap(),
            };
            let by = verdict.by.as_ref().map(|by| by.label()).unwrap_or_default();
            all.push((verdict.is_allowed(), format!("{:?} {by}", verdict.reason)));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_in_which_intentions_come_changes_nothing(
        all in proptest::collection::vec(written(), 1..7),
        turn in any::<prop::sample::Index>(),
    ) {
        let all: Vec<Intention> = all.iter().enumerate().map(|(number, it)| made(number, it)).collect();
        let wanted = outcomes(&rules(all.clone()));
        let mut turned = all.clone();
        turned.rotate_left(turn.index(all.len()));
        turned.reverse();
        prop_assert_eq!(&outcomes(&rules(turned)), &wanted);
        // Put in, taken out and put in again, one after the other.
        let mut changing = rules(all.clone());
        for intention in &all {
            changing.remove(intention.tier(), intention.name());
            changing.put(intention);
        }
        prop_assert_eq!(&outcomes(&changing), &wanted);
    }

    #[test]
    fn one_deny_more_never_allows_more(
        all in proptest::collection::vec(written(), 0..6),
        (place, sources, port) in written(),
    ) {
        let all: Vec<Intention> = all.iter().enumerate().map(|(number, it)| made(number, it)).collect();
        let before = outcomes(&rules(all.clone()));
        let denying: Vec<Json> = sources.into_iter().map(|source| denying(&source)).collect();
        let with = all.into_iter().chain([made(99, &(place, denying, port))]);
        for ((after, told), (before, _)) in outcomes(&rules(with)).iter().zip(&before) {
            prop_assert!(*before || !after, "{told}");
        }
    }

    #[test]
    fn a_deny_put_into_a_list_never_allows_more(
        all in proptest::collection::vec(written(), 1..5),
        at in any::<prop::sample::Index>(),
    ) {
        let before: Vec<Intention> = all.iter().enumerate().map(|(number, it)| made(number, it)).collect();
        let more = all.iter().enumerate().map(|(number, (place, sources, port))| {
            let sources = sources.iter().map(|source| with_deny(source, at)).collect();
            made(number, &(*place, sources, *port))
        });
        let after = outcomes(&rules(more));
        for ((after, told), (before, _)) in after.iter().zip(&outcomes(&rules(before))) {
            prop_assert!(*before || !after, "{told}");
        }
    }
}

/// The same source, with denies in place of allows.
fn denying(source: &Json) -> Json {
    let mut source = source.clone();
    if source.get("action").is_some() {
        source["action"] = json!("deny");
    }
    for permission in
        source.get_mut("permissions").and_then(Json::as_array_mut).into_iter().flatten()
    {
        permission["action"] = json!("deny");
    }
    source
}

fn with_deny(source: &Json, at: prop::sample::Index) -> Json {
    let mut source = source.clone();
    if let Some(permissions) = source.get_mut("permissions").and_then(Json::as_array_mut) {
        let at = at.index(permissions.len() + 1);
        permissions.insert(at, json!({ "action": "deny", "paths": [{ "prefix": "/a" }] }));
    }
    source
}
