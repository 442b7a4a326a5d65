//! Sign-ins that one program begins and a browser completes: codes bound to the client (RFC 7636, S256) and
//! device codes (RFC 8628). They live for minutes, in memory; a restart of the hub makes people begin again.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Mutex,
};

use nullius_authn::{
    DeviceAuthorization, DeviceGrant, DeviceState, PkceChallenge, PollAnswer, UserCode,
};
use nullius_model::{Proof, SessionId, Timestamp, Ttl, UserName};
use nullius_pki::{random_bytes, random_token, token_hash};
use secrecy::{ExposeSecret, SecretString};

use crate::limits::lock;

/// How long a browser has to complete a sign-in.
pub(crate) const BROWSER_LOGIN_TTL: Ttl = Ttl::from_secs(600);
/// How long a code can be exchanged, and how long its reuse is noticed.
const CODE_TTL: Ttl = Ttl::from_secs(60);
const CODE_MEMORY: Ttl = Ttl::from_secs(600);
/// Sign-ins under way at most, of each kind.
const PENDING: usize = 10_000;

/// Somebody who proved who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proven {
    pub(crate) user: UserName,
    pub(crate) proof: Proof,
}

/// Why a sign-in cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginError {
    #[error(
        "the challenge is not 43 characters of base64url: it must be the SHA-256 of the verifier (S256)"
    )]
    Challenge,
    #[error("the state is empty or longer than 512 characters")]
    State,
    #[error("the redirect must be `http://127.0.0.1:PORT/` or `http://[::1]:PORT/`")]
    Redirect,
    #[error("too many sign-ins are under way")]
    Full,
    #[error("this sign-in is unknown or has ended")]
    Unknown,
    #[error("this sign-in was completed before")]
    Completed,
    #[error("the code is unknown or has ended")]
    Code,
    #[error("the code was used before")]
    CodeReused(Option<SessionId>),
    #[error("the code belongs to another client: the verifier does not fit")]
    Verifier,
    #[error("the code belongs to another redirect")]
    OtherRedirect,
}

/// The loopback address to which a browser goes back, and nothing else (RFC 8252 section 7.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loopback {
    uri: String,
    at: SocketAddr,
}

impl Loopback {
    /// Reads `http://127.0.0.1:PORT/path` or `http://[::1]:PORT/path`, written exactly so.
    pub(crate) fn parse(uri: &str) -> Result<Self, LoginError> {
        let rest = uri.strip_prefix("http://").ok_or(LoginError::Redirect)?;
        let (authority, path) = rest.split_once('/').ok_or(LoginError::Redirect)?;
        let at: SocketAddr = authority.parse().map_err(|_| LoginError::Redirect)?;
        let literal = [
            IpAddr::from(std::net::Ipv4Addr::LOCALHOST),
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ];
        let plain_path = path.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~/".contains(&c));
        let exact = literal.contains(&at.ip()) && at.port() != 0 && at.to_string() == authority;
        if exact && plain_path && uri.len() <= 256 {
            Ok(Self { uri: uri.to_owned(), at })
        } else {
            Err(LoginError::Redirect)
        }
    }

    /// The address, for people to see.
    pub(crate) fn address(&self) -> SocketAddr {
        self.at
    }

    /// `http://127.0.0.1:PORT`, for a content security policy; none for IPv6, which policies cannot name.
    pub(crate) fn policy_source(&self) -> Option<String> {
        self.at.is_ipv4().then(|| format!("http://{}", self.at))
    }

    fn with(&self, parameters: &[(&str, &str)]) -> String {
        let query: url::form_urlencoded::Serializer<'_, String> =
            url::form_urlencoded::Serializer::new(String::new());
        let query = parameters
            .iter()
            .fold(query, |mut query, (name, value)| {
                query.append_pair(name, value);
                query
            })
            .finish();
        format!("{}?{query}", self.uri)
    }
}

/// A sign-in that the command line began, as pages show it.
#[derive(Debug, Clone)]
pub(crate) struct BrowserRequest {
    pub(crate) redirect: Loopback,
    pub(crate) source: IpAddr,
}

