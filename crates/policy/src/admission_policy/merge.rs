//! An apply configuration merged into an object: keyed lists entry by entry, sets as sets, objects field by field; what is
//! atomic is refused, since fields that the configuration does not name would be lost.

use serde_json::{Map as JsonMap, Value as Json};

use super::{
    request::Kind,
    shape::{Atom, ListMerge, ListShape, MapMerge, MapShape, Scalar, Schemas, TypeRef},
};

/// Merges a configuration into an object of a kind; `None` when the schemas do not have the kind.
pub(super) fn apply(
    schemas: &Schemas,
    kind: &Kind,
    object: &Json,
    mut configuration: JsonMap<String, Json>,
) -> Option<Result<Json, String>> {
    let root = schemas.kind(kind)?;
    configuration.insert("apiVersion".to_owned(), Json::from(kind.api_version()));
    configuration.insert("kind".to_owned(), Json::from(kind.kind.as_str()));
    Some(merged(schemas, &root, object, &Json::Object(configuration)))
}

fn merged(
    schemas: &Schemas,
    root: &TypeRef,
    object: &Json,
    configuration: &Json,
) -> Result<Json, String> {
    let check = |value, origin, what: &str| {
        let mut errors = Vec::new();
        Checker { schemas, origin }.check(root, value, &mut Vec::new(), &mut errors);
        if errors.is_empty() {
            return Ok(());
        }
        Err(format!("failed to convert {what} object to typed object: {}", listed(&errors)))
    };
    check(configuration, Origin::Configuration, "patch")?;
    let mut atomics = Vec::new();
    find_atomics(schemas, root, configuration, &mut String::new(), &mut atomics);
    if !atomics.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            atomics.join(", ")
        ));
    }
    check(object, Origin::Object, "original")?;
    let merger = Merger { schemas };
    let merged = merger.merge(root, Some(object), Some(configuration));
    Ok(merged.map_err(|error| format!("failed to merge patch: {error}"))?.unwrap_or_default())
}

/// Errors as structured merge lists them.
fn listed(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        more => format!("errors:\n  {}", more.join("\n  ")),
    }
}

/// What of an atom fits a value; everything when nothing does.
#[derive(Clone, Copy, PartialEq)]
struct Fitting<'a> {
    scalar: Option<Scalar>,
    list: Option<&'a ListShape>,
    map: Option<&'a MapShape>,
}

fn fitting<'a>(atom: &'a Atom, value: Option<&Json>) -> Fitting<'a> {
    let all = Fitting { scalar: atom.scalar, list: atom.list.as_ref(), map: atom.map.as_ref() };
    let none = Fitting { scalar: None, list: None, map: None };
    match value {
        Some(Json::Bool(_) | Json::Number(_) | Json::String(_)) if atom.scalar.is_some() => {
            Fitting { scalar: atom.scalar, ..none }
        }
        Some(Json::Array(_)) if atom.list.is_some() => Fitting { list: atom.list.as_ref(), ..none },
        Some(Json::Object(_)) if atom.map.is_some() => Fitting { map: atom.map.as_ref(), ..none },
        _ => all,
    }
}

fn field<'a>(shape: &'a MapShape, name: &str) -> Option<&'a TypeRef> {
    shape.fields.get(name).map(|field| &field.of).or(shape.others.as_ref())
}

fn scalar_error(of: Scalar, value: &Json) -> Option<String> {
    let expected = match (of, value) {
        (_, Json::Null)
        | (Scalar::Numeric, Json::Number(_))
        | (Scalar::Text, Json::String(_))
        | (Scalar::Boolean, Json::Bool(_))
        | (Scalar::Untyped, Json::Number(_) | Json::String(_) | Json::Bool(_)) => return None,
        (Scalar::Numeric, _) => {
            return Some(format!("expected numeric (int or float), got {}", go_type(value)));
        }
        (Scalar::Text, _) => {
            let shown = format!("&value.valueUnstructured{{Value:{value}}}");
            return Some(format!("expected string, got {shown}"));
        }
        (Scalar::Boolean, _) => "boolean",
        (Scalar::Untyped, _) => "any scalar",
    };
    Some(format!("expected {expected}, got {}", go_shown(value)))
}

