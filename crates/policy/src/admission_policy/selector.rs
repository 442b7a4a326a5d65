//! Label selectors as the API server matches them.

use std::{collections::BTreeMap, fmt};

use serde_json::Value as Json;

use super::{fault::Faults, validation, wire};

/// What labels must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

/// The labels of an object.
pub type Labels<'a> = BTreeMap<&'a str, &'a str>;

/// The labels of an object; `None` when it is nothing that has labels, such as the options of a connection.
pub(crate) fn labels_of(object: &Json) -> Option<Labels<'_>> {
    let metadata = object.get("metadata")?;
    let labels = metadata.get("labels").and_then(Json::as_object).into_iter().flatten();
    Some(labels.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect())
}

impl Selector {
    /// A selector that was checked when its policy or binding was.
    pub(super) fn new(selector: &wire::LabelSelector) -> Self {
        let labels = selector.match_labels.iter().map(|(key, value)| Requirement {
            key: key.clone(),
            test: Test::In(vec![value.clone()]),
        });
        let expressions = selector.match_expressions.iter().map(|each| Requirement {
            key: each.key.clone(),
            test: match each.operator.as_str() {
                "In" => Test::In(each.values.clone()),
                "NotIn" => Test::NotIn(each.values.clone()),
                "Exists" => Test::Exists,
                _ => Test::DoesNotExist,
            },
        });
        Self(labels.chain(expressions).collect())
    }

    /// Reads a label selector as objects have it.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn of(selector: &Json) -> Result<Self, String> {
        let read: wire::LabelSelector =
            serde::Deserialize::deserialize(selector).map_err(|error| error.to_string())?;
        let mut faults = Faults::default();
        validation::selector(&mut faults, &read, "");
        match faults.0.first() {
            Some(fault) => Err(fault.to_string()),
            None => Ok(Self::new(&read)),
        }
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it selects these labels.
    #[must_use]
    pub fn matches(&self, labels: &Labels<'_>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(requirement.key.as_str());
            let is_one = |values: &[String]| {
                value.is_some_and(|value| values.iter().any(|known| known == value))
            };
            match &requirement.test {
                Test::In(values) => is_one(values),
                Test::NotIn(values) => !is_one(values),
                Test::Exists => value.is_some(),
                Test::DoesNotExist => value.is_none(),
            }
        })
    }
}

impl fmt::Display for Selector {
    /// As kubectl writes it: `a in (b,c),!d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Requirement { key, test }) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match test {
                Test::In(values) => match values.as_slice() {
                    [value] => write!(f, "{key}={value}")?,
                    values => write!(f, "{key} in ({})", values.join(","))?,
                },
                Test::NotIn(values) => write!(f, "{key} notin ({})", values.join(","))?,
                Test::Exists => f.write_str(key)?,
                Test::DoesNotExist => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}
