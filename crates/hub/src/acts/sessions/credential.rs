//! What a session's client holds: the tokens of the hub's own API, and a bearer token for kubectl.

use nullius_access::session::SessionState;
use nullius_api::{KubeCredential, Tokens};
use nullius_model::{Identity, SessionId, Timestamp, Ttl};
use nullius_pki::Audience;

use super::token::RefreshToken;
use crate::{Hub, LiveSession, decide::Refusal};

/// Why there is no credential for kubectl.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialRefusal {
    #[error("your session has ended")]
    Ended,
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Hub {
    /// A bearer token for kubectl.
    pub(crate) fn kube_credential(
        &self,
        identity: &Identity,
    ) -> Result<KubeCredential, CredentialRefusal> {
        let now = self.now();
        let session = self.sessions.find(&identity.session).ok_or(CredentialRefusal::Ended)?;
        self.not_for_looking(identity)?;
        self.standing(identity, now).map_err(Refusal::Denied)?;
        let ttl = self.settings.lifetimes.kube_credential;
        let (token, expires_at) =
            self.issue(Audience::Kubernetes, &session, &session.state(), ttl, now);
        Ok(KubeCredential { token, expires_at })
    }

    /// The tokens that a session's client holds now.
    pub(super) fn tokens(&self, session: &LiveSession) -> Tokens {
        let now = self.now();
        let state = session.state();
        let ttl = self.settings.lifetimes.access_token;
        let (access_token, ends) = self.issue(Audience::Hub, session, &state, ttl, now);
        Tokens {
            user: session.user().clone(),
            session: session.id().clone(),
            access_token,
            access_expires_at: ends,
            refresh_token: self.refresh_token(session.id(), state.generation),
            session_expires_at: state.expires_at,
        }
    }

    /// The refresh token of a session in a generation.
    pub(super) fn refresh_token(&self, session: &SessionId, generation: u64) -> String {
        RefreshToken { session: session.clone(), generation }.encode(self.keys.refresh())
    }

    /// A token that ends with the session at the latest.
    fn issue(
        &self,
        audience: Audience,
        session: &LiveSession,
        state: &SessionState,
        ttl: Ttl,
        now: Timestamp,
    ) -> (String, Timestamp) {
        let left = state.expires_at.duration_since(now).as_secs();
        let left = Ttl::from_secs(u32::try_from(left).unwrap_or(0));
        let access = self.keys.access();
        let (token, ends) =
            access.issue(audience, session.user(), session.id(), ttl.min(left), now);
        (token, Timestamp::from_second(ends).unwrap_or(now))
    }
}
