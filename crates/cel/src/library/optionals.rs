//! Optional values.

use super::{Library, built_in};
use crate::{
    error::{EvalError, Fallible},
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

fn first<'a>(args: &[Value<'a>]) -> Fallible<Value<'a>> {
    args.first().cloned().ok_or_else(EvalError::no_overload)
}
