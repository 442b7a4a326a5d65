//! Sign-in in a browser: password and code on one page, then on to what the person came for.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::{StatusCode, header};
use secrecy::SecretString;
use serde::Deserialize;

use super::{
    Browser, Form,
    forms::{SESSION_COOKIE, set_cookie},
    go, sentence,
};
use crate::{Hub, acts::people::SignInRefusal};

/// Where a person goes after sign-in: pages of our own by name, so that no address can be smuggled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Account,
    Device(Option<String>),
    Cli(String),
}

impl Next {
    fn parse(text: &str) -> Self {
        // Letters that mean nothing in a query or to a browser.
        let plain = |text: &str| {
            !text.is_empty()
                && text.len() <= 2_048
                && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c))
        };
        match text.split_once(':') {
            Some(("cli", id)) if plain(id) => Self::Cli(id.to_owned()),
            Some(("device", code)) if plain(code) => Self::Device(Some(code.to_owned())),
            _ if text == "device" => Self::Device(None),
            _ => Self::Account,
        }
    }

    fn word(&self) -> String {
        match self {
            Self::Account => "account".to_owned(),
            Self::Device(None) => "device".to_owned(),
            Self::Device(Some(code)) => format!("device:{code}"),
            Self::Cli(id) => format!("cli:{id}"),
        }
    }

    fn path(&self) -> String {
        match self {
            Self::Account => "/account".to_owned(),
            Self::Device(None) => "/device".to_owned(),
            Self::Device(Some(code)) => format!("/device?code={code}"),
            Self::Cli(id) => format!("/cli?id={id}"),
        }
    }

    fn client(&self) -> Option<String> {
        match self {
            Self::Account => None,
            Self::Device(_) => Some("Then you can sign in another device.".to_owned()),
            Self::Cli(_) => Some("The command line asks to be signed in.".to_owned()),
        }
    }
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    form: String,
    next: String,
    user: String,
    client: Option<String>,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct NextQuery {
    next: Option<String>,
}

pub(super) async fn page(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Query(query): Query<NextQuery>,
) -> Response {
    let next = query.next.as_deref().map_or(Next::Account, Next::parse);
    if browser.identity.is_some() {
        return go(&next.path());
    }
    ask(&hub, &browser, &next)
}

/// Asks for password and code.
pub(super) fn ask(hub: &Hub, browser: &Browser, next: &Next) -> Response {
    show(hub, browser, next, StatusCode::OK, String::new(), None)
}

fn show(
    hub: &Hub,
    browser: &Browser,
    next: &Next,
    status: StatusCode,
    user: String,
    problem: Option<String>,
) -> Response {
    let page = SignInPage {
        form: browser.form_token(hub),
        next: next.word(),
        user,
        client: next.client(),
        problem,
    };
    browser.show(status, &page)
}

#[derive(Deserialize)]
pub(super) struct SignInForm {
    form: String,
    #[serde(default)]
    next: String,
    user: String,
    password: String,
    code: String,
}

pub(super) async fn submit(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Form(form): Form<SignInForm>,
) -> Response {
    let next = Next::parse(&form.next);
    if let Some(refused) = browser.refuse_form(&hub, &form.form) {
        return refused;
    }
    let SignInForm { user, password, code, .. } = form;
    let opened = async {
        let proven =
            hub.prove(&user, SecretString::from(password), &code, &browser.occasion).await?;
        hub.open_browser_session(proven, &browser.occasion).await
    };
    match opened.await {
        Ok(cookie) => {
            let mut response = go(&next.path());
            let cookie = set_cookie(SESSION_COOKIE, &cookie, None);
            response.headers_mut().append(header::SET_COOKIE, cookie);
            response
        }
        Err(refusal) => {
            let text = sentence(&refusal.to_string());
            let user = user.chars().take(128).collect();
            show(&hub, &browser, &next, status_of(&refusal), user, Some(text))
        }
    }
}

fn status_of(refusal: &SignInRefusal) -> StatusCode {
    match refusal {
        SignInRefusal::Wrong | SignInRefusal::WrongCode => StatusCode::UNAUTHORIZED,
        SignInRefusal::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
        SignInRefusal::Busy(_) | SignInRefusal::Unrecorded(_) => StatusCode::SERVICE_UNAVAILABLE,
        SignInRefusal::Stopped(_) => StatusCode::FORBIDDEN,
        SignInRefusal::Fault(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
