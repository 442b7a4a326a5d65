//! Objects in files, judged one text after another.
//!
//! Every finding names its object, its check in Kubernetes' words, and each place that must change with line, column and
//! fix. What is judged is what an API server would make of the object, with its defaults. What cannot be read, and fields
//! that no API server takes, are faults of their own and hide nothing else.

mod snippet;
mod waiver;

use jiff::civil::Date;
use nullius_kinds::Form;
use nullius_manifest::{ApiObject, Fault, Found, Manifest, Place, Source, Unreadable, objects};
use nullius_model::FieldPath;
use nullius_policy::pod_security::{
    CheckId, Evaluation, Level, LevelVersion, PodTemplate, Violation, Workload, evaluate,
};
use serde::Serialize;

use snippet::Lines;
pub use waiver::{Waived, Waivers, WaiversError};

/// A scan under way.
#[derive(Debug)]
pub struct Scan {
    policy: LevelVersion,
    waivers: Waivers,
    report: Report,
}

/// What a scan found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What it was measured by: `restricted:latest`.
    pub pod_security: String,
    /// What is broken: one for each object and check.
    pub findings: Vec<Finding>,
    /// Objects that break something, with the API server's sentence about each.
    pub objects: Vec<BrokenObject>,
    /// Findings that somebody has accepted.
    pub waived: Vec<Waived>,
    /// What could not be read, or is nothing that an API server takes.
    pub errors: Vec<ScanFault>,
    /// Waivers that are of no use any more: expired, or for nothing that was found.
    pub notes: Vec<String>,
    /// How much was looked at.
    pub counts: Counts,
}

/// A check that an object does not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The check.
    pub check: CheckId,
    /// The level that was asked for.
    pub level: &'static str,
    /// Its version.
    pub version: String,
    /// How bad it is.
    pub severity: Severity,
    /// The object.
    pub object: ObjectRef,
    /// What the API server says of this check.
    pub message: String,
    /// The first field that must change.
    pub path: String,
    /// How.
    pub fix: String,
    /// Where that is.
    #[serde(flatten)]
    pub location: Location,
    /// Every field that must change.
    pub spots: Vec<SpotAt>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It is not hardened: a check of the restricted level.
    Medium,
    /// It opens a known way to the node: a check of the baseline level.
    High,
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Empty where the object says none.
    pub namespace: String,
    /// The name, or what it will begin with.
    pub name: String,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// The file, or `stdin`.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// The line itself.
    pub snippet: String,
}

/// A field that must change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SpotAt {
    /// The field.
    pub path: String,
    /// What to do.
    pub fix: String,
    /// Counted from 1; of the nearest field above where it is missing.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
}

/// An object that breaks something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokenObject {
    /// The object.
    pub object: ObjectRef,
    /// Where it begins.
    #[serde(flatten)]
    pub location: Location,
    /// What the API server says of it as a whole.
    pub message: String,
    /// How many of the findings, in their order, are of it.
    #[serde(skip)]
    pub findings: usize,
}

/// Something that could not be read, or that an API server would not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScanFault {
    /// The file or folder.
    pub file: String,
    /// Counted from 1; absent for a file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Texts.
    pub files: usize,
    /// Objects of Kubernetes.
    pub objects: usize,
    /// Those that are pods or make pods.
    pub checked: usize,
    /// Those of kinds that clusters define themselves, which are taken as they are written.
    pub custom: usize,
    /// Documents that are something else.
    pub other: usize,
}

impl ObjectRef {
    /// `Deployment shop/web`.
    pub fn label(&self) -> String {
        let name = if self.name.is_empty() { "(without a name)" } else { &self.name };
        match self.namespace.as_str() {
            "" => format!("{} {name}", self.kind),
            namespace => format!("{} {namespace}/{name}", self.kind),
        }
    }
}

impl Scan {
    /// Begins; waivers count as of `today`.
    pub fn new(policy: LevelVersion, waivers: Waivers, today: Date) -> Self {
        let report = Report {
            pod_security: policy.to_string(),
            findings: Vec::new(),
            objects: Vec::new(),
            waived: Vec::new(),
            errors: Vec::new(),
            notes: Vec::new(),
            counts: Counts::default(),
        };
        Self { policy, waivers: waivers.on_day(today), report }
    }

