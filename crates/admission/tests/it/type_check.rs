//! What is said of expressions that do not fit the kinds of their rules, beside what the API server's own checker says.

use nullius_admission::State;
use nullius_policy::admission_policy::{PolicySet, Version};
use serde_json::{Value, json};

/// Policies, one a line, each with what Kubernetes 1.36 writes into its `status.typeChecking`.
const KUBERNETES: &str = include_str!("type_check.jsonl");

/// Names of types that the API server makes anew each time.
fn without_made_names(warning: &str) -> String {
    let mut text = String::new();
    for part in warning.split_inclusive(['\'', '(', ',', ' ', ')']) {
        let word = part.trim_end_matches(['\'', '(', ',', ' ', ')']);
        let made = word.split('.').next().unwrap_or_default();
        let digits = made.bytes().rev().take_while(u8::is_ascii_digit).count();
        let is_type = digits >= 6 || word.contains('/') && word.contains('.');
        text.push_str(if is_type { "TYPE" } else { word });
        text.push_str(&part[word.len()..]);
    }
    text
}

#[test]
fn warnings_are_those_of_the_api_server() {
    for line in KUBERNETES.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let mut policy = case["policy"].clone();
        policy["apiVersion"] = json!("admissionregistration.k8s.io/v1");
        policy["kind"] = json!("ValidatingAdmissionPolicy");
        let mut set = PolicySet::new(Version::minor(36));
        set.add(&policy).unwrap_or_else(|faults| panic!("{faults:?}"));
        let found: Vec<(String, String)> = State::default()
            .type_warnings(&set)
            .into_iter()
            .map(|told| (told.field, without_made_names(&told.warning)))
            .collect();
        let wanted: Vec<(String, String)> = case["warnings"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|told| {
                let text = |field: &str| told[field].as_str().unwrap().to_owned();
                (text("fieldRef"), without_made_names(&text("warning")))
            })
            .collect();
        assert_eq!(found, wanted, "{}", policy["metadata"]["name"]);
    }
}
