//! Who asks: checks tokens and cookies, and each time that the session behind them lives.

use nullius_access::{Caller, judge_standing};
use nullius_model::{Identity, KubeStatus, SessionId, UserName};
use nullius_pki::{AccessClaims, AccessTokenError, Audience, token_hash};

use crate::{BearerError, Hub};

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

impl Hub {
    /// The person behind a call to a Kubernetes path: a bearer token with audience `kubernetes` of a session that
    /// lives. Cookies and tokens of the hub's own API are not looked at.
    pub(crate) fn authenticate_kube(&self, token: &str) -> Result<Identity, KubeRefusal> {
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
        let session = self.memory.browser_sessions.find(cookie)?;
        let session = self.sessions.find(&session)?;
        let now = self.now();
        if !session.is_live(now) {
            return None;
        }
        session.touch(now);
        let snapshot = self.snapshot();
        let identity = session.identity(&snapshot);
        judge_standing(&snapshot, &Caller::new(&identity), now).is_none().then_some(identity)
    }

    fn claims(&self, token: &str, audience: Audience) -> Result<AccessClaims, AccessTokenError> {
        let now = self.now();
        let hash = token_hash(token);
        if let Some(claims) = self.memory.verified.find(&hash)
            && claims.aud == audience
            && now.as_second() < claims.exp
        {
            return Ok(claims);
        }
        let claims = self.keys().access_verifier().verify(token, audience, now)?;
        self.memory.verified.keep(hash, claims.clone(), now);
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
