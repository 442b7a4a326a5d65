//! Schemas of APIs: what is declared, what is not, and documents that are refused.

use nullius_intention::{BodyJudged, Head, Held, Intention, Judged, Origin, Protocol, Version};
use nullius_model::Reason;
use serde_json::{Value as Json, json};

use crate::world::{
    Sent, connect, connect_to, decided, home, intention, object, orders, rules, send,
};

/// The API of a shop, as a person would write it.
fn shop() -> Json {
    json!({
        "openapi": "3.1.0", "info": { "title": "Orders", "version": "1" },
        "servers": [{ "url": "https://shop.example/api" }, { "url": "http://localhost:8080/api/" }],
        "security": [{ "login": [] }],
        "paths": {
            "/orders": {
                "get": {
                    "parameters": [
                        { "name": "limit", "in": "query", "schema": { "type": "integer", "minimum": 1, "maximum": 100 } },
                        { "name": "state", "in": "query", "schema": { "type": "array", "items": { "enum": ["open", "paid"] }, "maxItems": 2 } },
                        { "name": "ids", "in": "query", "explode": false, "schema": { "type": "array", "items": { "type": "integer" } } },
                        { "name": "q", "in": "query", "schema": { "type": "string", "maxLength": 8, "pattern": "^[a-z ]*$" } },
                        { "name": "fresh", "in": "query", "allowEmptyValue": true, "schema": { "type": "boolean" } },
                        { "$ref": "#/components/parameters/Trace" },
                    ],
                    "responses": { "200": { "description": "all", "content": { "application/json": { "schema": { "$ref": "https://elsewhere.example/x.json" } } } } },
                },
                "post": {
                    "operationId": "createOrder",
                    "requestBody": { "$ref": "#/components/requestBodies/Order" },
                    "responses": {},
                },
            },
            "/orders/mine": { "get": { "responses": {} } },
            "/orders/{id}": {
                "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": "string", "format": "uuid" } }],
                "get": { "responses": {} },
                "put": { "requestBody": { "content": {
                    "application/json": { "schema": { "$ref": "#/components/schemas/Order" } },
                    "application/merge-patch+json": {},
                    "text/*": { "schema": { "type": "string" } },
                } } },
            },
            "/tree": { "post": { "requestBody": { "required": true, "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Node" } } } } } },
        },
        "components": {
            "securitySchemes": { "login": { "type": "http", "scheme": "bearer" } },
            "parameters": { "Trace": { "name": "X-Trace", "in": "header", "required": true, "schema": { "type": "string", "minLength": 4 } } },
            "requestBodies": { "Order": { "required": true, "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Order" } } } } },
            "schemas": {
                "Order": {
                    "type": "object", "required": ["item", "count"], "additionalProperties": false,
                    "properties": {
                        "item": { "type": "string", "minLength": 1 },
                        "count": { "type": "integer", "minimum": 1 },
                        "note": { "type": ["string", "null"] },
                    },
                },
                "Node": {
                    "type": "object", "properties": { "children": { "type": "array", "items": { "anyOf": [{ "$ref": "#/components/schemas/Node" }, { "type": "null" }] } } },
                    "unevaluatedProperties": false,
                },
            },
        },
    })
}

fn with(api: Json) -> Intention {
    let spec =
        json!({ "destination": { "serviceAccount": "orders", "ports": [8080] }, "api": api });
    intention("shop/schema", spec)
}

fn allows_web() -> Intention {
    orders("shop/own", json!([{ "serviceAccount": "web", "action": "allow" }]))
}

fn enforced() -> [Intention; 2] {
    [allows_web(), with(json!({ "schema": shop() }))]
}

const TRACE: (&str, &str) = ("X-Trace", "abcd");
const ID: &str = "/api/orders/7d3fc1ce-1c2f-4a4b-9d8e-0123456789ab";

fn get(target: &str) -> Sent {
    send("GET", target).with(TRACE.0, TRACE.1)
}

