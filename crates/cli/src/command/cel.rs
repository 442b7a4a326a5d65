//! `nullius cel`: expressions as the API server of a version understands them, without a hub and without a cluster.

mod strict;

use std::{
    fs,
    io::{self, BufRead as _},
};

use nullius_cel::{Activation, Budget, Dialect, Env, Program, Type, Value, tagged};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value as Json, json};

use strict::Strict;

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
            match serde_json::from_str(&text).map(|Strict(vars)| vars) {
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
    for (number, line) in io::stdin().lock().split(b'\n').enumerate() {
        let line = line.map_err(|error| {
            Failure::new("standard input cannot be read").why(error.to_string())
        })?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        out.push_str(&line_answer(&line, number + 1, env).to_string());
        out.push('\n');
    }
    stage.print(&Printed { out, err: String::new() })
}

/// A line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    id: Json,
    #[serde(default)]
    expr: Json,
    #[serde(default)]
    vars: Json,
    #[serde(default)]
    env: Json,
}

fn line_answer(line: &[u8], number: usize, env: Dialect) -> Json {
    let wrong = |error: String| json!({ "id": null, "error": error });
    let Ok(line) = str::from_utf8(line) else {
        return wrong(format!("line {number} is no UTF-8 text"));
    };
    if let Err(error) = serde_json::from_str::<IgnoredAny>(line) {
        return wrong(format!("line {number} is no JSON: {error}"));
    }
    let read = serde_json::from_str::<Strict>(line).and_then(|Strict(line)| match line {
        Json::Object(_) => Case::deserialize(line),
        _ => Err(serde::de::Error::custom("it is no object")),
    });
    match read {
        Ok(case) => case_answer(&case, env),
        Err(error) => wrong(format!("line {number} is no case: {error}")),
    }
}

fn case_answer(case: &Case, env: Dialect) -> Json {
    let Case { id, expr, vars, env: named } = case;
    let none = Map::new();
    let variables = match vars {
        Json::Null => Ok(&none),
        Json::Object(variables) => Ok(variables),
        _ => Err("`vars` is no object".to_owned()),
    };
    let env = match named {
        Json::Null => Ok(env),
        Json::String(name) => name.parse().map_err(|error| format!("{error}")),
        _ => Err("`env` is no text".to_owned()),
    };
    let answered = match (expr.as_str(), env, variables) {
        (Some(source), Ok(env), Ok(variables)) => answer(source, variables, env),
        (None, ..) => Err("`expr` is missing or no text".to_owned()),
        (_, Err(reason), _) | (.., Err(reason)) => Err(reason),
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
        activation.set(name, variable(name, json)?);
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

/// A variable in its tagged form, when it has one, else as plain JSON. What has that form and is wrong is neither.
fn variable<'a>(name: &str, json: &'a Json) -> Result<Value<'a>, String> {
    match tagged::read(json) {
        Ok(value) => Ok(value),
        Err(error) if tagged::has_tag(json) => Err(format!("the variable `{name}`: {error}")),
        Err(_) => Ok(Value::from_json(json)),
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
        line_answer(case.to_string().as_bytes(), 1, Dialect::Spec)
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
    fn what_could_mean_two_things_is_told_and_ends_no_other_line() {
        let told = |line: &[u8]| {
            let said = line_answer(line, 7, Dialect::Spec);
            said["error"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(told(b"{\"expr\": \"'\xff'\"}"), "line 7 is no UTF-8 text");
        assert!(told(b"{").starts_with("line 7 is no JSON"));
        let twice = told(b"{\"expr\": \"1\", \"expr\": \"2\"}");
        assert!(twice.contains("line 7 is no case: duplicate field `expr`"), "{twice}");
        assert_eq!(told(b"{\"expr\": \"1\", \"vars\": [1]}"), "`vars` is no object");
        let twice = told(b"{\"expr\": \"x\", \"vars\": {\"x\": 1, \"x\": 2}}");
        assert!(twice.contains("line 7 is no case: duplicate field `x`"), "{twice}");
        let unknown = told(b"{\"expr\": \"x\", \"container\": \"a\"}");
        assert!(unknown.contains("unknown field `container`"), "{unknown}");
        assert_eq!(told(b"[\"p\", \"1 + 1\", {}, \"spec\"]"), "line 7 is no case: it is no object");
        let long = r#"{"expr": "x", "vars": {"x": {"t": "int", "v": "99999999999999999999"}}}"#;
        assert!(told(long.as_bytes()).contains("the variable `x`: "), "{}", told(long.as_bytes()));
        // An object that only looks like it is what it says.
        let plain = json!({ "expr": "x.t", "vars": { "x": { "t": "int", "v": "many", "w": 2 } } });
        assert_eq!(said(plain)["value"], json!({ "t": "string", "v": "int" }));
    }

    #[test]
    fn the_api_server_s_checker_refuses_what_the_specification_lets_run() {
        let mixed = json!({ "id": 1, "expr": "[1, 'a'].size()" });
        assert_eq!(said(mixed.clone())["value"], json!({ "t": "int", "v": "2" }));
        let latest = Dialect::Kubernetes(nullius_cel::Version::LATEST);
        let refused = line_answer(mixed.to_string().as_bytes(), 1, latest);
        assert!(refused["error"].as_str().is_some_and(|text| text.contains("expected type 'int'")));
    }
}
