//! Enrolments between their two steps: what the first gave, kept until the second.

use std::{collections::BTreeMap, sync::Mutex};

use nullius_api::EnrolAnswer;
use nullius_authn::{PasswordHash, TotpSecret};
use nullius_model::{Timestamp, UserName};

use crate::lock::lock;

/// Enrolments under way at most.
const ENROLMENTS: usize = 10_000;

/// The first step of an enrolment, kept until the second.
pub(crate) struct Begun {
    pub(crate) user: UserName,
    pub(crate) password: PasswordHash,
    pub(crate) totp: TotpSecret,
    pub(crate) answer: EnrolAnswer,
    pub(crate) wrong_codes: u32,
    ends: Timestamp,
}

impl Begun {
    pub(crate) fn new(
        user: UserName,
        password: PasswordHash,
        totp: TotpSecret,
        answer: EnrolAnswer,
    ) -> Self {
        Self { user, password, totp, answer, wrong_codes: 0, ends: Timestamp::MAX }
    }
}

/// Enrolments between their two steps, by the hash of the link's token; they end with the process.
#[derive(Default)]
pub(crate) struct Enrolments {
    by_token: Mutex<BTreeMap<String, Begun>>,
}

impl Enrolments {
    pub(crate) fn keep(
        &self,
        token_hash: String,
        mut begun: Begun,
        ends: Timestamp,
        now: Timestamp,
    ) -> bool {
        let mut by_token = lock(&self.by_token);
        by_token.retain(|_, begun| now < begun.ends);
        if by_token.len() >= ENROLMENTS {
            return false;
        }
        begun.ends = ends;
        by_token.insert(token_hash, begun);
        true
    }

    pub(crate) fn with<T>(
        &self,
        token_hash: &str,
        look: impl FnOnce(&mut Begun) -> T,
    ) -> Option<T> {
        lock(&self.by_token).get_mut(token_hash).map(look)
    }

    pub(crate) fn take(&self, token_hash: &str) -> Option<Begun> {
        lock(&self.by_token).remove(token_hash)
    }

    pub(crate) fn forget(&self, user: &UserName) {
        lock(&self.by_token).retain(|_, begun| begun.user != *user);
    }
}