fn judged(intentions: &[Intention], sent: &Sent) -> Judged {
    let accept = connect(&rules(intentions.to_vec()), "shop/web");
    let headers: Vec<(&[u8], &[u8])> =
        sent.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())).collect();
    let head = Head {
        method: sent.method.as_bytes(),
        target: sent.target.as_bytes(),
        authority: None,
        headers: &headers,
        version: Version::Http1,
    };
    accept.judge(&head.read(accept.reads()).unwrap(), &sent.tokens)
}

/// Why a request is refused, and the words for it; none where it is declared.
fn refused(intentions: &[Intention], sent: &Sent, body: &[u8]) -> Option<(Reason, String)> {
    let judged = judged(intentions, sent);
    if let Some(undeclared) = judged.verdict.undeclared {
        assert!(!undeclared.rule.is_empty() && undeclared.reason == judged.verdict.reason);
        return Some((undeclared.reason, undeclared.told));
    }
    assert!(judged.verdict.is_allowed(), "{:?}", judged.verdict);
    let BodyJudged { enforced, .. } = judged.body.judge(Held { bytes: body, is_whole: true });
    enforced.map(|it| (it.reason, it.told))
}

#[track_caller]
fn is_declared(sent: &Sent, body: &[u8]) {
    assert_eq!(refused(&enforced(), sent, body), None, "{} {}", sent.method, sent.target);
}

#[track_caller]
fn is_refused(sent: &Sent, body: &[u8], reason: Reason, why: &str) {
    let (told, words) = refused(&enforced(), sent, body).expect(why);
    assert!(told == reason && words.contains(why), "{told:?} {words}");
}

#[test]
fn what_a_document_declares_is_let_in_and_nothing_else() {
    use Reason::{BadBody, BadParameter, UndeclaredMethod, UndeclaredPath};
    for target in [
        "/api/orders",
        "/api/orders?limit=7",
        "/api/orders?limit=1&state=open&state=paid",
        "/api/orders?ids=1,2,3",
        "/api/orders?q=a%20b",
        "/api/orders?fresh",
        "/api/orders?&",
        "/api/orders?%6cimit=7",
    ] {
        is_declared(&get(target), b"");
    }
    is_declared(&send("GET", "/api/orders/mine"), b"");
    is_declared(&send("GET", ID), b"");
    for target in [
        "/orders",
        "/api",
        "/api/",
        "/api/orders/",
        "/apiorders",
        "/api/else",
        "/api/orders/mine/x",
    ] {
        is_refused(&get(target), b"", UndeclaredPath, "no path of the schema");
    }
    is_refused(&send("DELETE", "/api/orders"), b"", UndeclaredMethod, "which has GET, POST");
    is_refused(&send("HEAD", "/api/orders/mine"), b"", UndeclaredMethod, "which has GET");
    is_refused(&send("GET", "/api/orders/7"), b"", BadParameter, "another format");
    is_refused(
        &send("GET", "/api/orders"),
        b"",
        BadParameter,
        "`x-trace` of its header is missing",
    );
    is_refused(&send("GET", "/api/orders").with("x-trace", "a"), b"", BadParameter, "too short");
    is_refused(&get("/api/orders").with("x-trace", "abcd"), b"", BadParameter, "twice");
    is_refused(&get("/api/orders/mine?limit=7"), b"", BadParameter, "not declared");
    for (query, why) in [
        ("limit=0", "too small"),
        ("limit=101", "too large"),
        ("limit=ten", "no integer"),
        ("limit=07", "no integer"),
        ("limit=%201", "no integer"),
        ("limit=", "no integer"),
        ("limit=1&limit=2", "twice"),
        ("limit=1&%6cimit=2", "twice"),
        ("Limit=1", "not declared"),
        ("limit=1;limit=999", "`;`"),
        ("state=open&state=shut", "none of the values"),
        ("state=open&state=paid&state=open", "too many"),
        ("ids=1,x", "no integer"),
        ("ids=1&ids=2", "twice"),
        ("q=A", "expression"),
        ("q=abcdefghi", "too long"),
        ("q=%00", "no text"),
        ("q=%ff", "no text"),
        ("fresh=maybe", "no boolean"),
        ("admin=true", "not declared"),
    ] {
        is_refused(&get(&format!("/api/orders?{query}")), b"", BadParameter, why);
    }
    // A plus that is one for some and a space for others must be right as both.
    is_refused(&get("/api/orders?q=a%2Bb"), b"", BadParameter, "expression");
    is_refused(&get("/api/orders"), b"x", BadBody, "no body is declared");
}

