//! What objects are judged by: policies with what they ask for, Pod Security by the labels of namespaces, and the restricted
//! level for information.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::{AssertUnwindSafe, catch_unwind},
};

use nullius_cel::with_deep_stack;
use nullius_manifest::{Found as FoundIn, Source, objects};
use nullius_model::{Enforcement, FindingWaiver, Severity, Timestamp};
use nullius_policy::{
    admission_policy::{Decision, Programs, Version, Violation},
    exception::{self, Acceptance},
    pod_security::{self, Excepted, Level, LevelVersion, Modes, Workload, evaluate_as, except},
};
use serde_json::Value as Json;

use super::{Found, text};
use crate::{
    Policies,
    report::strictest_of,
    scan::paths_of,
    state::{Lack, Lacking, Person, creation},
};

/// Who is taken to send what stands: nobody knows any more who did.
const SENDER: &str = "nullius:background-scan";
/// Different sentences about what could not be judged.
const FAULTS: usize = 50;

/// What standards are made of.
#[derive(Debug, Clone, Default)]
pub struct Measures {
    /// Policies, bindings and exceptions: the name of each text, and the text.
    pub policies: Vec<(String, String)>,
    /// Objects that policies ask for: definitions of kinds, parameters.
    pub facts: Vec<Json>,
    /// All namespaces.
    pub namespaces: Vec<Json>,
    /// Kubernetes' minor version.
    pub minor: u16,
    /// Compiled expressions that others have of these policies already.
    pub programs: Programs,
}

/// What objects are judged by.
#[derive(Debug)]
pub struct Standards {
    policies: Policies,
    rules: Vec<Rule>,
    labels: BTreeMap<String, BTreeMap<String, String>>,
    newest: u64,
    count: u64,
    hash: u64,
    faults: BTreeSet<String>,
}

impl Standards {
    /// Makes them; exceptions count as of `now`.
    #[must_use]
    pub fn new(measures: &Measures, now: Timestamp) -> Self {
        let made = with_deep_stack(|| Self::made(measures, now));
        // Without a thread for all, each expression asks for one.
        made.unwrap_or_else(|| Self::made(measures, now))
    }

    fn made(measures: &Measures, now: Timestamp) -> Self {
        let version = Version::minor(measures.minor);
        let programs = measures.programs.clone();
        let mut policies = Policies::sharing(version, programs).excepting_at(now);
        let mut hash = DefaultHasher::new();
        measures.minor.hash(&mut hash);
        let mut faults = BTreeSet::new();
        let mut rules = Vec::new();
        for (name, text) in &measures.policies {
            (name, text).hash(&mut hash);
            objects(text, |found| match found {
                // What stands is judged as it stands, and not as it would be changed.
                FoundIn::Object(object) if object.kind.starts_with("Mutating") => {}
                FoundIn::Object(object) => {
                    let object = object.to_json();
                    rules.extend(rules_of(&object));
                    let text = object.to_string();
                    policies.policies(Ok(Source { name: name.clone(), text }));
                }
                FoundIn::Other(_) => {}
                FoundIn::Fault(fault) => {
                    let line = fault.place.line;
                    faults.insert(format!("{name}:{line}: {}", fault.message));
                }
            });
        }
        let told = policies.take_faults().into_iter();
        faults.extend(told.map(|fault| format!("{}: {}", fault.file, fault.message)));
        for fact in measures.facts.iter().chain(&measures.namespaces) {
            // How often something is written does not change what it says.
            text(fact, "/metadata/uid").hash(&mut hash);
            spec_of(fact).hash(&mut hash);
            faults.extend(policies.know(fact).err());
        }
        for exception in policies.state().exceptions() {
            // One that ends says something else from then on.
            exception.name().hash(&mut hash);
        }
        let labels = measures.namespaces.iter().map(labels_of).collect();
        let count = policies.abouts().count();
        let newest = u64::from(measures.minor).min(pod_security::Version::NEWEST_KNOWN);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        Self { policies, rules, labels, newest, count, hash: hash.finish(), faults }
    }

