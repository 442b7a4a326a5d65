//! Where a value stands in an object, written as Kubernetes writes it: `spec.containers[0].image`.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer};

/// The way from the root of an object to a value in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<FieldStep>);

/// One step of a [`FieldPath`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldStep {
    /// A field with a name of the API: `.spec`.
    Field(Cow<'static, str>),
    /// An item of a list: `[0]`.
    Index(usize),
    /// An entry under a key that people choose: `[example.com/name]`.
    Key(String),
}

impl FieldPath {
    /// The object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Fields from the root, as in `["spec", "template"]`.
    pub fn of(fields: &[&'static str]) -> Self {
        Self::root().fields(fields)
    }

    /// Further down, through fields.
    #[must_use]
    pub fn fields(mut self, fields: &[&'static str]) -> Self {
        self.0.extend(fields.iter().map(|field| FieldStep::Field(Cow::Borrowed(field))));
        self
    }

    /// Further down, into a field.
    #[must_use]
    pub fn field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.push(FieldStep::Field(field.into()));
        self
    }

    /// Further down, into an item of a list.
    #[must_use]
    pub fn index(mut self, index: usize) -> Self {
        self.0.push(FieldStep::Index(index));
        self
    }

    /// Further down, under a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.0.push(FieldStep::Key(key.into()));
        self
    }

    /// Further down, along another path.
    #[must_use]
    pub fn join(mut self, below: &Self) -> Self {
        self.0.extend(below.0.iter().cloned());
        self
    }

    /// The steps from the root.
    pub fn steps(&self) -> &[FieldStep] {
        &self.0
    }

    /// Whether it is the object itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                FieldStep::Field(name) if position == 0 => f.write_str(name)?,
                FieldStep::Field(name) => write!(f, ".{name}")?,
                FieldStep::Index(index) => write!(f, "[{index}]")?,
                FieldStep::Key(key) => write!(f, "[{key}]")?,
            }
        }
        Ok(())
    }
}

impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_kubernetes_writes_it() {
        let path = FieldPath::of(&["spec", "template"]);
        assert_eq!(
            path.clone().fields(&["spec", "containers"]).index(1).field("image").to_string(),
            "spec.template.spec.containers[1].image"
        );
        let below = FieldPath::of(&["metadata", "annotations"]).key("example.com/x");
        assert_eq!(
            path.join(&below).to_string(),
            "spec.template.metadata.annotations[example.com/x]"
        );
        assert_eq!(FieldPath::root().to_string(), "");
    }
}
