//! Defaults and conversions that are more than a value for a missing field.
//!
//! The table marks every field that Kubernetes' code changes in such a way; a test holds the marks against
//! what is written here, so that a new version of Kubernetes cannot bring a rule unseen.

mod apps;
mod autoscaling;
mod batch;
mod core;
mod extensions;
mod other;
mod resources;

use serde_json::Value;

use crate::{decode::Object, quantity::Quantity};

/// What is done to values of a type.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    default: Option<fn(&mut Object)>,
    convert: Option<fn(&mut Object)>,
}

/// When a rule acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// After the plain defaults of a type, before those of what it holds.
    Default,
    /// On the way through the version that the API server holds in memory.
    Convert,
}

/// The rules of a type, and the fields that they change.
struct Rule {
    of: &'static str,
    rules: Rules,
    #[cfg(test)]
    changes: &'static [&'static str],
}

const fn default(of: &'static str, act: fn(&mut Object), changes: &'static [&'static str]) -> Rule {
    rule(of, Rules { default: Some(act), convert: None }, changes)
}

const fn convert(of: &'static str, act: fn(&mut Object), changes: &'static [&'static str]) -> Rule {
    rule(of, Rules { default: None, convert: Some(act) }, changes)
}

const fn both(
    of: &'static str,
    acts: [fn(&mut Object); 2],
    changes: &'static [&'static str],
) -> Rule {
    let [default, convert] = acts;
    rule(of, Rules { default: Some(default), convert: Some(convert) }, changes)
}

/// Fields of one type that a rule of another changes.
const fn changed(of: &'static str, changes: &'static [&'static str]) -> Rule {
    rule(of, Rules { default: None, convert: None }, changes)
}

#[cfg_attr(not(test), expect(unused_variables, reason = "a test holds changes against the table"))]
const fn rule(of: &'static str, rules: Rules, changes: &'static [&'static str]) -> Rule {
    Rule {
        of,
        rules,
        #[cfg(test)]
        changes,
    }
}

fn all() -> impl Iterator<Item = &'static Rule> {
    [core::RULES, apps::RULES, batch::RULES, autoscaling::RULES, extensions::RULES, other::RULES]
        .into_iter()
        .flatten()
}

impl Rules {
    /// The rules of a type by its name.
    pub(crate) fn of(name: &str) -> Self {
        all().find(|rule| rule.of == name).map(|rule| rule.rules).unwrap_or_default()
    }

    pub(crate) fn apply(self, moment: Moment, object: &mut Object) {
        let act = match moment {
            Moment::Default => self.default,
            Moment::Convert => self.convert,
        };
        if let Some(act) = act {
            act(object);
        }
    }
}

/// Resources are rounded up to thousandths.
pub(crate) fn round_up(amounts: &mut Value) {
    let Value::Object(amounts) = amounts else { return };
    for amount in amounts.values_mut() {
        if let Some(quantity) = amount.as_str().and_then(Quantity::parse) {
            *amount = Value::String(quantity.to_milli().written());
        }
    }
}

/// The text of a field; empty where it is missing.
fn text<'o>(object: &'o Object, field: &str) -> &'o str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Fills a field that is missing.
fn fill(object: &mut Object, field: &str, value: impl Into<Value>) {
    if !object.contains_key(field) {
        object.insert(field.to_owned(), value.into());
    }
}

/// Whether a list or mapping is missing or has nothing in it.
fn is_empty(object: &Object, field: &str) -> bool {
    match object.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(entries)) => entries.is_empty(),
        Some(_) => false,
    }
}

fn inner<'o>(object: &'o Object, field: &str) -> Option<&'o Object> {
    object.get(field).and_then(Value::as_object)
}

fn inner_mut<'o>(object: &'o mut Object, field: &str) -> Option<&'o mut Object> {
    object.get_mut(field).and_then(Value::as_object_mut)
}

/// The structures in a list.
fn each<'o>(object: &'o mut Object, field: &str) -> impl Iterator<Item = &'o mut Object> {
    let items = object.get_mut(field).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Takes annotations away.
fn drop_annotations(object: &mut Object, names: &[&str]) {
    let annotations = inner_mut(object, "metadata").and_then(|meta| inner_mut(meta, "annotations"));
    if let Some(annotations) = annotations {
        annotations.retain(|name, _| !names.contains(&name.as_str()));
    }
}

/// Labels of a pod template for an object that has none.
fn labels_of_template(object: &mut Object) {
    let template = inner(object, "spec").and_then(|spec| inner(spec, "template"));
    let labels = template.and_then(|template| inner(template, "metadata")?.get("labels")).cloned();
    let Some(labels) = labels else { return };
    if let Some(metadata) = inner_mut(object, "metadata")
        && is_empty(metadata, "labels")
    {
        metadata.insert("labels".to_owned(), labels);
    }
}

/// Every field that a rule changes, as `core/v1.Volume.emptyDir`; rounding needs no rule of its own.
#[cfg(test)]
pub(crate) fn covered() -> impl Iterator<Item = String> {
    all().flat_map(|rule| rule.changes.iter().map(move |field| format!("{}.{field}", rule.of)))
}
