//! Definitions of custom resources.

use serde_json::{Value, json};

use super::{Rule, changed, convert, default, inner, inner_mut, is_empty, text};
use crate::decode::Object;

pub(super) const RULES: &[Rule] = &[
    default("apiextensions/v1.CustomResourceDefinition", default_stored, &[]),
    changed("apiextensions/v1.CustomResourceDefinitionStatus", &["storedVersions"]),
    default("apiextensions/v1.CustomResourceDefinitionSpec", default_names, &[]),
    changed("apiextensions/v1.CustomResourceDefinitionNames", &["listKind", "singular"]),
    convert("apiextensions/v1.CustomResourceConversion", convert_conversion, &["webhook"]),
];

/// Objects are stored in the first version that says so.
fn default_stored(definition: &mut Object) {
    let versions = inner(definition, "spec").and_then(|spec| spec.get("versions")?.as_array());
    let stored = versions.into_iter().flatten().find(|version| version["storage"] == json!(true));
    let Some(name) = stored.map(|version| version.get("name").cloned().unwrap_or(json!(""))) else {
        return;
    };
    if let Some(status) = inner_mut(definition, "status")
        && is_empty(status, "storedVersions")
    {
        status.insert("storedVersions".to_owned(), json!([name]));
    }
}

/// The names that the kind stands for; those that a server has accepted are not made up.
fn default_names(spec: &mut Object) {
    let Some(names) = inner_mut(spec, "names") else { return };
    let kind = text(names, "kind").to_owned();
    if kind.is_empty() {
        return;
    }
    if text(names, "singular").is_empty() {
        names.insert("singular".to_owned(), Value::String(lower_case(&kind)));
    }
    if text(names, "listKind").is_empty() {
        names.insert("listKind".to_owned(), Value::String(format!("{kind}List")));
    }
}

/// As Go does it: letter by letter.
fn lower_case(text: &str) -> String {
    text.chars().map(|letter| letter.to_lowercase().next().unwrap_or(letter)).collect()
}

/// In memory a webhook is its two fields: one that has neither is none.
fn convert_conversion(conversion: &mut Object) {
    let is_nothing = inner(conversion, "webhook").is_some_and(|webhook| {
        !webhook.contains_key("clientConfig") && !webhook.contains_key("conversionReviewVersions")
    });
    if is_nothing {
        conversion.remove("webhook");
    }
}
