//! What is wrong with an intention.

use std::{cell::RefCell, fmt};

/// A field that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The field, `spec.sources[0].ipBlock`; empty for the object itself.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Fault {
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
pub(crate) struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    pub(crate) fn add(&self, field: &str, message: impl Into<String>) {
        self.0.borrow_mut().push(Fault { field: field.to_owned(), message: message.into() });
    }

    pub(crate) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    pub(crate) fn into_vec(self) -> Vec<Fault> {
        self.0.into_inner()
    }
}

/// What somebody wrote, cut and escaped, in backticks.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    format!("`{cut}`")
}