/// What structured merge says of the `null` of an expression.
fn null_error(atom: &Atom) -> String {
    let Atom { scalar, list, map } = atom;
    match (map, scalar, list) {
        (Some(_), _, _) => "expected map, got &{NULL_VALUE}".to_owned(),
        (None, Some(Scalar::Numeric), _) => {
            "expected numeric (int or float), got structpb.NullValue".to_owned()
        }
        (None, Some(Scalar::Text), _) => {
            "expected string, got &value.valueUnstructured{Value:0}".to_owned()
        }
        (None, Some(Scalar::Boolean), _) => "expected boolean, got &{NULL_VALUE}".to_owned(),
        (None, Some(Scalar::Untyped), _) => "expected any scalar, got &{NULL_VALUE}".to_owned(),
        (None, None, _) => "expected list, got &{NULL_VALUE}".to_owned(),
    }
}

fn go_type(value: &Json) -> &'static str {
    match value {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_f64() => "float64",
        Json::Number(_) => "int64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go prints the pointer to its wrapper.
fn go_shown(value: &Json) -> String {
    fn inner(value: &Json) -> String {
        match value {
            Json::Null => "<nil>".to_owned(),
            Json::String(text) => text.clone(),
            Json::Array(items) => {
                format!("[{}]", items.iter().map(inner).collect::<Vec<_>>().join(" "))
            }
            Json::Object(entries) => {
                let entries: Vec<String> =
                    entries.iter().map(|(key, value)| format!("{key}:{}", inner(value))).collect();
                format!("map[{}]", entries.join(" "))
            }
            Json::Bool(_) | Json::Number(_) => value.to_string(),
        }
    }
    format!("&{{{}}}", inner(value))
}

/// What makes an item of a list the one that it is.
#[derive(Clone, PartialEq)]
enum Identity {
    Keys(Vec<(String, Json)>),
    Value(Json),
}

impl Identity {
    fn of(schemas: &Schemas, shape: &ListShape, item: &Json) -> Result<Self, String> {
        match &shape.merge {
            ListMerge::Atomic => Err("invalid indexing of non-associative list".to_owned()),
            ListMerge::Keys(keys) => Self::of_keys(schemas, shape, keys, item),
            ListMerge::Set => match item {
                Json::Object(_) => {
                    Err("associative list without keys has an element that's a map type".to_owned())
                }
                Json::Array(_) => {
                    Err("not supported: associative list with lists as elements".to_owned())
                }
                Json::Null => {
                    let told =
                        "associative list without keys has an element that's an explicit null";
                    Err(told.to_owned())
                }
                value => Ok(Self::Value(value.clone())),
            },
        }
    }

    fn of_keys(
        schemas: &Schemas,
        shape: &ListShape,
        keys: &[String],
        item: &Json,
    ) -> Result<Self, String> {
        let fields = match item {
            Json::Object(fields) => fields,
            Json::Null => {
                return Err("associative list with keys may not have a null element".to_owned());
            }
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let atom = schemas.resolve(&shape.items);
        let default = |key: &str| {
            let shape = atom.as_ref()?.map.as_ref()?;
            shape.fields.get(key)?.default.clone()
        };
        let mut found: Vec<(String, Json)> = keys
            .iter()
            .filter_map(|key| {
                Some((key.clone(), fields.get(key).cloned().or_else(|| default(key))?))
            })
            .collect();
        if found.is_empty() && !keys.is_empty() {
            let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                 values for any key fields)",
                keys.join(" ")
            ));
        }
        found.sort_by(|one, two| one.0.cmp(&two.0));
        Ok(Self::Keys(found))
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Keys(keys) => {
                let keys: Vec<String> =
                    keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
        }
    }
}

/// Where a value comes from. An object may have an item twice; what an expression calls `null` is no value of any type.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    Configuration,
    Object,
}

/// Checks a value against its type.
struct Checker<'s> {
    schemas: &'s Schemas,
    origin: Origin,
}

