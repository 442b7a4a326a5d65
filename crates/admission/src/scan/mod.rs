//! Objects in files, judged one text after another.
//!
//! Every finding names its object, its check in Kubernetes' words, and each place that must change with line, column and
//! fix. What is judged is what an API server would make of the object, with its defaults and what policies change. What
//! cannot be read, and fields that no API server takes, are faults of their own and hide nothing else.

mod hidden;
mod judging;
mod places;
pub(crate) mod snippet;
mod waiver;

use std::{collections::BTreeSet, rc::Rc};

use jiff::{civil::Date, tz::TimeZone};
use nullius_kinds::Form;
use nullius_manifest::{
    ApiObject, Fault, Found, Manifest, Place, STDIN, Source, Unreadable, objects,
};
use nullius_model::{Enforcement, FieldPath, Severity, Timestamp};
use nullius_policy::{
    admission_policy::{Detail, Version},
    exception,
    pod_security::{
        self, Excepted, Level, LevelVersion, PodTemplate, Spot, Violation, Workload, evaluate,
        except,
    },
};
use serde_json::Value as Json;

use crate::{
    Policies,
    own::own_faults,
    report::{
        BrokenObject, Counts, FaultKind, Finding, Location, ObjectRef, Report, ScanFault, SpotAt,
        Waived,
    },
};
use hidden::Hidden;
use judging::{Judged, Pass};
pub(crate) use places::paths_of;
use snippet::Lines;
pub(crate) use waiver::{EXPIRED, field_fault};
pub use waiver::{Waivers, WaiversError};

/// A scan under way.
#[derive(Debug)]
pub struct Scan {
    policy: LevelVersion,
    waivers: Waivers,
    /// When exceptions among the objects count as made.
    now: Timestamp,
    policies: Policies,
    sender: Sender,
    depth: Depth,
    /// Checks of the Pod Security Standards that are left out.
    excluded: BTreeSet<String>,
    /// Objects that cannot be judged before everything was read.
    waiting: Vec<(Rc<Source>, Manifest)>,
    unjudged: judging::Unjudged,
    hidden: Hidden,
    report: Report,
}

/// Who is taken to send the objects, and where they go when they do not say.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The name.
    pub username: String,
    /// The groups.
    pub groups: Vec<String>,
    /// The namespace of objects that say none.
    pub namespace: String,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            username: "kubernetes-admin".to_owned(),
            groups: Vec::new(),
            namespace: "default".to_owned(),
        }
    }
}

/// How much a report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// What was found.
    #[default]
    Findings,
    /// What each object came to, also where nothing was found.
    Traces,
}

impl Depth {
    fn detail(self) -> Detail {
        match self {
            Self::Findings => Detail::Outcomes,
            Self::Traces => Detail::Values,
        }
    }
}

/// An object under judgement.
struct Subject<'a> {
    lines: &'a Lines<'a>,
    manifest: &'a Manifest,
    name: ObjectRef,
}

