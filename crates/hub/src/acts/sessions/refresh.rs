//! Renews a session: new tokens for a refresh token of this client. One that was used before, or comes from another
//! client, ends the session.

use std::sync::Arc;

use nullius_access::session::{Event, Phase, advance};
use nullius_api::Tokens;
use nullius_model::{AuditKind, Explanation, Principal, SessionId};
use nullius_store::StoreError;
use secrecy::SecretString;

use super::{
    Stored,
    token::{RefreshToken, proven},
};
use crate::{Client, Hub, SessionEndCause, record::Occasion};

/// Why a session is not renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshRefusal {
    #[error("too many tries: wait {0} s")]
    Wait(u32),
    #[error("the refresh token is not one of this hub")]
    UnknownToken,
    #[error("your session has ended")]
    Ended,
    #[error("a session for looking at a hub whose audit cannot be written is not renewed")]
    ForLooking,
    #[error("{}", .0.sentence)]
    Stopped(Explanation),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Hub {
    /// New tokens for a refresh token of this client.
    pub(crate) async fn refresh(
        self: &Arc<Self>,
        token: &str,
        client_secret: &SecretString,
        occasion: &Occasion,
    ) -> Result<Tokens, RefreshRefusal> {
        self.take_source(occasion.source).map_err(RefreshRefusal::Wait)?;
        let Some(RefreshToken { session: id, generation }) =
            RefreshToken::decode(token, self.keys.refresh())
        else {
            let kind = AuditKind::Refresh;
            self.note(self.event_of_stranger("", occasion, kind, "unknown-token")).await;
            return Err(RefreshRefusal::UnknownToken);
        };
        let Some(session) = self.sessions.find(&id).filter(|session| session.is_live(self.now()))
        else {
            return Err(self.no_session(&id, occasion).await);
        };
        if session.client() == Client::Repair {
            return Err(RefreshRefusal::ForLooking);
        }
        let _turn = session.turn.lock().await;
        let before = session.state();
        let event = Event::Refresh { generation, client: proven(client_secret) };
        let settings = session.client().settings(&self.settings.lifetimes);
        let (after, _) = advance(before.clone(), &event, self.now(), &settings);
        if let Phase::Ended { why, .. } = after.phase {
            let cause = SessionEndCause::of(why);
            let by = Principal::Person { user: session.user().clone() };
            self.end_session_by(&id, cause, by, occasion).await;
            return Err(self.no_session(&id, occasion).await);
        }
        let identity = session.identity(&self.snapshot());
        self.standing(&identity, self.now()).map_err(RefreshRefusal::Stopped)?;
        if after.generation != before.generation {
            if !self.persist(&session, Stored::Rotated(&after), occasion).await? {
                return Err(self.no_session(&id, occasion).await);
            }
            session.replace(after);
            self.time_changed.notify_one();
        }
        Ok(self.tokens(&session))
    }

    async fn no_session(&self, id: &SessionId, occasion: &Occasion) -> RefreshRefusal {
        let mut event = self.event_of_stranger("", occasion, AuditKind::Refresh, "session-ended");
        event.session = Some(id.clone());
        self.note(event).await;
        RefreshRefusal::Ended
    }
}