    /// Whether objects of a resource are to be looked at: they make pods, or a policy is for them. Secrets never are.
    #[must_use]
    pub fn look_at(&self, group: &str, resource: &str) -> bool {
        if group.is_empty() && resource == "secrets" {
            return false;
        }
        let is = |all: &[String], one: &str| all.iter().any(|each| each == one || each == "*");
        Workload::of_resource(group, resource).is_some()
            || self
                .rules
                .iter()
                .any(|rule| is(&rule.groups, group) && is(&rule.resources, resource))
    }

    /// The same for standards that say the same.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many policies are asked.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What could not be judged, a sentence each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.faults.iter().cloned().collect()
    }

    /// What an object does not pass.
    pub(super) fn judge(&mut self, object: &Json) -> Vec<Found> {
        let mut found = self.by_policies(object);
        let group = text(object, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
        if let Some(workload) = Workload::of_kind(group, text(object, "/kind")) {
            found.extend(self.by_pod_security(object, workload));
        }
        found
    }

    fn by_policies(&mut self, object: &Json) -> Vec<Found> {
        if self.policies.is_empty() {
            return Vec::new();
        }
        let person = Person { username: SENDER, groups: &[], namespace: "" };
        let Some(request) = creation(self.policies.state(), object.clone(), &person) else {
            self.lacks(&format!("what `{}` is", text(object, "/kind")));
            return Vec::new();
        };
        let judged = catch_unwind(AssertUnwindSafe(|| self.policies.judge_last(&request)));
        match judged {
            Ok((Ok(decision), Lacking(absent))) => {
                absent.iter().for_each(|Lack { what, .. }| self.lacks(what));
                self.told(&decision)
            }
            Ok((Err(Lacking(lacks)), _)) => {
                lacks.iter().for_each(|Lack { what, .. }| self.lacks(what));
                Vec::new()
            }
            Err(_) => {
                self.lacks("the outcome: an evaluation failed inside");
                Vec::new()
            }
        }
    }

    fn lacks(&mut self, what: &str) {
        if self.faults.len() < FAULTS {
            self.faults.insert(format!("some objects cannot be judged: it is not known {what}"));
        }
    }

    fn told(&self, decision: &Decision) -> Vec<Found> {
        let open = decision.violations.iter().map(|violation| (violation, None));
        let accepted = decision.accepted.iter();
        let accepted = accepted.map(|(violation, acceptance)| (violation, Some(acceptance)));
        let told = open.chain(accepted);
        told.map(|(violation, acceptance)| self.broken(violation, decision, acceptance)).collect()
    }

    fn broken(
        &self,
        violation: &Violation,
        decision: &Decision,
        acceptance: Option<&Acceptance>,
    ) -> Found {
        let about = self.policies.about(&violation.policy);
        let enforcement = strictest_of(&violation.actions);
        let by_action = match enforcement {
            Enforcement::Deny => Severity::High,
            Enforcement::Warn | Enforcement::Audit | Enforcement::Inform => Severity::Medium,
        };
        Found {
            policy: format!("ValidatingAdmissionPolicy/{}", violation.policy),
            binding: violation.binding.clone().unwrap_or_default(),
            check: match violation.validation {
                Some(index) => format!("validation {}", index + 1),
                None => "policy".to_owned(),
            },
            severity: about.and_then(|about| about.severity).unwrap_or(by_action),
            enforcement,
            message: violation.message.clone(),
            evidence: paths_of(violation, &decision.trace),
            fix: about.map(|about| about.fix.clone()).unwrap_or_default(),
            waiver: acceptance.map(waiver),
        }
    }

    fn by_pod_security(&mut self, object: &Json, workload: Workload) -> Vec<Found> {
        let namespace = text(object, "/metadata/namespace");
        let template = match workload.read(object) {
            Ok(Some(template)) => template,
            Ok(None) => return Vec::new(),
            Err(error) => {
                self.lacks(&format!("what its pods are: {error}"));
                return Vec::new();
            }
        };
        let none = BTreeMap::new();
        let labels = self.labels.get(namespace).unwrap_or(&none);
        let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let (modes, _) = Modes::of_labels(&labels, Modes::default());
        let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        let subject = exception::Subject { kind, namespace, name };
        let exceptions = self.policies.state().exceptions();
        let latest = pod_security::Version::Latest;
        let restricted = LevelVersion { level: Level::Restricted, version: latest };
        let mut found = Vec::new();
        let mut known = BTreeSet::new();
        for (mode, level, enforcement) in [
            ("enforce", modes.enforce, Enforcement::Deny),
            ("warn", modes.warn, Enforcement::Warn),
            ("audit", modes.audit, Enforcement::Audit),
            ("", restricted, Enforcement::Inform),
        ] {
            if level.level == Level::Privileged {
                continue;
            }
            let evaluation = evaluate_as(level, self.newest, &template.pod);
            let Excepted { evaluation, accepted } =
                except(evaluation, self.newest, workload, object, subject, &exceptions);
            let open = evaluation.violations.iter().map(|violation| (violation, None));
            let accepted = accepted.iter().map(|(violation, by)| (violation, Some(by)));
            for (violation, acceptance) in open.chain(accepted) {
                if !known.insert(violation.check) {
                    continue;
                }
                let spots = || violation.spots.iter();
                let path = |spot: &pod_security::Spot| template.at.clone().join(&spot.path);
                found.push(Found {
                    policy: format!("PodSecurity/{}", level.level.as_str()),
                    binding: match mode {
                        "" => String::new(),
                        mode => format!("pod-security.kubernetes.io/{mode}={level}"),
                    },
                    check: violation.check.as_str().to_owned(),
                    severity: match violation.level {
                        Level::Baseline => Severity::High,
                        Level::Restricted | Level::Privileged => Severity::Medium,
                    },
                    enforcement,
                    message: violation.refusal(level),
                    evidence: spots().map(|spot| path(spot).to_string()).collect(),
                    fix: spots().next().map(|spot| spot.fix.clone()).unwrap_or_default(),
                    waiver: acceptance.map(waiver),
                });
            }
        }
        found
    }
}

