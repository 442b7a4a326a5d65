//! Expressions and input that are made up: nothing panics, nothing outruns its budget, and where the parser's own
//! evaluator means the same, both say the same.

use nullius_cel::{Activation, Budget, Env, EvalError, Type, Value, Version, tagged};
use proptest::prelude::*;
use serde_json::Value as Json;

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-3_i64..4).prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[a-c]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map("[a-c]{1,2}", inner, 0..4).prop_map(Json::from_iter),
        ]
    })
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("v".to_owned()),
        Just("v.a".to_owned()),
        Just("v[0]".to_owned()),
        Just("x".to_owned()),
        (-3_i64..4).prop_map(|number| number.to_string()),
        Just("1u".to_owned()),
        Just("2.5".to_owned()),
        "'[a-c]{0,3}'".prop_map(|text| text),
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
    ];
    leaf.prop_recursive(4, 32, 3, |inner| {
        let operator = proptest::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in",
        ]);
        let fold = proptest::sample::select(vec![
            "all",
            "exists",
            "exists_one",
            "map",
            "filter",
            "sortBy",
            "transformList",
        ]);
        let method = proptest::sample::select(vec![
            "size()",
            "sort()",
            "distinct()",
            "sum()",
            "lowerAscii()",
            "split('')",
            "join()",
            "flatten()",
            "reverse()",
            "matches('a+')",
            "indexOf('a')",
            "hasValue()",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(one, operator, two)| format!("({one} {operator} {two})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(one, two, three)| format!("({one} ? {two} : {three})")),
            (inner.clone(), fold, inner.clone())
                .prop_map(|(range, fold, body)| format!("dyn({range}).{fold}(x, {body})")),
            (inner.clone(), method).prop_map(|(target, method)| format!("dyn({target}).{method}")),
            inner.clone().prop_map(|item| format!("[{item}, dyn({item})]")),
            inner.clone().prop_map(|item| format!("{{'k': {item}}}")),
            inner.clone().prop_map(|operand| format!("!({operand})")),
            inner.clone().prop_map(|operand| format!("has(dyn({operand}).a)")),
            inner.clone().prop_map(|operand| format!("dyn({operand}).?a.optMap(x, x)")),
            (inner.clone(), inner).prop_map(|(one, two)| format!("dyn({one})[{two}]")),
        ]
    })
}

/// Expressions of the API server's tests with pieces cut, doubled, exchanged or overwritten.
fn damaged() -> impl Strategy<Value = String> {
    let sources: Vec<String> = include_str!("costs.jsonl")
        .lines()
        .filter_map(|line| {
            Some(serde_json::from_str::<Json>(line).ok()?["expr"].as_str()?.to_owned())
        })
        .collect();
    let pieces = proptest::sample::select(vec![
        "(", ")", "[", ".map(x, ", "'", "?", ":", "0x", "\\", "r'", "{", "!", "-", "v", "é",
        "9e999",
    ]);
    let damage = (any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), 0..4, pieces);
    let parts = (proptest::sample::select(sources.clone()), proptest::sample::select(sources));
    (parts, proptest::collection::vec(damage, 1..5)).prop_map(|((source, other), damages)| {
        let mut characters: Vec<char> = source.chars().collect();
        for (from, to, kind, piece) in damages {
            let (one, two) = (from.index(characters.len() + 1), to.index(characters.len() + 1));
            let range = one.min(two)..one.max(two);
            match kind {
                0 => drop(characters.drain(range)),
                1 => drop(characters.splice(range, piece.chars())),
                2 => drop(characters.splice(one..one, other.chars())),
                _ => {
                    let doubled: Vec<char> = characters[range.clone()].to_vec();
                    drop(characters.splice(range.end..range.end, doubled));
                }
            }
        }
        characters.into_iter().collect()
    })
}

