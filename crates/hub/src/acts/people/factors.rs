//! The factors of a person: opened as they are stored, and one-time codes used up.

use nullius_authn::{PasswordHash, StoredFactors, TotpSecret, UserStanding};
use nullius_model::{Kind, Proof, UserName};
use nullius_store::{StoreError, TotpStep};
use secrecy::ExposeSecret;

use super::SignInRefusal;
use crate::Hub;

impl Hub {
    /// What is stored of a person's factors, opened.
    pub(crate) async fn factors(&self, user: &UserName) -> Result<Option<Factors>, SignInRefusal> {
        let snapshot = self.snapshot();
        let exists =
            user.as_str().parse().is_ok_and(|name| snapshot.object(Kind::User, &name).is_some());
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
        let last_step = credential.totp_step.max(self.memory.repairs.step_of(user));
        Ok(Some(Factors { standing, password: Some(password), totp, last_step }))
    }

    /// Uses up a code: false where it, or a later one, was used before.
    pub(super) async fn claim_code(
        &self,
        user: &UserName,
        step: u64,
        proof: &Proof,
    ) -> Result<bool, SignInRefusal> {
        match self.claim_in_store(user, step).await {
            Ok(claimed) => Ok(claimed),
            // The store takes nothing: those who can mend that use the code up in memory, and in the reserve.
            Err(_) if self.may_repair(user, proof) => Ok(self.memory.repairs.claim(user, step)),
            Err(error) => Err(error.into()),
        }
    }

    /// Uses up a code in the store alone.
    pub(crate) async fn claim_in_store(
        &self,
        user: &UserName,
        step: u64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.begin().await?;
        let accepted = tx.credentials().use_totp_step(user, step).await? == TotpStep::Accepted;
        if accepted {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(accepted)
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
    pub(crate) fn borrowed(&self) -> StoredFactors<'_> {
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
