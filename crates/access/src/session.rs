//! How a session lives and ends: a pure state machine over sign-in, refresh, step-up, lock and end.
//!
//! A refresh token names a generation and is good once, for the client that signed in. It may show the last one again
//! for some seconds, since parallel kubectl processes do; any other reuse, and any use by another client, means that a
//! copy is about, and ends the session.

use std::collections::BTreeSet;

use nullius_model::{AuditKind, AuditOutcome, Factor, Proof, Timestamp, Ttl};
use serde::{Deserialize, Serialize};

/// How long sessions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSettings {
    /// The longest life from sign-in.
    pub life: Ttl,
    /// The longest time without a refresh or other use.
    pub idle: Ttl,
    /// How long the client that refreshed may show the refresh token before.
    pub reuse_grace: Ttl,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            life: Ttl::from_secs(12 * 3_600),
            idle: Ttl::from_secs(3_600),
            reuse_grace: Ttl::from_secs(10),
        }
    }
}

/// Which client holds the refresh token: the hash of a secret that it proves each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientMark(pub String);

/// A session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionState {
    /// Where it stands.
    pub phase: Phase,
    /// What proves the person.
    pub proof: Proof,
    /// Sign-in.
    pub signed_in_at: Timestamp,
    /// The end at the latest.
    pub expires_at: Timestamp,
    /// Last sign-in or refresh.
    pub refreshed_at: Timestamp,
    /// Last use that is no refresh: a request, or a stream that still runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
    /// The generation of the refresh token that is good now.
    pub generation: u64,
    /// The client that got it.
    pub client: ClientMark,
}

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Phase {
    /// It can be used.
    Live,
    /// A lock is on it; it can be used again when the lock goes.
    Locked { since: Timestamp },
    /// It is over for good.
    Ended { at: Timestamp, why: EndReason },
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The person signed out.
    LoggedOut,
    /// Somebody ended it, or the person was disabled or deleted.
    Revoked,
    /// It reached its longest life.
    Expired,
    /// It was not used for too long.
    Idle,
    /// A refresh token was shown that was used before or never given out, or by another client.
    TokenReused,
}

impl EndReason {
    /// The reason as a stable kebab-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LoggedOut => "logged-out",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::TokenReused => "token-reused",
        }
    }
}

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client shows a refresh token.
    Refresh { generation: u64, client: ClientMark },
    /// The person proved a factor anew.
    StepUp { factors: BTreeSet<Factor> },
    /// The person signs out.
    Logout,
    /// Somebody ends it.
    Revoke,
    /// A lock covers it now.
    Lock,
    /// No lock covers it any more.
    Unlock,
    /// The session was used at that instant; one that has not come yet counts as now.
    Use { at: Timestamp },
    /// Time passed.
    Tick,
}

/// What is to be done because of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Write an audit event before anything else.
    Record { kind: AuditKind, outcome: AuditOutcome },
    /// Give the client the refresh token of this generation.
    IssueRefreshToken { generation: u64 },
    /// Tell the client that it is refused.
    Refuse { why: Refusal },
    /// Remove the session's credentials from every cluster.
    FlushCredentials,
    /// Cut the session's streams.
    CutStreams,
}

/// Why a client is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The session is over.
    Ended(EndReason),
    /// A lock is on the session.
    Locked,
}

/// A new session and what is to be done for it.
pub fn sign_in(
    proof: Proof,
    client: ClientMark,
    now: Timestamp,
    settings: &SessionSettings,
) -> (SessionState, Vec<Effect>) {
    let state = SessionState {
        phase: Phase::Live,
        proof,
        signed_in_at: now,
        expires_at: settings.life.after(now),
        refreshed_at: now,
        used_at: None,
        generation: 1,
        client,
    };
    let effects = vec![
        Effect::Record { kind: AuditKind::SignIn, outcome: AuditOutcome::Done },
        Effect::IssueRefreshToken { generation: 1 },
    ];
    (state, effects)
}

/// The session after an event, and what is to be done. Time that ran out ends it before the event counts.
pub fn advance(
    state: SessionState,
    event: &Event,
    now: Timestamp,
    settings: &SessionSettings,
) -> (SessionState, Vec<Effect>) {
    if let Phase::Ended { why, .. } = state.phase {
        return (state, after_the_end(why, event));
    }
    if let Some(why) = run_out(&state, now, settings) {
        let (state, mut effects) = end(state, why, now);
        effects.extend(after_the_end(why, event));
        return (state, effects);
    }
    match event {
        Event::Tick => (state, Vec::new()),
        Event::Use { at } => (used(state, (*at).min(now)), Vec::new()),
        Event::Logout => end(state, EndReason::LoggedOut, now),
        Event::Revoke => end(state, EndReason::Revoked, now),
        Event::Lock => lock(state, now),
        Event::Unlock => unlock(state),
        Event::StepUp { factors } => step_up(state, factors, now),
        Event::Refresh { generation, client } => refresh(state, *generation, client, now, settings),
    }
}

