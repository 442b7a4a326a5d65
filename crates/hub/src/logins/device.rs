//! A machine without a browser, signed in by a person on another one who types a short code there.

use std::{collections::HashMap, net::IpAddr, sync::Mutex, time::Duration};

use nullius_authn::{
    DEVICE_CODE_TTL, DeviceAuthorization, DeviceGrant, DeviceState, PollAnswer, UserCode,
};
use nullius_model::Timestamp;
use nullius_store::{LoginCode, LoginKind, Redemption, TokenHash};
use secrecy::SecretString;

use super::{LOGIN_MEMORY, LoginError, Proven, Redeemed, hash_of};
use crate::{
    Hub,
    limits::{SourceLimit, lock},
    mark::{Purpose, mark},
};

/// Sign-ins of one source, and of all, that may wait; the oldest of whoever has most goes first.
const OF_SOURCE: u32 = 64;
const OF_ALL: u32 = 10_000;
/// How many a source may begin at once, and per second on average: each is written down.
const BURST: u32 = 20;
const PER_SECOND: u32 = 1;
/// How long one waits for its turn to be written down.
const PATIENCE: Duration = Duration::from_secs(3);
/// Short codes that are drawn anew when one is taken.
const DRAWS: usize = 8;

/// A device that asks to be signed in, as pages show it.
#[derive(Debug, Clone)]
pub(crate) struct DeviceRequest {
    pub(crate) user_code: UserCode,
    pub(crate) source: Option<IpAddr>,
    pub(crate) began: Timestamp,
}

/// What a poll of a device gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Poll {
    Pending,
    SlowDown,
    Refused,
    Ended,
    Approved(Box<Redeemed>),
}

/// A device that was told its codes.
pub(crate) struct DeviceCodes {
    pub(crate) device_code: SecretString,
    pub(crate) user_code: UserCode,
    pub(crate) interval: u32,
}

/// How devices are kept from asking too much; what they wait for stands in the store.
pub(crate) struct DeviceLogins {
    begins: SourceLimit,
    /// One at a time is written down, so that a flood of them never stands before other writes.
    writing: tokio::sync::Mutex<()>,
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

impl Hub {
    /// Begins one.
    pub(crate) async fn begin_device_login(
        &self,
        source: IpAddr,
    ) -> Result<DeviceCodes, LoginError> {
        let now = self.now();
        let logins = &self.device_logins;
        logins.begins.take(source, now).map_err(|_| LoginError::Full)?;
        let turn = tokio::time::timeout(PATIENCE, logins.writing.lock()).await;
        let _turn = turn.map_err(|_| LoginError::Full)?;
        let mut tx = self.store.begin().await?;
        tx.logins().make_room(LoginKind::Device, source, OF_SOURCE, OF_ALL, before(now)).await?;
        for _ in 0..DRAWS {
            let DeviceAuthorization { device_code, user_code, grant } =
                DeviceAuthorization::begin(now);
            let login = LoginCode {
                hash: hash_of(secrecy::ExposeSecret::expose_secret(&device_code)),
                kind: LoginKind::Device,
                user_code: Some(self.user_code_hash(&user_code)),
                challenge: String::new(),
                redirect_uri: None,
                source: Some(source),
                user_agent: String::new(),
                created_at: now,
                expires_at: grant.expires_at,
                polled_at: None,
                approval: None,
                denied_at: None,
                used_at: None,
            };
            if tx.logins().create(&login).await? {
                tx.commit().await?;
                let interval = grant.interval_secs;
                return Ok(DeviceCodes { device_code, user_code, interval });
            }
        }
        tx.rollback().await?;
        Err(LoginError::Full)
    }

    /// The one that waits under a code.
    pub(crate) async fn device_login(
        &self,
        user_code: UserCode,
    ) -> Result<Option<DeviceRequest>, LoginError> {
        let hash = self.user_code_hash(&user_code);
        let found = self.store.read().await?.logins().find_pending(&hash, self.now()).await?;
        let device = found.filter(|login| login.kind == LoginKind::Device);
        Ok(device.map(|login| DeviceRequest {
            user_code,
            source: login.source,
            began: login.created_at,
        }))
    }

    /// Approves or, with nobody, refuses one.
    pub(crate) async fn answer_device_login(
        &self,
        user_code: &UserCode,
        proven: Option<Proven>,
    ) -> Result<(), LoginError> {
        let (hash, now) = (self.user_code_hash(user_code), self.now());
        let mut tx = self.store.begin().await?;
        let answered = match proven {
            Some(proven) => tx.logins().approve(&hash, &self.approval(proven), now).await?,
            None => tx.logins().deny(&hash, now).await?,
        };
        tx.commit().await?;
        answered.map(|_| ()).ok_or(LoginError::Unknown)
    }

    /// Asks for the outcome; approval is given once. A device that waits costs no write.
    pub(crate) async fn poll_device_login(&self, device_code: &str) -> Result<Poll, LoginError> {
        let (hash, now) = (hash_of(device_code), self.now());
        let found = self.store.read().await?.logins().find(&hash).await?;
        let Some(login) = found.filter(|login| login.kind == LoginKind::Device) else {
            return Ok(Poll::Ended);
        };
        match self.device_logins.ask(&login, now) {
            PollAnswer::Pending => Ok(Poll::Pending),
            PollAnswer::SlowDown => Ok(Poll::SlowDown),
            PollAnswer::Denied => Ok(Poll::Refused),
            PollAnswer::Expired => Ok(Poll::Ended),
            PollAnswer::Approved(_) => {
                let mut tx = self.store.begin().await?;
                let redeemed = tx.logins().redeem(&hash, now).await?;
                tx.commit().await?;
                match redeemed {
                    Redemption::Accepted(login) => {
                        self.approver(login).await.map(Box::new).map(Poll::Approved)
                    }
                    _ => Ok(Poll::Ended),
                }
            }
        }
    }

    /// What stands for a short code in the store: few enough letters to guess, so that a plain hash would not do.
    fn user_code_hash(&self, user_code: &UserCode) -> TokenHash {
        TokenHash::of(mark(self.keys.forms(), Purpose::UserCode, &user_code.to_string()))
    }
}

impl DeviceLogins {
    fn ask(&self, login: &LoginCode, now: Timestamp) -> PollAnswer {
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

/// What ended before this is forgotten.
fn before(now: Timestamp) -> Timestamp {
    let memory = jiff::SignedDuration::from_secs(LOGIN_MEMORY.as_secs().into());
    now.checked_sub(memory).unwrap_or(Timestamp::MIN)
}
