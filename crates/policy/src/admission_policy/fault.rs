//! What is wrong with a policy or a binding, in the API server's words.

use std::fmt::{self, Display};

use serde_json::Value as Json;

use crate::go_text::go_quoted;

/// A field of a policy or binding that the API server would refuse.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The field, `spec.validations[0].expression`; empty for the object itself.
    pub field: String,
    /// What is wrong with it, `Required value`.
    pub message: String,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for Fault {}

/// Faults as they are found.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    fn add(&mut self, field: &str, message: String) {
        self.0.push(Fault { field: field.to_owned(), message });
    }

    pub(super) fn required(&mut self, field: &str, detail: &str) {
        self.add(field, with("Required value".to_owned(), detail));
    }

    pub(super) fn forbidden(&mut self, field: &str, detail: &str) {
        self.add(field, with("Forbidden".to_owned(), detail));
    }

    pub(super) fn invalid(&mut self, field: &str, value: &str, detail: impl Display) {
        let message = format!("Invalid value: {}", go_quoted(value));
        self.add(field, with(message, &detail.to_string()));
    }

    pub(super) fn invalid_list(&mut self, field: &str, values: &[String], detail: &str) {
        self.invalid_json(field, &Json::from(values), detail);
    }

    pub(super) fn invalid_json(&mut self, field: &str, value: &Json, detail: &str) {
        self.add(field, with(format!("Invalid value: {value}"), detail));
    }

    pub(super) fn duplicate(&mut self, field: &str, value: &str) {
        self.add(field, format!("Duplicate value: {}", go_quoted(value)));
    }

    pub(super) fn too_many(&mut self, field: &str, count: usize, most: usize) {
        self.add(field, format!("Too many: {count}: must have at most {most} items"));
    }

    pub(super) fn unsupported(&mut self, field: &str, value: &str, known: &[&str]) {
        let known: Vec<String> = known.iter().map(|word| go_quoted(word)).collect();
        let message = format!("Unsupported value: {}", go_quoted(value));
        self.add(field, with(message, &format!("supported values: {}", known.join(", "))));
    }
}

fn with(message: String, detail: &str) -> String {
    if detail.is_empty() { message } else { format!("{message}: {detail}") }
}
