//! A command line signed in by a browser on the same machine. The request travels with the browser, marked by the hub,
//! so that nothing is kept of requests that nobody answers; the answer is stored, once, with the hash of its code.

use std::{net::IpAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nullius_authn::PkceChallenge;
use nullius_model::{AuditKind, Principal, Timestamp};
use nullius_pki::random_token;
use nullius_store::{LoginCode, LoginKind, Redemption, TokenHash};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{BROWSER_LOGIN_TTL, CODE_TTL, LoginError, Loopback, Proven, Redeemed};
use crate::{
    Hub, SessionEndCause,
    mark::{Purpose, is_marked, mark},
    record::Occasion,
};

/// Longest request as it travels: all its parts are bounded.
const REQUEST_MAX: usize = 2_048;

/// A sign-in that the command line began, as pages show it.
#[derive(Debug, Clone)]
pub(crate) struct BrowserRequest {
    pub(crate) redirect: Loopback,
    pub(crate) source: IpAddr,
}

/// A request as it travels.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Travelling {
    challenge: String,
    state: String,
    redirect: String,
    source: IpAddr,
    began: Timestamp,
    ends: Timestamp,
}

impl Travelling {
    fn encode(&self, key: &[u8; 32]) -> Result<String, LoginError> {
        let json = serde_json::to_vec(self).map_err(|_| LoginError::State)?;
        let body = URL_SAFE_NO_PAD.encode(json);
        let mark = mark(key, Purpose::BrowserLogin, &body);
        Ok(format!("{body}.{mark}"))
    }

    /// Reads a request that this hub made and that has not ended.
    fn decode(text: &str, key: &[u8; 32], now: Timestamp) -> Option<Self> {
        let (body, found) = text.split_once('.').filter(|_| text.len() <= REQUEST_MAX)?;
        if !is_marked(key, Purpose::BrowserLogin, body, found) {
            return None;
        }
        let read: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
        (now < read.ends).then_some(read)
    }
}

impl Hub {
    /// Begins one; gives the request that the browser brings.
    pub(crate) fn begin_browser_login(
        &self,
        challenge: &str,
        state: String,
        redirect: &str,
        source: IpAddr,
    ) -> Result<String, LoginError> {
        self.take_source(source).map_err(LoginError::Wait)?;
        let challenge: PkceChallenge = challenge.parse().map_err(|_| LoginError::Challenge)?;
        if state.is_empty() || state.len() > 512 || !state.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(LoginError::State);
        }
        let redirect = Loopback::parse(redirect)?;
        let began = self.now();
        let request = Travelling {
            challenge: challenge.to_text(),
            state,
            redirect: redirect.as_str().to_owned(),
            source,
            began,
            ends: BROWSER_LOGIN_TTL.after(began),
        };
        request.encode(self.keys.forms())
    }

    /// The one that a browser brings, if it waits for an answer.
    pub(crate) async fn browser_login(
        &self,
        request: &str,
    ) -> Result<Option<BrowserRequest>, LoginError> {
        let Some(found) = Travelling::decode(request, self.keys.forms(), self.now()) else {
            return Ok(None);
        };
        if self.store.read().await?.logins().is_answered(&TokenHash::of(request)).await? {
            return Ok(None);
        }
        let redirect = Loopback::parse(&found.redirect)?;
        Ok(Some(BrowserRequest { redirect, source: found.source }))
    }

    /// Approves one, or with nobody refuses it: gives where the browser goes back to, with code or error in it.
    pub(crate) async fn answer_browser_login(
        &self,
        request: &str,
        proven: Option<Proven>,
    ) -> Result<(Loopback, String), LoginError> {
        let now = self.now();
        let found = Travelling::decode(request, self.keys.forms(), now);
        let Travelling { challenge, state, redirect, source, began, .. } =
            found.ok_or(LoginError::Unknown)?;
        let code = random_token();
        let redirect = Loopback::parse(&redirect)?;
        let denied_at = proven.is_none().then_some(now);
        let login = LoginCode {
            hash: TokenHash::of(code.expose_secret()),
            kind: LoginKind::Browser,
            user_code: Some(TokenHash::of(request)),
            challenge,
            redirect_uri: Some(redirect.as_str().to_owned()),
            source: Some(source),
            user_agent: String::new(),
            created_at: began,
            expires_at: CODE_TTL.after(now),
            polled_at: None,
            approval: proven.map(|proven| self.approval(proven)),
            denied_at,
            used_at: None,
        };
        let mut tx = self.store.begin().await?;
        if !tx.logins().create(&login).await? {
            tx.rollback().await?;
            return Err(LoginError::Unknown);
        }
        tx.commit().await?;
        let answer = match denied_at {
            None => ("code", code.expose_secret()),
            Some(_) => ("error", "access_denied"),
        };
        let to = redirect.with(&[answer, ("state", &state)]);
        Ok((redirect, to))
    }

    /// Exchanges a code, once; a second time ends the session that the first gave.
    pub(crate) async fn exchange_code(
        self: &Arc<Self>,
        code: &str,
        verifier: &SecretString,
        redirect: &str,
        occasion: &Occasion,
    ) -> Result<Redeemed, LoginError> {
        self.take_source(occasion.source).map_err(LoginError::Wait)?;
        let error = match self.redeem_code(code, verifier, redirect).await {
            Ok(redeemed) => return Ok(redeemed),
            Err(error) => error,
        };
        if let LoginError::CodeReused(Some(session)) = &error {
            // RFC 6749, section 4.1.2: what the first use gave may be in the wrong hands.
            let cause = SessionEndCause::Reused;
            self.end_session_by(session, cause, Principal::Hub, occasion).await;
        }
        let kind = AuditKind::SignIn;
        self.note(self.event_of_stranger("", occasion, kind, error.to_string())).await;
        Err(error)
    }

    /// Takes a code, once. What nobody was given costs no write.
    async fn redeem_code(
        &self,
        code: &str,
        verifier: &SecretString,
        redirect: &str,
    ) -> Result<Redeemed, LoginError> {
        let hash: TokenHash = TokenHash::of(code);
        let found = self.store.read().await?.logins().find(&hash).await?;
        if found.is_none_or(|login| login.kind != LoginKind::Browser) {
            return Err(LoginError::Code);
        }
        let mut tx = self.store.begin().await?;
        let redeemed = tx.logins().redeem(&hash, self.now()).await?;
        // Whoever presents it with the wrong verifier has stolen it: it is spent all the same.
        tx.commit().await?;
        let login = match redeemed {
            Redemption::Accepted(login) => login,
            Redemption::Reused(login) => {
                let session = login.approval.and_then(|approval| approval.session);
                return Err(LoginError::CodeReused(session));
            }
            Redemption::Expired(_) | Redemption::ForOther(_) | Redemption::Unknown => {
                return Err(LoginError::Code);
            }
        };
        let challenge: PkceChallenge = login.challenge.parse().map_err(|_| LoginError::Verifier)?;
        challenge.verify(verifier).map_err(|_| LoginError::Verifier)?;
        if login.redirect_uri.as_deref() != Some(redirect) {
            return Err(LoginError::OtherRedirect);
        }
        self.approver(login).await
    }
}
