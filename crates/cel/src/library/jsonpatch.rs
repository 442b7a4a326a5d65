//! The JSON patch library: keys as parts of a path.

use super::{Library, text};
use crate::{types::Type, value::Value};

/// Declares the library.
pub(crate) fn declare(library: &mut Library) {
    library.global(
        "jsonpatch.escapeKey",
        "string_jsonpatch_escapeKey_string",
        [Type::String],
        Type::String,
        |machine, args| {
            let key = text(args, 0)?;
            machine.reserve(key.len() * 2)?;
            Ok(Value::string(key.replace('~', "~0").replace('/', "~1")))
        },
    );
}