/// When time alone ends a session next, for a timer.
pub fn ends_at(state: &SessionState, settings: &SessionSettings) -> Option<Timestamp> {
    match state.phase {
        Phase::Ended { .. } => None,
        Phase::Live | Phase::Locked { .. } => {
            Some(state.expires_at.min(settings.idle.after(last_use(state))))
        }
    }
}

fn run_out(state: &SessionState, now: Timestamp, settings: &SessionSettings) -> Option<EndReason> {
    if state.expires_at <= now {
        return Some(EndReason::Expired);
    }
    (settings.idle.after(last_use(state)) <= now).then_some(EndReason::Idle)
}

fn last_use(state: &SessionState) -> Timestamp {
    state.used_at.map_or(state.refreshed_at, |used| used.max(state.refreshed_at))
}

fn used(mut state: SessionState, at: Timestamp) -> SessionState {
    state.used_at = state.used_at.max(Some(at));
    state
}

fn end(mut state: SessionState, why: EndReason, now: Timestamp) -> (SessionState, Vec<Effect>) {
    let mut effects = Vec::with_capacity(4);
    if why == EndReason::TokenReused {
        effects.push(Effect::Record { kind: AuditKind::Alarm, outcome: AuditOutcome::Denied });
    }
    effects.push(Effect::Record { kind: AuditKind::SessionEnd, outcome: AuditOutcome::Done });
    effects.push(Effect::CutStreams);
    effects.push(Effect::FlushCredentials);
    state.phase = Phase::Ended { at: now, why };
    (state, effects)
}

/// What is owed to an event that comes too late: a token is refused and the try recorded, the rest is no news.
fn after_the_end(why: EndReason, event: &Event) -> Vec<Effect> {
    let refused = |kind| {
        vec![
            Effect::Record { kind, outcome: AuditOutcome::Denied },
            Effect::Refuse { why: Refusal::Ended(why) },
        ]
    };
    match event {
        Event::Refresh { .. } => refused(AuditKind::Refresh),
        Event::StepUp { .. } => refused(AuditKind::StepUp),
        Event::Logout
        | Event::Revoke
        | Event::Lock
        | Event::Unlock
        | Event::Use { .. }
        | Event::Tick => Vec::new(),
    }
}

fn lock(mut state: SessionState, now: Timestamp) -> (SessionState, Vec<Effect>) {
    if let Phase::Locked { .. } = state.phase {
        return (state, Vec::new());
    }
    state.phase = Phase::Locked { since: now };
    (state, vec![Effect::CutStreams, Effect::FlushCredentials])
}

fn unlock(mut state: SessionState) -> (SessionState, Vec<Effect>) {
    state.phase = Phase::Live;
    (state, Vec::new())
}

fn step_up(
    mut state: SessionState,
    factors: &BTreeSet<Factor>,
    now: Timestamp,
) -> (SessionState, Vec<Effect>) {
    if let Phase::Locked { .. } = state.phase {
        return (state, refused_locked(AuditKind::StepUp));
    }
    state.proof = Proof { factors: &state.proof.factors | factors, factor_at: now };
    (state, vec![Effect::Record { kind: AuditKind::StepUp, outcome: AuditOutcome::Done }])
}

fn refused_locked(kind: AuditKind) -> Vec<Effect> {
    vec![
        Effect::Record { kind, outcome: AuditOutcome::Denied },
        Effect::Refuse { why: Refusal::Locked },
    ]
}

fn refresh(
    mut state: SessionState,
    generation: u64,
    client: &ClientMark,
    now: Timestamp,
    settings: &SessionSettings,
) -> (SessionState, Vec<Effect>) {
    if *client != state.client {
        return end(state, EndReason::TokenReused, now);
    }
    let again = generation.checked_add(1) == Some(state.generation)
        && now < settings.reuse_grace.after(state.refreshed_at);
    if generation != state.generation && !again {
        return end(state, EndReason::TokenReused, now);
    }
    if let Phase::Locked { .. } = state.phase {
        return (state, refused_locked(AuditKind::Refresh));
    }
    if again {
        let generation = state.generation;
        return (state, vec![Effect::IssueRefreshToken { generation }]);
    }
    state.generation = state.generation.saturating_add(1);
    state.refreshed_at = now;
    let effects = vec![
        Effect::Record { kind: AuditKind::Refresh, outcome: AuditOutcome::Done },
        Effect::IssueRefreshToken { generation: state.generation },
    ];
    (state, effects)
}