/// Which resources a policy is for.
#[derive(Debug)]
struct Rule {
    groups: Vec<String>,
    resources: Vec<String>,
}

fn rules_of(policy: &Json) -> Vec<Rule> {
    let rules = policy.pointer("/spec/matchConstraints/resourceRules").and_then(Json::as_array);
    let list = |rule: &Json, field: &str| -> Vec<String> {
        let all = rule.get(field).and_then(Json::as_array).into_iter().flatten();
        all.filter_map(Json::as_str).map(str::to_owned).collect()
    };
    let rules = rules.into_iter().flatten();
    let read = |rule| Rule { groups: list(rule, "apiGroups"), resources: list(rule, "resources") };
    rules.map(read).collect()
}

fn waiver(acceptance: &Acceptance) -> FindingWaiver {
    let Acceptance { exception, owner, reason, expires } = acceptance;
    FindingWaiver {
        owner: owner.clone(),
        reason: format!("{reason} (exception `{exception}`)"),
        expires: expires.to_string(),
    }
}

/// What of a fact policies can see: all but who wrote it when.
fn spec_of(fact: &Json) -> String {
    let mut fact = fact.clone();
    if let Some(metadata) = fact.get_mut("metadata").and_then(Json::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("managedFields");
    }
    if let Some(fields) = fact.as_object_mut() {
        fields.remove("status");
    }
    fact.to_string()
}

fn labels_of(namespace: &Json) -> (String, BTreeMap<String, String>) {
    let labels = namespace.pointer("/metadata/labels").and_then(Json::as_object);
    let labels = labels.into_iter().flatten();
    let texts = labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    let mut labels: BTreeMap<String, String> = texts.collect();
    // A level that was lowered for the sake of exceptions is enforced all the same.
    if pod_security::is_lowered(namespace) {
        let level = pod_security::owner_level(namespace).unwrap_or_default();
        labels.insert(pod_security::ENFORCE_LABEL.to_owned(), level.to_owned());
    }
    (text(namespace, "/metadata/name").to_owned(), labels)
}
