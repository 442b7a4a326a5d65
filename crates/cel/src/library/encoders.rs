//! The encoder extension: base64.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{Library, text};
use crate::{error::EvalError, types::Type, value::Value};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Declares the extension.
pub(crate) fn declare(library: &mut Library) {
    library.global(
        "base64.decode",
        "base64_decode_string",
        [Type::String],
        Type::Bytes,
        |machine, args| {
            machine.reserve(text(args, 0)?.len())?;
            match BASE64.decode(text(args, 0)?) {
                Ok(octets) => Ok(Value::bytes(octets)),
                Err(reason) => Err(EvalError::Failed(format!("illegal base64 data: {reason}"))),
            }
        },
    );
    library.global(
        "base64.encode",
        "base64_encode_bytes",
        [Type::Bytes],
        Type::String,
        |machine, args| match args.first() {
            Some(Value::Bytes(octets)) => {
                machine.reserve(octets.len().saturating_mul(2))?;
                Ok(Value::string(BASE64.encode(&**octets)))
            }
            _ => Err(EvalError::no_overload()),
        },
    );
}