impl Scan {
    /// Begins; waivers count as of `today`.
    pub fn new(policy: LevelVersion, waivers: Waivers, today: Date) -> Self {
        let report = Report {
            pod_security: policy.to_string(),
            policies: Vec::new(),
            findings: Vec::new(),
            objects: Vec::new(),
            waived: Vec::new(),
            errors: Vec::new(),
            notes: Vec::new(),
            counts: Counts::default(),
            traces: Vec::new(),
            abouts: Vec::new(),
        };
        Self {
            policy,
            waivers: waivers.on_day(today),
            now: today.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |day| day.timestamp()),
            policies: Policies::new(Version::LATEST),
            sender: Sender::default(),
            depth: Depth::default(),
            excluded: BTreeSet::new(),
            waiting: Vec::new(),
            unjudged: judging::Unjudged::default(),
            hidden: Hidden::default(),
            report,
        }
    }

    /// Asks policies too, about requests of a sender.
    #[must_use]
    pub fn with_policies(mut self, mut policies: Policies, sender: Sender) -> Self {
        policies.detail(self.depth.detail());
        self.report.errors.extend(policies.take_faults());
        self.report.notes.extend(policies.notes());
        let now = policies.state().now().unwrap_or(self.now);
        for (name, about) in policies.abouts() {
            self.report.policies.push(name.to_owned());
            self.report.abouts.push(about.clone());
        }
        Self { policies, sender, now, ..self }
    }

    /// Leaves out checks of the Pod Security Standards, and says so.
    #[must_use]
    pub fn without(mut self, excluded: BTreeSet<String>) -> Self {
        if !excluded.is_empty() {
            let names: Vec<&str> = excluded.iter().map(String::as_str).collect();
            self.report.notes.push(format!("left out: `{}`", names.join("`, `")));
        }
        Self { excluded, ..self }
    }

    /// Says more, or less.
    #[must_use]
    pub fn with_depth(mut self, depth: Depth) -> Self {
        self.policies.detail(depth.detail());
        Self { depth, ..self }
    }

    /// Judges one text, or notes why there is none.
    pub fn source(&mut self, source: Result<Source, Unreadable>) {
        let source = match source {
            Ok(source) => Rc::new(source),
            Err(unreadable) => {
                return self.report.errors.push(ScanFault::unreadable(unreadable));
            }
        };
        self.report.counts.files += 1;
        let lines = Lines::of(&source);
        let seen = |report: &Report| (report.counts.objects, report.errors.len());
        let (before, others) = (seen(&self.report), self.report.counts.other);
        objects(&source.text, |found| match found {
            Found::Object(manifest) => self.object(&source, &lines, manifest),
            Found::Other(_) => self.other(&source),
            Found::Fault(fault) => {
                let kind = FaultKind::Unreadable;
                self.report.errors.push(ScanFault::at(kind, &source.name, fault));
            }
        });
        let is_other = seen(&self.report) == before && self.report.counts.other > others;
        if source.name == STDIN && is_other {
            // What a command in front of the pipe says when it fails.
            let fault = Fault {
                place: Place { line: 1, column: 1 },
                message: "there is text, but no object of Kubernetes".to_owned(),
                next: Some("if a command was to make it, see whether that failed".to_owned()),
            };
            self.report.errors.push(ScanFault::at(FaultKind::Unreadable, &source.name, fault));
        }
    }

    /// Ends.
    pub fn finish(mut self) -> Report {
        self.report.notes.extend(self.policies.adopt());
        self.report.notes.extend(self.policies.type_notes());
        for (source, manifest) in std::mem::take(&mut self.waiting) {
            let lines = Lines::of(&source);
            let ApiObject { object, form, .. } = manifest.as_api_object();
            let subject = Subject::of(&lines, &manifest);
            if let Some(object) = object {
                self.judge(&subject, object, form, Pass::Last);
            }
        }
        let Self { mut report, waivers, unjudged, hidden, .. } = self;
        report.errors.extend(unjudged.faults());
        waivers.end(&mut report);
        hidden.hide(&mut report);
        report
    }

    fn object(&mut self, source: &Rc<Source>, lines: &Lines<'_>, manifest: Manifest) {
        self.report.counts.objects += 1;
        let ApiObject { object, faults, form } = manifest.as_api_object();
        self.report.counts.custom += usize::from(form == Form::AsWritten);
        self.refused(source, faults);
        if manifest.group() == "kustomize.config.k8s.io" {
            return self.not_built(source);
        }
        let Some(object) = object else { return };
        self.refused(source, own_faults(&manifest, self.now));
        if manifest.group() == "admissionregistration.k8s.io" {
            self.report.errors.extend(self.policies.wrong_policy(&source.name, &manifest));
        }
        if !self.policies.is_empty()
            && let place = manifest.node().place()
            && let site = format!("{}:{}", source.name, place.line)
            && let Err(message) = self.policies.learn(&object, site)
        {
            self.refused(source, vec![Fault { place, message, next: None }]);
        }
        let subject = Subject::of(lines, &manifest);
        if self.judge(&subject, object, form, Pass::First) == Judged::Waits {
            self.waiting.push((Rc::clone(source), manifest));
        }
    }

    /// Judges an object by the policies, and what they make of it by the Pod Security Standards, as an API server does.
    fn judge(&mut self, subject: &Subject<'_>, object: Json, form: Form, pass: Pass) -> Judged {
        let asked = match self.ask(subject, object, form, pass) {
            Ok(asked) => asked,
            Err(waits) => return waits,
        };
        let before = self.report.findings.len();
        let sentence = asked.object.as_ref().and_then(|object| self.pods(subject, object));
        let denied = self.found(subject, &asked);
        let findings = self.report.findings.len() - before;
        if findings > 0 {
            let first = self.report.findings.get(before).map(|finding| finding.message.clone());
            self.report.objects.push(BrokenObject {
                object: subject.name.clone(),
                location: subject.location(subject.manifest.node().place()),
                message: sentence.clone().or(denied).or(first).unwrap_or_default(),
                findings,
            });
        }
        if self.depth == Depth::Traces {
            self.trace(subject, asked, sentence);
        }
        Judged::Done
    }

    /// Finds what the Pod Security Standards say, and gives the API server's sentence about what nobody accepted.
    fn pods(&mut self, subject: &Subject<'_>, object: &Json) -> Option<String> {
        let manifest = subject.manifest;
        let workload = Workload::of_kind(manifest.group(), &manifest.kind)?;
        self.report.counts.checked += 1;
        let template = match workload.read(object) {
            Ok(template) => template?,
            Err(error) => {
                let place = manifest.node().place_of(&error.path);
                let next =
                    "Kubernetes would not take it; see the field's type with `kubectl explain`";
                let (message, next) = (error.to_string(), Some(next.to_owned()));
                self.refused(subject.lines.source, vec![Fault { place, message, next }]);
                return None;
            }
        };
        let policy = self.policy;
        let evaluation = evaluate(policy, &template.pod);
        let Excepted { mut evaluation, accepted } = {
            let namespace = match manifest.namespace() {
                "" => self.sender.namespace.as_str(),
                namespace => namespace,
            };
            let (kind, name) = (manifest.kind.as_str(), manifest.name());
            let about = exception::Subject { kind, namespace, name };
            let exceptions = self.policies.state().exceptions();
            except(
                evaluation,
                pod_security::Version::NEWEST_KNOWN,
                workload,
                object,
                about,
                &exceptions,
            )
        };
        for (mut violation, acceptance) in accepted {
            let spots = std::mem::take(&mut violation.spots);
            let finding = subject.violation(&template, policy, &violation, spots);
            self.report.waived.push(Waived::by(finding, &acceptance));
        }
        let excluded = &self.excluded;
        evaluation.violations.retain(|violation| !excluded.contains(violation.check.as_str()));
        evaluation.violations.retain_mut(|violation| {
            // There may be as many as containers: they are in the finding from here on, and nowhere else.
            let spots = std::mem::take(&mut violation.spots);
            self.tell(subject.manifest, subject.violation(&template, policy, violation, spots))
        });
        (!evaluation.is_clean()).then(|| evaluation.refusal())
    }

    /// Whether a finding stands: nobody has waived it.
    fn tell(&mut self, manifest: &Manifest, finding: Finding) -> bool {
        match self.waivers.cover(&finding, manifest) {
            Some(waived) => self.report.waived.push(waived.of(finding)),
            None => {
                self.report.findings.push(finding);
                return true;
            }
        }
        false
    }

    /// A document that is no object of Kubernetes.
    fn other(&mut self, source: &Source) {
        self.report.counts.other += 1;
        let name = source.name.rsplit(['/', '\\']).next().unwrap_or_default();
        if ["kustomization.yaml", "kustomization.yml"].contains(&name) {
            self.not_built(source);
        }
    }

    fn not_built(&mut self, source: &Source) {
        let folder = source.name.rsplit_once(['/', '\\']).map_or(".", |(folder, _)| folder);
        self.report.notes.push(format!(
            "{}: what it builds was not scanned, only the files themselves: `kustomize build {folder} | nullius scan -`",
            source.name
        ));
    }

    fn refused(&mut self, source: &Source, faults: Vec<Fault>) {
        let told = |fault| ScanFault::at(FaultKind::Refused, &source.name, fault);
        self.report.errors.extend(faults.into_iter().map(told));
    }
}

