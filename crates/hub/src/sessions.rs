//! Live sessions in memory: what every request is checked against. The store holds them for the next start.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nullius_access::{
    Snapshot,
    session::{ClientMark, Phase, SessionSettings, SessionState},
};
use nullius_authn::{PkceChallenge, PkceError};
use nullius_model::{Identity, SessionId, Timestamp, UserName};
use nullius_pki::constant_time_eq;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits::lock;

/// How a session was opened, and so what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// Password and code typed into a terminal.
    Terminal,
    /// A command line that a browser signed in.
    BrowserLogin,
    /// A device that somebody confirmed elsewhere.
    Device,
    /// The pages themselves; it never gets a token, and it ends with the hub process.
    Pages,
    /// A terminal of somebody who looks why the audit cannot be written; it ends with the hub process.
    Repair,
}

impl Client {
    /// The client as the stable kebab-case word of the audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::BrowserLogin => "browser-login",
            Self::Device => "device",
            Self::Pages => "pages",
            Self::Repair => "repair",
        }
    }

    /// The client of a stored word; a terminal where it is none.
    pub(crate) fn of_word(word: &str) -> Self {
        let known = [Self::Terminal, Self::BrowserLogin, Self::Device, Self::Pages, Self::Repair];
        known.into_iter().find(|client| client.as_str() == word).unwrap_or(Self::Terminal)
    }

    /// Whether sessions of it outlive the process.
    pub(crate) fn is_stored(self) -> bool {
        match self {
            Self::Terminal | Self::BrowserLogin | Self::Device => true,
            Self::Pages | Self::Repair => false,
        }
    }
}

/// One session that lives in this process.
#[derive(Debug)]
pub struct LiveSession {
    id: SessionId,
    user: UserName,
    client: Client,
    state: Mutex<SessionState>,
    used_at: AtomicI64,
    /// Its end is decided and about to be carried out.
    condemned: AtomicBool,
    /// Held while the session is changed in memory and store alike.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl LiveSession {
    pub(crate) fn new(id: SessionId, user: UserName, client: Client, state: SessionState) -> Self {
        let used_at = state.used_at.unwrap_or(state.refreshed_at).max(state.refreshed_at);
        let used_at = AtomicI64::new(used_at.as_second());
        let condemned = AtomicBool::new(false);
        let turn = tokio::sync::Mutex::new(());
        Self { id, user, client, state: Mutex::new(state), used_at, condemned, turn }
    }

    /// Its id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Whose it is.
    pub fn user(&self) -> &UserName {
        &self.user
    }

    /// How it was opened.
    pub fn client(&self) -> Client {
        self.client
    }

    /// When the person signed in.
    pub fn signed_in_at(&self) -> Timestamp {
        lock(&self.state).signed_in_at
    }

    /// When it ends whatever happens.
    pub fn expires_at(&self) -> Timestamp {
        lock(&self.state).expires_at
    }

    /// When it was last used.
    pub fn last_used(&self) -> Timestamp {
        let refreshed_at = lock(&self.state).refreshed_at;
        let used_at = self.used_at.load(Ordering::Relaxed);
        Timestamp::from_second(used_at).map_or(refreshed_at, |used| used.max(refreshed_at))
    }

    /// Whether it may be used at all at an instant; locks are the decision's matter.
    pub fn is_live(&self, now: Timestamp) -> bool {
        let state = lock(&self.state);
        !self.condemned.load(Ordering::Acquire)
            && !matches!(state.phase, Phase::Ended { .. })
            && now < state.expires_at
    }

    /// The person with proof and groups as they are now.
    pub fn identity(&self, snapshot: &Snapshot) -> Identity {
        let state = lock(&self.state);
        Identity {
            user: self.user.clone(),
            groups: snapshot.groups_of(&self.user),
            session: self.id.clone(),
            proof: state.proof.clone(),
            signed_in_at: state.signed_in_at,
            expires_at: state.expires_at,
        }
    }

    /// Notes a use; written to the store later.
    pub(crate) fn touch(&self, now: Timestamp) {
        self.used_at.fetch_max(now.as_second(), Ordering::Relaxed);
    }

    /// The state with the last use in it.
    pub(crate) fn state(&self) -> SessionState {
        let mut state = lock(&self.state).clone();
        state.used_at =
            state.used_at.max(Timestamp::from_second(self.used_at.load(Ordering::Relaxed)).ok());
        state
    }

    /// Takes the place of the state; whoever calls it holds the turn.
    pub(crate) fn replace(&self, after: SessionState) {
        *lock(&self.state) = after;
    }
}

/// The live sessions of this process.
#[derive(Debug, Default)]
pub struct LiveSessions {
    by_id: RwLock<HashMap<SessionId, Arc<LiveSession>>>,
}

