//! Which admission policies and bindings come, go, or let more pass than before.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value as Json;

/// A policy or binding that is other than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyChange {
    /// `ValidatingAdmissionPolicyBinding`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// What lets more pass.
    pub weaker: Vec<String>,
    /// What lets less pass.
    pub stronger: Vec<String>,
    /// What is other, and may be either.
    pub other: Vec<String>,
    /// What is said otherwise to people, while the same passes.
    pub words: Vec<String>,
}

/// What became of a policy or binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is gone.
    Removed,
    /// It lets more pass, in one way at least.
    Weakened,
    /// It is other than before, and nobody can tell by its form whether more passes.
    Changed,
    /// It lets the same pass, and says something else.
    Reworded,
    /// It lets less pass.
    Strengthened,
    /// It is new.
    Added,
}

impl Change {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Weakened => "weakened",
            Self::Changed => "changed",
            Self::Reworded => "reworded",
            Self::Strengthened => "strengthened",
            Self::Added => "added",
        }
    }
}

/// What is said of one policy.
#[derive(Default)]
pub(super) struct Said {
    pub(super) weaker: Vec<String>,
    pub(super) stronger: Vec<String>,
    pub(super) other: Vec<String>,
    pub(super) words: Vec<String>,
}

impl Said {
    /// The change that it comes to; `None` where nothing was said.
    pub(super) fn of(self, kind: &str, name: &str) -> Option<PolicyChange> {
        let change = if !self.weaker.is_empty() {
            Change::Weakened
        } else if !self.other.is_empty() {
            Change::Changed
        } else if !self.stronger.is_empty() {
            Change::Strengthened
        } else if !self.words.is_empty() {
            Change::Reworded
        } else {
            return None;
        };
        Some(self.into_change(kind, name, change))
    }

    fn into_change(self, kind: &str, name: &str, change: Change) -> PolicyChange {
        let Self { weaker, stronger, other, words } = self;
        let (kind, name) = (kind.to_owned(), name.to_owned());
        PolicyChange { kind, name, change, weaker, stronger, other, words }
    }
}

/// The changes between two states of files.
pub(super) fn changes<'a>(
    base: impl Iterator<Item = &'a Json>,
    head: impl Iterator<Item = &'a Json>,
) -> Vec<PolicyChange> {
    let (base, head) = (by_name(base), by_name(head));
    let keys: BTreeSet<_> = base.keys().chain(head.keys()).collect();
    let mut all = Vec::new();
    for key in keys {
        let (kind, name) = key;
        let mut said = Said::default();
        all.extend(match (base.get(key), head.get(key)) {
            (Some(_), None) => Some(said.into_change(kind, name, Change::Removed)),
            (None, Some(_)) => Some(said.into_change(kind, name, Change::Added)),
            (Some(base), Some(head)) => {
                compare(kind, base, head, &mut said);
                said.of(kind, name)
            }
            (None, None) => None,
        });
    }
    all
}

fn by_name<'a>(objects: impl Iterator<Item = &'a Json>) -> BTreeMap<(String, String), &'a Json> {
    let text = |object: &Json, path: &str| {
        object.pointer(path).and_then(Json::as_str).unwrap_or_default().to_owned()
    };
    let policies = objects.filter(|object| {
        let kind = text(object, "/kind");
        text(object, "/apiVersion").starts_with("admissionregistration.k8s.io/")
            && (kind.ends_with("AdmissionPolicy") || kind.ends_with("AdmissionPolicyBinding"))
    });
    policies
        .map(|object| ((text(object, "/kind"), text(object, "/metadata/name")), object))
        .collect()
}

