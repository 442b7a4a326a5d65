//! Which machine calls: by the key that joined, or by certificates; and how a key joins, with a token that counts once.
//!
//! What is asked of a token or key is first looked up in what the watches have told, so that strangers cost the API server nothing. Joining
//! is decided by the object itself: of two that come with one token at once, the API server overtakes one.

use std::{future::Future, sync::PoisonError, time::Duration};

use nullius_kube::identity::{Joined, MachineStore};
use nullius_model::{ObjectName, Timestamp};
use nullius_pki::{
    Csr, MachineAuthority, MachinePublicKey, MachineToken, MachineTokenError, token_hash,
};
use nullius_registration::Machine;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tonic::Status;

use super::{Caller, Callers, NEWS, Proof, nobody, unavailable};
use crate::svid::registry::{JoinedBy, Means, ProvenNode, is_over, is_token, name_among_nodes};

/// The longest token to join with that is looked at, in bytes.
const JOIN_TOKEN_MAX: usize = 256;
/// Machines that join at the same time.
const JOINING: usize = 8;
/// Machines, and who says to be one, that wait for news of themselves.
const WAITING: usize = 64;
/// One question to the API server, or one turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an object is read again that somebody else changed.
const TRIES: usize = 4;

/// What is needed to let machines in.
pub(crate) struct Door {
    store: MachineStore,
    /// Whether machines are known as they are.
    hears: Box<dyn Fn() -> bool + Send + Sync>,
    joining: Semaphore,
    waiting: Semaphore,
}

/// By what a machine has proven itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ByWhat {
    Key(MachinePublicKey),
    Certificates(std::sync::Arc<MachineAuthority>),
}

impl Door {
    pub(crate) fn new(
        store: MachineStore,
        hears: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            store,
            hears: Box::new(hears),
            joining: Semaphore::new(JOINING),
            waiting: Semaphore::new(WAITING),
        }
    }
}

impl ByWhat {
    /// Whether the machine may still prove itself by it.
    pub(super) fn holds(&self, means: &Means) -> bool {
        match self {
            Self::Key(key) => means.key.as_ref() == Some(key),
            Self::Certificates(authority) => means.authority.as_ref() == Some(authority),
        }
    }
}

impl Callers {
    /// Which machine calls, or why that is nobody.
    pub(super) async fn prove_machine(&self, token: &SecretString) -> Result<Caller, Status> {
        let door = self.door()?;
        let token = MachineToken::read(token.expose_secret());
        let token = token.map_err(|why| nobody(&why.to_string()))?;
        let judge = || self.judge_machine(&token, Timestamp::now());
        // The key may have joined at another replica just now.
        self.with_news(door, judge).await.map_err(|why| nobody(&why))
    }

    /// Whether a machine of before still is who it was.
    pub(super) fn still_machine(&self, node: &ProvenNode, by: &ByWhat) -> Result<(), Status> {
        let name = node.machine().unwrap_or_default();
        let means = self.registry.read().unwrap_or_else(PoisonError::into_inner).means(name);
        match means.is_some_and(|means| means.uid == node.uid && by.holds(&means)) {
            true => Ok(()),
            false => Err(nobody("the Machine is gone, or has another token or authority by now")),
        }
    }

    fn judge_machine(&self, token: &MachineToken<'_>, now: Timestamp) -> Result<Caller, Refused> {
        let name = token.machine().as_str();
        let means = self.registry.read().unwrap_or_else(PoisonError::into_inner).means(name);
        let means = means.ok_or_else(|| {
            Refused::for_now("there is no such Machine, or it cannot be read; see its status")
        })?;
        let (by, ends) = if token.has_certificates() {
            let authority = means.authority;
            let authority =
                authority.ok_or_else(|| Refused::for_now("the Machine has no `spec.x509pop`"))?;
            let proven = token.verify_by_authority(&authority, &self.audience, now)?;
            (ByWhat::Certificates(authority), proven.1)
        } else {
            let key = means.key.ok_or_else(|| Refused::for_now(
                "no key has joined by the join token that the Machine has now; make one with `nullius node join-token`",
            ))?;
            let ends = token.verify_by_key(&key, &self.audience, now)?;
            (ByWhat::Key(key), ends)
        };
        let node = ProvenNode { name: name_among_nodes(name), uid: means.uid };
        Ok(Caller { node, ends, proof: Proof::Machine(by) })
    }

