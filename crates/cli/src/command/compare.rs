//! `nullius diff BASE HEAD`: which findings, rights and policies come and go between two folders, without a hub.
//!
//! Exit code 2 when something got worse; 1 when nothing did, but something could not be read or judged.

mod text;

use std::{collections::BTreeMap, io, path::Path};

use nullius_admission::{Difference, Report, Side};
use nullius_manifest::{Found, Source, objects, walk};
use nullius_model::API_VERSION;
use serde::Serialize;

use super::scan;
use crate::{
    args,
    failure::{Exit, Failure},
    output::{Format, Printed, json_text, only_findings, yaml_text},
    stage::Stage,
};

/// A difference as one document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    worse: bool,
    #[serde(flatten)]
    difference: &'a Difference,
}

/// The forms of a difference.
const FORMS: [Format; 7] = [
    Format::Table,
    Format::Wide,
    Format::Json,
    Format::Kubernetes,
    Format::Yaml,
    Format::Name,
    Format::Markdown,
];

/// Compares.
pub(crate) fn run(
    stage: &mut Stage,
    args: &args::Asks,
    base: &Path,
    head: &Path,
) -> Result<Exit, Failure> {
    if !FORMS.contains(&stage.global.output) {
        return Err(only_findings());
    }
    let mut below = Side::default();
    walk(&args.state, &mut io::stdin().lock(), &mut |source| {
        if let Ok(source) = source {
            below.source(&source);
        }
    });
    let before = side(stage, args, base, &below)?;
    let after = side(stage, args, head, &below)?;
    comparable(&before, &after)?;
    let difference =
        Difference::between((&before.side, before.report), (&after.side, after.report));
    let document = Document {
        api_version: API_VERSION,
        kind: "ManifestDifference",
        worse: difference.is_worse(),
        difference: &difference,
    };
    let out = match stage.global.output {
        Format::Table | Format::Wide => text::lines(&difference),
        Format::Markdown => text::markdown(&difference),
        Format::Name => text::names(&difference),
        Format::Yaml => yaml_text(&document)?,
        _ => json_text(&document)?,
    };
    stage.print(&Printed { out, err: text::beside(&difference) })?;
    Ok(match (difference.is_worse(), difference.errors.is_empty()) {
        (true, _) => Exit::Denied,
        (false, false) => Exit::Failed,
        (false, true) => Exit::Ok,
    })
}

/// The objects of a path, and what a scan of it finds.
struct Read {
    side: Side,
    report: Report,
    /// What cannot be read, whole or in part, with its name below the path and what is known of it.
    unread: BTreeMap<String, (String, String)>,
}

/// Reads one side.
fn side(stage: &Stage, args: &args::Asks, path: &Path, below: &Side) -> Result<Read, Failure> {
    let mut scan = scan::begun(stage, args)?;
    let mut side = Side::default();
    let mut unread = BTreeMap::new();
    walk(&[path.to_owned()], &mut io::empty(), &mut |source| {
        let lost = match &source {
            Err(unreadable) => {
                Some((unreadable.name.clone(), unreadable.message.clone(), String::new()))
            }
            Ok(source) => {
                side.source(source);
                let first = first_fault(source);
                first.map(|told| {
                    (format!("{}:{told}", source.name), String::new(), source.text.clone())
                })
            }
        };
        if let Some((told, message, text)) = lost {
            let name = match &source {
                Ok(source) => &source.name,
                Err(unreadable) => &unreadable.name,
            };
            let within = Path::new(name).strip_prefix(path).unwrap_or(Path::new(name));
            let joint = if message.is_empty() { "" } else { ": " };
            let told = format!("{told}{joint}{message}");
            unread.insert(within.display().to_string(), (told, message + &text));
        }
        scan.source(source);
    });
    side.beneath(below);
    Ok(Read { side, report: scan.finish(), unread })
}

/// What of a text cannot be read first, with its line.
fn first_fault(source: &Source) -> Option<String> {
    let mut first = None;
    objects(&source.text, |found| {
        if let Found::Fault(fault) = found {
            first.get_or_insert(format!("{}: {}", fault.place.line, fault.message));
        }
    });
    first
}

/// Refuses to compare what cannot be read on one side with what stands on the other: nothing is gone because it is not known.
/// What cannot be read on both sides alike is left out, and told.
fn comparable(before: &Read, after: &Read) -> Result<(), Failure> {
    let odd = |one: &Read, other: &Read| -> Vec<String> {
        let is_odd = |(name, (_, known)): &(&String, &(String, String))| {
            name.is_empty() && known.starts_with("cannot ")
                || other.unread.get(*name).is_none_or(|(_, others)| others != known)
        };
        one.unread.iter().filter(is_odd).map(|(_, (told, _))| told.clone()).collect()
    };
    let odd = [odd(before, after), odd(after, before)].concat();
    if odd.is_empty() {
        return Ok(());
    }
    Err(Failure::new("the two sides cannot be compared: one of them cannot be read whole")
        .why(odd.join("\n       "))
        .next("mend what is named; of what is not known nothing can be said to come or go"))
}
