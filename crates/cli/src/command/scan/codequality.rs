//! GitLab's code quality report: findings beside the changed lines of a merge request.

use std::collections::BTreeMap;

use nullius_admission::{Finding, Report, ScanFault};
use nullius_model::{Enforcement, Severity};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The report as GitLab reads it: one entry for each finding, and for what could not be read or judged.
pub(super) fn codequality(report: &Report) -> Value {
    let mut seen = BTreeMap::new();
    let findings = report.findings.iter().map(finding);
    let faults = report.errors.iter().map(fault);
    let entries = findings.chain(faults).map(|(print, mut entry)| {
        // What is the same but for its lines stays the same; of several each has its own number.
        let number: &mut usize = seen.entry(print.clone()).or_default();
        *number += 1;
        let hash = Sha256::digest(format!("{print}|{number}"));
        entry["fingerprint"] = Value::from(hex::encode(hash));
        entry
    });
    entries.collect()
}

fn finding(finding: &Finding) -> (String, Value) {
    let object = &finding.object;
    let print = format!(
        "{}|{}|{}|{}|{}",
        finding.check, object.kind, object.namespace, object.name, finding.path
    );
    let severity = match (finding.enforcement, finding.severity) {
        (Enforcement::Deny, Severity::High) => "critical",
        (Enforcement::Deny, Severity::Medium) => "major",
        (Enforcement::Deny, Severity::Low) | (Enforcement::Warn, _) => "minor",
        (Enforcement::Audit | Enforcement::Inform, _) => "info",
    };
    let fix = if finding.fix.is_empty() { String::new() } else { format!("; {}", finding.fix) };
    let description = format!("{}: {}{fix}", object.label(), finding.message);
    let at = &finding.location;
    (print, entry(&finding.check, severity, description, &at.file, at.line))
}

fn fault(fault: &ScanFault) -> (String, Value) {
    let print = format!("{}|{}", fault.file, fault.message);
    let line = fault.line.unwrap_or(1);
    (print, entry("nullius", "major", fault.message.clone(), &fault.file, line))
}

fn entry(check: &str, severity: &str, description: String, file: &str, line: usize) -> Value {
    let path = file.strip_prefix("./").unwrap_or(file);
    json!({
        "check_name": check,
        "description": description,
        "severity": severity,
        "location": { "path": path, "lines": { "begin": line } },
    })
}
