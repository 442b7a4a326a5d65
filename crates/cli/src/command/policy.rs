//! `nullius policy`: requests judged by admission policies in files, without a hub and without a cluster.

mod export;
mod text;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use nullius_admission::{Lacking, Person, State, own_faults, request_of};
use nullius_cel::Version;
use nullius_manifest::{
    Dialect, Fault as ManifestFault, Found, Manifest, Source, objects, parse, walk,
};
use nullius_model::Timestamp;
use nullius_policy::{
    admission_policy::{Decision, Fault, PolicySet, Refusal, Request, Violation},
    exception::Acceptance,
};
use serde_json::{Value as Json, json};

pub(super) use text::explain;

use crate::{
    args::{Judged, PolicyCommand, PolicyEval},
    failure::{Exit, Failure},
    output::{Printed, Single, json_value},
    stage::Stage,
};

/// Runs a command on policies.
pub(crate) fn run(stage: &mut Stage, command: &PolicyCommand) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Eval(PolicyEval { judged, explain: false }) => {
            answer(stage, judged, text::Depth::Short)
        }
        PolicyCommand::Eval(PolicyEval { judged, explain: true })
        | PolicyCommand::Explain(judged) => answer(stage, judged, text::Depth::Explained),
        PolicyCommand::Export(args) => export::run(stage, args),
    }
}

/// Judges a request and says what came of it.
fn answer(stage: &mut Stage, args: &Judged, depth: text::Depth) -> Result<Exit, Failure> {
    let set = policies(&args.policies, args.env, stage.now())?;
    let state = state(&args.state, stage.now())?;
    let request = request(args, &state, stage.now())?;
    let decision = judge(&state, &set, &request)?;
    let printed = Single {
        kind: "PolicyDecision",
        value: document(&decision)?,
        text: text::decision(&decision, &request, depth),
        name: if decision.refusal.is_some() { "denied" } else { "allowed" }.to_owned(),
    };
    let printed = printed.print(stage.global.output)?;
    let err = beside(&set, &state);
    stage.print(&Printed { err, ..printed })?;
    Ok(if decision.refusal.is_some() { Exit::Denied } else { Exit::Ok })
}

/// What a machine reads.
fn document(decision: &Decision) -> Result<Json, Failure> {
    let (code, reason, messages) = match &decision.refusal {
        None => (200, "", Vec::new()),
        Some(Refusal { code, reason, message, causes, .. }) => {
            let others = causes.iter().skip(1).cloned();
            (*code, reason.as_str(), std::iter::once(message.clone()).chain(others).collect())
        }
    };
    Ok(json!({
        "allowed": decision.refusal.is_none(),
        "code": code,
        "reason": reason,
        "messages": messages,
        "warnings": decision.warnings,
        "auditAnnotations": decision.audit_annotations,
        "patch": decision.patch,
        "accepted": decision.accepted.iter().map(accepted).collect::<Vec<_>>(),
        "trace": json_value(&decision.trace)?,
    }))
}

/// What was broken and accepted.
fn accepted((violation, acceptance): &(Violation, Acceptance)) -> Json {
    json!({
        "policy": violation.policy,
        "binding": violation.binding,
        "message": violation.message,
        "exception": acceptance.exception,
        "owner": acceptance.owner,
        "reason": acceptance.reason,
        "expires": acceptance.expires,
    })
}

/// What a person should know of the policies, whatever the request is.
fn beside(set: &PolicySet, state: &State) -> String {
    let unbound = set
        .unbound()
        .map(|name| format!("note: no binding names the policy `{name}`: it is for nothing\n"));
    let dangling = set.dangling().map(|(binding, policy)| {
        format!("note: the binding `{binding}` names the policy `{policy}`, which is not there\n")
    });
    let warnings = state.type_warnings(set).into_iter().map(|warning| {
        let told = warning.to_string().replace('\n', "\n      ");
        format!("note: an API server would warn of the policy `{}`: {told}\n", warning.policy)
    });
    unbound.chain(dangling).chain(warnings).collect()
}

/// A panic inside denies, as in the cluster.
fn judge(state: &State, set: &PolicySet, request: &Request) -> Result<Decision, Failure> {
    let judged = catch_unwind(AssertUnwindSafe(|| state.judge(set, request)));
    match judged {
        Ok(Ok(decision)) => Ok(decision),
        Ok(Err(lacking)) => Err(lacks(&lacking)),
        Err(_) => Err(Failure::new("the evaluation failed inside; such a request is denied")
            .next("report the policies and the request, they show a fault of this program")
            .exit_with(Exit::Denied)),
    }
}

