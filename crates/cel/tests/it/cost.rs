//! Kubernetes' cost: what the API server 1.36 counted and estimated for each expression of a table that was measured with
//! its own libraries.

use nullius_cel::{Activation, Budget, Env, Type, Value, Version};
use serde_json::{Value as Json, json};

const MEASURED: &str = include_str!("costs.jsonl");

#[test]
fn cost_and_estimate_are_the_api_server_s() {
    let variables: Json = json!({
        "a": [1, 2, 3], "e": [], "o": [5], "t": [2, 1], "m": {"x": {"y": 1}, "q": "abc"}, "s": "abc",
        "n": null, "i": 3, "d": 1.5, "b": true,
        "pods": [{"name": "a", "ok": true, "labels": {"app": "x"}}, {"name": "bb", "ok": false}],
    });
    let mut env = Env::kubernetes(Version::minor(36)).with_mutation();
    let mut activation = Activation::new();
    for (name, value) in variables.as_object().unwrap() {
        env = env.with_variable(name, Type::Dyn);
        activation.set(name, Value::from_json(value));
    }
    let mut wrong = Vec::new();
    for line in MEASURED.lines() {
        let measured: Json = serde_json::from_str(line).unwrap();
        let source = measured["expr"].as_str().unwrap();
        let program = match env.compile(source) {
            Ok(program) => program,
            Err(errors) => {
                wrong.push(format!("`{source}` does not compile: {}", errors[0]));
                continue;
            }
        };
        let outcome = program.evaluate(&activation, Budget::default());
        let estimate = program.estimate();
        let ours = json!({
            "expr": source, "cost": outcome.cost, "min": estimate.min, "max": estimate.max,
        });
        if ours != measured {
            wrong.push(format!("{ours}\n  measured {measured}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
