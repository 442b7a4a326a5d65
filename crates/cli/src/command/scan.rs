//! `nullius scan`: objects in files against the Pod Security Standards, without a hub.
//!
//! Exit code 2 with findings; 1 without any, but with something that could not be read.

mod text;

use std::{fs, io};

use jiff::{civil::Date, tz::TimeZone};
use nullius_admission::{Report, Scan, Waivers, WaiversError, junit, sarif};
use nullius_manifest::{Source, walk};
use nullius_model::API_VERSION;
use serde::Serialize;

use crate::{
    args,
    failure::{Exit, Failure, file_failure},
    output::{Format, Printed, json_text, yaml_text},
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
    let today = stage.now().to_zoned(TimeZone::UTC).date();
    let waivers = waivers(&args, today)?;
    let mut scan = Scan::new(args.pod_security, waivers, today);
    walk(&args.paths, &mut io::stdin().lock(), &mut |source| scan.source(source));
    let report = scan.finish();
    let counts = &report.counts;
    if counts.objects == 0 && counts.other == 0 && report.errors.is_empty() {
        let names: Vec<_> = args.paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::new(format!("no object stands in `{}`", names.join("`, `")))
            .why("there is no document in it, and folders give only `.yaml`, `.yml` and `.json` files")
            .next("if something was to make the text, see whether it failed"));
    }
    let depth = if args.explain { text::Depth::Explained } else { text::Depth::Short };
    let document = Document { api_version: API_VERSION, kind: "ScanReport", report: &report };
    let out = match stage.global.output {
        Format::Table | Format::Wide => text::findings(&report, depth),
        Format::Yaml => yaml_text(&document)?,
        Format::Name => text::names(&report),
        Format::Sarif => json_text(&sarif(&report, env!("CARGO_PKG_VERSION")))?,
        Format::Junit => junit(&report),
        Format::Json | Format::Kubernetes => json_text(&document)?,
    };
    stage.print(&Printed { out, err: text::beside(&report) })?;
    Ok(match (report.findings.is_empty(), report.errors.is_empty()) {
        (false, _) => Exit::Denied,
        (true, false) => Exit::Failed,
        (true, true) => Exit::Ok,
    })
}

fn waivers(args: &args::Scan, today: Date) -> Result<Waivers, Failure> {
    let Some(path) = &args.waivers else { return Ok(Waivers::default()) };
    let text = fs::read_to_string(path).map_err(|error| file_failure("read", path, error))?;
    let source = Source { name: path.display().to_string(), text };
    Waivers::read(&source, today).map_err(|WaiversError(faults)| {
        Failure::new("the waivers cannot be used; nothing was scanned")
            .why(faults.join("\n       "))
    })
}
