//! The gate of a request that came through the tunnel: the only way to a session's token.
//!
//! The hub's assertion is checked against exactly this request and connection; then the session must not have
//! ended and the lease must be held; then control is asked for the token, unless a good one is at hand.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use nullius_model::{ClusterName, RequestAssertion, SessionId, Timestamp};
use nullius_pki::{AssertionError, AssertionVerifier, RequestFacts, Verifier, VerifyError};
use nullius_tunnel::{Admission, Gate, Presented, Refusal, Upgrade};
use secrecy::SecretString;
use tokio::time::Instant;

use crate::{
    alarm::{AlarmKind, Alarms},
    lease::Lease,
    meters::{Meters, Refused},
};

/// An ended session is remembered longer than any assertion for it lives.
const REMEMBER: Duration = Duration::from_secs(180);
/// A token is not sent on when it ends within so many seconds.
const LAST_SECONDS: i64 = 10;
const SWEEP: Duration = Duration::from_secs(30);

/// A session's token as control hands it over.
#[derive(Clone)]
pub(crate) struct Handed {
    pub(crate) token: SecretString,
    pub(crate) expires_at: Timestamp,
}

/// Why control hands no token over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotHanded {
    /// The session has ended.
    Ended(String),
    /// Control refuses the assertion.
    Refused(String),
    /// It cannot now; trying again helps.
    Unavailable(String),
}

/// Whoever hands over tokens: control in the same process, or over mTLS.
pub(crate) trait Issuer: Send + Sync + 'static {
    /// The token of the session that an accepted assertion names.
    fn issue<'a>(
        &'a self,
        permitted: &'a RequestAssertion,
        assertion: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Handed, NotHanded>> + Send + 'a>>;
}

/// The gate of one cluster.
pub(crate) struct SessionGate {
    cluster: ClusterName,
    assertions: AssertionVerifier,
    lease: Lease,
    issuer: Arc<dyn Issuer>,
    alarms: Alarms,
    meters: Meters,
    ended: Mutex<HashMap<SessionId, Instant>>,
    slots: Mutex<HashMap<SessionId, Arc<Slot>>>,
}

/// The token of one session, and the queue of those who wait for the next.
#[derive(Default)]
struct Slot {
    held: ArcSwapOption<Held>,
    asking: tokio::sync::Mutex<()>,
}

struct Held {
    handed: Handed,
    generation: u64,
    renew_at: Timestamp,
}

impl Held {
    /// Good for this request without asking again.
    fn is_fresh(&self, generation: u64, now: Timestamp) -> bool {
        self.generation >= generation && now < self.renew_at
    }

    /// Good enough where control cannot be asked.
    fn is_usable(&self, generation: u64, now: Timestamp) -> bool {
        let left = self.handed.expires_at.as_second() - now.as_second();
        self.generation >= generation && left > LAST_SECONDS
    }
}

impl SessionGate {
    pub(crate) fn new(
        cluster: ClusterName,
        verifier: Arc<Verifier>,
        lease: Lease,
        issuer: Arc<dyn Issuer>,
        alarms: Alarms,
        meters: Meters,
    ) -> Self {
        Self {
            assertions: AssertionVerifier::new(verifier, cluster.clone()),
            cluster,
            lease,
            issuer,
            alarms,
            meters,
            ended: Mutex::default(),
            slots: Mutex::default(),
        }
    }