    /// Judges one text, or notes why there is none.
    pub fn source(&mut self, source: Result<Source, Unreadable>) {
        let source = match source {
            Ok(source) => source,
            Err(Unreadable { name, message }) => {
                let fault = ScanFault { file: name, line: None, column: None, message, next: None };
                return self.report.errors.push(fault);
            }
        };
        self.report.counts.files += 1;
        let lines = Lines::of(&source);
        objects(&source.text, |found| match found {
            Found::Object(object) => self.object(&lines, &object),
            Found::Other(_) => self.report.counts.other += 1,
            Found::Fault(fault) => {
                self.fault(&source, fault.place, fault.message, fault.next);
            }
        });
    }

    /// Ends.
    pub fn finish(mut self) -> Report {
        self.report.notes = self.waivers.notes();
        self.report
    }

    fn fault(&mut self, source: &Source, at: Place, message: String, next: Option<String>) {
        let (line, column) = (Some(at.line), Some(at.column));
        let file = source.name.clone();
        self.report.errors.push(ScanFault { file, line, column, message, next });
    }

    fn object(&mut self, lines: &Lines<'_>, manifest: &Manifest) {
        self.report.counts.objects += 1;
        let ApiObject { object, faults, form } = manifest.as_api_object();
        self.report.counts.custom += usize::from(form == Form::AsWritten);
        for Fault { place, message, next } in faults {
            self.fault(lines.source, place, message, next);
        }
        let Some(workload) = Workload::of_kind(manifest.group(), &manifest.kind) else { return };
        let Some(value) = object else { return };
        self.report.counts.checked += 1;
        let template = match workload.read(&value) {
            Ok(Some(template)) => template,
            Ok(None) => return,
            Err(error) => {
                let place = manifest.node().place_of(&error.path);
                let next =
                    "Kubernetes would not take it; see the field's type with `kubectl explain`";
                return self.fault(lines.source, place, error.to_string(), Some(next.to_owned()));
            }
        };
        let evaluation = evaluate(self.policy, &template.pod);
        self.judged(lines, manifest, &template, evaluation);
    }

    fn judged(
        &mut self,
        lines: &Lines<'_>,
        manifest: &Manifest,
        template: &PodTemplate<'_>,
        mut evaluation: Evaluation,
    ) {
        let object = ObjectRef {
            api_version: manifest.api_version.clone(),
            kind: manifest.kind.clone(),
            namespace: manifest.namespace().to_owned(),
            name: manifest.name().to_owned(),
        };
        let policy = self.policy;
        let Self { waivers, report, .. } = self;
        evaluation.violations.retain(|violation| {
            let finding = finding(lines, manifest, template, policy, violation, &object);
            match waivers.cover(&finding) {
                Some(waived) => {
                    report.waived.push(waived);
                    false
                }
                None => {
                    report.findings.push(finding);
                    true
                }
            }
        });
        if !evaluation.is_clean() {
            let location = location(lines, manifest.node().place());
            report.objects.push(BrokenObject {
                object,
                location,
                message: evaluation.refusal(),
                findings: evaluation.violations.len(),
            });
        }
    }
}

fn finding(
    lines: &Lines<'_>,
    manifest: &Manifest,
    template: &PodTemplate<'_>,
    policy: LevelVersion,
    violation: &Violation,
    object: &ObjectRef,
) -> Finding {
    let place_of = |path: &FieldPath| manifest.node().place_of(path);
    let spots: Vec<SpotAt> = violation
        .spots
        .iter()
        .map(|spot| {
            let path = template.at.clone().join(&spot.path);
            let Place { line, column } = place_of(&path);
            SpotAt { path: path.to_string(), fix: spot.fix.clone(), line, column }
        })
        .collect();
    let at = spots.first().map_or_else(
        || manifest.node().place(),
        |spot| Place { line: spot.line, column: spot.column },
    );
    let first = spots.first();
    Finding {
        check: violation.check,
        level: policy.level.as_str(),
        version: policy.version.to_string(),
        severity: if violation.level == Level::Baseline {
            Severity::High
        } else {
            Severity::Medium
        },
        object: object.clone(),
        message: violation.refusal(policy),
        path: first.map(|spot| spot.path.clone()).unwrap_or_default(),
        fix: first.map(|spot| spot.fix.clone()).unwrap_or_default(),
        location: location(lines, at),
        spots,
    }
}

fn location(lines: &Lines<'_>, at: Place) -> Location {
    Location {
        file: lines.source.name.clone(),
        line: at.line,
        column: at.column,
        snippet: lines.snippet(at.line),
    }
}
