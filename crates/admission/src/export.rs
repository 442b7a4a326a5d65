//! Policies as files for an API server that asks them by itself: objects for kubectl, or files of manifest-based admission
//! (KEP-5793), which the API server reads from a folder.
//!
//! Exceptions become match conditions, where a condition can say all of them. The others are named, and what they accept is
//! refused. Everything is checked as an API server checks it before any of it is given away.

use std::collections::BTreeMap;

use nullius_model::{API_VERSION, Timestamp};
use nullius_policy::{
    admission_policy::{Fault, PolicySet, Taken, Version},
    exception::{Acceptance, Exception, KIND as EXCEPTION},
};
use serde_json::{Map, Value as Json, json};

use crate::webhook::native;

/// The name of the condition that exported exceptions become, and of the annotation that says until when they are.
pub const EXPORTED: &str = "nullius.dev/exported-exceptions";
/// How the names of policies end that an API server reads from files; no others may end so.
const STATIC: &str = ".static.k8s.io";
/// The most match conditions of a policy.
const MOST_CONDITIONS: usize = 64;
/// What kubectl writes into objects for itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const GROUP: &str = "admissionregistration.k8s.io";

/// What policies are exported for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportForm {
    /// Objects that are applied.
    Native,
    /// Files that the API server reads itself.
    Manifest,
}

/// Policies that validate, and those that mutate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `ValidatingAdmissionPolicy`.
    Validating,
    /// `MutatingAdmissionPolicy`.
    Mutating,
}

/// Policies, their bindings, and exceptions from them.
#[derive(Debug)]
pub struct Export {
    version: Version,
    now: Timestamp,
    /// All of them as they are written, so that a name that stands twice is found.
    set: PolicySet,
    policies: BTreeMap<(Family, String), Json>,
    /// By policy and name.
    bindings: BTreeMap<(Family, String), BTreeMap<String, Json>>,
    exceptions: Vec<Exception>,
}

/// What an export came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exported {
    /// The policies, by family and name.
    pub policies: Vec<ExportedPolicy>,
    /// What is not exported, and why; what it accepts will be refused.
    pub left: Vec<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// A policy with its bindings.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportedPolicy {
    /// What it is.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// The policy, then its bindings by name.
    pub objects: Vec<Json>,
    /// The exceptions that it knows of.
    pub excepted: Vec<Acceptance>,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Validating, Self::Mutating];

    /// `ValidatingAdmissionPolicy`, which is the name of the API server's plugin too.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Validating => "ValidatingAdmissionPolicy",
            Self::Mutating => "MutatingAdmissionPolicy",
        }
    }

    /// The family of an object, and whether it is a policy.
    fn of(object: &Json) -> Option<(Self, bool)> {
        let kind = object.get("kind")?.as_str()?;
        let rest = |family: Self| Some((family, kind.strip_prefix(family.kind())?));
        let (family, rest) = Self::ALL.into_iter().find_map(rest)?;
        Some((family, rest.is_empty()))
    }
}

impl Export {
    /// An empty one, for an API server of a version; exceptions that have ended at `now` are left out.
    #[must_use]
    pub fn new(version: Version, now: Timestamp) -> Self {
        Self {
            version,
            now,
            set: PolicySet::new(version),
            policies: BTreeMap::new(),
            bindings: BTreeMap::new(),
            exceptions: Vec::new(),
        }
    }

    /// Takes a policy, a binding or an exception.
    ///
    /// # Errors
    ///
    /// Every field that is wrong.
    pub fn add(&mut self, object: &Json) -> Result<Taken, Vec<Fault>> {
        let text = |field: &str| object.get(field).and_then(Json::as_str).unwrap_or_default();
        if text("apiVersion") == API_VERSION && text("kind") == EXCEPTION {
            self.exceptions.push(Exception::read(object, self.now)?);
            return Ok(Taken::Added);
        }
        if self.set.add(object)? == Taken::Foreign {
            return Ok(Taken::Foreign);
        }
        let Some((family, is_policy)) = Family::of(object) else { return Ok(Taken::Foreign) };
        let name = name_of(object).to_owned();
        if is_policy {
            self.policies.insert((family, name), object.clone());
        } else {
            let policy = object.pointer("/spec/policyName").and_then(Json::as_str);
            let key = (family, policy.unwrap_or_default().to_owned());
            self.bindings.entry(key).or_default().insert(name, object.clone());
        }
        Ok(Taken::Added)
    }

