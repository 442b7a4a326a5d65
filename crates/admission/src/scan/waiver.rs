//! Findings that somebody has accepted: which, why, and until which day.
//!
//! A waiver covers one check of the objects that it names. It says its reason, ends within a year, and is told when it
//! has ended or covers nothing.

use std::fmt;

use jiff::{ToSpan as _, civil::Date};
use nullius_manifest::{Dialect, FieldError, FieldFault, Reader, Source, SyntaxError, parse};
use nullius_model::API_VERSION;
use nullius_policy::pod_security::all_checks;
use serde::{Deserialize, Serialize};

use super::Finding;

/// All waivers of a scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waivers {
    all: Vec<Waiver>,
    today: Option<Date>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiver {
    rule: Rule,
    expires: Date,
    /// `FILE:LINE`.
    place: String,
    uses: usize,
}

/// A finding that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waived {
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// Why it is accepted.
    pub reason: String,
    /// The last day.
    pub expires: String,
}

/// A file that holds no waivers: every fault, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaiversError(pub Vec<String>);

impl fmt::Display for WaiversError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for WaiversError {}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    waivers: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    check: String,
    kind: Option<String>,
    namespace: Option<String>,
    /// A `*` at the end stands for anything.
    name: String,
    reason: String,
    expires: String,
}

const KIND: &str = "ScanWaivers";
/// How far away the last day may be.
const DAYS_MAX: i64 = 366;

impl Waivers {
    /// Reads a file of waivers; dates are measured from `today`.
    pub fn read(source: &Source, today: Date) -> Result<Self, WaiversError> {
        let told = |line: usize, message: &str| format!("{}:{line}: {message}", source.name);
        let documents = parse(&source.text, Dialect::Strict).map_err(
            |SyntaxError { line, message, .. }| WaiversError(vec![told(line, &message)]),
        )?;
        let mut all = Vec::new();
        let mut faults = Vec::new();
        for node in &documents {
            let document = match Document::deserialize(Reader(node)) {
                Ok(document) => document,
                Err(error) => {
                    faults.push(told(error.line.max(1), &field_fault(&error)));
                    continue;
                }
            };
            if document.api_version != API_VERSION || document.kind != KIND {
                let message = format!("expected `apiVersion: {API_VERSION}` and `kind: {KIND}`");
                faults.push(told(node.line, &message));
                continue;
            }
            for (index, rule) in document.waivers.into_iter().enumerate() {
                let line = |field: &str| node.line_of(&format!("waivers[{index}].{field}"));
                let before = faults.len();
                if !all_checks().any(|check| check.id.as_str() == rule.check) {
                    let known: Vec<_> = all_checks().map(|check| check.id.as_str()).collect();
                    let message = format!("`check` is none of `{}`", known.join("`, `"));
                    faults.push(told(line("check"), &message));
                }
                for (field, text) in [("reason", &rule.reason), ("name", &rule.name)] {
                    if text.trim().is_empty() {
                        faults.push(told(line(field), &format!("`{field}` is empty")));
                    }
                }
                let latest = today.saturating_add(DAYS_MAX.days());
                let place = format!("{}:{}", source.name, line("check"));
                match rule.expires.parse::<Date>() {
                    Ok(expires) if expires > latest => faults.push(told(
                        line("expires"),
                        &format!(
                            "`expires` is more than {DAYS_MAX} days away; use {latest} at most"
                        ),
                    )),
                    Ok(expires) if faults.len() == before => {
                        all.push(Waiver { rule, expires, place, uses: 0 });
                    }
                    Ok(_) => {}
                    Err(_) => faults
                        .push(told(line("expires"), "`expires` is no day such as `2026-12-31`")),
                }
            }
        }
        if faults.is_empty() {
            Ok(Self { all, today: Some(today) })
        } else {
            Err(WaiversError(faults))
        }
    }

    pub(super) fn on_day(self, today: Date) -> Self {
        Self { today: Some(today), ..self }
    }

