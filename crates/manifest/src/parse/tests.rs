#![allow(clippy::unwrap_used, reason = "test")]
use nullius_model::FieldPath;
use serde_json::{Value, json};

use super::*;

fn one(text: &str) -> Node {
    let mut documents = parse(text, Dialect::Strict).unwrap();
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0)
}

fn error(text: &str) -> (usize, String) {
    let SyntaxError { line, message, .. } = parse(text, Dialect::Strict).unwrap_err();
    (line, message)
}

#[test]
fn scalars_follow_the_core_schema_of_yaml_1_2() {
    let text = "a: yes\nb: true\nc: 0o17\nd: 0x1F\ne: -3\nf: 1.5\ng: '1'\nh: ~\ni: 12e3\nj: 2026-01-01\nk: !!str 1\nl: 1:30\n";
    assert_eq!(
        one(text).to_json(),
        json!({ "a": "yes", "b": true, "c": 15, "d": 31, "e": -3, "f": 1.5, "g": "1", "h": null,
                "i": 12_000.0, "j": "2026-01-01", "k": "1", "l": "1:30" })
    );
}

#[test]
fn json_is_read_with_its_lines() {
    let node = one("{\n\t\"a\": [1,\n\t\t\"\\ud83d\\ude00\\/\"]\n}");
    assert_eq!(node.to_json(), json!({ "a": [1, "😀/"] }));
    assert_eq!(node.line_of("a[1]"), 3);
}

#[test]
fn a_field_is_found_by_its_path() {
    let node = one("# head\nspec:\n  rules:\n  - verbs: [get]\n  - verbs:\n    - list\n");
    assert_eq!(node.line_of("spec.rules[1].verbs"), 5);
    assert_eq!(node.line_of("spec.rules[1].verbs[0]"), 6);
    assert_eq!(node.line_of("spec.rules[7]"), 3);
    assert_eq!(node.line_of("metadata.name"), 2);
}

#[test]
fn documents_are_read_one_after_another_and_empty_ones_left_out() {
    let documents = parse("---\n# nothing\n---\na: 1\n...\n---\nb: 2\n", Dialect::Strict).unwrap();
    assert_eq!(documents.iter().map(|node| node.line).collect::<Vec<_>>(), [4, 7]);
    assert!(parse("", Dialect::Strict).unwrap().is_empty());
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    assert_eq!(error("a: 1\nb: 2\na: 3\n"), (3, "the key `a` stands twice".to_owned()));
    assert_eq!(error("x:\n  1: a\n").0, 2);
    assert_eq!(error("b: &b {c: 1}\na:\n  <<: *b\n").0, 3);
    assert_eq!(error("a: !secret x\n"), (1, "the tag `!secret` is not understood here".to_owned()));
    assert_eq!(error("a: !!int x\n").0, 1);
    assert_eq!(error("a: [1\nb: 2\n").0, 2);
}

#[test]
fn aliases_are_shared_but_counted_in_full() {
    assert_eq!(one("a: &x [1, 2]\nb: *x\n").to_json(), json!({ "a": [1, 2], "b": [1, 2] }));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert!(error(&bomb).1.starts_with("more than"));
}

fn kubernetes(text: &str) -> Value {
    let documents = parse(text, Dialect::Kubernetes).unwrap();
    assert_eq!(documents.len(), 1, "{text}");
    documents[0].to_json()
}

fn kubernetes_error(text: &str) -> (usize, usize, String) {
    let SyntaxError { line, column, message } = parse(text, Dialect::Kubernetes).unwrap_err();
    (line, column, message)
}

#[test]
fn kubernetes_yaml_is_read_as_kubectl_reads_it() {
    assert_eq!(
        kubernetes("a: yes\nb: 0644\n8080: x\ntrue: y\nc: !Ref x\nd: 'no'\n"),
        json!({ "a": true, "b": 420, "8080": "x", "true": true, "c": "x", "d": "no" })
    );
    assert_eq!(kubernetes_error("a: 1\n1: b\n'1': c\n").0, 3);
    assert_eq!(
        kubernetes_error("~: b\n"),
        (1, 1, "a key must be text; put it in quotes".to_owned())
    );
}

