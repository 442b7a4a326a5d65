//! `nullius intention test`: intentions asked about the calls of test files.
//!
//! Exit code 2 where something else came than was expected, or where too few rules have decided a case; 1 where it cannot be told.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use nullius_admission::{
    CaseCounts, CaseOutcome, CaseReport, Coverage, Failure as Unmet, FaultKind, Location,
    Reason as Why, ScanFault, TrialReport, trial_junit,
};
use nullius_intention::Home;
use nullius_manifest::{
    FieldError, FieldFault, Found, Manifest, Place, Reader, Source, Unreadable, objects, walk,
};
use nullius_model::{API_VERSION, Namespace, PermissionId, Timestamp};
use serde::{Deserialize as _, Serialize};
use serde_json::Value as Json;

use super::{
    form::{self, Case, Document, Expected, KIND},
    intake::{FaultAt, Gathered, RuleAt, gather},
    question::{self, Answer, Asked, Question, Spoken, Word},
};
use crate::{
    args,
    command::test::text,
    failure::{Exit, Failure},
    output::{
        Format, Layout, Printed, Table, escape, json_text, only_differences, only_exports,
        only_findings, only_graphs, yaml_text,
    },
    stage::Stage,
};

/// The trust domain where nobody says it.
const TRUST_DOMAIN: &str = "cluster.local";

/// Tests.
pub(super) fn run(stage: &mut Stage, args: &args::IntentionTest) -> Result<Exit, Failure> {
    match stage.global.output {
        Format::Sarif
        | Format::Csv
        | Format::Policyreport
        | Format::Openreports
        | Format::Codequality => return Err(only_findings()),
        Format::Markdown => return Err(only_differences()),
        Format::Native | Format::Manifest => return Err(only_exports()),
        Format::Dot | Format::Svg => return Err(only_graphs()),
        Format::Table
        | Format::Wide
        | Format::Json
        | Format::Yaml
        | Format::Name
        | Format::Junit
        | Format::Kubernetes => {}
    }
    let mut trials = Trials::new(args.run.clone(), stage.now());
    let mut files = 0;
    for path in &args.paths {
        let is_folder = path.is_dir();
        walk(std::slice::from_ref(path), &mut io::stdin().lock(), &mut |source| {
            if !is_folder || crate::command::test::is_meant(&source) {
                files += usize::from(source.is_ok());
                trials.source(source);
            }
        });
    }
    let (report, rules) = trials.finish();
    let names: Vec<_> = args.paths.iter().map(|path| path.display().to_string()).collect();
    if files == 0 && report.errors.is_empty() {
        return Err(Failure::new(format!("no test stands in `{}`", names.join("`, `")))
            .why("of folders, files named `*.test.yaml`, `*.test.yml` and `*.test.json` are read")
            .next("name the file itself, or rename it"));
    }
    if let Some(pattern) = args.run.as_ref().filter(|_| report.cases.is_empty())
        && report.errors.is_empty()
    {
        let told =
            format!("no case in `{}` has a name that matches `{pattern}`", names.join("`, `"));
        return Err(Failure::new(told).next("list the names: `nullius intention test -o wide`"));
    }
    let is_wanted = args.coverage || args.min_coverage.is_some();
    let least =
        args.min_coverage.filter(|least| rules.covered * 100 < rules.total * usize::from(*least));
    let layout = stage.layout();
    let out = match stage.global.output {
        Format::Wide => {
            text::passes(&report) + &text::failures(&report) + &shown(&rules, is_wanted, layout)
        }
        Format::Table => text::failures(&report) + &shown(&rules, is_wanted, layout),
        Format::Yaml => yaml_text(&document(&report, &rules))?,
        Format::Name => text::names(&report),
        Format::Junit => trial_junit(&report),
        _ => json_text(&document(&report, &rules))?,
    };
    let err = beside(&report, &rules, is_wanted, least);
    stage.print(&Printed { out, err })?;
    let counts = &report.counts;
    Ok(
        match (
            counts.failed > 0 || least.is_some(),
            counts.errored > 0 || !report.errors.is_empty(),
        ) {
            (true, _) => Exit::Denied,
            (false, true) => Exit::Failed,
            (false, false) => Exit::Ok,
        },
    )
}

/// How many rules have decided a case.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Covered {
    /// Rules that have.
    covered: usize,
    /// All rules.
    total: usize,
    /// How much that is, in percent, rounded down; 100 where there is none.
    percent: usize,
    /// Rule by rule.
    rules: Vec<CoveredRule>,
}

/// How often a rule has decided.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CoveredRule {
    intention: String,
    /// `sources[0].permissions[1]`.
    rule: String,
    file: String,
    line: usize,
    /// Cases.
    decided: usize,
}