fn lacks(Lacking(lacks): &Lacking) -> Failure {
    let what: Vec<&str> = lacks.iter().map(|lack| lack.what.as_str()).collect();
    let next: Vec<&str> = lacks.iter().map(|lack| lack.next.as_str()).collect();
    Failure::new("nothing can be said of the request: the state lacks what its policies ask for")
        .why(what.join("\n       "))
        .next(next.join("\n        "))
}

fn policies(paths: &[PathBuf], version: Version, now: Timestamp) -> Result<PolicySet, Failure> {
    let mut set = PolicySet::new(version);
    let mut wrong = Vec::new();
    let read = each_object(paths, &mut |source, manifest| {
        let faults = set.add(&manifest.to_json()).err().unwrap_or_default();
        wrong.extend(told_of(source, manifest, &faults));
        wrong.extend(own_of(source, manifest, now));
    });
    wrong.extend(read);
    if !wrong.is_empty() {
        return Err(unusable(&wrong, "judged"));
    }
    if set.is_empty() {
        return Err(no_policy(paths));
    }
    Ok(set)
}

/// What is wrong with a policy, each fault with its place.
fn told_of(source: &Source, manifest: &Manifest, faults: &[Fault]) -> Vec<String> {
    let what = format!("{} `{}`", manifest.kind, manifest.name());
    let told = |fault: &Fault| {
        let line = manifest.node().line_of(&fault.field);
        let told = fault.to_string().replace('\n', "\n         ");
        format!("{}:{line}: {what}: {told}", source.name)
    };
    faults.iter().map(told).collect()
}

/// What is wrong with an object of Nullius itself, each fault with its place.
fn own_of(source: &Source, manifest: &Manifest, now: Timestamp) -> Vec<String> {
    let told = |fault: ManifestFault| {
        let next = fault.next.map(|next| format!("; {next}")).unwrap_or_default();
        format!("{}:{}: {}{next}", source.name, fault.place.line, fault.message)
    };
    own_faults(manifest, now).into_iter().map(told).collect()
}

fn unusable(wrong: &[String], done: &str) -> Failure {
    Failure::new(format!("the policies cannot be used; nothing was {done}"))
        .why(wrong.join("\n       "))
        .next("mend what is named; an API server takes no such policy either")
}

fn no_policy(paths: &[PathBuf]) -> Failure {
    let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    Failure::new(format!("no policy stands in `{}`", names.join("`, `"))).why(
        "neither `ValidatingAdmissionPolicy` nor `MutatingAdmissionPolicy` is among its objects",
    )
}

fn state(paths: &[PathBuf], now: Timestamp) -> Result<State, Failure> {
    let mut state = State::at(now);
    let mut wrong = Vec::new();
    let read = each_object(paths, &mut |source, manifest| {
        let faults = own_of(source, manifest, now);
        if !faults.is_empty() {
            wrong.extend(faults);
        } else if let Err(error) = state.add(&manifest.to_json()) {
            wrong.push(format!("{}:{}: {error}", source.name, manifest.node().line));
        }
    });
    wrong.extend(read);
    if wrong.is_empty() {
        return Ok(state);
    }
    Err(Failure::new("the state cannot be used; nothing was judged").why(wrong.join("\n       ")))
}

fn request(args: &Judged, state: &State, now: Timestamp) -> Result<Request, Failure> {
    if let Some(path) = &args.request {
        let review = document_of(path)?;
        let read = match Request::unknown_field(&review) {
            Some(unknown) => Err(unknown),
            None => Request::of_review(review),
        };
        return read.map_err(|wrong| {
            Failure::new(format!("`{}` is no request", path.display()))
                .why(wrong.to_string())
                .next("give an `AdmissionReview` with its `request`, or an object by `--object`")
        });
    }
    let read = |path: &Option<PathBuf>| path.as_ref().map(|path| single(path, now)).transpose();
    let given = (read(&args.object)?, read(&args.old)?);
    let json = |manifest: &Option<Manifest>| manifest.as_ref().map(Manifest::to_json);
    let (object, old) = (json(&given.0), json(&given.1));
    let person = Person { username: &args.user, groups: &args.groups, namespace: &args.namespace };
    request_of(state, object.as_ref(), old.as_ref(), &person).map_err(|wrong| {
        let what = args.object.as_ref().or(args.old.as_ref());
        let shown = what.map(|path| path.display().to_string()).unwrap_or_default();
        let sides = [(&args.object, &given.0), (&args.old, &given.1)];
        let located: Vec<String> = sides.into_iter().flat_map(faults_of).collect();
        let why = if located.is_empty() { wrong.to_string() } else { located.join("\n       ") };
        Failure::new(format!("no request can be made of `{shown}`")).why(why)
    })
}

