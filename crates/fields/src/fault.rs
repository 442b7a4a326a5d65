//! What is wrong with an object.

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
#[derive(Debug)]
pub struct Faults {
    found: RefCell<Vec<Fault>>,
    pub(crate) later: fn(&str) -> Option<&'static str>,
}

impl Faults {
    /// None yet. `later` says of a field without its indices (`spec.sources.limits`) what it belongs to, where that does not exist in this
    /// version: such fields are refused by name.
    pub fn new(later: fn(&str) -> Option<&'static str>) -> Self {
        Self { found: RefCell::default(), later }
    }

    /// Adds one.
    pub fn add(&self, field: &str, message: impl Into<String>) {
        self.found.borrow_mut().push(Fault { field: field.to_owned(), message: message.into() });
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.found.borrow().len()
    }

    /// All of them, in the order in which they were found.
    pub fn into_vec(self) -> Vec<Fault> {
        self.found.into_inner()
    }
}

/// What somebody wrote, cut and escaped, in backticks.
pub fn shown(text: &str) -> String {
    let cut: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    format!("`{cut}`")
}
