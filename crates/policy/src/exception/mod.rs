//! Exceptions from policies: what somebody accepts, in which objects, and until when.
//!
//! An exception covers a violation whole or not at all, and each violation is covered by one exception: two never add up.
//! Whether it covers what a part of an object breaks is not guessed from a message: the part is taken out, and the rule is
//! asked again ([`Exception::without`]).

mod condition;
pub(crate) mod glob;
mod parts;
#[cfg(test)]
mod tests;

use nullius_model::{ExceptedRule, ExceptionScope, PolicyExceptionSpec, Timestamp, Ttl};
use serde_json::Value as Json;

use crate::{
    admission_policy::Fault,
    document::{self, Metadata},
    pod_security::{Level, Workload, all_checks},
};
use glob::Glob;
use parts::ValuePath;

/// The kind of exceptions.
pub const KIND: &str = "PolicyException";
/// What exceptions call the Pod Security Standards.
pub const POD_SECURITY: &str = "PodSecurity";
/// How long an exception lasts at most.
pub const MOST_DAYS: u32 = 90;

/// An exception that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    name: String,
    spec: PolicyExceptionSpec,
    paths: Vec<ValuePath>,
}

/// What an exception is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The kind of the object.
    pub kind: &'a str,
    /// Its namespace; empty where it has none.
    pub namespace: &'a str,
    /// Its name, or what its name will begin with.
    pub name: &'a str,
}

/// That something was accepted, as those who read of it need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// The exception, `namespace/name`.
    pub exception: String,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// How much of an object an exception is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Parts: this is what is left without them.
    Rest(Json),
    /// Parts that it does not have.
    Nothing,
}

impl Exception {
    /// Reads and checks an exception; one that says not when it was made counts as made at `now`.
    ///
    /// # Errors
    ///
    /// Every field that is wrong.
    pub fn read(object: &Json, now: Timestamp) -> Result<Self, Vec<Fault>> {
        let (metadata, spec): (Metadata, PolicyExceptionSpec) = document::read(object, KIND)?;
        let mut faults = Vec::new();
        let mut wrong = |field: &str, message: String| {
            faults.push(Fault { field: field.to_owned(), message });
        };
        for (field, text) in [("spec.owner", &spec.owner), ("spec.reason", &spec.reason)] {
            if text.trim().is_empty() {
                wrong(field, "say who answers for it and why".to_owned());
            }
        }
        let made = metadata.creation_timestamp.unwrap_or(now);
        let latest = Ttl::from_secs(MOST_DAYS * 24 * 3_600).after(made);
        if spec.expires > latest {
            let told = format!(
                "an exception lasts {MOST_DAYS} days at most, until {latest}; make it again when it is still needed"
            );
            wrong("spec.expires", told);
        }
        if spec.rules.is_empty() {
            wrong("spec.rules", "name the policy that is excepted from".to_owned());
        }
        for (index, rule) in spec.rules.iter().enumerate() {
            if rule.policy.trim().is_empty() {
                wrong(&format!("spec.rules[{index}].policy"), "name a policy".to_owned());
            }
            let unknown = rule
                .checks
                .iter()
                .filter(|check| !all_checks().any(|known| known.id.as_str() == **check));
            if rule.policy == POD_SECURITY {
                for check in unknown {
                    let told = format!("`{check}` is no check of the Pod Security Standards");
                    wrong(&format!("spec.rules[{index}].checks"), told);
                }
            }
        }
        let paths = check_scope(&spec.scope, &mut wrong);
        if !faults.is_empty() {
            return Err(faults);
        }
        let Metadata { name, namespace, .. } = metadata;
        let name = match namespace.filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        };
        Ok(Self { name, spec, paths })
    }

    /// `namespace/name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says.
    #[must_use]
    pub fn spec(&self) -> &PolicyExceptionSpec {
        &self.spec
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn holds_at(&self, now: Timestamp) -> bool {
        now < self.spec.expires
    }

    /// Whether it is for a check of a policy, known by any of `names`, and an object.
    #[must_use]
    pub fn is_for(&self, policy: &str, names: &[&str], subject: Subject<'_>) -> bool {
        let has_check = |rule: &ExceptedRule| {
            rule.checks.is_empty() || names.iter().any(|name| rule.checks.contains(*name))
        };
        let rules = &self.spec.rules;
        rules.iter().any(|rule| rule.policy == policy && has_check(rule))
            && self.is_for_object(subject)
    }

    fn is_for_object(&self, Subject { kind, namespace, name }: Subject<'_>) -> bool {
        let ExceptionScope { namespaces, kinds, names, .. } = &self.spec.scope;
        let within = match namespace {
            "" => namespaces.is_empty(),
            namespace => Glob::any(namespaces, namespace),
        };
        within
            && (kinds.is_empty() || kinds.contains(kind))
            && (names.is_empty() || Glob::any(names, name))
    }

    /// Whether it accepts something that a policy finds.
    #[must_use]
    pub fn is_from(&self, policy: &str) -> bool {
        self.spec.rules.iter().any(|rule| rule.policy == policy)
    }

    /// The checks of Pod Security that it accepts and that `baseline` has: where pods are made they count for nothing.
    #[must_use]
    pub fn checks_of_baseline(&self) -> Vec<&str> {
        let of_baseline = |id: &&str| {
            all_checks().any(|check| check.id.as_str() == *id && check.level == Level::Baseline)
        };
        let rules = self.spec.rules.iter().filter(|rule| rule.policy == POD_SECURITY);
        rules.flat_map(|rule| rule.checks.iter().map(String::as_str)).filter(of_baseline).collect()
    }

    /// Whether it accepts something in pods of a namespace that the level `restricted` has beyond `baseline`.
    #[must_use]
    pub fn is_above_baseline(&self, namespace: &str) -> bool {
        let ExceptionScope { namespaces, kinds, .. } = &self.spec.scope;
        let is_above = |id: &String| {
            all_checks().any(|check| check.id.as_str() == id && check.level > Level::Baseline)
        };
        let has_check =
            |rule: &ExceptedRule| rule.checks.is_empty() || rule.checks.iter().any(is_above);
        let rules = &self.spec.rules;
        rules.iter().any(|rule| rule.policy == POD_SECURITY && has_check(rule))
            && Glob::any(namespaces, namespace)
            && (kinds.is_empty() || kinds.contains("Pod"))
    }

    /// A match condition under which a policy is not asked about the objects that it is for, in CEL.
    ///
    /// It narrows to objects alone: what the exception is for in them, and which checks, is left to whoever asks the policy
    /// in the API server's place.
    #[must_use]
    pub fn condition(&self) -> String {
        condition::outside(&self.spec.scope)
    }

    /// Whether its [condition](Self::condition) says all: it accepts whatever a policy finds in its objects.
    #[must_use]
    pub fn is_whole_for(&self, policy: &str) -> bool {
        let ExceptionScope { containers, images, values, .. } = &self.spec.scope;
        let has_parts = !containers.is_empty() || !images.is_empty() || !values.is_empty();
        let rules = &self.spec.rules;
        !has_parts && rules.iter().any(|rule| rule.policy == policy && rule.checks.is_empty())
    }

    /// How much of an object it is for; `workload` where the object makes pods.
    #[must_use]
    pub fn without(&self, object: &Json, workload: Option<Workload>) -> Extent {
        let scope = &self.spec.scope;
        if scope.containers.is_empty() && scope.images.is_empty() && self.paths.is_empty() {
            return Extent::Whole;
        }
        match parts::without(object, workload, scope, &self.paths) {
            Some(rest) => Extent::Rest(rest),
            None => Extent::Nothing,
        }
    }

    /// Whether it covers a violation whole: it is for the object, or what is left without the excepted parts `passes`.
    pub(crate) fn covers<E>(
        &self,
        object: Option<&Json>,
        workload: Option<Workload>,
        passes: impl FnOnce(&Json) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let nothing = Json::Null;
        match self.without(object.unwrap_or(&nothing), workload) {
            Extent::Whole => Ok(true),
            Extent::Rest(rest) => passes(&rest),
            Extent::Nothing => Ok(false),
        }
    }

    /// What is said of that which it covers.
    #[must_use]
    pub fn acceptance(&self) -> Acceptance {
        let PolicyExceptionSpec { owner, reason, expires, .. } = &self.spec;
        Acceptance {
            exception: self.name.clone(),
            owner: owner.clone(),
            reason: reason.clone(),
            expires: *expires,
        }
    }
}

