//! `nullius test`: policies asked about the requests of test files, without a hub and without a cluster.
//!
//! Exit code 2 where something else came than was expected, or where the cases have seen too little of the policies; 1 where it
//! cannot be told.

pub(in crate::command) mod text;

use std::{io, path::Path};

use nullius_admission::{Depth, TrialReport, Trials, trial_junit};
use nullius_manifest::{Source, Unreadable, walk};
use nullius_model::API_VERSION;
use serde::Serialize;

use crate::{
    args,
    failure::{Exit, Failure},
    output::{
        Format, Printed, json_text, only_differences, only_exports, only_findings, only_graphs,
        yaml_text,
    },
    stage::Stage,
};

/// A report as one document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    report: &'a TrialReport,
}

/// The ends of the names of test files.
const NAMES: [&str; 3] = [".test.yaml", ".test.yml", ".test.json"];

/// Tests.
pub(crate) fn run(stage: &mut Stage, args: &args::Test) -> Result<Exit, Failure> {
    match stage.global.output {
        Format::Sarif
        | Format::Csv
        | Format::Policyreport
        | Format::Openreports
        | Format::Codequality => {
            return Err(only_findings());
        }
        Format::Markdown => return Err(only_differences()),
        Format::Native | Format::Manifest => return Err(only_exports()),
        Format::Dot | Format::Svg => return Err(only_graphs()),
        _ => {}
    }
    let depth = if args.explain { Depth::Traces } else { Depth::Findings };
    let mut trials = Trials::new(args.run.clone(), depth, stage.now());
    let mut files = 0;
    for path in &args.paths {
        let is_folder = path.is_dir();
        walk(std::slice::from_ref(path), &mut io::stdin().lock(), &mut |source| {
            if !is_folder || is_meant(&source) {
                files += usize::from(source.is_ok());
                trials.source(source);
            }
        });
    }
    let report = trials.finish();
    let shown = || {
        let names: Vec<_> = args.paths.iter().map(|path| path.display().to_string()).collect();
        names.join("`, `")
    };
    if files == 0 && report.errors.is_empty() && !args.allow_empty {
        return Err(Failure::new(format!("no test stands in `{}`", shown()))
            .why("of folders, files named `*.test.yaml`, `*.test.yml` and `*.test.json` are read")
            .next("name the file itself, or rename it"));
    }
    if let Some(pattern) = args.run.as_ref().filter(|_| report.cases.is_empty())
        && report.errors.is_empty()
        && files > 0
    {
        return Err(Failure::new(format!(
            "no case in `{}` has a name that matches `{pattern}`",
            shown()
        ))
        .next("list the names: `nullius test -o wide`"));
    }
    let with_coverage = args.coverage || args.min_coverage.is_some();
    let document = Document { api_version: API_VERSION, kind: "PolicyTestReport", report: &report };
    let out = match stage.global.output {
        Format::Table => {
            text::failures(&report) + &text::coverage(&report, with_coverage, stage.layout())
        }
        Format::Wide => {
            text::passes(&report)
                + &text::failures(&report)
                + &text::coverage(&report, with_coverage, stage.layout())
        }
        Format::Yaml => yaml_text(&document)?,
        Format::Name => text::names(&report),
        Format::Junit => trial_junit(&report),
        _ => json_text(&document)?,
    };
    let is_covered = args.min_coverage.is_none_or(|least| {
        report.coverage.covered * 100 >= report.coverage.total * usize::from(least)
    });
    let least = args.min_coverage.filter(|_| !is_covered);
    stage.print(&Printed { out, err: text::beside(&report, with_coverage, least) })?;
    let counts = &report.counts;
    Ok(match (counts.failed > 0 || !is_covered, counts.errored > 0 || !report.errors.is_empty()) {
        (true, _) => Exit::Denied,
        (false, true) => Exit::Failed,
        (false, false) => Exit::Ok,
    })
}

/// Whether something in a folder is a file of tests, or a folder that cannot be listed.
pub(in crate::command) fn is_meant(source: &Result<Source, Unreadable>) -> bool {
    let name = match source {
        Ok(source) => &source.name,
        Err(unreadable) => &unreadable.name,
    };
    let is_test = NAMES.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
    is_test || (source.is_err() && Path::new(name).is_dir())
}