/// What no API server takes in the object of a file, with places.
fn faults_of((path, manifest): (&Option<PathBuf>, &Option<Manifest>)) -> Vec<String> {
    let (Some(path), Some(manifest)) = (path, manifest) else { return Vec::new() };
    let told = |fault: ManifestFault| {
        let next = fault.next.map(|next| format!("; {next}")).unwrap_or_default();
        format!("{}:{}: {}{next}", path.display(), fault.place.line, fault.message)
    };
    manifest.as_api_object().faults.into_iter().map(told).collect()
}

/// The one document of a file that may be no object of Kubernetes with a name: an `AdmissionRequest` by itself says no kind of
/// its own. What could be read in two ways is refused, as it is where a webhook reads.
fn document_of(path: &Path) -> Result<Json, Failure> {
    let shown = path.display();
    let unread =
        |why: String| Failure::new(format!("`{shown}` holds no request that can be read")).why(why);
    let mut read = Vec::new();
    walk(&[path.to_owned()], &mut io::stdin().lock(), &mut |source| {
        read.push(match source {
            Ok(source) => parse(&source.text, Dialect::Kubernetes)
                .map_err(|error| format!("line {}: {}", error.line, error.message)),
            Err(unreadable) => Err(unreadable.message),
        });
    });
    let documents: Vec<_> =
        read.into_iter().collect::<Result<Vec<_>, _>>().map_err(unread)?.concat();
    match documents.as_slice() {
        [document] => Ok(document.to_json()),
        [] => Err(unread("there is no document in it".to_owned())),
        _ => Err(Failure::new(format!("`{shown}` holds more than one document"))
            .next("give one request a file")),
    }
}

/// The one object of a file.
fn single(path: &Path, now: Timestamp) -> Result<Manifest, Failure> {
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    walk(&[path.to_owned()], &mut io::stdin().lock(), &mut |source| match source {
        Err(unreadable) => wrong.push(format!("{}: {}", unreadable.name, unreadable.message)),
        Ok(source) => objects(&source.text, |each| match each {
            Found::Object(manifest) => {
                let faults = own_faults(&manifest, now).into_iter();
                wrong.extend(faults.map(|it| format!("line {}: {}", it.place.line, it.message)));
                found.push(manifest);
            }
            Found::Other(place) => {
                wrong.push(format!("line {}: no object of Kubernetes", place.line))
            }
            Found::Fault(fault) => {
                wrong.push(format!("line {}: {}", fault.place.line, fault.message))
            }
        }),
    });
    let shown = path.display();
    match (found.pop(), found.is_empty(), wrong.is_empty()) {
        (Some(manifest), true, true) => Ok(manifest),
        (Some(_), false, true) => {
            Err(Failure::new(format!("`{shown}` holds more than one object"))
                .next("give one object a file"))
        }
        _ => Err(Failure::new(format!("`{shown}` holds no object that can be read"))
            .why(wrong.join("\n       "))),
    }
}

/// Hands over each object below the paths; what cannot be read is told.
fn each_object(paths: &[PathBuf], each: &mut dyn FnMut(&Source, &Manifest)) -> Vec<String> {
    let mut wrong = Vec::new();
    walk(paths, &mut io::stdin().lock(), &mut |source| match source {
        Err(unreadable) => wrong.push(format!("{}: {}", unreadable.name, unreadable.message)),
        Ok(source) => objects(&source.text, |found| match found {
            Found::Object(manifest) => each(&source, &manifest),
            Found::Other(_) => {}
            Found::Fault(fault) => {
                wrong.push(format!("{}:{}: {}", source.name, fault.place.line, fault.message));
            }
        }),
    });
    wrong
}
