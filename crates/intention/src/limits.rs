//! Limits of requests: how many a caller may send in a second.

use std::sync::Arc;

use nullius_fields::{Faults, Fields, Item, found};
use serde_json::Value as Json;

/// The most requests that a limit names.
const MOST: u64 = 1_000_000;
/// Limits of one intention.
const LIMITS_MAX: usize = 8;

/// How many requests may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Tells it from others: `namespace/name` of its intention, and its place there.
    pub name: Arc<str>,
    /// In a second, over time.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
    /// Who is counted.
    pub per: Per,
}

/// Who is counted for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// Each caller, by its identity; without one, by its address.
    Source,
    /// Each subject of a verified token; who shows none is counted as a caller.
    Subject,
}

/// Reads what stands in `limits`.
pub(crate) fn read(fields: &mut Fields<'_>, intention: &str, faults: &Faults) -> Arc<[Limit]> {
    let items = fields.items("limits");
    if items.len() > LIMITS_MAX {
        fields.wrong("limits", format!("these are {}, and {LIMITS_MAX} may be", items.len()));
    }
    let read = items.iter().enumerate();
    read.filter_map(|(index, item)| read_one(item, &format!("{intention}[{index}]"), faults))
        .collect()
}

fn read_one(item: &Item<'_>, name: &str, faults: &Faults) -> Option<Limit> {
    let mut fields = Fields::of(item.value, &item.path, faults)?;
    if !fields.has("requestsPerSecond") {
        fields.wrong("requestsPerSecond", "it is missing: say how many");
    }
    let per_second = count(&mut fields, "requestsPerSecond");
    let burst = count(&mut fields, "burst");
    let words = [("source", Per::Source), ("subject", Per::Subject)];
    let per = fields.word("per", &words).unwrap_or(Per::Source);
    fields.finish();
    let per_second = per_second?;
    Some(Limit { name: name.into(), per_second, burst: burst.unwrap_or(per_second), per })
}

fn count(fields: &mut Fields<'_>, name: &'static str) -> Option<u32> {
    let value = fields.value(name)?;
    let read = value.as_u64().filter(|number| (1..=MOST).contains(number));
    let read = read.and_then(|number| u32::try_from(number).ok());
    if read.is_none() {
        let shown = match value {
            Json::Number(number) => number.to_string(),
            other => found(other),
        };
        fields.wrong(name, format!("{shown} is no whole number from 1 to {MOST}"));
    }
    read
}
