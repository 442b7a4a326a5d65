//! cel-go in the API server's own environment beside us: whether an expression compiles, to which type, within which
//! estimate, to which value or error, and what it costs.
//!
//! The expressions are made of `grammar.txt` and a seed (`NULLIUS_SEED`, so many as `NULLIUS_CASES` says), and stand in
//! `asked.txt`. What differs for a reason is in `exceptions.txt`, as `peer EXPRESSION`.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use nullius_cel::{Activation, Budget, Env, Type, Value, Version, tagged};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::{
    conformance,
    grammar::{Grammar, Random},
};

/// Expressions written by hand: `VERSION EXPRESSION` a line.
const ASKED: &str = include_str!("asked.txt");
/// So many are made where nobody says otherwise.
const CASES: u64 = 8_000;
const SEED: u64 = 20;
/// Where the peer's answers differ from each other: its maps have no order.
const AGAIN: usize = 12;

#[derive(Clone, Debug)]
struct Question {
    minor: u16,
    source: String,
}

/// What is made of an expression, by either side.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Answer {
    refused: Option<String>,
    #[serde(rename = "type")]
    of: String,
    value: Option<Json>,
    error: Option<String>,
    cost: u64,
    min: u64,
    max: u64,
}

#[test]
fn what_is_asked_is_what_the_api_server_answers() {
    let questions: Vec<Question> = ASKED
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (version, source) = line.split_once(' ').unwrap();
            let minor = version.strip_prefix("1.").unwrap().parse().unwrap();
            Question { minor, source: source.to_owned() }
        })
        .collect();
    let Some(differ) = compared(&questions) else { return };
    let differ: Vec<(String, String)> = differ
        .into_iter()
        .map(|difference| (difference.question.source.clone(), difference.told()))
        .collect();
    conformance::settle("peer", &differ);
}

#[test]
fn expressions_that_are_made_mean_what_they_mean_to_the_api_server() {
    let number = |name: &str, or| env::var(name).map_or(or, |value| value.parse().unwrap());
    let (seed, cases) = (number("NULLIUS_SEED", SEED), number("NULLIUS_CASES", CASES));
    let grammar = Grammar::read();
    let mut random = Random::of(seed);
    let questions: Vec<Question> = (0..cases)
        .map(|_| {
            let minor = if random.one_in(4) { 27 + random.below(9) } else { 36 };
            let minor = u16::try_from(minor).unwrap();
            Question { minor, source: grammar.expression(&mut random) }
        })
        .collect();
    let Some(mut differ) = compared(&questions) else { return };
    differ.sort_by_key(|difference| difference.question.source.len());
    let mut kinds = BTreeMap::<&str, usize>::new();
    differ.iter().for_each(|difference| *kinds.entry(difference.kind()).or_default() += 1);
    let told: Vec<String> = differ.iter().take(40).map(Difference::told).collect();
    assert!(
        differ.is_empty(),
        "{} of {cases} differ, {kinds:?}; NULLIUS_SEED={seed} asks the same again:\n{}",
        differ.len(),
        told.join("\n")
    );
}

#[derive(Debug)]
struct Difference {
    question: Question,
    ours: Answer,
    theirs: Answer,
}

impl Difference {
    /// The first thing that differs.
    fn kind(&self) -> &'static str {
        let (ours, theirs) = (&self.ours, &self.theirs);
        if ours.refused.is_some() != theirs.refused.is_some() {
            "compiles"
        } else if ours.of != theirs.of {
            "type"
        } else if ours.error.is_some() != theirs.error.is_some() {
            "errs"
        } else if ours.value != theirs.value {
            "value"
        } else if ours.error != theirs.error {
            "error"
        } else if ours.cost != theirs.cost {
            "cost"
        } else {
            "estimate"
        }
    }

    fn told(&self) -> String {
        let shown = |answer: &Answer| match (&answer.refused, &answer.error, &answer.value) {
            (Some(why), ..) => format!("refused: {}", why.lines().next().unwrap_or_default()),
            (_, Some(error), _) => format!("error: {error}"),
            (_, _, value) => value.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        let all = |answer: &Answer| {
            let Answer { of, cost, min, max, .. } = answer;
            format!("{} ({of}, cost {cost} of {min}..{max})", shown(answer))
        };
        let Question { minor, source } = &self.question;
        let (kind, ours, theirs) = (self.kind(), all(&self.ours), all(&self.theirs));
        format!("{kind}: 1.{minor} {source}\n  ours   {ours}\n  theirs {theirs}")
    }
}

