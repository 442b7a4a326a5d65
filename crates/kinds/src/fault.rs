//! What is wrong with an object, by field, and what to do about it.

use std::fmt;

use nullius_model::FieldPath;
use serde_json::Value;

/// Something in an object that the API server does not take as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field.
    pub path: FieldPath,
    /// What is wrong with it.
    pub kind: FaultKind,
}

/// The ways in which a field is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// There is no such field. The API server refuses it where fields are validated strictly, which is what kubectl asks
    /// for, and drops it elsewhere.
    Unknown {
        /// Its name.
        name: String,
        /// What was probably meant.
        meant: Option<Meant>,
    },
    /// The value is of the wrong type, which the API server always refuses.
    WrongType {
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: Found,
    },
    /// The value is of the right type and cannot be read, which the API server always refuses.
    WrongValue {
        /// What belongs there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
}

/// What an unknown field was probably meant to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meant {
    /// A field of this name, beside it.
    Named(&'static str),
    /// The field of the same name at this place.
    At(FieldPath),
}

/// What stands where something else belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number,
    /// Text.
    Text,
    /// A list.
    List,
    /// A mapping.
    Mapping,
}

impl Found {
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Mapping,
        }
    }
}

impl Fault {
    pub(crate) fn wrong_type(path: &FieldPath, expected: &'static str, found: &Value) -> Self {
        let kind = FaultKind::WrongType { expected, found: Found::of(found) };
        Self { path: path.clone(), kind }
    }

    pub(crate) fn wrong_value(path: &FieldPath, expected: &'static str, found: &str) -> Self {
        let kind = FaultKind::WrongValue { expected, found: shown(found) };
        Self { path: path.clone(), kind }
    }

    /// Whether the API server takes the object nevertheless where nobody asks for strictness.
    pub fn is_dropped(&self) -> bool {
        matches!(self.kind, FaultKind::Unknown { .. })
    }

    /// What to do about it.
    pub fn next(&self) -> String {
        let documented = "see the field's type with `kubectl explain`";
        match &self.kind {
            FaultKind::Unknown { meant: Some(Meant::Named(name)), .. } => {
                format!("did you mean `{name}`?")
            }
            FaultKind::Unknown { meant: Some(Meant::At(path)), .. } => {
                format!("did you mean `{path}`?")
            }
            FaultKind::Unknown { name, .. } if name.starts_with('$') => {
                "this is a patch; scan what it makes: `kustomize build FOLDER | nullius scan -`"
                    .to_owned()
            }
            FaultKind::Unknown { meant: None, .. } => {
                "take it out; `kubectl explain` lists the fields that have a place there".to_owned()
            }
            FaultKind::WrongType { expected: TEXT, found: Found::Bool(_) | Found::Number } => {
                "put it in quotes: YAML takes numbers and words such as `yes` for something else"
                    .to_owned()
            }
            FaultKind::WrongType { expected, found: Found::Text } if *expected != MAPPING => {
                "take the quotes away, if that is what it is".to_owned()
            }
            FaultKind::WrongType { .. } => documented.to_owned(),
            FaultKind::WrongValue { .. } => documented.to_owned(),
        }
    }
}

/// The words for what belongs somewhere.
pub(crate) const TEXT: &str = "text";
pub(crate) const MAPPING: &str = "a mapping";

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.kind {
            FaultKind::Unknown { .. } => write!(f, "unknown field `{path}`"),
            FaultKind::WrongType { expected, found } => {
                write!(f, "`{path}` must be {expected}, not {found}")
            }
            FaultKind::WrongValue { expected, found } => {
                write!(f, "`{path}` must be {expected}, not `{found}`")
            }
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "nothing",
            Self::Bool(true) => "`true`",
            Self::Bool(false) => "`false`",
            Self::Number => "a number",
            Self::Text => "text",
            Self::List => "a list",
            Self::Mapping => "a mapping",
        })
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}