/// A report as one document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    api_version: &'static str,
    kind: &'static str,
    cases: &'a [CaseReport],
    errors: &'a [ScanFault],
    counts: CaseCounts,
    coverage: &'a Covered,
}

fn document<'a>(report: &'a TrialReport, rules: &'a Covered) -> Written<'a> {
    Written {
        api_version: API_VERSION,
        kind: "IntentionTestReport",
        cases: &report.cases,
        errors: &report.errors,
        counts: report.counts,
        coverage: rules,
    }
}

/// Tests under way.
struct Trials {
    selection: Option<regex::Regex>,
    now: Timestamp,
    report: TrialReport,
    /// Every rule that was read, and how often it has decided.
    rules: BTreeMap<PermissionId, (RuleAt, usize)>,
    told: BTreeSet<String>,
}

/// A file of tests, and what its cases share.
struct Sheet<'a> {
    source: &'a Source,
    manifest: &'a Manifest,
    document: &'a Document,
    home: Home,
    gathered: Gathered,
    now: Timestamp,
}

impl Trials {
    fn new(selection: Option<regex::Regex>, now: Timestamp) -> Self {
        let report = TrialReport {
            cases: Vec::new(),
            errors: Vec::new(),
            notes: Vec::new(),
            counts: CaseCounts::default(),
            coverage: Coverage::default(),
        };
        Self { selection, now, report, rules: BTreeMap::new(), told: BTreeSet::new() }
    }

    fn source(&mut self, source: Result<Source, Unreadable>) {
        let source = match source {
            Ok(source) => source,
            Err(Unreadable { name, message }) => return self.fault(&name, None, message),
        };
        self.report.counts.files += 1;
        let mut is_empty = true;
        objects(&source.text, |found| {
            is_empty = false;
            match found {
                Found::Object(manifest) if manifest.kind == KIND => self.file(&source, &manifest),
                Found::Object(manifest) => {
                    let told = format!(
                        "`{}` is no `{KIND}`: keep it in a file of its own, and name that in `intentions`",
                        escape::cell(&manifest.kind)
                    );
                    self.fault(&source.name, Some(manifest.node().place()), told);
                }
                Found::Other(place) => {
                    let told = format!("expected `apiVersion: {API_VERSION}` and `kind: {KIND}`");
                    self.fault(&source.name, Some(place), told);
                }
                Found::Fault(fault) => self.fault(&source.name, Some(fault.place), fault.message),
            }
        });
        if is_empty {
            let told = "the file is empty".to_owned();
            self.fault(&source.name, Some(Place { line: 1, column: 1 }), told);
        }
    }

    fn finish(mut self) -> (TrialReport, Covered) {
        for case in &self.report.cases {
            let counts = &mut self.report.counts;
            *match case.outcome {
                CaseOutcome::Passed => &mut counts.passed,
                CaseOutcome::Failed => &mut counts.failed,
                CaseOutcome::Errored => &mut counts.errored,
                CaseOutcome::Skipped => &mut counts.skipped,
            } += 1;
        }
        let mut rules: Vec<CoveredRule> = self
            .rules
            .into_values()
            .map(|(rule, decided)| CoveredRule {
                intention: rule.intention,
                rule: rule.field,
                file: rule.spot.file,
                line: rule.spot.line,
                decided,
            })
            .collect();
        rules.sort_by(|one, two| {
            (&one.file, one.line, &one.rule).cmp(&(&two.file, two.line, &two.rule))
        });
        let (covered, total) = (rules.iter().filter(|rule| rule.decided > 0).count(), rules.len());
        let percent = (covered * 100).checked_div(total).unwrap_or(100);
        (self.report, Covered { covered, total, percent, rules })
    }

    /// Notes a fault once: several files name the same intentions.
    fn fault(&mut self, file: &str, place: Option<Place>, message: String) {
        if self.told.insert(format!("{file}:{place:?}: {message}")) {
            self.report.errors.push(ScanFault {
                kind: FaultKind::Unreadable,
                file: file.to_owned(),
                line: place.map(|place| place.line),
                column: place.map(|place| place.column),
                message,
                next: None,
            });
        }
    }

