//! Kinds that a cluster defines itself, by the `CustomResourceDefinition`s of a state: where their objects are, how they
//! merge, which fields they have and what is filled in.

use std::collections::{BTreeMap, BTreeSet};

use nullius_policy::admission_policy::{Equivalent, Kind, Resource, shape::Schemas};
use serde_json::{Map as JsonMap, Value as Json};

use super::{NotTaken, Place, known};

/// Definitions by kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Definitions {
    kinds: BTreeMap<Kind, Defined>,
    schemas: Schemas,
}

#[derive(Debug, Clone)]
struct Defined {
    place: Place,
    schema: Json,
    subresources: BTreeSet<String>,
    /// Whether versions differ in nothing but their name.
    is_plain: bool,
}

impl Definitions {
    pub(super) fn add(&mut self, object: &Json) -> Result<(), NotTaken> {
        let name = object.pointer("/metadata/name").and_then(Json::as_str).unwrap_or_default();
        let wrong = |field: &str| {
            NotTaken(format!("`CustomResourceDefinition` `{name}`: the field `{field}` is missing"))
        };
        let text = |path: &str| object.pointer(path).and_then(Json::as_str);
        let group = text("/spec/group").ok_or_else(|| wrong("spec.group"))?;
        let kind = text("/spec/names/kind").ok_or_else(|| wrong("spec.names.kind"))?;
        let plural = text("/spec/names/plural").ok_or_else(|| wrong("spec.names.plural"))?;
        let scope = text("/spec/scope").ok_or_else(|| wrong("spec.scope"))?;
        let refused = |told: String| {
            NotTaken(format!(
                "`CustomResourceDefinition` `{name}`: {told}; an API server refuses it"
            ))
        };
        if !group.contains('.') {
            return Err(refused(format!("the group `{group}` has no dot")));
        }
        if name != format!("{plural}.{group}") {
            return Err(refused(format!("its name must be `{plural}.{group}`")));
        }
        let versions = object.pointer("/spec/versions").and_then(Json::as_array);
        let is_plain = text("/spec/conversion/strategy").is_none_or(|strategy| strategy == "None");
        let mut defined = Vec::new();
        for version in versions.ok_or_else(|| wrong("spec.versions"))? {
            if version.get("served") == Some(&Json::Bool(false)) {
                continue;
            }
            let version_name = version.get("name").and_then(Json::as_str);
            let version_name = version_name.ok_or_else(|| wrong("spec.versions[].name"))?;
            let of = Kind {
                group: group.to_owned(),
                version: version_name.to_owned(),
                kind: kind.to_owned(),
            };
            if known::serves(&of.api_version()) {
                let own = of.api_version();
                return Err(NotTaken(format!(
                    "`CustomResourceDefinition` `{name}`: `{own}` is Kubernetes' own, and no definition changes it"
                )));
            }
            let resource = Resource {
                group: of.group.clone(),
                version: of.version.clone(),
                resource: plural.to_owned(),
            };
            let schema = version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default();
            let subresources = version.get("subresources").and_then(Json::as_object);
            let subresources = subresources.into_iter().flatten().map(|(name, _)| name.clone());
            let place = Place { resource, is_namespaced: scope == "Namespaced" };
            let subresources = subresources.collect();
            defined.push((of, Defined { place, schema, subresources, is_plain }));
        }
        for (of, defined) in defined {
            self.schemas.add_definition(&of, &defined.schema);
            self.kinds.insert(of, defined);
        }
        Ok(())
    }

    /// Whether any version of a kind of a group is defined.
    pub(super) fn knows_any(&self, group: &str, kind: &str) -> bool {
        self.kinds.keys().any(|of| (of.group.as_str(), of.kind.as_str()) == (group, kind))
    }

    pub(super) fn knows(&self, kind: &Kind) -> bool {
        self.kinds.contains_key(kind)
    }

    pub(super) fn place(&self, kind: &Kind) -> Option<Place> {
        self.kinds.get(kind).map(|defined| defined.place.clone())
    }

