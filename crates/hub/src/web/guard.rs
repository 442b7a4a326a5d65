//! Around every call: the id that the audit knows it by, the source, and headers that every answer carries.

use std::{net::IpAddr, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Request, header};

use super::problem::Problem;
use crate::{Hub, clusters::enrolment::PeerAddress, record::Occasion};

/// Where a connection comes from, put into its requests by the listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(pub(crate) IpAddr);

pub(crate) async fn around(
    State(hub): State<Arc<Hub>>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let Some(Source(source)) = request.extensions().get::<Source>().copied() else {
        return Problem::unavailable("the call could not be attributed", 1).into_response();
    };
    let occasion = Occasion::new(source);
    request.extensions_mut().insert(occasion.clone());
    request.extensions_mut().insert(PeerAddress(source));
    let mut response = next.run(request).await;
    hub.metrics().api_call(response.status());
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(occasion.id.as_str()) {
        headers.insert("audit-id", id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
