//! A request judged as Kubernetes' Pod Security admission judges it.
//!
//! Pods are refused, kinds that make pods only warned of; changes that touch neither containers nor images nor the
//! annotations that checks read pass; namespaces need labels that mean something. What cannot be looked up or read
//! is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    evaluation::{Evaluation, evaluate_as},
    go_text::{go_quoted, plural},
    labels::{LabelFault, Modes},
    level::{Level, LevelVersion, Version},
    pod::{DecodeError, Fields, Pod, text_map},
    template::{PodTemplate, Workload},
};

/// What a cluster has configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What counts where a namespace says nothing.
    pub defaults: Modes,
    /// Users who are not judged.
    pub exempt_users: BTreeSet<String>,
    /// Namespaces in which nothing is judged.
    pub exempt_namespaces: BTreeSet<String>,
    /// Runtime classes whose pods are not judged.
    pub exempt_runtime_classes: BTreeSet<String>,
    /// The newest minor version whose rules count as `latest`.
    pub newest: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            defaults: Modes::default(),
            exempt_users: BTreeSet::new(),
            exempt_namespaces: BTreeSet::new(),
            exempt_runtime_classes: BTreeSet::new(),
            newest: Version::NEWEST_KNOWN,
        }
    }
}

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// Anything else: deleted, connected to.
    Other,
}

/// A request for an object that is a pod, makes pods, or is a namespace.
#[derive(Debug, Clone, Copy)]
pub struct PodRequest<'a> {
    /// What is done.
    pub operation: Operation,
    /// The group; empty for the core.
    pub group: &'a str,
    /// The plural.
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// The namespace of the object, or the namespace itself.
    pub namespace: &'a str,
    /// The name, which may be empty.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a str,
    /// The object as it will be.
    pub object: &'a Value,
    /// The object as it is, in an update.
    pub old_object: Option<&'a Value>,
}

/// The answer to a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Review {
    /// Why it is refused; `None` if it is not.
    pub refusal: Option<Refusal>,
    /// What the person is told.
    pub warnings: Vec<String>,
    /// What the audit is told.
    pub audit: BTreeMap<&'static str, String>,
    /// What was judged, in the mode that decides: enforce for pods, warn for what makes them.
    pub evaluation: Option<Evaluation>,
}

/// A refusal as the API server words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub code: u16,
    /// The machine's word: `Forbidden`.
    pub reason: &'static str,
    /// The sentence, which begins with the object: `pods "a" is forbidden: violates PodSecurity …`.
    pub message: String,
}

impl Refusal {
    /// Of a pod of this name that breaks something.
    pub(super) fn of_pod(name: &str, evaluation: &Evaluation) -> Self {
        let message = format!("pods {} is forbidden: {}", go_quoted(name), evaluation.refusal());
        Self { code: 403, reason: "Forbidden", message }
    }
}

/// Why something was not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exemption {
    /// The user is exempt.
    User,
    /// The namespace is.
    Namespace,
    /// The runtime class is.
    RuntimeClass,
}

impl Exemption {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Namespace => "namespace",
            Self::RuntimeClass => "runtimeClass",
        }
    }
}

/// Subresources of pods that change nothing that is judged; any other is judged like the pod itself.
pub(super) const UNJUDGED: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

const AUDIT_POLICY: &str = "enforce-policy";
const AUDIT_EXEMPT: &str = "exempt";
const AUDIT_ERROR: &str = "error";
const AUDIT_VIOLATIONS: &str = "audit-violations";

/// Judges a request for a pod or a kind that makes pods; `labels` are those of its namespace, or why there are none.
pub fn review(
    settings: &Settings,
    request: &PodRequest<'_>,
    labels: Result<&BTreeMap<&str, &str>, &str>,
) -> Review {
    let Some(workload) = Workload::of_resource(request.group, request.resource) else {
        return Review::default();
    };
    let is_pod = workload == Workload::Pod;
    let is_judged = match request.subresource {
        "" => true,
        subresource => is_pod && !UNJUDGED.contains(&subresource),
    };
    if !is_judged || request.operation == Operation::Other {
        return Review::default();
    }
    if settings.exempt_namespaces.contains(request.namespace) {
        return exempt(Exemption::Namespace);
    }
    if settings.exempt_users.contains(request.user) {
        return exempt(Exemption::User);
    }
    let labels = match labels {
        Ok(labels) => labels,
        Err(cause) => return without_namespace(workload, request.namespace, cause),
    };
    let (modes, faults) = Modes::of_labels(labels, settings.defaults);
    if faults.is_empty() && is_pod && modes.is_privileged() {
        let mut review = Review::default();
        review.audit.insert(AUDIT_POLICY, "privileged:latest".to_owned());
        return review;
    }
    let warns = modes.warn.level != Level::Privileged || modes.audit.level != Level::Privileged;
    if faults.is_empty() && !is_pod && !warns {
        return Review::default();
    }
    match workload.read(request.object) {
        Ok(Some(template)) => {
            if is_pod && request.operation == Operation::Update {
                match is_unchanged(&template.pod, request.old_object) {
                    Ok(true) => return Review::default(),
                    Ok(false) => {}
                    Err(error) => return undecodable(workload, "old object", &error),
                }
            }
            judge(settings, request, &template, &modes, &faults)
        }
        Ok(None) => Review::default(),
        Err(error) => undecodable(workload, "object", &error),
    }
}

