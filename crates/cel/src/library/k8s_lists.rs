//! Kubernetes' list library: order, sums, extremes, places.

use std::cmp::Ordering;

use super::{Library, list, operators::Operator};
use crate::{
    error::{EvalError, Fallible},
    list::position,
    machine::Machine,
    time::Duration,
    types::Type,
    value::Value,
};

const A: Type = Type::Param("A");

/// Types with an order: the type and the ids of `isSorted`, `max`, `min`.
const ORDERED: [(Type, [&str; 3]); 8] = [
    (Type::Int, ["list_int_is_sorted_bool", "list_int_max_int", "list_int_min_int"]),
    (Type::Uint, ["list_uint_is_sorted_bool", "list_uint_max_uint", "list_uint_min_uint"]),
    (
        Type::Double,
        ["list_double_is_sorted_bool", "list_double_max_double", "list_double_min_double"],
    ),
    (Type::Bool, ["list_bool_is_sorted_bool", "list_bool_max_bool", "list_bool_min_bool"]),
    (
        Type::Duration,
        [
            "list_duration_is_sorted_bool",
            "list_duration_max_duration",
            "list_duration_min_duration",
        ],
    ),
    (
        Type::Timestamp,
        [
            "list_timestamp_is_sorted_bool",
            "list_timestamp_max_timestamp",
            "list_timestamp_min_timestamp",
        ],
    ),
    (
        Type::String,
        ["list_string_is_sorted_bool", "list_string_max_string", "list_string_min_string"],
    ),
    (Type::Bytes, ["list_bytes_is_sorted_bool", "list_bytes_max_bytes", "list_bytes_min_bytes"]),
];

/// Declares the library.
pub(crate) fn declare(library: &mut Library) {
    for (element, [is_sorted_id, max_id, min_id]) in ORDERED {
        let of = Type::list(element.clone());
        library.member("isSorted", is_sorted_id, [of.clone()], Type::Bool, |_, args| {
            let items = list(args, 0)?;
            for at in 1..items.len() {
                let (Some(one), Some(two)) = (items.get(at - 1), items.get(at)) else { continue };
                match one.compare(&two) {
                    Some(Ordering::Greater) => return Ok(Value::Bool(false)),
                    None if !one.is_comparable(&one) || !two.is_comparable(&two) => {
                        return Err(EvalError::no_overload());
                    }
                    _ => {}
                }
            }
            Ok(Value::Bool(true))
        });
        library.member("max", max_id, [of.clone()], element.clone(), |_, args| {
            extreme(args, "max", Ordering::Less)
        });
        library.member("min", min_id, [of], element, |_, args| {
            extreme(args, "min", Ordering::Greater)
        });
    }
    let sums: [(&str, Type, super::Run); 4] = [
        ("list_int_sum_int", Type::Int, |machine, args| sum(machine, args, Value::Int(0))),
        ("list_uint_sum_uint", Type::Uint, |machine, args| sum(machine, args, Value::Uint(0))),
        ("list_double_sum_double", Type::Double, |machine, args| {
            sum(machine, args, Value::Double(0.0))
        }),
        ("list_duration_sum_duration", Type::Duration, |machine, args| {
            sum(machine, args, Value::Duration(Duration::from_nanoseconds(0)))
        }),
    ];
    for (id, element, run) in sums {
        library.member("sum", id, [Type::list(element.clone())], element, run);
    }
    library.member(
        "indexOf",
        "list_a_index_of_int",
        [Type::list(A), A],
        Type::Int,
        |machine, args| {
            let (items, wanted) = (list(args, 0)?, second(args)?);
            position(items.iter(), |item| item.equals(wanted, machine)).map(place)
        },
    );
    library.member(
        "lastIndexOf",
        "list_a_last_index_of_int",
        [Type::list(A), A],
        Type::Int,
        |machine, args| {
            let (items, wanted) = (list(args, 0)?, second(args)?);
            let backwards = (0..items.len()).rev().filter_map(|at| items.get(at));
            let at = position(backwards, |item| item.equals(wanted, machine))?;
            Ok(place(at.map(|at| items.len() - 1 - at)))
        },
    );
}

/// Declares `includes`, of Kubernetes 1.37.
pub(crate) fn declare_includes(library: &mut Library) {
    library.member(
        "includes",
        "list_a_includes_bool",
        [Type::list(A), A],
        Type::Bool,
        |machine, args| Ok(Value::Bool(list(args, 0)?.contains(second(args)?, machine)?)),
    );
}

fn second<'v, 'a>(args: &'v [Value<'a>]) -> Fallible<&'v Value<'a>> {
    args.get(1).ok_or_else(EvalError::no_overload)
}

fn place<'a>(at: Option<usize>) -> Value<'a> {
    Value::Int(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, worse: Ordering) -> Fallible<Value<'a>> {
    let mut best: Option<Value<'a>> = None;
    for item in list(args, 0)?.iter() {
        match &best {
            Some(known) if !known.is_comparable(known) || !item.is_comparable(&item) => {
                return Err(EvalError::no_overload());
            }
            Some(known) if known.compare(&item) != Some(worse) => {}
            _ => best = Some(item),
        }
    }
    best.ok_or_else(|| EvalError::Failed(format!("{name} called on empty list")))
}

fn sum<'a>(machine: &mut Machine<'a>, args: &[Value<'a>], zero: Value<'a>) -> Fallible<Value<'a>> {
    list(args, 0)?.iter().try_fold(zero, |total, item| Operator::Add.apply(machine, &total, &item))
}