impl Checker<'_> {
    fn check(&self, of: &TypeRef, value: &Json, path: &mut Vec<String>, errors: &mut Vec<String>) {
        let at = |path: &[String], told: &str| match path.concat() {
            path if path.is_empty() => told.to_owned(),
            path => format!("{path}: {told}"),
        };
        let Some(atom) = self.schemas.resolve(of) else {
            return errors
                .push(at(path, &format!("schema error: no type found matching: {}", name(of))));
        };
        if value.is_null() && self.origin == Origin::Configuration {
            return errors.push(at(path, &null_error(&atom)));
        }
        let fit = fitting(&atom, Some(value));
        if let Some(shape) = fit.map {
            let entries = match value {
                Json::Object(entries) => entries,
                Json::Null => return,
                other => {
                    return errors
                        .push(at(path, &format!("expected map, got {}", go_shown(other))));
                }
            };
            for (key, value) in entries {
                path.push(format!(".{key}"));
                match field(shape, key) {
                    Some(of) => self.check(of, value, path, errors),
                    None => errors.push(at(path, "field not declared in schema")),
                }
                path.pop();
            }
        } else if let Some(scalar) = fit.scalar {
            errors.extend(scalar_error(scalar, value).map(|told| at(path, &told)));
        } else if let Some(shape) = fit.list {
            let items = match value {
                Json::Array(items) => items,
                Json::Null => return,
                other => {
                    return errors
                        .push(at(path, &format!("expected list, got {}", go_shown(other))));
                }
            };
            let mut seen: Vec<Identity> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let step = if shape.merge == ListMerge::Atomic {
                    format!("[{index}]")
                } else {
                    match Identity::of(self.schemas, shape, item) {
                        Err(told) => {
                            return errors.push(at(path, &format!("element {index}: {told}")));
                        }
                        Ok(identity) => {
                            let step = identity.to_string();
                            if seen.contains(&identity) && self.origin == Origin::Configuration {
                                errors.push(at(path, &format!("duplicate entries for key {step}")));
                            }
                            seen.push(identity);
                            step
                        }
                    }
                };
                path.push(step);
                self.check(&shape.items, item, path, errors);
                path.pop();
            }
        } else {
            errors.push(at(path, "schema error: invalid atom: inlined"));
        }
    }
}

fn name(of: &TypeRef) -> &str {
    match of {
        TypeRef::Named(name, _) => name,
        TypeRef::Inline(_) | TypeRef::Deduced | TypeRef::Untyped => "inlined type",
    }
}

