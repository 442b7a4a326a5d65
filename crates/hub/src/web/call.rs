//! What handlers take from a call: the occasion (its Audit-ID and source), a body or query whose errors name the field,
//! and the person that its bearer token proves.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequest, FromRequestParts},
};
use http::{HeaderMap, Request, header, request::Parts};
use nullius_model::Identity;
use serde::de::DeserializeOwned;

use super::problem::{Problem, field_problem};
use crate::{Hub, bearer::bearer, record::Occasion};

/// The largest body that a call may have.
pub(crate) const BODY_MAX: usize = 1 << 20;
/// How long a body may take to arrive.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(15);

impl<S: Sync> FromRequestParts<S> for Occasion {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let call = parts.extensions.get::<Self>().cloned();
        call.ok_or_else(|| Problem::unavailable("the call could not be attributed", 1))
    }
}

/// The person whose access token (audience: the hub) a call carries.
#[derive(Debug)]
pub(crate) struct Person(pub(crate) Identity);

impl FromRequestParts<Arc<Hub>> for Person {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Problem> {
        let token =
            bearer(&parts.headers).map_err(|error| Problem::unauthenticated(error.to_string()))?;
        hub.authenticate_api(token)
            .map(Self)
            .map_err(|refusal| Problem::unauthenticated(refusal.to_string()))
    }
}

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;
    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Problem> {
        let body = json_bytes(request).await?;
        let mut deserializer = serde_json::Deserializer::from_slice(&body);
        parse(&mut deserializer).map(Self)
    }
}

/// The bytes of a JSON body, at most [`BODY_MAX`].
pub(crate) async fn json_bytes(request: Request<Body>) -> Result<bytes::Bytes, Problem> {
    if !is_json(request.headers()) {
        return Err(Problem::unreadable(
            "the body must be JSON: send `content-type: application/json`",
        ));
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_MAX)).await;
    let read = read.map_err(|_| Problem::unreadable("the body took too long to arrive"))?;
    read.map_err(|_| Problem::too_large())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| {
        kind.split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    })
}

/// Reads a value; an error names the field.
pub(crate) fn parse<'de, T, D>(deserializer: D) -> Result<T, Problem>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
    D::Error: std::error::Error,
{
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        field_problem(&path, &error.into_inner().to_string())
    })
}

/// A query string.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|error| Problem::invalid(error.body_text()))
    }
}

/// A path parameter, parsed as a name.
pub(crate) fn path_name<N>(text: &str) -> Result<N, Problem>
where
    N: std::str::FromStr<Err = nullius_model::ParseNameError>,
{
    text.parse().map_err(|error: nullius_model::ParseNameError| Problem::invalid(error.to_string()))
}