impl LiveSessions {
    pub(crate) fn insert(&self, session: LiveSession) -> Arc<LiveSession> {
        let session = Arc::new(session);
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.insert(session.id.clone(), Arc::clone(&session));
        session
    }

    /// Forgets a session: from here on nobody is let in with it.
    pub(crate) fn remove(&self, id: &SessionId) -> Option<Arc<LiveSession>> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(id)
    }

    /// Refuses a session from here on; what is left of it goes with [`Self::remove`].
    pub(crate) fn condemn(&self, id: &SessionId) {
        if let Some(session) = self.find(id) {
            session.condemned.store(true, Ordering::Release);
        }
    }

    /// One session.
    pub fn find(&self, id: &SessionId) -> Option<Arc<LiveSession>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All sessions, oldest sign-in first.
    pub fn all(&self) -> Vec<Arc<LiveSession>> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = by_id.values().cloned().collect();
        drop(by_id);
        all.sort_by_cached_key(|session| (session.signed_in_at(), session.id.clone()));
        all
    }

    /// The sessions of one person, oldest sign-in first.
    pub fn of_user(&self, user: &UserName) -> Vec<Arc<LiveSession>> {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let own = by_id.values().filter(|session| session.user == *user);
        let mut own: Vec<_> = own.cloned().collect();
        drop(by_id);
        own.sort_by_cached_key(|session| (session.signed_in_at(), session.id.clone()));
        own
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A refresh token: session, generation and a code over both that only the hub can make, so that nothing
/// of it has to be stored and the one of a generation can be given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    pub(crate) session: SessionId,
    pub(crate) generation: u64,
}

const REFRESH_PREFIX: &str = "nlr1";

impl RefreshToken {
    pub(crate) fn encode(&self, key: &[u8; 32]) -> String {
        let Self { session, generation } = self;
        format!("{REFRESH_PREFIX}.{session}.{generation}.{}", self.code(key))
    }

    /// Reads a token that this hub made; anything else is nothing.
    pub(crate) fn decode(text: &str, key: &[u8; 32]) -> Option<Self> {
        let mut parts = text.split('.');
        let (prefix, session, generation, code) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if prefix != REFRESH_PREFIX || parts.next().is_some() || generation.starts_with(['+', '0'])
        {
            return None;
        }
        let token = Self { session: session.parse().ok()?, generation: generation.parse().ok()? };
        constant_time_eq(token.code(key).as_bytes(), code.as_bytes()).then_some(token)
    }

    fn code(&self, key: &[u8; 32]) -> String {
        let inner = Sha256::new()
            .chain_update(key)
            .chain_update(b"refresh\0")
            .chain_update(self.session.as_str())
            .chain_update(self.generation.to_be_bytes());
        let outer = Sha256::new().chain_update(key).chain_update(inner.finalize());
        URL_SAFE_NO_PAD.encode(outer.finalize())
    }
}

/// What a client promises at sign-in to prove at each refresh: the hash of a secret that it keeps (as in RFC 7636,
/// S256). The address does not count: a laptop moves.
pub(crate) fn promised(challenge: &str) -> Result<ClientMark, PkceError> {
    challenge.parse::<PkceChallenge>().map(|challenge| ClientMark(challenge.to_text()))
}

/// What a client proves that shows its secret.
pub(crate) fn proven(secret: &SecretString) -> ClientMark {
    ClientMark(PkceChallenge::of(secret).to_text())
}

/// The mark of the pages' own sessions, which get no refresh token; no secret has it.
pub(crate) fn no_client() -> ClientMark {
    ClientMark(String::new())
}

/// How long sessions of a client live.
pub(crate) fn session_settings(client: Client, lifetimes: &crate::Lifetimes) -> SessionSettings {
    let life = match client {
        Client::Pages => lifetimes.browser_session,
        Client::Terminal | Client::BrowserLogin | Client::Device | Client::Repair => {
            lifetimes.session
        }
    };
    SessionSettings { life, idle: lifetimes.idle, ..SessionSettings::default() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_refresh_token_reads_back_and_nothing_forged_does() {
        let key = [1; 32];
        let token = RefreshToken { session: SessionId::from_bits(5), generation: 7 };
        let text = token.encode(&key);
        assert_eq!(RefreshToken::decode(&text, &key), Some(token));
        assert_eq!(RefreshToken::decode(&text, &[2; 32]), None);
        assert_eq!(RefreshToken::decode(&text.replace(".7.", ".8."), &key), None);
        assert_eq!(RefreshToken::decode(&text.replace(".7.", ".07."), &key), None);
        assert_eq!(RefreshToken::decode(&format!("{text}.x"), &key), None);
        assert_eq!(RefreshToken::decode("", &key), None);
    }
}
