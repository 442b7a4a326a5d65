//! A case as a request, and what policies and the Pod Security Standards answer.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use nullius_kinds::{Scope, Table};
use nullius_policy::{
    admission_policy::{Action, Decision, Kind, Operation, Request, Resource, Stage, Version},
    pod_security::{
        self, ExistingPod, PodRequest, Review, Settings, Version as Standards, Workload, review,
        review_namespace, warnings_for_existing,
    },
};
use serde_json::{Value as Json, json};

use super::form::{Case, Defaults, PodSecurity, Requester, Verdict};
use crate::{
    Policies,
    state::{Lack, Lacking, Person, State, request_of, user},
};

/// The prefix of what Pod Security tells the audit.
const AUDIT_PREFIX: &str = "pod-security.kubernetes.io/";
/// The name under which Pod Security refuses.
pub(super) const POD_SECURITY: &str = "PodSecurity";

/// What came of a request.
pub(super) struct Outcome {
    pub(super) decision: Decision,
    /// Who refuses or, where nobody does, who warns.
    pub(super) by: Vec<String>,
    /// What each of them says by itself.
    pub(super) told: Vec<String>,
    /// The checks of the Pod Security Standards that fail.
    pub(super) checks: Vec<&'static str>,
}

/// Why there is no outcome.
pub(super) enum Failed {
    /// Facts are missing.
    Lacks(Vec<Lack>),
    /// Something is wrong with the case itself.
    Wrong(String),
}

impl Outcome {
    pub(super) fn verdict(&self) -> Verdict {
        match (&self.decision.refusal, self.decision.warnings.is_empty()) {
            (Some(_), _) => Verdict::Denied,
            (None, false) => Verdict::Warned,
            (None, true) => Verdict::Allowed,
        }
    }
}

/// The request of a case, about an object of it.
pub(super) fn request(
    case: &Case,
    defaults: &Defaults,
    state: &State,
    object: Option<&Json>,
    old: Option<&Json>,
) -> Result<Request, Failed> {
    let wrong = |told: String| Failed::Wrong(told);
    let nobody = Requester { name: "kubernetes-admin".to_owned(), ..Requester::default() };
    let user = case.user.as_ref().or(defaults.user.as_ref()).unwrap_or(&nobody);
    let namespace = case.namespace.as_ref().or(defaults.namespace.as_ref());
    let namespace = namespace.map_or("default", String::as_str);
    let person = Person { username: &user.name, groups: &user.groups, namespace };
    // What is deleted was there: an object alone is the old one then.
    let (object, old) = match (case.operation, object, old) {
        (Some(Operation::Delete), Some(object), None) => (None, Some(object)),
        (Some(Operation::Delete), Some(_), Some(_)) => {
            return Err(wrong("what is deleted is `object` or `old`, not both".to_owned()));
        }
        (Some(Operation::Create | Operation::Connect), _, Some(_)) => {
            return Err(wrong("`old` is there before an `UPDATE` or `DELETE` alone".to_owned()));
        }
        (Some(Operation::Update), Some(_), None) => {
            return Err(wrong("an `UPDATE` needs `old`, the object as it is".to_owned()));
        }
        (_, object, old) => (object, old),
    };
    let resource = case.resource.as_deref().map(resource);
    let mut request = match (case.operation, object, resource.clone()) {
        // Options of a connection are of kinds that have no place of their own.
        (Some(Operation::Connect), Some(object), Some(resource)) => {
            connection(object, resource, &person)
        }
        _ => request_of(state, object, old, &person).map_err(|told| wrong(told.to_string()))?,
    };
    if let Some(operation @ Operation::Connect) = case.operation {
        request.operation = operation;
        request.options = None;
    }
    request.resource = resource.unwrap_or(request.resource);
    if let Some(subresource) = &case.subresource {
        request.subresource = subresource.clone();
    }
    request.user.uid = user.uid.clone();
    let extra = user.extra.iter().map(|(key, values)| (key.clone(), json!(values)));
    request.user.extra = extra.collect();
    if case.dry_run {
        request.dry_run = true;
        if let Some(Json::Object(options)) = &mut request.options {
            options.insert("dryRun".to_owned(), json!(["All"]));
        }
    }
    Ok(request)
}

/// `apps/v1/deployments`.
fn resource(word: &str) -> Resource {
    let (group_version, plural) = word.rsplit_once('/').unwrap_or(("", word));
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let [group, version, resource] = [group, version, plural].map(str::to_owned);
    Resource { group, version, resource }
}

/// A stream to an object, whose options are the object of the request.
fn connection(options: &Json, resource: Resource, person: &Person<'_>) -> Request {
    let text = |path: &str| options.pointer(path).and_then(Json::as_str).unwrap_or_default();
    let kind = Kind::new(text("/apiVersion"), text("/kind"));
    Request {
        operation: Operation::Connect,
        namespace: match is_of_cluster(&resource) {
            true => String::new(),
            false => person.namespace.to_owned(),
        },
        name: text("/metadata/name").to_owned(),
        resource,
        subresource: String::new(),
        kind,
        user: user(person),
        dry_run: false,
        options: None,
        object: Some(options.clone()),
        old_object: None,
    }
}

/// Whether it is a resource of Kubernetes without namespaces.
fn is_of_cluster(resource: &Resource) -> bool {
    let group_version = match resource.group.as_str() {
        "" => resource.version.clone(),
        group => format!("{group}/{}", resource.version),
    };
    Table::builtin().kinds().any(|kind| {
        kind.api_version == group_version
            && kind.resource == resource.resource
            && kind.scope == Scope::Cluster
    })
}