impl<'a> Subject<'a> {
    fn of(lines: &'a Lines<'a>, manifest: &'a Manifest) -> Self {
        let name = ObjectRef {
            api_version: manifest.api_version.clone(),
            kind: manifest.kind.clone(),
            namespace: manifest.namespace().to_owned(),
            name: manifest.name().to_owned(),
        };
        Self { lines, manifest, name }
    }

    fn location(&self, at: Place) -> Location {
        self.lines.location(at)
    }

    /// A finding of the Pod Security Standards.
    fn violation(
        &self,
        template: &PodTemplate<'_>,
        policy: LevelVersion,
        violation: &Violation,
        spots: Vec<Spot>,
    ) -> Finding {
        let place_of = |path: &FieldPath| self.manifest.node().place_of(path);
        let spots: Vec<SpotAt> = spots
            .into_iter()
            .map(|Spot { path, fix }| {
                let path = template.at.clone().join(&path);
                let Place { line, column } = place_of(&path);
                SpotAt { path: path.to_string(), fix, line, column }
            })
            .collect();
        let first = spots.first();
        Finding {
            check: violation.check.as_str().to_owned(),
            level: Some(policy.level.as_str()),
            version: Some(policy.version.to_string()),
            binding: None,
            severity: match violation.level {
                Level::Baseline => Severity::High,
                Level::Restricted | Level::Privileged => Severity::Medium,
            },
            enforcement: Enforcement::Deny,
            object: self.name.clone(),
            message: violation.refusal(policy),
            path: first.map(|spot| spot.path.clone()).unwrap_or_default(),
            fix: first.map(|spot| spot.fix.clone()).unwrap_or_default(),
            location: self.location(first.map_or_else(|| self.manifest.node().place(), at)),
            spots,
        }
    }
}

fn at(spot: &SpotAt) -> Place {
    Place { line: spot.line, column: spot.column }
}
