//! Tests of policies in files: requests, and what policies must make of them.
//!
//! [`Trials`] takes texts one at a time, asks the policies that each names with the state that it names, and ends in a
//! [`TrialReport`] with the [`Coverage`] of the policies. Policies decide here by the same functions as everywhere.

mod asking;
mod coverage;
mod expect;
mod fields;
mod form;
mod report;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use nullius_manifest::{Fault, Found, Manifest, Reader, Source, Unreadable, objects, walk};
use nullius_model::{API_VERSION, Timestamp};
use nullius_policy::admission_policy::{Request, Version};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value as Json;

pub use coverage::{Coverage, ExpressionCoverage, PolicyCoverage, SeenSide};
pub use report::{CaseCounts, CaseOutcome, CaseReport, Failure, Reason, TrialReport, trial_junit};

use crate::{
    Depth, Policies,
    own::own_faults,
    report::{FaultKind, Location, ObjectRef, ScanFault},
    scan::{field_fault, snippet::Lines},
    state::{Lack, State},
};
use asking::Failed;
use coverage::{Known, Ledger};
use form::{Case, Document, Given, KIND};

/// Tests under way.
#[derive(Debug)]
pub struct Trials {
    /// Only cases whose name it matches are asked.
    selection: Option<Regex>,
    depth: Depth,
    /// When exceptions are asked, where a file does not say it.
    now: Timestamp,
    report: TrialReport,
    ledger: Ledger,
    /// Faults and notes that were told already: several files name the same policies.
    told: BTreeSet<String>,
}

/// A file of tests, and what its cases share.
struct Sheet<'a> {
    lines: Lines<'a>,
    manifest: &'a Manifest,
    /// Paths are read from here.
    base: PathBuf,
    document: &'a Document,
    version: Version,
    state: State,
}

/// An object of a case.
struct Specimen {
    object: Json,
    /// Its file and line, where it has one of its own.
    at: Option<(String, usize)>,
}

impl Trials {
    /// Begins; with a selection only the cases whose name it matches are asked.
    pub fn new(selection: Option<Regex>, depth: Depth, now: Timestamp) -> Self {
        let report = TrialReport {
            cases: Vec::new(),
            errors: Vec::new(),
            notes: Vec::new(),
            counts: CaseCounts::default(),
            coverage: Coverage::default(),
        };
        Self { selection, depth, now, report, ledger: Ledger::default(), told: BTreeSet::new() }
    }

    /// Asks the cases of one text, or notes why there is none.
    pub fn source(&mut self, source: Result<Source, Unreadable>) {
        let source = match source {
            Ok(source) => source,
            Err(unreadable) => return self.fault(ScanFault::unreadable(unreadable)),
        };
        self.report.counts.files += 1;
        let mut has_tests = false;
        objects(&source.text, |found| match found {
            Found::Object(manifest) if manifest.kind == KIND => {
                has_tests = true;
                self.file(&source, &manifest);
            }
            Found::Object(manifest) => {
                has_tests = true;
                let message = format!("`{}` is no `{KIND}`", manifest.kind);
                let next = Some(
                    "keep it in a file of its own, and name that in `state` or `object`".to_owned(),
                );
                self.wrong(&source, Fault { place: manifest.node().place(), message, next });
            }
            Found::Other(place) => {
                has_tests = true;
                let message = format!("expected `apiVersion: {API_VERSION}` and `kind: {KIND}`");
                self.wrong(&source, Fault { place, message, next: None });
            }
            Found::Fault(fault) => {
                has_tests = true;
                self.wrong(&source, fault);
            }
        });
        if !has_tests {
            let message = "the file is empty".to_owned();
            let place = nullius_manifest::Place { line: 1, column: 1 };
            self.wrong(&source, Fault { place, message, next: None });
        }
    }

    /// Ends.
    pub fn finish(mut self) -> TrialReport {
        for case in &self.report.cases {
            let counts = &mut self.report.counts;
            *match case.outcome {
                CaseOutcome::Passed => &mut counts.passed,
                CaseOutcome::Failed => &mut counts.failed,
                CaseOutcome::Errored => &mut counts.errored,
                CaseOutcome::Skipped => &mut counts.skipped,
            } += 1;
        }
        self.report.coverage = self.ledger.finish();
        self.report
    }

