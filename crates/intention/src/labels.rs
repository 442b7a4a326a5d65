//! Labels of a workload, as far as they are known.

use std::collections::BTreeMap;

/// What pods wear. Who may make pods may give them more labels than anybody holds; of the rest it is not known what they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Labels {
    known: BTreeMap<String, String>,
    rest: Rest,
}

/// Whether there are labels that are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rest {
    /// These are all.
    #[default]
    None,
    /// There are others.
    Unknown,
}

impl Labels {
    /// These, and perhaps others.
    pub fn new(known: BTreeMap<String, String>, rest: Rest) -> Self {
        Self { known, rest }
    }

    /// Those that are known.
    pub fn known(&self) -> &BTreeMap<String, String> {
        &self.known
    }

    /// Whether there are others.
    pub fn rest(&self) -> Rest {
        self.rest
    }

    /// Whether a label has a value.
    pub(crate) fn have(&self, key: &str, value: &str) -> Selection {
        match (self.known.get(key), self.rest) {
            (Some(known), _) if known == value => Selection::Selected,
            (Some(_), _) | (None, Rest::None) => Selection::Not,
            (None, Rest::Unknown) => Selection::Perhaps,
        }
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(known: BTreeMap<String, String>) -> Self {
        Self::new(known, Rest::None)
    }
}

/// Whether something is for a workload; in this order the least of several counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selection {
    /// It is not.
    Not,
    /// Its labels are not all known, and one of them would have to be.
    Perhaps,
    /// It is.
    Selected,
}