fn find_atomics(
    schemas: &Schemas,
    of: &TypeRef,
    value: &Json,
    path: &mut String,
    atomics: &mut Vec<String>,
) {
    let Some(atom) = schemas.resolve(of) else { return };
    let length = path.len();
    match (value, &atom.map, &atom.list) {
        (Json::Object(entries), Some(shape), _) => {
            if shape.merge == MapMerge::Atomic {
                atomics.push(path.clone());
            }
            for (key, value) in entries {
                path.push('.');
                path.push_str(key);
                if let Some(field) = shape.fields.get(key) {
                    find_atomics(schemas, &field.of, value, path, atomics);
                }
                path.truncate(length);
            }
        }
        (Json::Array(items), _, Some(shape)) => {
            if shape.merge == ListMerge::Atomic {
                atomics.push(path.clone());
            }
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                find_atomics(schemas, &shape.items, item, path, atomics);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// Merges two values of one type; what stands on the right wins.
struct Merger<'s> {
    schemas: &'s Schemas,
}

impl Merger<'_> {
    fn merge(
        &self,
        of: &TypeRef,
        left: Option<&Json>,
        right: Option<&Json>,
    ) -> Result<Option<Json>, String> {
        let Some(atom) = self.schemas.resolve(of) else {
            return Err(format!("schema error: no type found matching: {}", name(of)));
        };
        let fit = match right {
            None => fitting(&atom, left),
            Some(_) => fitting(&atom, right),
        };
        let winner = || right.or(left).cloned();
        if let Some(shape) = fit.map {
            let (left_map, right_map) =
                (left.and_then(Json::as_object), right.and_then(Json::as_object));
            let is_empty = |map: Option<&JsonMap<String, Json>>| map.is_none_or(JsonMap::is_empty);
            if shape.merge == MapMerge::Atomic || is_empty(left_map) && is_empty(right_map) {
                return Ok(winner());
            }
            self.merge_maps(shape, left_map, right_map)
        } else if fit.scalar.is_some() {
            Ok(winner())
        } else if let Some(shape) = fit.list {
            let (left_list, right_list) =
                (left.and_then(Json::as_array), right.and_then(Json::as_array));
            let is_empty = |list: Option<&Vec<Json>>| list.is_none_or(Vec::is_empty);
            if shape.merge == ListMerge::Atomic || is_empty(left_list) && is_empty(right_list) {
                return Ok(winner());
            }
            let items = |list: Option<&Vec<Json>>| list.cloned().unwrap_or_default();
            self.merge_lists(shape, &items(left_list), &items(right_list))
        } else {
            Err("schema error: invalid atom: inlined".to_owned())
        }
    }

    fn merge_maps(
        &self,
        shape: &MapShape,
        left: Option<&JsonMap<String, Json>>,
        right: Option<&JsonMap<String, Json>>,
    ) -> Result<Option<Json>, String> {
        let mut out = JsonMap::new();
        let empty = JsonMap::new();
        let (left, right) = (left.unwrap_or(&empty), right.unwrap_or(&empty));
        let new = right.keys().filter(|key| !left.contains_key(*key));
        for key in left.keys().chain(new) {
            let of = field(shape, key)
                .ok_or_else(|| format!(".{key}: schema error: invalid atom: inlined"))?;
            let merged = self.merge(of, left.get(key), right.get(key));
            let merged = merged.map_err(|error| format!(".{key}{error}"))?;
            out.extend(merged.map(|value| (key.clone(), value)));
        }
        Ok((!out.is_empty()).then_some(Json::Object(out)))
    }

    fn merge_lists(
        &self,
        shape: &ListShape,
        left: &[Json],
        right: &[Json],
    ) -> Result<Option<Json>, String> {
        let identities = |items: &[Json]| {
            let of = |(index, item): (usize, &Json)| {
                Identity::of(self.schemas, shape, item)
                    .map_err(|error| format!("element {index}: {error}"))
            };
            items.iter().enumerate().map(of).collect::<Result<Vec<_>, _>>()
        };
        let (left_ids, right_ids) = (identities(left)?, identities(right)?);
        let in_left = |id: &Identity| left_ids.contains(id);
        let in_right = |id: &Identity| right_ids.contains(id);
        // An item that stands twice on the left has no one value: the right one is taken alone.
        let of_left = |id: &Identity| {
            let mut places = left_ids.iter().enumerate().filter(|(_, known)| *known == id);
            match (places.next(), places.next()) {
                (Some((at, _)), None) => left.get(at),
                (Some(_), Some(_)) => Some(&Json::Null),
                (None, _) => None,
            }
        };
        let mut shared = right_ids.iter().filter(|id| in_left(id));
        let mut next_shared = shared.next();
        let mut taken: Vec<&Identity> = Vec::new();
        let mut out: Vec<Json> = Vec::new();
        let (mut l, mut r) = (0, 0);
        while l < left.len() || r < right.len() {
            if let (Some(left_id), Some(right_id)) = (left_ids.get(l), right_ids.get(r)) {
                if left_id == right_id {
                    taken.push(right_id);
                    out.extend(self.merge(&shape.items, of_left(left_id), right.get(r))?);
                    l += 1;
                    r += 1;
                    next_shared = shared.next();
                    continue;
                }
                if in_right(left_id) && next_shared.is_some_and(|next| next != left_id) {
                    // It is on both sides, but its turn is later.
                    l += 1;
                    continue;
                }
            }
            if let Some(left_id) = left_ids.get(l) {
                if !in_right(left_id) {
                    out.extend(self.merge(&shape.items, left.get(l), None)?);
                    l += 1;
                    continue;
                }
                if taken.contains(&left_id) {
                    l += 1;
                }
            }
            if let Some(right_id) = right_ids.get(r) {
                taken.push(right_id);
                out.extend(self.merge(&shape.items, of_left(right_id), right.get(r))?);
                r += 1;
                if next_shared == Some(right_id) {
                    next_shared = shared.next();
                }
            }
        }
        Ok((!out.is_empty()).then_some(Json::Array(out)))
    }
}
