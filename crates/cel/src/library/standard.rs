//! The standard library: operators as the checker knows them, `size`, conversions, tests of text, fields of time.

use super::{Library, built_in, convert, text, time};
use crate::{
    error::{EvalError, Fallible},
    machine::Machine,
    profile::Profile,
    types::Type,
    value::{Value, characters},
};

const A: Type = Type::Param("A");
const B: Type = Type::Param("B");

/// Declares the standard library.
pub(crate) fn declare(library: &mut Library, profile: &Profile) {
    declare_types(library);
    declare_logic(library);
    declare_arithmetic(library);
    declare_order(library);
    declare_containers(library);
    declare_text(library);
    convert::declare(library);
    time::declare(library, profile);
}

fn declare_types(library: &mut Library) {
    let named = [
        ("bool", Type::Bool),
        ("int", Type::Int),
        ("uint", Type::Uint),
        ("double", Type::Double),
        ("string", Type::String),
        ("bytes", Type::Bytes),
        ("null_type", Type::Null),
        ("list", Type::list(Type::Dyn)),
        ("map", Type::map(Type::Dyn, Type::Dyn)),
        ("type", Type::type_of(Type::Dyn)),
        ("google.protobuf.Timestamp", Type::Timestamp),
        ("google.protobuf.Duration", Type::Duration),
    ];
    for (name, of) in named {
        library.declare_type(name, of);
    }
}

fn declare_logic(library: &mut Library) {
    let run = built_in;
    library.global("_?_:_", "conditional", [Type::Bool, A, A], A, run);
    library.global("_&&_", "logical_and", [Type::Bool, Type::Bool], Type::Bool, run);
    library.global("_||_", "logical_or", [Type::Bool, Type::Bool], Type::Bool, run);
    library.global("!_", "logical_not", [Type::Bool], Type::Bool, run);
    library.global("_==_", "equals", [A, A], Type::Bool, run);
    library.global("_!=_", "not_equals", [A, A], Type::Bool, run);
}

fn declare_arithmetic(library: &mut Library) {
    let run = built_in;
    let (time, span) = (Type::Timestamp, Type::Duration);
    let same = |library: &mut Library, name, id, of: Type| {
        library.global(name, id, [of.clone(), of.clone()], of, run);
    };
    same(library, "_+_", "add_bytes", Type::Bytes);
    same(library, "_+_", "add_double", Type::Double);
    same(library, "_+_", "add_duration_duration", Type::Duration);
    library.global(
        "_+_",
        "add_duration_timestamp",
        [span.clone(), time.clone()],
        time.clone(),
        run,
    );
    library.global(
        "_+_",
        "add_timestamp_duration",
        [time.clone(), span.clone()],
        time.clone(),
        run,
    );
    same(library, "_+_", "add_int64", Type::Int);
    same(library, "_+_", "add_list", Type::list(A));
    same(library, "_+_", "add_string", Type::String);
    same(library, "_+_", "add_uint64", Type::Uint);
    same(library, "_-_", "subtract_double", Type::Double);
    same(library, "_-_", "subtract_duration_duration", Type::Duration);
    same(library, "_-_", "subtract_int64", Type::Int);
    library.global(
        "_-_",
        "subtract_timestamp_duration",
        [time.clone(), span.clone()],
        time.clone(),
        run,
    );
    library.global("_-_", "subtract_timestamp_timestamp", [time.clone(), time], span, run);
    same(library, "_-_", "subtract_uint64", Type::Uint);
    same(library, "_*_", "multiply_double", Type::Double);
    same(library, "_*_", "multiply_int64", Type::Int);
    same(library, "_*_", "multiply_uint64", Type::Uint);
    same(library, "_/_", "divide_double", Type::Double);
    same(library, "_/_", "divide_int64", Type::Int);
    same(library, "_/_", "divide_uint64", Type::Uint);
    same(library, "_%_", "modulo_int64", Type::Int);
    same(library, "_%_", "modulo_uint64", Type::Uint);
    library.global("-_", "negate_double", [Type::Double], Type::Double, run);
    library.global("-_", "negate_int64", [Type::Int], Type::Int, run);
}