    fn file(&mut self, source: &Source, manifest: &Manifest) {
        let node = manifest.node();
        let document = match Document::deserialize(Reader(node)) {
            Ok(document) => document,
            Err(error) => {
                let place = node.place_of_text(&error.path);
                let place = Place { line: error.line.max(1), ..place };
                return self.fault(&source.name, Some(place), told(&error));
            }
        };
        let faults = document.faults();
        if !faults.is_empty() {
            for (field, message) in faults {
                let place = node.place_of_text(&field);
                self.fault(&source.name, Some(place), format!("{field}: {message}"));
            }
            return;
        }
        let domain = document.trust_domain.clone().or_else(|| TRUST_DOMAIN.parse().ok());
        let Some(domain) = domain else { return };
        let home = Home {
            federated: document.federated.clone().map(|all| all.into_iter().collect()),
            issuers: document.issuers.clone().map(|all| all.into_iter().collect()),
            ..Home::of(domain)
        };
        let base = Path::new(&source.name).parent().unwrap_or(Path::new(""));
        let paths =
            |all: &[String]| all.iter().map(|path| base.join(path)).collect::<Vec<PathBuf>>();
        let gathered =
            gather(&paths(&document.intentions), &paths(&document.fleet), &home, &mut io::empty());
        for FaultAt { file, place, message } in &gathered.faults {
            let place = place.map(|(line, column)| Place { line, column });
            self.fault(file, place, message.clone());
        }
        if gathered.intentions.is_empty() && gathered.faults.is_empty() {
            let place = node.place_of_text("intentions");
            self.fault(
                &source.name,
                Some(place),
                "no `Intention` stands in `intentions`".to_owned(),
            );
        }
        for (id, rule) in gathered.rules() {
            self.rules.entry(id.clone()).or_insert_with(|| (rule.clone(), 0));
        }
        let now = document.at.unwrap_or(self.now);
        let sheet = Sheet { source, manifest, document: &document, home, gathered, now };
        for (index, case) in document.cases.iter().enumerate() {
            if self.selection.as_ref().is_none_or(|wanted| wanted.is_match(&case.name)) {
                let report = self.case(&sheet, index, case);
                self.report.cases.push(report);
            }
        }
    }

    fn case(&mut self, sheet: &Sheet<'_>, index: usize, case: &Case) -> CaseReport {
        let unasked = |outcome, message: String| {
            let reasons = vec![Why { message, next: None }];
            CaseReport { reasons, ..sheet.report(index, case, outcome) }
        };
        if let Some(why) = &case.skip {
            return unasked(CaseOutcome::Skipped, why.clone());
        }
        if !sheet.gathered.faults.is_empty() || sheet.gathered.intentions.is_empty() {
            return unasked(CaseOutcome::Errored, "the intentions cannot be used".to_owned());
        }
        let question = match sheet.question(case) {
            Ok(question) => question,
            Err(message) => return unasked(CaseOutcome::Errored, message),
        };
        let answer = question.ask(&sheet.gathered, sheet.now);
        if let Some((_, decided)) = answer.decided_by().and_then(|id| self.rules.get_mut(id)) {
            *decided += 1;
        }
        let failures = sheet.unmet(index, &case.expect, &answer);
        let outcome = if failures.is_empty() { CaseOutcome::Passed } else { CaseOutcome::Failed };
        let verdict = Some(answer.word.as_str());
        CaseReport { verdict, failures, ..sheet.report(index, case, outcome) }
    }
}