    /// Whether there is no policy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Writes all of it in a form.
    ///
    /// # Errors
    ///
    /// What cannot be written in that form; nothing is.
    pub fn finish(&self, form: ExportForm) -> Result<Exported, Vec<String>> {
        let mut refused: Vec<String> = self
            .bindings
            .iter()
            .filter(|(key, _)| !self.policies.contains_key(key))
            .flat_map(|((_, policy), bindings)| {
                bindings.keys().map(move |name| {
                    format!("the binding `{name}` names the policy `{policy}`, which is not there")
                })
            })
            .collect();
        let notes = self.not_concerned();
        let mut exported = Exported { left: self.left(), notes, policies: Vec::new() };
        let mut check = PolicySet::new(self.version);
        for ((family, name), policy) in &self.policies {
            let bindings = self.bindings.get(&(*family, name.clone()));
            let bindings: Vec<&Json> = bindings.iter().flat_map(|all| all.values()).collect();
            let wrong = unfit(form, policy, &bindings);
            if !wrong.is_empty() {
                refused.extend(wrong);
                continue;
            }
            let written = self.write(form, *family, policy, &bindings, &mut exported);
            for object in &written.objects {
                let faults = check.add(object).err().unwrap_or_default();
                let of = |fault: Fault| format!("`{}`: {fault}", name_of(object));
                refused.extend(faults.into_iter().map(of));
            }
            exported.notes.extend(advice(form, &written));
            exported.policies.push(written);
        }
        if refused.is_empty() { Ok(exported) } else { Err(refused) }
    }

    /// The exceptions of which nothing, or not all, is exported, whatever the policy looks like.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for exception in self.standing() {
            let name = exception.name();
            for rule in &exception.spec().rules {
                let policy = rule.policy.as_str();
                if !exception.is_whole_for(policy) && self.concerns(policy) {
                    left.push(format!(
                        "the exception `{name}` is not for all that `{policy}` finds in its objects, which a match condition cannot say"
                    ));
                }
            }
        }
        left.dedup();
        left
    }

    /// The exceptions of which nothing can come here.
    fn not_concerned(&self) -> Vec<String> {
        let mut told = Vec::new();
        for exception in &self.exceptions {
            let (name, spec) = (exception.name(), exception.spec());
            if !exception.holds_at(self.now) {
                let end = spec.expires;
                told.push(format!("the exception `{name}` ended at {end} and is not exported"));
                continue;
            }
            let others = spec.rules.iter().filter(|rule| !self.concerns(&rule.policy));
            told.extend(others.map(|rule| {
                let policy = &rule.policy;
                format!(
                    "the exception `{name}` is from `{policy}`, which is no `ValidatingAdmissionPolicy` here"
                )
            }));
        }
        told
    }

    /// Whether exceptions from a policy are of use to something that is exported.
    fn concerns(&self, policy: &str) -> bool {
        let of = |name: &str| name == policy || base(name) == policy;
        self.policies.keys().any(|(family, name)| *family == Family::Validating && of(name))
    }

    fn standing(&self) -> impl Iterator<Item = &Exception> {
        self.exceptions.iter().filter(|exception| exception.holds_at(self.now))
    }

    /// One policy with its bindings.
    fn write(
        &self,
        form: ExportForm,
        family: Family,
        policy: &Json,
        bindings: &[&Json],
        exported: &mut Exported,
    ) -> ExportedPolicy {
        let own = name_of(policy);
        let mut bare = without_conditions(policy, &mut exported.notes);
        let is_for = |each: &&Exception| each.is_whole_for(own) || each.is_whole_for(base(own));
        let mut excepted: Vec<&Exception> = match family {
            Family::Validating => self.standing().filter(is_for).collect(),
            Family::Mutating => Vec::new(),
        };
        excepted.sort_by_key(|exception| exception.name());
        if let Some(outside) = native::outside(excepted.iter().copied()) {
            match self.with_condition(&bare, &outside, &excepted) {
                Ok(with) => bare = with,
                Err(why) => {
                    let names = excepted.iter().map(|each| format!("`{}`", each.name()));
                    let names: Vec<String> = names.collect();
                    let told = format!("exceptions from `{own}` ({}): {why}", names.join(", "));
                    exported.left.push(told);
                    excepted.clear();
                }
            }
        }
        let mut objects = vec![bare];
        objects.extend(bindings.iter().map(|binding| plain(binding)));
        if form == ExportForm::Manifest {
            for object in &mut objects {
                for field in ["/metadata/name", "/spec/policyName"] {
                    let Some(name) = object.pointer_mut(field) else { continue };
                    let kept = base(name.as_str().unwrap_or_default());
                    *name = json!(format!("{kept}{STATIC}"));
                }
            }
        }
        ExportedPolicy {
            family,
            name: name_of(&objects[0]).to_owned(),
            objects,
            excepted: excepted.into_iter().map(Exception::acceptance).collect(),
        }
    }

    /// The policy with the condition and a word on it, or why an API server would not take it.
    fn with_condition(
        &self,
        policy: &Json,
        outside: &str,
        excepted: &[&Exception],
    ) -> Result<Json, String> {
        let mut policy = policy.clone();
        let ends = excepted
            .iter()
            .map(|each| format!("{} until {}", each.name(), each.spec().expires))
            .collect::<Vec<_>>()
            .join(", ");
        policy["metadata"]["annotations"][EXPORTED] = json!(ends);
        let conditions = &mut policy["spec"]["matchConditions"];
        let mut all = conditions.as_array().cloned().unwrap_or_default();
        if all.len() >= MOST_CONDITIONS {
            return Err(format!("it has {MOST_CONDITIONS} match conditions already"));
        }
        all.push(json!({ "name": EXPORTED, "expression": outside }));
        *conditions = Json::Array(all);
        match PolicySet::new(self.version).add(&policy) {
            Ok(_) => Ok(policy),
            Err(faults) => {
                let first = faults.into_iter().next().map(|fault| fault.to_string());
                Err(first.unwrap_or_default().lines().next().unwrap_or_default().to_owned())
            }
        }
    }
}

