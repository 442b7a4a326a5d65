//! For which requests an API server must ask: the rules of policies, without what only we can look at.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

/// The rules of a webhook for the constraints of a policy. What they leave out (names, exclusions, selectors) is looked at when
/// a request is there.
pub(super) fn of(constraints: &Json, into: &mut Rules) {
    let rules = constraints.get("resourceRules").and_then(Json::as_array);
    for rule in rules.into_iter().flatten() {
        let list = |field: &str| rule.get(field).cloned().unwrap_or_else(|| json!([]));
        let scope = rule.get("scope").cloned().unwrap_or_else(|| json!("*"));
        let rule = json!({
            "apiGroups": list("apiGroups"), "apiVersions": list("apiVersions"),
            "operations": list("operations"), "resources": list("resources"), "scope": scope,
        });
        into.add(rule);
    }
}

/// Rules, each once.
#[derive(Debug, Default)]
pub(super) struct Rules {
    seen: BTreeSet<String>,
    all: Vec<Json>,
}

impl Rules {
    fn add(&mut self, rule: Json) {
        if self.seen.insert(rule.to_string()) {
            self.all.push(rule);
        }
    }

    /// Sorted, so that the same policies make the same rules.
    pub(super) fn into_sorted(mut self) -> Vec<Json> {
        self.all.sort_by_cached_key(Json::to_string);
        self.all
    }
}
