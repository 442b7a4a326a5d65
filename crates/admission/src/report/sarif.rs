//! SARIF 2.1.0, as code hosts show it beside the changed lines.

use std::path::Path;

use nullius_policy::pod_security::{Level, all_checks};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use nullius_model::{Enforcement, Severity};

use super::{Finding, Report, ScanFault};
use crate::{PolicyAbout, scan::EXPIRED};

/// What a path in a URI keeps.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b'\\')
    .add(b':');

/// The report as a SARIF document of this version of the program.
pub fn sarif(report: &Report, version: &str) -> Value {
    let mut rules: Vec<Value> = all_checks()
        .map(|check| {
            json!({
                "id": check.id,
                "shortDescription": { "text": check.about },
                "fullDescription": { "text": format!(
                    "Pod Security Standards, {} since v1.{}: {}.", check.level, check.since(), check.about
                ) },
                "helpUri": "https://kubernetes.io/docs/concepts/security/pod-security-standards/",
                "defaultConfiguration": { "level": level_of(check.level) },
                "properties": { "tags": ["security", "kubernetes", check.level.as_str()] },
            })
        })
        .collect();
    rules.push(json!({
        "id": EXPIRED,
        "shortDescription": { "text": "a waiver has ended" },
        "fullDescription": { "text": "What it covered is a finding again: mend it, or accept it anew." },
        "defaultConfiguration": { "level": "error" },
        "properties": { "tags": ["kubernetes"] },
    }));
    let policies = report.policies.iter().zip(&report.abouts);
    rules.extend(policies.map(|(name, about)| policy_rule(name, about)));
    let result = |finding| result(finding, &rules);
    let mut results: Vec<Value> = report.findings.iter().map(result).collect();
    results.extend(report.waived.iter().map(|waived| {
        let mut result = result(&waived.finding);
        let justification =
            format!("{} ({}, until {})", waived.reason, waived.owner, waived.expires);
        result["suppressions"] = json!([{ "kind": "external", "justification": justification }]);
        result
    }));
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "nullius",
                "version": version,
                "informationUri": "https://github.com/nullius-dev/nullius",
                "rules": rules,
            } },
            "invocations": [{
                "executionSuccessful": report.errors.is_empty(),
                "toolExecutionNotifications": report.errors.iter().map(notification).collect::<Vec<_>>(),
            }],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn level_of(level: Level) -> &'static str {
    match level {
        Level::Baseline => "error",
        Level::Restricted => "warning",
        Level::Privileged => "note",
    }
}

fn policy_rule(name: &str, about: &PolicyAbout) -> Value {
    let text =
        if about.about.is_empty() { format!("the policy `{name}`") } else { about.about.clone() };
    let mut rule = json!({
        "id": name,
        "shortDescription": { "text": text },
        "fullDescription": { "text": format!("Policy `{name}`: {text}.") },
        "defaultConfiguration": { "level": level_of_severity(about.severity.unwrap_or(Severity::High)) },
        "properties": { "tags": ["kubernetes", "policy"] },
    });
    if !about.fix.is_empty() {
        rule["help"] = json!({ "text": about.fix });
    }
    rule
}

fn level_of_severity(severity: Severity) -> &'static str {
    match severity {
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "note",
    }
}

fn result(finding: &Finding, rules: &[Value]) -> Value {
    let (object, at) = (&finding.object, &finding.location);
    let qualified = format!("{} {}", object.label(), finding.path);
    let fix = match finding.fix.as_str() {
        "" => String::new(),
        fix => format!(" Fix: {fix}."),
    };
    // What only warns fails no build, however bad it is.
    let level = match finding.enforcement {
        Enforcement::Deny => level_of_severity(finding.severity),
        Enforcement::Warn | Enforcement::Audit | Enforcement::Inform => "note",
    };
    let mut region = json!({ "startLine": at.line, "startColumn": at.column });
    if !at.snippet.is_empty() {
        region["snippet"] = json!({ "text": at.snippet });
    }
    let mut result = json!({
        "ruleId": finding.check,
        "level": level,
        "message": { "text": format!("{}: {}.{fix}", object.label(), finding.message) },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(&at.file) },
                "region": region,
            },
            "logicalLocations": [{ "fullyQualifiedName": qualified.trim_end(), "kind": "resource" }],
        }],
        "relatedLocations": finding.spots.iter().skip(1).enumerate().map(|(id, spot)| json!({
            "id": id + 1,
            "physicalLocation": {
                "artifactLocation": { "uri": uri(&at.file) },
                "region": { "startLine": spot.line, "startColumn": spot.column },
            },
            "message": { "text": format!("{}: {}", spot.path, spot.fix).trim_end_matches(": ") },
        })).collect::<Vec<_>>(),
        // What stays the same when lines move.
        "partialFingerprints": { "object/v1": format!(
            "{}|{}|{}|{}|{}", finding.check, object.kind, object.namespace, object.name, finding.path
        ) },
    });
    if let Some(index) = rules.iter().position(|rule| rule["id"] == finding.check.as_str()) {
        result["ruleIndex"] = json!(index);
    }
    result
}

fn notification(fault: &ScanFault) -> Value {
    let mut location = json!({ "artifactLocation": { "uri": uri(&fault.file) } });
    if let (Some(line), Some(column)) = (fault.line, fault.column) {
        location["region"] = json!({ "startLine": line, "startColumn": column });
    }
    json!({
        "level": "error",
        "message": { "text": fault.message },
        "locations": [{ "physicalLocation": location }],
    })
}

fn uri(file: &str) -> String {
    let plain = file.strip_prefix("./").unwrap_or(file);
    let encoded = utf8_percent_encode(plain, PATH);
    if Path::new(plain).is_absolute() { format!("file://{encoded}") } else { encoded.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_uris() {
        assert_eq!(uri("./a b/c#.yaml"), "a%20b/c%23.yaml");
        assert_eq!(uri("/é.yaml"), "file:///%C3%A9.yaml");
    }
}
