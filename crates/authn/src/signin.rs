//! The sign-in ceremony: password and one-time code, both looked at, one answer.
//!
//! Whoever fails learns that something was wrong and never what: not whether the user exists, nor which factor was
//! right. The reason goes to the audit.

use std::collections::BTreeSet;

use nullius_model::{Factor, Timestamp};
use secrecy::SecretString;

use crate::{PasswordHash, TotpError, TotpSecret, verify_password};

/// Whether a user may sign in at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserStanding {
    /// They may.
    Active,
    /// They were disabled or locked.
    Disabled,
}

/// What is stored of a user's factors.
pub struct StoredFactors<'a> {
    /// Whether the user may sign in at all.
    pub standing: UserStanding,
    /// The password, once enrolled.
    pub password: Option<&'a PasswordHash>,
    /// The one-time code's secret, once enrolled.
    pub totp: Option<&'a TotpSecret>,
    /// The last step of the one-time code that was used.
    pub last_totp_step: Option<u64>,
}

/// Why a sign-in failed: for the audit, not for who tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignInReason {
    /// No such user.
    UnknownUser,
    /// The user may not sign in.
    Disabled,
    /// The user has not enrolled both factors.
    NotEnrolled,
    /// The password is wrong.
    Password,
    /// The code is wrong.
    Code,
    /// The code was used before.
    CodeReplayed,
}

impl SignInReason {
    /// The reason as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownUser => "unknown-user",
            Self::Disabled => "disabled",
            Self::NotEnrolled => "not-enrolled",
            Self::Password => "wrong-password",
            Self::Code => "wrong-code",
            Self::CodeReplayed => "code-replayed",
        }
    }
}

/// A failed sign-in. Its text is the same for every reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("user, password or code is wrong")]
pub struct SignInError {
    /// For the audit.
    pub reason: SignInReason,
}

/// What was proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedIn {
    /// The factors.
    pub factors: BTreeSet<Factor>,
    /// When.
    pub factor_at: Timestamp,
    /// The step of the one-time code; store it only where it is still greater than what is stored, in one
    /// transaction, and take a failure of that for [`SignInReason::CodeReplayed`].
    pub totp_step: u64,
}

/// Judges user, password and code together. `stored` is absent for a user who does not exist; that takes as long.
pub fn sign_in(
    stored: Option<&StoredFactors<'_>>,
    password: &SecretString,
    code: &str,
    now: Timestamp,
) -> Result<SignedIn, SignInError> {
    let hash = stored.and_then(|stored| stored.password);
    let password_is_right = verify_password(password, hash);
    let code = check_code(stored, code, now);
    let refuse = |reason| Err(SignInError { reason });
    let Some(stored) = stored else { return refuse(SignInReason::UnknownUser) };
    if stored.password.is_none() || stored.totp.is_none() {
        return refuse(SignInReason::NotEnrolled);
    }
    if !password_is_right {
        return refuse(SignInReason::Password);
    }
    let totp_step = code.map_err(|reason| SignInError { reason })?;
    match stored.standing {
        UserStanding::Active => {}
        UserStanding::Disabled => return refuse(SignInReason::Disabled),
    }
    let factors = BTreeSet::from([Factor::Password, Factor::Totp]);
    Ok(SignedIn { factors, factor_at: now, totp_step })
}

/// Judges a fresh code of somebody who is signed in, for what asks for a fresh factor.
pub fn step_up(
    stored: &StoredFactors<'_>,
    code: &str,
    now: Timestamp,
) -> Result<SignedIn, SignInError> {
    match stored.standing {
        UserStanding::Active => {}
        UserStanding::Disabled => return Err(SignInError { reason: SignInReason::Disabled }),
    }
    let totp_step = check_code(Some(stored), code, now).map_err(|reason| SignInError { reason })?;
    Ok(SignedIn { factors: BTreeSet::from([Factor::Totp]), factor_at: now, totp_step })
}

fn check_code(
    stored: Option<&StoredFactors<'_>>,
    code: &str,
    now: Timestamp,
) -> Result<u64, SignInReason> {
    let stranger;
    let (secret, last_used) = match stored {
        Some(StoredFactors { totp: Some(secret), last_totp_step, .. }) => {
            (*secret, *last_totp_step)
        }
        Some(_) | None => {
            stranger = TotpSecret::generate();
            let _ = stranger.verify(code, None, now);
            return Err(SignInReason::NotEnrolled);
        }
    };
    secret.verify(code, last_used, now).map_err(|error| match error {
        TotpError::Replayed => SignInReason::CodeReplayed,
        TotpError::Wrong | TotpError::Secret | TotpError::Issuer => SignInReason::Code,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use secrecy::ExposeSecret;

    use super::*;
    use crate::hash_password;

    const PASSWORD: &str = "correct horse battery";

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_111_111_111).unwrap()
    }

    #[test]
    fn both_factors_open_and_each_failure_says_the_same() {
        let hash = hash_password(&"ada".parse().unwrap(), &secret(PASSWORD)).unwrap();
        let totp = TotpSecret::from_bytes(b"12345678901234567890").unwrap();
        let code = totp.code(now()).unwrap();
        let code = code.expose_secret();
        let stored = |standing, password, totp, last_totp_step| StoredFactors {
            standing,
            password,
            totp,
            last_totp_step,
        };
        let active = stored(UserStanding::Active, Some(&hash), Some(&totp), None);

        let done = sign_in(Some(&active), &secret(PASSWORD), code, now()).unwrap();
        assert_eq!(done.factors, BTreeSet::from([Factor::Password, Factor::Totp]));
        let step = done.totp_step;

        let used = stored(UserStanding::Active, Some(&hash), Some(&totp), Some(step));
        let disabled = stored(UserStanding::Disabled, Some(&hash), Some(&totp), None);
        let half = stored(UserStanding::Active, Some(&hash), None, None);
        let cases = [
            (None, PASSWORD, code, SignInReason::UnknownUser),
            (Some(&active), "wrong horse battery", code, SignInReason::Password),
            (Some(&active), PASSWORD, "000000", SignInReason::Code),
            (Some(&active), PASSWORD, "", SignInReason::Code),
            (Some(&used), PASSWORD, code, SignInReason::CodeReplayed),
            (Some(&disabled), PASSWORD, code, SignInReason::Disabled),
            (Some(&disabled), "wrong horse battery", code, SignInReason::Password),
            (Some(&half), PASSWORD, code, SignInReason::NotEnrolled),
        ];
        for (stored, password, code, reason) in cases {
            let error = sign_in(stored, &secret(password), code, now()).unwrap_err();
            assert_eq!(error.reason, reason);
            assert_eq!(error.to_string(), "user, password or code is wrong");
        }
    }

    #[test]
    fn a_step_up_takes_a_fresh_code_alone() {
        let totp = TotpSecret::from_bytes(b"12345678901234567890").unwrap();
        let code = totp.code(now()).unwrap();
        let mut stored = StoredFactors {
            standing: UserStanding::Active,
            password: None,
            totp: Some(&totp),
            last_totp_step: None,
        };
        let done = step_up(&stored, code.expose_secret(), now()).unwrap();
        assert_eq!(done.factors, BTreeSet::from([Factor::Totp]));
        stored.last_totp_step = Some(done.totp_step);
        let error = step_up(&stored, code.expose_secret(), now()).unwrap_err();
        assert_eq!(error.reason, SignInReason::CodeReplayed);
    }
}
