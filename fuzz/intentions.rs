//! Where bytes of strangers meet intentions: what the fuzz targets and the tests of `nullius-intention` call. None may panic, and what is
//! told must be about the input.

use std::sync::LazyLock;

use nullius_intention::{
    Accept, Connection, Head, Held, Home, Intention, Origin, Protocol, RuleSet, Version, Workload,
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

/// What is open to `shop/web`, and has this schema.
fn declared(schema: &Json) -> Option<Accept> {
    let open = json!([{ "serviceAccount": "web", "action": "allow" }]);
    let object = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Intention", "metadata": { "name": "orders", "namespace": "shop" },
        "spec": { "destination": { "serviceAccount": "orders", "ports": [8080] }, "sources": open, "api": { "schema": schema } },
    });
    let mut rules = rules();
    match Intention::read(&object, Origin::Cluster, &HOME) {
        Ok(intention) => rules.put(&intention),
        Err(faults) => {
            assert!(faults.iter().all(|fault| !fault.message.is_empty()));
            return None;
        }
    }
    Some(accepted(&rules))
}

/// A document of OpenAPI: read; what is taken is asked about a request.
pub(super) fn api_document(bytes: &[u8]) {
    let Ok(document) = serde_json::from_slice::<Json>(bytes) else { return };
    let Some(accept) = declared(&document) else { return };
    let headers: [(&[u8], &[u8]); 2] =
        [(b"host", b"orders"), (b"content-type", b"application/json")];
    for (method, target) in [(&b"POST"[..], &b"/orders?limit=7"[..]), (b"GET", b"/orders/7")] {
        let head =
            Head { method, target, authority: None, headers: &headers, version: Version::Http1 };
        let Ok(request) = head.read(accept.reads()) else { panic!("a plain request") };
        let judged = accept.judge(&request, &[]);
        if !judged.verdict.is_allowed() {
            assert!(judged.verdict.undeclared.is_some_and(|it| !it.told.is_empty()));
        }
        for body in [&b""[..], b"{\"item\":[1,{\"a\":null}],\"count\":1.5}", b"[[[\"x\"]]]"] {
            let _ = judged.body.judge(Held { bytes: body, is_whole: true });
        }
    }
}

static SHOP: LazyLock<Accept> = LazyLock::new(|| {
    let order = json!({
        "type": "object", "required": ["item"], "additionalProperties": false,
        "properties": { "item": { "type": "string", "pattern": "^[a-z]+$" }, "count": { "type": "integer", "maximum": 9 } },
    });
    let body = json!({ "required": true, "content": { "application/json": { "schema": order } } });
    let limit =
        json!([{ "name": "limit", "in": "query", "schema": { "type": "integer", "maximum": 99 } }]);
    let id =
        json!([{ "name": "id", "in": "path", "required": true, "schema": { "type": "integer" } }]);
    let accept = declared(&json!({ "openapi": "3.1.0", "paths": {
        "/orders": { "get": { "parameters": limit }, "post": { "requestBody": body } },
        "/orders/{id}": { "get": { "parameters": id } },
    } }));
    accept.unwrap_or_else(|| panic!("a document"))
});

/// A request, its head and after an empty line its body: what is let in is what the schema declares, as others read it.
pub(super) fn api_request(bytes: &[u8]) {
    let middle = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (head, body) = (&bytes[..middle], bytes.get(middle + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
    let (method, target) = (first.next().unwrap_or_default(), first.next().unwrap_or_default());
    let headers: Vec<(&[u8], &[u8])> = lines
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], &line[colon + 1..]))
        })
        .collect();
    let head = Head { method, target, authority: None, headers: &headers, version: Version::Http1 };
    let Ok(request) = head.read(SHOP.reads()) else { return };
    let judged = SHOP.judge(&request, &[]);
    if !judged.verdict.is_allowed() {
        return;
    }
    let checked = judged.body.judge(Held { bytes: body, is_whole: true });
    if checked.enforced.is_some() {
        return;
    }
    let number = |text: &str| text.parse::<i64>().ok();
    match (request.method(), request.path().strip_prefix("/orders")) {
        ("GET", Some("")) => {
            let query = std::str::from_utf8(target).ok().and_then(|it| it.split_once('?'));
            let pieces =
                query.map_or("", |(_, query)| query).split('&').filter(|it| !it.is_empty());
            let limits: Vec<&str> =
                pieces.filter_map(|it| it.split_once('=')).map(|(_, it)| it).collect();
            assert!(limits.len() <= 1 && body.is_empty(), "{limits:?}");
            if let Some(limit) = limits.first().filter(|it| !it.contains('%')) {
                assert!(limit.parse::<f64>().is_ok_and(|it| it <= 99.0), "{limit}");
            }
        }
        ("GET", Some(id)) => assert!(
            body.is_empty() && id.starts_with('/') && number(&id[1..]).is_some()
                || id.contains('.'),
            "{id}"
        ),
        ("POST", Some("")) => {
            let Ok(order) = serde_json::from_slice::<Json>(body) else { panic!("it is no JSON") };
            assert!(
                order["item"].as_str().is_some_and(|it| it.bytes().all(|c| c.is_ascii_lowercase()))
            );
            assert!(
                order["count"].is_null() || order["count"].as_f64().is_some_and(|it| it <= 9.0)
            );
            assert!(order.as_object().is_some_and(|it| it.len() <= 2), "{order}");
        }
        other => panic!("{other:?}"),
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