fn compare(kind: &str, base: &Json, head: &Json, said: &mut Said) {
    let (base, head) = (&base["spec"], &head["spec"]);
    if kind.ends_with("Binding") {
        return binding(base, head, said);
    }
    word(base, head, "failurePolicy", "Fail", "Fail", said);
    constraints("matchConstraints", &base["matchConstraints"], &head["matchConstraints"], said);
    conditions(base, head, said);
    let rules = if kind.starts_with("Mutating") { "mutations" } else { "validations" };
    expressions(rules, base, head, said);
    for field in ["paramKind", "variables", "auditAnnotations", "reinvocationPolicy"] {
        if base[field] != head[field] {
            said.other.push(format!("`{field}` is other"));
        }
    }
}

fn binding(base: &Json, head: &Json, said: &mut Said) {
    if base["policyName"] != head["policyName"] {
        said.weaker
            .push(format!("it applies {} instead of {}", head["policyName"], base["policyName"]));
    }
    let actions = |spec: &Json| -> BTreeSet<String> {
        let list = spec["validationActions"].as_array().into_iter().flatten();
        list.filter_map(Json::as_str).map(str::to_owned).collect()
    };
    let (before, after) = (actions(base), actions(head));
    for gone in before.difference(&after) {
        said.weaker.push(format!("`validationActions` lost `{gone}`"));
    }
    for new in after.difference(&before) {
        said.stronger.push(format!("`validationActions` got `{new}`"));
    }
    let (before, after) = (&base["paramRef"], &head["paramRef"]);
    word(before, after, "parameterNotFoundAction", "", "Deny", said);
    for field in ["name", "namespace", "selector"] {
        if before[field] != after[field] {
            said.other.push(format!("`paramRef.{field}` is other"));
        }
    }
    constraints("matchResources", &base["matchResources"], &head["matchResources"], said);
}

/// A word of which one value is the strict one.
fn word(base: &Json, head: &Json, field: &str, default: &str, strict: &str, said: &mut Said) {
    let read = |spec: &Json| spec[field].as_str().unwrap_or(default).to_owned();
    let (before, after) = (read(base), read(head));
    if before == after {
        return;
    }
    let told = format!("`{field}` was `{before}` and is `{after}`");
    if before == strict { said.weaker.push(told) } else { said.stronger.push(told) }
}

fn conditions(base: &Json, head: &Json, said: &mut Said) {
    let of = |spec: &Json| -> BTreeMap<String, String> {
        let list = spec["matchConditions"].as_array().into_iter().flatten();
        let pairs = list.filter_map(|each| {
            Some((each["name"].as_str()?.to_owned(), each["expression"].as_str()?.to_owned()))
        });
        pairs.collect()
    };
    let (before, after) = (of(base), of(head));
    for (name, expression) in &after {
        match before.get(name) {
            None => {
                said.weaker.push(format!("it has a match condition more, `{name}`: {expression}"))
            }
            Some(old) if old != expression => {
                said.other.push(format!("the match condition `{name}` is other: {expression}"));
            }
            Some(_) => {}
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        said.stronger.push(format!("the match condition `{name}` is gone"));
    }
}

/// Rules, each by what it says.
fn expressions(field: &str, base: &Json, head: &Json, said: &mut Said) {
    let of = |spec: &Json| spec[field].as_array().cloned().unwrap_or_default();
    let core = |rule: &Json| match rule["expression"].as_str() {
        Some(expression) => expression.trim().to_owned(),
        None => rule.to_string(),
    };
    let (before, after) = (of(base), of(head));
    let without = |all: &[Json], others: &[Json]| -> Vec<String> {
        let known: BTreeSet<String> = others.iter().map(core).collect();
        all.iter().map(core).filter(|each| !known.contains(each)).collect()
    };
    let (gone, new) = (without(&before, &after), without(&after, &before));
    let hollow: Vec<&String> = new.iter().filter(|each| *each == "true").collect();
    if gone.len() == new.len() && hollow.is_empty() {
        for (old, new) in gone.iter().zip(&new) {
            said.other.push(format!("of `{field}` the expression `{old}` is now `{new}`"));
        }
    } else {
        for each in &gone {
            said.weaker.push(format!("of `{field}` `{each}` is gone"));
        }
        for each in new.iter().filter(|each| *each != "true") {
            said.stronger.push(format!("of `{field}` `{each}` is new"));
        }
    }
    let words = said.words.len();
    for (old, new) in paired(&before, &after, core) {
        reworded(field, &core(old), old, new, said);
    }
    let same_core = gone.is_empty() && new.is_empty();
    if same_core && before.len() != after.len() {
        said.words.push(format!("one of `{field}` stands more often, or less"));
    } else if same_core && before != after && words == said.words.len() {
        said.words.push(format!("`{field}` stand in another order"));
    }
}

/// Rules of both sides that ask the same, each once.
fn paired<'a>(
    before: &'a [Json],
    after: &'a [Json],
    core: impl Fn(&Json) -> String,
) -> Vec<(&'a Json, &'a Json)> {
    let mut left: Vec<&Json> = after.iter().collect();
    let pair = |old: &'a Json| {
        let same = |new: &&Json| core(new) == core(old);
        // What is the same in words too comes first: of two alike only one may have been reworded.
        let exact = left.iter().position(|new| *new == old);
        let index = exact.or_else(|| left.iter().position(same))?;
        Some((old, left.remove(index)))
    };
    before.iter().filter_map(pair).collect()
}