impl Sheet<'_> {
    fn location(&self, field: &str) -> Location {
        let Place { line, column } = self.manifest.node().place_of_text(field);
        let snippet = self.source.text.lines().nth(line - 1).unwrap_or_default();
        let snippet = snippet.trim_end().chars().take(160).collect();
        Location { file: self.source.name.clone(), line, column, snippet }
    }

    fn report(&self, index: usize, case: &Case, outcome: CaseOutcome) -> CaseReport {
        CaseReport {
            test: self.document.metadata.name.clone(),
            name: case.name.clone(),
            location: self.location(&format!("cases[{index}]")),
            object: None,
            outcome,
            verdict: None,
            failures: Vec::new(),
            reasons: Vec::new(),
            trace: Vec::new(),
        }
    }

    fn question(&self, case: &Case) -> Result<Question, String> {
        let defaults = &self.document.defaults;
        let fallback = Namespace::try_from("default".to_owned()).map_err(|it| it.to_string())?;
        let namespace = defaults.namespace.as_ref().unwrap_or(&fallback);
        let from = case.from.as_ref().or(defaults.from.as_ref());
        let from = from.map(String::as_str).unwrap_or_default();
        let (source, address) = question::caller(from, case.from_address, namespace, &self.home)
            .map_err(|told| format!("`from`: {told}"))?;
        let labels: Vec<(String, String)> = case
            .labels
            .as_ref()
            .unwrap_or(&defaults.labels)
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let to = case.to.as_ref().or(defaults.to.as_ref()).map(String::as_str).unwrap_or_default();
        let (destination, port) =
            question::called(to, &labels, namespace).map_err(|told| format!("`to`: {told}"))?;
        let spoken = match (&case.request, case.protocol) {
            (Some(request), _) => {
                let values = request.headers.iter();
                let headers = values.flat_map(|(name, values)| {
                    values.0.iter().map(|value| (name.clone(), value.clone()))
                });
                let or = |text: &Option<String>, other: &str| {
                    text.clone().unwrap_or_else(|| other.to_owned())
                };
                Spoken::Request(Asked {
                    method: or(&request.method, "GET"),
                    target: or(&request.path, "/"),
                    host: or(&request.host, &destination.service_account),
                    headers: headers.collect(),
                    token: request.claims.clone().map(question::token),
                    body: request.body.as_ref().map(|body| match body {
                        Json::String(text) => text.clone().into_bytes(),
                        value => value.to_string().into_bytes(),
                    }),
                })
            }
            (None, Some(form::Spoken::Tcp)) => Spoken::Tcp,
            (None, Some(form::Spoken::Http) | None) => Spoken::Http,
        };
        Ok(Question { source, address, destination, port, spoken })
    }

    /// The expectations that do not hold.
    fn unmet(&self, index: usize, expected: &Expected, answer: &Answer) -> Vec<Unmet> {
        let mut unmet = Vec::new();
        let mut missed = |field: &str, expected: String, actual: String| {
            let field = format!("cases[{index}].{field}");
            let location = self.location(&field);
            unmet.push(Unmet { field, expected, actual, location });
        };
        let explanation = answer.explanation.as_ref();
        if expected.verdict != answer.word {
            let field = if expected.is_word { "expect" } else { "expect.verdict" };
            let why = explanation.map(|told| format!(": {told}")).unwrap_or_default();
            missed(
                field,
                expected.verdict.as_str().to_owned(),
                format!("{}{why}", answer.word.as_str()),
            );
        }
        let reason = explanation.map_or("", |told| told.reason.as_str());
        if let Some(wanted) = expected.reason.as_ref().filter(|wanted| **wanted != reason) {
            missed("expect.reason", wanted.clone(), reason.to_owned());
        }
        if let Some(wanted) = &expected.by {
            let rule = explanation.and_then(|told| told.rule.as_deref()).unwrap_or("nothing");
            let name = rule.strip_prefix("Intention ").and_then(|rest| rest.split(' ').next());
            let is_it = name.is_some_and(|name| {
                name == wanted || name.split_once('/').is_some_and(|(_, bare)| bare == wanted)
            });
            if !is_it {
                missed("expect.by", wanted.clone(), rule.to_owned());
            }
        }
        if let Some(wanted) = &expected.message {
            let told = explanation.map(ToString::to_string).unwrap_or_default();
            if !told.contains(wanted) {
                missed("expect.message", format!("something with `{wanted}`"), told);
            }
        }
        if let Some(wanted) = expected.shadow {
            let word = answer
                .shadow
                .as_ref()
                .map(|it| if it.allowed { Word::Allowed } else { Word::Denied });
            if word != Some(wanted) {
                let actual = word.map_or("no shadow", Word::as_str).to_owned();
                missed("expect.shadow", wanted.as_str().to_owned(), actual);
            }
        }
        unmet
    }
}

fn told(error: &FieldError) -> String {
    let path = if error.path.is_empty() { String::new() } else { format!("{}: ", error.path) };
    match &error.fault {
        FieldFault::Unknown { field, known } => {
            let near = nullius_intention::nearest(field, known.iter().copied());
            match near {
                Some(near) => format!("{path}unknown field; did you mean `{near}`?"),
                None => format!("{path}unknown field; known here are `{}`", known.join("`, `")),
            }
        }
        FieldFault::Value(message) => format!("{path}{message}"),
    }
}

/// The rules that have decided no case.
fn shown(rules: &Covered, is_wanted: bool, layout: Layout) -> String {
    if !is_wanted {
        return String::new();
    }
    let mut table = Table::new(["INTENTION", "RULE", "DECIDED", "AT"]);
    for rule in &rules.rules {
        let decided = match rule.decided {
            0 => "never".to_owned(),
            1 => "1 case".to_owned(),
            count => format!("{count} cases"),
        };
        let at = format!("{}:{}", rule.file, rule.line);
        table.row([rule.intention.clone(), rule.rule.clone(), decided, at]);
    }
    table.render(layout)
}

/// What stands beside the result: what could not be read, and the sums.
fn beside(report: &TrialReport, rules: &Covered, is_wanted: bool, least: Option<u8>) -> String {
    let mut text = text::sums(report);
    if is_wanted {
        let Covered { percent, covered, total, .. } = rules;
        text.push_str(&format!("; {percent} % of the rules decided a case ({covered} of {total})"));
    }
    if let Some(least) = least {
        text.push_str(&format!(", which is less than {least} %"));
    }
    text.push('\n');
    text
}
