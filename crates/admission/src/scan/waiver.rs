//! Findings that somebody has accepted: which, why, and until which day.
//!
//! A waiver covers one check or policy for the objects that it names. It says who answers for it and why, ends within a
//! year, is a finding itself when it has ended, and is told when it covers nothing.

use std::{collections::BTreeMap, fmt};

use jiff::{ToSpan as _, civil::Date};
use nullius_kinds::nearest_name;
use nullius_manifest::{
    Dialect, FieldError, FieldFault, Manifest, Reader, Source, SyntaxError, parse,
};
use nullius_model::{API_VERSION, Enforcement, Severity};
use serde::Deserialize;

use super::snippet::Lines;
use crate::{
    Policies,
    practice::excludable,
    report::{BrokenObject, Finding, Location, ObjectRef, Report, SpotAt, Waived},
};

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
    /// Which of its file.
    path: String,
    location: Location,
    uses: usize,
}

/// The waiver that covers a finding.
pub(super) struct Accepted<'a>(&'a Waiver);

impl Accepted<'_> {
    pub(super) fn of(self, finding: Finding) -> Waived {
        let Waiver { rule, expires, .. } = self.0;
        Waived {
            finding,
            owner: rule.owner.clone(),
            reason: rule.reason.clone(),
            expires: expires.to_string(),
            exception: None,
        }
    }
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
    /// Labels that the object must have.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    owner: String,
    reason: String,
    expires: String,
}

const KIND: &str = "ScanWaivers";
/// What a waiver is found by that has ended.
pub(crate) const EXPIRED: &str = "waiver-expired";
/// How far away the last day may be.
const DAYS_MAX: i64 = 366;

