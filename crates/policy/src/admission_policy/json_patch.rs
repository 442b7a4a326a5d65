//! JSON patches as the API server applies them: RFC 6902 with indices that count from the end, and with its messages. The
//! other way round, the patch between two objects.

use serde_json::{Map as JsonMap, Value as Json, json};

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) op: String,
    pub(super) path: String,
    pub(super) from: String,
    pub(super) value: Option<Json>,
}

/// What comes of a patch.
#[derive(Debug, PartialEq)]
pub(super) enum Patched {
    /// The object, changed.
    Changed(Json),
    /// A `test` failed: nothing is changed.
    TestFailed,
}

/// Why a step does not apply.
enum Refused {
    Test,
    Wrong(String),
}

impl From<String> for Refused {
    fn from(told: String) -> Self {
        Self::Wrong(told)
    }
}

/// Applies all steps or none.
pub(super) fn apply(object: &Json, steps: &[Step]) -> Result<Patched, String> {
    let mut document = object.clone();
    for step in steps {
        match apply_step(&mut document, step) {
            Ok(()) => {}
            Err(Refused::Test) => return Ok(Patched::TestFailed),
            Err(Refused::Wrong(told)) => return Err(told),
        }
    }
    Ok(Patched::Changed(document))
}

fn apply_step(document: &mut Json, step: &Step) -> Result<(), Refused> {
    let Step { op, path, .. } = step;
    let value = || step.value.clone().unwrap_or_default();
    match op.as_str() {
        "add" => {
            let (container, key) = find(document, path).ok_or_else(|| {
                format!(
                    "add operation does not apply: doc is missing path: \"{path}\": missing value"
                )
            })?;
            add(container, &key, value())
                .map_err(|told| format!("error in add for path: '{path}': {told}"))?;
        }
        "remove" => {
            let (container, key) = find(document, path).ok_or_else(|| {
                format!("remove operation does not apply: doc is missing path: \"{path}\": missing value")
            })?;
            remove(container, &key)
                .map_err(|told| format!("error in remove for path: '{path}': {told}"))?;
        }
        "replace" => replace(document, step)?,
        "move" => {
            let from = from(step, "move")?;
            let missing = || {
                format!(
                    "move operation does not apply: doc is missing from path: {from}: missing value"
                )
            };
            let (container, key) = find(document, from).ok_or_else(missing)?;
            let error =
                |key: &str, told: String| format!("error in move for path: '{key}': {told}");
            let moved = get(container, &key).map_err(|told| error(&key, told))?.cloned();
            remove(container, &key).map_err(|told| error(&key, told))?;
            let (container, key) = find(document, path).ok_or_else(|| {
                format!("move operation does not apply: doc is missing destination path: {path}: missing value")
            })?;
            add(container, &key, moved.unwrap_or_default()).map_err(|told| error(path, told))?;
        }
        "copy" => {
            let from = from(step, "copy")?;
            let missing = || {
                format!(
                    "copy operation does not apply: doc is missing from path: {from}: missing value"
                )
            };
            let (container, key) = find(document, from).ok_or_else(missing)?;
            let copied = get(container, &key)
                .map_err(|told| format!("error in copy for from: '{from}': {told}"))?
                .cloned();
            let (container, key) = find(document, path).ok_or_else(|| {
                format!("copy operation does not apply: doc is missing destination path: {path}: missing value")
            })?;
            add(container, &key, copied.unwrap_or_default())
                .map_err(|told| format!("error while adding value during copy: {told}"))?;
        }
        "test" => test(document, step)?,
        other => return Err(format!("Unexpected kind: {other}").into()),
    }
    Ok(())
}

fn from<'s>(step: &'s Step, op: &str) -> Result<&'s str, String> {
    if step.from.is_empty() {
        let told = "operation, missing from field: missing value";
        return Err(format!("{op} operation failed to decode from: {told}"));
    }
    Ok(&step.from)
}

