//! Password and code, from what was typed to somebody who is proven: how often may they try → is there room to look →
//! are both right → was the code used before → may this person sign in at all.

use std::sync::Arc;

use nullius_authn::{SignInReason, SignedIn};
use nullius_model::{AuditKind, Explanation, Proof, Timestamp, UserName};
use secrecy::SecretString;

use super::{Proven, SignInRefusal, factors::Factors};
use crate::{Hub, decide::as_if_signed_in, limits::Turn, record::Occasion};

/// The reason of a refusal for lack of room.
const NOT_LOOKED_AT: &str = "not-looked-at";

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
        occasion: &Occasion,
    ) -> Result<Proven, SignInRefusal> {
        let (user, code) = (user.trim().to_owned(), code.split_whitespace().collect::<String>());
        let turn = match self.turn_to_prove(&user, occasion).await {
            Ok(turn) => turn,
            Err(failed) => return Err(self.failed_sign_in(&user, failed, occasion).await),
        };
        let (hub, occasion) = (Arc::clone(self), occasion.clone());
        let tried = tokio::spawn(async move {
            match hub.look_at(&user, password, code, turn, &occasion).await {
                Ok(proven) => Ok(proven),
                Err(failed) => Err(hub.failed_sign_in(&user, failed, &occasion).await),
            }
        });
        tried.await.unwrap_or_else(|error| Err(SignInRefusal::fault(error)))
    }

    async fn failed_sign_in(
        &self,
        user: &str,
        failed: Failed,
        occasion: &Occasion,
    ) -> SignInRefusal {
        let Failed { reason, refusal } = failed;
        self.metrics.sign_in(refusal.outcome());
        // Who is sent away unseen has not tried; a flood of them must not fill the audit.
        if reason != NOT_LOOKED_AT {
            let kind = AuditKind::SignIn;
            self.note(self.event_of_stranger(user, occasion, kind, reason)).await;
        }
        refusal
    }

    /// Waits for room to hash a password. Whoever has to wait before their next attempt takes nobody's place.
    async fn turn_to_prove(&self, user: &str, occasion: &Occasion) -> Result<Turn, Failed> {
        let not_looked_at = |refusal| Failed { reason: NOT_LOOKED_AT, refusal };
        let now = self.this_second();
        self.take_source(occasion.source)
            .map_err(|seconds| not_looked_at(SignInRefusal::Wait(seconds)))?;
        if let Some(seconds) = self.held_back(user, occasion.source, now) {
            return Err(Failed { reason: "held-back", refusal: SignInRefusal::Wait(seconds) });
        }
        let turn = self.hash_room.enter(self.visitor(user, occasion.source, now)).await;
        turn.map_err(|busy| not_looked_at(SignInRefusal::Busy(busy.retry_after)))
    }

    async fn look_at(
        &self,
        user: &str,
        password: SecretString,
        code: String,
        turn: Turn,
        occasion: &Occasion,
    ) -> Result<Proven, Failed> {
        let failed = |reason| move |refusal: SignInRefusal| Failed { reason, refusal };
        let now = self.this_second();
        self.count_attempt(user, occasion.source, now)
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
        self.count_success(user.as_str(), occasion.source, now).await;
        Ok(Proven { user, proof })
    }

    /// Why a person whose factors were right may not sign in all the same: gone, or locked.
    pub(crate) fn standing_of(
        &self,
        user: &UserName,
        proof: &Proof,
        now: Timestamp,
    ) -> Result<(), Explanation> {
        let (snapshot, proof) = (self.snapshot(), proof.clone());
        self.standing(&as_if_signed_in(&snapshot, user, proof, now, Timestamp::MAX), now)
    }
}
