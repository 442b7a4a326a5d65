//! The check of a hub's assertion at the agent: one permitted request, on this connection, once.
//!
//! Clocks may be [`CLOCK_SKEW`] apart. Nonces are remembered in memory only: after a restart an old assertion fails
//! all the same, since it names a TLS connection that is gone.

use std::sync::{Arc, Mutex, PoisonError};

use nullius_model::{ClusterName, RequestAssertion, Timestamp};

use crate::{
    CLOCK_SKEW, Verifier, VerifyError,
    jws::TokenKind,
    random::sha256,
    replay::{ReplayMemory, Seen},
};

/// The longest life of an assertion, in seconds.
pub const ASSERTION_MAX: i64 = 60;

/// What the agent sees of the request itself.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// Path and query as they go to the API server.
    pub path_and_query: &'a str,
    /// The upgrade protocol in lower case, where the request asks for one.
    pub upgrade: Option<&'a str>,
    /// The TLS exporter of the connection that the request came on.
    pub exporter: &'a [u8; 32],
}

/// Why an assertion is refused. All but `Token` mean that a hub's signature was right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// The token itself is refused.
    #[error("the assertion is refused")]
    Token(#[from] VerifyError),
    /// For another cluster.
    #[error("the assertion is for cluster `{0}`")]
    Cluster(ClusterName),
    /// For another connection.
    #[error("the assertion is for another connection")]
    Connection,
    /// For another method, path or upgrade.
    #[error("the assertion is for another {0}")]
    Request(&'static str),
    /// Ends before it begins, or lives too long.
    #[error("the assertion's life of {0} s is not between 1 and {ASSERTION_MAX} s")]
    Life(i64),
    /// Over.
    #[error("the assertion ended {0} s ago; check the clocks of hub and cluster")]
    Expired(i64),
    /// Issued in the future.
    #[error("the assertion was issued {0} s in the future; check the clocks of hub and cluster")]
    Early(i64),
    /// The nonce is not 128 bits in hexadecimal.
    #[error("the assertion's nonce is malformed")]
    Nonce,
    /// Used before.
    #[error("the assertion was used before")]
    Replayed,
    /// Too many requests to remember.
    #[error("too many requests within a minute; try again shortly")]
    Overloaded,
}

/// Checks assertions for one cluster.
pub struct AssertionVerifier {
    verifier: Arc<Verifier>,
    cluster: ClusterName,
    replays: Mutex<ReplayMemory>,
}

impl AssertionVerifier {
    /// A verifier for the agent of a cluster.
    pub fn new(verifier: Arc<Verifier>, cluster: ClusterName) -> Self {
        Self { verifier, cluster, replays: Mutex::new(ReplayMemory::new()) }
    }

    /// Reads an assertion that another part of this cluster's agent has accepted: for this cluster, rightly signed and
    /// not over. The request and the connection are not seen here, and a nonce is not used up.
    pub fn read(&self, token: &str, now: Timestamp) -> Result<RequestAssertion, AssertionError> {
        let (assertion, _) =
            self.verifier.open::<RequestAssertion>(token, TokenKind::Request, now)?;
        if assertion.aud != self.cluster {
            return Err(AssertionError::Cluster(assertion.aud));
        }
        check_life(&assertion, now.as_second())?;
        Ok(assertion)
    }

    /// Accepts an assertion for exactly this request, once.
    pub fn verify(
        &self,
        token: &str,
        facts: &RequestFacts<'_>,
        now: Timestamp,
    ) -> Result<RequestAssertion, AssertionError> {
        let assertion = self.read(token, now)?;
        let until = check_life(&assertion, now.as_second())?;
        if !is_hex_of(&assertion.conn, facts.exporter) {
            return Err(AssertionError::Connection);
        }
        if assertion.method != facts.method {
            return Err(AssertionError::Request("method"));
        }
        if !is_hex_of(&assertion.path, &sha256(facts.path_and_query.as_bytes())) {
            return Err(AssertionError::Request("path"));
        }
        if assertion.upgrade.as_deref() != facts.upgrade {
            return Err(AssertionError::Request("upgrade"));
        }
        let nonce = parse_nonce(&assertion.jti).ok_or(AssertionError::Nonce)?;
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        match replays.note(nonce, until, now.as_second()) {
            Seen::First => Ok(assertion),
            Seen::Before => Err(AssertionError::Replayed),
            Seen::Full => Err(AssertionError::Overloaded),
        }
    }
}

/// The `path` of an assertion: SHA-256 of path and query as forwarded, in hexadecimal.
pub fn path_hash(path_and_query: &str) -> String {
    hex::encode(sha256(path_and_query.as_bytes()))
}

/// The `conn` of an assertion: the TLS exporter in hexadecimal.
pub fn connection_id(exporter: &[u8; 32]) -> String {
    hex::encode(exporter)
}

/// The last second in which the assertion could be used.
fn check_life(assertion: &RequestAssertion, now: i64) -> Result<i64, AssertionError> {
    let skew = CLOCK_SKEW.as_secs();
    let life = assertion.exp.saturating_sub(assertion.iat);
    if !(1..=ASSERTION_MAX).contains(&life) {
        return Err(AssertionError::Life(life));
    }
    if assertion.iat > now.saturating_add(skew) {
        return Err(AssertionError::Early(assertion.iat.saturating_sub(now)));
    }
    let until = assertion.exp.saturating_add(skew);
    if now > until {
        return Err(AssertionError::Expired(now.saturating_sub(assertion.exp)));
    }
    Ok(until)
}

fn is_hex_of(text: &str, bytes: &[u8; 32]) -> bool {
    let mut hexadecimal = [0; 64];
    hex::encode_to_slice(bytes, &mut hexadecimal).is_ok() && text.as_bytes() == hexadecimal
}

fn parse_nonce(text: &str) -> Option<u128> {
    let canonical =
        text.len() == 32 && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    canonical.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests;