/// Asks policies, then the Pod Security Standards about what they leave of the object, as an API server does.
pub(super) fn answer(
    policies: &mut Policies,
    state: &State,
    pod_security: Option<PodSecurity>,
    version: Version,
    request: &Request,
) -> Result<Outcome, Failed> {
    let judged = catch_unwind(AssertUnwindSafe(|| policies.judge_with(state, request)));
    let decision = match judged {
        Ok(Ok(decision)) => decision,
        Ok(Err(Lacking(lacks))) => return Err(Failed::Lacks(lacks)),
        Err(_) => {
            let told = "the evaluation failed inside; a cluster refuses such a request; report policies and case";
            return Err(Failed::Wrong(told.to_owned()));
        }
    };
    let mut outcome = Outcome { by: Vec::new(), told: Vec::new(), checks: Vec::new(), decision };
    outcome.say_who();
    let ended = outcome.decision.refusal.as_ref().map(|refusal| refusal.stage);
    if let (Some(measure), false) = (pod_security, ended == Some(Stage::Mutation)) {
        outcome.measure(measure, state, version, request)?;
    }
    Ok(outcome)
}

impl Outcome {
    /// Notes which policies refuse; where none does, which warn.
    fn say_who(&mut self) {
        let action = match self.decision.refusal {
            Some(_) => Action::Deny,
            None => Action::Warn,
        };
        for violation in &self.decision.violations {
            if !violation.actions.contains(&action) {
                continue;
            }
            if !self.by.contains(&violation.policy) {
                self.by.push(violation.policy.clone());
            }
            self.told.push(violation.message.clone());
        }
        self.by.sort();
    }

    /// Puts what Pod Security says, which an API server asks before policies that validate, into the decision.
    fn measure(
        &mut self,
        measure: PodSecurity,
        state: &State,
        version: Version,
        request: &Request,
    ) -> Result<(), Failed> {
        let settings = Settings { newest: minor(version), ..Settings::default() };
        let Some(object) = self.decision.object(request).cloned() else { return Ok(()) };
        let asked = PodRequest {
            operation: match request.operation {
                Operation::Create => pod_security::Operation::Create,
                Operation::Update => pod_security::Operation::Update,
                Operation::Delete | Operation::Connect => pod_security::Operation::Other,
            },
            group: &request.resource.group,
            resource: &request.resource.resource,
            subresource: &request.subresource,
            namespace: &request.namespace,
            name: &request.name,
            user: &request.user.username,
            object: &object,
            old_object: request.old_object.as_ref(),
        };
        let of_namespace = review_namespace(&settings, &asked);
        let mut said = match Workload::of_resource(asked.group, asked.resource) {
            Some(_) => {
                let labels = labels(measure, state, &request.namespace).map_err(Failed::Lacks)?;
                let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                review(&settings, &asked, Ok(&labels.collect()))
            }
            None => Review { refusal: of_namespace.refusal, ..Review::default() },
        };
        said.warnings.extend(of_namespace.warnings);
        if let Some(level) = of_namespace.recheck {
            let pods = state.pods_of(&request.name).map_err(|lack| Failed::Lacks(vec![lack]))?;
            let existing: Vec<ExistingPod<'_>> = pods.into_iter().filter_map(existing).collect();
            let never = || false;
            said.warnings.extend(warnings_for_existing(
                &settings,
                &request.name,
                level,
                &existing,
                never,
            ));
        }
        if let Some(pod_security::Refusal { code, reason, message }) = said.refusal {
            let violations = said.evaluation.map(|found| found.violations).unwrap_or_default();
            self.checks = violations.iter().map(|violation| violation.check.as_str()).collect();
            self.by = vec![POD_SECURITY.to_owned()];
            self.told.clear();
            self.decision.refuse_before_policies(code, reason, &message, said.warnings);
        } else if !said.warnings.is_empty() {
            if self.decision.refusal.is_none() {
                self.by.push(POD_SECURITY.to_owned());
                self.by.sort();
            }
            let after = std::mem::take(&mut self.decision.warnings);
            self.decision.warnings = said.warnings.into_iter().chain(after).collect();
        }
        let told = said.audit.into_iter();
        let told = told.map(|(key, value)| (format!("{AUDIT_PREFIX}{key}"), value));
        self.decision.audit_annotations.extend(told);
        Ok(())
    }
}

/// The labels by which pods of a namespace are measured.
fn labels(
    measure: PodSecurity,
    state: &State,
    namespace: &str,
) -> Result<BTreeMap<String, String>, Vec<Lack>> {
    match measure {
        PodSecurity::Level(measure) => Ok(BTreeMap::from([
            ("pod-security.kubernetes.io/enforce".to_owned(), measure.level.to_string()),
            ("pod-security.kubernetes.io/enforce-version".to_owned(), measure.version.to_string()),
        ])),
        PodSecurity::Namespace => state.labels_of_namespace(namespace).map_err(|lack| vec![lack]),
    }
}

fn existing(pod: &Json) -> Option<ExistingPod<'_>> {
    let references = pod.pointer("/metadata/ownerReferences").and_then(Json::as_array);
    let controls = |reference: &&Json| reference.get("controller") == Some(&Json::Bool(true));
    let controller = references.into_iter().flatten().find(controls);
    Some(ExistingPod {
        name: pod.pointer("/metadata/name").and_then(Json::as_str).unwrap_or_default(),
        controller: controller.and_then(|reference| reference.get("uid")?.as_str()),
        pod: pod_security::Pod::read(pod).ok()?,
    })
}

/// The minor version of an API server, whose rules are the newest that it knows.
fn minor(version: Version) -> u64 {
    let text = version.to_string();
    let minor = text.rsplit('.').next().and_then(|minor| minor.parse().ok());
    minor.unwrap_or(Standards::NEWEST_KNOWN)
}
