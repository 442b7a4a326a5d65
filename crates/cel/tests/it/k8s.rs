//! The API server's own tests of its libraries.

use nullius_cel::{Activation, Budget, Env, Value, Version};
use serde_json::Value as Json;

use crate::conformance;

const FILE: &str = "k8s-cel-libs-332.json";
/// How many cases pass; the one that does not is a message, not an expression.
const REACHED: usize = 331;

#[test]
fn the_libraries_are_kubernetes_s() {
    let Some(cases) = conformance::cases(FILE) else { return };
    let env = Env::kubernetes(Version::minor(37)).with_mutation();
    let mut failed = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let name = format!("{}/{number}", case["lib"].as_str().unwrap_or_default());
        if let Err(why) = run(&env, case) {
            failed.push((name, format!("`{}` {why}", case["expr"].as_str().unwrap_or_default())));
        }
    }
    conformance::settle("k8s", &failed);
    assert_eq!(cases.len() - failed.len(), REACHED);
}

fn run(env: &Env, case: &Json) -> Result<(), String> {
    let source = case["expr"].as_str().unwrap_or_default();
    let wanted = &case["want"];
    let program = match env.compile(source) {
        Ok(_) if wanted == "compile_error" => return Err("compiles".to_owned()),
        Ok(program) => program,
        Err(_) if wanted == "compile_error" => return Ok(()),
        Err(errors) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Err(format!("does not compile: {}", errors.join("; ")));
        }
    };
    let activation = Activation::new();
    let outcome = program.evaluate(&activation, Budget::default());
    let value = match outcome.result {
        Err(_) if wanted == "error" => return Ok(()),
        Err(error) => return Err(format!("errs: {error}")),
        Ok(value) => value,
    };
    let fits = match wanted {
        Json::Bool(truth) => matches!(value, Value::Bool(found) if found == *truth),
        Json::String(kind) => match kind.as_str() {
            "ok" => true,
            "optnone" => matches!(value, Value::Optional(None)),
            "optsome" => matches!(value, Value::Optional(Some(_))),
            _ => false,
        },
        Json::Object(tagged) => match (&value, tagged.get("s"), tagged.get("i")) {
            (Value::String(text), Some(wanted), _) => wanted.as_str() == Some(text.as_str()),
            (Value::Int(number), _, Some(wanted)) => wanted.as_i64() == Some(*number),
            _ => false,
        },
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("is {value:?}, not {wanted}")) }
}