fn replace(document: &mut Json, step: &Step) -> Result<(), Refused> {
    let path = &step.path;
    let value = step.value.clone().unwrap_or_default();
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            let told = "replace operation value must be object or array: %!w(<nil>)";
            return Err(told.to_owned().into());
        }
        *document = value;
        return Ok(());
    }
    let (container, key) = find(document, path).ok_or_else(|| {
        format!("replace operation does not apply: doc is missing path: {path}: missing value")
    })?;
    let missing =
        || format!("replace operation does not apply: doc is missing key: {path}: missing value");
    get(container, &key).map_err(|_| missing())?;
    match container {
        Json::Object(entries) => {
            entries.insert(key, value);
        }
        Json::Array(items) => {
            if let Some(item) = place(&key, items.len()).ok().and_then(|at| items.get_mut(at)) {
                *item = value;
            }
        }
        _ => return Err(missing().into()),
    }
    Ok(())
}

fn test(document: &mut Json, step: &Step) -> Result<(), Refused> {
    let path = &step.path;
    let is_same = if path.is_empty() {
        step.value.as_ref() == Some(document)
    } else {
        let (container, key) = find(document, path).ok_or_else(|| {
            format!("test operation does not apply: is missing path: {path}: missing value")
        })?;
        let found = get(container, &key)
            .map_err(|told| format!("error in test for path: '{path}': {told}"))?;
        match (found.filter(|found| !found.is_null()), &step.value) {
            (None, None | Some(Json::Null)) => true,
            (Some(found), Some(value)) => found == value,
            (None, Some(_)) | (Some(_), None) => false,
        }
    };
    if is_same { Ok(()) } else { Err(Refused::Test) }
}

/// What holds the last key of a path, and that key.
fn find<'d>(document: &'d mut Json, path: &str) -> Option<(&'d mut Json, String)> {
    let (_, below) = path.split_once('/')?;
    let (way, key) = match below.rsplit_once('/') {
        Some((way, key)) => (Some(way), key),
        None => (None, below),
    };
    let mut at = document;
    for step in way.into_iter().flat_map(|way| way.split('/')) {
        let step = unescaped(step);
        at = match at {
            Json::Object(entries) => entries.get_mut(&step)?,
            Json::Array(items) => {
                let index = place(&step, items.len()).ok()?;
                items.get_mut(index)?
            }
            _ => return None,
        };
    }
    (at.is_object() || at.is_array()).then(|| (at, unescaped(key)))
}

fn unescaped(key: &str) -> String {
    // One pass: what `~01` stands for is `~1`.
    let mut out = String::with_capacity(key.len());
    let mut rest = key;
    while let Some(at) = rest.find('~') {
        out.push_str(&rest[..at]);
        let (letter, length) = match rest.as_bytes().get(at + 1) {
            Some(b'1') => ('/', 2),
            Some(b'0') => ('~', 2),
            _ => ('~', 1),
        };
        out.push(letter);
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out
}

/// An index within `length` items; one below zero counts from the end.
fn place(key: &str, length: usize) -> Result<usize, String> {
    let index: i64 =
        key.parse().map_err(|_| format!("strconv.Atoi: parsing \"{key}\": invalid syntax"))?;
    let outside = || format!("Unable to access invalid index: {index}: invalid index referenced");
    let length = i64::try_from(length).map_err(|_| outside())?;
    let at = if index < 0 { index + length } else { index };
    if (0..length).contains(&at) {
        usize::try_from(at).map_err(|_| outside())
    } else {
        Err(outside())
    }
}

fn get<'d>(container: &'d Json, key: &str) -> Result<Option<&'d Json>, String> {
    match container {
        Json::Object(entries) => Ok(entries.get(key)),
        Json::Array(items) => Ok(items.get(place(key, items.len())?)),
        _ => Ok(None),
    }
}

