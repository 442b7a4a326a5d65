//! Live sessions in memory: what every request is checked against. The store holds them for the next start.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use nullius_access::{
    Snapshot,
    session::{self, Phase, SessionSettings, SessionState},
};
use nullius_model::{Identity, SessionId, Timestamp, UserName};
use nullius_store::EndReason;
use serde::{Deserialize, Serialize};

use crate::{lock::lock, settings::Lifetimes};

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

    /// How long sessions of it live.
    pub(crate) fn settings(self, lifetimes: &Lifetimes) -> SessionSettings {
        let life = match self {
            Self::Pages => lifetimes.browser_session,
            Self::Terminal | Self::BrowserLogin | Self::Device | Self::Repair => lifetimes.session,
        };
        SessionSettings { life, idle: lifetimes.idle, ..SessionSettings::default() }
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

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionEndCause {
    /// The person logged out.
    Logout,
    /// Somebody with the right to ended it.
    Ended,
    /// Its time was over.
    Expired,
    /// It was not used for too long.
    Idle,
    /// A refresh token or sign-in code came a second time.
    Reused,
    /// The person was disabled or deleted.
    UserGone,
    /// The person set new factors.
    Reenrolled,
    /// The hub stopped, and the session lived in its process alone.
    Stopped,
}

impl SessionEndCause {
    /// The cause as the stable kebab-case word of the audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Ended => "ended",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Reused => "reused",
            Self::UserGone => "user-gone",
            Self::Reenrolled => "reenrolled",
            Self::Stopped => "hub-stopped",
        }
    }

    /// The cause for which a session ended by itself.
    pub(crate) fn of(why: session::EndReason) -> Self {
        match why {
            session::EndReason::LoggedOut => Self::Logout,
            session::EndReason::Revoked => Self::Ended,
            session::EndReason::Expired => Self::Expired,
            session::EndReason::Idle => Self::Idle,
            session::EndReason::TokenReused => Self::Reused,
        }
    }

    /// The cause as the store knows it.
    pub(crate) fn stored(self) -> EndReason {
        match self {
            Self::Logout => EndReason::Logout,
            Self::Ended => EndReason::Revoked,
            Self::Expired | Self::Idle | Self::Stopped => EndReason::Expired,
            Self::Reused => EndReason::TokenReused,
            Self::UserGone => EndReason::UserGone,
            Self::Reenrolled => EndReason::Reenrolled,
        }
    }
}