    /// Covers a finding by the first waiver that is for it and has not ended.
    pub(super) fn cover(&mut self, finding: &Finding) -> Option<Waived> {
        let today = self.today?;
        let covers = |waiver: &&mut Waiver| waiver.expires >= today && waiver.rule.covers(finding);
        let waiver = self.all.iter_mut().find(covers)?;
        waiver.uses += 1;
        Some(Waived {
            finding: finding.clone(),
            reason: waiver.rule.reason.clone(),
            expires: waiver.expires.to_string(),
        })
    }

    /// Waivers that are of no use.
    pub(super) fn notes(&self) -> Vec<String> {
        let note = |waiver: &Waiver| {
            let (place, rule) = (&waiver.place, &waiver.rule);
            if self.today.is_some_and(|today| waiver.expires < today) {
                let expires = waiver.expires;
                return Some(format!(
                    "{place}: the waiver of `{}` for `{}` ended on {expires}",
                    rule.check, rule.name
                ));
            }
            (waiver.uses == 0).then(|| {
                format!(
                    "{place}: the waiver of `{}` for `{}` covers nothing; take it out",
                    rule.check, rule.name
                )
            })
        };
        self.all.iter().filter_map(note).collect()
    }
}

impl Rule {
    fn covers(&self, finding: &Finding) -> bool {
        let object = &finding.object;
        let name = match self.name.strip_suffix('*') {
            Some(start) => object.name.starts_with(start),
            None => object.name == self.name,
        };
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        name && finding.check.as_str() == self.check
            && is(&self.kind, &object.kind)
            && is(&self.namespace, &object.namespace)
    }
}

fn field_fault(error: &FieldError) -> String {
    let path = if error.path.is_empty() { String::new() } else { format!("{}: ", error.path) };
    match &error.fault {
        FieldFault::Unknown { field, known } => {
            format!("{path}unknown field `{field}`; known here are `{}`", known.join("`, `"))
        }
        FieldFault::Value(message) => format!("{path}{message}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn read(text: &str) -> Result<Waivers, WaiversError> {
        let source = Source { name: "waivers.yaml".to_owned(), text: text.to_owned() };
        Waivers::read(&source, "2026-11-21".parse().unwrap())
    }

    const HEAD: &str = "apiVersion: nullius.dev/v1alpha1\nkind: ScanWaivers\nwaivers:\n";

    #[test]
    fn a_waiver_needs_a_check_a_name_a_reason_and_a_day() {
        let wrong = |rule: &str| read(&format!("{HEAD}- {{{rule}}}\n")).unwrap_err().to_string();
        assert!(
            wrong("check: x, name: a, reason: r, expires: 2026-12-01")
                .starts_with("waivers.yaml:4: `check` is none of `appArmorProfile`, ")
        );
        assert_eq!(
            wrong("check: privileged, name: a, reason: ' ', expires: 2026-12-01"),
            "waivers.yaml:4: `reason` is empty"
        );
        assert_eq!(
            wrong("check: privileged, name: a, reason: r, expires: soon"),
            "waivers.yaml:4: `expires` is no day such as `2026-12-31`"
        );
        assert_eq!(
            wrong("check: privileged, name: a, reason: r, expires: 2030-01-01"),
            "waivers.yaml:4: `expires` is more than 366 days away; use 2027-11-22 at most"
        );
        assert_eq!(
            wrong("check: privileged, name: a, reason: r"),
            "waivers.yaml:4: waivers[0]: the field `expires` is missing"
        );
        assert!(
            wrong("check: privileged, name: a, reason: r, expires: 2026-12-01, until: x")
                .contains("unknown field `until`")
        );
        assert!(read("kind: x\n").is_err() && read("[").is_err());
        assert_eq!(
            read("").unwrap(),
            Waivers { all: Vec::new(), today: "2026-11-21".parse().ok() }
        );
    }
}