/// What two rules that ask the same say otherwise.
fn reworded(field: &str, core: &str, old: &Json, new: &Json, said: &mut Said) {
    for (word, path) in
        [("message", "message"), ("message expression", "messageExpression"), ("reason", "reason")]
    {
        let shown = |rule: &Json| match rule[path].as_str() {
            Some(text) => format!("`{text}`"),
            None => "not said".to_owned(),
        };
        if old[path] != new[path] {
            let (before, after) = (shown(old), shown(new));
            said.words
                .push(format!("of `{field}` `{core}` the {word} was {before} and is {after}"));
        }
    }
}

/// What something is for; nothing said is everything.
fn constraints(field: &str, base: &Json, head: &Json, said: &mut Said) {
    let rules = |of: &Json, list: &str| -> Option<Vec<Atom>> {
        of[list]
            .as_array()
            .filter(|all| !all.is_empty())
            .map(|all| all.iter().flat_map(atoms).collect())
    };
    let beyond = |one: &[Atom], other: &[Atom]| -> Vec<String> {
        let lacks = one.iter().filter(|atom| !other.iter().any(|wider| wider.covers(atom)));
        lacks.map(Atom::described).collect()
    };
    let mut narrower = Vec::new();
    let mut wider = Vec::new();
    let list = "resourceRules";
    match (rules(base, list), rules(head, list)) {
        (None, Some(_)) => narrower.push(format!("`{list}` narrow it")),
        (Some(_), None) => wider.push(format!("`{list}` narrow it no more")),
        (Some(before), Some(after)) => {
            let told = |what: &str, all: Vec<String>| {
                (!all.is_empty()).then(|| format!("it is {what} {}", all.join(", ")))
            };
            narrower.extend(told("no more for", beyond(&before, &after)));
            wider.extend(told("for", beyond(&after, &before)));
        }
        (None, None) => {}
    }
    let list = "excludeResourceRules";
    let (before, after) =
        (rules(base, list).unwrap_or_default(), rules(head, list).unwrap_or_default());
    let told = |what: &str, all: Vec<String>| {
        (!all.is_empty()).then(|| format!("`{list}` {what} {}", all.join(", ")))
    };
    narrower.extend(told("take out", beyond(&after, &before)));
    wider.extend(told("take out no more", beyond(&before, &after)));
    for selector in ["namespaceSelector", "objectSelector"] {
        let (before, after) = (requirements(&base[selector]), requirements(&head[selector]));
        for each in after.difference(&before) {
            narrower.push(format!("`{selector}` asks for {each}"));
        }
        for each in before.difference(&after) {
            wider.push(format!("`{selector}` asks no more for {each}"));
        }
    }
    let policy = |of: &Json| of["matchPolicy"].as_str().unwrap_or("Equivalent").to_owned();
    match (policy(base).as_str(), policy(head).as_str()) {
        ("Equivalent", "Exact") => narrower.push("`matchPolicy` is `Exact`".to_owned()),
        ("Exact", "Equivalent") => wider.push("`matchPolicy` is `Equivalent`".to_owned()),
        _ => {}
    }
    said.weaker.extend(narrower.into_iter().map(|told| format!("{field}: {told}")));
    said.stronger.extend(wider.into_iter().map(|told| format!("{field}: {told}")));
}

