//! Ways to a session: from a terminal, by a browser, on a device; and refresh tokens for new tokens.

use std::sync::Arc;

use axum::{Json as Answer, extract::State};
use nullius_access::session::ClientMark;
use nullius_api::{
    BrowserLogin, BrowserLoginRequest, DeviceLogin, SignInRequest, TokenRequest, Tokens,
};
use nullius_authn::DEVICE_CODE_TTL;
use secrecy::{ExposeSecret, SecretString};

use super::{
    call::Json,
    problem::{Problem, field_problem},
};
use crate::{
    Client, Hub,
    acts::{
        logins::{BROWSER_LOGIN_TTL, DeviceCodes, Poll},
        people::Redeemed,
        sessions,
    },
    record::Occasion,
};

pub(super) async fn at_terminal(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Json(request): Json<SignInRequest>,
) -> Result<Answer<Tokens>, Problem> {
    let SignInRequest { user, password, code, client } = request;
    let mark = promised(&client)?;
    let proven = hub.prove(&user, SecretString::from(password), &code, &occasion).await?;
    Ok(Answer(hub.open_session(proven, Client::Terminal, mark, &occasion).await?))
}

pub(super) async fn begin_in_browser(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
    Json(request): Json<BrowserLoginRequest>,
) -> Result<Answer<BrowserLogin>, Problem> {
    let BrowserLoginRequest { challenge, redirect_uri, state } = request;
    let id = hub.begin_browser_login(&challenge, state, &redirect_uri, occasion.source)?;
    let url = format!("{}/cli?id={id}", hub.origin());
    Ok(Answer(BrowserLogin { url, expires_in: BROWSER_LOGIN_TTL.as_secs() }))
}

pub(super) async fn begin_on_device(
    State(hub): State<Arc<Hub>>,
    occasion: Occasion,
) -> Result<Answer<DeviceLogin>, Problem> {
    let DeviceCodes { device_code, user_code, interval } =
        hub.begin_device_login(occasion.source).await?;
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
    occasion: Occasion,
    Json(request): Json<TokenRequest>,
) -> Result<Answer<Tokens>, Problem> {
    let (redeemed, client, mark) = match request {
        TokenRequest::AuthorizationCode { code, verifier, redirect_uri, client } => {
            let mark = promised(&client)?;
            let (verifier, to) = (SecretString::from(verifier), &redirect_uri);
            let redeemed = hub.exchange_code(&code, &verifier, to, &occasion).await?;
            (redeemed, Client::BrowserLogin, mark)
        }
        TokenRequest::DeviceCode { device_code, client } => {
            let mark = promised(&client)?;
            let polled = hub.poll_device_login(&device_code, occasion.source).await?;
            (approved(polled)?, Client::Device, mark)
        }
        TokenRequest::RefreshToken { refresh_token, client_secret } => {
            let tokens = hub.refresh(&refresh_token, &client_secret.into(), &occasion).await?;
            return Ok(Answer(tokens));
        }
    };
    Ok(Answer(hub.open_approved_session(redeemed, client, mark, &occasion).await?))
}

fn approved(polled: Poll) -> Result<Redeemed, Problem> {
    match polled {
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
        field_problem("client", message)
    })
}
