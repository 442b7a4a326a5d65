//! Tests for people: each case that does not hold with what was expected and what came, then what was not seen.

use nullius_admission::{CaseOutcome, CaseReport, TrialReport};

use crate::{
    command::policy,
    output::{Layout, Table, escape},
};

/// The cases that do not hold, and what each policy came to where that was asked for.
pub(in crate::command) fn failures(report: &TrialReport) -> String {
    let mut text = String::new();
    for case in &report.cases {
        let is_told = [CaseOutcome::Failed, CaseOutcome::Errored].contains(&case.outcome);
        if is_told || !case.trace.is_empty() {
            one(case, &mut text);
            text.push('\n');
        }
    }
    text
}

/// Every case that holds or is skipped, one a line.
pub(in crate::command) fn passes(report: &TrialReport) -> String {
    let mut text = String::new();
    for case in &report.cases {
        if [CaseOutcome::Passed, CaseOutcome::Skipped].contains(&case.outcome) {
            headline(case, &mut text);
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn headline(case: &CaseReport, text: &mut String) {
    let at = &case.location;
    let outcome = match case.outcome {
        CaseOutcome::Passed => "passed",
        CaseOutcome::Failed => "failed",
        CaseOutcome::Errored => "cannot be told",
        CaseOutcome::Skipped => "skipped",
    };
    text.push_str(&format!(
        "{}:{}:{}: {outcome}: {}\n",
        escape::cell(&at.file),
        at.line,
        at.column,
        escape::cell(&case.name)
    ));
}

fn one(case: &CaseReport, text: &mut String) {
    headline(case, text);
    for reason in &case.reasons {
        text.push_str(&format!("  why: {}\n", escape::cell(&reason.message)));
        if let Some(next) = &reason.next {
            text.push_str(&format!("  next: {}\n", escape::cell(next)));
        }
    }
    for failure in &case.failures {
        let at = &failure.location;
        let number = at.line.to_string();
        let space = " ".repeat(number.len());
        text.push_str(&format!(
            "  {}:{}:{}: {}\n    {number} | {}\n    {space} = expected: {}\n    {space} =      got: {}\n",
            escape::cell(&at.file),
            at.line,
            at.column,
            escape::cell(&failure.field),
            escape::cell(&at.snippet),
            escape::cell(&failure.expected),
            escape::cell(&failure.actual),
        ));
    }
    case.trace.iter().for_each(|each| policy::explain(each, text));
}

/// What the cases have not seen of each policy.
pub(super) fn coverage(report: &TrialReport, is_wanted: bool, layout: Layout) -> String {
    if !is_wanted {
        return String::new();
    }
    let mut table = Table::new(["POLICY", "SEEN", "NOT SEEN"]);
    for policy in &report.coverage.policies {
        let missing: Vec<String> = policy
            .missing()
            .map(|(line, what)| format!("{what} ({}:{line})", policy.file))
            .collect();
        let mut rest = missing.into_iter();
        let seen = format!("{}/{}", policy.covered, policy.total);
        let first = match (rest.next(), policy.requests) {
            (None, 0) => "it was for no request".to_owned(),
            (first, _) => first.unwrap_or_default(),
        };
        table.row([policy.policy.clone(), seen, first]);
        for more in rest {
            table.row([policy.policy.clone(), String::new(), more]);
        }
    }
    table.render(layout)
}

/// The names of the cases that do not hold.
pub(in crate::command) fn names(report: &TrialReport) -> String {
    let wrong = report
        .cases
        .iter()
        .filter(|case| [CaseOutcome::Failed, CaseOutcome::Errored].contains(&case.outcome));
    wrong.map(|case| format!("{}\n", escape::cell(&case.name))).collect()
}

/// What stands beside the result: what could not be read or used, and the sums.
pub(super) fn beside(report: &TrialReport, with_coverage: bool, least: Option<u8>) -> String {
    let mut text = sums(report);
    let coverage = &report.coverage;
    if with_coverage {
        let (covered, total, percent) = (coverage.covered, coverage.total, coverage.percent);
        text.push_str(&format!("; {percent} % of the policies seen ({covered} of {total} sides)"));
    }
    if let Some(least) = least {
        text.push_str(&format!(", which is less than {least} %"));
    }
    text.push('\n');
    text
}

/// What could not be read or used, and how many cases came to what.
pub(in crate::command) fn sums(report: &TrialReport) -> String {
    let mut text = String::new();
    for fault in &report.errors {
        text.push_str(&crate::command::scan::fault(fault));
    }
    for note in &report.notes {
        text.push_str(&format!("note: {}\n", escape::lines(note)));
    }
    let counts = &report.counts;
    let (cases, files) = (report.cases.len(), counts.files);
    text.push_str(&format!(
        "{cases} {} in {files} {}: {} passed",
        if cases == 1 { "case" } else { "cases" },
        if files == 1 { "file" } else { "files" },
        counts.passed
    ));
    let sums = [
        (counts.failed, "failed"),
        (counts.errored, "cannot be told"),
        (counts.skipped, "skipped"),
    ];
    for (count, what) in sums.into_iter().filter(|(count, _)| *count > 0) {
        text.push_str(&format!(", {count} {what}"));
    }
    text
}
