//! Opens a session for somebody who is proven: stored with its audit event first, live afterwards.

use std::sync::Arc;

use nullius_access::session::{ClientMark, sign_in as begin_session};
use nullius_api::Tokens;
use nullius_model::{AuditKind, AuditOutcome, Factor, Principal, SessionId};
use nullius_pki::{random_bits, random_token};
use nullius_store::{LoginCode, NewSession, SessionClient, StoreError, TokenHash};
use secrecy::ExposeSecret;

use super::token::no_client;
use crate::{
    Client, Hub, LiveSession, SignInOutcome,
    acts::people::{Proven, Redeemed, SignInRefusal},
    record::Occasion,
};

/// A session about to begin.
struct Opening {
    proven: Proven,
    client: Client,
    mark: ClientMark,
    /// The sign-in that was approved elsewhere, where it was.
    login: Option<LoginCode>,
}

impl Hub {
    /// Opens a session bound to what its client promised, and gives its tokens.
    pub(crate) async fn open_session(
        self: &Arc<Self>,
        proven: Proven,
        client: Client,
        mark: ClientMark,
        occasion: &Occasion,
    ) -> Result<Tokens, SignInRefusal> {
        let session = self.begin(Opening { proven, client, mark, login: None }, occasion).await?;
        self.warm(session.id().clone());
        Ok(self.tokens(&session))
    }

    /// Opens the session of a sign-in that was approved elsewhere, some time ago perhaps.
    pub(crate) async fn open_approved_session(
        self: &Arc<Self>,
        redeemed: Redeemed,
        client: Client,
        mark: ClientMark,
        occasion: &Occasion,
    ) -> Result<Tokens, SignInRefusal> {
        let Redeemed { proven, login } = redeemed;
        self.standing_of(&proven.user, &proven.proof, self.now())
            .map_err(SignInRefusal::Stopped)?;
        let opening = Opening { proven, client, mark, login: Some(login) };
        let session = self.begin(opening, occasion).await?;
        self.warm(session.id().clone());
        Ok(self.tokens(&session))
    }

    /// Opens a session of a browser's pages and gives its cookie. It lives in this process alone.
    pub(crate) async fn open_browser_session(
        &self,
        proven: Proven,
        occasion: &Occasion,
    ) -> Result<String, SignInRefusal> {
        let opening = Opening { proven, client: Client::Pages, mark: no_client(), login: None };
        let session = self.begin(opening, occasion).await?;
        let cookie = random_token();
        self.memory.browser_sessions.keep(cookie.expose_secret(), session.id().clone());
        Ok(cookie.expose_secret().to_owned())
    }

    async fn begin(
        &self,
        opening: Opening,
        occasion: &Occasion,
    ) -> Result<Arc<LiveSession>, SignInRefusal> {
        let error = match self.begin_stored(&opening, occasion).await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        let Opening { proven, client, mark, .. } = opening;
        // A session that could not be stored may be one for looking instead.
        if client == Client::Terminal && self.may_repair(&proven.user, &proven.proof) {
            return self.begin_repair(proven, mark, occasion).await;
        }
        Err(error.into())
    }

    async fn begin_stored(
        &self,
        opening: &Opening,
        occasion: &Occasion,
    ) -> Result<Arc<LiveSession>, StoreError> {
        let Opening { proven, client, mark, login } = opening;
        let (client, now) = (*client, self.this_second());
        let settings = client.settings(&self.settings.lifetimes);
        let (state, _) = begin_session(proven.proof.clone(), mark.clone(), now, &settings);
        let id = SessionId::from_bits(random_bits());

        let mut event = self.event_of(occasion, AuditKind::SignIn, AuditOutcome::Done);
        event.principal = Principal::Person { user: proven.user.clone() };
        event.session = Some(id.clone());
        let factors: Vec<_> = proven.proof.factors.iter().copied().map(Factor::as_str).collect();
        event.facts.insert("client".to_owned(), client.as_str().to_owned());
        event.facts.insert("factors".to_owned(), factors.join(","));
        event.facts.insert("expires".to_owned(), state.expires_at.to_string());

        let mut tx = self.store.begin().await?;
        if client.is_stored() {
            let stored = NewSession {
                id: id.clone(),
                user: proven.user.clone(),
                client: SessionClient::Cli,
                proof: proven.proof.clone(),
                signed_in_at: state.signed_in_at,
                expires_at: state.expires_at,
                token: TokenHash::of(self.refresh_token(&id, state.generation)),
                client_mark: state.client.0.clone(),
                source: Some(occasion.source),
                user_agent: client.as_str().to_owned(),
            };
            tx.sessions().create(&stored).await?;
        }
        if let Some(login) = login {
            tx.logins().gave(login, &id).await?;
        }
        tx.audit(&event)?;
        tx.commit().await?;
        self.metrics.sign_in(SignInOutcome::Opened);
        let session = LiveSession::new(id, proven.user.clone(), client, state);
        let session = self.sessions.insert(session);
        self.time_changed.notify_one();
        Ok(session)
    }
}
