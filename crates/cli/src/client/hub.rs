//! The hub as a signed-in person sees it: every call carries a fresh access token, refreshed under the shared lock.

use std::{sync::Arc, time::Duration};

use nullius_api::{StepUpRequest, TokenRequest, Tokens, route};
use nullius_model::{Clock, Timestamp};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    call::{self, Answer, Call, Lines},
    dial::{Dialer, Trust},
};
use crate::{
    environment::{Answers, Environment},
    failure::{Failure, SIGN_IN_AGAIN},
    home::{
        contexts::Named,
        session::{Locked, SessionFiles, StoredSession},
    },
};

/// How long one process waits for another that refreshes.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);
/// A token that ends sooner is refreshed first.
const TOKEN_MARGIN_SECS: i64 = 10;

/// A hub and this person's session there.
pub(crate) struct Hub {
    dialer: Dialer,
    /// The context through which it is used.
    pub(crate) named: Named,
    /// The session on disk.
    pub(crate) files: SessionFiles,
    clock: Arc<dyn Clock>,
    answers: Answers,
}

impl Hub {
    /// The hub of a context.
    pub(crate) fn open(named: Named, environment: &Environment) -> Result<Self, Failure> {
        let dialer = Dialer::new(named.context.hub.clone(), Trust::pinned(&named.context.ca)?);
        let files = SessionFiles::of(environment.home()?, &named.name);
        let clock = Arc::clone(&environment.clock);
        Ok(Self { dialer, named, files, clock, answers: environment.answers.clone() })
    }

    /// The present instant of this machine.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The hub's URL without a trailing slash.
    pub(crate) fn origin(&self) -> String {
        self.named.context.hub.as_str().trim_end_matches('/').to_owned()
    }

    /// A call that needs no session.
    pub(crate) async fn anonymous(&self, call: &Call) -> Result<Answer, Failure> {
        call::send(&self.dialer, call, None).await
    }

    /// A call with a token that is at hand.
    pub(crate) async fn with_token(&self, call: &Call, token: &str) -> Result<Answer, Failure> {
        call::send(&self.dialer, call, Some(token)).await
    }

    /// A call in the session. A token that the hub no longer takes is refreshed once; when the hub asks for a fresh
    /// factor and somebody can be asked, it is proven first. Both were refusals: nothing is done twice.
    pub(crate) async fn call(&self, call: &Call) -> Result<Answer, Failure> {
        let token = self.access_token().await?;
        match call::send(&self.dialer, call, Some(&token)).await {
            Err(failure) if failure.is("unauthenticated") => {
                let lock = self.lock().await?;
                let session = self.session_after(&token, &lock).await?;
                drop(lock);
                call::send(&self.dialer, call, Some(&session.access_token)).await
            }
            Err(failure) if failure.is("step-up") && self.answers.can_ask() => {
                let question = "this asks for a fresh factor; code of your authenticator: ";
                let code = self.answers.ask_secret(question).await?;
                self.step_up(code.trim().to_owned()).await?;
                call::send(&self.dialer, call, Some(&self.access_token().await?)).await
            }
            other => other,
        }
    }

