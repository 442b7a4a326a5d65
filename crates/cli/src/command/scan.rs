//! `nullius scan`: objects in files against the Pod Security Standards and admission policies, without a hub.
//!
//! Exit code 2 with findings for which a cluster would refuse something; 1 without any, but with something that could not be
//! read or judged.

mod codequality;
mod text;

pub(super) use text::fault;

use std::{fs, io};

use codequality::codequality;
use jiff::{civil::Date, tz::TimeZone};
use nullius_admission::{
    Depth, FaultKind, Policies, Report, Scan, ScanFault, Sender, Waivers, WaiversError, junit,
    sarif,
};
use nullius_manifest::{Source, walk};
use nullius_model::{API_VERSION, Timestamp};
use serde::Serialize;

use crate::{
    args,
    failure::{Exit, Failure, file_failure},
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
    report: &'a Report,
}

/// Scans.
pub(crate) async fn run(stage: &mut Stage, args: args::Scan) -> Result<Exit, Failure> {
    let args::Scan { paths, asks, explain, allow_empty } = &args;
    if asks.asks_nothing() {
        return Err(Failure::new("nothing is asked of the objects")
            .next("leave out `--builtin none`, or name `--policies`")
            .exit_with(Exit::Usage));
    }
    refuse_form(stage.global.output)?;
    let depth = if *explain { Depth::Traces } else { Depth::Findings };
    let mut scan = begun(stage, asks)?.with_depth(depth);
    walk(paths, &mut io::stdin().lock(), &mut |source| scan.source(source));
    let mut report = scan.finish();
    let counts = report.counts;
    let is_empty = counts.objects == 0 && report.errors.is_empty() && !allow_empty;
    let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    if is_empty && counts.other > 0 {
        report.errors.push(ScanFault {
            kind: FaultKind::Unreadable,
            file: names.join(", "),
            line: None,
            column: None,
            message: "no object of Kubernetes stands in it".to_owned(),
            next: Some(
                "name other paths, or say `--allow-empty` where that is no fault".to_owned(),
            ),
        });
    } else if is_empty {
        let why = match paths.iter().any(|path| path.is_dir()) {
            true => {
                "there is no document in it; folders give only `.yaml`, `.yml` and `.json` files"
            }
            false => "there is no document in it",
        };
        return Err(Failure::new(format!("no object stands in `{}`", names.join("`, `")))
            .why(why)
            .next("if something was to make the text, see whether it failed"));
    }
    let depth = if *explain { text::Depth::Explained } else { text::Depth::Short };
    let document = Document { api_version: API_VERSION, kind: "ScanReport", report: &report };
    let out = match stage.global.output {
        Format::Table | Format::Wide => text::findings(&report, depth),
        Format::Yaml => yaml_text(&document)?,
        Format::Name => text::names(&report),
        Format::Sarif => json_text(&sarif(&report, env!("CARGO_PKG_VERSION")))?,
        Format::Junit => junit(&report),
        Format::Json | Format::Kubernetes => json_text(&document)?,
        Format::Codequality => json_text(&codequality(&report))?,
        Format::Markdown
        | Format::Native
        | Format::Manifest
        | Format::Csv
        | Format::Policyreport
        | Format::Openreports => return Err(only_findings()),
        Format::Dot | Format::Svg => return Err(only_graphs()),
    };
    stage.print(&Printed { out, err: text::beside(&report) })?;
    Ok(match (report.is_denied(), report.errors.is_empty()) {
        (true, _) => Exit::Denied,
        (false, false) => Exit::Failed,
        (false, true) => Exit::Ok,
    })
}

/// Refuses the forms of other commands before anything is read.
fn refuse_form(form: Format) -> Result<(), Failure> {
    match form {
        Format::Markdown => Err(only_differences()),
        Format::Native | Format::Manifest => Err(only_exports()),
        Format::Dot | Format::Svg => Err(only_graphs()),
        Format::Csv | Format::Policyreport | Format::Openreports => Err(only_findings()),
        Format::Table
        | Format::Wide
        | Format::Json
        | Format::Yaml
        | Format::Name
        | Format::Sarif
        | Format::Junit
        | Format::Codequality
        | Format::Kubernetes => Ok(()),
    }
}

/// A scan that asks what the flags say.
pub(super) fn begun(stage: &Stage, asks: &args::Asks) -> Result<Scan, Failure> {
    let today = stage.now().to_zoned(TimeZone::UTC).date();
    let policies = policies(asks, stage.now())?;
    let waivers = waivers(asks, today, &policies)?;
    let sender = Sender {
        username: asks.user.clone(),
        groups: asks.groups.clone(),
        namespace: asks.namespace.clone(),
    };
    let excluded = asks.exclude.iter().cloned().collect();
    Ok(Scan::new(asks.level(), waivers, today).with_policies(policies, sender).without(excluded))
}

/// The policies of files and good practice. What is wrong with them joins the report: the objects are judged all the same.
fn policies(args: &args::Asks, now: Timestamp) -> Result<Policies, Failure> {
    let mut policies = Policies::new(args.env).excepting_at(now);
    let stdin = &mut io::stdin().lock();
    walk(&args.policies, stdin, &mut |source| policies.policies(source));
    if policies.is_empty() && !policies.is_faulty() && !args.policies.is_empty() {
        let names: Vec<_> = args.policies.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(format!("no policy stands in `{}`", names.join("`, `")))
            .why("neither `ValidatingAdmissionPolicy` nor `MutatingAdmissionPolicy` is among its objects"));
    }
    walk(&args.state, stdin, &mut |source| policies.facts(source));
    let without = args.exclude.iter().cloned().collect();
    Ok(if args.asks_practice() { policies.with_practice(&without) } else { policies })
}

fn waivers(args: &args::Asks, today: Date, policies: &Policies) -> Result<Waivers, Failure> {
    let Some(path) = &args.waivers else { return Ok(Waivers::default()) };
    let text = fs::read_to_string(path).map_err(|error| file_failure("read", path, error))?;
    let source = Source { name: path.display().to_string(), text };
    Waivers::read(&source, today, policies).map_err(|WaiversError(faults)| {
        Failure::new("the waivers cannot be used; nothing was scanned")
            .why(faults.join("\n       "))
    })
}
