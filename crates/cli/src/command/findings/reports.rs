//! Findings as documents that other tools read in a cluster: PolicyReport of the policy working group, and OpenReports.
//!
//! One for each namespace, cut into several where `kubectl apply` could not carry it, and one for objects of the cluster.

use std::collections::BTreeMap;

use nullius_model::{Enforcement, Finding, FindingState, Severity};
use serde_json::{Map, Value, json};

use crate::{
    failure::Failure,
    output::{Format, json_text, yaml_text},
};

/// Characters of results in one document: `kubectl apply` keeps a copy in an annotation, which holds 256 KiB.
const DOCUMENT: usize = 150 * 1024;

/// Which kind of report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReportKind {
    PolicyReport,
    OpenReports,
}

impl ReportKind {
    /// The kind that a form asks for.
    pub(super) fn of(form: Format) -> Option<Self> {
        match form {
            Format::Policyreport => Some(Self::PolicyReport),
            Format::Openreports => Some(Self::OpenReports),
            Format::Table
            | Format::Wide
            | Format::Json
            | Format::Yaml
            | Format::Name
            | Format::Sarif
            | Format::Junit
            | Format::Csv
            | Format::Codequality
            | Format::Markdown
            | Format::Native
            | Format::Manifest
            | Format::Dot
            | Format::Svg
            | Format::Kubernetes => None,
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::PolicyReport => "wgpolicyk8s.io/v1alpha2",
            Self::OpenReports => "openreports.io/v1alpha1",
        }
    }

    fn kind(self, namespace: &str) -> &'static str {
        match (self, namespace.is_empty()) {
            (Self::PolicyReport, false) => "PolicyReport",
            (Self::PolicyReport, true) => "ClusterPolicyReport",
            (Self::OpenReports, false) => "Report",
            (Self::OpenReports, true) => "ClusterReport",
        }
    }
}

/// The documents of all namespaces, as a stream of YAML.
pub(super) fn documents(kind: ReportKind, findings: &[Finding]) -> Result<String, Failure> {
    let mut by_namespace: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        by_namespace.entry(&finding.object.namespace).or_default().push(finding);
    }
    let mut out = String::new();
    for (namespace, mut findings) in by_namespace {
        findings.sort_by_key(|finding| &finding.id);
        for (number, part) in parts(&findings)?.iter().enumerate() {
            if !out.is_empty() {
                out.push_str("---\n");
            }
            out.push_str(&yaml_text(&document(kind, namespace, number, part))?);
        }
    }
    Ok(out)
}

/// Results that fit into one document each, with their outcomes.
fn parts(findings: &[&Finding]) -> Result<Vec<Vec<(&'static str, Value)>>, Failure> {
    let mut parts = vec![Vec::new()];
    let mut length = 0;
    for finding in findings {
        let told = (outcome(finding), result(finding));
        let adds = json_text(&told.1)?.len();
        if length + adds > DOCUMENT && length > 0 {
            parts.push(Vec::new());
            length = 0;
        }
        length += adds;
        if let Some(part) = parts.last_mut() {
            part.push(told);
        }
    }
    Ok(parts)
}

fn document(
    kind: ReportKind,
    namespace: &str,
    number: usize,
    results: &[(&'static str, Value)],
) -> Value {
    let name = match number {
        0 => "nullius".to_owned(),
        _ => format!("nullius-{}", number + 1),
    };
    let mut metadata = json!({
        "name": name,
        "labels": { "app.kubernetes.io/managed-by": "nullius" },
    });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    let count = |wanted: &str| results.iter().filter(|(outcome, _)| *outcome == wanted).count();
    let mut document = Map::new();
    document.insert("apiVersion".to_owned(), json!(kind.api_version()));
    document.insert("kind".to_owned(), json!(kind.kind(namespace)));
    document.insert("metadata".to_owned(), metadata);
    if kind == ReportKind::OpenReports {
        document.insert("source".to_owned(), json!("nullius"));
    }
    let summary = json!({
        "pass": count("pass"), "fail": count("fail"), "warn": count("warn"), "error": 0,
        "skip": count("skip"),
    });
    document.insert("summary".to_owned(), summary);
    let results: Vec<_> = results.iter().map(|(_, result)| result.clone()).collect();
    document.insert("results".to_owned(), json!(results));
    Value::Object(document)
}

fn outcome(finding: &Finding) -> &'static str {
    match (finding.state, finding.enforcement) {
        (FindingState::Resolved, _) => "pass",
        (FindingState::Waived, _) => "skip",
        (FindingState::Open, Enforcement::Inform) => "warn",
        (FindingState::Open, Enforcement::Deny | Enforcement::Warn | Enforcement::Audit) => "fail",
    }
}

fn result(finding: &Finding) -> Value {
    let object = &finding.object;
    let mut resource = Map::new();
    let fields = [
        ("apiVersion", &object.api_version),
        ("kind", &object.kind),
        ("namespace", &object.namespace),
        ("name", &object.name),
        ("uid", &object.uid),
    ];
    let present = fields.into_iter().filter(|(_, text)| !text.is_empty());
    resource.extend(present.map(|(name, text)| (name.to_owned(), json!(text))));
    let mut properties = Map::new();
    let waiver = finding.waiver.as_ref();
    let notes = [
        ("finding", finding.id.to_string()),
        ("effect", finding.enforcement.to_string()),
        ("part", finding.part.to_string()),
        ("binding", finding.binding.clone()),
        ("fix", finding.fix.clone()),
        ("evidence", finding.evidence.join("\n")),
        ("accepted-by", waiver.map(|waiver| waiver.owner.clone()).unwrap_or_default()),
        ("accepted-until", waiver.map(|waiver| waiver.expires.clone()).unwrap_or_default()),
    ];
    let notes = notes.into_iter().filter(|(_, text)| !text.is_empty());
    properties.extend(notes.map(|(name, text)| (format!("nullius.dev/{name}"), json!(text))));
    let seen = finding.resolved_at.unwrap_or(finding.last_seen);
    json!({
        "source": "nullius",
        "policy": finding.policy,
        "rule": finding.check,
        "category": finding.source.as_str(),
        "severity": severity(finding.severity),
        "result": outcome(finding),
        "scored": finding.enforcement != Enforcement::Inform,
        "message": finding.message,
        "resources": [resource],
        "properties": properties,
        "timestamp": { "seconds": seen.as_second(), "nanos": 0 },
    })
}

/// The severity in the words that both kinds of report know.
fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
    }
}
