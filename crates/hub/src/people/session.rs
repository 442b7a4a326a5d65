//! Sessions of people: opened, refreshed, stepped up; and the tokens that hang on them.

use std::sync::Arc;

use nullius_access::session::{
    ClientMark, Event, Phase, SessionState, advance, sign_in as begin_session,
};
use nullius_api::{KubeCredential, Tokens};
use nullius_model::{AuditKind, AuditOutcome, Identity, Principal, SessionId, Timestamp, Ttl};
use nullius_pki::{Audience, random_bits, random_token};
use nullius_store::LoginCode;
use nullius_store::{NewSession, SessionClient, StoreError, TokenHash, Tx};
use secrecy::{ExposeSecret, SecretString};

use super::SignInRefusal;
use crate::{
    Client, Hub, LiveSession, SessionEndCause, SignInOutcome,
    logins::{Proven, Redeemed},
    sessions::{self, RefreshToken, session_settings},
    web::{Call, Problem},
};

impl Hub {
    /// Opens a session bound to what its client promised, and gives its tokens.
    pub(crate) async fn open_session(
        &self,
        proven: Proven,
        client: Client,
        mark: ClientMark,
        call: &Call,
    ) -> Result<Tokens, SignInRefusal> {
        let session = self.begin(Opening { proven, client, mark, login: None }, call).await?;
        Ok(self.tokens(&session))
    }

    /// Opens the session of a sign-in that was approved elsewhere, some time ago perhaps.
    pub(crate) async fn open_approved_session(
        &self,
        redeemed: Redeemed,
        client: Client,
        mark: ClientMark,
        call: &Call,
    ) -> Result<Tokens, SignInRefusal> {
        let Redeemed { proven, login } = redeemed;
        self.standing_of(&proven.user, &proven.proof, self.now())
            .map_err(SignInRefusal::Stopped)?;
        let opening = Opening { proven, client, mark, login: Some(login) };
        let session = self.begin(opening, call).await?;
        Ok(self.tokens(&session))
    }

    /// Opens a session of a browser's pages and gives its cookie. It lives in this process alone.
    pub(crate) async fn open_browser_session(
        &self,
        proven: Proven,
        call: &Call,
    ) -> Result<String, SignInRefusal> {
        let mark = sessions::no_client();
        let opening = Opening { proven, client: Client::Pages, mark, login: None };
        let session = self.begin(opening, call).await?;
        let cookie = random_token();
        self.browser_sessions.keep(cookie.expose_secret(), session.id().clone());
        Ok(cookie.expose_secret().to_owned())
    }

