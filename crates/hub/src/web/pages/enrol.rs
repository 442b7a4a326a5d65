//! Enrolment by a single-use link: password first, then the second factor; only then is the link used up.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;

use super::{Browser, Form, Message, qr, sentence};
use crate::{Hub, acts::enrol::EnrolError};

#[derive(Template)]
#[template(path = "enrol.html")]
struct EnrolPage {
    form: String,
    token: String,
    user: String,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "enrol_factor.html")]
struct FactorPage {
    form: String,
    token: String,
    user: String,
    qr: String,
    secret: String,
    uri: String,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct TokenQuery {
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
pub(super) struct PasswordForm {
    form: String,
    token: String,
    password: String,
    again: String,
}

#[derive(Deserialize)]
pub(super) struct FactorForm {
    form: String,
    token: String,
    code: String,
}

fn unusable(browser: &Browser, error: &EnrolError) -> Response {
    let text = format!("{error}. Ask an admin for a new one.");
    browser.show(status_of(error), &Message::new("This link cannot be used", text))
}

fn status_of(error: &EnrolError) -> StatusCode {
    match error {
        EnrolError::Link => StatusCode::NOT_FOUND,
        EnrolError::Password(_)
        | EnrolError::Code
        | EnrolError::TooManyCodes
        | EnrolError::NotBegun => StatusCode::UNPROCESSABLE_ENTITY,
        EnrolError::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
        EnrolError::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        EnrolError::Fault(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

pub(super) async fn page(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Query(TokenQuery { token }): Query<TokenQuery>,
) -> Response {
    match hub.enrolment_of(&token, &browser.occasion).await {
        Ok(user) => {
            let form = browser.form_token(&hub);
            let page = EnrolPage { form, token, user: user.to_string(), problem: None };
            browser.show(StatusCode::OK, &page)
        }
        Err(error) => unusable(&browser, &error),
    }
}

pub(super) async fn password(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Form(fields): Form<PasswordForm>,
) -> Response {
    if let Some(refused) = browser.refuse_form(&hub, &fields.form) {
        return refused;
    }
    let PasswordForm { token, password, again, .. } = fields;
    let same = password == again;
    let password = SecretString::from(password);
    let user = match hub.enrolment_of(&token, &browser.occasion).await {
        Ok(user) => user,
        Err(error) => return unusable(&browser, &error),
    };
    let retry = |status, problem: String| {
        let form = browser.form_token(&hub);
        let problem = Some(sentence(&problem));
        let page = EnrolPage { form, token: token.clone(), user: user.to_string(), problem };
        browser.show(status, &page)
    };
    if !same {
        let problem = "the two passwords are not the same".to_owned();
        return retry(StatusCode::UNPROCESSABLE_ENTITY, problem);
    }
    match hub.begin_enrolment(&token, password, &browser.occasion).await {
        Ok(begun) => factor_page(&hub, &browser, token, &begun, StatusCode::OK, None),
        Err(error) if error.is_retryable() => retry(status_of(&error), error.to_string()),
        Err(error) => unusable(&browser, &error),
    }
}

fn factor_page(
    hub: &Hub,
    browser: &Browser,
    token: String,
    begun: &nullius_api::EnrolAnswer,
    status: StatusCode,
    problem: Option<String>,
) -> Response {
    let page = FactorPage {
        form: browser.form_token(hub),
        token,
        user: begun.user.to_string(),
        qr: qr::svg(&begun.totp_uri).unwrap_or_default(),
        secret: begun.totp_secret.clone(),
        uri: begun.totp_uri.clone(),
        problem: problem.as_deref().map(sentence),
    };
    browser.show(status, &page)
}

pub(super) async fn factor(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Form(FactorForm { form, token, code }): Form<FactorForm>,
) -> Response {
    if let Some(refused) = browser.refuse_form(&hub, &form) {
        return refused;
    }
    match hub.confirm_enrolment(&token, &code, &browser.occasion).await {
        Ok(user) => {
            let text = format!(
                "The sign-in of {user} is set up. Wait for the next code before you use it."
            );
            let page = Message::new("Done", text).link("/login", "Sign in");
            browser.show(StatusCode::OK, &page)
        }
        Err(error) if error.is_retryable() => match hub.begun_enrolment(&token) {
            Some(begun) => {
                let problem = Some(error.to_string());
                factor_page(&hub, &browser, token, &begun, status_of(&error), problem)
            }
            None => unusable(&browser, &error),
        },
        Err(error) => unusable(&browser, &error),
    }
}
