//! The SVIDs of this node: one for each entry, asked for as soon as the entry is registered, renewed at half of its life, and dropped
//! when it ends or is no longer stood behind. Keys are made here and never leave the node but to their workload.

mod plan;

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc, time::Duration};

use nullius_model::{Clock, Timestamp};
use nullius_pki::{
    PrivateKey,
    workload::{TrustBundle, X509Svid, verify_x509_svid},
};
use tokio::{sync::watch, task::JoinSet};
use zeroize::Zeroizing;

pub use self::plan::wait_after;
use self::plan::{after_failure, random, renewal};
use crate::{
    attest::Facts,
    entry::{Entry, Registered},
    issuer::{IssueError, Issuer},
};

/// Requests that wait for the issuer at the same time.
const IN_FLIGHT: usize = 16;
/// How long the issuer has for one.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing is looked at: a clock that was set meanwhile is noticed after that.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// An SVID with its key.
pub struct Held {
    /// The certificate.
    pub svid: X509Svid,
    /// PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
    /// When it was issued, by this node's clock.
    pub issued_at: Timestamp,
}

/// What is registered and what is held for it, as one.
#[derive(Clone)]
pub struct Holdings {
    /// What is registered.
    pub registered: Arc<Registered>,
    /// SVIDs by the id of their entry.
    pub held: BTreeMap<Box<str>, Arc<Held>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("svid", &self.svid).finish_non_exhaustive()
    }
}

impl Holdings {
    /// Entries of a process, in their order.
    pub fn entries_of<'h>(
        &'h self,
        facts: &'h Facts,
    ) -> impl Iterator<Item = (&'h str, &'h Arc<Entry>)> {
        let entries = self.registered.entries.iter();
        entries.filter(|(_, entry)| entry.selects(facts)).map(|(id, entry)| (id.as_ref(), entry))
    }
}

/// Holds SVIDs for what is registered, until the returned future is dropped or nobody registers any more. Nothing is there
/// before something was registered.
pub fn keep(
    registered: watch::Receiver<Option<Arc<Registered>>>,
    issuer: Issuer,
    clock: Arc<dyn Clock>,
) -> (watch::Receiver<Option<Arc<Holdings>>>, impl Future<Output = ()>) {
    let (told, holdings) = watch::channel(None);
    let keeper = Keeper {
        issuer,
        clock,
        slots: BTreeMap::new(),
        asked: JoinSet::new(),
        registered: None,
        told,
    };
    (holdings, keeper.run(registered))
}

struct Keeper {
    issuer: Issuer,
    clock: Arc<dyn Clock>,
    slots: BTreeMap<Box<str>, Slot>,
    asked: JoinSet<Answer>,
    registered: Option<Arc<Registered>>,
    told: watch::Sender<Option<Arc<Holdings>>>,
}

/// What is held for an entry, and what is done for it next.
struct Slot {
    entry: Arc<Entry>,
    held: Option<Arc<Held>>,
    /// When to ask.
    due: Timestamp,
    failures: u32,
    /// The entry that the issuer is asked for now.
    asking: Option<Arc<Entry>>,
}

/// What came of a request.
struct Answer {
    id: Box<str>,
    entry: Arc<Entry>,
    outcome: Result<(X509Svid, PrivateKey), IssueError>,
}

