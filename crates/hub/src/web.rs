//! Everything people and tools reach by HTTP except Kubernetes paths: the API of `nullius-api`, the pages, health.

mod access;
mod audit;
mod bundles;
mod call;
mod findings;
mod guard;
mod mesh;
mod objects;
mod pages;
mod problem;
mod refusals;
mod sessions;
mod sign_in;
mod tokens;
mod trust;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    middleware,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use http::{StatusCode, header};
use nullius_api::{HubInfo, route};
use sha2::{Digest, Sha256};

use self::problem::Problem;
use crate::{Hub, MetricsFor, clusters::enrolment, metrics::Readings, record::Occasion};

pub(crate) use guard::Source;

/// All routes but those of Kubernetes.
pub(crate) fn router(hub: &Arc<Hub>) -> Router {
    let object = get(objects::read).put(objects::update).delete(objects::delete);
    let routes = Router::new()
        .route(route::HUB, get(info))
        .route(route::SIGN_IN, post(sign_in::at_terminal))
        .route(route::BROWSER_LOGIN, post(sign_in::begin_in_browser))
        .route(route::DEVICE, post(sign_in::begin_on_device))
        .route(route::TOKEN, post(sign_in::exchange))
        .route(route::KUBE_CREDENTIAL, post(sessions::kube_credential))
        .route(route::STEP_UP, post(sessions::step_up))
        .route(route::LOGOUT, post(sessions::logout))
        .route(route::WHOAMI, get(sessions::who_am_i))
        .route(route::SESSIONS, get(sessions::list))
        .route(route::SESSION, delete(sessions::end))
        .route(route::ACCESS, get(access::list))
        .route(route::ACCESS_EXPLAIN, post(access::explain))
        .route(route::OBJECTS, get(objects::list).post(objects::create))
        .route(route::OBJECT, object)
        .route(route::REHEARSAL, post(objects::rehearse))
        .route(route::TRUST, get(trust::list))
        .route(route::TRUST_ROTATION, post(trust::rotate))
        .route(route::FEDERATION_ACCEPT_OLDER, post(trust::accept_older))
        .route(route::TRUST_BUNDLE, get(bundles::bundle))
        .route(route::TRUST_DISCOVERY, get(bundles::discovery))
        .route(route::TRUST_JWKS, get(bundles::jwks))
        .route(route::JOIN_TOKEN, post(tokens::join))
        .route(route::ENROLMENT, post(tokens::enrolment))
        .route(route::ENROL, post(tokens::enrol))
        .route(route::ENROL_CONFIRM, post(tokens::confirm))
        .route(route::AUDIT, get(audit::list))
        .route(route::AUDIT_TAIL, get(audit::tail))
        .route(route::AUDIT_VERIFY, get(audit::verify).post(audit::verify_anchored))
        .route(route::USAGE, get(audit::usage))
        .route(route::FINDINGS, get(findings::list))
        .route(route::FINDING, get(findings::read))
        .route(route::MESH_GRAPH, get(mesh::graph))
        .route(route::IDENTITIES, get(mesh::identities))
        .route(route::HEALTHZ, get(async || "ok\n"))
        .route(route::READYZ, get(ready))
        .route(route::METRICS, get(metrics))
        .merge(pages::routes())
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            Problem::method("this path does not take this method")
        })
        .with_state(Arc::clone(hub));
    routes
        .merge(enrolment::routes(Arc::clone(hub)).reset_fallback())
        .layer(middleware::from_fn_with_state(Arc::clone(hub), guard::around))
}

async fn info(State(hub): State<Arc<Hub>>) -> axum::Json<HubInfo> {
    let root = hub.keys().root();
    axum::Json(HubInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hub_id: hub.keys().hub_id().to_owned(),
        ca: root.certificate_pem().to_owned(),
        ca_fingerprint: hex::encode(Sha256::digest(root.certificate_der())),
    })
}

/// Ready means: takes new work, and can record it.
async fn ready(State(hub): State<Arc<Hub>>) -> Response {
    if hub.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the hub is going away\n").into_response();
    }
    if let Err(error) = hub.audit().check() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(hub): State<Arc<Hub>>, occasion: Occasion) -> Result<Response, Problem> {
    let local = occasion.source.to_canonical().is_loopback();
    if hub.settings().metrics_for == MetricsFor::Loopback && !local {
        return Err(Problem::not_found("metrics are for callers on the hub's own machine"));
    }
    let failing = hub.audit().check().is_err();
    let text = hub.metrics().render(Readings {
        sessions: hub.sessions().len(),
        audit_failing: failing,
        audit_anchor_failing: hub.audit().health().anchor_error.is_some(),
        signing_key_expires: hub.keys().signing_ends().as_second() - hub.now().as_second(),
        key_set_revision: hub.keys().key_set_revision(),
        ready: !failing && !hub.is_draining(),
        revision: hub.snapshot().revision(),
    });
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