impl Waivers {
    /// Reads a file of waivers for findings of the Pod Security Standards, of good practice and of policies; dates are
    /// measured from `today`.
    pub fn read(source: &Source, today: Date, policies: &Policies) -> Result<Self, WaiversError> {
        let told = |line: usize, message: &str| format!("{}:{line}: {message}", source.name);
        let documents = parse(&source.text, Dialect::Strict).map_err(
            |SyntaxError { line, message, .. }| WaiversError(vec![told(line, &message)]),
        )?;
        let lines = Lines::of(source);
        let known = known(policies);
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
                let path = format!("waivers[{index}]");
                let line = |field: &str| node.line_of(&format!("{path}.{field}"));
                let before = faults.len();
                if !known.contains(&rule.check) {
                    let message = unknown_check(&rule.check, &known);
                    faults.push(told(line("check"), &message));
                }
                let texts =
                    [("owner", &rule.owner), ("reason", &rule.reason), ("name", &rule.name)];
                for (field, text) in texts {
                    if text.trim().is_empty() {
                        faults.push(told(line(field), &format!("`{field}` is empty")));
                    }
                }
                let latest = today.saturating_add(DAYS_MAX.days());
                let location = lines.location(node.place_of_text(&format!("{path}.check")));
                match rule.expires.parse::<Date>() {
                    Ok(expires) if expires > latest => faults.push(told(
                        line("expires"),
                        &format!(
                            "`expires` is more than {DAYS_MAX} days away; use {latest} at most"
                        ),
                    )),
                    Ok(expires) if faults.len() == before => {
                        all.push(Waiver { rule, expires, path, location, uses: 0 });
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
    pub(super) fn cover(&mut self, finding: &Finding, manifest: &Manifest) -> Option<Accepted<'_>> {
        let today = self.today?;
        let covers =
            |waiver: &&mut Waiver| waiver.expires >= today && waiver.rule.covers(finding, manifest);
        let waiver = self.all.iter_mut().find(covers)?;
        waiver.uses += 1;
        Some(Accepted(waiver))
    }

    /// Tells of waivers that have ended and of those that cover nothing.
    pub(super) fn end(self, report: &mut Report) {
        for waiver in self.all {
            let Waiver { rule, expires, location, uses, .. } = &waiver;
            if self.today.is_some_and(|today| *expires < today) {
                let expired = waiver.expired(report);
                report.objects.push(expired);
            } else if *uses == 0 {
                report.notes.push(format!(
                    "{}:{}: the waiver of `{}` for `{}` covers nothing; take it out",
                    location.file, location.line, rule.check, rule.name
                ));
            }
        }
    }
}

impl Waiver {
    /// The waiver as an object that is wrong: its finding joins the report.
    fn expired(&self, report: &mut Report) -> BrokenObject {
        let Self { rule, expires, path, location, .. } = self;
        let object = ObjectRef {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            namespace: rule.namespace.clone().unwrap_or_default(),
            name: rule.name.clone(),
        };
        let message = format!(
            "the waiver of `{}` for `{}` ended on {expires}; `{}` answers for it",
            rule.check, rule.name, rule.owner
        );
        let fix = "take it out, or accept the finding anew with another day";
        let Location { line, column, .. } = *location;
        report.findings.push(Finding {
            check: EXPIRED.to_owned(),
            level: None,
            version: None,
            binding: None,
            severity: Severity::Medium,
            enforcement: Enforcement::Deny,
            object: object.clone(),
            message: message.clone(),
            path: path.clone(),
            fix: fix.to_owned(),
            location: location.clone(),
            spots: vec![SpotAt { path: path.clone(), fix: fix.to_owned(), line, column }],
        });
        BrokenObject { object, location: location.clone(), message, findings: 1 }
    }
}

impl Rule {
    fn covers(&self, finding: &Finding, manifest: &Manifest) -> bool {
        let object = &finding.object;
        let name = match self.name.strip_suffix('*') {
            Some(start) => object.name.starts_with(start),
            None => object.name == self.name,
        };
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        let labels = || manifest.node().child("metadata")?.child("labels");
        let labelled = |(key, value): (&String, &String)| {
            labels().and_then(|labels| labels.child(key)?.text()) == Some(value)
        };
        name && finding.check == self.check
            && is(&self.kind, &object.kind)
            && is(&self.namespace, &object.namespace)
            && self.labels.iter().all(labelled)
    }
}

/// What to say of a check that is none: with the near name, where there is one, else with all.
fn unknown_check(check: &str, known: &[String]) -> String {
    match nearest_name(known.iter().map(String::as_str), check) {
        Some(near) => format!("`check` is none that is known; did you mean `{near}`?"),
        None => format!("`check` is none of `{}`", known.join("`, `")),
    }
}

/// The names of everything that may be waived.
fn known(policies: &Policies) -> Vec<String> {
    let mut names = excludable();
    names.extend(policies.abouts().map(|(name, _)| name.to_owned()));
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

pub(crate) fn field_fault(error: &FieldError) -> String {
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
        let policies = Policies::new(nullius_policy::admission_policy::Version::LATEST);
        Waivers::read(&source, "2026-11-21".parse().unwrap(), &policies)
    }

    const HEAD: &str = "apiVersion: nullius.dev/v1alpha1\nkind: ScanWaivers\nwaivers:\n";

    #[test]
    fn a_waiver_needs_a_check_a_name_a_reason_and_a_day() {
        let wrong = |rule: &str| read(&format!("{HEAD}- {{{rule}}}\n")).unwrap_err().to_string();
        assert!(
            wrong("check: x, name: a, owner: o, reason: r, expires: 2026-12-01")
                .starts_with("waivers.yaml:4: `check` is none of `appArmorProfile`, ")
        );
        assert_eq!(
            wrong("check: privileged, name: a, owner: o, reason: ' ', expires: 2026-12-01"),
            "waivers.yaml:4: `reason` is empty"
        );
        assert_eq!(
            wrong("check: privileged, name: a, owner: o, reason: r, expires: soon"),
            "waivers.yaml:4: `expires` is no day such as `2026-12-31`"
        );
        assert_eq!(
            wrong("check: privileged, name: a, owner: o, reason: r, expires: 2030-01-01"),
            "waivers.yaml:4: `expires` is more than 366 days away; use 2027-11-22 at most"
        );
        assert_eq!(
            wrong("check: privileged, name: a, owner: o, reason: r"),
            "waivers.yaml:4: waivers[0]: the field `expires` is missing"
        );
        assert_eq!(
            wrong("check: privileged, name: a, reason: r, expires: 2026-12-01"),
            "waivers.yaml:4: waivers[0]: the field `owner` is missing"
        );
        assert!(
            wrong("check: privileged, name: a, owner: o, reason: r, expires: 2026-12-01, until: x")
                .contains("unknown field `until`")
        );
        assert!(read("kind: x\n").is_err() && read("[").is_err());
        assert_eq!(
            read("").unwrap(),
            Waivers { all: Vec::new(), today: "2026-11-21".parse().ok() }
        );
    }
}
