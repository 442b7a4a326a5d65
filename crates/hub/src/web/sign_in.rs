//! Ways to a session: from a terminal, by a browser, on a device; and refresh tokens for new tokens.

use std::sync::Arc;

use axum::{Json as Answer, extract::State};
use nullius_access::session::ClientMark;
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
    logins::{BROWSER_LOGIN_TTL, DeviceCodes, LoginError, Poll, Redeemed},
    sessions,
};

pub(super) async fn at_terminal(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Json(request): Json<SignInRequest>,
) -> Result<Answer<Tokens>, Problem> {
    let SignInRequest { user, password, code, client } = request;
    let mark = promised(&client)?;
    let proven = hub.prove(&user, SecretString::from(password), &code, &call).await?;
    let tokens = hub.open_session(proven, Client::Terminal, mark, &call).await?;
    Ok(warmed(&hub, tokens))
}

pub(super) async fn begin_in_browser(
    State(hub): State<Arc<Hub>>,
    call: Call,
    Json(request): Json<BrowserLoginRequest>,
) -> Result<Answer<BrowserLogin>, Problem> {
    hold_back(&hub, &call)?;
    let BrowserLoginRequest { challenge, redirect_uri, state } = request;
    let id = hub.begin_browser_login(&challenge, state, &redirect_uri, call.source)?;
    let url = format!("{}/cli?id={id}", hub.origin());
    Ok(Answer(BrowserLogin { url, expires_in: BROWSER_LOGIN_TTL.as_secs() }))
}

pub(super) async fn begin_on_device(
    State(hub): State<Arc<Hub>>,
    call: Call,
) -> Result<Answer<DeviceLogin>, Problem> {
    hold_back(&hub, &call)?;
    let DeviceCodes { device_code, user_code, interval } =
        hub.begin_device_login(call.source).await?;
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
    match request {
        TokenRequest::AuthorizationCode { code, verifier, redirect_uri, client } => {
            let mark = promised(&client)?;
            let redeemed = redeem(&hub, &call, &code, verifier.into(), &redirect_uri).await?;
            let way = Client::BrowserLogin;
            let tokens = hub.open_approved_session(redeemed, way, mark, &call).await?;
            Ok(warmed(&hub, tokens))
        }
        TokenRequest::DeviceCode { device_code, client } => {
            let mark = promised(&client)?;
            let redeemed = poll(&hub, &call, &device_code).await?;
            let way = Client::Device;
            let tokens = hub.open_approved_session(redeemed, way, mark, &call).await?;
            Ok(warmed(&hub, tokens))
        }
        TokenRequest::RefreshToken { refresh_token, client_secret } => {
            hub.refresh(&refresh_token, &client_secret.into(), &call).await.map(Answer)
        }
    }
}

async fn redeem(
    hub: &Arc<Hub>,
    call: &Call,
    code: &str,
    verifier: SecretString,
    redirect_uri: &str,
) -> Result<Redeemed, Problem> {
    hold_back(hub, call)?;
    match hub.exchange_code(code, &verifier, redirect_uri).await {
        Ok(redeemed) => Ok(redeemed),
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

async fn poll(hub: &Arc<Hub>, call: &Call, device_code: &str) -> Result<Redeemed, Problem> {
    hold_back(hub, call)?;
    match hub.poll_device_login(device_code).await? {
        Poll::Pending => Err(Problem::pending("nobody has confirmed the code yet", 5)),
        Poll::SlowDown => {
            Err(Problem::wait("asked too soon: wait five seconds more each time", 10))
        }
        Poll::Refused => Err(Problem::refused("the sign-in was refused on the other device")),
        Poll::Ended => Err(Problem::unauthenticated("the sign-in has ended or was completed")),
        Poll::Approved(redeemed) => Ok(*redeemed),
    }
}

fn promised(client: &str) -> Result<ClientMark, Problem> {
    sessions::promised(client).map_err(|_| {
        let message =
            "it is not 43 characters of base64url: it must be the SHA-256 of the client's secret";
        super::field_problem("client", message)
    })
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
            LoginError::Unknown => Self::not_found(text),
            LoginError::Code
            | LoginError::CodeReused(_)
            | LoginError::Verifier
            | LoginError::OtherRedirect
            | LoginError::Outdated => Self::unauthenticated(text),
            LoginError::Store(error) => error.into(),
        }
    }
}

/// The tokens of a new session, whose person's clusters are made ready meanwhile.
fn warmed(hub: &Arc<Hub>, tokens: Tokens) -> Answer<Tokens> {
    hub.warm(tokens.session.clone());
    Answer(tokens)
}
