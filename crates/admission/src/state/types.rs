//! The types of kinds as expressions see them when the API server checks policies against kinds: Kubernetes' own, and those
//! that a cluster defines.

use nullius_cel::{Type, object::Objects};
use nullius_kinds::{self as kinds, Format, Shape, Table};
use nullius_policy::admission_policy::{Equivalent, Kind, Resource, Types, escaped};
use serde_json::Value as Json;

use super::known::{Known, served};

/// The type of the metadata of every object.
const METADATA: &str = "meta/v1.ObjectMeta";

/// JSON of any shape: an object of which no field is known.
const RAW: &str = "raw";

impl Types for Known<'_> {
    fn kinds_for(&self, of: &Resource) -> Vec<Kind> {
        let Resource { group, version, resource } = of;
        // The core has no name of its own there: without a group any is taken.
        let is_meant = |other: &&Equivalent| {
            (group.is_empty() || other.resource.group == *group)
                && other.resource.version == *version
        };
        let own = served(resource).filter(is_meant).map(|other| other.kind.clone());
        own.chain(self.definitions.served(of)).collect()
    }

    fn declare(&self, kind: &Kind, objects: &mut Objects) -> Option<Type> {
        let table = Table::builtin();
        if let Some(found) = table.kind(&kind.api_version(), &kind.kind) {
            return Some(object(table, table.root(found)?, objects));
        }
        let schema = self.definitions.schema(kind)?;
        let name = format!("{}.{}", kind.api_version(), kind.kind);
        defined(schema, &name, Part::Object, objects)
    }
}

/// What a part of a schema is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A whole object, with kind and metadata.
    Object,
    /// A value in one.
    Value,
}

impl Part {
    fn of(schema: &Json) -> Self {
        let is_embedded = schema.get("x-kubernetes-embedded-resource") == Some(&Json::Bool(true));
        if is_embedded { Self::Object } else { Self::Value }
    }
}

/// The type that a schema of a definition gives; `None` where it says too little, so that expressions cannot name it.
fn defined(schema: &Json, name: &str, part: Part, objects: &mut Objects) -> Option<Type> {
    if schema.get("x-kubernetes-int-or-string") == Some(&Json::Bool(true)) {
        return Some(Type::Dyn);
    }
    let text = |field: &str| schema.get(field).and_then(Json::as_str).unwrap_or_default();
    Some(match (text("type"), text("format")) {
        ("array", _) => {
            let items = schema.get("items")?;
            Type::list(defined(items, &format!("{name}.@idx"), Part::of(items), objects)?)
        }
        ("object", _) => match schema.get("additionalProperties").filter(|of| of.is_object()) {
            Some(of) => {
                let of = defined(of, &format!("{name}.@prop"), Part::of(of), objects)?;
                Type::map(Type::String, of)
            }
            None => fields(schema, name, part, objects),
        },
        ("string", "byte") => Type::Bytes,
        ("string", "duration") => Type::Duration,
        ("string", "date" | "date-time") => Type::Timestamp,
        ("string", _) => Type::String,
        ("boolean", _) => Type::Bool,
        ("number", _) => Type::Double,
        ("integer", _) => Type::Int,
        _ => return None,
    })
}

/// An object with the fields that a schema names.
fn fields(schema: &Json, name: &str, part: Part, objects: &mut Objects) -> Type {
    let properties = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    let is_own = |field: &str| ["apiVersion", "kind", "metadata"].contains(&field);
    let properties = properties.filter(|(field, _)| part == Part::Value || !is_own(field));
    let mut fields: Vec<(String, Type)> = properties
        .filter_map(|(field, schema)| {
            let of = defined(schema, &format!("{name}.{field}"), Part::of(schema), objects)?;
            Some((escaped(field)?, of))
        })
        .collect();
    if part == Part::Object {
        let table = Table::builtin();
        let metadata = table.types().iter().find(|of| of.name == METADATA);
        fields.extend(metadata.map(|of| ("metadata".to_owned(), object(table, of, objects))));
        fields.extend(["apiVersion", "kind"].map(|field| (field.to_owned(), Type::String)));
    }
    objects.declare(name, fields);
    Type::Object(name.into())
}

fn object(table: &Table, of: &kinds::Type, objects: &mut Objects) -> Type {
    let name = Type::Object(of.name.into());
    if !objects.knows(of.name) {
        // Known by its name first: types hold themselves.
        objects.declare(of.name, Vec::<(&str, Type)>::new());
        let fields: Vec<(&str, Type)> = of
            .fields()
            .iter()
            .filter_map(|field| {
                let of = value(table, table.shape(field), table.format(field), objects)?;
                Some((field.name, of))
            })
            .collect();
        objects.declare(of.name, fields);
    }
    name
}

/// The type of a value; `None` for what the API server does not show: amounts, which are of two types.
fn value(
    table: &Table,
    shape: Shape<'_>,
    format: Option<Format>,
    objects: &mut Objects,
) -> Option<Type> {
    match shape {
        Shape::Struct(of) => Some(object(table, of, objects)),
        Shape::List(item) => Some(Type::list(value(table, item.shape(), item.format(), objects)?)),
        Shape::Map(item) => {
            let of = value(table, item.shape(), item.format(), objects)?;
            Some(Type::map(Type::String, of))
        }
        Shape::Scalar(_) => match format? {
            Format::Boolean => Some(Type::Bool),
            Format::Integer => Some(Type::Int),
            Format::Number => Some(Type::Double),
            Format::Text => Some(Type::String),
            Format::Bytes => Some(Type::Bytes),
            Format::Time => Some(Type::Timestamp),
            Format::IntOrString => Some(Type::Dyn),
            Format::Raw => {
                objects.declare(RAW, Vec::<(&str, Type)>::new());
                Some(Type::Object(RAW.into()))
            }
            Format::Quantity => None,
        },
    }
}
