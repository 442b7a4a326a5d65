//! JWT-SVIDs for callers: asked for once, and given again until half of their life is over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nullius_model::{Clock, Timestamp};
use nullius_pki::workload::TrustBundle;
use secrecy::ExposeSecret as _;

use crate::{
    entry::{Entry, Registered},
    issuer::{IssueError, Issuer, JwtIssued},
};

/// Tokens that are remembered.
const KEPT: usize = 4096;
/// How long the issuer has.
const PATIENCE: Duration = Duration::from_secs(10);

/// An entry, and whom a token is for.
type Key = (Box<str>, Vec<String>);

/// Tokens by entry and audience.
pub(crate) struct Tokens {
    issuer: Issuer,
    clock: Arc<dyn Clock>,
    kept: Mutex<HashMap<Key, Kept>>,
}

struct Kept {
    entry: Arc<Entry>,
    issued: JwtIssued,
    until: Timestamp,
}

impl Tokens {
    pub(crate) fn new(issuer: Issuer, clock: Arc<dyn Clock>) -> Self {
        Self { issuer, clock, kept: Mutex::default() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A token for an entry, of one that the own bundle stands behind.
    pub(crate) async fn token(
        &self,
        id: &str,
        entry: &Arc<Entry>,
        audience: &[String],
        registered: &Registered,
    ) -> Result<JwtIssued, IssueError> {
        let bundle = registered.own_bundle();
        let key: Key = (id.into(), audience.to_vec());
        let now = self.now();
        let known = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.get(&key)
                .filter(|kept| kept.until > now && kept.entry == *entry)
                .map(|kept| kept.issued.clone())
        };
        if let Some(known) = known
            && check(&known, entry, audience, bundle, now).is_ok()
        {
            return Ok(known);
        }
        let late = || IssueError::Unavailable(format!("no answer in {} s", PATIENCE.as_secs()));
        let asked = self.issuer.jwt(id.into(), Arc::clone(entry), audience.to_vec());
        let issued = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| late())??;
        let now = self.now();
        check(&issued, entry, audience, bundle, now)?;
        let half = issued.expires_at.as_second().midpoint(now.as_second());
        let until = Timestamp::from_second(half).unwrap_or(now);
        let fresh = Kept { entry: Arc::clone(entry), issued: issued.clone(), until };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.retain(|_, kept| kept.until > now);
        }
        if kept.len() < KEPT {
            kept.insert(key, fresh);
        }
        Ok(issued)
    }
}

/// What is handed out must be what others accept.
fn check(
    issued: &JwtIssued,
    entry: &Entry,
    audience: &[String],
    bundle: Option<&Arc<TrustBundle>>,
    now: Timestamp,
) -> Result<(), IssueError> {
    let wrong = |why: &str| IssueError::Unavailable(format!("the issuer's answer is wrong: {why}"));
    let first = audience.first().ok_or_else(|| wrong("it is for nobody"))?;
    let bundle_of = |_: &str| bundle.map(AsRef::as_ref);
    let token = issued.token.expose_secret();
    let svid = TrustBundle::verify_jwt(token, first, bundle_of, now)
        .map_err(|error| wrong(&error.to_string()))?;
    if svid.id != entry.spiffe_id {
        return Err(wrong("it is for another ID"));
    }
    let mut told = svid.audience;
    told.sort();
    match told == audience {
        true => Ok(()),
        false => Err(wrong("it is for other audiences")),
    }
}