/// The questions that are answered otherwise; `None`, said aloud, where there is no peer.
fn compared(questions: &[Question]) -> Option<Vec<Difference>> {
    if env::var_os("NULLIUS_TEST_STATE").is_none() {
        nullius_skip::skip("it needs Go: run the test with `cargo xtask test`");
        return None;
    }
    let asking = thread::scope(|scope| {
        let theirs = scope.spawn(|| their_answers(questions));
        let ours = our_answers(questions);
        (ours, theirs.join().unwrap())
    });
    let (ours, theirs) = asking;
    let differ = questions.iter().zip(ours).zip(theirs).filter_map(|((question, ours), theirs)| {
        let same = is_same(&ours, &theirs);
        (!same).then(|| Difference { question: question.clone(), ours, theirs })
    });
    let differ: Vec<Difference> = differ.collect();
    // The order of a map is not the same twice: what the peer itself answers in two ways is no difference.
    let again: Vec<Question> =
        differ.iter().flat_map(|difference| vec![difference.question.clone(); AGAIN]).collect();
    let answers = their_answers(&again);
    let stays = differ.into_iter().zip(answers.chunks(AGAIN)).filter_map(|(difference, again)| {
        let settled = again.iter().all(|answer| is_same(answer, &difference.theirs));
        (settled || !again.iter().any(|answer| is_same(answer, &difference.ours)))
            .then_some(difference)
    });
    Some(stays.collect())
}

