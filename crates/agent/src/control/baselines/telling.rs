//! How a baseline stands, in its own status: in how many namespaces, where not, and why.

use nullius_kube::{BaselineStore, KubeError};
use nullius_model::Timestamp;
use serde_json::{Value, json};

use crate::condition::{Condition, shortened};

/// Troubles that are told at most.
const MOST: usize = 20;
/// How long one is at most, in letters.
const LONGEST: usize = 1_024;

/// Tells it.
pub(super) struct Telling {
    store: BaselineStore,
}

/// How a baseline stands.
#[derive(Debug, Clone)]
pub(super) struct How {
    generation: i64,
    namespaces: usize,
    standing: usize,
    troubles: Vec<(String, String)>,
    unreadable: Option<String>,
}

impl How {
    pub(super) fn of(generation: i64) -> Self {
        Self { generation, namespaces: 0, standing: 0, troubles: Vec::new(), unreadable: None }
    }

    pub(super) fn unreadable(generation: i64, told: &str) -> Self {
        Self { unreadable: Some(shortened(told, LONGEST)), ..Self::of(generation) }
    }

    /// One more namespace that it is for, with what is wrong there.
    pub(super) fn add(&mut self, namespace: &str, troubles: &[String]) {
        self.namespaces += 1;
        self.standing += usize::from(troubles.is_empty());
        let troubles = troubles.iter().map(|told| (namespace.to_owned(), shortened(told, LONGEST)));
        self.troubles.extend(troubles);
    }

    fn is_ready(&self) -> bool {
        self.unreadable.is_none() && self.standing == self.namespaces
    }

    /// Reason and message of the condition.
    fn summary(&self) -> (&'static str, String) {
        let Self { namespaces, standing, troubles, unreadable, .. } = self;
        match (unreadable, troubles.first()) {
            (Some(told), _) => (
                "Unreadable",
                format!("{told}; what it made before stays as it is, and nothing new is made"),
            ),
            (None, Some((namespace, told))) => (
                "Incomplete",
                format!(
                    "{standing} of {namespaces} namespaces have all of it; `{namespace}`: {told}"
                ),
            ),
            (None, None) => ("Standing", format!("{namespaces} namespaces have all of it")),
        }
    }

    /// The status, where the one that stands says something else.
    fn status(&self, standing: Option<&Value>, now: Timestamp) -> Option<Value> {
        let (reason, message) = self.summary();
        let word = if self.is_ready() { "True" } else { "False" };
        let ready = Condition::new("Ready", word, reason, &message);
        let ready = ready.write(standing.unwrap_or(&Value::Null), self.generation, now);
        let troubles: Vec<Value> = self
            .troubles
            .iter()
            .take(MOST)
            .map(|(namespace, told)| json!({ "namespace": namespace, "message": told }))
            .collect();
        let status = json!({
            "observedGeneration": self.generation,
            "namespaces": self.namespaces,
            "standing": self.standing,
            "troubles": troubles,
            "conditions": [ready],
        });
        (standing != Some(&status)).then_some(status)
    }
}

impl Telling {
    pub(super) fn new(store: BaselineStore) -> Self {
        Self { store }
    }

    /// Tells how a baseline stands, where its status says something else.
    pub(super) async fn say(
        &self,
        baseline: &str,
        standing: Option<&Value>,
        how: &How,
        now: Timestamp,
    ) -> Result<(), KubeError> {
        match how.status(standing, now) {
            Some(status) => self.store.tell(baseline, &status).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_status_is_written_when_it_says_something_else_and_knows_since_when() {
        let mut how = How::of(2);
        how.add("a", &[]);
        let first = how.status(None, at("2026-06-01T00:00:00.4Z")).unwrap();
        assert_eq!(first["conditions"][0]["lastTransitionTime"], "2026-06-01T00:00:00Z");
        assert_eq!(how.status(Some(&first), at("2026-06-02T00:00:00Z")), None);
        how.add("b", &[]);
        let more = how.status(Some(&first), at("2026-06-02T00:00:00Z")).unwrap();
        assert_eq!(more["conditions"][0]["lastTransitionTime"], "2026-06-01T00:00:00Z");
        how.add("c", &["it must not".to_owned()]);
        let less = how.status(Some(&more), at("2026-06-02T00:00:00Z")).unwrap();
        assert_eq!((&less["namespaces"], &less["standing"]), (&json!(3), &json!(2)));
        assert_eq!(less["conditions"][0]["status"], "False");
        assert_eq!(less["conditions"][0]["lastTransitionTime"], "2026-06-02T00:00:00Z");
    }

    #[test]
    fn troubles_are_bounded() {
        let mut how = How::of(1);
        for index in 0..1_000 {
            how.add(&format!("n{index}"), &["é".repeat(5_000)]);
        }
        let status = how.status(None, at("2026-06-01T00:00:00Z")).unwrap();
        assert_eq!(status["troubles"].as_array().unwrap().len(), MOST);
        assert!(status.to_string().len() < 64 * 1024);
        assert_eq!(status["namespaces"], 1_000);
    }
}
