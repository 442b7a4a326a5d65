//! The list extension: slices, order, distinct items, flattening, ranges.

use std::cmp::Ordering;

use super::{Library, int, list};
use crate::{
    error::{EvalError, Fallible},
    list::{List, position},
    machine::Machine,
    types::Type,
    value::Value,
};

const T: Type = Type::Param("T");

/// Types that can be sorted, with the ids of their overloads.
const SORTED: [(&str, Type); 8] = [
    ("list_int_sort", Type::Int),
    ("list_uint_sort", Type::Uint),
    ("list_double_sort", Type::Double),
    ("list_bool_sort", Type::Bool),
    ("list_duration_sort", Type::Duration),
    ("list_timestamp_sort", Type::Timestamp),
    ("list_string_sort", Type::String),
    ("list_bytes_sort", Type::Bytes),
];

/// Declares the extension.
pub(crate) fn declare(library: &mut Library) {
    let of = || Type::list(T);
    library.member("slice", "list_slice", [of(), Type::Int, Type::Int], of(), slice);
    library.member("flatten", "list_flatten", [Type::list(of())], of(), |machine, args| {
        flatten(machine, list(args, 0)?, 1)
    });
    library.member(
        "flatten",
        "list_flatten_int",
        [Type::list(Type::Dyn), Type::Int],
        Type::list(Type::Dyn),
        |machine, args| {
            let depth = u64::try_from(int(args, 1)?)
                .map_err(|_| EvalError::failed("level must be non-negative"))?;
            flatten(machine, list(args, 0)?, depth)
        },
    );
    for (id, element) in SORTED {
        let of = Type::list(element);
        library.member("sort", id, [of.clone()], of, |machine, args| {
            let items = list(args, 0)?;
            machine.reserve_items(items.len())?;
            let keys: Vec<Value<'_>> = items.iter().collect();
            sort_by_keys(items, &keys)
        });
    }
    library.global("lists.range", "lists_range", [Type::Int], Type::list(Type::Int), range);
    library.member("reverse", "list_reverse", [of()], of(), |machine, args| {
        let items = list(args, 0)?;
        machine.reserve_items(items.len())?;
        let mut reversed: Vec<Value<'_>> = items.iter().collect();
        reversed.reverse();
        Ok(Value::list(reversed))
    });
    library.member("distinct", "list_distinct", [of()], of(), distinct);
}

fn slice<'a>(machine: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let (items, start, end) = (list(args, 0)?, int(args, 1)?, int(args, 2)?);
    if start < 0 || end < 0 {
        return Err(EvalError::Failed(format!(
            "cannot slice({start}, {end}), negative indexes not supported"
        )));
    }
    if start > end {
        return Err(EvalError::Failed(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        )));
    }
    let (from, to) = (usize::try_from(start), usize::try_from(end));
    match (from, to) {
        (Ok(from), Ok(to)) if to <= items.len() => {
            machine.reserve_items(to - from)?;
            Ok(Value::list((from..to).filter_map(|at| items.get(at)).collect()))
        }
        _ => Err(EvalError::Failed(format!(
            "cannot slice({start}, {end}), list is length {}",
            items.len()
        ))),
    }
}

fn flatten<'a>(machine: &mut Machine<'a>, items: &List<'a>, depth: u64) -> Fallible<Value<'a>> {
    let mut flat = Vec::new();
    flatten_into(machine, &mut flat, items, depth)?;
    Ok(Value::list(flat))
}

fn flatten_into<'a>(
    machine: &mut Machine<'a>,
    flat: &mut Vec<Value<'a>>,
    items: &List<'a>,
    depth: u64,
) -> Fallible<()> {
    for item in items.iter() {
        machine.iterate()?;
        match item {
            Value::List(inner) if depth > 0 => flatten_into(machine, flat, &inner, depth - 1)?,
            other => {
                flat.push(other);
                if flat.len().is_power_of_two() {
                    machine.reserve_items(flat.len())?;
                }
            }
        }
    }
    Ok(())
}

fn range<'a>(machine: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let count = int(args, 0)?;
    machine.reserve_items(usize::try_from(count).unwrap_or(0))?;
    Ok(Value::list((0..count).map(Value::Int).collect()))
}

fn distinct<'a>(machine: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let items = list(args, 0)?;
    machine.reserve_items(items.len())?;
    let mut kept: Vec<Value<'a>> = Vec::new();
    for item in items.iter() {
        // Each item is compared with all that were kept: the deadline counts it.
        for _ in 0..=kept.len() / 64 {
            machine.iterate()?;
        }
        let known = position(kept.iter().cloned(), |known| known.equals(&item, machine))?;
        if known.is_none() {
            kept.push(item);
        }
    }
    Ok(Value::list(kept))
}

/// The items of a list in the order of their keys.
pub(crate) fn sort_by_keys<'a>(items: &List<'a>, keys: &[Value<'a>]) -> Fallible<Value<'a>> {
    if let Some(first) = keys.first() {
        if !first.is_comparable(first) {
            return Err(EvalError::failed("list elements must be comparable"));
        }
        if keys.iter().any(|key| key.type_name() != first.type_name()) {
            return Err(EvalError::failed("list elements must have the same type"));
        }
    }
    let mut places: Vec<usize> = (0..items.len()).collect();
    places.sort_by(|one, two| match (keys.get(*one), keys.get(*two)) {
        (Some(one), Some(two)) => one.compare(two).unwrap_or(Ordering::Equal),
        _ => Ordering::Equal,
    });
    Ok(Value::list(places.into_iter().filter_map(|at| items.get(at)).collect()))
}