fn is_same(ours: &Answer, theirs: &Answer) -> bool {
    if theirs.error.as_ref().is_some_and(|error| error.starts_with("panic: ")) {
        // It ends the API server's request without an answer: nothing can be the same.
        return true;
    }
    // What is refused is told in other words where the parser refuses it, and so is a panic that cel-go caught.
    if ours.refused.is_some() && theirs.refused.is_some() {
        return true;
    }
    if theirs.error.as_ref().is_some_and(|error| error.starts_with("internal error: ")) {
        return ours.error.is_some();
    }
    // A key that is not a number is in a map of Go's and cannot be found there.
    if theirs.value.as_ref().is_some_and(|value| value.to_string().contains(r#"{"t":"error"}"#)) {
        return true;
    }
    let told = |answer: &Answer| {
        let mut answer = answer.clone();
        answer.error = answer.error.as_deref().map(without_reasons);
        answer
    };
    told(ours) == told(theirs)
}

/// An error without what only Go tells so: why an address is none, and how its types are called.
fn without_reasons(error: &str) -> String {
    for told in [
        "unable to parse IP",
        "ParseAddr(",
        "ParsePrefix(",
        "invalid qualifier type: ",
        "unsupported conversion to ref.Val: ",
    ] {
        if let Some(at) = error.find(told) {
            return error[..at].to_owned();
        }
    }
    error.to_owned()
}

fn variables() -> Json {
    json!({
        "a": [1, 2, 3], "e": [], "o": [5], "t": [2, 1], "m": {"x": {"y": 1}, "q": "abc"}, "s": "abc",
        "n": null, "i": 3, "d": 1.5, "b": true, "x": 1, "k": "a",
        "pods": [{"name": "a", "ok": true, "labels": {"app": "x"}}, {"name": "bb", "ok": false}],
    })
}

fn our_answers(questions: &[Question]) -> Vec<Answer> {
    let variables = variables();
    let mut activation = Activation::new();
    for (name, value) in variables.as_object().unwrap() {
        activation.set(name, Value::from_json(value));
    }
    let environment = |minor| {
        let env = Env::kubernetes(Version::minor(minor)).with_mutation();
        let names = variables.as_object().unwrap().keys();
        names.fold(env, |env, name| env.with_variable(name, Type::Dyn))
    };
    let mut environments = BTreeMap::new();
    questions
        .iter()
        .map(|Question { minor, source }| {
            let env = environments.entry(*minor).or_insert_with(|| environment(*minor));
            let program = match env.compile(source) {
                Ok(program) => program,
                Err(mistakes) => {
                    let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                    return Answer { refused: Some(told.join("\n")), ..Answer::default() };
                }
            };
            let estimate = program.estimate();
            let outcome = program.evaluate(&activation, Budget::default());
            let (value, error) = match &outcome.result {
                Ok(value) => (Some(settled(&tagged::write(value))), None),
                Err(error) => (None, Some(error.to_string())),
            };
            let of = program.result_type().declared_name();
            let (min, max) = (estimate.min, estimate.max);
            Answer { refused: None, of, value, error, cost: outcome.cost, min, max }
        })
        .collect()
}

fn their_answers(questions: &[Question]) -> Vec<Answer> {
    let program = build();
    let mut peer = Command::new(program)
        .arg(variables().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, output) = (peer.stdin.take().unwrap(), peer.stdout.take().unwrap());
    let lines: Vec<String> = questions
        .iter()
        .map(|Question { minor, source }| {
            json!({"env": format!("1.{minor}"), "expr": source}).to_string()
        })
        .collect();
    let asking = thread::spawn(move || {
        for line in lines {
            writeln!(input, "{line}").unwrap();
        }
    });
    let answers: Vec<Answer> = BufReader::new(output)
        .lines()
        .map(|line| {
            let mut answer: Answer = serde_json::from_str(&line.unwrap()).unwrap();
            answer.value = answer.value.as_ref().map(settled);
            answer
        })
        .collect();
    asking.join().unwrap();
    assert!(peer.wait().unwrap().success());
    assert_eq!(answers.len(), questions.len());
    answers
}

/// A tagged value in the one form in which values are compared: numbers as they are, entries of a map in order.
fn settled(value: &Json) -> Json {
    match value {
        Json::Object(fields) if fields.get("t") == Some(&json!("double")) => {
            let number: f64 = fields["v"].as_str().unwrap().replace("Inf", "inf").parse().unwrap();
            json!({"t": "double", "v": format!("{number:e}")})
        }
        Json::Object(fields) if fields.get("t") == Some(&json!("map")) => {
            let mut pairs: Vec<Json> =
                fields["v"].as_array().unwrap().iter().map(settled).collect();
            pairs.sort_by_key(ToString::to_string);
            json!({"t": "map", "v": pairs})
        }
        Json::Object(fields) => {
            // The peer's values of these kinds say nothing of themselves; in strings they do.
            match fields.get("t").and_then(Json::as_str) {
                Some("ip") => return json!({"t": "net.IP"}),
                Some("cidr") => return json!({"t": "net.CIDR"}),
                Some("object") => return json!({"t": fields["n"]}),
                _ => {}
            }
            fields.iter().map(|(name, value)| (name.clone(), settled(value))).collect()
        }
        Json::Array(items) => items.iter().map(settled).collect(),
        other => other.clone(),
    }
}

fn build() -> std::path::PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("celanswers");
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/cluster");
    static BUILT: std::sync::Once = std::sync::Once::new();
    BUILT.call_once(|| {
        let built = Command::new("go")
            .args(["build", "-trimpath", "-o"])
            .arg(&program)
            .arg("./cmd/celanswers")
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-buildvcs=false")
            .current_dir(module)
            .output()
            .expect("Go 1.26 can be run");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    });
    program
}