fn exempt(exemption: Exemption) -> Review {
    let mut review = Review::default();
    review.audit.insert(AUDIT_EXEMPT, exemption.as_str().to_owned());
    review
}

fn without_namespace(workload: Workload, namespace: &str, cause: &str) -> Review {
    let message = format!("failed to lookup namespace {}", go_quoted(namespace));
    let mut review = Review::default();
    review.audit.insert(AUDIT_ERROR, format!("{message}: {cause}"));
    if workload == Workload::Pod {
        let message = format!("Internal error occurred: {message}");
        review.refusal = Some(Refusal { code: 500, reason: "InternalError", message });
    }
    review
}

pub(super) fn undecodable(workload: Workload, what: &str, error: &DecodeError) -> Review {
    let message = format!("failed to decode {what}");
    let mut review = Review::default();
    review.audit.insert(AUDIT_ERROR, format!("{message}: {error}"));
    if workload == Workload::Pod {
        let message = format!("{message}: {error}");
        review.refusal = Some(Refusal { code: 400, reason: "BadRequest", message });
    }
    review
}

pub(super) fn is_unchanged(pod: &Pod<'_>, old: Option<&Value>) -> Result<bool, DecodeError> {
    let Some(old) = old else { return Ok(false) };
    Ok(!pod.differs_where_it_matters(&Pod::read(old)?))
}

fn judge(
    settings: &Settings,
    request: &PodRequest<'_>,
    template: &PodTemplate<'_>,
    modes: &Modes,
    faults: &[LabelFault],
) -> Review {
    let runtime_class = template.pod.runtime_class.filter(|class| !class.is_empty());
    if runtime_class.is_some_and(|class| settings.exempt_runtime_classes.contains(class)) {
        return exempt(Exemption::RuntimeClass);
    }
    let evaluate = |policy| evaluate_as(policy, settings.newest, &template.pod);
    let mut review = Review::default();
    if !faults.is_empty() {
        let told = format!("Failed to parse policy: {}", aggregated(faults));
        review.audit.insert(AUDIT_ERROR, told);
    }
    let audited = evaluate(modes.audit);
    if !audited.is_clean() {
        review.audit.insert(AUDIT_VIOLATIONS, audited.warning());
    }
    let warned = evaluate(modes.warn);
    if template.workload == Workload::Pod {
        review.audit.insert(AUDIT_POLICY, modes.enforce.to_string());
        let enforced = evaluate(modes.enforce);
        if !enforced.is_clean() {
            review.refusal = Some(Refusal::of_pod(request.name, &enforced));
        }
        review.evaluation = Some(enforced);
    }
    // Nobody is warned of what is refused anyway.
    if review.refusal.is_none() && !warned.is_clean() {
        review.warnings.push(warned.warning());
    }
    review.evaluation.get_or_insert(warned);
    review
}

/// Faults as Kubernetes lists them.
fn aggregated(faults: &[LabelFault]) -> String {
    let mut told: Vec<String> = Vec::new();
    for fault in faults.iter().map(ToString::to_string) {
        if !told.contains(&fault) {
            told.push(fault);
        }
    }
    match told.as_slice() {
        [one] => one.clone(),
        more => format!("[{}]", more.join(", ")),
    }
}

/// The answer to a request for a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceReview {
    /// Why it is refused; `None` if it is not.
    pub refusal: Option<Refusal>,
    /// What the person is told.
    pub warnings: Vec<String>,
    /// By what pods that exist must be measured, to warn of them: [`warnings_for_existing`].
    pub recheck: Option<LevelVersion>,
}

