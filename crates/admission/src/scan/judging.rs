//! An object under the policies of a scan: asked as an API server would be asked to make it.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use nullius_kinds::Form;
use nullius_manifest::{Fault, Place};
use nullius_model::{Enforcement, Severity};
use nullius_policy::{
    admission_policy::{Decision, Request, Violation},
    pod_security::{Level, Workload},
};
use serde_json::Value as Json;

use super::{Scan, Subject, at, paths_of};
use crate::{
    report::{FaultKind, Finding, Location, ObjectTrace, ScanFault, SpotAt, Waived, strictest_of},
    state::{Lack, Lacking, Person, creation},
};

/// Whether everything was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    First,
    Last,
}

/// Whether an object is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    Done,
    /// A fact is missing that may stand in a file that was not read yet.
    Waits,
}

/// What came of asking the policies.
pub(super) struct Asked {
    /// The object as they left it.
    pub(super) object: Option<Json>,
    /// What was asked, and the answer without the object.
    answer: Option<(Request, Decision)>,
}

/// Facts that policies asked for in vain, with the first object that needed them.
#[derive(Debug, Default)]
pub(super) struct Unjudged(BTreeMap<String, (Location, Option<String>, usize)>);

impl Unjudged {
    fn add(&mut self, subject: &Subject<'_>, what: String, next: Option<String>) {
        let at = || (subject.location(subject.manifest.node().place()), next, 0);
        self.0.entry(what).or_insert_with(at).2 += 1;
    }

    /// One fault for each fact.
    pub(super) fn faults(self) -> impl Iterator<Item = ScanFault> {
        self.0.into_iter().map(|(what, (at, next, count))| {
            let more = match count {
                1 => String::new(),
                2 => " (and 1 other object)".to_owned(),
                count => format!(" (and {} other objects)", count - 1),
            };
            let place = Place { line: at.line, column: at.column };
            let fault = Fault { place, message: format!("{what}{more}"), next };
            ScanFault::at(FaultKind::Unjudged, &at.file, fault)
        })
    }
}

impl Scan {
    /// Asks the policies about an object.
    pub(super) fn ask(
        &mut self,
        subject: &Subject<'_>,
        object: Json,
        form: Form,
        pass: Pass,
    ) -> Result<Asked, Judged> {
        if self.policies.is_empty() || form == Form::Gone {
            return Ok(Asked { object: Some(object), answer: None });
        }
        let (username, namespace) = (&*self.sender.username, &*self.sender.namespace);
        let person = Person { username, groups: &self.sender.groups, namespace };
        let known = form == Form::Builtin;
        if !known && !self.policies.concerns(subject.manifest.group()) {
            return Ok(Asked { object: Some(object), answer: None });
        }
        let Some(request) = creation(self.policies.state(), object, &person) else {
            if pass == Pass::First {
                return Err(Judged::Waits);
            }
            let (api_version, kind) = (&subject.name.api_version, &subject.name.kind);
            let what = format!(
                "policies cannot judge `{kind}`: `{api_version}` is not Kubernetes' own and not defined in the files"
            );
            let next = "add its `CustomResourceDefinition` to the files, or by `--state`";
            self.unjudged.add(subject, what, Some(next.to_owned()));
            return Ok(Asked { object: None, answer: None });
        };
        let judged = catch_unwind(AssertUnwindSafe(|| match pass {
            Pass::First => (self.policies.judge(&request), Lacking(Vec::new())),
            Pass::Last => self.policies.judge_last(&request),
        }));
        let lacks = match judged {
            Ok((Ok(mut decision), Lacking(absent))) => {
                for Lack { what, next } in absent {
                    let what = format!("{what} is not among the files, and counts as absent");
                    self.unjudged.add(subject, what, Some(next));
                }
                let object = decision.mutated.take().or_else(|| request.object.clone());
                return Ok(Asked { object, answer: Some((request, decision)) });
            }
            Ok((Err(_), _)) if pass == Pass::First => return Err(Judged::Waits),
            Ok((Err(Lacking(lacks)), _)) => lacks,
            Err(_) => vec![Lack {
                what: "the outcome: the evaluation failed inside; a cluster refuses such an object"
                    .to_owned(),
                next: "report policies and object, they show a fault of this program".to_owned(),
            }],
        };
        for Lack { what, next } in lacks {
            let what = format!("policies cannot judge it: this is not known: {what}");
            self.unjudged.add(subject, what, Some(next));
        }
        Ok(Asked { object: request.object, answer: None })
    }

