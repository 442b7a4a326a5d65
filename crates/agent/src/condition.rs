//! A condition of a status: since when it is so is kept while it is.

use nullius_model::Timestamp;
use serde_json::{Value, json};

/// Letters of a message.
const LONGEST: usize = 2_048;

/// A condition.
#[derive(Debug)]
pub(crate) struct Condition<'c> {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: &'c str,
}

impl<'c> Condition<'c> {
    /// `status` is `True`, `False` or `Unknown`, `reason` a word, `message` for people.
    pub(crate) fn new(
        kind: &'static str,
        status: &'static str,
        reason: &'static str,
        message: &'c str,
    ) -> Self {
        Self { kind, status, reason, message }
    }

    /// As it is to stand in the status of this generation of an object, where another status stands now.
    pub(crate) fn write(&self, standing: &Value, generation: i64, now: Timestamp) -> Value {
        let Self { kind, status, reason, message } = *self;
        let before = standing["conditions"].as_array().into_iter().flatten();
        let mut before = before.filter(|it| it["type"] == kind && it["status"] == status);
        let since = before.next().and_then(|it| it["lastTransitionTime"].as_str());
        let second = now.round(jiff::Unit::Second).unwrap_or(now).to_string();
        json!({
            "type": kind, "status": status, "reason": reason, "message": shortened(message, LONGEST),
            "observedGeneration": generation,
            "lastTransitionTime": since.unwrap_or(&second),
        })
    }
}

/// The first so many letters.
pub(crate) fn shortened(told: &str, longest: usize) -> String {
    match told.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", told.get(..end).unwrap_or_default()),
        None => told.to_owned(),
    }
}