#[test]
fn a_plus_in_a_query_must_be_right_as_itself_and_as_a_space() {
    let only = |pattern: &str| {
        let mut document = shop();
        document["paths"]["/orders"]["get"]["parameters"][3]["schema"]["pattern"] = pattern.into();
        [allows_web(), with(json!({ "schema": document }))]
    };
    let asked = get("/api/orders?q=a+b");
    assert!(refused(&only("^[a-z +]*$"), &asked, b"").is_none());
    assert!(refused(&only("^[a-z ]*$"), &asked, b"").is_some(), "who takes it as a plus");
    assert!(refused(&only("^[a-z+]*$"), &asked, b"").is_some(), "who takes it as a space");
}

/// A parameter of the query with a schema.
fn asks(schema: Json) -> [Intention; 2] {
    let parameter = json!({ "name": "q", "in": "query", "schema": schema });
    let paths = json!({ "/x": { "get": { "parameters": [parameter] } } });
    [allows_web(), with(json!({ "schema": { "openapi": "3.1.0", "paths": paths } }))]
}

#[test]
fn digits_get_past_no_schema_that_speaks_of_texts() {
    let is = |schema: &Json, value: &str| {
        refused(&asks(schema.clone()), &send("GET", &format!("/x?q={value}")), b"").is_none()
    };
    let many = "99999999999999999999";
    for (schema, good, bad) in [
        (json!({ "pattern": "^[a-z]{3}$" }), "abc", many),
        (json!({ "maxLength": 3 }), "7", many),
        (json!({ "format": "uuid" }), "7d3fc1ce-1c2f-4a4b-9d8e-0123456789ab", "7"),
        (json!({ "not": { "enum": ["0"] } }), "1", "0"),
        (json!({ "pattern": "^[a-z]{5}$" }), "falls", "true"),
        // Whoever names types reads it as one of them.
        (json!({ "anyOf": [{ "type": "integer" }, { "type": "null" }] }), "7", "x"),
        (
            json!({ "anyOf": [{ "type": "integer" }, { "type": "string", "format": "date" }] }),
            "7",
            "7.5",
        ),
        (json!({ "type": ["integer", "string"], "maxLength": 3 }), "99999", "9999.5"),
        (json!({ "enum": ["0", "1"] }), "0", "2"),
        (json!({ "type": "string", "enum": ["true"] }), "true", "false"),
        (json!({ "type": "array", "items": { "pattern": "^[a-z]$" } }), "a", "7"),
        (json!({ "type": "array", "items": { "maxLength": 2 } }), "77", "777"),
        (
            json!({ "type": "array", "items": { "type": ["integer", "string"], "maxLength": 1 } }),
            "777",
            "7.5",
        ),
        // Right as it is written and as floats have it.
        (json!({ "type": "number", "exclusiveMaximum": 100 }), "99.99", "99.99999999999999999"),
        (json!({ "type": "number", "maximum": 100 }), "100.0", "100.000000000000000001"),
    ] {
        assert!(is(&schema, good) && !is(&schema, bad), "{schema}: {good} {bad}");
    }
}

#[test]
fn a_header_that_some_servers_read_as_a_declared_one_is_refused() {
    let sent = || send("GET", "/api/orders").with("X-Trace", "abcd");
    is_declared(&sent().with("X_Trac", "x"), b"");
    for name in ["X_Trace", "x_trace", "X_TRACE"] {
        is_refused(
            &sent().with(name, "evil"),
            b"",
            Reason::BadParameter,
            "some servers read as it",
        );
    }
}

