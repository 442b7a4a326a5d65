//! `nullius cel`: expressions as the API server of a version understands them, without a hub and without a cluster.

use std::{
    fs,
    io::{self, BufRead as _},
};

use nullius_cel::{Activation, Budget, Dialect, Env, Program, Type, Value, tagged};
use serde_json::{Map, Value as Json, json};

use crate::{
    args::{CelCommand, CelEval},
    failure::{Exit, Failure, file_failure},
    output::{Printed, Single},
    stage::Stage,
};

/// Evaluates.
pub(crate) fn run(stage: &mut Stage, command: &CelCommand) -> Result<Exit, Failure> {
    let CelCommand::Eval(args) = command;
    match &args.expr {
        Some(source) => eval(stage, args, source),
        None => batch(stage, args.env),
    }
}

fn eval(stage: &mut Stage, args: &CelEval, source: &str) -> Result<Exit, Failure> {
    let variables = match &args.vars {
        None => Map::new(),
        Some(path) => {
            let text =
                fs::read_to_string(path).map_err(|error| file_failure("read", path, error))?;
            match serde_json::from_str(&text) {
                Ok(Json::Object(variables)) => variables,
                Ok(_) => {
                    return Err(Failure::new(format!("`{}` holds no object", path.display()))
                        .next("write `{\"name\": value, …}`, one entry a variable"));
                }
                Err(error) => {
                    return Err(Failure::new(format!("`{}` is no JSON", path.display()))
                        .why(error.to_string()));
                }
            }
        }
    };
    let answer = answer(source, &variables, args.env)
        .map_err(|reason| Failure::new("the expression has no value").why(reason))?;
    let printed = Single {
        kind: "CelResult",
        value: json!({
            "env": args.env.to_string(),
            "value": answer.value,
            "type": answer.of,
            "cost": answer.cost,
            "estimate": { "min": answer.estimate.0, "max": answer.estimate.1 },
        }),
        text: format!("{}\n", answer.shown),
        name: answer.shown,
    };
    let printed = printed.print(stage.global.output)?;
    stage.print(&printed)
}

/// One line in, one line out; a line that cannot be read is answered with its error.
fn batch(stage: &mut Stage, env: Dialect) -> Result<Exit, Failure> {
    let mut out = String::new();
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|error| {
            Failure::new("standard input cannot be read").why(error.to_string())
        })?;
        if line.trim().is_empty() {
            continue;
        }
        let said = match serde_json::from_str::<Json>(&line) {
            Ok(case) => case_answer(&case, env),
            Err(error) => {
                json!({ "id": null, "error": format!("line {} is no JSON: {error}", number + 1) })
            }
        };
        out.push_str(&said.to_string());
        out.push('\n');
    }
    stage.print(&Printed { out, err: String::new() })
}

fn case_answer(case: &Json, env: Dialect) -> Json {
    let id = case.get("id").cloned().unwrap_or(Json::Null);
    let none = Map::new();
    let variables = case.get("vars").and_then(Json::as_object).unwrap_or(&none);
    let env = match case.get("env") {
        None | Some(Json::Null) => Ok(env),
        Some(Json::String(name)) => name.parse().map_err(|error| format!("{error}")),
        Some(_) => Err("`env` is no text".to_owned()),
    };
    let answered = match (case.get("expr").and_then(Json::as_str), env) {
        (Some(source), Ok(env)) => answer(source, variables, env),
        (None, _) => Err("`expr` is missing or no text".to_owned()),
        (_, Err(reason)) => Err(reason),
    };
    match answered {
        Ok(answer) => json!({ "id": id, "value": answer.value }),
        Err(reason) => json!({ "id": id, "error": reason }),
    }
}

/// What came of an expression.
struct Answer {
    value: Json,
    shown: String,
    of: String,
    cost: u64,
    estimate: (u64, u64),
}

fn answer(source: &str, variables: &Map<String, Json>, dialect: Dialect) -> Result<Answer, String> {
    let mut env = Env::of(dialect);
    if let Dialect::Kubernetes(_) = dialect {
        env = env.with_mutation();
    }
    let mut activation = Activation::new();
    for (name, json) in variables {
        env = env.with_variable(name, Type::Dyn);
        activation.set(name, variable(json));
    }
    let program = compile(&env, source, dialect)?;
    let outcome = program.evaluate(&activation, Budget::default());
    let value = outcome.result.map_err(|error| error.to_string())?;
    let estimate = program.estimate();
    Ok(Answer {
        value: tagged::write(&value),
        shown: shown(&value),
        of: program.result_type().declared_name(),
        cost: outcome.cost,
        estimate: (estimate.min, estimate.max),
    })
}

/// The specification lets an expression run that does not pass the checker; the API server does not.
fn compile(env: &Env, source: &str, dialect: Dialect) -> Result<Program, String> {
    env.compile(source).or_else(|errors| {
        let told = || errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        match dialect {
            Dialect::Spec => env.compile_unchecked(source).map_err(|_| told()),
            Dialect::Kubernetes(_) => Err(told()),
        }
    })
}

/// A variable in its tagged form, when it is one, else as plain JSON.
fn variable(json: &Json) -> Value<'_> {
    match json.get("t") {
        Some(Json::String(_)) => tagged::read(json).unwrap_or_else(|_| Value::from_json(json)),
        _ => Value::from_json(json),
    }
}

/// A value for people: as plain JSON where that says all, else tagged.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => format!("{number}u"),
        Value::Double(number) => format!("{number:?}"),
        Value::String(text) => Json::from(text.as_str()).to_string(),
        Value::List(list) => {
            let items: Vec<String> = list.iter().map(|item| shown(&item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let entries: Vec<String> = map
                .entries()
                .iter()
                .map(|(key, value)| format!("{}: {}", shown(key), shown(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Timestamp(time) => format!("timestamp(\"{time}\")"),
        Value::Duration(span) => format!("duration(\"{span}\")"),
        other => tagged::write(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(case: Json) -> Json {
        case_answer(&case, Dialect::Spec)
    }

    #[test]
    fn a_line_is_answered_by_a_line() {
        assert_eq!(
            said(json!({ "id": "a", "expr": "x + 1", "vars": { "x": { "t": "int", "v": "2" } } })),
            json!({ "id": "a", "value": { "t": "int", "v": "3" } })
        );
        assert_eq!(
            said(
                json!({ "id": 2, "expr": "x.y == 'z'", "vars": { "x": { "y": "z" } }, "env": "k8s-1.30" })
            ),
            json!({ "id": 2, "value": { "t": "bool", "v": true } })
        );
        assert_eq!(
            said(json!({ "id": "e", "expr": "1 / 0" })),
            json!({ "id": "e", "error": "division by zero" })
        );
        assert_eq!(said(json!({ "expr": 1 }))["error"], json!("`expr` is missing or no text"));
        let unknown = said(json!({ "id": "v", "expr": "1", "env": "k8s-1.9" }));
        assert!(unknown["error"].as_str().is_some_and(|text| text.contains("`k8s-1.9`")));
    }

    #[test]
    fn the_api_server_s_checker_refuses_what_the_specification_lets_run() {
        let mixed = json!({ "id": 1, "expr": "[1, 'a'].size()" });
        assert_eq!(said(mixed.clone())["value"], json!({ "t": "int", "v": "2" }));
        let refused = case_answer(&mixed, Dialect::Kubernetes(nullius_cel::Version::LATEST));
        assert!(refused["error"].as_str().is_some_and(|text| text.contains("expected type 'int'")));
    }
}
