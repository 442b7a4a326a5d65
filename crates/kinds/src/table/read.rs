//! Reads the text of the table.

use std::collections::BTreeMap;

use super::{
    Field, Kind, ListMerge, MapMerge, Patch, Retain, Scope, ShapeId, Table, Type, Written,
};
use crate::rules::Rules;

/// Reads it; an error says which line is not understood.
pub(super) fn table(text: &'static str) -> Result<Table, String> {
    let mut table = Table::default();
    let index: BTreeMap<&str, usize> = text
        .lines()
        .filter_map(|line| line.strip_prefix("type ")?.split(' ').next())
        .enumerate()
        .map(|(index, name)| (name, index))
        .collect();
    for line in text.lines() {
        let failed = || format!("the table has a line that is not understood: `{line}`");
        if let Some(field_line) = line.strip_prefix("  ") {
            let of = table.types.last_mut().ok_or_else(failed)?;
            of.fields.push(field(field_line, &index).ok_or_else(failed)?);
            continue;
        }
        let mut words = line.split(' ');
        match words.next() {
            Some("#") => {
                if let Some((_, rest)) = line.split_once("The kinds of Kubernetes ") {
                    table.version = rest.split(' ').next().ok_or_else(failed)?;
                }
            }
            Some("gone") => {
                let version = words.next().ok_or_else(failed)?;
                table.gone.entry(version).or_default().extend(words);
            }
            Some("kind") => {
                let kind = kind(&mut words, &index).ok_or_else(failed)?;
                table.kinds.entry(kind.api_version).or_default().insert(kind.name, kind);
            }
            Some("type") => {
                let name = words.next().ok_or_else(failed)?;
                let merge = if words.next() == Some("atomic") {
                    MapMerge::Atomic
                } else {
                    MapMerge::Granular
                };
                table.types.push(Type { name, merge, fields: Vec::new(), rules: Rules::of(name) });
            }
            Some("") | None => {}
            Some(_) => return Err(failed()),
        }
    }
    for of in &mut table.types {
        of.fields.sort_unstable_by_key(|field| field.name);
    }
    Ok(table)
}

fn kind(
    words: &mut impl Iterator<Item = &'static str>,
    index: &BTreeMap<&str, usize>,
) -> Option<Kind> {
    let (api_version, name, resource) = (words.next()?, words.next()?, words.next()?);
    let scope = match words.next()? {
        "cluster" => Scope::Cluster,
        "namespaced" => Scope::Namespaced,
        _ => return None,
    };
    let root = *index.get(words.next()?)?;
    Some(Kind { api_version, name, resource, scope, root })
}

fn field(line: &'static str, index: &BTreeMap<&str, usize>) -> Option<Field> {
    let (name, rest) = line.split_once(' ')?;
    let (spelled, mut rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let bare = spelled.strip_prefix('*');
    let mut field = Field {
        name,
        written: Written::NotEmpty,
        values: Vec::new(),
        list: ListMerge::Atomic,
        map: MapMerge::Granular,
        patch: Patch::Replace,
        shape: shape(bare.unwrap_or(spelled), index)?,
        is_pointer: bare.is_some(),
        default: None,
        has_rule: false,
    };
    while !rest.is_empty() {
        // Values may have spaces and come last.
        if let Some(values) = rest.strip_prefix("enum(") {
            field.values = values.strip_suffix(')')?.split('|').collect();
            break;
        }
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = after;
        match word {
            "always" => field.written = Written::Always,
            "omitzero" => field.written = Written::NotZero,
            "rule" => field.has_rule = true,
            "=" => {
                let mut values = serde_json::Deserializer::from_str(rest).into_iter();
                field.default = Some(values.next()?.ok()?);
                rest = rest.get(values.byte_offset()..)?.trim_start();
            }
            _ => {
                let (what, inner) = word.strip_suffix(')')?.split_once('(')?;
                match (what, inner) {
                    ("list", "atomic") => field.list = ListMerge::Atomic,
                    ("list", "set") => field.list = ListMerge::Set,
                    ("list", keys) => field.list = ListMerge::Map(keys.split(',').collect()),
                    ("map", "atomic") => field.map = MapMerge::Atomic,
                    ("map", "granular") => field.map = MapMerge::Granular,
                    ("patch", patch) => field.patch = strategy(patch),
                    _ => return None,
                }
            }
        }
    }
    Some(field)
}

fn strategy(text: &'static str) -> Patch {
    let (strategies, key) = match text.split_once(':') {
        Some((strategies, key)) => (strategies, Some(key)),
        None => (text, None),
    };
    let has = |wanted: &str| strategies.split(',').any(|strategy| strategy == wanted);
    match (has("merge"), has("retainKeys")) {
        (_, true) => Patch::Merge { key, retain: Retain::Keys },
        (true, false) => Patch::Merge { key, retain: Retain::All },
        (false, false) => Patch::Replace,
    }
}

fn shape(spelled: &str, index: &BTreeMap<&str, usize>) -> Option<ShapeId> {
    let integer = |least: i128, most: i128| ShapeId::Integer { least, most };
    let boxed = |item: &str| Some(Box::new(shape(item.trim_start_matches('*'), index)?));
    Some(match spelled {
        "bool" => ShapeId::Bool,
        "string" => ShapeId::Text,
        "bytes" => ShapeId::Bytes,
        "uint8" => integer(0, u8::MAX.into()),
        "uint16" => integer(0, u16::MAX.into()),
        "uint32" => integer(0, u32::MAX.into()),
        "uint64" => integer(0, u64::MAX.into()),
        "int8" => integer(i8::MIN.into(), i8::MAX.into()),
        "int16" => integer(i16::MIN.into(), i16::MAX.into()),
        "int32" => integer(i32::MIN.into(), i32::MAX.into()),
        "int" | "int64" => integer(i64::MIN.into(), i64::MAX.into()),
        "float32" | "float64" => ShapeId::Float,
        "Quantity" => ShapeId::Quantity,
        "Time" => ShapeId::Time,
        "MicroTime" => ShapeId::MicroTime,
        "Duration" => ShapeId::Duration,
        "IntOrString" => ShapeId::IntOrString,
        "raw" => ShapeId::Raw,
        "JSON" => ShapeId::Json,
        _ if spelled.starts_with("either(") => {
            let inner = spelled.strip_prefix("either(")?.strip_suffix(')')?;
            let (one, two) = inner.split_once(',')?;
            ShapeId::Either(Box::new([shape(one, index)?, shape(two, index)?]))
        }
        _ => match (spelled.strip_prefix("[]"), spelled.strip_prefix("{}")) {
            (Some(item), _) => ShapeId::List(boxed(item)?),
            (None, Some(item)) => ShapeId::Map(boxed(item)?),
            (None, None) => ShapeId::Struct(*index.get(spelled)?),
        },
    })
}