struct Pending {
    challenge: PkceChallenge,
    state: String,
    request: BrowserRequest,
    ends: Timestamp,
}

struct Code {
    challenge: PkceChallenge,
    redirect: String,
    proven: Proven,
    ends: Timestamp,
    forgotten: Timestamp,
    used: Option<Option<SessionId>>,
}

/// Sign-ins that the command line began and a browser completes.
#[derive(Default)]
pub(crate) struct BrowserLogins {
    pending: Mutex<HashMap<String, Pending>>,
    codes: Mutex<HashMap<String, Code>>,
}

impl BrowserLogins {
    /// Begins one; gives the id under which the browser finds it.
    pub(crate) fn begin(
        &self,
        challenge: &str,
        state: String,
        redirect: &str,
        source: IpAddr,
        now: Timestamp,
    ) -> Result<String, LoginError> {
        let challenge: PkceChallenge = challenge.parse().map_err(|_| LoginError::Challenge)?;
        if state.is_empty() || state.len() > 512 || !state.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(LoginError::State);
        }
        let redirect = Loopback::parse(redirect)?;
        let mut pending = lock(&self.pending);
        pending.retain(|_, login| now < login.ends);
        if pending.len() >= PENDING {
            return Err(LoginError::Full);
        }
        let id = hex::encode(random_bytes::<16>());
        let request = BrowserRequest { redirect, source };
        let ends = BROWSER_LOGIN_TTL.after(now);
        pending.insert(id.clone(), Pending { challenge, state, request, ends });
        Ok(id)
    }

    /// The one with this id.
    pub(crate) fn find(&self, id: &str, now: Timestamp) -> Option<BrowserRequest> {
        let pending = lock(&self.pending);
        pending.get(id).filter(|login| now < login.ends).map(|login| login.request.clone())
    }

    /// Completes one: gives where the browser goes back to, with the code in it.
    pub(crate) fn approve(
        &self,
        id: &str,
        proven: Proven,
        now: Timestamp,
    ) -> Result<(Loopback, String), LoginError> {
        let login = lock(&self.pending).remove(id).filter(|login| now < login.ends);
        let Pending { challenge, state, request, .. } = login.ok_or(LoginError::Unknown)?;
        let code = random_token();
        let code = code.expose_secret();
        let to = request.redirect.with(&[("code", code), ("state", &state)]);
        let mut codes = lock(&self.codes);
        codes.retain(|_, code| now < code.forgotten);
        codes.insert(
            token_hash(code),
            Code {
                challenge,
                redirect: request.redirect.uri.clone(),
                proven,
                ends: CODE_TTL.after(now),
                forgotten: CODE_MEMORY.after(now),
                used: None,
            },
        );
        Ok((request.redirect, to))
    }

    /// Refuses one: gives where the browser goes back to, with the error in it.
    pub(crate) fn refuse(
        &self,
        id: &str,
        now: Timestamp,
    ) -> Result<(Loopback, String), LoginError> {
        let login = lock(&self.pending).remove(id).filter(|login| now < login.ends);
        let Pending { state, request, .. } = login.ok_or(LoginError::Unknown)?;
        let to = request.redirect.with(&[("error", "access_denied"), ("state", &state)]);
        Ok((request.redirect, to))
    }

    /// Exchanges a code, once; a second time names the session that the first gave.
    pub(crate) fn exchange(
        &self,
        code: &str,
        verifier: &SecretString,
        redirect: &str,
        now: Timestamp,
    ) -> Result<Proven, LoginError> {
        let mut codes = lock(&self.codes);
        let code = codes.get_mut(&token_hash(code)).ok_or(LoginError::Code)?;
        if let Some(session) = &code.used {
            return Err(LoginError::CodeReused(session.clone()));
        }
        if now >= code.ends {
            return Err(LoginError::Code);
        }
        // Whoever presents it with the wrong verifier has stolen it: it is spent all the same.
        code.used = Some(None);
        code.challenge.verify(verifier).map_err(|_| LoginError::Verifier)?;
        if code.redirect != redirect {
            return Err(LoginError::OtherRedirect);
        }
        Ok(code.proven.clone())
    }

    /// Remembers which session a code gave, so that its reuse ends that session.
    pub(crate) fn gave(&self, code: &str, session: &SessionId) {
        if let Some(code) = lock(&self.codes).get_mut(&token_hash(code)) {
            code.used = Some(Some(session.clone()));
        }
    }
}

