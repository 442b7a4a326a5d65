//! Who somebody is, and the sessions that live: theirs, and for those who may, everybody's.

use std::sync::Arc;

use nullius_access::{HubAction, Whose, hub_roles};
use nullius_api::{SessionInfo, WhoAmI};
use nullius_model::{AnyObject, Identity, Kind, Principal, SessionId, UserName};
use nullius_store::StoreError;

use crate::{Hub, SessionEndCause, decide::Refusal, record::Occasion};

/// Why somebody's session is not ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndRefusal {
    #[error("session `{0}` does not exist or has ended")]
    NoSession(SessionId),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<StoreError> for EndRefusal {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl Hub {
    /// Somebody as the hub sees them now.
    pub(crate) fn who_is(&self, identity: Identity) -> Result<WhoAmI, Refusal> {
        let now = self.now();
        self.standing(&identity, now).map_err(Refusal::Denied)?;
        let hub_roles = hub_roles(&self.snapshot(), &identity, now).into_keys().collect();
        Ok(WhoAmI {
            display_name: self.display_name(&identity.user),
            user: identity.user,
            groups: identity.groups.into_iter().collect(),
            session: identity.session,
            signed_in_at: identity.signed_in_at,
            expires_at: identity.expires_at,
            factors: identity.proof.factors.into_iter().collect(),
            factor_at: identity.proof.factor_at,
            hub_roles,
        })
    }

    /// How a person is called, where their object says it.
    pub(crate) fn display_name(&self, user: &UserName) -> Option<String> {
        let name = user.as_str().parse().ok()?;
        match self.snapshot().object(Kind::User, &name)? {
            AnyObject::User(user) => user.spec.display_name.clone(),
            _ => None,
        }
    }

    /// The live sessions of somebody or everybody, as somebody may see them.
    pub(crate) async fn list_sessions(
        &self,
        identity: &Identity,
        of: Whose<'_>,
        occasion: &Occasion,
    ) -> Result<Vec<SessionInfo>, Refusal> {
        self.allow(identity, &HubAction::ListSessions { of }, occasion).await?;
        let sessions = match of {
            Whose::Everyone => self.sessions.all(),
            Whose::Person(user) => self.sessions.of_user(user),
        };
        let now = self.now();
        let live = sessions.into_iter().filter(|session| session.is_live(now));
        let rows = live.map(|session| SessionInfo {
            user: session.user().clone(),
            signed_in_at: session.signed_in_at(),
            expires_at: session.expires_at(),
            last_used: session.last_used(),
            live: self.clusters.live_streams(session.id()),
            clusters: self.clusters.clusters_of(session.id()),
            current: *session.id() == identity.session,
            session: session.id().clone(),
        });
        Ok(rows.collect())
    }

    /// Ends a session, one's own or another's, for somebody who may.
    pub(crate) async fn end_listed_session(
        self: &Arc<Self>,
        identity: &Identity,
        id: &SessionId,
        occasion: &Occasion,
    ) -> Result<(), EndRefusal> {
        let Some(session) = self.sessions.find(id) else {
            // Whoever may see everybody's sessions learns that there is none; the others are refused the same way
            // whether it lives or not.
            let everyone = HubAction::ListSessions { of: Whose::Everyone };
            self.allow(identity, &everyone, occasion).await?;
            return Err(EndRefusal::NoSession(id.clone()));
        };
        let action = HubAction::EndSession { of: session.user() };
        let by = self.allow(identity, &action, occasion).await?.by().clone();
        self.end_session_by(id, SessionEndCause::Ended, by, occasion).await;
        Ok(())
    }

    /// Ends a session of one's own; false where it has ended, or is not theirs.
    pub(crate) async fn end_own_session(
        self: &Arc<Self>,
        identity: &Identity,
        id: &SessionId,
        occasion: &Occasion,
    ) -> bool {
        if !self.sessions.of_user(&identity.user).iter().any(|own| own.id() == id) {
            return false;
        }
        let by = Principal::Person { user: identity.user.clone() };
        self.end_session_by(id, SessionEndCause::Ended, by, occasion).await;
        true
    }

    /// Ends the session with which somebody asks for it.
    pub(crate) async fn log_out(self: &Arc<Self>, identity: &Identity, occasion: &Occasion) {
        let by = Principal::Person { user: identity.user.clone() };
        self.end_session_by(&identity.session, SessionEndCause::Logout, by, occasion).await;
    }
}
