//! Enrolment by a single-use link: a password first, then a code that proves the authenticator; both are stored and
//! the link is used up in one transaction.

mod first_link;

use std::sync::Arc;

use nullius_access::HubAction;
use nullius_api::EnrolAnswer;
use nullius_authn::{PasswordError, TotpSecret, hash_password};
use nullius_model::{AuditKind, AuditOutcome, Identity, Kind, Principal, Timestamp, UserName};
use nullius_pki::{random_token, token_hash};
use nullius_store::{EnrolmentLink, Redemption, Sealed, StoreError, TokenHash, Tx};
use secrecy::{ExposeSecret, SecretString};

use super::people::totp_name;
use crate::{Hub, SessionEndCause, decide::Refusal, memory::enrolments::Begun, record::Occasion};

/// What authenticators show beside the person's name.
const ISSUER: &str = "Nullius";
/// Wrong codes after which the first step must be repeated.
const WRONG_CODES: u32 = 5;

/// Why an enrolment does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error("the enrolment link is not valid or was used")]
    Link,
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("the code is wrong: check that the authenticator's clock is right")]
    Code,
    #[error("too many wrong codes: open the link again and begin anew")]
    TooManyCodes,
    #[error("the first step was too long ago: open the link again")]
    NotBegun,
    #[error("too many tries: wait {0} s")]
    Wait(u32),
    #[error("the hub is busy: try again in {0} s")]
    Busy(u32),
    #[error("the hub could not do this because of a fault of its own")]
    Fault(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl EnrolError {
    /// Whether the same person can try again with the same link at this step.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Password(_) | Self::Code | Self::Wait(_) | Self::Busy(_) => true,
            Self::Link | Self::TooManyCodes | Self::NotBegun | Self::Fault(_) => false,
        }
    }

    fn fault(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Fault(Box::new(error))
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Password(_) => "password",
            Self::Code => "wrong-code",
            Self::TooManyCodes => "too-many-codes",
            Self::NotBegun => "not-begun",
            Self::Wait(_) => "source-limit",
            Self::Busy(_) => "busy",
            Self::Fault(_) => "fault",
        }
    }
}

impl From<StoreError> for EnrolError {
    fn from(error: StoreError) -> Self {
        Self::fault(error)
    }
}

impl Hub {
    /// Makes a link for a person, for somebody who may.
    pub(crate) async fn issue_enrolment(
        &self,
        identity: &Identity,
        user: &UserName,
        occasion: &Occasion,
    ) -> Result<nullius_api::EnrolmentLink, Refusal> {
        self.audit_works()?;
        let permit = self.allow(identity, &HubAction::IssueEnrolment { user }, occasion).await?;
        if !self.snapshot().may_sign_in(user) {
            return Err(StoreError::NotFound { kind: Kind::User, name: user.to_string() }.into());
        }
        let (kind, begun) = (AuditKind::Enrol, AuditOutcome::Begun);
        let mut event = self.event_under(&permit, identity, occasion, kind, begun);
        event.target = Some(format!("User/{user}"));
        let mut tx = self.store.begin().await?;
        let link = self.create_enrolment(&mut tx, user).await?;
        tx.audit(&event)?;
        tx.commit().await?;
        Ok(link)
    }

    /// Makes a link for a person within a transaction.
    pub(crate) async fn create_enrolment(
        &self,
        tx: &mut Tx,
        user: &UserName,
    ) -> Result<nullius_api::EnrolmentLink, StoreError> {
        let now = self.this_second();
        let token = random_token();
        let token = token.expose_secret().to_owned();
        let expires_at = self.settings.lifetimes.enrolment_link.after(now);
        let link = EnrolmentLink {
            hash: TokenHash::of(&token),
            user: user.clone(),
            created_at: now,
            expires_at,
            used_at: None,
        };
        tx.tokens().create_enrolment(&link).await?;
        let url = format!("{}/enrol?token={token}", self.origin());
        Ok(nullius_api::EnrolmentLink { url, token, expires_at })
    }

    /// Whose link it is, if it is good.
    pub(crate) async fn enrolment_of(
        &self,
        token: &str,
        occasion: &Occasion,
    ) -> Result<UserName, EnrolError> {
        self.take_source(occasion.source).map_err(EnrolError::Wait)?;
        self.link(token).await.map(|link| link.user)
    }

    async fn link(&self, token: &str) -> Result<EnrolmentLink, EnrolError> {
        let good = self.good_link(token).await?;
        good.filter(|link| self.snapshot().may_sign_in(&link.user)).ok_or(EnrolError::Link)
    }

    /// The link of a token while it can be used.
    async fn good_link(&self, token: &str) -> Result<Option<EnrolmentLink>, StoreError> {
        let link = self.store.read().await?.tokens().find_enrolment(&TokenHash::of(token)).await?;
        let now = self.now();
        Ok(link.filter(|link| link.used_at.is_none() && now < link.expires_at))
    }

