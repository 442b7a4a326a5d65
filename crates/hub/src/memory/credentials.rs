//! Credentials that were looked at before: tokens whose signature holds, and the sessions of browsers' cookies.

use std::{collections::HashMap, sync::Mutex};

use nullius_model::{SessionId, Timestamp};
use nullius_pki::{AccessClaims, token_hash};

use crate::lock::lock;

/// Verified tokens remembered at most; a token is checked in full again when it is forgotten.
const REMEMBERED: usize = 20_000;

/// Tokens whose signature was checked, by hash; whether the session lives is asked each time.
#[derive(Debug, Default)]
pub(crate) struct VerifiedTokens {
    by_hash: Mutex<HashMap<String, AccessClaims>>,
}

impl VerifiedTokens {
    pub(crate) fn find(&self, hash: &str) -> Option<AccessClaims> {
        lock(&self.by_hash).get(hash).cloned()
    }

    pub(crate) fn keep(&self, hash: String, claims: AccessClaims, now: Timestamp) {
        let mut by_hash = lock(&self.by_hash);
        if by_hash.len() >= REMEMBERED {
            by_hash.retain(|_, claims| now.as_second() < claims.exp);
            if by_hash.len() >= REMEMBERED {
                by_hash.clear();
            }
        }
        by_hash.insert(hash, claims);
    }
}

/// Cookies of browsers by hash; they end with the process.
#[derive(Debug, Default)]
pub(crate) struct BrowserSessions {
    by_cookie: Mutex<HashMap<String, SessionId>>,
}

impl BrowserSessions {
    pub(crate) fn keep(&self, cookie: &str, session: SessionId) {
        lock(&self.by_cookie).insert(token_hash(cookie), session);
    }

    pub(crate) fn find(&self, cookie: &str) -> Option<SessionId> {
        lock(&self.by_cookie).get(&token_hash(cookie)).cloned()
    }

    pub(crate) fn forget(&self, session: &SessionId) {
        lock(&self.by_cookie).retain(|_, kept| kept != session);
    }
}
