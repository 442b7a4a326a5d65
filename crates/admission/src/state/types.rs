//! The types of Kubernetes' own kinds as expressions see them when the API server checks policies against kinds.

use nullius_cel::{Type, object::Objects};
use nullius_kinds::{self as kinds, Format, Shape, Table};
use nullius_policy::admission_policy::{Equivalent, Kind, Resource, Types};

use super::known::{Known, served};

/// JSON of any shape: an object of which no field is known.
const RAW: &str = "raw";

impl Types for Known<'_> {
    fn kinds_for(&self, resource: &Resource) -> Vec<Kind> {
        let Resource { group, version, resource } = resource;
        // The core has no name of its own there: without a group any is taken.
        let is_meant = |other: &&Equivalent| {
            (group.is_empty() || other.resource.group == *group)
                && other.resource.version == *version
        };
        served(resource).filter(is_meant).map(|other| other.kind.clone()).collect()
    }

    fn declare(&self, kind: &Kind, objects: &mut Objects) -> Option<Type> {
        let table = Table::builtin();
        let found = table.kind(&kind.api_version(), &kind.kind)?;
        Some(object(table, table.root(found)?, objects))
    }
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