/// One operator of order: its name and its overloads' ids, of equal types first, then across numbers.
struct Order {
    name: &'static str,
    same: [&'static str; 8],
    across: [&'static str; 6],
}

const ORDERS: [Order; 4] = [
    Order {
        name: "_<_",
        same: [
            "less_bool",
            "less_int64",
            "less_uint64",
            "less_double",
            "less_string",
            "less_bytes",
            "less_timestamp",
            "less_duration",
        ],
        across: [
            "less_int64_double",
            "less_int64_uint64",
            "less_uint64_double",
            "less_uint64_int64",
            "less_double_int64",
            "less_double_uint64",
        ],
    },
    Order {
        name: "_<=_",
        same: [
            "less_equals_bool",
            "less_equals_int64",
            "less_equals_uint64",
            "less_equals_double",
            "less_equals_string",
            "less_equals_bytes",
            "less_equals_timestamp",
            "less_equals_duration",
        ],
        across: [
            "less_equals_int64_double",
            "less_equals_int64_uint64",
            "less_equals_uint64_double",
            "less_equals_uint64_int64",
            "less_equals_double_int64",
            "less_equals_double_uint64",
        ],
    },
    Order {
        name: "_>_",
        same: [
            "greater_bool",
            "greater_int64",
            "greater_uint64",
            "greater_double",
            "greater_string",
            "greater_bytes",
            "greater_timestamp",
            "greater_duration",
        ],
        across: [
            "greater_int64_double",
            "greater_int64_uint64",
            "greater_uint64_double",
            "greater_uint64_int64",
            "greater_double_int64",
            "greater_double_uint64",
        ],
    },
    Order {
        name: "_>=_",
        same: [
            "greater_equals_bool",
            "greater_equals_int64",
            "greater_equals_uint64",
            "greater_equals_double",
            "greater_equals_string",
            "greater_equals_bytes",
            "greater_equals_timestamp",
            "greater_equals_duration",
        ],
        across: [
            "greater_equals_int64_double",
            "greater_equals_int64_uint64",
            "greater_equals_uint64_double",
            "greater_equals_uint64_int64",
            "greater_equals_double_int64",
            "greater_equals_double_uint64",
        ],
    },
];

/// Whether an overload of an operator orders numbers of two types.
pub(crate) fn is_across(operator: &str, params: &[Type]) -> bool {
    let orders = ORDERS.iter().any(|order| order.name == operator);
    orders && matches!(params, [one, two] if one != two)
}

fn declare_order(library: &mut Library) {
    let same = [
        Type::Bool,
        Type::Int,
        Type::Uint,
        Type::Double,
        Type::String,
        Type::Bytes,
        Type::Timestamp,
        Type::Duration,
    ];
    let across = [
        [Type::Int, Type::Double],
        [Type::Int, Type::Uint],
        [Type::Uint, Type::Double],
        [Type::Uint, Type::Int],
        [Type::Double, Type::Int],
        [Type::Double, Type::Uint],
    ];
    for order in ORDERS {
        for (id, of) in order.same.into_iter().zip(&same) {
            library.global(order.name, id, [of.clone(), of.clone()], Type::Bool, built_in);
        }
        for (id, of) in order.across.into_iter().zip(&across) {
            library.global(order.name, id, of.clone(), Type::Bool, built_in);
        }
    }
}

fn declare_containers(library: &mut Library) {
    let (of_a, of_a_b) = (Type::list(A), Type::map(A, B));
    library.global("_[_]", "index_list", [of_a.clone(), Type::Int], A, built_in);
    library.global("_[_]", "index_map", [of_a_b.clone(), A], B, built_in);
    library.global("@in", "in_list", [A, of_a.clone()], Type::Bool, built_in);
    library.global("@in", "in_map", [A, of_a_b.clone()], Type::Bool, built_in);
    library.global("size", "size_bytes", [Type::Bytes], Type::Int, size);
    library.member("size", "bytes_size", [Type::Bytes], Type::Int, size);
    library.global("size", "size_list", [of_a.clone()], Type::Int, size);
    library.member("size", "list_size", [of_a], Type::Int, size);
    library.global("size", "size_map", [of_a_b.clone()], Type::Int, size);
    library.member("size", "map_size", [of_a_b], Type::Int, size);
    library.global("size", "size_string", [Type::String], Type::Int, size);
    library.member("size", "string_size", [Type::String], Type::Int, size);
}

fn declare_text(library: &mut Library) {
    let two = [Type::String, Type::String];
    library.global("matches", "matches", two.clone(), Type::Bool, matches);
    library.member("matches", "matches_string", two.clone(), Type::Bool, matches);
    library.member("contains", "contains_string", two.clone(), Type::Bool, |_, args| {
        Ok(Value::Bool(text(args, 0)?.contains(text(args, 1)?)))
    });
    library.member("startsWith", "starts_with_string", two.clone(), Type::Bool, |_, args| {
        Ok(Value::Bool(text(args, 0)?.starts_with(text(args, 1)?)))
    });
    library.member("endsWith", "ends_with_string", two, Type::Bool, |_, args| {
        Ok(Value::Bool(text(args, 0)?.ends_with(text(args, 1)?)))
    });
}

fn size<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let size = match args.first() {
        Some(Value::String(text)) => characters(text),
        Some(Value::Bytes(octets)) => octets.len() as u64,
        Some(Value::List(list)) => list.len() as u64,
        Some(Value::Map(map)) => map.len() as u64,
        _ => return Err(EvalError::no_overload()),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn matches<'a>(_: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let regex = crate::re2::compile(text(args, 1)?).map_err(EvalError::failed)?;
    Ok(Value::Bool(regex.is_match(text(args, 0)?)))
}