    /// Tells what policies found, and gives the API server's sentence where nobody has waived a part of it.
    pub(super) fn found(&mut self, subject: &Subject<'_>, asked: &Asked) -> Option<String> {
        let (_, decision) = asked.answer.as_ref()?;
        let mut is_whole = true;
        for violation in strictest(&decision.violations) {
            let finding = self.broken(subject, violation, decision);
            is_whole &= self.tell(subject.manifest, finding);
        }
        for (violation, acceptance) in &decision.accepted {
            let finding = self.broken(subject, violation, decision);
            self.report.waived.push(Waived::by(finding, acceptance));
        }
        let refusal = decision.refusal.as_ref()?;
        if decision.violations.is_empty() {
            // The API server ends such a request by itself.
            let none = Violation {
                policy: "admission".to_owned(),
                binding: None,
                validation: None,
                check: None,
                actions: Vec::new(),
                message: refusal.message.clone(),
                annotations: Vec::new(),
            };
            let finding = self.broken(subject, &none, decision);
            self.tell(subject.manifest, finding);
        }
        is_whole.then(|| refusal.message.clone())
    }

    /// A finding of a policy.
    fn broken(
        &mut self,
        subject: &Subject<'_>,
        violation: &Violation,
        decision: &Decision,
    ) -> Finding {
        let about = self.policies.about(&violation.policy);
        let enforcement = strictest_of(&violation.actions);
        let fix = about.map(|about| about.fix.clone()).unwrap_or_default();
        let broken = about.and_then(|about| about.broken.clone());
        let paths = match &broken {
            Some(_) => Vec::new(),
            None => paths_of(violation, &decision.trace),
        };
        if about.is_some_and(|about| about.is_sensitive) {
            self.hidden.note(&subject.lines.source.name, subject.manifest.node(), &paths);
        }
        let spots: Vec<SpotAt> = paths
            .into_iter()
            .map(|path| {
                let Place { line, column } = subject.manifest.node().place_of_text(&path);
                SpotAt { path, fix: fix.clone(), line, column }
            })
            .collect();
        let by_action = match enforcement {
            Enforcement::Deny => Severity::High,
            Enforcement::Warn | Enforcement::Audit | Enforcement::Inform => Severity::Medium,
        };
        let first = spots.first();
        Finding {
            check: violation.policy.clone(),
            level: None,
            version: None,
            binding: violation.binding.clone(),
            severity: about.and_then(|about| about.severity).unwrap_or(by_action),
            enforcement,
            object: subject.name.clone(),
            message: broken.unwrap_or_else(|| violation.message.clone()),
            path: first.map(|spot| spot.path.clone()).unwrap_or_default(),
            fix,
            location: subject.location(first.map_or_else(|| subject.manifest.node().place(), at)),
            spots,
        }
    }

    /// Keeps what an object came to.
    pub(super) fn trace(&mut self, subject: &Subject<'_>, asked: Asked, sentence: Option<String>) {
        let manifest = subject.manifest;
        let makes_pods = Workload::of_kind(manifest.group(), &manifest.kind).is_some();
        let pod_security = match (makes_pods, self.policy.level, sentence) {
            (_, Level::Privileged, _) => "it is not asked".to_owned(),
            (false, ..) => "it makes no pods".to_owned(),
            (true, _, None) => format!("it passes {}, or what fails is waived", self.policy),
            (true, _, Some(sentence)) => sentence,
        };
        let policies = match asked.answer {
            None => Vec::new(),
            Some((request, decision)) => {
                let mut all = decision.trace;
                all.extend(self.policies.passed_over(&request));
                all
            }
        };
        self.report.traces.push(ObjectTrace {
            object: subject.name.clone(),
            location: subject.location(manifest.node().place()),
            pod_security,
            policies,
        });
    }
}

/// The violations, each once: of bindings that say the same the strictest.
fn strictest(violations: &[Violation]) -> Vec<&Violation> {
    let mut kept: Vec<&Violation> = Vec::new();
    for violation in violations {
        let is_same = |other: &&mut &Violation| {
            let of = |one: &Violation| (one.policy.clone(), one.validation, one.message.clone());
            of(other) == of(violation)
        };
        match kept.iter_mut().find(is_same) {
            None => kept.push(violation),
            Some(other) => {
                if strictest_of(&violation.actions) < strictest_of(&other.actions) {
                    *other = violation;
                }
            }
        }
    }
    kept
}