/// What keeps a policy with its bindings from a form.
fn unfit(form: ExportForm, policy: &Json, bindings: &[&Json]) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = name_of(policy);
    match form {
        ExportForm::Native => {
            let names = std::iter::once(name).chain(bindings.iter().map(|each| name_of(each)));
            for name in names.filter(|name| name.ends_with(STATIC)) {
                wrong.push(format!(
                    "`{name}`: names that end in `{STATIC}` are kept for files of the API server, which takes no such object"
                ));
            }
        }
        ExportForm::Manifest => {
            if policy.pointer("/spec/paramKind").is_some_and(|kind| !kind.is_null()) {
                wrong.push(format!(
                    "the policy `{name}` takes parameters (`spec.paramKind`), which policies in files cannot"
                ));
            }
            for binding in bindings {
                if binding.pointer("/spec/paramRef").is_some_and(|param| !param.is_null()) {
                    let name = name_of(binding);
                    wrong.push(format!(
                        "the binding `{name}` names parameters (`spec.paramRef`), which policies in files cannot have"
                    ));
                }
            }
        }
    }
    wrong
}

/// What to know of a policy that is exported.
fn advice(form: ExportForm, written: &ExportedPolicy) -> Vec<String> {
    let ExportedPolicy { name, objects, .. } = written;
    let mut notes = Vec::new();
    if objects.len() == 1 {
        notes.push(format!("no binding names the policy `{name}`: it is for nothing"));
    }
    let policy = &objects[0];
    let param = |field: &str| policy.pointer(&format!("/spec/paramKind/{field}"))?.as_str();
    if let (Some(version), Some(kind)) = (param("apiVersion"), param("kind")) {
        notes.push(format!(
            "the policy `{name}` takes `{kind}` (`{version}`) as parameters, which are not exported"
        ));
    }
    if form == ExportForm::Manifest && is_for_policies(policy) {
        notes.push(format!(
            "the policy `{name}` is for admission policies and bindings too: from a file an API server asks it about them"
        ));
    }
    notes
}

/// Whether the rules of a policy are for policies and bindings, about which an API server asks only policies in files.
fn is_for_policies(policy: &Json) -> bool {
    let list = |rule: &Json, field: &str, wanted: &dyn Fn(&str) -> bool| {
        let words = rule.get(field).and_then(Json::as_array).into_iter().flatten();
        words.filter_map(Json::as_str).any(wanted)
    };
    let is_policies = |word: &str| {
        let resource = word.split('/').next().unwrap_or_default();
        resource == "*" || resource.contains("admissionpolic")
    };
    let rules = policy.pointer("/spec/matchConstraints/resourceRules").and_then(Json::as_array);
    rules.into_iter().flatten().any(|rule| {
        list(rule, "apiGroups", &|group| group == "*" || group == GROUP)
            && list(rule, "resources", &is_policies)
    })
}

/// A policy without the conditions that we have written for exceptions, which are written anew.
fn without_conditions(policy: &Json, notes: &mut Vec<String>) -> Json {
    let mut bare = plain(&native::written(policy));
    let name = name_of(policy);
    if native::standing(policy).is_some() {
        let own = native::CONDITION;
        notes.push(format!(
            "the condition `{own}` of `{name}` is left out: the agent's webhook asks about its objects, and only where it runs"
        ));
    }
    let Some(conditions) = bare.pointer_mut("/spec/matchConditions").and_then(Json::as_array_mut)
    else {
        return bare;
    };
    conditions.retain(|each| each.get("name").and_then(Json::as_str) != Some(EXPORTED));
    if conditions.is_empty()
        && let Some(spec) = bare.get_mut("spec").and_then(Json::as_object_mut)
    {
        spec.remove("matchConditions");
    }
    bare
}

/// An object as somebody writes it: nothing of what servers and kubectl add.
fn plain(object: &Json) -> Json {
    let field = |name: &str| object.get(name).cloned().unwrap_or_default();
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(name_of(object)));
    for name in ["labels", "annotations"] {
        let Some(Json::Object(words)) = object.pointer(&format!("/metadata/{name}")) else {
            continue;
        };
        let mut words = words.clone();
        words.retain(|key, _| key != LAST_APPLIED && key != EXPORTED);
        if !words.is_empty() {
            metadata.insert(name.to_owned(), Json::Object(words));
        }
    }
    json!({ "apiVersion": field("apiVersion"), "kind": field("kind"), "metadata": metadata, "spec": field("spec") })
}

/// A name without the end that marks policies in files.
fn base(name: &str) -> &str {
    name.strip_suffix(STATIC).unwrap_or(name)
}

fn name_of(object: &Json) -> &str {
    object.pointer("/metadata/name").and_then(Json::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
