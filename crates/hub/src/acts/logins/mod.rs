//! Sign-ins that one program begins and a browser completes: codes bound to the client (RFC 7636, S256) and
//! device codes (RFC 8628). They outlive a restart of the hub; what stands of them in the store are hashes.

mod browser;
mod device;
mod loopback;

use nullius_model::{SessionId, Ttl};
use nullius_store::{Approval, Credential, LoginCode, StoreError};

use super::people::{Proven, Redeemed};
use crate::Hub;

pub(crate) use browser::BrowserRequest;
pub(crate) use device::{DeviceCodes, DeviceRequest, Poll};
pub(crate) use loopback::Loopback;

/// How long a browser has to complete a sign-in.
pub(crate) const BROWSER_LOGIN_TTL: Ttl = Ttl::from_secs(600);
/// How long a code can be exchanged, and how long its reuse is noticed.
const CODE_TTL: Ttl = Ttl::from_secs(60);
/// How long an ended sign-in is remembered, so that its code or request is known when it comes again.
pub(crate) const LOGIN_MEMORY: Ttl = Ttl::from_secs(600);

/// Why a sign-in cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error(
        "the challenge is not 43 characters of base64url: it must be the SHA-256 of the verifier (S256)"
    )]
    Challenge,
    #[error("the state is empty or longer than 512 characters")]
    State,
    #[error("the redirect must be `http://127.0.0.1:PORT/` or `http://[::1]:PORT/`")]
    Redirect,
    #[error("too many tries: wait {0} s")]
    Wait(u32),
    #[error("too many sign-ins are under way")]
    Full,
    #[error("this sign-in is unknown, has ended or was completed")]
    Unknown,
    #[error("the code is unknown or has ended")]
    Code,
    #[error("the code was used before")]
    CodeReused(Option<SessionId>),
    #[error("the code belongs to another client: the verifier does not fit")]
    Verifier,
    #[error("the code belongs to another redirect")]
    OtherRedirect,
    #[error("who approved this has set new factors since: sign in anew")]
    Outdated,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PartialEq for LoginError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Hub {
    /// Who approved a sign-in, unless their factors have changed since.
    async fn approver(&self, login: LoginCode) -> Result<Redeemed, LoginError> {
        let Some(Approval { user, proof, .. }) = login.approval.clone() else {
            return Err(LoginError::Unknown);
        };
        let credential = self.store.read().await?.credentials().find(&user).await?;
        // Whole seconds: what was proven in the second of the enrolment came after it.
        let newer = |credential: Credential| {
            proof.factor_at.as_second() < credential.changed_at.as_second()
        };
        if credential.is_none_or(newer) {
            return Err(LoginError::Outdated);
        }
        Ok(Redeemed { proven: Proven { user, proof }, login })
    }

    fn approval(&self, proven: Proven) -> Approval {
        let Proven { user, proof } = proven;
        Approval { user, proof, signed_in_at: self.this_second(), session: None }
    }
}