fn add(container: &mut Json, key: &str, value: Json) -> Result<(), String> {
    match container {
        Json::Object(entries) => {
            entries.insert(key.to_owned(), value);
        }
        Json::Array(items) if key == "-" => items.push(value),
        Json::Array(items) => {
            let at = place(key, items.len() + 1).map_err(|told| {
                if told.starts_with("strconv") {
                    format!("value was not a proper array index: '{key}': {told}")
                } else {
                    told
                }
            })?;
            items.insert(at, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(container: &mut Json, key: &str) -> Result<(), String> {
    match container {
        Json::Object(entries) => entries
            .remove(key)
            .map(|_| ())
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
        Json::Array(items) => {
            let at = place(key, items.len())?;
            items.remove(at);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The patch that makes one object of another.
pub(super) fn between(old: &Json, new: &Json) -> Vec<Json> {
    let mut steps = Vec::new();
    diff(old, new, &mut String::new(), &mut steps);
    steps
}

fn diff(old: &Json, new: &Json, path: &mut String, steps: &mut Vec<Json>) {
    if old == new {
        return;
    }
    let length = path.len();
    match (old, new) {
        (Json::Object(old), Json::Object(new)) => {
            for (key, value) in old {
                push(path, key);
                match new.get(key) {
                    Some(new) => diff(value, new, path, steps),
                    None => steps.push(json!({ "op": "remove", "path": path })),
                }
                path.truncate(length);
            }
            added(old, new, path, steps);
        }
        (Json::Array(old), Json::Array(new)) if old.len() <= new.len() => {
            let same = |(index, item): &(usize, &Json)| new.get(*index) == Some(item);
            let is_longer = old.len() < new.len();
            if is_longer && !old.iter().enumerate().all(|pair| same(&pair)) {
                return steps.push(json!({ "op": "replace", "path": path, "value": new }));
            }
            for (index, value) in new.iter().enumerate() {
                match old.get(index) {
                    Some(old) => {
                        push(path, &index.to_string());
                        diff(old, value, path, steps);
                    }
                    None => {
                        push(path, "-");
                        steps.push(json!({ "op": "add", "path": path, "value": value }));
                    }
                }
                path.truncate(length);
            }
        }
        _ => steps.push(json!({ "op": "replace", "path": path, "value": new })),
    }
}

fn added(
    old: &JsonMap<String, Json>,
    new: &JsonMap<String, Json>,
    path: &mut String,
    steps: &mut Vec<Json>,
) {
    let length = path.len();
    for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
        push(path, key);
        steps.push(json!({ "op": "add", "path": path, "value": value }));
        path.truncate(length);
    }
}

fn push(path: &mut String, key: &str) {
    path.push('/');
    path.push_str(&key.replace('~', "~0").replace('/', "~1"));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

    use proptest::{collection, prelude::*};

    use super::*;

    fn document() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            (-3_i64..3).prop_map(Json::from),
            "[a-c~/]{0,2}".prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 40, 4, |inner| {
            prop_oneof![
                collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                collection::btree_map("[a-c~/0-2]{0,2}", inner, 0..4)
                    .prop_map(|entries| Json::Object(entries.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Json> {
        collection::btree_map("[a-c~/]{1,2}", document(), 0..4)
            .prop_map(|entries| Json::Object(entries.into_iter().collect()))
    }

    fn steps(patch: &[Json]) -> Vec<Step> {
        let text = |step: &Json, field: &str| {
            step.get(field).and_then(Json::as_str).unwrap_or_default().to_owned()
        };
        patch
            .iter()
            .map(|step| Step {
                op: text(step, "op"),
                path: text(step, "path"),
                from: text(step, "from"),
                value: step.get("value").cloned(),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn the_patch_between_two_objects_makes_one_of_the_other(old in object(), new in object()) {
            let patch = between(&old, &new);
            prop_assert_eq!(apply(&old, &steps(&patch)), Ok(Patched::Changed(new.clone())));
            prop_assert_eq!(patch.is_empty(), old == new);
        }

        #[test]
        fn any_step_applies_or_is_refused(
            old in document(),
            op in "add|remove|replace|move|copy|test|x",
            path in "(/[a-c0-2~-]{0,2}){0,3}",
            from in "(/[a-c0-2~-]{0,2}){0,3}",
            value in proptest::option::of(document()),
        ) {
            let step = Step { op, path, from, value };
            let once = apply(&old, std::slice::from_ref(&step));
            prop_assert_eq!(apply(&old, &[step]), once);
        }
    }
}