    fn fault(&mut self, fault: ScanFault) {
        let key = format!("{}:{:?}: {}", fault.file, fault.line, fault.message);
        if self.told.insert(key) {
            self.report.errors.push(fault);
        }
    }

    fn wrong(&mut self, source: &Source, fault: Fault) {
        self.fault(ScanFault::at(FaultKind::Unreadable, &source.name, fault));
    }

    fn file(&mut self, source: &Source, manifest: &Manifest) {
        let node = manifest.node();
        let document = match Document::deserialize(Reader(node)) {
            Ok(document) => document,
            Err(error) => {
                let place = node.place_of_text(&error.path);
                let place = nullius_manifest::Place { line: error.line.max(1), ..place };
                let message = field_fault(&error);
                return self.wrong(source, Fault { place, message, next: None });
            }
        };
        let faults = document.faults();
        if !faults.is_empty() {
            for (field, message) in faults {
                let place = node.place_of_text(&field);
                let message = format!("{field}: {message}");
                self.wrong(source, Fault { place, message, next: None });
            }
            return;
        }
        let base = Path::new(&source.name).parent().unwrap_or(Path::new("")).to_owned();
        let version = document.version().unwrap_or(Version::LATEST);
        let mut sheet = Sheet {
            lines: Lines::of(source),
            manifest,
            base,
            document: &document,
            version,
            state: State::default(),
        };
        let now = document.at.unwrap_or(self.now);
        let mut policies = Policies::new(version).excepting_at(now);
        let usable = self.policies(&sheet, &mut policies);
        sheet.state = policies.state().clone();
        let usable = usable.and_then(|()| {
            for (index, given) in document.state.iter().enumerate() {
                if let Err(message) = sheet.learn(given) {
                    let place = node.place_of_text(&format!("state[{index}]"));
                    self.wrong(source, Fault { place, message: message.clone(), next: None });
                    return Err(message);
                }
            }
            Ok(())
        });
        let known = self.ledger.open(policies.outlines());
        for (index, case) in document.cases.iter().enumerate() {
            match &usable {
                Ok(()) => self.case(&sheet, &mut policies, &known, index, case),
                Err(told) => {
                    let report = sheet.unasked(index, case, told.clone());
                    self.case_report(report);
                }
            }
        }
    }

    /// Reads the policies of a file; those that cannot be used refuse whatever they are for.
    fn policies(&mut self, sheet: &Sheet<'_>, policies: &mut Policies) -> Result<(), String> {
        let mut unreadable = None;
        for (index, path) in sheet.document.policies.iter().enumerate() {
            let field = format!("policies[{index}]");
            walk(&[sheet.base.join(path)], &mut io::empty(), &mut |source| match source {
                Ok(source) => policies.policies(Ok(source)),
                Err(wrong) => {
                    let place = sheet.manifest.node().place_of_text(&field);
                    let message = format!("`{}`: {}", wrong.name, wrong.message);
                    self.wrong(
                        sheet.lines.source,
                        Fault { place, message: message.clone(), next: None },
                    );
                    unreadable.get_or_insert(message);
                }
            });
        }
        if unreadable.is_none()
            && policies.is_empty()
            && !sheet.document.policies.is_empty()
            && !policies.is_faulty()
        {
            let message = "no policy stands in `policies`".to_owned();
            let place = sheet.manifest.node().place_of_text("policies");
            self.wrong(sheet.lines.source, Fault { place, message: message.clone(), next: None });
            unreadable = Some(message);
        }
        policies.take_faults().into_iter().for_each(|fault| self.fault(fault));
        for note in policies.notes().into_iter().chain(policies.type_notes()) {
            if self.told.insert(note.clone()) {
                self.report.notes.push(note);
            }
        }
        unreadable.map_or(Ok(()), Err)
    }

    /// Asks one case, for each of its objects.
    fn case(
        &mut self,
        sheet: &Sheet<'_>,
        policies: &mut Policies,
        known: &Known,
        index: usize,
        case: &Case,
    ) {
        let several = match &case.objects {
            None => return self.single(sheet, policies, known, index, case, None),
            Some(several) => several,
        };
        let mut specimens = Vec::new();
        for given in several {
            match sheet.load(given) {
                Ok(found) => specimens.extend(found),
                Err(told) => {
                    let report = sheet.unasked(index, case, told);
                    return self.case_report(report);
                }
            }
        }
        for specimen in specimens {
            self.single(sheet, policies, known, index, case, Some(specimen));
        }
    }

