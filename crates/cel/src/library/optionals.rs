//! Optional values.

use super::{Library, built_in, list};
use crate::{
    error::{EvalError, Fallible},
    machine::Machine,
    types::Type,
    value::Value,
};

const V: Type = Type::Param("V");
const K: Type = Type::Param("K");

/// Declares the functions of optional values.
pub(crate) fn declare(library: &mut Library) {
    let optional = || Type::optional(V);
    let (of_list, of_map) = (|| Type::list(V), || Type::map(K, V));
    library.declare_type("optional_type", Type::optional(V));
    library.global("optional.of", "optional_of", [V], optional(), |_, args| {
        Ok(Value::some(first(args)?))
    });
    library.global(
        "optional.ofNonZeroValue",
        "optional_ofNonZeroValue",
        [V],
        optional(),
        |_, args| {
            let value = first(args)?;
            Ok(if value.is_zero() { Value::Optional(None) } else { Value::some(value) })
        },
    );
    library
        .global("optional.none", "optional_none", [], optional(), |_, _| Ok(Value::Optional(None)));
    library.member("value", "optional_value", [optional()], V, |_, args| match args.first() {
        Some(Value::Optional(Some(value))) => Ok(value.as_ref().clone()),
        Some(Value::Optional(None)) => Err(EvalError::failed("optional.none() dereference")),
        _ => Err(EvalError::no_overload()),
    });
    library.member("hasValue", "optional_hasValue", [optional()], Type::Bool, |_, args| match args
        .first()
    {
        Some(Value::Optional(value)) => Ok(Value::Bool(value.is_some())),
        _ => Err(EvalError::no_overload()),
    });
    library.member("first", "list_first", [of_list()], optional(), |_, args| {
        Ok(list(args, 0)?.get(0).map_or(Value::Optional(None), Value::some))
    });
    library.member("last", "list_last", [of_list()], optional(), |_, args| {
        let items = list(args, 0)?;
        let last = items.len().checked_sub(1).and_then(|at| items.get(at));
        Ok(last.map_or(Value::Optional(None), Value::some))
    });
    let of_optionals = || Type::list(optional());
    library.global("optional.unwrap", "optional_unwrap", [of_optionals()], of_list(), unwrap);
    library.member("unwrapOpt", "optional_unwrapOpt", [of_optionals()], of_list(), unwrap);
    let run = built_in;
    library.member("or", "optional_or_optional", [optional(), optional()], optional(), run);
    library.member("orValue", "optional_orValue_value", [optional(), V], V, run);
    library.global("_?._", "select_optional_field", [Type::Dyn, Type::String], optional(), run);
    library.global("_[?_]", "list_optindex_optional_int", [of_list(), Type::Int], optional(), run);
    library.global(
        "_[?_]",
        "optional_list_optindex_optional_int",
        [Type::optional(of_list()), Type::Int],
        optional(),
        run,
    );
    library.global("_[?_]", "map_optindex_optional_value", [of_map(), K], optional(), run);
    library.global(
        "_[?_]",
        "optional_map_optindex_optional_value",
        [Type::optional(of_map()), K],
        optional(),
        run,
    );
    library.global(
        "_[_]",
        "optional_list_index_int",
        [Type::optional(of_list()), Type::Int],
        optional(),
        run,
    );
    library.global(
        "_[_]",
        "optional_map_index_value",
        [Type::optional(of_map()), K],
        optional(),
        run,
    );
}

/// The values that are there, of a list of optional ones.
fn unwrap<'a>(machine: &mut Machine<'a>, args: &[Value<'a>]) -> Fallible<Value<'a>> {
    let items = list(args, 0)?;
    machine.reserve_items(items.len())?;
    let mut there = Vec::new();
    for item in items.iter() {
        match item {
            Value::Optional(Some(value)) => there.push(value.as_ref().clone()),
            Value::Optional(None) => {}
            other => {
                let shown = super::go::shown(&other);
                return Err(EvalError::Failed(format!("value {shown} is not optional")));
            }
        }
    }
    Ok(Value::list(there))
}

fn first<'a>(args: &[Value<'a>]) -> Fallible<Value<'a>> {
    args.first().cloned().ok_or_else(EvalError::no_overload)
}