    async fn begin(
        &self,
        opening: Opening,
        call: &Call,
    ) -> Result<Arc<LiveSession>, SignInRefusal> {
        match self.begin_stored(&opening, call).await {
            Ok(session) => Ok(session),
            Err(_) if self.may_begin_repair(&opening) => self.begin_repair(opening, call).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn begin_stored(
        &self,
        opening: &Opening,
        call: &Call,
    ) -> Result<Arc<LiveSession>, StoreError> {
        let Opening { proven, client, mark, login } = opening;
        let (client, now) = (*client, self.this_second());
        let settings = session_settings(client, &self.settings.lifetimes);
        let (state, _) = begin_session(proven.proof.clone(), mark.clone(), now, &settings);
        let id = SessionId::from_bits(random_bits());

        let mut event = self.event_of(call, AuditKind::SignIn, AuditOutcome::Done);
        event.principal = Principal::Person { user: proven.user.clone() };
        event.session = Some(id.clone());
        event.facts.insert("client".to_owned(), client.as_str().to_owned());
        event.facts.insert("factors".to_owned(), words(&proven.proof.factors));
        event.facts.insert("expires".to_owned(), state.expires_at.to_string());

        let mut tx = self.store.begin().await?;
        if client.is_stored() {
            let token = RefreshToken { session: id.clone(), generation: state.generation };
            let stored = NewSession {
                id: id.clone(),
                user: proven.user.clone(),
                client: SessionClient::Cli,
                proof: proven.proof.clone(),
                signed_in_at: state.signed_in_at,
                expires_at: state.expires_at,
                token: TokenHash::of(token.encode(self.keys.refresh())),
                client_mark: state.client.0.clone(),
                source: Some(call.source),
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

    /// The tokens that a session's client holds now.
    pub(crate) fn tokens(&self, session: &LiveSession) -> Tokens {
        let now = self.now();
        let state = session.state();
        let ttl = self.settings.lifetimes.access_token;
        let (access_token, ends) = self.issue(Audience::Hub, session, &state, ttl, now);
        let token = RefreshToken { session: session.id().clone(), generation: state.generation };
        Tokens {
            user: session.user().clone(),
            session: session.id().clone(),
            access_token,
            access_expires_at: ends,
            refresh_token: token.encode(self.keys.refresh()),
            session_expires_at: state.expires_at,
        }
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

    /// A bearer token for kubectl.
    pub(crate) fn kube_credential(&self, identity: &Identity) -> Result<KubeCredential, Problem> {
        let now = self.now();
        let ended = || Problem::unauthenticated("your session has ended");
        let session = self.sessions.find(&identity.session).ok_or_else(ended)?;
        self.not_for_looking(identity)?;
        self.standing(identity, now).map_err(Problem::denied)?;
        let ttl = self.settings.lifetimes.kube_credential;
        let (token, expires_at) =
            self.issue(Audience::Kubernetes, &session, &session.state(), ttl, now);
        Ok(KubeCredential { token, expires_at })
    }

    /// New tokens for a refresh token of this client; one that was used before, or comes from another client, ends the
    /// session.
    pub(crate) async fn refresh(
        self: &Arc<Self>,
        token: &str,
        client_secret: &SecretString,
        call: &Call,
    ) -> Result<Tokens, Problem> {
        if let Err(seconds) = self.take_source(call.source) {
            return Err(Problem::wait(format!("too many tries: wait {seconds} s"), seconds));
        }
        let Some(RefreshToken { session: id, generation }) =
            RefreshToken::decode(token, self.keys.refresh())
        else {
            let mut event = self.event_of(call, AuditKind::Refresh, AuditOutcome::Denied);
            event.principal = super::unproven("");
            event.facts.insert("reason".to_owned(), "unknown-token".to_owned());
            self.note(event).await;
            return Err(Problem::unauthenticated("the refresh token is not one of this hub"));
        };
        let Some(session) = self.sessions.find(&id).filter(|session| session.is_live(self.now()))
        else {
            return Err(self.no_session(&id, call).await);
        };
        if session.client() == Client::Repair {
            let message =
                "a session for looking at a hub whose audit cannot be written is not renewed";
            return Err(Problem::unauthenticated(message));
        }
        let _turn = session.turn.lock().await;
        let before = session.state();
        let event = Event::Refresh { generation, client: sessions::proven(client_secret) };
        let settings = session_settings(session.client(), &self.settings.lifetimes);
        let (after, _) = advance(before.clone(), &event, self.now(), &settings);
        if let Phase::Ended { why, .. } = after.phase {
            let cause = SessionEndCause::of(why);
            let by = Principal::Person { user: session.user().clone() };
            self.end_session_by(&id, cause, by, Some(call)).await?;
            return Err(self.no_session(&id, call).await);
        }
        self.standing(&session.identity(&self.snapshot()), self.now()).map_err(Problem::denied)?;
        if after.generation != before.generation {
            if !self.persist(&session, Stored::Rotated(&after), call).await? {
                return Err(self.no_session(&id, call).await);
            }
            session.replace(after);
            self.time_changed.notify_one();
        }
        Ok(self.tokens(&session))
    }

    async fn no_session(&self, id: &SessionId, call: &Call) -> Problem {
        let mut event = self.event_of(call, AuditKind::Refresh, AuditOutcome::Denied);
        event.principal = super::unproven("");
        event.session = Some(id.clone());
        event.facts.insert("reason".to_owned(), "session-ended".to_owned());
        self.note(event).await;
        Problem::unauthenticated("your session has ended")
    }

    /// Stores a changed session with the event that tells of it; false where somebody else was faster.
    async fn persist(
        &self,
        session: &LiveSession,
        change: Stored<'_>,
        call: &Call,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let mut event = self.event_of(call, change.kind(), AuditOutcome::Done);
        event.principal = Principal::Person { user: session.user().clone() };
        event.session = Some(session.id().clone());
        let mut tx = self.store.begin().await?;
        if session.client().is_stored() && !self.write(&mut tx, session, &change, call, now).await?
        {
            tx.rollback().await?;
            return Ok(false);
        }
        tx.audit(&event)?;
        tx.commit().await?;
        Ok(true)
    }

    async fn write(
        &self,
        tx: &mut Tx,
        session: &LiveSession,
        change: &Stored<'_>,
        call: &Call,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let id = session.id();
        let written = match change {
            Stored::Rotated(after) => {
                let token = RefreshToken { session: id.clone(), generation: after.generation };
                let hash = TokenHash::of(token.encode(self.keys.refresh()));
                let before = after.generation - 1;
                tx.sessions().rotate(id, before, &hash, Some(call.source), now).await?
            }
            Stored::SteppedUp(after) => {
                tx.sessions().step_up(id, &after.proof.factors, after.proof.factor_at).await?
            }
        };
        Ok(written.is_some())
    }

    /// Proves the second factor of a session anew.
    pub(crate) async fn step_up(
        &self,
        identity: &Identity,
        code: &str,
        call: &Call,
    ) -> Result<(), SignInRefusal> {
        let outcome = self.try_step_up(identity, code, call).await;
        if let Err((reason, _)) = &outcome {
            let mut event = self.event_of(call, AuditKind::StepUp, AuditOutcome::Denied);
            event.principal = Principal::Person { user: identity.user.clone() };
            event.session = Some(identity.session.clone());
            event.facts.insert("reason".to_owned(), (*reason).to_owned());
            self.note(event).await;
        }
        outcome.map_err(|(_, refusal)| refusal)
    }

    async fn try_step_up(
        &self,
        identity: &Identity,
        code: &str,
        call: &Call,
    ) -> Result<(), (&'static str, SignInRefusal)> {
        let now = self.this_second();
        let user = &identity.user;
        let fault = |refusal: SignInRefusal| ("fault", refusal);
        self.count_attempt(user.as_str(), call.source, now)
            .await
            .map_err(|seconds| ("held-back", SignInRefusal::Wait(seconds)))?;
        let factors = self.factors(user).await.map_err(fault)?;
        let factors = factors.ok_or(("unknown-user", SignInRefusal::WrongCode))?;
        let code: String = code.split_whitespace().collect();
        let checked = nullius_authn::step_up(&factors.borrowed(), &code, now);
        let proven = checked.map_err(|error| (error.reason.as_str(), SignInRefusal::WrongCode))?;
        let claimed = self.claim_in_store(user, proven.totp_step).await;
        if !claimed.map_err(|error| fault(error.into()))? {
            return Err(("code-replayed", SignInRefusal::WrongCode));
        }
        self.count_success(user.as_str(), call.source, now).await;
        let ended = || ("session-ended", SignInRefusal::WrongCode);
        let session = self.sessions.find(&identity.session).ok_or_else(ended)?;
        let _turn = session.turn.lock().await;
        let settings = session_settings(session.client(), &self.settings.lifetimes);
        let event = Event::StepUp { factors: proven.factors };
        let (after, _) = advance(session.state(), &event, now, &settings);
        if let Phase::Ended { .. } = after.phase {
            return Err(ended());
        }
        let persisted = self.persist(&session, Stored::SteppedUp(&after), call).await;
        if !persisted.map_err(|error| fault(error.into()))? {
            return Err(ended());
        }
        session.replace(after);
        Ok(())
    }
}

/// A session about to begin.
pub(super) struct Opening {
    pub(super) proven: Proven,
    pub(super) client: Client,
    pub(super) mark: ClientMark,
    /// The sign-in that was approved elsewhere, where it was.
    pub(super) login: Option<LoginCode>,
}

/// What of a session is stored anew.
enum Stored<'a> {
    Rotated(&'a SessionState),
    SteppedUp(&'a SessionState),
}

impl Stored<'_> {
    fn kind(&self) -> AuditKind {
        match self {
            Self::Rotated(_) => AuditKind::Refresh,
            Self::SteppedUp(_) => AuditKind::StepUp,
        }
    }
}

fn words(factors: &std::collections::BTreeSet<nullius_model::Factor>) -> String {
    let words = factors.iter().map(|factor| match factor {
        nullius_model::Factor::Password => "password",
        nullius_model::Factor::Totp => "totp",
        nullius_model::Factor::EnrolmentLink => "enrolment-link",
    });
    words.collect::<Vec<_>>().join(",")
}
