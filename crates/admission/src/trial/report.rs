//! What tests came to, and how build servers read it.

use std::collections::BTreeMap;

use nullius_policy::admission_policy::PolicyTrace;
use serde::Serialize;

use super::coverage::Coverage;
use crate::report::{Location, ObjectRef, ScanFault, escaped};

/// What tests came to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialReport {
    /// Every case, in the order of the files.
    pub cases: Vec<CaseReport>,
    /// What could not be read or used.
    pub errors: Vec<ScanFault>,
    /// What a person should know beside.
    pub notes: Vec<String>,
    /// How many there are.
    pub counts: CaseCounts,
    /// How much of the policies the cases have seen.
    pub coverage: Coverage,
}

/// How many cases there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseCounts {
    /// Files of tests.
    pub files: usize,
    /// Those that hold.
    pub passed: usize,
    /// Those that do not.
    pub failed: usize,
    /// Those of which it cannot be told.
    pub errored: usize,
    /// Those that are skipped.
    pub skipped: usize,
}

/// What one case came to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseReport {
    /// The name of its file's document, where it has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub test: String,
    /// Its name, with its object where the case is for several.
    pub name: String,
    /// Where it stands.
    #[serde(flatten)]
    pub location: Location,
    /// Its object, where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// How it ended.
    pub outcome: CaseOutcome,
    /// What came of the request: `allowed`, `warned`, `denied`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
    /// Expectations that do not hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// Why nothing can be said, or why the case is skipped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// What was done, policy by policy, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<PolicyTrace>,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CaseOutcome {
    /// What was expected came.
    Passed,
    /// Something else came.
    Failed,
    /// Nothing can be said.
    Errored,
    /// It was not asked.
    Skipped,
}

/// An expectation that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The field, `cases[0].expect.message`.
    pub field: String,
    /// What was expected.
    pub expected: String,
    /// What came.
    pub actual: String,
    /// Where the expectation stands.
    #[serde(flatten)]
    pub location: Location,
}

/// Why nothing can be said of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// What is missing or wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The report as JUnit XML: a suite for each file, a case for each case, an error for what could not be read.
pub fn trial_junit(report: &TrialReport) -> String {
    let mut suites: BTreeMap<&str, Vec<&CaseReport>> = BTreeMap::new();
    let mut faults: BTreeMap<&str, Vec<&ScanFault>> = BTreeMap::new();
    for case in &report.cases {
        suites.entry(&case.location.file).or_default().push(case);
    }
    for fault in &report.errors {
        suites.entry(&fault.file).or_default();
        faults.entry(&fault.file).or_default().push(fault);
    }
    let of = |cases: &[&CaseReport], outcome| {
        cases.iter().filter(|case| case.outcome == outcome).count()
    };
    let all: Vec<&CaseReport> = report.cases.iter().collect();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"nullius test\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n",
        all.len() + report.errors.len(),
        of(&all, CaseOutcome::Failed),
        of(&all, CaseOutcome::Errored) + report.errors.len(),
        of(&all, CaseOutcome::Skipped),
    );
    for (file, cases) in &suites {
        let wrong = faults.get(file).map(Vec::as_slice).unwrap_or_default();
        xml.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n",
            escaped(file),
            cases.len() + wrong.len(),
            of(cases, CaseOutcome::Failed),
            of(cases, CaseOutcome::Errored) + wrong.len(),
            of(cases, CaseOutcome::Skipped),
        ));
        cases.iter().for_each(|case| write_case(case, &mut xml));
        for fault in wrong {
            let line = fault.line.map(|line| format!("line {line}: ")).unwrap_or_default();
            xml.push_str(&format!(
                "    <testcase classname=\"{0}\" name=\"reading\" file=\"{0}\">\n      <error message=\"{line}{1}\"/>\n    </testcase>\n",
                escaped(file),
                escaped(&fault.message),
            ));
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn write_case(case: &CaseReport, xml: &mut String) {
    let (file, name) = (escaped(&case.location.file), escaped(&case.name));
    let head = format!("    <testcase classname=\"{file}\" name=\"{name}\" file=\"{file}\"");
    let told: Vec<String> = case.reasons.iter().map(|reason| escaped(&reason.message)).collect();
    let inner = match case.outcome {
        CaseOutcome::Passed => {
            xml.push_str(&format!("{head}/>\n"));
            return;
        }
        CaseOutcome::Skipped => format!("<skipped message=\"{}\"/>", told.join("; ")),
        CaseOutcome::Errored => format!("<error message=\"{}\"/>", told.join("; ")),
        CaseOutcome::Failed => {
            let first = case
                .failures
                .first()
                .map(|first| format!("expected {}, got {}", first.expected, first.actual));
            let lines: Vec<String> = case
                .failures
                .iter()
                .map(|each| {
                    let at = &each.location;
                    let (file, line, column) = (&at.file, at.line, at.column);
                    let Failure { field, expected, actual, .. } = each;
                    escaped(&format!(
                        "{file}:{line}:{column}: {field}: expected {expected}, got {actual}"
                    ))
                })
                .collect();
            format!(
                "<failure message=\"{}\">{}</failure>",
                escaped(&first.unwrap_or_default()),
                lines.join("&#10;")
            )
        }
    };
    xml.push_str(&format!("{head}>\n      {inner}\n    </testcase>\n"));
}
