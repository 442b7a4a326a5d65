//! What each keyword of a schema means (JSON Schema 2020-12, Core and Validation): values that hold beside values that do not.

#![allow(clippy::unwrap_used, reason = "test")]

use nullius_fields::Faults;
use serde_json::{Value as Json, json};

use super::{
    schema::{Reader, Schemas},
    work::Rest,
};

/// Reads a schema; the faults that it has.
fn read(schema: &Json) -> Result<(usize, Schemas), Vec<String>> {
    let faults = Faults::new(|_| None);
    let mut reader = Reader::new(schema, &faults);
    let id = reader.schema("", schema);
    let schemas = reader.finish();
    if faults.count() == 0 {
        return Ok((id, schemas));
    }
    Err(faults.into_vec().into_iter().map(|fault| fault.message).collect())
}

#[track_caller]
fn means<const H: usize, const F: usize>(schema: Json, hold: [Json; H], fail: [Json; F]) {
    let (id, schemas) = read(&schema).unwrap();
    for value in hold {
        let held = schemas.check(id, &(&value).into(), &mut Rest::default().all());
        assert!(held.is_ok(), "{schema} holds for {value}: {held:?}");
    }
    for value in fail {
        let held = schemas.check(id, &(&value).into(), &mut Rest::default().all());
        assert!(held.is_err(), "{schema} does not hold for {value}");
    }
}

#[test]
fn truths_types_and_values() {
    means(json!(true), [json!(null), json!({ "a": 1 })], []);
    means(json!({}), [json!(1), json!([])], []);
    means(json!(false), [], [json!(null), json!({})]);
    means(json!({ "type": "null" }), [json!(null)], [json!(0), json!(""), json!(false), json!([])]);
    means(json!({ "type": "boolean" }), [json!(false)], [json!(0), json!("false"), json!(null)]);
    // A number without a part behind the point is whole, however it is written.
    means(
        json!({ "type": "integer" }),
        [json!(-3), json!(4.0), json!(1e3)],
        [json!(4.5), json!("4"), json!(true)],
    );
    means(json!({ "type": "number" }), [json!(4), json!(4.5)], [json!("4"), json!(null)]);
    means(json!({ "type": "string" }), [json!("")], [json!(1), json!(["a"])]);
    means(json!({ "type": "array" }), [json!([])], [json!({ "0": 1 }), json!("[]")]);
    means(json!({ "type": "object" }), [json!({})], [json!([]), json!(null)]);
    means(
        json!({ "type": ["string", "null"] }),
        [json!("a"), json!(null)],
        [json!(1), json!(false)],
    );
    means(
        json!({ "enum": [1, "one", null, [1, 2], { "a": { "b": 1 } }] }),
        [json!(1), json!(1.0), json!(null), json!([1, 2]), json!({ "a": { "b": 1.0 } })],
        [json!(true), json!("1"), json!([2, 1]), json!({ "a": {} }), json!(0)],
    );
    means(json!({ "const": null }), [json!(null)], [json!(0), json!("")]);
    means(json!({ "const": false }), [json!(false)], [json!(0), json!([]), json!([false])]);
    means(json!({ "const": 0 }), [json!(0), json!(0.0), json!(-0.0)], [json!(false), json!("")]);
    // Names have no order.
    means(
        json!({ "const": { "a": 1, "b": [true] } }),
        [json!({ "b": [true], "a": 1 })],
        [json!({ "a": 1 }), json!({ "a": 1, "b": [1] })],
    );
}

