//! JWT-SVIDs for callers: asked for once, and given again until half of their life is over.

use std::{
    collections::{HashMap, VecDeque},
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

/// Tokens that are remembered, of one entry and of all.
const KEPT_OF_ONE: usize = 64;
const KEPT: usize = 4096;
/// How long the issuer has.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tokens by entry and audience.
pub(crate) struct Tokens {
    issuer: Issuer,
    clock: Arc<dyn Clock>,
    kept: Mutex<HashMap<Box<str>, VecDeque<Kept>>>,
}

struct Kept {
    audience: Vec<String>,
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
        let now = self.now();
        let known = self.recall(id, entry, audience, now);
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
        let (audience, entry) = (audience.to_vec(), Arc::clone(entry));
        self.remember(id, Kept { audience, entry, issued: issued.clone(), until }, now);
        Ok(issued)
    }

    fn recall(
        &self,
        id: &str,
        entry: &Arc<Entry>,
        audience: &[String],
        now: Timestamp,
    ) -> Option<JwtIssued> {
        let all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.get(id)?.iter().find(|kept| kept.audience == audience)?;
        (kept.until > now && kept.entry == *entry).then(|| kept.issued.clone())
    }

    /// Whoever has many loses the oldest of their own.
    fn remember(&self, id: &str, fresh: Kept, now: Timestamp) {
        let mut all = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().map(VecDeque::len).sum::<usize>() >= KEPT {
            all.retain(|_, kept| {
                kept.retain(|kept| kept.until > now);
                !kept.is_empty()
            });
        }
        if all.values().map(VecDeque::len).sum::<usize>() >= KEPT
            && let Some(most) = all.values_mut().max_by_key(|kept| kept.len())
        {
            most.pop_front();
        }
        let own = all.entry(id.into()).or_default();
        own.retain(|kept| kept.until > now && kept.audience != fresh.audience);
        if own.len() >= KEPT_OF_ONE {
            own.pop_front();
        }
        own.push_back(fresh);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use std::collections::BTreeSet;

    use nullius_model::{SystemClock, Ttl};

    use super::*;

    #[test]
    fn who_asks_for_many_tokens_forgets_none_of_others() {
        let away = |_: Box<str>, _, _| std::future::ready(Err(IssueError::Refused(String::new())));
        let issuer = Issuer::new(
            |_, _, _| std::future::ready(Err(IssueError::Refused(String::new()))),
            away,
        );
        let tokens = Tokens::new(issuer, Arc::new(SystemClock));
        let entry = Arc::new(Entry {
            spiffe_id: "spiffe://shop.example/a".parse().unwrap(),
            selectors: BTreeSet::from(["unix:uid:1".parse().unwrap()]),
            ttl: Ttl::from_secs(60),
            jwt_ttl: Ttl::from_secs(60),
            dns_names: Vec::new(),
            hint: None,
            audiences: BTreeSet::new(),
            federates_with: BTreeSet::new(),
        });
        let (now, until) = (Timestamp::now(), Ttl::from_secs(60).after(Timestamp::now()));
        let remember = |id: &str, audience: String| {
            let issued = JwtIssued { token: "t".to_owned().into(), expires_at: until };
            let (audience, entry) = (vec![audience], Arc::clone(&entry));
            tokens.remember(id, Kept { audience, entry, issued, until }, now);
        };
        let knows = |id: &str, audience: &str| {
            tokens.recall(id, &entry, &[audience.to_owned()], now).is_some()
        };
        remember("quiet", "bank".to_owned());
        for pod in 0..100 {
            for audience in 0..200 {
                remember(&format!("loud-{pod}"), audience.to_string());
            }
        }
        assert!(knows("quiet", "bank"));
        assert!(knows("loud-99", "199") && !knows("loud-99", "0"), "the newest stay");
        remember("late", "bank".to_owned());
        assert!(knows("late", "bank"));
        let kept = tokens.kept.lock().unwrap();
        assert!(kept.values().map(VecDeque::len).sum::<usize>() <= KEPT);
    }
}
