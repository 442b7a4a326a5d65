//! Ways to a session: from a terminal, by a browser, on a device; and refresh tokens for new tokens.

use std::sync::Arc;

use axum::{Json as Answer, extract::State};
use nullius_api::{
    BrowserLogin, BrowserLoginRequest, DeviceLogin, SignInRequest, TokenRequest, Tokens,
};
use nullius_authn::DEVICE_CODE_TTL;
use nullius_model::Principal;
use secrecy::{ExposeSecret, SecretString};

use super::{
    call::{Call, Json},
    problem::Problem,
};
use crate::{
    Client, Hub, SessionEndCause,
    logins::{BROWSER_LOGIN_TTL, DeviceCodes, LoginError, Poll, Proven},
};

pub(super) async fn at_terminal(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Json(request): Json<SignInRequest>,
) -> Result<Answer<Tokens>, Problem> {
    let SignInRequest { user, password, code } = request;
    let proven = hub.prove(&user, SecretString::from(password), &code, &call).await?;
    Ok(Answer(opened(&hub, proven, Client::Terminal, &call).await?))
}

pub(super) async fn begin_in_browser(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Json(request): Json<BrowserLoginRequest>,
) -> Result<Answer<BrowserLogin>, Problem> {
    hold_back(&hub, &call)?;
    let BrowserLoginRequest { challenge, redirect_uri, state } = request;
    let logins = hub.browser_logins();
    let id = logins.begin(&challenge, state, &redirect_uri, call.source, hub.now())?;
    let url = format!("{}/cli?id={id}", hub.origin());
    Ok(Answer(BrowserLogin { url, expires_in: BROWSER_LOGIN_TTL.as_secs() }))
}

pub(super) async fn begin_on_device(
    State(hub): State<Arc<Hub>>,
    call: Call,
) -> Result<Answer<DeviceLogin>, Problem> {
    hold_back(&hub, &call)?;
    let DeviceCodes { device_code, user_code, interval } =
        hub.device_logins().begin(call.source, hub.now())?;
    Ok(Answer(DeviceLogin {
        device_code: device_code.expose_secret().to_owned(),
        user_code: user_code.to_string(),
        verification_uri: format!("{}/device", hub.origin()),
        interval,
        expires_in: DEVICE_CODE_TTL.as_secs(),
    }))
}

pub(super) async fn exchange(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Json(request): Json<TokenRequest>,
) -> Result<Answer<Tokens>, Problem> {
    let tokens = match request {
        TokenRequest::AuthorizationCode { code, verifier, redirect_uri } => {
            exchange_code(&hub, &call, &code, verifier.into(), &redirect_uri).await?
        }
        TokenRequest::DeviceCode { device_code } => poll(&hub, &call, &device_code).await?,
        TokenRequest::RefreshToken { refresh_token } => hub.refresh(&refresh_token, &call).await?,
    };
    Ok(Answer(tokens))
}

async fn exchange_code(
    hub: &Arc<Hub>,
    call: &Call,
    code: &str,
    verifier: SecretString,
    redirect_uri: &str,
) -> Result<Tokens, Problem> {
    hold_back(hub, call)?;
    match hub.browser_logins().exchange(code, &verifier, redirect_uri, hub.now()) {
        Ok(proven) => {
            let tokens = opened(hub, proven, Client::BrowserLogin, call).await?;
            hub.browser_logins().gave(code, &tokens.session);
            Ok(tokens)
        }
        Err(error) => {
            if let LoginError::CodeReused(Some(session)) = &error {
                // RFC 6749, section 4.1.2: what the first use gave may be in the wrong hands.
                let by = Principal::Hub;
                let cause = SessionEndCause::Reused;
                hub.end_session_by(session, cause, by, Some(call)).await?;
            }
            hub.note_failed_exchange(call, &error).await;
            Err(error.into())
        }
    }
}

async fn poll(hub: &Arc<Hub>, call: &Call, device_code: &str) -> Result<Tokens, Problem> {
    hold_back(hub, call)?;
    match hub.device_logins().poll(device_code, hub.now()) {
        Poll::Pending => Err(Problem::pending("nobody has confirmed the code yet", 5)),
        Poll::SlowDown => {
            Err(Problem::wait("asked too soon: wait five seconds more each time", 10))
        }
        Poll::Refused => Err(Problem::refused("the sign-in was refused on the other device")),
        Poll::Ended => Err(Problem::unauthenticated("the sign-in has ended or was completed")),
        Poll::Approved(proven) => opened(hub, proven, Client::Device, call).await,
    }
}

fn hold_back(hub: &Hub, call: &Call) -> Result<(), Problem> {
    hub.take_source(call.source)
        .map_err(|seconds| Problem::wait(format!("too many tries: wait {seconds} s"), seconds))
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        let text = error.to_string();
        match error {
            LoginError::Challenge => super::field_problem("challenge", &text),
            LoginError::State => super::field_problem("state", &text),
            LoginError::Redirect => super::field_problem("redirectUri", &text),
            LoginError::Full => Self::unavailable(text, 60),
            LoginError::Unknown | LoginError::Completed => Self::not_found(text),
            LoginError::Code
            | LoginError::CodeReused(_)
            | LoginError::Verifier
            | LoginError::OtherRedirect => Self::unauthenticated(text),
        }
    }
}

/// Opens a session and makes ready where its person worked lately.
async fn opened(
    hub: &Arc<Hub>,
    proven: Proven,
    client: Client,
    call: &Call,
) -> Result<Tokens, Problem> {
    let tokens = hub.open_session(proven, client, call).await?;
    hub.warm(tokens.session.clone());
    Ok(tokens)
}
