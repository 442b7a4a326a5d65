//! One-time codes by time (RFC 6238): SHA-1, six digits, 30 seconds, one step of tolerance, each step used once.

use nullius_model::{Timestamp, UserName};
use nullius_pki::random_bytes;
use secrecy::SecretString;
use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;

const SECRET_LEN: usize = 20;
const STEP_SECS: u64 = 30;

/// Why a code is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TotpError {
    /// Not six digits, or not the code of this time.
    #[error("the code is wrong")]
    Wrong,
    /// This code, or a later one, was used.
    #[error("the code was used before; wait for the next one")]
    Replayed,
    /// A stored secret that is none.
    #[error("the stored one-time code secret is malformed; enrol the user anew")]
    Secret,
    /// An issuer that cannot stand in a link.
    #[error("the issuer must not be empty or hold a `:`")]
    Issuer,
}

/// The secret that a person's authenticator shares with the hub: 160 random bits.
pub struct TotpSecret(Zeroizing<[u8; SECRET_LEN]>);

/// What a person puts into the authenticator.
pub struct TotpEnrolment {
    /// The `otpauth://` link, for a QR code.
    pub uri: SecretString,
    /// The secret in base32, to be typed.
    pub secret: SecretString,
}

impl TotpSecret {
    /// Makes a new secret.
    pub fn generate() -> Self {
        Self(Zeroizing::new(random_bytes()))
    }

    /// Takes a secret from the store.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TotpError> {
        Ok(Self(Zeroizing::new(bytes.try_into().map_err(|_| TotpError::Secret)?)))
    }

    /// The secret, to be sealed.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Link and text for the authenticator.
    pub fn enrolment(&self, issuer: &str, user: &UserName) -> Result<TotpEnrolment, TotpError> {
        if issuer.is_empty() {
            return Err(TotpError::Issuer);
        }
        let builder = self.builder().with_account_name(user.as_str()).with_issuer(Some(issuer));
        let totp = builder.build().map_err(|_| TotpError::Issuer)?;
        Ok(TotpEnrolment {
            uri: SecretString::from(totp.to_url().map_err(|_| TotpError::Issuer)?),
            secret: SecretString::from(totp.secret().to_base32()),
        })
    }

    /// Checks a code, and gives the step that it belongs to: the caller stores it, and passes it as `last_used` the
    /// next time. A step that is not after `last_used` is refused, so that a code seen over a shoulder is worth nothing.
    pub fn verify(
        &self,
        code: &str,
        last_used: Option<u64>,
        now: Timestamp,
    ) -> Result<u64, TotpError> {
        let code = code.trim();
        if code.len() != 6 || !code.bytes().all(|c| c.is_ascii_digit()) {
            return Err(TotpError::Wrong);
        }
        let seconds = u64::try_from(now.as_second()).map_err(|_| TotpError::Wrong)?;
        let step = self.totp()?.check(code, seconds).ok_or(TotpError::Wrong)?;
        if last_used.is_some_and(|last_used| step <= last_used) {
            return Err(TotpError::Replayed);
        }
        Ok(step)
    }

    /// The code of a moment, as an authenticator shows it.
    pub fn code(&self, now: Timestamp) -> Result<SecretString, TotpError> {
        let seconds = u64::try_from(now.as_second()).map_err(|_| TotpError::Wrong)?;
        Ok(SecretString::from(self.totp()?.generate(seconds).to_string()))
    }

    fn totp(&self) -> Result<Totp, TotpError> {
        self.builder().build().map_err(|_| TotpError::Secret)
    }

    fn builder(&self) -> Builder {
        Builder::new()
            .with_secret(Secret::new_stack(*self.0))
            .with_step_duration(STEP_SECS)
            .with_skew(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use secrecy::ExposeSecret;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn rfc_secret() -> TotpSecret {
        TotpSecret::from_bytes(b"12345678901234567890").unwrap()
    }

    #[test]
    fn the_vectors_of_rfc_6238_hold() {
        // Appendix B, SHA-1; the last six of the eight digits.
        for (second, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(rfc_secret().code(at(second)).unwrap().expose_secret(), code);
            let step = u64::try_from(second).unwrap() / 30;
            assert_eq!(rfc_secret().verify(code, None, at(second)), Ok(step));
        }
    }

    #[test]
    fn one_step_of_tolerance_and_no_more() {
        let verify = |second| rfc_secret().verify("050471", None, at(second));
        let step = 1_111_111_111 / 30;
        let begin = 1_111_111_110;
        assert_eq!(verify(begin - 30), Ok(step));
        assert_eq!(verify(begin + 59), Ok(step));
        assert_eq!(verify(begin - 31), Err(TotpError::Wrong));
        assert_eq!(verify(begin + 60), Err(TotpError::Wrong));
    }

    #[test]
    fn a_code_is_good_once_and_an_older_one_never_again() {
        let now = at(1_111_111_111);
        let step = rfc_secret().verify("050471", None, now).unwrap();
        assert_eq!(rfc_secret().verify("050471", Some(step), now), Err(TotpError::Replayed));
        let older = rfc_secret().code(at(1_111_111_111 - 30)).unwrap();
        let again = rfc_secret().verify(older.expose_secret(), Some(step), now);
        assert_eq!(again, Err(TotpError::Replayed));
        assert_eq!(rfc_secret().verify("050471", Some(step - 1), now), Ok(step));
    }

    #[test]
    fn what_is_no_code_is_wrong() {
        for bad in ["", "05047", "0504711", "abcdef", "０５０４７１", "-50471", "+50471"] {
            let verdict = rfc_secret().verify(bad, None, at(1_111_111_111));
            assert_eq!(verdict, Err(TotpError::Wrong), "{bad}");
        }
        assert!(TotpSecret::from_bytes(b"short").is_err());
    }

    #[test]
    fn the_link_is_what_authenticators_read() {
        let user = "ada@example.org".parse().unwrap();
        let enrolment = rfc_secret().enrolment("Nullius dev", &user).unwrap();
        assert_eq!(
            enrolment.uri.expose_secret(),
            "otpauth://totp/Nullius%20dev:ada%40example.org?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Nullius%20dev"
        );
        assert!(rfc_secret().enrolment("a:b", &user).is_err());
        assert!(rfc_secret().enrolment("", &user).is_err());
    }
}