    fn single(
        &mut self,
        sheet: &Sheet<'_>,
        policies: &mut Policies,
        known: &Known,
        index: usize,
        case: &Case,
        specimen: Option<Specimen>,
    ) {
        let mut report = sheet.begin(index, case, specimen.as_ref());
        if self.selection.as_ref().is_some_and(|wanted| !wanted.is_match(&report.name)) {
            return;
        }
        if let Some(why) = &case.skip {
            report.outcome = CaseOutcome::Skipped;
            report.reasons.push(Reason { message: why.clone(), next: None });
            return self.report.cases.push(report);
        }
        match sheet.ask(policies, case, specimen, &mut report) {
            Ok((request, outcome)) => {
                self.ledger.note(known, &outcome.decision.trace);
                report.verdict = Some(outcome.verdict().as_str());
                let differs = expect::compare(&case.expect, &request, &outcome);
                let failures = differs.into_iter().map(|differs| sheet.failure(index, differs));
                report.failures = failures.collect();
                report.outcome = match report.failures.is_empty() {
                    true => CaseOutcome::Passed,
                    false => CaseOutcome::Failed,
                };
                if self.depth == Depth::Traces {
                    report.trace = outcome.decision.trace;
                    report.trace.extend(policies.passed_over(&request));
                }
            }
            Err(failed) => {
                report.outcome = CaseOutcome::Errored;
                report.reasons = reasons(failed);
            }
        }
        self.report.cases.push(report);
    }

    /// Adds a case that was not asked, if it is among those that are wanted.
    fn case_report(&mut self, report: CaseReport) {
        if self.selection.as_ref().is_none_or(|wanted| wanted.is_match(&report.name)) {
            self.report.cases.push(report);
        }
    }
}

