//! People prove who they are: sign-in, step-up, enrolment. Everything that can fail is audited with its reason, and
//! whoever tried learns only that it failed.

mod attempts;
mod enrol;
mod first_link;
mod repair;
mod session;

use std::sync::Arc;

use http::StatusCode;
use nullius_access::{Caller, judge_standing};
use nullius_authn::{
    PasswordHash, SignInReason, SignedIn, StoredFactors, TotpSecret, UserStanding,
};
use nullius_model::{
    AuditEvent, AuditKind, AuditOutcome, Explanation, Identity, Principal, Proof, SessionId,
    Timestamp, UserName,
};
use nullius_store::{StoreError, TotpStep};
use secrecy::{ExposeSecret, SecretString};

pub(crate) use enrol::EnrolError;
pub(crate) use repair::Repairs;

use crate::{
    Hub, SignInOutcome,
    limits::Turn,
    logins::Proven,
    web::{Call, Problem},
};

/// Why nobody is signed in, in words for whoever tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignInRefusal {
    #[error("user, password or code is wrong")]
    Wrong,
    #[error("the code is wrong or was used before; wait for the next one")]
    WrongCode,
    #[error("too many tries: wait {0} s")]
    Wait(u32),
    #[error("the hub is busy: try again in {0} s")]
    Busy(u32),
    #[error("{}", .0.sentence)]
    Stopped(Explanation),
    #[error("the hub cannot record sign-ins at present: try again in {RETRY} s")]
    Unrecorded(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the hub could not do this because of a fault of its own")]
    Fault(#[source] Box<dyn std::error::Error + Send + Sync>),
}

const RETRY: u32 = 10;
/// The reason of a refusal for lack of room.
const NOT_LOOKED_AT: &str = "not-looked-at";

impl SignInRefusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Wrong | Self::WrongCode => StatusCode::UNAUTHORIZED,
            Self::Wait(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy(_) | Self::Unrecorded(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Stopped(_) => StatusCode::FORBIDDEN,
            Self::Fault(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn outcome(&self) -> SignInOutcome {
        match self {
            Self::Wrong | Self::WrongCode | Self::Stopped(_) => SignInOutcome::Refused,
            Self::Wait(_) | Self::Busy(_) | Self::Unrecorded(_) | Self::Fault(_) => {
                SignInOutcome::HeldBack
            }
        }
    }

    pub(crate) fn fault(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Fault(Box::new(error))
    }
}

impl From<StoreError> for SignInRefusal {
    fn from(error: StoreError) -> Self {
        match error {
            error @ (StoreError::Audit(_) | StoreError::Database { .. }) => {
                Self::Unrecorded(Box::new(error))
            }
            StoreError::Busy => Self::Busy(2),
            error => Self::fault(error),
        }
    }
}

impl From<SignInRefusal> for Problem {
    fn from(refusal: SignInRefusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            SignInRefusal::Wrong => Self::unauthenticated(text)
                .next("check all three; each code works once, so wait for the next one"),
            SignInRefusal::WrongCode => Self::unauthenticated(text),
            SignInRefusal::Wait(seconds) => Self::wait(text, seconds),
            SignInRefusal::Busy(seconds) => Self::unavailable(text, seconds),
            SignInRefusal::Stopped(explanation) => Self::denied(explanation),
            SignInRefusal::Unrecorded(error) => {
                tracing::warn!(%error, "refused a sign-in that could not be recorded");
                Self::unavailable(text, RETRY)
            }
            SignInRefusal::Fault(error) => Self::internal(error.as_ref()),
        }
    }
}

/// A sign-in that failed, for the audit.
struct Failed {
    reason: &'static str,
    refusal: SignInRefusal,
}

impl Hub {
    /// Looks at password and code of somebody who wants to sign in. Once it is looked at all, the attempt is counted
    /// and recorded, whether or not the caller waits for the answer.
    pub(crate) async fn prove(
        self: &Arc<Self>,
        user: &str,
        password: SecretString,
        code: &str,
        call: &Call,
    ) -> Result<Proven, SignInRefusal> {
        let (user, code) = (user.trim().to_owned(), code.split_whitespace().collect::<String>());
        let turn = match self.turn_to_prove(&user, call).await {
            Ok(turn) => turn,
            Err(failed) => return Err(self.failed_sign_in(&user, failed, call).await),
        };
        let (hub, call) = (Arc::clone(self), call.clone());
        let tried = tokio::spawn(async move {
            match hub.look_at(&user, password, code, turn, &call).await {
                Ok(proven) => Ok(proven),
                Err(failed) => Err(hub.failed_sign_in(&user, failed, &call).await),
            }
        });
        tried.await.unwrap_or_else(|error| Err(SignInRefusal::fault(error)))
    }

    async fn failed_sign_in(&self, user: &str, failed: Failed, call: &Call) -> SignInRefusal {
        let Failed { reason, refusal } = failed;
        self.metrics.sign_in(refusal.outcome());
        // Who is sent away unseen has not tried; a flood of them must not fill the audit.
        if reason != NOT_LOOKED_AT {
            let mut event = self.event_of(call, AuditKind::SignIn, AuditOutcome::Denied);
            event.principal = unproven(user);
            event.facts.insert("reason".to_owned(), reason.to_owned());
            self.note(event).await;
        }
        refusal
    }

    /// Waits for room to hash a password. Whoever has to wait before their next attempt takes nobody's place.
    async fn turn_to_prove(&self, user: &str, call: &Call) -> Result<Turn, Failed> {
        let not_looked_at = |refusal| Failed { reason: NOT_LOOKED_AT, refusal };
        let now = self.this_second();
        self.take_source(call.source)
            .map_err(|seconds| not_looked_at(SignInRefusal::Wait(seconds)))?;
        if let Some(seconds) = self.held_back(user, call.source, now) {
            return Err(Failed { reason: "held-back", refusal: SignInRefusal::Wait(seconds) });
        }
        let turn = self.hash_room.enter(self.visitor(user, call.source, now)).await;
        turn.map_err(|busy| not_looked_at(SignInRefusal::Busy(busy.retry_after)))
    }

    async fn look_at(
        &self,
        user: &str,
        password: SecretString,
        code: String,
        turn: Turn,
        call: &Call,
    ) -> Result<Proven, Failed> {
        let failed = |reason| move |refusal: SignInRefusal| Failed { reason, refusal };
        let now = self.this_second();
        self.count_attempt(user, call.source, now)
            .await
            .map_err(|seconds| failed("held-back")(SignInRefusal::Wait(seconds)))?;
        let known: Option<UserName> = user.parse().ok();
        let stored = match &known {
            Some(user) => self.factors(user).await.map_err(failed("fault"))?,
            None => None,
        };
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let factors = stored.as_ref().map(Factors::borrowed);
            nullius_authn::sign_in(factors.as_ref(), &password, &code, now)
        });
        let checked =
            checked.await.map_err(|error| failed("fault")(SignInRefusal::fault(error)))?;
        let signed_in =
            checked.map_err(|error| failed(error.reason.as_str())(SignInRefusal::Wrong))?;
        let user = known.ok_or_else(|| failed("unknown-user")(SignInRefusal::Wrong))?;
        let SignedIn { factors, factor_at, totp_step } = signed_in;
        let proof = Proof { factors, factor_at };
        if !self.claim_code(&user, totp_step, &proof).await.map_err(failed("fault"))? {
            let reason = SignInReason::CodeReplayed.as_str();
            return Err(failed(reason)(SignInRefusal::Wrong));
        }
        self.standing_of(&user, &proof, now).map_err(|why| Failed {
            reason: why.reason.as_str(),
            refusal: SignInRefusal::Stopped(why),
        })?;
        self.count_success(user.as_str(), call.source, now).await;
        Ok(Proven { user, proof })
    }

    /// Why a person whose factors were right may not sign in all the same: gone, or locked.
    pub(crate) fn standing_of(
        &self,
        user: &UserName,
        proof: &Proof,
        now: Timestamp,
    ) -> Result<(), Explanation> {
        let snapshot = self.snapshot();
        let identity = Identity {
            user: user.clone(),
            groups: snapshot.groups_of(user),
            session: SessionId::from_bits(0),
            proof: proof.clone(),
            signed_in_at: now,
            expires_at: Timestamp::MAX,
        };
        match judge_standing(&snapshot, &Caller::new(&identity), now) {
            Some(judgement) => Err(judgement.explanation),
            None => Ok(()),
        }
    }

    /// What is stored of a person's factors, opened.
    async fn factors(&self, user: &UserName) -> Result<Option<Factors>, SignInRefusal> {
        let snapshot = self.snapshot();
        let exists = user
            .as_str()
            .parse()
            .is_ok_and(|name| snapshot.object(nullius_model::Kind::User, &name).is_some());
        if !exists {
            return Ok(None);
        }
        let standing = match snapshot.may_sign_in(user) {
            true => UserStanding::Active,
            false => UserStanding::Disabled,
        };
        let credential = self.store.read().await?.credentials().find(user).await?;
        let Some(credential) = credential else {
            return Ok(Some(Factors { standing, password: None, totp: None, last_step: None }));
        };
        let password = PasswordHash::from_stored(credential.password.expose_secret());
        let password = password.map_err(SignInRefusal::fault)?;
        let totp = match &credential.totp {
            Some(sealed) => {
                let opened = self.sealer.open_sealed(&totp_name(user), sealed.as_bytes());
                let opened = opened.map_err(SignInRefusal::fault)?;
                Some(TotpSecret::from_bytes(&opened).map_err(SignInRefusal::fault)?)
            }
            None => None,
        };
        let last_step = credential.totp_step.max(self.repairs.step_of(user));
        Ok(Some(Factors { standing, password: Some(password), totp, last_step }))
    }

    /// Uses up a code: false where it, or a later one, was used before.
    async fn claim_code(
        &self,
        user: &UserName,
        step: u64,
        proof: &Proof,
    ) -> Result<bool, SignInRefusal> {
        match self.claim_in_store(user, step).await {
            Ok(claimed) => Ok(claimed),
            // The store takes nothing: those who can mend that use the code up in memory, and in the reserve.
            Err(_) if self.may_repair(user, proof) => Ok(self.repairs.claim(user, step)),
            Err(error) => Err(error.into()),
        }
    }

    async fn claim_in_store(&self, user: &UserName, step: u64) -> Result<bool, StoreError> {
        let mut tx = self.store.begin().await?;
        let accepted = tx.credentials().use_totp_step(user, step).await? == TotpStep::Accepted;
        if accepted {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(accepted)
    }

    /// Records a code that was not exchanged.
    pub(crate) async fn note_failed_exchange(
        &self,
        call: &Call,
        error: &crate::logins::LoginError,
    ) {
        let mut event = self.event_of(call, AuditKind::SignIn, AuditOutcome::Denied);
        event.principal = unproven("");
        event.facts.insert("reason".to_owned(), error.to_string());
        self.note(event).await;
    }

    /// An audit event of a call, to be completed.
    pub(crate) fn event_of(
        &self,
        call: &Call,
        kind: AuditKind,
        outcome: AuditOutcome,
    ) -> AuditEvent {
        AuditEvent {
            audit_id: call.id.clone(),
            source: Some(call.source),
            ..self.own_event(kind, outcome)
        }
    }

    /// An audit event of the hub itself, to be completed.
    pub(crate) fn own_event(&self, kind: AuditKind, outcome: AuditOutcome) -> AuditEvent {
        AuditEvent::new(self.new_audit_id(), self.now(), kind, outcome, Principal::Hub)
    }
}

/// A person's factors, opened.
pub(crate) struct Factors {
    standing: UserStanding,
    password: Option<PasswordHash>,
    totp: Option<TotpSecret>,
    last_step: Option<u64>,
}

impl Factors {
    fn borrowed(&self) -> StoredFactors<'_> {
        StoredFactors {
            standing: self.standing,
            password: self.password.as_ref(),
            totp: self.totp.as_ref(),
            last_totp_step: self.last_step,
        }
    }
}

/// The name under which a person's one-time code secret is sealed.
pub(crate) fn totp_name(user: &UserName) -> String {
    format!("totp/{user}")
}

/// Somebody who was not proven, with the name they gave, cut and escaped.
pub(crate) fn unproven(claimed: &str) -> Principal {
    Principal::Unproven {
        claimed: claimed.chars().take(128).flat_map(char::escape_debug).collect(),
    }
}

fn seconds_until(until: Timestamp, now: Timestamp) -> u32 {
    let seconds = until.duration_since(now).as_secs() + 1;
    u32::try_from(seconds).unwrap_or(1).max(1)
}
