//! How devices that wait for a sign-in are kept from asking too much; what they wait for stands in the store.

use std::{collections::HashMap, sync::Mutex};

use nullius_authn::{DEVICE_CODE_TTL, DeviceGrant, DeviceState, PollAnswer};
use nullius_model::Timestamp;
use nullius_store::{LoginCode, TokenHash};

use crate::{limits::SourceLimit, lock::lock};

/// How many a source may begin at once, and per second on average: each is written down.
const BURST: u32 = 20;
const PER_SECOND: u32 = 1;

/// Who may begin one, and who asked when.
pub(crate) struct DeviceLogins {
    pub(crate) begins: SourceLimit,
    /// One at a time is written down, so that a flood of them never stands before other writes.
    pub(crate) writing: tokio::sync::Mutex<()>,
    /// When each device asked last, and how long it was told to wait.
    asked: Mutex<HashMap<TokenHash, Asked>>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    at: Timestamp,
    interval_secs: u32,
}

impl Default for DeviceLogins {
    fn default() -> Self {
        let begins = SourceLimit::new(BURST, PER_SECOND);
        Self { begins, writing: tokio::sync::Mutex::default(), asked: Mutex::default() }
    }
}

impl DeviceLogins {
    /// What a device hears that asks now how its sign-in stands.
    pub(crate) fn ask(&self, login: &LoginCode, now: Timestamp) -> PollAnswer {
        let mut asked = lock(&self.asked);
        asked.retain(|_, asked| now < DEVICE_CODE_TTL.after(asked.at));
        let known = asked.get(&login.hash).copied();
        let state = match (&login.approval, login.denied_at, login.used_at) {
            (_, _, Some(_)) => DeviceState::Spent,
            (_, Some(_), None) => DeviceState::Denied,
            (Some(approval), None, None) => DeviceState::Approved { user: approval.user.clone() },
            (None, None, None) => DeviceState::Pending,
        };
        let grant = DeviceGrant {
            device_code_hash: login.hash.to_string(),
            expires_at: login.expires_at,
            interval_secs: known.map_or(DeviceGrant::INTERVAL_SECS, |known| known.interval_secs),
            polled_at: known.map(|known| known.at),
            state,
        };
        let (grant, answer) = grant.poll(now);
        match &answer {
            PollAnswer::Pending | PollAnswer::SlowDown => {
                asked.insert(login.hash, Asked { at: now, interval_secs: grant.interval_secs });
            }
            PollAnswer::Denied | PollAnswer::Expired | PollAnswer::Approved(_) => {
                asked.remove(&login.hash);
            }
        }
        answer
    }
}