#[test]
fn numbers() {
    means(json!({ "minimum": 2.5 }), [json!(2.5), json!(3), json!("1")], [json!(2.4), json!(-9)]);
    means(json!({ "maximum": -2 }), [json!(-2), json!(-2.0), json!([])], [json!(-1.9), json!(0)]);
    means(json!({ "exclusiveMinimum": 7 }), [json!(7.01), json!(null)], [json!(7), json!(7.0)]);
    means(json!({ "exclusiveMaximum": 7 }), [json!(6.99), json!({})], [json!(7), json!(8)]);
    means(json!({ "multipleOf": 3 }), [json!(0), json!(-9), json!(9.0)], [json!(1), json!(9.5)]);
    // As it is written, not as a float of two has it.
    means(json!({ "multipleOf": 0.1 }), [json!(0.3), json!(1.1), json!(7)], [json!(0.35)]);
    means(json!({ "multipleOf": 0.0001 }), [json!(0.0075)], [json!(0.00751)]);
    // Neighbours that one float would stand for.
    means(
        json!({ "maximum": 9_007_199_254_740_992_u64 }),
        [json!(9_007_199_254_740_992_u64)],
        [json!(9_007_199_254_740_993_u64)],
    );
    means(json!({ "minimum": -9_223_372_036_854_775_807_i64 }), [], [json!(i64::MIN)]);
    means(json!({ "maximum": i64::MAX }), [json!(i64::MAX)], [json!(9_223_372_036_854_775_808.0)]);
    means(json!({ "maximum": u64::MAX }), [json!(u64::MAX)], [json!(18_446_744_073_709_551_616.0)]);
    // One value, however it is written.
    means(
        json!({ "const": 10_000_000_000_000_000_000_u64 }),
        [json!(1e19)],
        [json!(10_000_000_000_000_000_001_u64)],
    );
    means(json!({ "uniqueItems": true }), [], [json!([1e19, 10_000_000_000_000_000_000_u64])]);
}

#[test]
fn texts() {
    // By characters, not by bytes; what is drawn as one may be several.
    means(json!({ "minLength": 2 }), [json!("äö"), json!("🦀🦀"), json!(1)], [json!("🦀")]);
    means(
        json!({ "maxLength": 2 }),
        [json!("äö"), json!("🦀🦀"), json!([1, 2, 3])],
        [json!("abc")],
    );
    // Anywhere in the text, unless it says where.
    means(json!({ "pattern": "b+" }), [json!("abbc"), json!(7)], [json!("ac"), json!("")]);
    means(
        json!({ "pattern": "^[a-z]{2}$" }),
        [json!("ab")],
        [json!("abc"), json!("ab\n"), json!("AB")],
    );
    means(json!({ "pattern": r"^\d+$" }), [json!("12")], [json!("१२"), json!("1a")]);
    means(json!({ "pattern": r"^\w$" }), [json!("_")], [json!("é"), json!("-")]);
    means(json!({ "pattern": r"^\s$" }), [json!("\u{a0}"), json!("\u{feff}")], [json!("\u{85}")]);
    means(json!({ "pattern": r"^\u0041\x42$" }), [json!("AB")], [json!("ab")]);
    means(json!({ "pattern": r"^\p{Lu}+$" }), [json!("ÄB")], [json!("äB")]);
    means(json!({ "pattern": "^.$" }), [json!("🦀")], [json!("\n"), json!("ab")]);
    for (format, hold, fail) in [
        ("date", "2024-02-29", "2023-02-29"),
        ("date", "0001-01-31", "2024-1-31"),
        ("date-time", "2024-02-29T23:59:59Z", "2024-02-29 23:59:59Z"),
        ("date-time", "2024-06-30t12:00:00.25+05:30", "2024-06-30T12:00:00"),
        ("date-time", "1998-12-31T23:59:60Z", "2024-06-30T24:00:00Z"),
        ("ipv4", "10.0.0.255", "10.0.0.256"),
        ("ipv4", "0.0.0.0", "010.0.0.1"),
        ("ipv6", "fd00::1", "fd00::1%eth0"),
        ("ipv6", "::ffff:10.0.0.1", "1:2:3"),
        ("uuid", "0A1b2c3d-0000-4111-8222-333344445555", "0a1b2c3d000041118222333344445555"),
    ] {
        means(json!({ "format": format }), [json!(hold), json!(5)], [json!(fail)]);
    }
    means(
        json!({ "format": "int32" }),
        [json!(-2_147_483_648_i64), json!("x")],
        [json!(2_147_483_648_i64)],
    );
    means(json!({ "format": "int64" }), [json!(i64::MAX)], [json!(u64::MAX), json!(1.5)]);
    means(json!({ "pattern": r"^\<b\>$" }), [json!("<b>")], [json!("b")]);
    means(json!({ "pattern": r"^[\w-]+$" }), [json!("a-b")], [json!("a/b")]);
    for range in [r"^[.-\w]+$", r"[\w-~]", r"[!-\D]", r"[a\s-z]", r"[+-\p{L}]"] {
        assert!(read(&json!({ "pattern": range })).is_err(), "{range}");
    }
    // What nobody checks is a remark.
    means(json!({ "format": "colour" }), [json!("anything")], []);
}