#[test]
fn merge_keys_bring_what_is_not_there() {
    let text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz:\n  <<: [*x, *y]\n  a: 0\n";
    assert_eq!(kubernetes(text)["z"], json!({ "a": 0, "b": 2, "c": 4 }));
    let (line, _, message) = kubernetes_error("x: &x {a: 1}\nz:\n  a: 0\n  <<: *x\n");
    assert_eq!(
        (line, message.as_str()),
        (4, "the merge changes `a`, which stands above it; put `<<` first in the mapping")
    );
    assert_eq!(kubernetes("'<<': 1\n"), json!({ "<<": 1 }));
    assert_eq!(kubernetes_error("<<: 1\n").2, "a merge key takes a mapping or a list of mappings");
}

#[test]
fn nothing_is_too_deep_to_be_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let nested = |depth: usize| open.repeat(depth) + &close.repeat(depth);
        assert!(parse(&nested(DEPTH_MAX), Dialect::Kubernetes).is_ok());
        assert!(kubernetes_error(&nested(DEPTH_MAX + 1)).2.contains("deep"));
        let _ = kubernetes_error(&nested(100_000));
    }
    let block: String = (0..5000).map(|depth| " ".repeat(depth) + "a:\n").collect();
    let _ = kubernetes_error(&block);
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for level in 1..200 {
        chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(kubernetes_error(&chain).2.contains("deep"));
}

#[test]
fn every_field_has_a_line_and_a_column() {
    let node = one(
        "# head\nspec:\n  containers:\n  - name: a\n    image: i\n  - {name: b,\n     image: j}\n",
    );
    let path = |index| FieldPath::of(&["spec", "containers"]).index(index);
    let at = |path: FieldPath| {
        let place = node.place_of(&path);
        (place.line, place.column)
    };
    assert_eq!(at(path(0)), (4, 5));
    assert_eq!(at(path(0).field("image")), (5, 5));
    assert_eq!(at(path(1).field("image")), (7, 6));
    assert_eq!(at(path(1).field("securityContext").field("privileged")), (6, 5));
    assert_eq!(at(FieldPath::of(&["metadata", "name"])), (2, 1));
    let lower = parse_from("a: 1\nb: [\n", Dialect::Kubernetes, 10).unwrap_err();
    assert!(lower.line >= 11, "{lower:?}");
}

#[test]
fn aliases_make_no_long_text_of_a_short_one() {
    let list = |items: usize, of: &str| format!("[{}]", vec![of; items].join(", "));
    let text = |items: usize, times: usize| {
        let first = list(items, "{name: a, value: b}");
        format!("a: &a {first}\nb: {}\n", list(times, "*a"))
    };
    let size = |items: usize| 1 + 3 * items;
    let times = ALIASED_MAX / size(100);
    let [read] = parse(&text(100, times), Dialect::Kubernetes).unwrap().try_into().unwrap();
    assert_eq!(read.child("b").unwrap().items().unwrap().len(), times);
    let short = text(100, times + 1);
    assert!(short.len() < 5000);
    let told = parse(&short, Dialect::Kubernetes).unwrap_err();
    assert_eq!(told.line, 2);
    assert_eq!(told.message, "aliases add more than 100000 values; write what is meant");
    // What stands there counts as before.
    let long = list(ALIASED_MAX / 2, "{a: b}");
    assert!(parse(&long, Dialect::Kubernetes).is_ok());
}

#[test]
fn lines_are_those_of_editors_also_where_yaml_ends_more_of_them() {
    let place = |text: &str| {
        let nodes = parse(text, Dialect::Kubernetes).unwrap();
        nodes[0].child("c").unwrap().place()
    };
    assert_eq!(place("a: 1\nb: 2\nc: 3\n"), Place { line: 3, column: 4 });
    assert_eq!(place("a: 1\r\nb: 2\r\nc: 3\r\n"), Place { line: 3, column: 4 });
    assert_eq!(place("a: 1\rb: 2\rc: 3\n"), Place { line: 1, column: 14 });
    assert_eq!(place("a: 1\r\r\rb: 2\nc: 3"), Place { line: 2, column: 4 });
    let error = parse("a: 1\r\r\r\n]", Dialect::Kubernetes).unwrap_err();
    assert_eq!(error.line, 2, "{error:?}");
}
