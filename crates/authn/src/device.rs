//! Sign-in on a machine without a browser (RFC 8628): the machine polls while a person confirms a short code elsewhere.

use std::{fmt, str::FromStr};

use jiff::SignedDuration;
use nullius_model::{Timestamp, Ttl, UserName};
use nullius_pki::{random_bytes, random_token, token_hash};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

/// How long a person has to confirm.
pub const DEVICE_CODE_TTL: Ttl = Ttl::from_secs(600);

/// The letters of RFC 8628, section 6.1: no vowels, so that no words come out, and nothing that looks like a digit.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const CODE_LEN: usize = 8;
const INTERVAL_MAX_SECS: u32 = 60;

/// The short code that a person reads on one screen and confirms on another: `BCDF-GHJK`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserCode([u8; CODE_LEN]);

/// Text that is no user code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code has eight letters, such as `BCDF-GHJK`; look at the screen that shows it")]
pub struct UserCodeError;

impl UserCode {
    /// A new code. Bytes that would make some letters likelier are drawn again.
    pub fn generate() -> Self {
        let mut code = [0; CODE_LEN];
        let mut filled = 0;
        while filled < CODE_LEN {
            for byte in random_bytes::<16>().into_iter().filter(|byte| *byte < 240) {
                let Some(place) = code.get_mut(filled) else { break };
                *place = LETTERS[usize::from(byte % 20)];
                filled += 1;
            }
        }
        Self(code)
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, letter) in self.0.iter().enumerate() {
            if place == CODE_LEN / 2 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(*letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserCode(..)")
    }
}

impl FromStr for UserCode {
    type Err = UserCodeError;
    /// Reads a code as people type it: in any case, with spaces or hyphens anywhere.
    fn from_str(text: &str) -> Result<Self, UserCodeError> {
        let mut code = [0; CODE_LEN];
        let mut filled = 0;
        for letter in text.bytes().filter(|c| !matches!(c, b' ' | b'-')) {
            let letter = letter.to_ascii_uppercase();
            let place = code.get_mut(filled).ok_or(UserCodeError)?;
            if !LETTERS.contains(&letter) {
                return Err(UserCodeError);
            }
            *place = letter;
            filled += 1;
        }
        if filled == CODE_LEN { Ok(Self(code)) } else { Err(UserCodeError) }
    }
}

impl TryFrom<String> for UserCode {
    type Error = UserCodeError;
    fn try_from(text: String) -> Result<Self, UserCodeError> {
        text.parse()
    }
}

impl From<UserCode> for String {
    fn from(code: UserCode) -> Self {
        code.to_string()
    }
}

/// A sign-in that a machine began.
pub struct DeviceAuthorization {
    /// What the machine polls with; only it knows.
    pub device_code: SecretString,
    /// What the person types.
    pub user_code: UserCode,
    /// What is stored.
    pub grant: DeviceGrant,
}

/// Where a machine's sign-in stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeviceState {
    /// The person has not decided.
    Pending,
    /// The person signed in and confirmed.
    Approved { user: UserName },
    /// The person said that it was not them.
    Denied,
    /// The machine got its session.
    Spent,
}

/// What is stored of a machine's sign-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceGrant {
    /// SHA-256 of the device code.
    pub device_code_hash: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How long the machine waits between two questions, in seconds.
    pub interval_secs: u32,
    /// When the machine last asked.
    pub polled_at: Option<Timestamp>,
    /// Where it stands.
    pub state: DeviceState,
}

/// The answer to a machine that asks (RFC 8628, section 3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollAnswer {
    /// `authorization_pending`.
    Pending,
    /// `slow_down`: it asked too soon, and waits longer from now on.
    SlowDown,
    /// `access_denied`.
    Denied,
    /// `expired_token`.
    Expired,
    /// This person's session may be made, once.
    Approved(UserName),
}

impl DeviceAuthorization {
    /// Begins a machine's sign-in.
    pub fn begin(now: Timestamp) -> Self {
        let device_code = random_token();
        let user_code = UserCode::generate();
        let grant = DeviceGrant {
            device_code_hash: token_hash(device_code.expose_secret()),
            expires_at: DEVICE_CODE_TTL.after(now),
            interval_secs: DeviceGrant::INTERVAL_SECS,
            polled_at: None,
            state: DeviceState::Pending,
        };
        Self { device_code, user_code, grant }
    }
}

