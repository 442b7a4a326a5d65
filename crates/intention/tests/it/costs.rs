//! What schemas, requests and bodies may cost at worst: each is refused before it takes long, whatever its steps are made of.

use std::time::{Duration, Instant};

use nullius_intention::{BodyJudged, Head, Held, Intention, Judged, Origin, Version};
use serde_json::{Map, Value as Json, json};

use crate::world::{Sent, connect, home, intention, object, orders, rules, send};

/// A debug build on a busy machine; without a bound each of these takes minutes.
const PATIENCE: Duration = Duration::from_secs(10);

fn spec(document: &Json) -> Json {
    json!({ "destination": { "serviceAccount": "orders", "ports": [8080] }, "api": { "schema": document } })
}

fn judged(document: &Json, sent: &Sent) -> Judged {
    let allows = orders("shop/own", json!([{ "serviceAccount": "web", "action": "allow" }]));
    let accept =
        connect(&rules(vec![allows, intention("shop/schema", spec(document))]), "shop/web");
    let headers: Vec<(&[u8], &[u8])> =
        sent.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice())).collect();
    let head = Head {
        method: sent.method.as_bytes(),
        target: sent.target.as_bytes(),
        authority: None,
        headers: &headers,
        version: Version::Http1,
    };
    accept.judge(&head.read(accept.reads()).unwrap(), &[])
}

fn document(operation: Json, schemas: Json) -> Json {
    json!({
        "openapi": "3.1.0",
        "paths": { "/x": { "get": operation.clone(), "post": operation } },
        "components": { "schemas": schemas },
    })
}

/// Each asks the next twice about the same value, and the last is this.
fn doubling(levels: usize, last: Json) -> Json {
    let mut all = Map::new();
    for level in 0..levels {
        let next = json!({ "$ref": format!("#/components/schemas/S{}", level + 1) });
        all.insert(format!("S{level}"), json!({ "anyOf": [next, next] }));
    }
    all.insert(format!("S{levels}"), last);
    all.into()
}

