//! What a failed call answers: one type, from whatever went wrong, with the status code that fits.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use nullius_api::ApiError;
use nullius_model::{Explanation, Reason};

use crate::record::chain;

/// A failed call.
#[derive(Debug)]
pub(crate) struct Problem(Box<(StatusCode, ApiError)>);

impl Problem {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self(Box::new((
            status,
            ApiError {
                code: code.to_owned(),
                message: message.into(),
                next: None,
                fields: BTreeMap::new(),
                explanation: None,
                retry_after: None,
            },
        )))
    }

    /// A decision said no.
    pub(crate) fn denied(explanation: Explanation) -> Self {
        let (status, code) = match explanation.reason {
            Reason::FactorTooOld => (StatusCode::FORBIDDEN, "step-up"),
            Reason::SessionEnded | Reason::UserGone => {
                (StatusCode::UNAUTHORIZED, "unauthenticated")
            }
            Reason::StaleState => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            _ => (StatusCode::FORBIDDEN, "denied"),
        };
        let mut problem = Self::new(status, code, explanation.sentence.clone());
        problem.0.1.next.clone_from(&explanation.next);
        problem.0.1.explanation = Some(explanation);
        problem
    }

    /// What was sent cannot be understood or accepted.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", message)
    }

    /// The same, naming fields.
    pub(crate) fn fields(message: impl Into<String>, fields: BTreeMap<String, String>) -> Self {
        let mut problem = Self::invalid(message);
        problem.0.1.fields = fields;
        problem
    }

    /// What was sent cannot even be read.
    pub(crate) fn unreadable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    pub(crate) fn method(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid", message)
    }

    pub(crate) fn too_large() -> Self {
        let message = "the body is larger than 1 MiB";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    pub(crate) fn unauthenticated(message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message);
        problem.next("sign in with `nullius login`")
    }

    /// Somebody said no to it.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "denied", message)
    }

    /// Too many tries.
    pub(crate) fn wait(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "wait", message).retry_after(seconds)
    }

    /// The other side of a sign-in has not acted yet.
    pub(crate) fn pending(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "pending", message).retry_after(seconds)
    }

    pub(crate) fn unavailable(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).retry_after(seconds)
    }

    /// Something broke here: told to the log, not to the caller.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %chain(error), "could not answer a call");
        let problem = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the hub could not do this because of a fault of its own",
        );
        problem.next("try again; if it stays, ask whoever runs the hub to read its log")
    }

    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.0.1.next = Some(next.into());
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.0.1.retry_after = Some(seconds);
        self
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        problem.0.1
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, body) = *self.0;
        let retry_after = body.retry_after;
        let mut response = (status, axum::Json(body)).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"nullius\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// A problem with one field, or with the whole where there is no path.
pub(crate) fn field_problem(path: &str, message: &str) -> Problem {
    if path.is_empty() || path == "." {
        return Problem::invalid(message);
    }
    let fields = BTreeMap::from([(path.to_owned(), message.to_owned())]);
    Problem::fields(format!("{path}: {message}"), fields)
}