impl Keeper {
    async fn run(mut self, mut registered: watch::Receiver<Option<Arc<Registered>>>) {
        loop {
            let current = registered.borrow_and_update().clone();
            if let Some(current) = current {
                self.take(current);
            }
            self.drop_ended();
            self.ask();
            self.tell();
            let wait = self.wait();
            tokio::select! {
                changed = registered.changed() => if changed.is_err() { return },
                Some(answer) = self.asked.join_next(), if !self.asked.is_empty() => match answer {
                    Ok(answer) => self.answered(answer),
                    Err(error) => tracing::error!(%error, "lose a request for an SVID"),
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// What is registered now.
    fn take(&mut self, current: Arc<Registered>) {
        let before = self.registered.replace(Arc::clone(&current));
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &current)) {
            return;
        }
        let now = self.clock.now();
        self.slots.retain(|id, _| current.entries.contains_key(id));
        for (id, entry) in &current.entries {
            match self.slots.get_mut(id) {
                None => {
                    let slot = Slot {
                        entry: Arc::clone(entry),
                        held: None,
                        due: now,
                        failures: 0,
                        asking: None,
                    };
                    self.slots.insert(id.clone(), slot);
                }
                Some(slot) => slot.becomes(entry, now),
            }
        }
        // Whoever registers is there again: what waits after failures need not.
        for slot in self.slots.values_mut().filter(|slot| slot.held.is_none()) {
            slot.due = now;
        }
        let bundle = current.own_bundle();
        let same_bundle = before.as_ref().is_some_and(|before| before.own_bundle() == bundle);
        for (id, slot) in &mut self.slots {
            let Some(held) = &slot.held else { continue };
            if !same_bundle && !is_stood_behind(&held.svid, bundle, now) {
                tracing::warn!(entry = %id, "drop an SVID that the bundle does not stand behind");
                slot.held = None;
                slot.due = now;
            } else if current.reissue_before.is_some_and(|before| held.issued_at < before) {
                slot.due = now;
            }
        }
    }

    fn drop_ended(&mut self) {
        let now = self.clock.now();
        for (id, slot) in &mut self.slots {
            if slot.held.as_ref().is_some_and(|held| held.svid.not_after <= now) {
                tracing::error!(entry = %id, "drop an SVID that ended before it was renewed");
                slot.held = None;
            }
        }
    }

    /// Asks for what is due.
    fn ask(&mut self) {
        let now = self.clock.now();
        for (id, slot) in &mut self.slots {
            if self.asked.len() >= IN_FLIGHT {
                return;
            }
            if slot.asking.is_some() || slot.due > now {
                continue;
            }
            slot.asking = Some(Arc::clone(&slot.entry));
            let (id, entry, issuer) = (id.clone(), Arc::clone(&slot.entry), self.issuer.clone());
            self.asked.spawn(async move {
                let outcome = request(&issuer, id.clone(), Arc::clone(&entry)).await;
                Answer { id, entry, outcome }
            });
        }
    }

    fn answered(&mut self, answer: Answer) {
        let Answer { id, entry, outcome } = answer;
        let now = self.clock.now();
        let bundle = self.registered.as_ref().and_then(|registered| registered.own_bundle());
        // Registered no more, or anew while the issuer was asked: then this answers somebody else.
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if slot.asking.take_if(|asked| Arc::ptr_eq(asked, &entry)).is_none() {
            return;
        }
        if !slot.entry.is_certified_as(&entry) {
            return;
        }
        match outcome
            .and_then(|(svid, key)| check(svid, &key, &entry, bundle, now).map(|svid| (svid, key)))
        {
            Ok((svid, key)) => {
                slot.due = renewal(now, svid.not_after, random());
                slot.failures = 0;
                let key = key.to_pkcs8();
                slot.held = Some(Arc::new(Held { svid, key, issued_at: now }));
            }
            Err(error) => {
                tracing::warn!(entry = %id, %error, failures = slot.failures, "fail to renew an SVID");
                slot.due = after_failure(now, slot.failures, random());
                slot.failures = slot.failures.saturating_add(1);
            }
        }
    }

    /// Tells what changed, as one.
    fn tell(&self) {
        let Some(registered) = &self.registered else { return };
        let held: BTreeMap<_, _> = self
            .slots
            .iter()
            .filter_map(|(id, slot)| Some((id.clone(), Arc::clone(slot.held.as_ref()?))))
            .collect();
        let holdings = Holdings { registered: Arc::clone(registered), held };
        self.told.send_if_modified(|told| {
            let is_same = told.as_ref().is_some_and(|told| told.is_same(&holdings));
            if !is_same {
                *told = Some(Arc::new(holdings));
            }
            !is_same
        });
    }

    /// Until something is due.
    fn wait(&self) -> Duration {
        let now = self.clock.now();
        let ends = |slot: &Slot| slot.held.as_ref().map(|held| held.svid.not_after);
        let due = |slot: &Slot| slot.asking.is_none().then_some(slot.due);
        let next = self.slots.values().flat_map(|slot| [due(slot), ends(slot)]).flatten().min();
        let Some(next) = next else { return LOOK_AGAIN };
        let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
        // What is due and waits for room is asked for when an answer comes.
        let least =
            if self.asked.len() >= IN_FLIGHT { LOOK_AGAIN } else { Duration::from_millis(1) };
        wait.clamp(least, LOOK_AGAIN)
    }
}

impl Slot {
    fn becomes(&mut self, entry: &Arc<Entry>, now: Timestamp) {
        if Arc::ptr_eq(&self.entry, entry) {
            return;
        }
        if self.entry.spiffe_id != entry.spiffe_id {
            self.held = None;
        }
        if !self.entry.is_certified_as(entry) {
            self.due = now;
            self.asking = None;
            self.failures = 0;
        }
        self.entry = Arc::clone(entry);
    }
}

impl Holdings {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.registered, &other.registered)
            && self.held.len() == other.held.len()
            && self.held.iter().zip(&other.held).all(|((id, held), (other_id, other_held))| {
                id == other_id && Arc::ptr_eq(held, other_held)
            })
    }
}

async fn request(
    issuer: &Issuer,
    id: Box<str>,
    entry: Arc<Entry>,
) -> Result<(X509Svid, PrivateKey), IssueError> {
    let failed = |error: nullius_pki::CertificateError| IssueError::Unavailable(error.to_string());
    let key = PrivateKey::generate().map_err(failed)?;
    let csr = key.request().map_err(failed)?;
    let late = || IssueError::Unavailable(format!("no answer in {} s", PATIENCE.as_secs()));
    let answer = tokio::time::timeout(PATIENCE, issuer.x509(id, entry, csr)).await;
    Ok((answer.map_err(|_| late())??, key))
}

/// What is handed out must be what peers accept: for this key and ID, and stood behind by the bundle.
fn check(
    svid: X509Svid,
    key: &PrivateKey,
    entry: &Entry,
    bundle: Option<&Arc<TrustBundle>>,
    now: Timestamp,
) -> Result<X509Svid, IssueError> {
    let wrong = |why: &str| IssueError::Unavailable(format!("the issuer's answer is wrong: {why}"));
    if !svid.is_for(key) {
        return Err(wrong("it is for another key"));
    }
    let bundle_of = |domain: &str| {
        bundle.map(AsRef::as_ref).filter(|bundle| bundle.trust_domain().as_str() == domain)
    };
    let (id, not_after) =
        verify_x509_svid(&svid.chain, bundle_of, now).map_err(|error| wrong(&error.to_string()))?;
    match id == entry.spiffe_id {
        true => Ok(X509Svid { id, not_after, ..svid }),
        false => Err(wrong("it is for another ID")),
    }
}

fn is_stood_behind(svid: &X509Svid, bundle: Option<&Arc<TrustBundle>>, now: Timestamp) -> bool {
    let bundle_of = |_: &str| bundle.map(AsRef::as_ref);
    verify_x509_svid(&svid.chain, bundle_of, now).is_ok()
}