    /// Makes a key the machine's, if a token says so that counts.
    pub(crate) async fn join(
        &self,
        machine: &str,
        token: &SecretString,
        request: &Csr,
    ) -> Result<ProvenNode, Status> {
        let door = self.door()?;
        let name: ObjectName = machine.parse().map_err(|_| no_such_token())?;
        if token.expose_secret().len() > JOIN_TOKEN_MAX {
            return Err(no_such_token());
        }
        let sha256 = token_hash(token.expose_secret());
        // Machine and token may have been written just now.
        let knows = || {
            let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
            if registry.has_join_token(name.as_str(), &sha256) {
                Ok(())
            } else {
                Err(Refused::for_now("another token"))
            }
        };
        self.with_news(door, knows).await.map_err(|_| no_such_token())?;
        let key = MachinePublicKey::proven(request)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let busy = || Status::unavailable("too many machines join at the same time; ask again");
        let turn = timeout(PATIENCE, door.joining.acquire()).await;
        let _turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        for _ in 0..TRIES {
            if let Some(joined) = door.join_once(&name, &sha256, &key).await? {
                return Ok(joined);
            }
        }
        Err(Status::unavailable("the Machine changes all the time; ask again"))
    }

    fn door(&self) -> Result<&Door, Status> {
        let known = self.registry.read().unwrap_or_else(PoisonError::into_inner).knows_machines();
        let door = self.door.as_ref().filter(|door| known && (door.hears)());
        door.ok_or_else(|| Status::unavailable("machines are not known here now; ask again"))
    }

    /// Asks again with each news for as long as news take, where those may help.
    async fn with_news<T>(
        &self,
        door: &Door,
        ask: impl Fn() -> Result<T, Refused>,
    ) -> Result<T, String> {
        let mut news = self.news.subscribe();
        match ask() {
            Ok(found) => return Ok(found),
            Err(refused) if !refused.may_be_news => return Err(refused.why),
            Err(_) => {}
        }
        // Of too many who wait nobody takes the room of nodes.
        let Ok(_waits) = door.waiting.try_acquire() else { return ask().map_err(|it| it.why) };
        let until = Instant::now() + NEWS;
        loop {
            let is_over = !matches!(timeout_at(until, news.changed()).await, Ok(Ok(())));
            match ask() {
                Err(refused) if refused.may_be_news && !is_over => {}
                answer => return answer.map_err(|refused| refused.why),
            }
        }
    }
}

/// Why somebody is no machine.
struct Refused {
    why: String,
    /// What the watches have told may only be old.
    may_be_news: bool,
}

impl Refused {
    fn for_now(why: &str) -> Self {
        Self { why: why.to_owned(), may_be_news: true }
    }
}

impl From<MachineTokenError> for Refused {
    fn from(error: MachineTokenError) -> Self {
        let may_be_news = matches!(error, MachineTokenError::OtherKey);
        Self { why: error.to_string(), may_be_news }
    }
}

impl Door {
    /// Tries to make a key the machine's; nothing where somebody else changed the object meanwhile.
    async fn join_once(
        &self,
        name: &ObjectName,
        sha256: &str,
        key: &MachinePublicKey,
    ) -> Result<Option<ProvenNode>, Status> {
        let found = within(self.store.read(name.as_str())).await?.ok_or_else(no_such_token)?;
        let object = found.json();
        let machine = Machine::read(&object).map_err(|_| no_such_token())?;
        let known = machine.join_token.as_ref();
        let Some(known) = known.filter(|_| is_token(known, sha256)) else {
            return Err(no_such_token());
        };
        let node = ProvenNode { name: name_among_nodes(name.as_str()), uid: found.uid().into() };
        let joined = JoinedBy::read(&object["status"]).filter(|it| *it.token == *sha256);
        if let Some(joined) = joined {
            // Whoever got no answer asks again.
            return match joined.key == *key {
                true => Ok(Some(node)),
                false => Err(Status::permission_denied(
                    "the join token was used already, by another key; whoever did is this Machine now: if that was not you, make another token with `nullius node join-token`",
                )),
            };
        }
        // A token that another object says was used, and whose key cannot be read, is used all the same.
        if object["status"]["token"] == *sha256 {
            return Err(Status::permission_denied(
                "the join token was used already; make another one with `nullius node join-token`",
            ));
        }
        let now = Timestamp::now();
        if is_over(known, now) {
            return Err(Status::permission_denied(
                "the join token has ended; make another one with `nullius node join-token`",
            ));
        }
        let second = now.round(jiff::Unit::Second).unwrap_or(now).to_string();
        let status = json!({
            "key": key.id(), "publicKey": key.to_text(), "token": sha256, "joinedAt": second,
        });
        match within(self.store.join(found, &status)).await? {
            Joined::Written => {
                tracing::info!(machine = %name, key = key.id(), "a machine joined");
                Ok(Some(node))
            }
            Joined::Overtaken => Ok(None),
        }
    }
}

async fn within<T>(
    asked: impl Future<Output = Result<T, nullius_kube::KubeError>>,
) -> Result<T, Status> {
    let answer = timeout(PATIENCE, asked).await;
    answer.map_err(|_| Status::unavailable("the API server does not answer"))?.map_err(unavailable)
}

fn no_such_token() -> Status {
    nobody("no Machine of this name has this join token; make one with `nullius node join-token`")
}
