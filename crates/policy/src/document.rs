//! Objects of the kinds that clusters keep for us, read strictly: what nobody knows is refused, not passed over.

use nullius_model::{API_VERSION, Timestamp};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value as Json;

use crate::admission_policy::Fault;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
    #[serde(default, rename = "status")]
    _status: serde::de::IgnoredAny,
}

/// What of an object's metadata is looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) creation_timestamp: Option<Timestamp>,
    #[serde(default)]
    pub(crate) generation: i64,
}

/// Metadata and `spec` of an object of this kind.
pub(crate) fn read<S: DeserializeOwned>(
    object: &Json,
    wanted: &str,
) -> Result<(Metadata, S), Vec<Fault>> {
    let wrong = |field: String, message: String| vec![Fault { field, message }];
    let document: Document<S> = serde_path_to_error::deserialize(object).map_err(|error| {
        let field = error.path().to_string();
        wrong(if field == "." { String::new() } else { field }, error.inner().to_string())
    })?;
    let Document { api_version, kind, metadata, spec, .. } = document;
    if api_version != API_VERSION || kind != wanted {
        let told = format!("expected `apiVersion: {API_VERSION}` and `kind: {wanted}`");
        return Err(wrong(String::new(), told));
    }
    Ok((metadata, spec))
}