#[test]
fn lists() {
    means(json!({ "minItems": 1 }), [json!([null]), json!("")], [json!([])]);
    means(json!({ "maxItems": 1 }), [json!([]), json!({ "a": 1, "b": 2 })], [json!([1, 2])]);
    means(
        json!({ "uniqueItems": true }),
        [
            json!([1, true]),
            json!([0, false]),
            json!([[1], [true]]),
            json!([{ "a": 1 }, { "a": 2 }]),
        ],
        [json!([1, 1.0]), json!([{ "a": 1, "b": 2 }, { "b": 2, "a": 1 }]), json!([null, 0, null])],
    );
    means(json!({ "uniqueItems": false }), [json!([1, 1])], []);
    means(
        json!({ "items": { "type": "integer" } }),
        [json!([]), json!([1, 2]), json!({ "0": "a" })],
        [json!([1, "2"])],
    );
    means(
        json!({ "prefixItems": [{ "type": "string" }, { "type": "integer" }] }),
        [json!([]), json!(["a"]), json!(["a", 1]), json!(["a", 1, null])],
        [json!([1]), json!(["a", "b"])],
    );
    means(
        json!({ "prefixItems": [{ "type": "string" }], "items": false }),
        [json!([]), json!(["a"])],
        [json!(["a", "b"])],
    );
    means(
        json!({ "contains": { "const": 5 } }),
        [json!([1, 5]), json!("5")],
        [json!([]), json!([4])],
    );
    means(
        json!({ "contains": { "const": 5 }, "minContains": 2, "maxContains": 3 }),
        [json!([5, 1, 5]), json!([5, 5, 5])],
        [json!([5]), json!([5, 5, 5, 5])],
    );
    means(json!({ "contains": { "const": 5 }, "minContains": 0 }), [json!([]), json!([1])], []);
    // Without `contains` there is nothing to count.
    means(json!({ "minContains": 3, "maxContains": 0 }), [json!([]), json!([1])], []);
}

#[test]
fn mappings() {
    means(json!({ "minProperties": 1 }), [json!({ "a": null }), json!([])], [json!({})]);
    means(json!({ "maxProperties": 1 }), [json!({}), json!("ab")], [json!({ "a": 1, "b": 2 })]);
    means(
        json!({ "required": ["a", "b\"c"] }),
        [json!({ "a": null, "b\"c": 1 }), json!(["a"])],
        [json!({ "a": 1 }), json!({})],
    );
    means(
        json!({ "dependentRequired": { "card": ["address", "name"] } }),
        [json!({}), json!({ "name": 1 }), json!({ "card": 1, "address": 2, "name": 3 })],
        [json!({ "card": 1, "name": 3 })],
    );
    means(
        json!({
            "properties": { "id": { "type": "integer" } },
            "patternProperties": { "^x-": { "type": "string" }, "y$": { "minLength": 2 } },
            "additionalProperties": { "type": "boolean" },
        }),
        [
            json!({ "id": 1, "x-a": "b", "other": true }),
            json!({ "x-y": "ab" }),
            json!({ "y": "ab" }),
        ],
        [
            json!({ "id": "1" }),
            json!({ "x-a": 1 }),
            // Both expressions fit.
            json!({ "x-y": "a" }),
            json!({ "other": 1 }),
        ],
    );
    means(
        json!({ "properties": { "a": {} }, "additionalProperties": false }),
        [json!({ "a": [] }), json!({}), json!(["b"])],
        [json!({ "a": 1, "b": 1 })],
    );
    // Servers that read names in any case would take it for the one that was looked at.
    means(
        json!({ "properties": { "count": { "minimum": 0 }, "state": {} } }),
        [json!({ "count": 1, "counts": 2 })],
        [json!({ "count": 1, "Count": -1 }), json!({ "COUNT": -1 }), json!({ "ſtate": 1 })],
    );
    // Not what another schema beside it knows.
    means(
        json!({ "allOf": [{ "properties": { "a": {} } }], "additionalProperties": false }),
        [json!({})],
        [json!({ "a": 1 })],
    );
    // Names that JavaScript has of its own are names.
    means(
        json!({ "properties": { "__proto__": { "type": "integer" }, "toString": { "type": "integer" } } }),
        [json!({}), json!({ "__proto__": 1 })],
        [json!({ "toString": "a" }), json!({ "__proto__": [] })],
    );
    means(
        json!({ "propertyNames": { "maxLength": 2, "pattern": "^[a-z]*$" } }),
        [json!({ "ab": 1 }), json!({}), json!("long text")],
        [json!({ "abc": 1 }), json!({ "A": 1 })],
    );
    means(
        json!({ "dependentSchemas": { "card": { "required": ["name"], "properties": { "name": { "type": "string" } } } } }),
        [json!({ "name": 1 }), json!({ "card": 1, "name": "a" })],
        [json!({ "card": 1 }), json!({ "card": 1, "name": 1 })],
    );
}

