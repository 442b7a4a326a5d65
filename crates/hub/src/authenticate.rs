//! Who asks: reads bearer tokens and cookies, and checks each time that the session behind them lives.

use std::{collections::HashMap, net::IpAddr, sync::Mutex};

use http::{HeaderMap, header};
use nullius_model::{Identity, KubeStatus, SessionId, Timestamp, UserName};
use nullius_pki::{AccessClaims, AccessTokenError, Audience, token_hash};

use crate::{Hub, limits::lock};

/// Verified tokens remembered at most; a token is checked in full again when it is forgotten.
const REMEMBERED: usize = 20_000;

/// Why a call to a Kubernetes path is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubeRefusal {
    /// No bearer token, or one that cannot be read.
    #[error("{0}")]
    Credential(#[from] BearerError),
    /// The token is refused.
    #[error("{0}; run the command again, or sign in with `nullius login`")]
    Token(#[from] AccessTokenError),
    /// The session behind the token has ended.
    #[error("your session has ended; sign in with `nullius login`")]
    SessionEnded {
        /// Whose it was.
        user: UserName,
        /// The session.
        session: SessionId,
    },
}

impl KubeRefusal {
    /// The refusal as Kubernetes clients show it.
    pub fn kube_status(&self) -> KubeStatus {
        KubeStatus::failure(401, self.to_string())
    }
}

/// No bearer token, or one that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    /// There is none.
    #[error("no credential was sent; use the kubeconfig that `nullius kubeconfig` writes")]
    Missing,
    /// More than one, or not of this form.
    #[error(
        "the authorization header is not one bearer token; passwords and other schemes are not accepted"
    )]
    Unreadable,
}

/// The one bearer token of a call (RFC 6750 section 2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, BearerError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(BearerError::Missing)?;
    if values.next().is_some() {
        return Err(BearerError::Unreadable);
    }
    let value = value.to_str().map_err(|_| BearerError::Unreadable)?;
    let (scheme, token) = value.split_once(' ').ok_or(BearerError::Unreadable)?;
    let plain = !token.is_empty() && token.bytes().all(|c| c.is_ascii_graphic());
    if scheme.eq_ignore_ascii_case("bearer") && plain {
        Ok(token)
    } else {
        Err(BearerError::Unreadable)
    }
}

/// Tokens whose signature was checked, by hash; whether the session lives is asked each time.
#[derive(Debug, Default)]
pub(crate) struct VerifiedTokens {
    by_hash: Mutex<HashMap<String, AccessClaims>>,
}

impl VerifiedTokens {
    fn find(&self, hash: &str) -> Option<AccessClaims> {
        lock(&self.by_hash).get(hash).cloned()
    }

    fn keep(&self, hash: String, claims: AccessClaims, now: Timestamp) {
        let mut by_hash = lock(&self.by_hash);
        if by_hash.len() >= REMEMBERED {
            by_hash.retain(|_, claims| now.as_second() < claims.exp);
            if by_hash.len() >= REMEMBERED {
                by_hash.clear();
            }
        }
        by_hash.insert(hash, claims);
    }
}

impl Hub {
    /// The person behind a call to a Kubernetes path: a bearer token with audience `kubernetes` of a session that
    /// lives. Cookies and tokens of the hub's own API are not looked at.
    pub fn authenticate_kube(
        &self,
        headers: &HeaderMap,
        _peer: IpAddr,
    ) -> Result<Identity, KubeRefusal> {
        let token = bearer(headers)?;
        let claims = self.claims(token, Audience::Kubernetes)?;
        self.identity_of(&claims)
    }

    /// The person behind a call to the hub's own API.
    pub(crate) fn authenticate_api(&self, token: &str) -> Result<Identity, KubeRefusal> {
        let claims = self.claims(token, Audience::Hub)?;
        self.identity_of(&claims)
    }

    /// The person behind a browser's session cookie; pages alone ask.
    pub(crate) fn authenticate_browser(&self, cookie: &str) -> Option<Identity> {
        let session = self.browser_sessions().find(cookie)?;
        let session = self.sessions().find(&session)?;
        let now = self.now();
        if !session.is_live(now) {
            return None;
        }
        session.touch(now);
        let snapshot = self.snapshot();
        let identity = session.identity(&snapshot);
        let caller = nullius_access::Caller::new(&identity);
        nullius_access::judge_standing(&snapshot, &caller, now).is_none().then_some(identity)
    }

    fn claims(&self, token: &str, audience: Audience) -> Result<AccessClaims, AccessTokenError> {
        let now = self.now();
        let hash = token_hash(token);
        if let Some(claims) = self.verified_tokens().find(&hash)
            && claims.aud == audience
            && now.as_second() < claims.exp
        {
            return Ok(claims);
        }
        let claims = self.keys().access_verifier().verify(token, audience, now)?;
        self.verified_tokens().keep(hash, claims.clone(), now);
        Ok(claims)
    }

    fn identity_of(&self, claims: &AccessClaims) -> Result<Identity, KubeRefusal> {
        let now = self.now();
        let session = self
            .sessions()
            .find(&claims.sid)
            .filter(|session| *session.user() == claims.sub && session.is_live(now));
        let ended =
            || KubeRefusal::SessionEnded { user: claims.sub.clone(), session: claims.sid.clone() };
        let session = session.ok_or_else(ended)?;
        session.touch(now);
        Ok(session.identity(&self.snapshot()))
    }
}

/// Cookies of browsers by hash; they end with the process.
#[derive(Debug, Default)]
pub(crate) struct BrowserSessions {
    by_cookie: Mutex<HashMap<String, SessionId>>,
}

impl BrowserSessions {
    pub(crate) fn keep(&self, cookie: &str, session: SessionId) {
        lock(&self.by_cookie).insert(token_hash(cookie), session);
    }

    fn find(&self, cookie: &str) -> Option<SessionId> {
        lock(&self.by_cookie).get(&token_hash(cookie)).cloned()
    }

    pub(crate) fn forget(&self, session: &SessionId) {
        lock(&self.by_cookie).retain(|_, kept| kept != session);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn only_one_plain_bearer_token_is_read() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Ok("abc"));
        assert_eq!(bearer(&headers(&["bearer abc"])), Ok("abc"));
        assert_eq!(bearer(&headers(&[])), Err(BearerError::Missing));
        for bad in [
            &["Basic YTpi"][..],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a b"],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(bearer(&headers(bad)), Err(BearerError::Unreadable), "{bad:?}");
        }
    }
}