/// A device that asks to be signed in, as pages show it.
#[derive(Debug, Clone)]
pub(crate) struct DeviceRequest {
    pub(crate) user_code: UserCode,
    pub(crate) source: IpAddr,
    pub(crate) began: Timestamp,
}

/// What a poll of a device gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Poll {
    Pending,
    SlowDown,
    Refused,
    Ended,
    Approved(Proven),
}

/// A device that was told its codes.
pub(crate) struct DeviceCodes {
    pub(crate) device_code: SecretString,
    pub(crate) user_code: UserCode,
    pub(crate) interval: u32,
}

struct Device {
    request: DeviceRequest,
    grant: DeviceGrant,
    proof: Option<Proof>,
}

/// Sign-ins of machines without a browser.
#[derive(Default)]
pub(crate) struct DeviceLogins {
    devices: Mutex<HashMap<String, Device>>,
}

impl DeviceLogins {
    /// Begins one.
    pub(crate) fn begin(&self, source: IpAddr, now: Timestamp) -> Result<DeviceCodes, LoginError> {
        let mut devices = lock(&self.devices);
        devices.retain(|_, device| now < device.grant.expires_at);
        if devices.len() >= PENDING {
            return Err(LoginError::Full);
        }
        let mut begun = DeviceAuthorization::begin(now);
        while devices.values().any(|device| device.grant.user_code == begun.user_code) {
            begun = DeviceAuthorization::begin(now);
        }
        let DeviceAuthorization { device_code, user_code, grant } = begun;
        let request = DeviceRequest { user_code: user_code.clone(), source, began: now };
        let interval = grant.interval_secs;
        let hash = grant.device_code_hash.clone();
        devices.insert(hash, Device { request, grant, proof: None });
        Ok(DeviceCodes { device_code, user_code, interval })
    }

    /// The one that waits under a code.
    pub(crate) fn find(&self, user_code: &UserCode, now: Timestamp) -> Option<DeviceRequest> {
        let devices = lock(&self.devices);
        devices
            .values()
            .find(|device| {
                let grant = &device.grant;
                grant.user_code == *user_code
                    && now < grant.expires_at
                    && grant.state == DeviceState::Pending
            })
            .map(|device| device.request.clone())
    }

    /// Approves or, with nobody, refuses one.
    pub(crate) fn answer(
        &self,
        user_code: &UserCode,
        proven: Option<Proven>,
        now: Timestamp,
    ) -> Result<(), LoginError> {
        let mut devices = lock(&self.devices);
        let device = devices
            .values_mut()
            .find(|device| device.grant.user_code == *user_code)
            .ok_or(LoginError::Unknown)?;
        let (user, proof) = match proven {
            Some(Proven { user, proof }) => (Some(user), Some(proof)),
            None => (None, None),
        };
        let (grant, answer) = device.grant.clone().decide(user, now);
        if answer == PollAnswer::Expired {
            return Err(LoginError::Completed);
        }
        device.grant = grant;
        device.proof = proof;
        Ok(())
    }

    /// Asks for the outcome; approval is given once.
    pub(crate) fn poll(&self, device_code: &str, now: Timestamp) -> Poll {
        let mut devices = lock(&self.devices);
        let Some(device) = devices.get_mut(&token_hash(device_code)) else { return Poll::Ended };
        let (grant, answer) = device.grant.clone().poll(now);
        device.grant = grant;
        match answer {
            PollAnswer::Pending => Poll::Pending,
            PollAnswer::SlowDown => Poll::SlowDown,
            PollAnswer::Denied => Poll::Refused,
            PollAnswer::Expired => Poll::Ended,
            PollAnswer::Approved(user) => match device.proof.take() {
                Some(proof) => Poll::Approved(Proven { user, proof }),
                None => Poll::Ended,
            },
        }
    }
}

#[cfg(test)]
mod tests;