#[test]
fn numbers_of_a_body_are_compared_as_they_are_written_and_as_floats_have_them() {
    let post = send("POST", "/x").with("content-type", "application/json");
    let is = |schema: Json, body: &str| {
        let content = json!({ "application/json": { "schema": schema } });
        let paths = json!({ "/x": { "post": { "requestBody": { "content": content } } } });
        let all = [allows_web(), with(json!({ "schema": { "openapi": "3.1.0", "paths": paths } }))];
        refused(&all, &post, body.as_bytes()).is_none()
    };
    let most = || json!({ "items": { "maximum": 100 } });
    assert!(is(most(), "[1e2, 100.0]") && !is(most(), "[1, 100.000000000000000001]"));
    let less = || json!({ "items": { "exclusiveMaximum": 100 } });
    assert!(is(less(), "[99.9999]") && !is(less(), "[\"-7\", 99.99999999999999999]"));
    assert!(!is(json!({ "maximum": i64::MAX }), "9223372036854775808.0"));
    assert!(!is(json!({ "maximum": u64::MAX }), "18446744073709551616"));
    assert!(!is(json!({ "exclusiveMinimum": 0 }), "1e-400"), "some take it for 0");
    assert!(is(json!({ "const": 9_007_199_254_740_993_u64 }), "9007199254740993"));
    assert!(!is(json!({ "not": { "const": 1 } }), "1.00000000000000000001"));
    assert!(!is(json!({ "format": "int32" }), "1.5"));
}

#[test]
fn a_body_that_must_be_there_is_there_of_whichever_kind() {
    let mut document = shop();
    document["paths"]["/orders"]["post"]["requestBody"] =
        json!({ "required": true, "content": { "multipart/form-data": {} } });
    let all = [allows_web(), with(json!({ "schema": document }))];
    let sent = send("POST", "/api/orders").with("content-type", "multipart/form-data; boundary=x");
    assert_eq!(refused(&all, &sent, b"--x--"), None);
    assert!(refused(&all, &sent, b"").unwrap().1.contains("missing"));
    // No more of it is wanted than that it begins.
    let checks = judged(&all, &sent).body;
    assert!(checks.decides() && checks.wants() == 0);
    assert_eq!(checks.judge(Held { bytes: b"-", is_whole: false }).enforced, None);
}