#[test]
fn several_schemas_together() {
    means(
        json!({ "allOf": [{ "minimum": 2 }, { "maximum": 4 }], "multipleOf": 2 }),
        [json!(2), json!(4), json!("a")],
        [json!(3), json!(6), json!(0)],
    );
    means(
        json!({ "anyOf": [{ "type": "integer" }, { "minimum": 2 }] }),
        [json!(1), json!(2.5), json!("a")],
        [json!(1.5)],
    );
    means(
        json!({ "oneOf": [{ "type": "integer" }, { "minimum": 2 }] }),
        [json!(1), json!(2.5)],
        [json!(3), json!(1.5)],
    );
    means(json!({ "oneOf": [true, true] }), [], [json!(1)]);
    means(json!({ "not": { "type": ["integer", "null"] } }), [json!("a")], [json!(1), json!(null)]);
    means(json!({ "not": { "not": { "const": 1 } } }), [json!(1)], [json!(2)]);
    let when = json!({ "if": { "required": ["a"] }, "then": { "required": ["b"] }, "else": { "required": ["c"] } });
    means(
        when,
        [json!({ "a": 1, "b": 1 }), json!({ "c": 1 })],
        [json!({ "a": 1, "c": 1 }), json!({ "b": 1 })],
    );
    means(json!({ "if": { "const": 1 } }), [json!(1), json!(2)], []);
    means(json!({ "then": false, "else": false }), [json!(1)], []);
    means(json!({ "if": false, "then": false }), [json!(1)], []);
}

#[test]
fn references() {
    let tree = json!({
        "$defs": { "node": {
            "type": "object", "required": ["value"], "additionalProperties": false,
            "properties": { "value": { "type": "integer" }, "below": { "type": "array", "items": { "$ref": "#/$defs/node" } } },
        } },
        "$ref": "#/$defs/node",
    });
    means(
        tree,
        [json!({ "value": 1 }), json!({ "value": 1, "below": [{ "value": 2, "below": [] }] })],
        [json!({ "value": 1, "below": [{ "value": 2, "below": [{ "value": "3" }] }] }), json!(1)],
    );
    // What stands beside a reference counts too.
    means(
        json!({ "$defs": { "a": { "type": "integer" } }, "$ref": "#/$defs/a", "minimum": 5 }),
        [json!(5)],
        [json!(4), json!("a")],
    );
    // Pointers may be escaped, as names in them and as parts of an address.
    means(
        json!({ "$defs": { "a/b~c d%": { "const": 1 } }, "$ref": "#/$defs/a~1b~0c%20d%25" }),
        [json!(1)],
        [json!(2)],
    );
    // A property of the name is no reference.
    means(
        json!({ "properties": { "$ref": { "type": "string" } } }),
        [json!({ "$ref": "#/nowhere" })],
        [json!({ "$ref": 1 })],
    );
    for target in
        ["#/$defs/none", "#", "https://example.org/a", "other.json", "#name", "a#/b", "#/%zz"]
    {
        let schema = json!({ "$ref": target });
        assert!(read(&schema).is_err(), "{target}");
    }
    // Never deeper into the value.
    for round in [
        json!({ "$ref": "#/$defs/a" }),
        json!({ "anyOf": [{ "allOf": [{ "$ref": "#/$defs/a" }] }] }),
        json!({ "not": { "$ref": "#/$defs/a" } }),
        json!({ "if": true, "then": { "$ref": "#/$defs/a" } }),
    ] {
        let schema = json!({ "$defs": { "a": round }, "$ref": "#/$defs/a" });
        let told = read(&schema).map(|_| ()).unwrap_err().join("; ");
        assert!(told.contains("refers to itself"), "{schema}: {told}");
    }
}

