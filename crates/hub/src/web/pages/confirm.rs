//! Asks a person who is signed in whether a program may be signed in as them, and says which one.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::StatusCode;
use nullius_model::Identity;
use serde::Deserialize;

use super::{
    Browser, Form, Message, POLICY, go, sentence, shown_time,
    sign_in::{Next, ask},
};
use crate::{
    Hub,
    acts::{
        logins::{BrowserRequest, DeviceRequest, LoginError, Loopback},
        people::Proven,
    },
    record::chain,
};

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage {
    title: String,
    user_code: Option<String>,
    facts: Vec<(String, String)>,
    warning: String,
    action: &'static str,
    form: String,
    id: String,
    approve: String,
}

#[derive(Template)]
#[template(path = "device.html")]
struct DevicePage {
    form: String,
    code: String,
    problem: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct IdQuery {
    #[serde(default)]
    id: String,
}

#[derive(Deserialize)]
pub(super) struct CodeQuery {
    code: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Answer {
    form: String,
    id: String,
    answer: String,
}

#[derive(Deserialize)]
pub(super) struct CodeForm {
    form: String,
    code: String,
}

/// Who approves with an answer; nobody where it refuses.
fn approver(answer: &str, identity: Identity) -> Option<Proven> {
    let Identity { user, proof, .. } = identity;
    (answer == "approve").then_some(Proven { user, proof })
}

fn ended(browser: &Browser) -> Response {
    let text = "This sign-in has ended or was completed. Run `nullius login` again.";
    browser.show(StatusCode::NOT_FOUND, &Message::new("Nothing to confirm", text))
}

/// The answer where the store does not work, or what was asked for is not there.
fn fault(browser: &Browser, error: LoginError) -> Response {
    let LoginError::Store(error) = error else { return ended(browser) };
    tracing::warn!(error = %chain(&error), "could not look after a sign-in under way");
    let text = "The hub cannot look after sign-ins at present. Try again in a few seconds.";
    browser.show(StatusCode::SERVICE_UNAVAILABLE, &Message::new("Not now", text))
}

pub(super) async fn cli_page(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Query(IdQuery { id }): Query<IdQuery>,
) -> Response {
    let request = match hub.browser_login(&id).await {
        Ok(Some(request)) => request,
        Ok(None) => return ended(&browser),
        Err(error) => return fault(&browser, error),
    };
    let Some(identity) = &browser.identity else { return ask(&hub, &browser, &Next::Cli(id)) };
    let BrowserRequest { redirect, source } = request;
    let elsewhere = source != browser.occasion.source;
    let warning = if elsewhere {
        format!(
            "It was begun on another machine ({source}), not on the one of this browser. Approve only if that machine is yours."
        )
    } else {
        "Approve only if you have just run nullius login yourself.".to_owned()
    };
    let page = ConfirmPage {
        title: "Sign in the command line?".to_owned(),
        user_code: None,
        facts: vec![
            ("As".to_owned(), identity.user.to_string()),
            ("Asked from".to_owned(), source.to_string()),
            ("Goes back to".to_owned(), redirect.address().to_string()),
        ],
        warning,
        action: "/cli",
        form: browser.form_token(&hub),
        id,
        approve: "Sign it in".to_owned(),
    };
    match redirect.policy_source() {
        Some(source) => {
            browser.show_with_policy(StatusCode::OK, &page, &format!("{POLICY} {source}"))
        }
        None => browser.show(StatusCode::OK, &page),
    }
}

pub(super) async fn cli_answer(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Form(Answer { form, id, answer }): Form<Answer>,
) -> Response {
    if let Some(refused) = browser.refuse_form(&hub, &form) {
        return refused;
    }
    let Some(identity) = browser.identity.clone() else {
        return ask(&hub, &browser, &Next::Cli(id));
    };
    match hub.answer_browser_login(&id, approver(&answer, identity)).await {
        Ok((redirect, to)) => go_back(&browser, &redirect, to),
        Err(error) => fault(&browser, error),
    }
}

/// A redirect where the content security policy can name the target, else a page that goes on by itself.
fn go_back(browser: &Browser, redirect: &Loopback, to: String) -> Response {
    if redirect.policy_source().is_some() {
        return go(&to);
    }
    let mut page = Message::new("Back to the command line", "You can close this page afterwards.");
    page.onward = Some(to);
    browser.show(StatusCode::OK, &page)
}

pub(super) async fn device_page(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Query(CodeQuery { code }): Query<CodeQuery>,
) -> Response {
    if browser.identity.is_none() {
        return ask(&hub, &browser, &Next::Device(code));
    }
    // A code in the link is only filled in: typing it proves that it stands before the person.
    device_form(&hub, &browser, StatusCode::OK, code.unwrap_or_default(), None)
}

fn device_form(
    hub: &Hub,
    browser: &Browser,
    status: StatusCode,
    code: String,
    problem: Option<String>,
) -> Response {
    let code = code.chars().take(20).collect();
    let problem = problem.as_deref().map(sentence);
    browser.show(status, &DevicePage { form: browser.form_token(hub), code, problem })
}

pub(super) async fn device_code(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Form(CodeForm { form, code }): Form<CodeForm>,
) -> Response {
    if let Some(refused) = browser.refuse_form(&hub, &form) {
        return refused;
    }
    let Some(identity) = &browser.identity else {
        return ask(&hub, &browser, &Next::Device(None));
    };
    if let Err(seconds) = hub.take_source(browser.occasion.source) {
        let problem = format!("too many tries: wait {seconds} s");
        return device_form(&hub, &browser, StatusCode::TOO_MANY_REQUESTS, code, Some(problem));
    }
    let waiting = match code.parse() {
        Ok(code) => match hub.device_login(code).await {
            Ok(waiting) => waiting,
            Err(error) => return fault(&browser, error),
        },
        Err(_) => None,
    };
    let Some(request) = waiting else {
        let problem = "no device waits under this code: look at its screen again, codes end after ten minutes";
        return device_form(&hub, &browser, StatusCode::NOT_FOUND, code, Some(problem.to_owned()));
    };
    let DeviceRequest { user_code, source, began } = request;
    let page = ConfirmPage {
        title: "Sign in this device?".to_owned(),
        user_code: Some(user_code.to_string()),
        facts: vec![
            ("As".to_owned(), identity.user.to_string()),
            ("Asked from".to_owned(), source.map_or_else(|| "unknown".to_owned(), |s| s.to_string())),
            ("Asked at".to_owned(), shown_time(began)),
        ],
        warning: "Approve only if this code stands on a screen in front of you. If somebody sent you the code or this link, refuse: they would act as you.".to_owned(),
        action: "/device/confirm",
        form: browser.form_token(&hub),
        id: user_code.to_string(),
        approve: "Sign it in".to_owned(),
    };
    browser.show(StatusCode::OK, &page)
}

pub(super) async fn device_answer(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Form(Answer { form, id, answer }): Form<Answer>,
) -> Response {
    if let Some(refused) = browser.refuse_form(&hub, &form) {
        return refused;
    }
    let Some(identity) = browser.identity.clone() else {
        return ask(&hub, &browser, &Next::Device(None));
    };
    let proven = approver(&answer, identity);
    let approved = proven.is_some();
    let Ok(code) = id.parse() else { return ended(&browser) };
    match hub.answer_device_login(&code, proven).await {
        Ok(()) if approved => {
            let text = "The device is signed in. You can close this page.";
            let page = Message::new("Done", text).link("/account", "See your sessions");
            browser.show(StatusCode::OK, &page)
        }
        Ok(()) => {
            let text = "The device was refused. If you did not begin this, tell an admin.";
            browser.show(StatusCode::OK, &Message::new("Refused", text))
        }
        Err(error) => fault(&browser, error),
    }
}