    /// First step: takes the password and gives the second factor to set up.
    pub(crate) async fn begin_enrolment(
        &self,
        token: &str,
        password: SecretString,
        occasion: &Occasion,
    ) -> Result<EnrolAnswer, EnrolError> {
        self.take_source(occasion.source).map_err(EnrolError::Wait)?;
        let link = self.link(token).await?;
        let user = link.user;
        let visitor = self.visitor(user.as_str(), occasion.source, self.now());
        let turn = self.hash_room.enter(visitor).await;
        let turn = turn.map_err(|busy| EnrolError::Busy(busy.retry_after))?;
        let name = user.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            hash_password(&name, &password)
        });
        let password = hashed.await.map_err(EnrolError::fault)??;
        let totp = TotpSecret::generate();
        let enrolment = totp.enrolment(ISSUER, &user).map_err(EnrolError::fault)?;
        let answer = EnrolAnswer {
            user: user.clone(),
            totp_secret: enrolment.secret.expose_secret().to_owned(),
            totp_uri: enrolment.uri.expose_secret().to_owned(),
        };
        let begun = Begun::new(user, password, totp, answer.clone());
        if self.memory.enrolments.keep(token_hash(token), begun, link.expires_at, self.now()) {
            Ok(answer)
        } else {
            Err(EnrolError::Busy(60))
        }
    }

    /// What the first step gave, to show it again.
    pub(crate) fn begun_enrolment(&self, token: &str) -> Option<EnrolAnswer> {
        self.memory.enrolments.with(&token_hash(token), |begun| begun.answer.clone())
    }

    /// Second step: checks a code, stores both factors and uses up the link. Sessions of the old factors end.
    pub(crate) async fn confirm_enrolment(
        self: &Arc<Self>,
        token: &str,
        code: &str,
        occasion: &Occasion,
    ) -> Result<UserName, EnrolError> {
        match self.finish_enrolment(token, code, occasion).await {
            Ok(user) => {
                self.forgive(&user).await;
                self.tidy_first_link().await;
                for session in self.sessions.of_user(&user) {
                    self.end_session(session.id(), SessionEndCause::Reenrolled).await;
                }
                Ok(user)
            }
            Err(error @ (EnrolError::Wait(_) | EnrolError::Busy(_))) => Err(error),
            Err(error) => {
                let kind = AuditKind::Enrol;
                self.note(self.event_of_stranger("", occasion, kind, error.word())).await;
                Err(error)
            }
        }
    }

    async fn finish_enrolment(
        &self,
        token: &str,
        code: &str,
        occasion: &Occasion,
    ) -> Result<UserName, EnrolError> {
        self.take_source(occasion.source).map_err(EnrolError::Wait)?;
        let now = self.now();
        let hash = token_hash(token);
        let code: String = code.split_whitespace().collect();
        let checked = self.memory.enrolments.with(&hash, |begun| check(begun, &code, now));
        let step = match checked {
            None => return Err(EnrolError::NotBegun),
            Some(Err(EnrolError::TooManyCodes)) => {
                self.memory.enrolments.take(&hash);
                return Err(EnrolError::TooManyCodes);
            }
            Some(checked) => checked?,
        };
        let Some(begun) = self.memory.enrolments.take(&hash) else {
            return Err(EnrolError::NotBegun);
        };
        let user = begun.user.clone();
        if !self.snapshot().may_sign_in(&user) {
            return Err(EnrolError::Link);
        }
        let sealed = self.sealer.seal(&totp_name(&user), begun.totp.as_bytes());
        let sealed = Sealed::new(sealed.map_err(EnrolError::fault)?);
        let password = SecretString::from(begun.password.as_str().to_owned());

        let mut event = self.event_of(occasion, AuditKind::Enrol, AuditOutcome::Done);
        event.principal = Principal::Person { user: user.clone() };
        event.target = Some(format!("User/{user}"));
        event.facts.insert("factors".to_owned(), "password,totp".to_owned());

        let mut tx = self.store.begin().await?;
        match tx.tokens().redeem_enrolment(&TokenHash::of(token), now).await? {
            Redemption::Accepted(link) if link.user == user => {}
            _ => return Err(EnrolError::Link),
        }
        tx.credentials().enrol(&user, &password, Some(&sealed), now).await?;
        // The code that confirmed the authenticator has been seen: it signs nobody in.
        tx.credentials().use_totp_step(&user, step).await?;
        tx.audit(&event)?;
        tx.commit().await?;
        Ok(user)
    }
}

fn check(begun: &mut Begun, code: &str, now: Timestamp) -> Result<u64, EnrolError> {
    match begun.totp.verify(code, None, now) {
        Ok(step) => Ok(step),
        Err(_) => {
            begun.wrong_codes += 1;
            if begun.wrong_codes >= WRONG_CODES {
                Err(EnrolError::TooManyCodes)
            } else {
                Err(EnrolError::Code)
            }
        }
    }
}