#[track_caller]
fn head_is_costly(document: &Json, target: &str) {
    let begun = Instant::now();
    let judged = judged(document, &send("GET", target));
    let told = judged.verdict.undeclared.map(|it| it.told).unwrap_or_default();
    assert!(told.contains("too many steps"), "{told}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

/// The body is refused for what it takes, also where nobody waits.
#[track_caller]
fn body_is_costly(document: &Json, body: &str) {
    let checks =
        judged(document, &send("POST", "/x").with("content-type", "application/json")).body;
    let begun = Instant::now();
    let held = Held { bytes: body.as_bytes(), is_whole: true };
    assert_eq!(checks.judge_at_once(held), None, "it takes longer than others may wait");
    let BodyJudged { enforced, .. } = checks.judge(held);
    let told = enforced.map(|it| it.told).unwrap_or_default();
    assert!(told.contains("too many steps"), "{told}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

fn with_body(schemas: Json) -> Json {
    let content =
        json!({ "application/json": { "schema": { "$ref": "#/components/schemas/S0" } } });
    document(json!({ "requestBody": { "content": content } }), schemas)
}

#[test]
fn all_items_and_parameters_of_a_head_have_one_budget() {
    let last = || json!({ "const": "z" });
    let not = || json!({ "not": { "$ref": "#/components/schemas/S0" } });
    let list = json!({ "type": "array", "items": not() });
    let ids = json!({ "name": "a", "in": "query", "explode": false, "schema": list });
    let document_of = |parameters: Json, levels| {
        document(json!({ "parameters": parameters }), doubling(levels, last()))
    };
    head_is_costly(&document_of(json!([ids]), 18), &format!("/x?a={}", "1,".repeat(16_000)));
    // Little of each, and many of them.
    let parameters: Vec<Json> = (0..100)
        .map(|number| json!({ "name": format!("p{number}"), "in": "query", "schema": not() }))
        .collect();
    let target: Vec<String> = (0..100).map(|number| format!("p{number}=1")).collect();
    head_is_costly(&document_of(parameters.into(), 11), &format!("/x?{}", target.join("&")));
    // Names that are looked for among many.
    let parameters: Vec<Json> = (0..100)
        .map(|number| json!({ "name": format!("p{number}"), "in": "query", "schema": { "type": "array" } }))
        .collect();
    let target = format!("/x?{}", "p0&".repeat(8_000));
    head_is_costly(&document_of(parameters.into(), 0), &target);
}

#[test]
fn expressions_count_for_what_they_are_and_not_for_their_texts_alone() {
    // No literal to look for, and too many states to remember.
    let pattern = "[ab]*a[ab]{1500}[^ab]";
    let all: Vec<Json> = (0..61).map(|_| json!({ "pattern": pattern })).collect();
    let body = format!("{:?}", "a".repeat(16_000));
    body_is_costly(&with_body(json!({ "S0": { "allOf": all } })), &body);
}

#[test]
fn formats_count_for_the_texts_that_they_look_at() {
    for format in ["date", "date-time", "ipv6", "uuid"] {
        let schemas = doubling(17, json!({ "format": format }));
        body_is_costly(&with_body(schemas), &format!("{:?}", "-".repeat(16_000)));
    }
}

#[test]
fn what_was_seen_counts_each_time_it_is_told() {
    let mut schemas = Map::new();
    for level in 0..60 {
        let next = format!("#/components/schemas/S{}", level + 1);
        schemas.insert(format!("S{level}"), json!({ "allOf": [{ "$ref": next }] }));
    }
    schemas.insert("S60".to_owned(), json!({ "additionalProperties": true }));
    schemas["S0"]["unevaluatedProperties"] = false.into();
    let names: Vec<String> = (0..20_000).map(|number| format!("\"n{number}\":0")).collect();
    let body = format!("{{{}}}", names.join(","));
    body_is_costly(&with_body(schemas.into()), &body);
    // Names of the schema that are looked for again and again.
    let each: Map<String, Json> =
        (0..20_000).map(|number| (format!("n{number}"), json!([]))).collect();
    let schemas = doubling(14, json!({ "dependentRequired": each, "properties": { "a": false } }));
    body_is_costly(&with_body(schemas), "{\"a\":1}");
}

#[test]
fn what_is_small_is_asked_at_once() {
    let schema = json!({ "type": "object", "required": ["a"], "properties": { "a": { "type": "string", "pattern": r"^[\w.-]{1,253}$" } } });
    let document = with_body(json!({ "S0": schema }));
    let checks =
        judged(&document, &send("POST", "/x").with("content-type", "application/json")).body;
    let held = |bytes| Held { bytes, is_whole: true };
    let at_once = checks.judge_at_once(held(br#"{"a":"orders.shop.svc.cluster.local"}"#)).unwrap();
    assert_eq!(at_once.enforced, None);
    assert!(checks.judge_at_once(held(b"{}")).unwrap().enforced.is_some());
}

/// Whether an intention with these expressions can be read.
fn is_read(patterns: impl Iterator<Item = String>) -> Result<Intention, String> {
    let all: Map<String, Json> = patterns
        .enumerate()
        .map(|(number, pattern)| (format!("p{number}"), json!({ "pattern": pattern })))
        .collect();
    let document = with_body(json!({ "S0": { "properties": all } }));
    let read = Intention::read(&object("shop/schema", spec(&document)), Origin::Cluster, &home());
    read.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

#[test]
fn expressions_of_one_intention_have_one_sum_and_are_not_compiled_beyond_it() {
    let begun = Instant::now();
    let told = is_read((0..100).map(|number| format!("^[ab]{{1900}}[cd]x{number}$"))).unwrap_err();
    assert!(told.contains("more than 2 MiB together"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    // Equal ones are one.
    is_read((0..2_500).map(|_| "^[ab]{1000}[cd]x1$".to_owned())).unwrap();
    is_read((0..100).map(|number| format!("^[a-z0-9-]{{1,63}}{number}$"))).unwrap();
}