/// Judges a request that makes or changes a namespace.
pub fn review_namespace(settings: &Settings, request: &PodRequest<'_>) -> NamespaceReview {
    let is_namespace = request.group.is_empty() && request.resource == "namespaces";
    if !is_namespace || !request.subresource.is_empty() || request.operation == Operation::Other {
        return NamespaceReview::default();
    }
    let refused =
        |refusal| NamespaceReview { refusal: Some(refusal), ..NamespaceReview::default() };
    let bad = |what: &str, error: &DecodeError| {
        let message = format!("failed to decode {what}: {error}");
        refused(Refusal { code: 400, reason: "BadRequest", message })
    };
    let labels = match labels_of(request.object) {
        Ok(labels) => labels,
        Err(error) => return bad("object", &error),
    };
    let (modes, faults) = Modes::of_labels(&labels, settings.defaults);
    let invalid = || {
        let (name, told) = (go_quoted(request.name), aggregated(&faults));
        let message = format!("Namespace {name} is invalid: {told}");
        refused(Refusal { code: 422, reason: "Invalid", message })
    };
    let is_exempt = settings.exempt_namespaces.contains(request.namespace);
    let of_exempt = || NamespaceReview {
        warnings: exempt_warning(settings, request.name, &modes, &labels).into_iter().collect(),
        ..NamespaceReview::default()
    };
    let Some(old) = request.old_object.filter(|_| request.operation == Operation::Update) else {
        return match (faults.is_empty(), is_exempt) {
            (false, _) => invalid(),
            (true, true) => of_exempt(),
            (true, false) => NamespaceReview::default(),
        };
    };
    let old_labels = match labels_of(old) {
        Ok(labels) => labels,
        Err(error) => return bad("old object", &error),
    };
    let (old_modes, old_faults) = Modes::of_labels(&old_labels, settings.defaults);
    if !faults.is_empty() && faults != old_faults {
        return invalid();
    }
    let (new, old) = (modes.enforce, old_modes.enforce);
    let is_looser = new.version == old.version && new.level <= old.level;
    if new == old || new.level == Level::Privileged || is_looser {
        return NamespaceReview::default();
    }
    if is_exempt {
        return of_exempt();
    }
    NamespaceReview { recheck: Some(new), ..NamespaceReview::default() }
}

fn labels_of(namespace: &Value) -> Result<BTreeMap<&str, &str>, DecodeError> {
    let read =
        Fields::of(namespace)?.within("metadata", |metadata| text_map(metadata, "labels"))?;
    Ok(read.unwrap_or_default())
}

fn exempt_warning(
    settings: &Settings,
    name: &str,
    modes: &Modes,
    labels: &BTreeMap<&str, &str>,
) -> Option<String> {
    let says_something = !modes.is_privileged() && !modes.is_equivalent_to(&settings.defaults);
    says_something.then(|| {
        format!(
            "namespace {} is exempt from Pod Security, and the policy ({}) will be ignored",
            go_quoted(name),
            modes.set_by(labels)
        )
    })
}

/// A pod that exists.
#[derive(Debug)]
pub struct ExistingPod<'a> {
    /// Its name.
    pub name: &'a str,
    /// The uid of its controller.
    pub controller: Option<&'a str>,
    /// The pod.
    pub pod: Pod<'a>,
}

/// The most pods that a stricter namespace is measured against.
const EXISTING_MAX: usize = 3000;

/// The warnings for pods that break what their namespace will enforce. One of each controller is measured before
/// the others; `is_time_up` is asked after each.
pub fn warnings_for_existing(
    settings: &Settings,
    namespace: &str,
    enforce: LevelVersion,
    pods: &[ExistingPod<'_>],
    mut is_time_up: impl FnMut() -> bool,
) -> Vec<String> {
    let mut controllers = BTreeSet::new();
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for pod in pods {
        let class = pod.pod.runtime_class.filter(|class| !class.is_empty());
        if class.is_some_and(|class| settings.exempt_runtime_classes.contains(class)) {
            continue;
        }
        match pod.controller {
            Some(controller) if !controllers.insert(controller) => later.push(pod),
            Some(_) | None => first.push(pod),
        }
    }
    first.append(&mut later);
    let mut checked = 0;
    let mut found: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for pod in first.iter().take(EXISTING_MAX) {
        let evaluation = evaluate_as(enforce, settings.newest, &pod.pod);
        if !evaluation.is_clean() {
            let (name, count) = found.entry(evaluation.reasons()).or_insert((pod.name, 0));
            *name = (*name).min(pod.name);
            *count += 1;
        }
        checked += 1;
        if is_time_up() {
            break;
        }
    }
    let mut warnings = Vec::new();
    if checked < first.len() {
        let all = first.len();
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {all} existing pods"
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {} violate the new PodSecurity enforce level {}",
            go_quoted(namespace),
            go_quoted(&enforce.to_string())
        ));
    }
    let mut told: Vec<String> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count - 1 {
            0 => format!("{name}: {reasons}"),
            more => format!("{name} (and {more} other {}): {reasons}", plural("pod", "pods", more)),
        })
        .collect();
    told.sort_unstable();
    warnings.append(&mut told);
    warnings
}

#[cfg(test)]
#[path = "request/tests.rs"]
mod tests;
