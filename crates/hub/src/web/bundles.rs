//! By what anybody verifies workloads: the bundle of a trust domain (SPIFFE Federation, profile `https_web`), and the keys of its tokens
//! for those who know of OpenID Connect alone. Nobody signs in for that; nobody may ask without end.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use nullius_model::TrustDomain;
use nullius_pki::{token_hash, workload::TrustBundle};
use serde_json::{Value, json};

use super::problem::Problem;
use crate::{Hub, record::Occasion};

/// The longest that anybody may keep an answer, in seconds: so long a key is believed that was taken away.
const KEEP_MAX: u64 = 300;

pub(super) async fn bundle(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    headers: HeaderMap,
    Path(domain): Path<String>,
) -> Result<Response, Problem> {
    let bundle = published(&hub, &occasion, &domain).await?;
    Ok(answer(&headers, &bundle, &bundle.to_json()))
}

pub(super) async fn jwks(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    headers: HeaderMap,
    Path(domain): Path<String>,
) -> Result<Response, Problem> {
    let bundle = published(&hub, &occasion, &domain).await?;
    Ok(answer(&headers, &bundle, &bundle.discovery_json()))
}

/// What OpenID Connect Discovery asks for. There is no place to sign in: tokens are of workloads, and their nodes give them.
pub(super) async fn discovery(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    headers: HeaderMap,
    Path(domain): Path<String>,
) -> Result<Response, Problem> {
    let bundle = published(&hub, &occasion, &domain).await?;
    let issuer = hub.issuer_of(bundle.trust_domain());
    let document = json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/jwks"),
        "authorization_endpoint": "",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    Ok(answer(&headers, &bundle, &document))
}

async fn published(hub: &Hub, occasion: &Occasion, domain: &str) -> Result<TrustBundle, Problem> {
    hub.take_reader(occasion.source)
        .map_err(|seconds| Problem::wait("too many calls come from your network", seconds))?;
    let unknown = || Problem::not_found("no cluster of this hub speaks for this trust domain");
    let domain: TrustDomain = domain.parse().map_err(|_| unknown())?;
    hub.published_bundle(&domain).await?.ok_or_else(unknown)
}

/// The document, or that it is still the one that the caller has.
fn answer(asked: &HeaderMap, bundle: &TrustBundle, document: &Value) -> Response {
    let body = document.to_string();
    let tag = format!("\"{}\"", token_hash(&body));
    let seconds = bundle.refresh_hint_secs().unwrap_or(KEEP_MAX).min(KEEP_MAX);
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CACHE_CONTROL, format!("public, max-age={seconds}")),
        (header::ETAG, tag.clone()),
    ];
    if has(asked, &tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, body).into_response()
}

/// Whether the caller has this one (RFC 9110, section 13.1.2).
fn has(asked: &HeaderMap, tag: &str) -> bool {
    let all = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|it| it.to_str().ok());
    let mut tags = all.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|it| it == "*" || it.strip_prefix("W/").unwrap_or(it) == tag)
}
