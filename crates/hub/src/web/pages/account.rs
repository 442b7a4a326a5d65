//! A person's own page: who they are, their sessions, and the way out.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use http::{StatusCode, header};
use nullius_model::SessionId;
use serde::Deserialize;

use super::{
    Browser, Form, Message,
    forms::{SESSION_COOKIE, set_cookie},
    go, shown_time,
    sign_in::{Next, ask},
};
use crate::{Client, Hub};

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    name: String,
    user: String,
    groups: String,
    sessions: Vec<SessionRow>,
    form: String,
}

struct SessionRow {
    id: String,
    what: &'static str,
    current: bool,
    signed_in: String,
    last_used: String,
    ends: String,
    clusters: String,
}

#[derive(Deserialize)]
pub(super) struct EndForm {
    form: String,
    session: SessionId,
}

#[derive(Deserialize)]
pub(super) struct SignOutForm {
    form: String,
}

pub(super) async fn page(State(hub): State<Arc<Hub>>, browser: Browser) -> Response {
    let Some(identity) = &browser.identity else { return ask(&hub, &browser, &Next::Account) };
    let user = identity.user.to_string();
    let sessions = hub.sessions().of_user(&identity.user).into_iter().map(|session| {
        let clusters = hub.clusters().clusters_of(session.id());
        SessionRow {
            id: session.id().to_string(),
            what: match session.client() {
                Client::Terminal => "Command line, by password",
                Client::BrowserLogin => "Command line, by browser",
                Client::Device => "Device",
                Client::Pages => "Browser",
                Client::Repair => "Terminal, for looking only",
            },
            current: *session.id() == identity.session,
            signed_in: shown_time(session.signed_in_at()),
            last_used: shown_time(session.last_used()),
            ends: shown_time(session.expires_at()),
            clusters: clusters.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        }
    });
    let page = AccountPage {
        name: hub.display_name(&identity.user).unwrap_or_else(|| user.clone()),
        groups: identity.groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        user,
        sessions: sessions.collect(),
        form: browser.form_token(&hub),
    };
    browser.show(StatusCode::OK, &page)
}

pub(super) async fn end_session(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Form(EndForm { form, session }): Form<EndForm>,
) -> Response {
    if let Some(refused) = browser.refuse_form(&hub, &form) {
        return refused;
    }
    let Some(identity) = &browser.identity else { return ask(&hub, &browser, &Next::Account) };
    if hub.end_own_session(identity, &session, &browser.occasion).await {
        return go("/account");
    }
    let text = "This session has ended, or it is not yours.";
    let page = Message::new("Nothing to end", text).link("/account", "Back");
    browser.show(StatusCode::NOT_FOUND, &page)
}

pub(super) async fn sign_out(
    State(hub): State<Arc<Hub>>,
    browser: Browser,
    Form(SignOutForm { form }): Form<SignOutForm>,
) -> Response {
    if let Some(refused) = browser.refuse_form(&hub, &form) {
        return refused;
    }
    if let Some(identity) = &browser.identity {
        hub.log_out(identity, &browser.occasion).await;
    }
    let page = Message::new("Signed out", "This browser is signed out.");
    let mut response = browser.show(StatusCode::OK, &page.link("/login", "Sign in again"));
    let gone = set_cookie(SESSION_COOKIE, "", Some(0));
    response.headers_mut().append(header::SET_COOKIE, gone);
    response
}