impl DeviceGrant {
    /// How long a machine waits between two questions at first, in seconds.
    pub const INTERVAL_SECS: u32 = 5;

    /// The person's decision: `Some` for who confirmed, `None` for a no. Only a pending grant can be decided.
    pub fn decide(mut self, user: Option<UserName>, now: Timestamp) -> (Self, PollAnswer) {
        if now >= self.expires_at || self.state != DeviceState::Pending {
            return (self, PollAnswer::Expired);
        }
        match user {
            Some(user) => {
                self.state = DeviceState::Approved { user: user.clone() };
                (self, PollAnswer::Approved(user))
            }
            None => {
                self.state = DeviceState::Denied;
                (self, PollAnswer::Denied)
            }
        }
    }

    /// The machine asks.
    pub fn poll(mut self, now: Timestamp) -> (Self, PollAnswer) {
        if now >= self.expires_at {
            return (self, PollAnswer::Expired);
        }
        let interval = SignedDuration::from_secs(self.interval_secs.into());
        let too_soon = self.polled_at.is_some_and(|last| now.duration_since(last) < interval);
        self.polled_at = Some(now);
        match &self.state {
            DeviceState::Spent => (self, PollAnswer::Expired),
            DeviceState::Denied => (self, PollAnswer::Denied),
            DeviceState::Approved { user } => {
                let user = user.clone();
                self.state = DeviceState::Spent;
                (self, PollAnswer::Approved(user))
            }
            DeviceState::Pending if too_soon => {
                self.interval_secs = (self.interval_secs + 5).min(INTERVAL_MAX_SECS);
                (self, PollAnswer::SlowDown)
            }
            DeviceState::Pending => (self, PollAnswer::Pending),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn codes_have_no_vowels_and_read_as_people_type_them() {
        for _ in 0..50 {
            let code = UserCode::generate();
            let text = code.to_string();
            assert_eq!(text.len(), 9);
            assert!(text.bytes().all(|c| c == b'-' || LETTERS.contains(&c)), "{text}");
            assert_eq!(text.to_lowercase().parse::<UserCode>(), Ok(code.clone()));
            assert_eq!(text.replace('-', " ").parse::<UserCode>(), Ok(code));
        }
        for bad in ["", "BCDF", "BCDF-GHJKL", "ABCD-EFGH", "BCDF-GHJ1", "BCDF_GHJK"] {
            assert!(bad.parse::<UserCode>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_machine_waits_is_approved_and_gets_one_session() {
        let grant = DeviceAuthorization::begin(at(0)).grant;
        let (grant, answer) = grant.poll(at(5));
        assert_eq!(answer, PollAnswer::Pending);
        let (grant, answer) = grant.poll(at(6));
        assert_eq!(answer, PollAnswer::SlowDown);
        assert_eq!(grant.interval_secs, 10);
        let (grant, _) = grant.decide(Some("ada".parse().unwrap()), at(10));
        let (grant, answer) = grant.poll(at(20));
        assert_eq!(answer, PollAnswer::Approved("ada".parse().unwrap()));
        assert_eq!(grant.poll(at(40)).1, PollAnswer::Expired);
    }

    #[test]
    fn a_no_and_the_end_are_final() {
        let grant = DeviceAuthorization::begin(at(0)).grant;
        assert_eq!(grant.clone().poll(at(600)).1, PollAnswer::Expired);
        assert_eq!(
            grant.clone().decide(Some("ada".parse().unwrap()), at(600)).1,
            PollAnswer::Expired
        );
        let (grant, _) = grant.decide(None, at(1));
        assert_eq!(grant.clone().poll(at(5)).1, PollAnswer::Denied);
        let (grant, answer) = grant.decide(Some("eve".parse().unwrap()), at(6));
        assert_eq!(answer, PollAnswer::Expired);
        assert_eq!(grant.poll(at(20)).1, PollAnswer::Denied);
    }

    #[test]
    fn only_the_hash_of_the_device_code_is_stored() {
        let begun = DeviceAuthorization::begin(at(0));
        assert_eq!(begun.grant.device_code_hash, token_hash(begun.device_code.expose_secret()));
    }
}
