//! Where bytes of strangers meet intentions: what the fuzz targets and the tests of `nullius-intention` call. None may panic, and what is
//! told must be about the input.

use std::sync::LazyLock;

use nullius_intention::{
    Accept, Connection, Head, Home, Intention, Origin, Protocol, RuleSet, Version, Workload,
};
use serde_json::{Value as Json, json};

static HOME: LazyLock<Home> = LazyLock::new(|| match "dev.example".parse() {
    Ok(domain) => Home::of(domain),
    Err(error) => panic!("{error}"),
});

/// An object: read; what is taken is asked about a call, twice with the same answer.
pub(super) fn intention_object(bytes: &[u8]) {
    let Ok(object) = serde_json::from_slice::<Json>(bytes) else { return };
    for origin in [Origin::Cluster, Origin::Fleet] {
        let intention = match Intention::read(&object, origin, &HOME) {
            Ok(intention) => intention,
            Err(faults) => {
                assert!(!faults.is_empty(), "it is refused and nobody says why");
                assert!(faults.iter().all(|fault| !fault.message.is_empty()));
                continue;
            }
        };
        let mut rules = rules();
        rules.put(&intention);
        let told = |accept: &Accept| format!("{:?}", accept.stand());
        assert_eq!(told(&accepted(&rules)), told(&accepted(&rules)));
        rules.remove(intention.tier(), intention.name());
        assert!(rules.is_empty());
    }
}

static GUARDED: LazyLock<Accept> = LazyLock::new(|| {
    let object = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention", "metadata": { "name": "orders", "namespace": "shop" },
        "spec": { "destination": { "serviceAccount": "orders" }, "sources": [{ "serviceAccount": "web", "permissions": [
            { "action": "deny", "paths": [{ "prefix": "/admin" }] },
            { "action": "deny", "headers": [{ "name": "x-role", "contains": "admin" }] },
            { "action": "allow", "paths": [{ "prefix": "/" }], "when": "request.path.startsWith('/') && size(request.host) > 0" },
        ] }] },
    });
    let mut rules = rules();
    match Intention::read(&object, Origin::Cluster, &HOME) {
        Ok(intention) => rules.put(&intention),
        Err(faults) => panic!("{faults:?}"),
    }
    accepted(&rules)
});

/// The head of a request in HTTP/1: read, judged, and never allowed where it names what is denied.
pub(super) fn request_head(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut first = lines.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers: Vec<(&[u8], &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], &line[colon + 1..]))
        })
        .collect();
    for version in [Version::Http1, Version::Http2] {
        let head = Head { method, target, authority: None, headers: &headers, version };
        let request = match head.read(GUARDED.reads()) {
            Ok(request) => request,
            Err(why) => {
                assert!(!why.to_string().is_empty());
                continue;
            }
        };
        let path = request.path();
        assert!(path.starts_with('/') && !path.contains("//") && !path.contains([';', '\\', '\0']));
        assert!(!path.split('/').any(|segment| segment == "." || segment == ".."));
        let verdict = GUARDED.judge(&request, &[]).verdict;
        let names_role = |(name, value): &(&[u8], &[u8])| {
            name.eq_ignore_ascii_case(b"x-role") && value.windows(5).any(|part| part == b"admin")
        };
        if verdict.is_allowed() {
            assert!(path != "/admin" && !path.starts_with("/admin/"), "{path}");
            assert!(!headers.iter().any(names_role));
        }
    }
}

fn rules() -> RuleSet {
    let Ok(namespace) = "shop".parse() else { panic!("a namespace") };
    let service_account = "orders".to_owned();
    RuleSet::new(Workload { namespace, service_account, labels: Default::default() })
}

fn accepted(rules: &RuleSet) -> Accept {
    let (Ok(id), Ok(now)) =
        ("spiffe://dev.example/ns/shop/sa/web".parse(), "2026-11-22T00:00:00Z".parse())
    else {
        panic!("an id and a time")
    };
    let connection = Connection {
        source: Some(&id),
        address: [10, 0, 0, 7].into(),
        port: 8080,
        protocol: Protocol::Http,
    };
    rules.accept(&connection, now)
}
