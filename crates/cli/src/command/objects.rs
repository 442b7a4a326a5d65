//! `apply`, `get`, `describe`, `delete`, `diff`, `edit`.

use std::io;

use nullius_api::ObjectChange;
use nullius_model::{AnyObject, Kind, ObjectName};
use serde_json::{Value, json};

use crate::{
    args::{self, Selector},
    client::Hub,
    environment::Confirmed,
    failure::{Chain, Exit, Failure},
    object::{
        apply::{self, Applied},
        columns,
        describe::describe as described,
        diff,
        document::{self, Document},
        edit::{self as editor, Edited},
        remote,
    },
    output::{
        Format, Listing, Printed, escape, json_text, json_value, only_differences, only_exports,
        only_findings, only_graphs, yaml_text,
    },
    stage::{Asked, Stage, declined},
};

/// Creates or changes the objects of files.
pub(crate) async fn apply(stage: &mut Stage, args: args::Apply) -> Result<Exit, Failure> {
    let mut documents = read_files(&args.files.files)?;
    documents.sort_by_key(|document| apply::rank(document.object.kind()));
    let hub = stage.hub()?;
    let mut report = Report::new(if args.dry_run { " (dry run)" } else { "" });
    if args.dry_run {
        let outcomes = apply::rehearse(&hub, &documents).await?;
        for (document, outcome) in documents.iter().zip(outcomes) {
            report.add(stage, document, outcome)?;
        }
    } else {
        for document in &documents {
            let outcome = apply::apply(&hub, document).await;
            let away = outcome.as_ref().is_err_and(is_hub_away);
            report.add(stage, document, outcome)?;
            // Without the hub the others fail the same way.
            if away {
                break;
            }
        }
    }
    if !stage.is_for_people() {
        let printed = print_objects(&report.objects, stage.global.output)?;
        stage.print(&printed)?;
    }
    Ok(worst(&report.failures))
}

/// What became of the objects of an apply so far.
struct Report {
    suffix: &'static str,
    objects: Vec<AnyObject>,
    failures: Vec<Exit>,
}

impl Report {
    fn new(suffix: &'static str) -> Self {
        Self { suffix, objects: Vec::new(), failures: Vec::new() }
    }

    fn add(
        &mut self,
        stage: &mut Stage,
        document: &Document,
        outcome: Applied,
    ) -> Result<(), Failure> {
        match outcome {
            Ok((object, outcome)) => {
                if stage.is_for_people() {
                    let (label, word) = (document.label(), outcome.as_str());
                    let line = format!("{label} {word}{}\n", self.suffix);
                    stage.environment.terminal.print(&line)?;
                }
                self.objects.push(object);
            }
            Err(failure) => {
                let failure = placed(document, failure);
                stage.tell(&failure.lines(Chain::Hidden));
                self.failures.push(failure.exit());
            }
        }
        Ok(())
    }
}

/// The failure of an object, its fields named by file and line.
fn placed(document: &Document, failure: Failure) -> Failure {
    if failure.fields().is_empty() {
        let place = document.place();
        let placed = Failure::new(format!("{place}: {failure}")).exit_with(failure.exit());
        let placed = placed.why(failure.reason().to_owned());
        return match failure.advice() {
            Some(advice) => placed.next(advice.to_owned()),
            None => placed,
        };
    }
    let faults: Vec<String> =
        failure.fields().iter().map(|(field, wrong)| document.fault(field, wrong)).collect();
    let advice = failure.advice().unwrap_or("mend the file, then run the command again");
    let told = Failure::new(failure.to_string()).why(faults.join("\n       "));
    told.next(advice).exit_with(failure.exit())
}

fn is_hub_away(failure: &Failure) -> bool {
    failure.to_string().contains("cannot reach the hub")
}

fn worst(failures: &[Exit]) -> Exit {
    if failures.is_empty() {
        Exit::Ok
    } else if failures.iter().all(|exit| *exit == Exit::Denied) {
        Exit::Denied
    } else {
        Exit::Failed
    }
}

fn read_files(files: &[std::path::PathBuf]) -> Result<Vec<Document>, Failure> {
    document::read(document::sources(files, &mut io::stdin().lock())?)
}

