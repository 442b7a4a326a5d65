//! Providers of tokens: who issues them, and for whom.

use nullius_fields::{Fault, Faults, Fields, Item};
use serde_json::Value as Json;

use super::form::Form;
use crate::later;

/// Who issues tokens, and for whom.
#[derive(Debug, Clone)]
pub(super) struct Provider {
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
}

impl Provider {
    /// Reads it. How its keys are found is for whoever verifies tokens here, and is not read.
    pub(super) fn read(value: &Json, form: Form) -> Result<Self, Vec<Fault>> {
        let faults = later::faults();
        let read = read(&form.plain(value), &faults);
        match (read, faults.into_vec()) {
            (Some(provider), faults) if faults.is_empty() => Ok(provider),
            (_, faults) => Err(faults.into_iter().map(|fault| form.placed(fault)).collect()),
        }
    }
}

fn read(value: &Json, faults: &Faults) -> Option<Provider> {
    let mut fields = Fields::of(value, "", faults)?;
    let issuer = fields.text("issuer");
    if !fields.has("issuer") {
        fields.wrong("issuer", "not carried over without it: tokens are known by their issuer");
    }
    let audiences = fields.texts("audiences").into_iter().map(|(_, text)| text.to_owned());
    let audiences = audiences.collect();
    let is_bearer = |item: &Item<'_>| {
        let text = |field: &str| {
            item.value.get("header").and_then(|it| it.get(field)).and_then(Json::as_str)
        };
        let is_scheme = text("valuePrefix").is_some_and(|it| it.trim() == "Bearer");
        is_scheme && text("name").is_some_and(|name| name.eq_ignore_ascii_case("authorization"))
    };
    for item in fields.items("locations").iter().filter(|item| !is_bearer(item)) {
        faults.add(
            &item.path,
            "not carried over: a token stands behind `Bearer ` in the header `Authorization`",
        );
    }
    Some(Provider { issuer: issuer?.to_owned(), audiences })
}