#[test]
fn what_nobody_has_looked_at() {
    means(
        json!({
            "allOf": [{ "properties": { "a": {} } }],
            "anyOf": [{ "required": ["b"], "properties": { "b": {} } }, { "required": ["c"], "properties": { "c": {} } }],
            "unevaluatedProperties": false,
        }),
        [json!({ "a": 1, "b": 1 }), json!({ "b": 1, "c": 1 })],
        [json!({ "a": 1 }), json!({ "b": 1, "d": 1 }), json!({ "b": 1, "z": { "a": 1 } })],
    );
    // A branch that did not hold has looked at nothing.
    means(
        json!({
            "if": { "properties": { "kind": { "const": "x" } }, "required": ["kind"] },
            "then": { "properties": { "x": {} } }, "else": { "properties": { "y": {} } },
            "unevaluatedProperties": false,
        }),
        [json!({ "kind": "x", "x": 1 }), json!({ "y": 1 })],
        [json!({ "kind": "y", "y": 1 }), json!({ "kind": "x", "y": 1 })],
    );
    means(
        json!({ "not": { "not": { "properties": { "a": {} } } }, "unevaluatedProperties": false }),
        [json!({})],
        [json!({ "a": 1 })],
    );
    means(
        json!({
            "$defs": { "base": { "properties": { "a": {} } } },
            "$ref": "#/$defs/base", "unevaluatedProperties": { "type": "integer" },
        }),
        [json!({ "a": "x", "b": 1 })],
        [json!({ "b": "x" })],
    );
    means(
        json!({ "allOf": [{ "prefixItems": [true] }], "contains": { "const": 7 }, "unevaluatedItems": false }),
        [json!(["a", 7]), json!([7])],
        [json!(["a", 7, 8]), json!(["a"])],
    );
    means(
        json!({ "allOf": [{ "items": true }], "unevaluatedItems": false }),
        [json!([1, 2, 3])],
        [],
    );
}

#[test]
fn what_is_of_another_time_or_place_is_refused_by_name() {
    for (name, value) in [
        ("nullable", json!(true)),
        ("definitions", json!({})),
        ("dependencies", json!({})),
        ("additionalItems", json!(false)),
        ("$id", json!("https://example.org/a")),
        ("$anchor", json!("a")),
        ("$dynamicRef", json!("#a")),
        ("minimun", json!(1)),
    ] {
        let told = read(&json!({ name: value })).map(|_| ()).unwrap_err().join("; ");
        assert!(!told.is_empty(), "{name}");
    }
    for wrong in [
        json!({ "type": "text" }),
        json!({ "type": [] }),
        json!({ "minLength": -1 }),
        json!({ "minimum": "1" }),
        json!({ "multipleOf": 0 }),
        json!({ "enum": 1 }),
        json!({ "required": "a" }),
        json!({ "pattern": "(" }),
        json!({ "pattern": "(?=a)b" }),
        json!({ "properties": [] }),
        json!({ "allOf": {} }),
        json!(1),
        json!("string"),
    ] {
        assert!(read(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn names_that_are_long_take_no_more_the_more_there_is_below_them() {
    let many: serde_json::Map<String, Json> =
        (0..4_000).map(|number| (format!("p{number}"), json!({}))).collect();
    let schema = json!({ "properties": { "a".repeat(100_000): { "properties": many } } });
    let told = read(&schema).map(|_| ()).unwrap_err().join("; ");
    assert!(told.contains("more than 2 MiB together"), "{told}");
}
