//! A machine without a browser, signed in by a person on another one who types a short code there.

use std::{net::IpAddr, time::Duration};

use nullius_authn::{DeviceAuthorization, PollAnswer, UserCode};
use nullius_model::Timestamp;
use nullius_store::{LoginCode, LoginKind, Redemption, TokenHash};
use secrecy::{ExposeSecret, SecretString};

use super::{LOGIN_MEMORY, LoginError, Proven, Redeemed};
use crate::{
    Hub,
    mark::{Purpose, mark},
};

/// Sign-ins of one source, and of all, that may wait; the oldest of whoever has most goes first.
const OF_SOURCE: u32 = 64;
const OF_ALL: u32 = 10_000;
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

impl Hub {
    /// Begins one.
    pub(crate) async fn begin_device_login(
        &self,
        source: IpAddr,
    ) -> Result<DeviceCodes, LoginError> {
        self.take_source(source).map_err(LoginError::Wait)?;
        let now = self.now();
        let logins = &self.memory.devices;
        logins.begins.take(source, now).map_err(|_| LoginError::Full)?;
        let turn = tokio::time::timeout(PATIENCE, logins.writing.lock()).await;
        let _turn = turn.map_err(|_| LoginError::Full)?;
        let mut tx = self.store.begin().await?;
        tx.logins()
            .make_room(LoginKind::Device, source, OF_SOURCE, OF_ALL, LOGIN_MEMORY.before(now))
            .await?;
        for _ in 0..DRAWS {
            let DeviceAuthorization { device_code, user_code, grant } =
                DeviceAuthorization::begin(now);
            let login = LoginCode {
                hash: TokenHash::of(device_code.expose_secret()),
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
    pub(crate) async fn poll_device_login(
        &self,
        device_code: &str,
        source: IpAddr,
    ) -> Result<Poll, LoginError> {
        self.take_source(source).map_err(LoginError::Wait)?;
        let (hash, now) = (TokenHash::of(device_code), self.now());
        let found = self.store.read().await?.logins().find(&hash).await?;
        let Some(login) = found.filter(|login| login.kind == LoginKind::Device) else {
            return Ok(Poll::Ended);
        };
        match self.memory.devices.ask(&login, now) {
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
        TokenHash::of(mark(self.keys.forms(), Purpose::UserCode, user_code.to_string()))
    }
}
