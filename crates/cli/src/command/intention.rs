//! `nullius intention`: calls between workloads judged by the intentions of files, without a hub and without a cluster.

mod form;
mod intake;
mod question;
mod test;
mod text;
mod token;

use std::{fs, io, path::Path};

use nullius_intention::Home;
use serde_json::{Value as Json, json};

use crate::{
    args::{IntentionCommand, IntentionExplain},
    failure::{Exit, Failure, file_failure},
    output::Single,
    stage::Stage,
};
use intake::{Gathered, gather};
use question::{Answer, Asked, Question, Spoken, Word};
use token::Shown;

/// Runs a command on intentions.
pub(crate) fn run(stage: &mut Stage, command: &IntentionCommand) -> Result<Exit, Failure> {
    match command {
        IntentionCommand::Explain(args) => explain(stage, args),
        IntentionCommand::Test(args) => test::run(stage, args),
    }
}

/// Judges one call and says why.
fn explain(stage: &mut Stage, args: &IntentionExplain) -> Result<Exit, Failure> {
    let home = Home::of(args.trust_domain.clone());
    let gathered = gather(&args.files.files, &args.fleet, &home, &mut io::stdin().lock());
    if !gathered.faults.is_empty() {
        return Err(unusable(&gathered));
    }
    if gathered.intentions.is_empty() {
        stage
            .tell("note: no `Intention` is among the objects: whatever is not allowed is denied\n");
    }
    let now = args.at.unwrap_or_else(|| stage.now());
    let shown = token::shown(args, &gathered, now)?;
    let question = question(args, &home, shown.as_ref())?;
    let answer = question.ask(&gathered, now);
    let mut value = document(&question, &answer, &gathered);
    let mut text = text::answer(&question, &answer, &gathered);
    if let Some(shown) = &shown {
        value["token"] = shown.document();
        text.push_str(&shown.text());
    }
    let single =
        Single { kind: "IntentionDecision", value, text, name: answer.word.as_str().to_owned() };
    stage.single(single)?;
    Ok(match answer.word {
        Word::Allowed => Exit::Ok,
        Word::Denied | Word::Requests => Exit::Denied,
    })
}

fn unusable(gathered: &Gathered) -> Failure {
    let told: Vec<String> = gathered.faults.iter().map(ToString::to_string).collect();
    let what = match told.len() {
        1 => "an intention cannot be used; nothing was judged".to_owned(),
        count => format!("{count} faults in intentions; nothing was judged"),
    };
    Failure::new(what)
        .why(told.join("\n       "))
        .next("mend what is named; a cluster would refuse it too")
}

fn question(
    args: &IntentionExplain,
    home: &Home,
    shown: Option<&Shown>,
) -> Result<Question, Failure> {
    let usage = |flag: &str| {
        let flag = flag.to_owned();
        move |why: String| Failure::usage(format!("`{flag}` cannot be understood")).why(why)
    };
    let (source, address) = question::caller(&args.from, args.from_address, &args.namespace, home)
        .map_err(usage("--from"))?;
    let (destination, port) =
        question::called(&args.to, &args.labels, &args.namespace).map_err(usage("--to"))?;
    let has_request = args.request.is_some()
        || args.method.is_some()
        || args.path.is_some()
        || args.body.is_some()
        || shown.is_some()
        || args.host.is_some()
        || !args.headers.is_empty();
    let (method, path) = match &args.request {
        Some((method, path)) => (Some(method), Some(path)),
        None => (args.method.as_ref(), args.path.as_ref()),
    };
    let or =
        |text: Option<&String>, other: &str| text.map_or_else(|| other.to_owned(), Clone::clone);
    let body = args.body.as_ref().map(|text| match text.strip_prefix('@') {
        Some(file) => fs::read(file).map_err(|error| file_failure("read", Path::new(file), error)),
        None => Ok(text.clone().into_bytes()),
    });
    let spoken = match (args.tcp, has_request) {
        (true, _) => Spoken::Tcp,
        (false, false) => Spoken::Http,
        (false, true) => Spoken::Request(Asked {
            method: or(method, "GET"),
            target: or(path, "/"),
            host: args.host.clone().unwrap_or_else(|| destination.service_account.clone()),
            headers: args.headers.clone(),
            token: shown.and_then(Shown::token),
            body: body.transpose()?,
        }),
    };
    Ok(Question { source, address, destination, port, spoken })
}

/// What a machine reads.
fn document(question: &Question, answer: &Answer, gathered: &Gathered) -> Json {
    let at = |id| gathered.place_of(id).map(|place| place.label());
    let left: Vec<Json> = answer
        .left
        .iter()
        .map(|rule| {
            let permissions: Vec<Json> = rule
                .permissions()
                .iter()
                .map(|permission| {
                    json!({ "id": permission.id(), "action": permission.action(), "at": at(permission.id()) })
                })
                .collect();
            json!({
                "intention": rule.intention(), "tier": rule.tier().as_str(), "source": rule.index(),
                "for": rule.subject().to_string(), "precedence": rule.precedence(), "permissions": permissions,
            })
        })
        .collect();
    let shadow = answer.shadow.as_ref().map(|shadow| {
        json!({ "allowed": shadow.allowed, "explanation": shadow.explanation, "permission": shadow.permission })
    });
    json!({
        "from": question.source.as_ref().map(ToString::to_string),
        "address": question.address,
        "to": question.destination.to_string(),
        "port": question.port,
        "verdict": answer.word.as_str(),
        "explanation": answer.explanation,
        "permission": answer.permission,
        "at": answer.permission.as_ref().and_then(at),
        "recorded": answer.recorded,
        "endsAt": answer.ends_at,
        "left": left,
        "schemas": answer.schemas,
        "shadow": shadow,
    })
}