/// Checks a scope and compiles its paths.
fn check_scope(scope: &ExceptionScope, wrong: &mut impl FnMut(&str, String)) -> Vec<ValuePath> {
    if scope.namespaces.is_empty() && scope.names.is_empty() {
        wrong(
            "spec.scope",
            "say for which objects: `namespaces`, or `names` of objects without one".to_owned(),
        );
    }
    let globs = [
        ("namespaces", &scope.namespaces),
        ("names", &scope.names),
        ("containers", &scope.containers),
        ("images", &scope.images),
    ];
    for (field, texts) in globs {
        for text in texts.iter().filter(|text| text.chars().all(|letter| letter == '*')) {
            let told = match field {
                "namespaces" => "it would be for every namespace: list them",
                _ => "it narrows nothing: leave it out, or say which",
            };
            wrong(&format!("spec.scope.{field}"), format!("`{text}`: {told}"));
        }
    }
    let by_container = !scope.containers.is_empty() || !scope.images.is_empty();
    let mut paths = Vec::new();
    for (index, each) in scope.values.iter().enumerate() {
        let field = format!("spec.scope.values[{index}]");
        if each.values.is_empty() {
            wrong(&format!("{field}.values"), "name the values that are accepted".to_owned());
        }
        match ValuePath::parse(&each.path, &each.values) {
            Ok(path) if by_container && !path.is_of_containers() => wrong(
                &format!("{field}.path"),
                "beside `containers` and `images` it must be a field of them: `spec.containers[*].…`".to_owned(),
            ),
            Ok(path) => paths.push(path),
            Err(told) => wrong(&format!("{field}.path"), told),
        }
    }
    paths
}
