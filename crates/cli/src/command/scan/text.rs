//! The report for people: an object, the API server's sentence about it, and each place with its fix.

use nullius_admission::{FaultKind, Finding, ObjectTrace, Report, ScanFault};
use nullius_model::Enforcement;
use nullius_policy::pod_security::all_checks;

use crate::{command::policy, output::escape};

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The first place of each finding.
    Short,
    /// Every place, and what the check is for.
    Explained,
}

/// The findings by object.
pub(super) fn findings(report: &Report, depth: Depth) -> String {
    let mut text = String::new();
    let mut findings = report.findings.iter();
    for broken in &report.objects {
        let at = &broken.location;
        text.push_str(&format!(
            "{}:{}:{}: {}\n  {}\n",
            escape::cell(&at.file),
            at.line,
            at.column,
            escape::cell(&broken.object.label()),
            escape::cell(&broken.message)
        ));
        for finding in findings.by_ref().take(broken.findings) {
            one(report, finding, depth, &mut text);
        }
        text.push('\n');
    }
    report.traces.iter().for_each(|trace| traced(trace, &mut text));
    if text.ends_with("\n\n") {
        text.pop();
    }
    text
}

fn one(report: &Report, finding: &Finding, depth: Depth, text: &mut String) {
    let at = &finding.location;
    let number = at.line.to_string();
    let space = " ".repeat(number.len());
    let enforcement = match finding.enforcement {
        Enforcement::Deny => "",
        Enforcement::Warn => " (only warns)",
        Enforcement::Audit => " (only tells the audit)",
        Enforcement::Inform => " (for information)",
    };
    text.push_str(&format!(
        "\n  {}: {}{enforcement} at {}:{}:{}\n    {number} | {}\n",
        finding.severity,
        escape::cell(&finding.check),
        escape::cell(&at.file),
        at.line,
        at.column,
        if at.snippet.is_empty() { "(not shown)".into() } else { escape::cell(&at.snippet) },
    ));
    let mut line = |what: &str, told: &str| {
        if !told.is_empty() {
            text.push_str(&format!("    {space} = {what}{}\n", escape::cell(told)));
        }
    };
    line("", &finding.path);
    // The Pod Security Standards say it in one sentence about the object.
    line("", if finding.level.is_none() { &finding.message } else { "" });
    line("fix: ", &finding.fix);
    let more = finding.spots.get(1..).unwrap_or_default();
    match depth {
        Depth::Short if more.is_empty() => {}
        Depth::Short => {
            let count = more.len();
            let places = if count == 1 { "place" } else { "places" };
            text.push_str(&format!("    {space} = and {count} more {places}: `--explain`\n"));
        }
        Depth::Explained => {
            for spot in more {
                let told = match spot.fix.as_str() {
                    "" => spot.path.clone(),
                    fix => format!("{}: {fix}", spot.path),
                };
                text.push_str(&format!(
                    "    {space} = also {}:{}: {}\n",
                    spot.line,
                    spot.column,
                    escape::cell(&told)
                ));
            }
            if let Some(about) =
                report.about(&finding.check).filter(|about| !about.about.is_empty())
            {
                text.push_str(&format!("    {space} = why: {}\n", escape::cell(&about.about)));
            }
            if let Some(check) = all_checks().find(|check| check.id.as_str() == finding.check) {
                text.push_str(&format!(
                    "    {space} = why: {} (Pod Security Standards, {} since v1.{})\n",
                    check.about,
                    check.level,
                    check.since()
                ));
            }
        }
    }
}

/// What an object came to, also where nothing was found.
fn traced(trace: &ObjectTrace, text: &mut String) {
    let at = &trace.location;
    text.push_str(&format!(
        "explained: {}:{}:{}: {}\n  pod security: {}\n",
        escape::cell(&at.file),
        at.line,
        at.column,
        escape::cell(&trace.object.label()),
        escape::cell(&trace.pod_security)
    ));
    trace.policies.iter().for_each(|each| policy::explain(each, text));
    text.push('\n');
}

/// The objects that break something, one a line.
pub(super) fn names(report: &Report) -> String {
    let name = |object: &nullius_admission::ObjectRef| {
        format!("{}\n", escape::cell(&object.label()).replace(' ', "/"))
    };
    report.objects.iter().map(|broken| name(&broken.object)).collect()
}

/// What stands beside the result: what could not be read, waivers of no use, the sums.
pub(super) fn beside(report: &Report) -> String {
    let mut text: String = report.errors.iter().map(fault).collect();
    for note in &report.notes {
        text.push_str(&format!("note: {}\n", escape::cell(note)));
    }
    let counts = &report.counts;
    let several = |count: usize, one: &str, more: &str| {
        format!("{count} {}", if count == 1 { one } else { more })
    };
    let files = several(counts.files, "file", "files");
    let checked = match report.policies.is_empty() {
        true => {
            several(counts.checked, "object that is or makes pods", "objects that are or make pods")
        }
        false => several(counts.objects, "object", "objects"),
    };
    text.push_str(&match report.findings.len() {
        0 if counts.objects == 0 => format!("nothing to judge in {files}"),
        0 if report.policies.is_empty() && report.asks_no_level() => {
            format!("nothing was asked of {checked}, {files}: there is no policy")
        }
        0 => format!("no findings by {}: {checked}, {files}", report.measures()),
        found => format!(
            "{} by {} in {} of {checked}, {files}",
            several(found, "finding", "findings"),
            report.measures(),
            report.objects.len() - report.ended_waivers()
        ),
    });
    let faults = |kind| report.errors.iter().filter(|fault| fault.kind == kind).count();
    let sums = [
        (report.ended_waivers(), "of a waiver that has ended"),
        (report.waived.len(), "waived"),
        (counts.other, if counts.other == 1 { "that is no object" } else { "that are no objects" }),
        (faults(FaultKind::Unreadable), "not readable"),
        (faults(FaultKind::Refused), "that no API server takes"),
        (faults(FaultKind::Unjudged), "not known to policies"),
    ];
    for (count, what) in sums {
        if count > 0 {
            text.push_str(&format!("; {count} {what}"));
        }
    }
    text.push('\n');
    text
}

/// Something that could not be read or judged.
pub(in crate::command) fn fault(fault: &ScanFault) -> String {
    let place = match (fault.line, fault.column) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}", fault.file),
        _ => fault.file.clone(),
    };
    let next = fault.next.as_deref().map(|next| format!("  next: {}\n", escape::cell(next)));
    format!(
        "error: {}: {}\n{}",
        escape::cell(&place),
        escape::cell(&fault.message),
        next.unwrap_or_default()
    )
}