    /// Refuses a session from now on.
    pub(crate) fn end(&self, session: &SessionId) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.insert(session.clone(), Instant::now());
        drop(ended);
        self.slots().remove(session);
    }

    /// Raises an alarm about something that a key set of the hub should not be.
    pub(crate) fn alarm(&self, kind: AlarmKind, detail: &str) {
        self.alarms.raise(kind, detail);
    }

    async fn decide(&self, presented: Presented<'_>) -> Result<Admission, Refusal> {
        let now = Timestamp::now();
        let facts = RequestFacts {
            method: presented.method(),
            path_and_query: presented.path_and_query(),
            upgrade: presented.upgrade.map(Upgrade::as_str),
            exporter: presented.exporter,
        };
        let permitted = self
            .assertions
            .verify(presented.assertion, &facts, now)
            .map_err(|error| self.refuse_assertion(&error))?;
        self.check_standing(&permitted.sid)?;
        let credential = self.credential(&permitted, presented.assertion, now).await?;
        // It may have ended while control was asked.
        self.check_standing(&permitted.sid)?;
        self.meters.admitted.add_one(());
        Ok(Admission { credential, session: permitted.sid })
    }

    fn check_standing(&self, session: &SessionId) -> Result<(), Refusal> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.contains_key(session) {
            self.meters.refused.add_one(Refused::Ended);
            return Err(session_ended());
        }
        drop(ended);
        if self.lease.is_held() {
            return Ok(());
        }
        self.meters.refused.add_one(Refused::Lease);
        Err(Refusal::new(
            503,
            format!(
                "the agent of cluster `{}` has not heard its hub lately and refuses everybody until it does; try again",
                self.cluster
            ),
        ))
    }

    async fn credential(
        &self,
        permitted: &RequestAssertion,
        assertion: &str,
        now: Timestamp,
    ) -> Result<SecretString, Refusal> {
        let slot = Arc::clone(self.slots().entry(permitted.sid.clone()).or_default());
        if let Some(held) =
            slot.held.load().as_ref().filter(|held| held.is_fresh(permitted.plan, now))
        {
            return Ok(held.handed.token.clone());
        }
        let _one_asks = slot.asking.lock().await;
        if let Some(held) =
            slot.held.load().as_ref().filter(|held| held.is_fresh(permitted.plan, now))
        {
            return Ok(held.handed.token.clone());
        }
        match self.issuer.issue(permitted, assertion).await {
            Ok(handed) => {
                let token = handed.token.clone();
                let held = Held {
                    renew_at: renew_at(now, handed.expires_at),
                    handed,
                    generation: permitted.plan,
                };
                slot.held.store(Some(Arc::new(held)));
                Ok(token)
            }
            Err(NotHanded::Unavailable(_))
                if slot.held.load().as_ref().is_some_and(|h| h.is_usable(permitted.plan, now)) =>
            {
                let held = slot.held.load_full();
                held.map(|held| held.handed.token.clone()).ok_or_else(session_ended)
            }
            Err(error) => Err(self.refuse_credential(error, &permitted.sid)),
        }
    }

    fn refuse_assertion(&self, error: &AssertionError) -> Refusal {
        self.meters.refused.add_one(Refused::Assertion);
        let mut detail = error.to_string();
        if let Some(cause) = std::error::Error::source(error) {
            detail = format!("{detail}: {cause}");
        }
        if is_suspicious(error) {
            self.alarms.raise(AlarmKind::RefusedAssertion, &detail);
        }
        let code = if is_passing(error) { 503 } else { 403 };
        let message = format!(
            "the agent of cluster `{}` refused the hub's assertion: {detail}",
            self.cluster
        );
        Refusal::new(code, message)
    }

    fn refuse_credential(&self, error: NotHanded, session: &SessionId) -> Refusal {
        self.meters.refused.add_one(Refused::Credential);
        match error {
            NotHanded::Ended(_) => {
                self.end(session);
                session_ended()
            }
            NotHanded::Refused(why) => Refusal::new(
                403,
                format!("agent control of cluster `{}` refused: {why}", self.cluster),
            ),
            NotHanded::Unavailable(why) => Refusal::new(
                503,
                format!(
                    "the agent of cluster `{}` has no credential for your session yet: {why}",
                    self.cluster
                ),
            ),
        }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep(&self, now: Timestamp) {
        self.slots().retain(|_, slot| {
            let asked = Arc::strong_count(slot) > 1;
            asked || slot.held.load().as_ref().is_some_and(|held| held.is_usable(0, now))
        });
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, at| at.elapsed() < REMEMBER);
    }
}

impl Gate for SessionGate {
    fn admit<'a>(
        &'a self,
        presented: Presented<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Admission, Refusal>> + Send + 'a>> {
        Box::pin(self.decide(presented))
    }
}

/// Drops tokens that have ended, for as long as the process lives.
pub(crate) async fn drop_old(gate: Arc<SessionGate>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        gate.sweep(Timestamp::now());
    }
}

fn session_ended() -> Refusal {
    Refusal::new(401, "the session has ended in this cluster; sign in again with `nullius login`")
}

/// At 80 % of what is left of a token's life.
fn renew_at(now: Timestamp, expires_at: Timestamp) -> Timestamp {
    let left = expires_at.duration_since(now);
    now.saturating_add(left * 4 / 5).unwrap_or(now)
}

/// Whether it may pass by itself: clocks, a key set that is under way, too much to do.
fn is_passing(error: &AssertionError) -> bool {
    match error {
        AssertionError::Expired(_) | AssertionError::Early(_) | AssertionError::Overloaded => true,
        AssertionError::Token(VerifyError::UnknownKey(_) | VerifyError::KeyNotValid(_)) => true,
        AssertionError::Token(_)
        | AssertionError::Cluster(_)
        | AssertionError::Connection
        | AssertionError::Request(_)
        | AssertionError::Life(_)
        | AssertionError::Nonce
        | AssertionError::Replayed => false,
    }
}

/// Whether somebody should look at it. An unknown key is that of a forger as well as of a hub that just rotated.
fn is_suspicious(error: &AssertionError) -> bool {
    !matches!(
        error,
        AssertionError::Expired(_) | AssertionError::Early(_) | AssertionError::Overloaded
    )
}

#[cfg(test)]
mod tests;
