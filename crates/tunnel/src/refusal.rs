//! Why a request was not served, as a client sees it: a Kubernetes `Status` with a sentence to act on.
//!
//! The message is public; the detail is for the log of the side that made it and never leaves it.

use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use nullius_model::KubeStatus;

use crate::{TunnelBody, headers};

/// A refused or failed request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    code: u16,
    message: String,
    detail: Option<String>,
}

impl Refusal {
    /// A refusal with an HTTP status code and a sentence for people.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None }
    }

    /// The same refusal with what only the log may say.
    #[must_use]
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// What the client reads.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the log may add.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The refusal as the object that `kubectl` prints.
    pub fn status(&self) -> KubeStatus {
        KubeStatus::failure(self.code, self.message.clone())
    }

    /// The refusal as a response; it carries itself in the response's extensions, for the audit.
    pub fn into_response(self) -> Response<TunnelBody> {
        let body = serde_json::to_vec(&self.status()).unwrap_or_default();
        let mut response = Response::new(TunnelBody::full(Bytes::from(body)));
        *response.status_mut() =
            StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers::never_render(response.headers_mut());
        response.extensions_mut().insert(self);
        response
    }
}
