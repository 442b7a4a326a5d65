//! The `Status` that Kubernetes clients show to their users (meta/v1 Status).

use serde::{Deserialize, Serialize};

/// A Kubernetes `Status` of a refused or failed request; `kubectl` prints its message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeStatus {
    /// Always `v1`.
    pub api_version: String,
    /// Always `Status`.
    pub kind: String,
    /// Empty list metadata, as the API server writes it.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// `Failure`.
    pub status: String,
    /// For people.
    pub message: String,
    /// For machines: `Forbidden`, `Unauthorized`, `ServiceUnavailable`, …
    pub reason: String,
    /// The HTTP status code.
    pub code: u16,
}

impl KubeStatus {
    /// A failure with the reason that Kubernetes gives this code (apimachinery `errors.go`).
    pub fn failure(code: u16, message: impl Into<String>) -> Self {
        let reason = match code {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            409 => "Conflict",
            410 => "Gone",
            413 => "RequestEntityTooLarge",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "Unknown",
        };
        Self {
            api_version: "v1".to_owned(),
            kind: "Status".to_owned(),
            metadata: serde_json::Map::new(),
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            code,
        }
    }
}