/// Lists objects of a kind, or those that are named.
pub(crate) async fn get(stage: &mut Stage, args: args::Get) -> Result<Exit, Failure> {
    if args.names.is_empty() {
        return list(stage, args.kind, args.selector.as_ref()).await;
    }
    let hub = stage.hub()?;
    let objects = fetch_named(&hub, args.kind, &args.names).await?;
    if args.names.len() == 1 && matches!(stage.global.output, Format::Json | Format::Yaml) {
        let printed = print_objects(&objects, stage.global.output)?;
        return stage.print(&printed);
    }
    print_list(stage, args.kind, &objects)
}

/// Lists all objects of a kind that a selector selects.
pub(crate) async fn list(
    stage: &mut Stage,
    kind: Kind,
    selector: Option<&Selector>,
) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let mut objects = remote::fetch_all(&hub, kind).await?;
    if let Some(selector) = selector {
        let all = objects.len();
        objects.retain(|object| selector.selects(&object.metadata().labels));
        if objects.is_empty() && all > 0 && stage.is_for_people() {
            stage.tell(&format!("none of {all} {} has these labels\n", kind.plural()));
            return Ok(Exit::Ok);
        }
    }
    print_list(stage, kind, &objects)
}

/// Shows objects in full: for people described, otherwise as they are.
pub(crate) async fn show(
    stage: &mut Stage,
    kind: Kind,
    names: &[ObjectName],
) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let objects = fetch_named(&hub, kind, names).await?;
    if !stage.is_for_people() {
        let printed = print_objects(&objects, stage.global.output)?;
        return stage.print(&printed);
    }
    let now = stage.now();
    let text = objects.iter().map(|object| described(object, now)).collect::<Vec<_>>().join("\n");
    stage.environment.terminal.print(&text)?;
    Ok(Exit::Ok)
}

async fn fetch_named(
    hub: &Hub,
    kind: Kind,
    names: &[ObjectName],
) -> Result<Vec<AnyObject>, Failure> {
    let mut objects = Vec::with_capacity(names.len());
    for name in names {
        objects.push(remote::fetch(hub, kind, name).await?);
    }
    Ok(objects)
}

fn print_list(stage: &mut Stage, kind: Kind, objects: &[AnyObject]) -> Result<Exit, Failure> {
    let listing = Listing {
        kind: "List",
        items: objects.iter().map(json_value).collect::<Result<_, _>>()?,
        table: columns::table(kind, objects, stage.now()),
        names: objects.iter().map(named).collect(),
        empty: columns::empty(kind).to_owned(),
    };
    stage.list(listing)
}

/// One object as it is, several as a `List` that `apply` reads again.
fn print_objects(objects: &[AnyObject], format: Format) -> Result<Printed, Failure> {
    let document = || -> Result<Value, Failure> {
        match objects {
            [object] => json_value(object),
            _ => {
                let items = objects.iter().map(json_value).collect::<Result<Vec<_>, _>>()?;
                Ok(
                    json!({ "apiVersion": nullius_model::API_VERSION, "kind": "List", "items": items }),
                )
            }
        }
    };
    let out = match format {
        Format::Json | Format::Kubernetes => json_text(&document()?)?,
        Format::Yaml => yaml_text(&document()?)?,
        Format::Name | Format::Table | Format::Wide => {
            objects.iter().map(|object| escape::cell(&named(object)) + "\n").collect()
        }
        Format::Sarif
        | Format::Junit
        | Format::Csv
        | Format::Policyreport
        | Format::Openreports
        | Format::Codequality => return Err(only_findings()),
        Format::Markdown => return Err(only_differences()),
        Format::Native | Format::Manifest => return Err(only_exports()),
        Format::Dot | Format::Svg => return Err(only_graphs()),
    };
    Ok(Printed { out, err: String::new() })
}

/// `role/developer`.
fn named(object: &AnyObject) -> String {
    format!("{}/{}", object.kind().as_str().to_ascii_lowercase(), object.name())
}

