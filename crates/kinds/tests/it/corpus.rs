//! What Kubernetes' own code makes of random objects of every kind.
//!
//! `corpus.jsonl` is made by `cargo xtask generate`: each line is an object as somebody writes it, with gaps, nulls and
//! empty values, and the same object after Kubernetes' decoding, defaults and conversions.

use nullius_kinds::{Form, Table, normalize};
use serde_json::Value;

const CORPUS: &str = include_str!("corpus.jsonl");

fn examples() -> impl Iterator<Item = (Value, Value)> {
    CORPUS.lines().map(|line| {
        let mut example: Value = serde_json::from_str(line).unwrap();
        (example["in"].take(), example["out"].take())
    })
}

#[test]
fn objects_become_what_kubernetes_makes_of_them() {
    let mut kinds = std::collections::BTreeSet::new();
    let mut different = Vec::new();
    for (before, after) in examples() {
        let normalized = match normalize(&before) {
            Ok(normalized) => normalized,
            Err(faults) => {
                different.push(format!(
                    "{} {} refused: {faults:?}",
                    before["apiVersion"], before["kind"]
                ));
                continue;
            }
        };
        assert_eq!(normalized.form, Form::Builtin, "{before}");
        if !normalized.dropped.is_empty() {
            different.push(format!(
                "{} {} dropped: {:?}",
                before["apiVersion"], before["kind"], normalized.dropped
            ));
        }
        kinds.insert((after["apiVersion"].to_string(), after["kind"].to_string()));
        let mut told = Vec::new();
        differences(&normalized.object, &after, String::new(), &mut told);
        if !told.is_empty() {
            different.push(format!(
                "{} {}: {}",
                before["apiVersion"],
                before["kind"],
                told.join("; ")
            ));
        }
    }
    let count = different.len();
    assert!(different.is_empty(), "{count} differ:\n{}", different.join("\n"));
    assert_eq!(kinds.len(), Table::builtin().kinds().count());
}

fn differences(ours: &Value, theirs: &Value, path: String, told: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(one), Value::Object(two)) => {
            let keys: std::collections::BTreeSet<_> = one.keys().chain(two.keys()).collect();
            for key in keys {
                let below = format!("{path}.{key}");
                match (one.get(key), two.get(key)) {
                    (Some(one), Some(two)) => differences(one, two, below, told),
                    (one, two) => told.push(format!("{below}: {one:?} instead of {two:?}")),
                }
            }
        }
        (Value::Array(one), Value::Array(two)) if one.len() == two.len() => {
            for (index, (one, two)) in one.iter().zip(two).enumerate() {
                differences(one, two, format!("{path}[{index}]"), told);
            }
        }
        (one, two) if one == two => {}
        (one, two) => told.push(format!("{path}: {one} instead of {two}")),
    }
}

#[test]
fn what_was_read_twice_stays_as_it_is() {
    // Once is not enough: an empty list that stands in the way of a default is not written.
    for (_, after) in examples() {
        let twice = normalize(&after).unwrap().object;
        assert_eq!(normalize(&twice).unwrap().object, twice);
    }
}