#[test]
fn bodies_are_looked_into_as_their_kind_says() {
    use Reason::{BadBody, BodyTooLarge};
    let post = || send("POST", "/api/orders");
    let json = || post().with("Content-Type", "application/json");
    let order = br#"{"item":"tea","count":2}"#;
    is_declared(&json(), order);
    is_declared(&json(), br#"{"item":"tea","count":2.0,"note":null}"#);
    is_declared(&post().with("content-type", "Application/JSON; Charset=\"UTF-8\""), order);
    is_declared(&json().with("content-encoding", "identity"), order);
    for (body, why) in [
        (&br#"{"item":"tea"}"#[..], "lacks `count`"),
        (br#"{"item":"tea","count":0}"#, "`/count` is too small"),
        (br#"{"item":"tea","count":"2"}"#, "`/count` is no integer"),
        (br#"{"item":"tea","count":2,"admin":true}"#, "`/admin` may not be there"),
        (br#"{"item":"tea","count":2,"count":-1}"#, "the name `count` stands twice"),
        (br#"{"item":"tea","count":2,"co\u0075nt":-1}"#, "the name `count` stands twice"),
        (br#"{"item":"tea","count":2}{}"#, "trailing"),
        (br#"{"item":"tea","count":2"#, "EOF"),
        (b"[]", "is no object"),
        (b"null", "is no object"),
        (b"", "missing"),
    ] {
        is_refused(&json(), body, BadBody, why);
    }
    for (kind, why) in [
        ("text/plain", "not declared"),
        ("application/x-www-form-urlencoded", "not declared"),
        ("multipart/form-data; boundary=x", "not declared"),
        ("application/json, text/plain", "is none"),
        ("application/json; charset=utf-16", "says more"),
        ("application/json; charset=utf-8; charset=utf-7", "says more"),
        ("application/json; boundary=x", "says more"),
        ("application/json;", "is none"),
        ("application", "is none"),
        ("application/json text/plain", "is none"),
    ] {
        is_refused(&post().with("Content-Type", kind), order, BadBody, why);
    }
    is_refused(&post(), order, BadBody, "no `Content-Type`");
    is_refused(&json().with("Content-Type", "text/plain"), order, BadBody, "two `Content-Type`s");
    is_refused(&json().with("Content-Encoding", "gzip"), order, BadBody, "compressed");
    is_refused(&json().with("Content-Encoding", "identity, br"), order, BadBody, "compressed");
    // Not required: without a body, or with one of a kind that is not looked into.
    is_declared(&send("PUT", ID), b"");
    is_declared(&send("PUT", ID).with("content-type", "text/csv"), b"a,b");
    is_declared(&send("PUT", ID).with("content-type", "application/merge-patch+json"), b"{{");
    is_refused(&send("PUT", ID).with("content-type", "image/png"), b"x", BadBody, "not declared");
    is_refused(&send("PUT", ID), b"{}", BadBody, "no `Content-Type`");
    // Longer than what is looked into, whole or not.
    let small = [allows_web(), with(json!({ "schema": shop(), "maxBodyBytes": 10 }))];
    assert_eq!(refused(&small, &json(), order).unwrap().0, BodyTooLarge);
    let checks = judged(&small, &json()).body;
    assert_eq!(checks.wants(), 10);
    let unfinished = checks.judge(Held { bytes: b"{", is_whole: false });
    assert_eq!(unfinished.enforced.unwrap().reason, BodyTooLarge);
}

#[test]
fn a_schema_refuses_nobody_who_is_only_watched_and_says_what_it_would() {
    let watched = [allows_web(), with(json!({ "schema": shop(), "mode": "shadow" }))];
    let asked = judged(&watched, &send("DELETE", "/api/orders"));
    assert!(asked.verdict.is_allowed());
    let shadow = asked.shadow.unwrap();
    assert_eq!((shadow.is_allowed(), shadow.reason), (false, Reason::UndeclaredMethod));
    let post = send("POST", "/api/orders").with("content-type", "application/json");
    let asked = judged(&watched, &post);
    assert!(asked.verdict.is_allowed() && asked.shadow.unwrap().is_allowed());
    assert!(!asked.body.decides() && !asked.body.is_empty());
    let BodyJudged { enforced, shadow } = asked.body.judge(Held { bytes: b"{}", is_whole: true });
    assert_eq!((enforced, shadow.unwrap().reason), (None, Reason::BadBody));
    // An intention in shadow has no schema that decides.
    let spec = json!({
        "destination": { "serviceAccount": "orders", "ports": [8080] }, "mode": "shadow", "api": { "schema": shop() },
    });
    let watched = [allows_web(), intention("shop/schema", spec)];
    assert!(judged(&watched, &send("DELETE", "/x")).verdict.is_allowed());
}

#[test]
fn who_may_not_call_learns_nothing_of_the_schema_and_each_schema_must_declare() {
    let none = orders(
        "shop/own",
        json!([{ "serviceAccount": "web", "permissions": [{ "action": "allow", "paths": [{ "prefix": "/api/orders/mine" }] }] }]),
    );
    let schema = with(json!({ "schema": shop() }));
    let asked = judged(&[none, schema.clone()], &send("DELETE", "/nothing"));
    assert_eq!(asked.verdict.reason, Reason::NoPermission);
    let mut narrow = shop();
    narrow["paths"] = json!({ "/orders/mine": { "get": {} } });
    let spec = json!({ "destination": { "serviceAccount": "orders", "ports": [8080] }, "api": { "schema": narrow } });
    let both = [allows_web(), schema, intention("shop/narrow", spec)];
    assert_eq!(refused(&both, &send("GET", "/api/orders/mine"), b""), None);
    assert_eq!(refused(&both, &get("/api/orders"), b"").unwrap().0, Reason::UndeclaredPath);
}

#[test]
fn a_port_with_a_schema_is_read_or_closed_and_others_are_left_alone() {
    let rules = rules(enforced());
    let tcp = connect_to(&rules, "shop/web", 8080, Protocol::Tcp);
    assert_eq!(decided(&tcp).reason, Reason::NotHttp);
    assert!(decided(&connect_to(&rules, "shop/web", 9090, Protocol::Tcp)).is_allowed());
    assert!(decided(&connect_to(&rules, "shop/web", 9090, Protocol::Http)).is_allowed());
    assert_eq!(decided(&connect(&rules, "shop/other")).reason, Reason::NoIntention);
    // Taken away again, nothing of it is left.
    let mut rules = rules;
    rules.remove(nullius_intention::Tier::Namespace, "shop/schema");
    assert!(decided(&connect(&rules, "shop/web")).is_allowed());
}

#[test]
fn tricks_with_a_path_open_nothing_that_is_not_declared() {
    let accept = connect(&rules(enforced()), "shop/web");
    for target in [
        "/api/orders/../admin",
        "/api/orders/%2e%2e/mine",
        "/api//orders",
        "/api/orders;x=1",
        "/api/orders%2fmine",
        "/api/orders/mine%00",
        "/api/orders/mine%252f",
        "/api/orders\\mine",
        "/api/ORDERS/mine",
        "/api/orders/mine/",
        "/api/orders/mine?x",
        "/api/orders/mine%20",
        "http://x/api/orders/mine",
        "/api/./orders/mine",
        "/api/orders/m%69ne/../x",
    ] {
        assert!(!send("GET", target).is_allowed(&accept), "{target}");
    }
    assert!(send("GET", "/api/orders/m%69ne").is_allowed(&accept), "decoded it is the same");
}

/// A schema in which each level of a value asks two others: twice as much work each time.
fn bomb() -> Json {
    json!({
        "openapi": "3.1.0",
        "paths": { "/x": { "post": { "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/X" } } } } } } },
        "components": { "schemas": { "X": {
            "anyOf": [
                { "type": "object", "properties": { "a": { "$ref": "#/components/schemas/X" }, "b": false } },
                { "type": "object", "properties": { "a": { "$ref": "#/components/schemas/X" }, "b": false } },
                { "type": "null" },
            ],
        } } },
    })
}

#[test]
fn a_body_that_would_take_a_processor_for_good_is_refused() {
    let all = [allows_web(), with(json!({ "schema": bomb() }))];
    let body = format!("{}null{}", "{\"a\":".repeat(60), ",\"b\":1}".repeat(60));
    let begun = std::time::Instant::now();
    let sent = send("POST", "/x").with("content-type", "application/json");
    let (reason, told) = refused(&all, &sent, body.as_bytes()).unwrap();
    assert_eq!(reason, Reason::BadBody);
    assert!(told.contains("too many steps"), "{told}");
    assert!(begun.elapsed().as_secs() < 10);
    let deep = format!("{}null{}", "{\"a\":".repeat(65), "}".repeat(65));
    assert!(refused(&all, &sent, deep.as_bytes()).unwrap().1.contains("deeper than 64"));
    // A chain of references that is longer than any stack.
    let mut document = bomb();
    for index in 0..2_000 {
        let next = format!("#/components/schemas/C{}", index + 1);
        document["components"]["schemas"][format!("C{index}")] = json!({ "$ref": next });
    }
    document["components"]["schemas"]["C2000"] = json!({ "type": "null" });
    document["components"]["schemas"]["X"] = json!({ "$ref": "#/components/schemas/C0" });
    let all = [allows_web(), with(json!({ "schema": document }))];
    assert!(refused(&all, &sent, b"null").unwrap().1.contains("too many steps"));
}

#[test]
fn trees_are_looked_into_as_deep_as_bodies_may_be() {
    let all = enforced();
    let sent = send("POST", "/api/tree").with("content-type", "application/json");
    let tree = |levels: usize, last: &str| {
        format!("{}{last}{}", "{\"children\":[null,".repeat(levels), "]}".repeat(levels))
    };
    assert_eq!(refused(&all, &sent, tree(30, "{}").as_bytes()), None);
    let (_, told) = refused(&all, &sent, tree(3, "{\"other\":1}").as_bytes()).unwrap();
    assert!(told.contains("is none of what it may be"), "{told}");
}

fn faults(api: Json) -> Vec<String> {
    let spec =
        json!({ "destination": { "serviceAccount": "orders", "ports": [8080] }, "api": api });
    let read = Intention::read(&object("shop/schema", spec), Origin::Cluster, &home());
    read.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// The document with one change.
fn changed(pointer: &str, value: Json) -> Json {
    let mut document = shop();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let name = name.replace("~1", "/");
    match document.pointer_mut(parent).unwrap() {
        Json::Object(map) => drop(map.insert(name, value)),
        Json::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        other => panic!("{other}"),
    }
    json!({ "schema": document })
}

#[test]
fn what_is_not_understood_is_refused_by_name_and_place() {
    let order = "/components/schemas/Order";
    let list = "/paths/~1orders/get/parameters/0";
    let number = |schema: Json| json!({ "name": "n", "in": "query", "schema": schema });
    for (pointer, value, place, why) in [
        ("/openapi", json!("3.0.3"), "spec.api.schema.openapi", "OpenAPI 3.1"),
        ("/pathz", json!({}), "spec.api.schema.pathz", "did you mean `paths`"),
        (
            "/jsonSchemaDialect",
            json!("https://json-schema.org/draft-07/schema"),
            "jsonSchemaDialect",
            "2020-12",
        ),
        (
            "/servers/0/url",
            json!("https://x.example/other"),
            "spec.api.schema.servers",
            "different paths",
        ),
        ("/servers/0/url", json!("https://{host}/api"), "servers[0].url", "without variables"),
        ("/paths/~1orders/got", json!({}), "paths[/orders].got", "did you mean `get`"),
        (
            "/paths/~1orders/get/requestbody",
            json!({}),
            "paths[/orders].get.requestbody",
            "did you mean `requestBody`",
        ),
        ("/paths/~1orders/get/servers", json!([]), "paths[/orders].get.servers", "unknown field"),
        (
            "/paths/~1orders~1{id}/parameters",
            json!([]),
            "paths[/orders/{id}].get",
            "`{id}` of the path",
        ),
        ("/paths/~1orders~1x{id}", json!({}), "paths[/orders/x{id}]", "a whole segment"),
        ("/paths/~1{kind}~1mine", json!({}), "paths[/{kind}/mine]", "neither is the more exact"),
        (list, json!({ "name": "a", "in": "cookie", "schema": {} }), "parameters[0].in", "cookies"),
        (list, json!({ "name": "a", "in": "query" }), "parameters[0]", "say its `schema`"),
        (
            list,
            json!({ "name": "a", "in": "query", "schema": { "type": "object" } }),
            "parameters[0]",
            "send it in a body",
        ),
        (
            list,
            json!({ "name": "a", "in": "query", "style": "deepObject", "schema": {} }),
            "style",
            "`form` is",
        ),
        (
            list,
            json!({ "name": "a", "in": "query", "content": {}, "schema": {} }),
            "content",
            "not looked into",
        ),
        (
            list,
            json!({ "name": "q", "in": "query", "schema": {} }),
            "parameters[3]",
            "stands already",
        ),
        (list, number(json!({ "maximum": 100 })), "parameters[0]", "name the `type`"),
        (list, number(json!({ "not": { "minimum": 101 } })), "parameters[0]", "name the `type`"),
        (list, number(json!({ "not": { "enum": [5] } })), "parameters[0]", "name the `type`"),
        (
            list,
            number(json!({ "anyOf": [{ "type": "integer" }, { "multipleOf": 2 }] })),
            "parameters[0]",
            "name the `type`",
        ),
        (
            list,
            number(json!({ "type": "array", "items": { "maximum": 100 } })),
            "parameters[0]",
            "name the `type`",
        ),
        (
            list,
            number(
                json!({ "type": "array", "prefixItems": [{ "maximum": 1 }], "items": { "type": "integer" } }),
            ),
            "parameters[0]",
            "name the `type`",
        ),
        (list, json!({ "$ref": "other.yaml#/a" }), "$ref", "leads out of the document"),
        (list, json!({ "$ref": "#/components/parameters/None" }), "$ref", "stands for nothing"),
        (
            "/components/parameters/Trace",
            json!({ "$ref": "#/components/parameters/Trace" }),
            "parameters[5]",
            "refers to itself",
        ),
        (
            "/components/requestBodies/Order/content",
            json!({ "multipart/form-data": { "schema": { "type": "object" } } }),
            "[multipart/form-data].schema",
            "JSON alone",
        ),
        (
            "/components/requestBodies/Order/content",
            json!({ "application/json": {}, "Application/JSON": {} }),
            "[application/json]",
            "stands already",
        ),
        (
            "/components/schemas/Order/nullable",
            json!(true),
            "components.schemas.Order.nullable",
            "OpenAPI 3.0",
        ),
        (
            "/components/schemas/Order/propertys",
            json!({}),
            "propertys",
            "did you mean `properties`",
        ),
        ("/components/schemas/Order/$id", json!("x"), "$id", "`#/…`"),
        (
            "/components/schemas/Order/$ref",
            json!("http://169.254.169.254/latest"),
            "$ref",
            "nothing is fetched",
        ),
        (
            "/components/schemas/Order/$ref",
            json!("file:///etc/passwd"),
            "$ref",
            "nothing is fetched",
        ),
        ("/components/schemas/Order/$ref", json!("#anchor"), "$ref", "no place"),
        (
            "/components/schemas/Order/allOf",
            json!([{ "$ref": "#/components/schemas/Order" }]),
            "schemas.Order",
            "could never be told",
        ),
        ("/components/schemas/Order/type", json!("text"), "type", "no type of JSON"),
        (
            "/components/schemas/Order/properties/item/pattern",
            json!("(?=a)"),
            "item.pattern",
            "time is bounded",
        ),
        (
            "/components/schemas/Order/properties/item/pattern",
            json!("((a{1,99}){1,99}){1,99}"),
            "item.pattern",
            "128 KiB",
        ),
        (
            "/components/schemas/Order/properties/item/minLength",
            json!(-1),
            "minLength",
            "whole number",
        ),
        (
            "/components/schemas/Order/properties/count/multipleOf",
            json!(0),
            "multipleOf",
            "more than 0",
        ),
        (order, json!([]), "components.schemas.Order", "expected a schema"),
    ] {
        let told = faults(changed(pointer, value.clone()));
        let fits = |line: &String| line.contains(place) && line.contains(why);
        assert!(told.iter().any(fits), "{pointer} {value}: {told:#?}");
    }
    assert_eq!(faults(json!({ "schema": shop() })), Vec::<String>::new());
    let spec = json!({
        "destination": { "serviceAccount": "orders", "ports": [8080] },
        "api": { "schema": shop(), "mode": "shadow", "maxBodyBytes": 7 },
    });
    let model: nullius_model::IntentionSpec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(serde_json::to_value(&model).unwrap(), spec);
    let read = intention("shop/schema", spec);
    assert_eq!(read.api().unwrap().schema().size(), (4, 6));
    assert!(faults(json!({}))[0].contains("spec.api.schema: it is missing"));
    assert!(faults(json!({ "schema": shop(), "maxBodyBytes": 0 }))[0].contains("maxBodyBytes"));
    assert!(faults(json!({ "schema": shop(), "node": 1 }))[0].contains("did you mean `mode`"));
    let all_ports =
        json!({ "destination": { "serviceAccount": "orders" }, "api": { "schema": shop() } });
    let read = Intention::read(&object("shop/schema", all_ports), Origin::Cluster, &home());
    assert!(read.unwrap_err()[0].message.contains("destination.ports"));
}

#[test]
fn a_document_that_is_too_much_is_refused() {
    let mut many = shop();
    for index in 0..1_001 {
        many["paths"][format!("/p{index}")] = json!({});
    }
    assert!(faults(json!({ "schema": many }))[0].contains("1000 may be"));
    let wide: Vec<Json> = (0..6_000).map(|_| json!({})).collect();
    let told = faults(changed("/components/schemas/Order", json!({ "allOf": wide })));
    assert!(told[0].contains("more than 5000 schemas"), "{told:?}");
    let patterns: Json = (0..101)
        .map(|index| (format!("p{index}"), json!({ "pattern": format!("a{index}") })))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let told = faults(changed("/components/schemas/Order/properties", patterns));
    assert!(told[0].contains("100 other expressions"), "{told:?}");
}