    /// The kinds whose objects are under a resource; without a group those of any.
    pub(super) fn served(&self, of: &Resource) -> impl Iterator<Item = Kind> {
        let is_meant = |place: &Place| {
            let Resource { group, version, resource } = &place.resource;
            (of.group.is_empty() || of.group == *group)
                && (&of.version, &of.resource) == (version, resource)
        };
        let found = self.kinds.iter().filter(move |(_, defined)| is_meant(&defined.place));
        found.map(|(kind, _)| kind.clone())
    }

    /// What a definition says of the fields of a kind.
    pub(super) fn schema(&self, kind: &Kind) -> Option<&Json> {
        self.kinds.get(kind).map(|defined| &defined.schema)
    }

    pub(super) fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    pub(super) fn equivalents(&self, resource: &Resource, subresource: &str) -> Vec<Equivalent> {
        let same = self.kinds.iter().filter(|(_, defined)| {
            let Resource { group, resource: plural, .. } = &defined.place.resource;
            (group, plural) == (&resource.group, &resource.resource)
                && (subresource.is_empty() || defined.subresources.contains(subresource))
        });
        same.map(|(kind, defined)| Equivalent {
            resource: defined.place.resource.clone(),
            kind: kind.clone(),
        })
        .collect()
    }

    /// An object in another version, where versions differ in their name alone.
    pub(super) fn converted(&self, object: &Json, to: &Kind) -> Option<Json> {
        let defined = self.kinds.get(to).filter(|defined| defined.is_plain)?;
        let mut object = object.clone();
        object.as_object_mut()?.insert("apiVersion".to_owned(), Json::from(to.api_version()));
        Some(defined.normalized(object))
    }

    /// An object without the fields that its definition does not have, with its defaults.
    pub(super) fn normalized(&self, object: Json, kind: &Kind) -> Json {
        match self.kinds.get(kind) {
            Some(defined) => defined.normalized(object),
            None => object,
        }
    }
}

impl Defined {
    fn normalized(&self, mut object: Json) -> Json {
        const OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];
        let Json::Object(fields) = &mut object else { return object };
        let mut kept = JsonMap::new();
        for name in OWN {
            kept.extend(fields.remove(name).map(|value| (name.to_owned(), value)));
        }
        prune(&self.schema, &mut object);
        default(&self.schema, &mut object);
        if let Json::Object(fields) = &mut object {
            fields.extend(kept);
        }
        object
    }
}

fn keeps_unknown(schema: &Json) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Json::Bool(true))
}

/// Takes out what the schema does not name.
fn prune(schema: &Json, value: &mut Json) {
    match value {
        Json::Object(fields) => {
            let properties = schema.get("properties").and_then(Json::as_object);
            let others = schema.get("additionalProperties");
            let is_embedded =
                schema.get("x-kubernetes-embedded-resource") == Some(&Json::Bool(true));
            fields.retain(|name, value| {
                if is_embedded && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
                    return true;
                }
                match properties.and_then(|known| known.get(name)) {
                    Some(schema) => prune(schema, value),
                    None => match others {
                        Some(Json::Object(_)) => prune(others.unwrap_or(&Json::Null), value),
                        Some(Json::Bool(true)) => {}
                        _ => return keeps_unknown(schema),
                    },
                }
                true
            });
        }
        Json::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| prune(schema, item));
            }
        }
        _ => {}
    }
}

/// Puts in what is missing; `null` where the schema does not take it counts as missing.
fn default(schema: &Json, value: &mut Json) {
    match value {
        Json::Object(fields) => {
            let properties = schema.get("properties").and_then(Json::as_object);
            for (name, schema) in properties.into_iter().flatten() {
                let is_nullable = schema.get("nullable") == Some(&Json::Bool(true));
                let missing = match fields.get(name) {
                    None => true,
                    Some(Json::Null) => !is_nullable,
                    Some(_) => false,
                };
                if let Some(value) = schema.get("default").filter(|_| missing) {
                    fields.insert(name.clone(), value.clone());
                }
            }
            let others = schema.get("additionalProperties").filter(|schema| schema.is_object());
            for (name, value) in fields.iter_mut() {
                if let Some(schema) = properties.and_then(|known| known.get(name)).or(others) {
                    default(schema, value);
                }
            }
        }
        Json::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| default(schema, item));
            }
        }
        _ => {}
    }
}
