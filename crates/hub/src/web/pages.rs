//! The pages for people: sign-in, confirmation, enrolment, account. Plain HTML that works without scripts.

mod account;
mod confirm;
mod enrol;
pub(crate) mod forms;
mod qr;
mod sign_in;

use std::sync::Arc;

use askama::Template;
use axum::{
    Router,
    extract::{FromRequest, FromRequestParts},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header, request::Parts};
use nullius_model::{Identity, Timestamp};
use serde::de::DeserializeOwned;

use self::forms::FormKey;
use super::{call::BODY_TIMEOUT, problem::Problem};
use crate::{Hub, record::Occasion};

/// What a page may load and where its forms may go; nothing may frame it.
const POLICY: &str = "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

pub(crate) fn routes() -> Router<Arc<Hub>> {
    Router::new()
        .route("/", get(async || Redirect::to("/account")))
        .route("/assets/style.css", get(style))
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
        .route("/login", get(sign_in::page).post(sign_in::submit))
        .route("/cli", get(confirm::cli_page).post(confirm::cli_answer))
        .route("/device", get(confirm::device_page).post(confirm::device_code))
        .route("/device/confirm", post(confirm::device_answer))
        .route("/account", get(account::page))
        .route("/account/end", post(account::end_session))
        .route("/logout", post(account::sign_out))
        .route("/enrol", get(enrol::page).post(enrol::password))
        .route("/enrol/confirm", post(enrol::factor))
}

async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, include_str!("../../templates/style.css")).into_response()
}

/// A browser that asks: its occasion, its form key, and who is signed in there.
pub(crate) struct Browser {
    pub(crate) occasion: Occasion,
    pub(crate) form: FormKey,
    pub(crate) identity: Option<Identity>,
    host: Option<String>,
    headers: HeaderMap,
}

impl FromRequestParts<Arc<Hub>> for Browser {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Problem> {
        let occasion = Occasion::from_request_parts(parts, hub).await?;
        let host = match parts.uri.authority() {
            Some(authority) => Some(authority.to_string()),
            None => parts
                .headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .map(str::to_owned),
        };
        let identity = forms::cookie(&parts.headers, forms::SESSION_COOKIE)
            .and_then(|cookie| hub.authenticate_browser(cookie));
        let form = FormKey::of(&parts.headers);
        Ok(Self { occasion, form, identity, host, headers: parts.headers.clone() })
    }
}

impl Browser {
    /// What this browser's forms carry.
    fn form_token(&self, hub: &Hub) -> String {
        self.form.token(hub.keys().forms())
    }

    /// The answer to a form that our own page did not send, or that another browser got.
    fn refuse_form(&self, hub: &Hub, token: &str) -> Option<Response> {
        let checked = forms::check(&self.headers, self.host.as_deref(), token, hub.keys().forms());
        let error = checked.err()?;
        let text = format!("{error}. Go back, load the page anew and try again.");
        Some(self.show(StatusCode::FORBIDDEN, &Message::new("Not accepted", text)))
    }

    /// A page, with everything around it.
    fn show(&self, status: StatusCode, page: &impl Template) -> Response {
        self.show_with_policy(status, page, POLICY)
    }

    /// A page whose form may end at a loopback address.
    fn show_with_policy(&self, status: StatusCode, page: &impl Template, policy: &str) -> Response {
        let html = match page.render() {
            Ok(html) => html,
            Err(error) => return Problem::internal(&error).into_response(),
        };
        let mut response = (status, html).into_response();
        let headers = response.headers_mut();
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, html);
        if let Ok(policy) = HeaderValue::from_str(policy) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        guard(headers);
        if self.form.is_new {
            headers.append(header::SET_COOKIE, self.form.header());
        }
        response
    }
}

/// Sends the browser elsewhere; never remembered, never with where it came from.
fn go(to: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    guard(response.headers_mut());
    response
}

fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let alone = HeaderValue::from_static("same-origin");
    headers.insert("cross-origin-opener-policy", alone);
}

/// A form's fields.
pub(crate) struct Form<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Form<T> {
    type Rejection = Problem;
    async fn from_request(request: Request<axum::body::Body>, state: &S) -> Result<Self, Problem> {
        let read = axum::Form::<T>::from_request(request, state);
        let form = tokio::time::timeout(BODY_TIMEOUT, read).await;
        let form = form.map_err(|_| Problem::unreadable("the form took too long to arrive"))?;
        form.map(|form| Self(form.0)).map_err(|_| Problem::unreadable("the form cannot be read"))
    }
}

/// A page that only says something.
#[derive(Template)]
#[template(path = "message.html")]
struct Message {
    title: String,
    text: String,
    onward: Option<String>,
    link: Option<(String, String)>,
}

impl Message {
    fn new(title: impl Into<String>, text: impl Into<String>) -> Self {
        Self { title: title.into(), text: sentence(&text.into()), onward: None, link: None }
    }

    fn link(mut self, to: &str, label: &str) -> Self {
        self.link = Some((to.to_owned(), label.to_owned()));
        self
    }
}

/// Words of an error as a sentence of a page.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let mut sentence: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    sentence.extend(letters.filter(|c| *c != '`'));
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

fn shown_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
