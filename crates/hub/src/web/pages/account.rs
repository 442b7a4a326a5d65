//! A person's own page: who they are, their sessions, and the way out.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use nullius_model::{AnyObject, Kind, Principal, SessionId};
use serde::Deserialize;

use super::{
    Browser, Form, Message,
    forms::{SESSION_COOKIE, set_cookie},
    go, shown_time,
    sign_in::{Next, ask},
};
use crate::{Hub, SessionEndCause, sessions::Client};

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
    let snapshot = hub.snapshot();
    let user = identity.user.to_string();
    let object = user.parse().ok().and_then(|name| snapshot.object(Kind::User, &name));
    let display_name = match object {
        Some(AnyObject::User(user)) => user.spec.display_name.clone(),
        _ => None,
    };
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
        name: display_name.unwrap_or_else(|| user.clone()),
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
    let own = hub.sessions().of_user(&identity.user).iter().any(|own| *own.id() == session);
    if !own {
        let page = Message::new("Nothing to end", "This session has ended, or it is not yours.");
        return browser.show(StatusCode::NOT_FOUND, &page.link("/account", "Back"));
    }
    let by = Principal::Person { user: identity.user.clone() };
    match hub.end_session_by(&session, SessionEndCause::Ended, by, Some(&browser.call)).await {
        Ok(()) => go("/account"),
        Err(problem) => problem.into_response(),
    }
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
        let by = Principal::Person { user: identity.user.clone() };
        let cause = SessionEndCause::Logout;
        let ended = hub.end_session_by(&identity.session, cause, by, Some(&browser.call)).await;
        if let Err(problem) = ended {
            return problem.into_response();
        }
    }
    let page = Message::new("Signed out", "This browser is signed out.");
    let mut response = browser.show(StatusCode::OK, &page.link("/login", "Sign in again"));
    let gone = set_cookie(SESSION_COOKIE, "", Some(0));
    response.headers_mut().append(header::SET_COOKIE, gone);
    response
}