    /// A call in the session whose answer is a value.
    pub(crate) async fn read<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        self.call(call).await?.read(&call.what)
    }

    /// A call in the session whose answer goes on and on.
    pub(crate) async fn stream(&self, call: &Call) -> Result<Lines, Failure> {
        let token = self.access_token().await?;
        call::stream(&self.dialer, call, &token).await
    }

    /// Proves the second factor anew.
    pub(crate) async fn step_up(&self, code: String) -> Result<(), Failure> {
        let call = Call::post("cannot prove the factor", route::STEP_UP, &StepUpRequest { code })?;
        let token = self.access_token().await?;
        call::send(&self.dialer, &call, Some(&token)).await.map(|_| ())
    }

    /// Takes the lock of the session.
    pub(crate) async fn lock(&self) -> Result<Locked, Failure> {
        self.files.lock(LOCK_PATIENCE).await
    }

    /// An access token that lasts for a call.
    async fn access_token(&self) -> Result<String, Failure> {
        if let Some(session) = self.stored()?
            && self.lasts(&session)
        {
            return Ok(session.access_token);
        }
        let lock = self.lock().await?;
        Ok(self.fresh_session(&lock).await?.access_token)
    }

    /// The session with an access token that lasts for a call; refreshed where needed.
    pub(crate) async fn fresh_session(&self, lock: &Locked) -> Result<StoredSession, Failure> {
        let session = self.stored()?.ok_or_else(|| self.signed_out())?;
        // Another process may have refreshed while this one waited for the lock.
        if self.lasts(&session) {
            return Ok(session);
        }
        self.refresh(session, lock).await
    }

    /// The session after the hub refused an access token of it: refreshed, unless another process has done it.
    pub(crate) async fn session_after(
        &self,
        refused: &str,
        lock: &Locked,
    ) -> Result<StoredSession, Failure> {
        let session = self.stored()?.ok_or_else(|| self.signed_out())?;
        if session.access_token != refused {
            return Ok(session);
        }
        self.refresh(session, lock).await
    }

    async fn refresh(
        &self,
        session: StoredSession,
        lock: &Locked,
    ) -> Result<StoredSession, Failure> {
        if session.session_expires_at <= self.now() {
            self.files.forget(lock)?;
            return Err(self.session_ended("its time is up"));
        }
        let client_secret = session.client_secret;
        let refresh = TokenRequest::RefreshToken {
            refresh_token: session.refresh_token,
            client_secret: client_secret.clone(),
        };
        let call = Call::post("cannot refresh the session", route::TOKEN, &refresh)?
            .within(Duration::from_secs(4));
        match self.anonymous(&call).await {
            Ok(answer) => self.keep(&answer, client_secret, lock),
            Err(failure) if failure.is("unauthenticated") => {
                self.files.forget(lock)?;
                Err(self.session_ended(failure.reason()))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Keeps the tokens of an answer with the secret that they are bound to, times moved to this machine's clock.
    pub(crate) fn keep(
        &self,
        answer: &Answer,
        client_secret: String,
        lock: &Locked,
    ) -> Result<StoredSession, Failure> {
        let tokens: Tokens = answer.read("cannot read the session")?;
        let session = StoredSession {
            hub: self.named.context.hub.clone(),
            user: tokens.user,
            session: tokens.session,
            access_token: tokens.access_token,
            access_expires_at: self.by_our_clock(tokens.access_expires_at, answer),
            refresh_token: tokens.refresh_token,
            client_secret,
            session_expires_at: self.by_our_clock(tokens.session_expires_at, answer),
        };
        self.files.store_session(&session, lock)?;
        Ok(session)
    }

    /// An instant of the hub's clock as this machine's clock will show it.
    pub(crate) fn by_our_clock(&self, at: Timestamp, answer: &Answer) -> Timestamp {
        let now = self.now();
        let Some(hub_time) = answer.hub_time else { return at };
        at.checked_add(now.duration_since(hub_time)).unwrap_or(at)
    }

    /// The failure of somebody who is not signed in.
    pub(crate) fn signed_out(&self) -> Failure {
        Failure::new(format!("nobody is signed in at `{}`", self.origin()))
            .next(format!("sign in: `nullius login{}`", self.context_flag()))
    }

    fn session_ended(&self, why: &str) -> Failure {
        Failure::new("the session has ended").why(why).next(SIGN_IN_AGAIN)
    }

    fn context_flag(&self) -> String {
        format!(" --context {}", self.named.name)
    }

    fn stored(&self) -> Result<Option<StoredSession>, Failure> {
        // Tokens of another hub under the same name of a context are never sent.
        Ok(self.files.session()?.filter(|session| session.hub == self.named.context.hub))
    }

    fn lasts(&self, session: &StoredSession) -> bool {
        session.access_expires_at.as_second() > self.now().as_second() + TOKEN_MARGIN_SECS
    }
}

/// A value posted, a value answered.
pub(crate) async fn exchange<T: DeserializeOwned>(
    hub: &Hub,
    what: &str,
    path: impl Into<String>,
    body: &impl Serialize,
) -> Result<T, Failure> {
    hub.read(&Call::post(what, path, body)?).await
}