fn environments() -> Vec<Env> {
    let with = |env: Env| env.with_variable("v", Type::Dyn).with_variable("x", Type::Dyn);
    vec![
        with(Env::kubernetes(Version::FIRST)),
        with(Env::kubernetes(Version::LATEST)),
        with(Env::spec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_compiler_panic(source in "\\PC{0,60}") {
        for env in environments() {
            let _ = env.compile(&source);
        }
    }

    #[test]
    fn no_almost_expression_makes_it_panic(source in "[a-z0-9.()\\[\\]{}?:+*&|!'\"`, <>=-]{0,60}") {
        for env in environments() {
            let _ = env.compile(&source);
            let _ = env.compile_unchecked(&source);
        }
    }

    #[test]
    fn no_evaluation_outruns_its_budget(source in expression(), input in json(), limit in 0_u64..300) {
        for env in environments() {
            for program in [env.compile(&source), env.compile_unchecked(&source)].into_iter().flatten() {
                let activation = Activation::new()
                    .with("v", Value::from_json(&input))
                    .with("x", Value::Int(1));
                let free = program.evaluate(&activation, Budget::default());
                let budget = Budget { cost: limit, ..Budget::default() };
                let bounded = program.evaluate(&activation, budget);
                match &bounded.result {
                    Ok(value) => {
                        prop_assert!(bounded.cost <= limit);
                        prop_assert_eq!(free.cost, bounded.cost);
                        let _ = tagged::write(value);
                    }
                    Err(EvalError::CostLimit) => prop_assert!(bounded.cost > limit),
                    Err(_) => prop_assert!(bounded.cost <= limit),
                }
            }
        }
    }

    #[test]
    fn expressions_that_work_do_no_harm_when_they_are_damaged(source in damaged(), input in json()) {
        for env in environments() {
            for program in [env.compile(&source), env.compile_unchecked(&source)].into_iter().flatten() {
                let activation = Activation::new()
                    .with("v", Value::from_json(&input))
                    .with("x", Value::Int(1));
                let outcome = program.evaluate(&activation, Budget { cost: 20_000, ..Budget::default() });
                prop_assert!(outcome.cost <= 20_000 || matches!(outcome.result, Err(EvalError::CostLimit)));
            }
        }
    }

    #[test]
    fn the_estimate_bounds_the_cost(source in expression(), input in json()) {
        let env = Env::kubernetes(Version::LATEST)
            .with_variable("v", Type::Dyn)
            .with_variable("x", Type::Dyn);
        if let Ok(program) = env.compile(&source) {
            let activation =
                Activation::new().with("v", Value::from_json(&input)).with("x", Value::Int(1));
            let outcome = program.evaluate(&activation, Budget::default());
            let estimate = program.estimate();
            prop_assert!(estimate.min <= estimate.max);
            // Selections from `dyn` are not estimated, as in the API server.
            let selections = source.matches('.').count() as u64 * 40 + 40;
            if outcome.result.is_ok() && estimate.max < u64::MAX / 1000 {
                prop_assert!(outcome.cost <= estimate.max + selections, "{} {:?}", outcome.cost, estimate);
            }
        }
    }

    #[test]
    fn tagged_values_stay_what_they_are(input in json()) {
        let value = Value::from_json(&input);
        let written = tagged::write(&value);
        let read = tagged::read(&written).unwrap();
        prop_assert_eq!(written, tagged::write(&read));
    }

    #[test]
    fn arithmetic_is_the_parser_s_evaluator_s(source in arithmetic()) {
        let ours = Env::spec().compile_unchecked(&source).unwrap();
        let activation = Activation::new();
        let outcome = ours.evaluate(&activation, Budget::default()).result;
        let theirs = cel::Program::compile(&source).unwrap();
        let other = theirs.execute(&cel::Context::default());
        match (&outcome, &other) {
            (Ok(Value::Int(one)), Ok(cel::Value::Int(two))) => prop_assert_eq!(one, two),
            (Ok(Value::Bool(one)), Ok(cel::Value::Bool(two))) => prop_assert_eq!(one, two),
            (Ok(Value::String(one)), Ok(cel::Value::String(two))) => {
                prop_assert_eq!(one.as_str(), two.as_str());
            }
            (Err(_), Err(_)) => {}
            (one, two) => prop_assert!(false, "`{}`: {:?}, {:?}", source, one, two),
        }
    }
}

/// Expressions of which both evaluators say that they mean the same: numbers and text.
fn arithmetic() -> impl Strategy<Value = String> {
    let number = (-9_i64..10).prop_map(|number| format!("({number})"));
    let number = number.prop_recursive(4, 24, 2, |inner| {
        let operator = proptest::sample::select(vec!["+", "-", "*", "/", "%"]);
        (inner.clone(), operator, inner)
            .prop_map(|(one, operator, two)| format!("({one} {operator} {two})"))
    });
    let order = proptest::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let text = "'[a-c]{0,4}'".prop_map(|text| text);
    prop_oneof![
        number.clone(),
        (number.clone(), order, number)
            .prop_map(|(one, order, two)| format!("{one} {order} {two}")),
        (text.clone(), text).prop_map(|(one, two)| format!("{one} + {two}")),
    ]
}
