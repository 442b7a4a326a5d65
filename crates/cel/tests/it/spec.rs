//! The conformance tests of the language: every case that needs no protocol buffers.

use nullius_cel::{Activation, Budget, Env, Type, Value, tagged};
use serde_json::Value as Json;

use crate::conformance;

const FILE: &str = "cel-spec-simple-2456.json";
/// How many cases pass, of those without protocol buffers.
const REACHED: usize = 1_711;
const CASES: usize = 1_754;

#[test]
fn the_language_is_the_specification_s() {
    let Some(cases) = conformance::cases(FILE) else { return };
    let cases: Vec<&Json> = cases.iter().filter(|case| case["proto"] == false).collect();
    assert_eq!(cases.len(), CASES);
    let mut failed = Vec::new();
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for case in &cases {
        let mut name =
            format!("{}/{}/{}", text(case, "file"), text(case, "section"), text(case, "name"));
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            name = format!("{name}#{count}");
        }
        if let Err(why) = run(case) {
            failed.push((name, format!("`{}` {why}", text(case, "expr"))));
        }
    }
    conformance::settle("spec", &failed);
    assert_eq!(cases.len() - failed.len(), REACHED);
}

fn text<'c>(case: &'c Json, field: &str) -> &'c str {
    case[field].as_str().unwrap_or_default()
}

fn run(case: &Json) -> Result<(), String> {
    let mut env = Env::spec().with_container(text(case, "container"));
    let mut activation = Activation::new();
    for (name, value) in case["bindings"].as_object().into_iter().flatten() {
        env = env.with_variable(name, Type::Dyn);
        activation.set(name, tagged::read(value).map_err(|error| error.to_string())?);
    }
    let source = text(case, "expr");
    let wants_error = text(case, "rm") == "eval_error";
    let compiled = if case["disable_check"] == true {
        env.compile_unchecked(source)
    } else {
        env.compile(source)
    };
    let program = match compiled {
        Ok(program) => program,
        Err(_) if wants_error => return Ok(()),
        Err(errors) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Err(format!("does not compile: {}", errors.join("; ")));
        }
    };
    if case["check_only"] == true {
        return Ok(());
    }
    let outcome = program.evaluate(&activation, Budget::default());
    match outcome.result {
        Err(_) if wants_error => Ok(()),
        Err(error) => Err(format!("errs: {error}")),
        Ok(value) if wants_error => Err(format!("should err, is {}", tagged::write(&value))),
        Ok(value) => {
            let wanted = match case.get("value") {
                Some(wanted) if !wanted.is_null() => {
                    tagged::read(wanted).map_err(|error| error.to_string())?
                }
                _ => Value::Bool(true),
            };
            if same(&value, &wanted) {
                Ok(())
            } else {
                Err(format!("is {}, not {}", tagged::write(&value), tagged::write(&wanted)))
            }
        }
    }
}

/// Equal in value and in type, all the way down; NaN is NaN.
fn same(one: &Value<'_>, two: &Value<'_>) -> bool {
    match (one, two) {
        (Value::Double(one), Value::Double(two)) => {
            one.to_bits() == two.to_bits() || one == two || (one.is_nan() && two.is_nan())
        }
        (Value::List(one), Value::List(two)) => {
            one.len() == two.len() && one.iter().zip(two.iter()).all(|(one, two)| same(&one, &two))
        }
        (Value::Map(one), Value::Map(two)) => {
            one.len() == two.len()
                && one
                    .entries()
                    .iter()
                    .all(|(key, value)| two.get(key).is_some_and(|other| same(value, &other)))
        }
        (one, two) => tagged::write(one) == tagged::write(two),
    }
}
