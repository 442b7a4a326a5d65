//! The regex library: what of a text matches.

use super::{Library, int, text};
use crate::{
    error::{EvalError, Fallible},
    machine::Machine,
    re2,
    types::Type,
    value::Value,
};

/// Declares the library.
pub(crate) fn declare(library: &mut Library) {
    use Type::{Int, String};
    library.member("find", "string_find_string", [String, String], String, |_, args| {
        let regex = re2::compile(text(args, 1)?).map_err(illegal)?;
        let found = regex.find(text(args, 0)?).map_or("", |found| found.as_str());
        Ok(Value::string(found))
    });
    let texts = Type::list(String);
    library.member(
        "findAll",
        "string_find_all_string",
        [String, String],
        texts.clone(),
        |machine, args| find_all(machine, args, -1),
    );
    library.member(
        "findAll",
        "string_find_all_string_int",
        [String, String, Int],
        texts,
        |machine, args| find_all(machine, args, int(args, 2)?),
    );
}

fn illegal(reason: String) -> EvalError {
    EvalError::Failed(format!("Illegal regex: {reason}"))
}

fn find_all<'a>(machine: &mut Machine<'a>, args: &[Value<'a>], limit: i64) -> Fallible<Value<'a>> {
    let regex = re2::compile(text(args, 1)?).map_err(illegal)?;
    let source = text(args, 0)?;
    machine.reserve(source.len())?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let found: Vec<Value<'a>> =
        regex.find_iter(source).take(limit).map(|found| Value::string(found.as_str())).collect();
    machine.reserve_items(found.len())?;
    Ok(Value::list(found))
}