/// The conditions of a label selector, each as text.
fn requirements(selector: &Json) -> BTreeSet<String> {
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let labels =
        labels.map(|(key, value)| format!("`{key}={}`", value.as_str().unwrap_or_default()));
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    let expressions = expressions.map(|each| {
        let values = each["values"].as_array().into_iter().flatten().filter_map(Json::as_str);
        let mut values: Vec<&str> = values.collect();
        values.sort_unstable();
        let text = |field: &str| each[field].as_str().unwrap_or_default();
        format!("`{} {} {}`", text("key"), text("operator"), values.join(",")).replace(" `", "`")
    });
    labels.chain(expressions).collect()
}

/// One operation on one resource.
struct Atom {
    operation: String,
    group: String,
    version: String,
    resource: String,
    scope: String,
    /// None for all.
    name: Option<String>,
}

fn atoms(rule: &Json) -> Vec<Atom> {
    let list = |field: &str| -> Vec<String> {
        let list = rule[field].as_array().into_iter().flatten().filter_map(Json::as_str);
        list.map(str::to_owned).collect()
    };
    let names = list("resourceNames");
    let names: Vec<Option<String>> =
        if names.is_empty() { vec![None] } else { names.into_iter().map(Some).collect() };
    let scope = rule["scope"].as_str().unwrap_or("*").to_owned();
    let mut atoms = Vec::new();
    for operation in list("operations") {
        for group in list("apiGroups") {
            for version in list("apiVersions") {
                for resource in list("resources") {
                    atoms.extend(names.iter().map(|name| Atom {
                        operation: operation.clone(),
                        group: group.clone(),
                        version: version.clone(),
                        resource: resource.clone(),
                        scope: scope.clone(),
                        name: name.clone(),
                    }));
                }
            }
        }
    }
    atoms
}

impl Atom {
    fn covers(&self, other: &Self) -> bool {
        let is = |wide: &str, narrow: &str| wide == "*" || wide == narrow;
        is(&self.operation, &other.operation)
            && is(&self.group, &other.group)
            && is(&self.version, &other.version)
            && covers_resource(&self.resource, &other.resource)
            && is(&self.scope, &other.scope)
            && (self.name.is_none() || self.name == other.name)
    }

    fn described(&self) -> String {
        let Self { operation, group, version, resource, scope, name } = self;
        let group = if group.is_empty() { String::new() } else { format!(".{group}") };
        let scope = if scope == "*" { String::new() } else { format!(" ({scope})") };
        let name = name.as_deref().map(|name| format!(" `{name}`")).unwrap_or_default();
        format!("{operation} {resource}{group}/{version}{name}{scope}")
    }
}

/// `*` is for all resources without a subresource, `*/*` for everything, `pods/*` for all of pods.
fn covers_resource(wide: &str, narrow: &str) -> bool {
    let split = |text: &str| match text.split_once('/') {
        Some((resource, subresource)) => (resource.to_owned(), Some(subresource.to_owned())),
        None => (text.to_owned(), None),
    };
    let (wide, narrow) = (split(wide), split(narrow));
    let is = |wide: &str, narrow: &str| wide == "*" || wide == narrow;
    is(&wide.0, &narrow.0)
        && match (wide.1.as_deref(), narrow.1.as_deref()) {
            (Some("*"), _) | (None, None) => true,
            (Some(wide), Some(narrow)) => wide == narrow,
            (Some(_), None) | (None, Some(_)) => false,
        }
}
