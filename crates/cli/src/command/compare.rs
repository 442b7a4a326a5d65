//! `nullius diff BASE HEAD`: which findings, rights and policies come and go between two folders, without a hub.
//!
//! Exit code 2 when something got worse; 1 when nothing did, but something could not be read or judged.

mod text;

use std::{io, path::PathBuf};

use nullius_admission::{Difference, Report, Side};
use nullius_manifest::walk;
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
    base: &PathBuf,
    head: &PathBuf,
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
    let difference = Difference::between((&before.0, before.1), (&after.0, after.1));
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
fn side(
    stage: &Stage,
    args: &args::Asks,
    path: &PathBuf,
    below: &Side,
) -> Result<(Side, Report), Failure> {
    let mut scan = scan::begun(stage, args)?;
    let mut side = Side::default();
    walk(std::slice::from_ref(path), &mut io::empty(), &mut |source| {
        if let Ok(source) = &source {
            side.source(source);
        }
        scan.source(source);
    });
    side.beneath(below);
    Ok((side, scan.finish()))
}
