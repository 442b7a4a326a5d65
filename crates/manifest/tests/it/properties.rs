//! What holds for any text.

use nullius_manifest::{Dialect, Found, objects, parse};
use proptest::prelude::*;

fn yaml_like() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "---\n",
        "kind: Pod\n",
        "apiVersion: v1\n",
        "items:\n",
        "spec:\n",
        "metadata: {name: a, labels: [1], ",
        "containers:\n",
        "resources: {limits: {cpu: 1000m}}\n",
        "hostNetwrok: yes\n",
        "- ",
        "  ",
        "a: ",
        "&x ",
        "*x",
        "<<: ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        "\t",
        "|\n",
        "\"",
        "'",
        "!!int ",
        "~",
        "0x1f",
        "1e9",
        ".inf",
        "yes",
        "{{ .x }}",
        "é",
        "#",
        ":",
    ]);
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_a_place_in_it(text in prop_oneof![yaml_like(), any::<String>()]) {
        let lines = text.lines().count() + 1;
        for dialect in [Dialect::Strict, Dialect::Kubernetes] {
            if let Err(error) = parse(&text, dialect) {
                prop_assert!((1..=lines).contains(&error.line), "{error:?}");
            }
        }
        objects(&text, |found| match found {
            Found::Object(object) => {
                assert!((1..=lines).contains(&object.node().line));
                let _ = object.to_json();
                for fault in object.as_api_object().faults {
                    assert!((1..=lines).contains(&fault.place.line), "{fault:?}");
                }
            }
            Found::Other(place) => assert!((1..=lines).contains(&place.line)),
            Found::Fault(fault) => assert!((1..=lines).contains(&fault.place.line), "{fault:?}"),
        });
    }

    #[test]
    fn json_is_read_as_json(value in json()) {
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let nodes = parse(&text, Dialect::Kubernetes).unwrap();
            prop_assert_eq!(nodes.first().map_or(serde_json::Value::Null, |node| node.to_json()), value.clone());
        }
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        "[a-z<\\\\\"\n{}: #é-]{0,6}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map("[a-z./<]{0,5}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}