/// Deletes objects by name or by file.
pub(crate) async fn delete(stage: &mut Stage, args: args::Delete) -> Result<Exit, Failure> {
    let mut doomed: Vec<(Kind, ObjectName)> = if args.files.is_empty() {
        let kind = args.kind.ok_or_else(|| {
            Failure::usage("no kind is named")
                .next("write `nullius delete KIND NAME`, or name a file: `nullius delete -f FILE`")
        })?;
        args.names.into_iter().map(|name| (kind, name)).collect()
    } else {
        let documents = read_files(&args.files)?;
        documents
            .iter()
            .map(|document| (document.object.kind(), document.object.name().clone()))
            .collect()
    };
    // What names others goes first.
    doomed.sort_by_key(|(kind, _)| std::cmp::Reverse(apply::rank(*kind)));
    let hub = stage.hub()?;
    if !args.dry_run {
        let labels: Vec<_> = doomed.iter().map(|(kind, name)| format!("{kind}/{name}")).collect();
        let question = format!("Delete {}?", labels.join(", "));
        if stage.confirm(Asked::of_flag(args.yes), &question).await? == Confirmed::No {
            return Err(declined());
        }
    }
    let mut failures = Vec::new();
    if args.dry_run {
        let changes = doomed.iter().cloned();
        let changes = changes.map(|(kind, name)| ObjectChange::Delete { kind, name }).collect();
        let outcomes = remote::rehearse(&hub, changes).await?;
        for (doomed, outcome) in doomed.iter().zip(outcomes) {
            failures.extend(tell_deleted(
                stage,
                doomed,
                " (dry run)",
                outcome.map(|tried| tried.warnings),
            )?);
        }
    } else {
        for doomed in &doomed {
            let outcome = remote::delete(&hub, doomed.0, &doomed.1).await;
            failures.extend(tell_deleted(stage, doomed, "", outcome)?);
        }
    }
    Ok(worst(&failures))
}

/// Tells what became of an object; gives the exit code of a failure.
fn tell_deleted(
    stage: &mut Stage,
    (kind, name): &(Kind, ObjectName),
    suffix: &str,
    outcome: Result<Vec<String>, Failure>,
) -> Result<Option<Exit>, Failure> {
    let warnings = match outcome {
        Ok(warnings) => warnings,
        Err(failure) => {
            stage.tell(&failure.lines(Chain::Hidden));
            return Ok(Some(failure.exit()));
        }
    };
    let line = match stage.global.output {
        Format::Name => format!("{}/{name}\n", kind.as_str().to_ascii_lowercase()),
        _ => format!("{kind}/{name} deleted{suffix}\n"),
    };
    stage.environment.terminal.print(&line)?;
    for warning in warnings {
        stage.tell(&format!("warning: {}\n", escape::cell(&warning)));
    }
    Ok(None)
}

/// Shows what an apply would change.
pub(crate) async fn diff(stage: &mut Stage, args: args::Diff) -> Result<Exit, Failure> {
    if let [base, head] = args.paths.as_slice() {
        return super::compare::run(stage, &args.asks, base, head);
    }
    let documents = read_files(&args.files)?;
    let hub = stage.hub()?;
    let mut differs = false;
    for document in &documents {
        let wanted = &document.object;
        let live = remote::find(&hub, wanted.kind(), wanted.name()).await?;
        let text = diff::diff(&document.label(), live.as_ref(), Some(wanted))?;
        differs |= !text.is_empty();
        stage.environment.terminal.print(&text)?;
    }
    Ok(if differs { Exit::Denied } else { Exit::Ok })
}

/// Changes an object in the person's editor.
pub(crate) async fn edit(stage: &mut Stage, args: args::Edit) -> Result<Exit, Failure> {
    let hub = stage.hub()?;
    let live = remote::fetch(&hub, args.kind, &args.name).await?;
    let document = match editor::edit(&live, &mut stage.environment).await? {
        Edited::Unchanged => {
            stage.tell("nothing was changed\n");
            return Ok(Exit::Ok);
        }
        Edited::Changed(document) => document,
    };
    match apply::apply(&hub, &document).await {
        Ok((_, outcome)) => {
            let line = format!("{} {}\n", document.label(), outcome.as_str());
            stage.environment.terminal.print(&line)?;
            Ok(Exit::Ok)
        }
        Err(failure) => {
            // What was typed is worth more than the temporary file's tidiness.
            let kept =
                std::env::temp_dir().join(format!("nullius-edit-{}.yaml", std::process::id()));
            let saved =
                std::fs::write(&kept, yaml_text(&remote::written_part(&document.object)?)?).is_ok();
            let failure = placed(&document, failure);
            if saved {
                stage.tell(&format!("your change is kept in `{}`\n", kept.display()));
            }
            Err(failure)
        }
    }
}