impl Sheet<'_> {
    fn begin(&self, index: usize, case: &Case, specimen: Option<&Specimen>) -> CaseReport {
        let object = specimen.map(|specimen| object_ref(&specimen.object));
        let name = match (&object, specimen.and_then(|specimen| specimen.at.as_ref())) {
            (None, _) => case.name.clone(),
            (Some(object), None) => format!("{}: {}", case.name, object.label()),
            (Some(object), Some((file, line))) => {
                format!("{}: {} ({file}:{line})", case.name, object.label())
            }
        };
        CaseReport {
            test: self.document.metadata.name.clone(),
            name,
            location: self.location(&format!("cases[{index}].name")),
            object,
            outcome: CaseOutcome::Errored,
            verdict: None,
            failures: Vec::new(),
            reasons: Vec::new(),
            trace: Vec::new(),
        }
    }

    fn unasked(&self, index: usize, case: &Case, told: String) -> CaseReport {
        let reasons = vec![Reason { message: told, next: None }];
        CaseReport { reasons, ..self.begin(index, case, None) }
    }

    fn location(&self, field: &str) -> Location {
        self.lines.location(self.manifest.node().place_of_text(field))
    }

    fn failure(&self, index: usize, differs: expect::Differs) -> Failure {
        let expect::Differs { field, expected, actual } = differs;
        let joint = if field.is_empty() { "" } else { "." };
        let field = format!("cases[{index}].expect{joint}{field}");
        Failure { location: self.location(&field), field, expected, actual }
    }

    /// Asks for a case.
    fn ask(
        &self,
        policies: &mut Policies,
        case: &Case,
        specimen: Option<Specimen>,
        report: &mut CaseReport,
    ) -> Result<(Request, asking::Outcome), Failed> {
        let wrong = Failed::Wrong;
        let with_own;
        let state = match case.state.is_empty() {
            true => &self.state,
            false => {
                let mut state = self.state.clone();
                for given in &case.state {
                    self.learn_into(given, &mut state).map_err(wrong)?;
                }
                with_own = state;
                &with_own
            }
        };
        let request = match &case.request {
            Some(given) => {
                let review = self.one(given).map_err(wrong)?;
                Request::of_review(review).map_err(|told| wrong(told.to_string()))?
            }
            None => {
                let object = match (specimen, &case.object) {
                    (Some(specimen), _) => Some(specimen.object),
                    (None, Some(given)) => Some(self.one(given).map_err(wrong)?),
                    (None, None) => None,
                };
                let object = object.map(|mut object| {
                    let set = case.set.iter();
                    let mut set = set.map(|(path, value)| fields::set(&mut object, path, value));
                    let told = set.find_map(Result::err);
                    told.map_or(Ok(object), |told| Err(wrong(format!("`set`: {told}"))))
                });
                let object = object.transpose()?;
                let old = case.old.as_ref().map(|given| self.one(given).map_err(wrong));
                let old = old.transpose()?;
                report.object = object.as_ref().or(old.as_ref()).map(object_ref);
                let defaults = &self.document.defaults;
                asking::request(case, defaults, state, object.as_ref(), old.as_ref())?
            }
        };
        let measure = self.document.pod_security;
        let outcome = asking::answer(policies, state, measure, self.version, &request)?;
        Ok((request, outcome))
    }

    fn learn(&mut self, given: &Given) -> Result<(), String> {
        let mut state = std::mem::take(&mut self.state);
        let learnt = self.learn_into(given, &mut state);
        self.state = state;
        learnt
    }

    fn learn_into(&self, given: &Given, state: &mut State) -> Result<(), String> {
        self.load(given)?.iter().try_for_each(|specimen| {
            state.add(&specimen.object).map_err(|told| match &specimen.at {
                Some((file, line)) => format!("{file}:{line}: {told}"),
                None => told.to_string(),
            })
        })
    }

    /// The objects that a path or a case holds.
    fn load(&self, given: &Given) -> Result<Vec<Specimen>, String> {
        let path = match given {
            Given::Inline(object) => {
                let says_kind = object.get("kind").is_some() && object.get("apiVersion").is_some();
                if !says_kind && object.get("request").is_none() {
                    return Err("the object says no `apiVersion` and `kind`".to_owned());
                }
                return Ok(vec![Specimen { object: object.clone(), at: None }]);
            }
            Given::Path(path) => self.base.join(path),
        };
        let mut found = Vec::new();
        let mut wrong = None;
        walk(std::slice::from_ref(&path), &mut io::empty(), &mut |source| match source {
            Err(told) => {
                wrong.get_or_insert(format!("`{}`: {}", told.name, told.message));
            }
            Ok(source) => objects(&source.text, |each| match each {
                Found::Object(manifest) => {
                    for fault in own_faults(&manifest, self.state.now().unwrap_or_default()) {
                        let line = fault.place.line;
                        wrong.get_or_insert(format!("{}:{line}: {}", source.name, fault.message));
                    }
                    found.push(Specimen {
                        object: manifest.to_json(),
                        at: Some((source.name.clone(), manifest.node().line)),
                    });
                }
                Found::Other(place) => {
                    let told = format!("{}:{}: no object of Kubernetes", source.name, place.line);
                    wrong.get_or_insert(told);
                }
                Found::Fault(fault) => {
                    let Fault { place, message, .. } = fault;
                    wrong.get_or_insert(format!("{}:{}: {message}", source.name, place.line));
                }
            }),
        });
        match wrong {
            Some(told) => Err(told),
            None if found.is_empty() => Err(format!("no object stands in `{}`", path.display())),
            None => Ok(found),
        }
    }

    /// The one object that a path or a case holds.
    fn one(&self, given: &Given) -> Result<Json, String> {
        let mut found = self.load(given)?;
        match (found.pop(), found.len()) {
            (Some(specimen), 0) => Ok(specimen.object),
            (_, others) => Err(format!(
                "{} objects stand there where one is meant; use `objects`, or a file for each",
                others + 1
            )),
        }
    }
}

fn reasons(failed: Failed) -> Vec<Reason> {
    match failed {
        Failed::Wrong(message) => vec![Reason { message, next: None }],
        Failed::Lacks(lacks) => lacks
            .into_iter()
            .map(|Lack { what, next }| Reason {
                message: format!("the state does not say {what}"),
                next: Some(next),
            })
            .collect(),
    }
}

fn object_ref(object: &Json) -> ObjectRef {
    let text =
        |path: &str| object.pointer(path).and_then(Json::as_str).filter(|text| !text.is_empty());
    let owned = |path: &str| text(path).unwrap_or_default().to_owned();
    ObjectRef {
        api_version: owned("/apiVersion"),
        kind: owned("/kind"),
        namespace: owned("/metadata/namespace"),
        name: text("/metadata/name")
            .or_else(|| text("/metadata/generateName"))
            .unwrap_or_default()
            .to_owned(),
    }
}
