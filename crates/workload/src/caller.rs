//! A caller: the process behind a connection, with what is theirs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use nullius_model::TrustDomain;
use nullius_pki::workload::TrustBundle;
use tokio::sync::watch;
use tonic::Status;

use crate::{
    account::{ConnectionPlace, StreamPlace},
    attest::{AttestError, Attestor, Facts},
    cgroup::Place,
    entry::{Entry, Registered},
    keep::{Held, Holdings},
    peer::Peer,
};

/// The process behind a connection.
pub(crate) struct Caller {
    process: Arc<Process>,
    pub(crate) holdings: watch::Receiver<Option<Arc<Holdings>>>,
    place: Arc<ConnectionPlace>,
}

/// A process with what was known of it when it connected.
///
/// An entry is a caller's if it was when they connected and is now: who becomes another program keeps the connection, and others may
/// have it too, so that it never becomes worth more.
pub(crate) struct Process {
    pub(crate) peer: Peer,
    attestor: Arc<Attestor>,
    first: Mutex<Facts>,
}

/// What a caller may have at one time.
#[derive(Clone)]
pub(crate) struct View {
    /// Entries in their order.
    pub(crate) mine: Vec<Mine>,
    pub(crate) trust_domain: TrustDomain,
    /// The bundle of the own trust domain, and of those that the entries federate with.
    pub(crate) bundles: BTreeMap<TrustDomain, Arc<TrustBundle>>,
}

/// An entry of a caller, and what is held for it by now.
#[derive(Clone)]
pub(crate) struct Mine {
    pub(crate) id: Box<str>,
    pub(crate) entry: Arc<Entry>,
    pub(crate) held: Option<Arc<Held>>,
}

impl Process {
    /// Looks at who connected.
    pub(crate) fn of(
        peer: Peer,
        attestor: Arc<Attestor>,
        holdings: Option<&Holdings>,
    ) -> Result<Self, AttestError> {
        let is_digest_wanted =
            |facts: &Facts| holdings.is_some_and(|holdings| holdings.registered.asks_digest(facts));
        let mut first = attestor.look(&peer, &is_digest_wanted)?;
        (first.uid, first.gid) = peer.owner;
        Ok(Self { peer, attestor, first: Mutex::new(first) })
    }

    pub(crate) fn first(&self) -> Facts {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What holds now.
    fn look(&self, registered: &Registered) -> Result<Facts, AttestError> {
        let now = self.attestor.look(&self.peer, &|facts| registered.asks_digest(facts))?;
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody asked for digests when they connected: of the same file it is the same.
        if let (Some(then), Some(executable)) = (&mut first.executable, &now.executable)
            && then.sha256.is_none()
            && then.is_same_file(executable)
        {
            then.sha256 = executable.sha256;
        }
        Ok(now)
    }
}

impl Caller {
    pub(crate) fn new(
        process: Arc<Process>,
        holdings: watch::Receiver<Option<Arc<Holdings>>>,
        place: Arc<ConnectionPlace>,
    ) -> Self {
        Self { process, holdings, place }
    }

    /// Takes a request from the caller's allowance.
    pub(crate) fn count(&self) -> Result<(), Status> {
        if self.place.may_ask() { Ok(()) } else { Err(too_often()) }
    }

    pub(crate) fn stream(&self) -> Result<StreamPlace, Status> {
        let full = || Status::resource_exhausted("too many open streams; close some first");
        self.place.stream().ok_or_else(full)
    }

    /// What is known at present.
    pub(crate) fn current(&self) -> Result<Arc<Holdings>, Status> {
        let starting = || Status::unavailable("the node is starting and knows no identities yet");
        self.holdings.borrow().clone().ok_or_else(starting)
    }

    /// What may be the caller's, as they were when they connected; nothing where that cannot be told without a look.
    pub(crate) fn candidate(&self, holdings: &Holdings) -> Option<View> {
        let first = self.process.first();
        let has_digest = first.executable.as_ref().is_some_and(|it| it.sha256.is_some());
        let is_told = has_digest || !holdings.registered.asks_digest(&first);
        is_told.then(|| View::of(holdings, |entry| entry.selects(&first)))
    }

    /// Looks at the process, and says what is theirs. Without an identity it is denied.
    pub(crate) async fn view(&self, holdings: &Arc<Holdings>) -> Result<View, Status> {
        let (process, registered) = (Arc::clone(&self.process), Arc::clone(&holdings.registered));
        let looked = tokio::task::spawn_blocking(move || process.look(&registered)).await;
        let now = match looked {
            Ok(Ok(now)) => now,
            Ok(Err(error)) => {
                tracing::debug!(%error, "deny a caller that cannot be attested");
                return Err(Status::permission_denied(error.to_string()));
            }
            Err(_) => return Err(Status::internal("the caller could not be looked at")),
        };
        let first = self.process.first();
        let view = View::of(holdings, |entry| entry.selects(&first) && entry.selects(&now));
        match view.mine.is_empty() {
            false => Ok(view),
            true => {
                let told = describe(&now);
                Err(Status::permission_denied(format!("no identity is registered for {told}")))
            }
        }
    }
}

pub(crate) fn too_often() -> Status {
    Status::resource_exhausted("too many requests; wait before the next")
}

/// Who somebody is, in words.
fn describe(facts: &Facts) -> String {
    let Facts { uid, gid, place, executable } = facts;
    let place = match place {
        Place::Host => "on the host".to_owned(),
        Place::Pod { pod, container } => format!("in container `{container}` of pod `{pod}`"),
        Place::OtherContainer => "in a container that is no pod's".to_owned(),
    };
    let path = executable.as_ref().and_then(|executable| executable.path.as_deref());
    let path = path.map(|path| format!(", executable `{}`", path.escape_debug()));
    format!("user {uid}, group {gid}, {place}{}", path.unwrap_or_default())
}

impl View {
    fn of(holdings: &Holdings, is_theirs: impl Fn(&Entry) -> bool) -> Self {
        let registered = &holdings.registered;
        let mine: Vec<Mine> = registered
            .entries
            .iter()
            .filter(|(_, entry)| is_theirs(entry))
            .map(|(id, entry)| Mine {
                id: id.clone(),
                entry: Arc::clone(entry),
                held: holdings.held.get(id).cloned(),
            })
            .collect();
        let wanted = mine.iter().flat_map(|mine| &mine.entry.federates_with);
        let bundles = wanted
            .chain([&registered.trust_domain])
            .filter_map(|domain| Some((domain.clone(), registered.bundles.get(domain)?.clone())))
            .collect();
        Self { mine, trust_domain: registered.trust_domain.clone(), bundles }
    }

    /// Whether a caller would be told the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let same_held = |a: &Option<Arc<Held>>, b: &Option<Arc<Held>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        self.mine.len() == other.mine.len()
            && self.trust_domain == other.trust_domain
            && self.bundles == other.bundles
            && self
                .mine
                .iter()
                .zip(&other.mine)
                .all(|(a, b)| a.id == b.id && a.entry == b.entry && same_held(&a.held, &b.held))
    }

    /// Bundles of other trust domains.
    pub(crate) fn foreign(&self) -> impl Iterator<Item = (&TrustDomain, &Arc<TrustBundle>)> {
        self.bundles.iter().filter(|(domain, _)| **domain != self.trust_domain)
    }
}
