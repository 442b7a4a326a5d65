//! Which X.509-SVIDs this replica issued: the last for each entry, until its end. The hub is told of each, so that people see who has which
//! identity, until when; and of all again where it has forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nullius_model::Timestamp;
use nullius_pki::workload::{AuthorityFacts, X509Svid};
use nullius_proto::{
    VERSION,
    agent_v1::{IssuedReport, IssuedSvid, workload_root_client::WorkloadRootClient},
};
use nullius_workload::wire::PodName;
use tonic::transport::Channel;

use super::{attend::client, lead::Hub, registry::Registered};

/// Entries that are remembered; of more nothing is told.
const MOST: usize = 20_000;
/// Bytes of what is told at once, and how many.
const BYTES: usize = 24 * 1024;
const AT_ONCE: usize = 200;
/// Between two looks at what is to be told, and after one that failed.
const LOOK: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_secs(15);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

type Name = Box<str>;

/// What was issued.
#[derive(Default)]
pub(crate) struct Issued(Mutex<Book>);

#[derive(Default)]
struct Book {
    all: BTreeMap<Name, IssuedSvid>,
    untold: BTreeSet<Name>,
    /// Which hub was told: one that began anew knows nothing.
    hub: String,
}

impl Issued {
    /// Notes what was issued for an entry.
    pub(crate) fn note(&self, id: &str, registered: &Registered, node: &str, svid: &X509Svid) {
        let Some(Ok(facts)) = svid.chain.first().map(AuthorityFacts::read) else { return };
        let Registered { entry, namespace, pod } = registered;
        // A process of a machine is in no pod: the name of its node says which machine.
        let of_pod = |part: fn(&PodName) -> &str| pod.as_ref().map(part).unwrap_or_default();
        let issued_at = facts.not_before.as_second();
        let one = IssuedSvid {
            entry: id.to_owned(),
            spiffe_id: svid.id.to_string(),
            namespace: namespace.to_string(),
            pod: of_pod(|pod| &pod.name).to_owned(),
            service_account: of_pod(|pod| &pod.service_account).to_owned(),
            node: node.to_owned(),
            object: object_of(id).to_owned(),
            selectors: entry.selectors.iter().map(ToString::to_string).collect(),
            serial: facts.serial,
            issued_at,
            not_after: facts.not_after.as_second(),
            since: issued_at,
        };
        self.lock().put(one, issued_at);
    }

    /// Tells the hub, for as long as the process lives.
    pub(crate) async fn tell(self: Arc<Self>, mut hub: Hub) {
        loop {
            let Ok(identity) = hub.wait_for(Option::is_some).await.map(|it| it.clone()) else {
                return std::future::pending().await;
            };
            let Some(identity) = identity else { continue };
            let all = identity.hub.addresses.iter().map(|address| client(&identity, address));
            let mut clients: Vec<_> = all.filter_map(Result::ok).collect();
            loop {
                let batch = self.lock().batch(Timestamp::now().as_second());
                let wait = match batch.is_empty() {
                    true => LOOK,
                    false => match ask(&mut clients, batch.clone()).await {
                        Ok(who) => {
                            self.lock().told(&batch, who);
                            Duration::ZERO
                        }
                        Err(why) => {
                            tracing::debug!(%why, "cannot tell the hub which SVIDs were issued, try again");
                            AGAIN
                        }
                    },
                };
                tokio::time::sleep(wait).await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The object by which an entry is there; empty where it is the pod's default identity. See `registry::entries`.
fn object_of(id: &str) -> &str {
    id.split('/').nth(2).unwrap_or_default()
}

/// Bytes of a message, at most.
fn length(one: &IssuedSvid) -> usize {
    let IssuedSvid { entry, spiffe_id, namespace, pod, service_account, node, object, .. } = one;
    let texts = [entry, spiffe_id, namespace, pod, service_account, node, object, &one.serial];
    let texts = texts.into_iter().chain(&one.selectors);
    texts.map(|text| text.len() + 4).sum::<usize>() + 3 * 11
}

/// Tells the replicas of the hub in turn; gives which hub heard it.
async fn ask(
    clients: &mut [WorkloadRootClient<Channel>],
    issued: Vec<IssuedSvid>,
) -> Result<String, String> {
    let report = IssuedReport { version: VERSION, issued };
    let mut last = "no address is configured".to_owned();
    for client in clients {
        match tokio::time::timeout(CALL_TIMEOUT, client.tell_issued(report.clone())).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner().hub),
            Ok(Err(status)) => last = status.message().to_owned(),
            Err(_) => last = "it does not answer".to_owned(),
        }
    }
    Err(last)
}

impl Book {
    fn put(&mut self, mut one: IssuedSvid, now: i64) {
        let id: Name = one.entry.as_str().into();
        match self.all.get(&id) {
            Some(before) if before.spiffe_id == one.spiffe_id => one.since = before.since,
            Some(_) => {}
            None if self.all.len() >= MOST => {
                self.forget(now);
                if self.all.len() >= MOST {
                    return;
                }
            }
            None => {}
        }
        self.all.insert(id.clone(), one);
        self.untold.insert(id);
    }

    /// What is to be told next.
    fn batch(&mut self, now: i64) -> Vec<IssuedSvid> {
        self.forget(now);
        let (mut bytes, mut batch) = (0, Vec::new());
        for one in self.untold.iter().filter_map(|id| self.all.get(id)).take(AT_ONCE) {
            bytes += length(one);
            if bytes > BYTES && !batch.is_empty() {
                break;
            }
            batch.push(one.clone());
        }
        batch
    }

    /// A hub heard of a batch; another than before hears of everything again.
    fn told(&mut self, batch: &[IssuedSvid], hub: String) {
        if self.hub != hub {
            self.hub = hub;
            self.untold = self.all.keys().cloned().collect();
        }
        for one in batch {
            // What was issued meanwhile is told too.
            if self.all.get(&*one.entry) == Some(one) {
                self.untold.remove(&*one.entry);
            }
        }
    }

    fn forget(&mut self, now: i64) {
        self.all.retain(|_, one| one.not_after > now);
        self.untold.retain(|id| self.all.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued(entry: &str, at: i64) -> IssuedSvid {
        IssuedSvid {
            entry: entry.to_owned(),
            spiffe_id: "spiffe://dev.example/ns/shop/sa/web".to_owned(),
            serial: format!("{at:x}"),
            issued_at: at,
            since: at,
            not_after: at + 3_600,
            ..IssuedSvid::default()
        }
    }

    #[test]
    fn each_is_told_once_and_all_of_it_to_a_hub_that_began_anew() {
        let mut book = Book::default();
        for entry in ["a", "b", "c"] {
            book.put(issued(entry, 100), 100);
        }
        let batch = book.batch(100);
        assert_eq!(batch.len(), 3);
        // While the hub is told of it one is renewed.
        book.put(issued("b", 200), 200);
        book.told(&batch, "first".to_owned());
        let batch = book.batch(200);
        let renewed: Vec<_> = batch.iter().map(|it| (it.issued_at, it.since)).collect();
        assert_eq!(renewed, [(200, 100)]);
        book.told(&batch, "first".to_owned());
        assert!(book.batch(200).is_empty());
        book.put(issued("a", 300), 300);
        let batch = book.batch(300);
        assert_eq!(batch.len(), 1);
        book.told(&batch, "second".to_owned());
        let entries: Vec<_> = book.batch(300).into_iter().map(|it| it.entry).collect();
        assert_eq!(entries, ["b", "c"]);
        // What has ended is nobody's any more.
        assert!(book.batch(4_000).is_empty() && book.all.is_empty());
    }

    #[test]
    fn no_report_is_longer_than_the_hub_reads_and_no_book_without_end() {
        let mut book = Book::default();
        for number in 0..MOST + 10 {
            let mut one = issued(&format!("{number:08}"), 100);
            one.node = "n".repeat(200);
            book.put(one, 100);
        }
        assert_eq!(book.all.len(), MOST);
        let batch = book.batch(100);
        let bytes: usize = batch.iter().map(length).sum();
        assert!(batch.len() > 10 && bytes <= BYTES, "{bytes}");
    }

    #[test]
    fn the_object_stands_in_the_id_of_an_entry() {
        let uid = "0a1b2c3d-0000-4111-8222-333344445555";
        for (id, object) in
            [("", ""), ("/0/more", "more"), ("/1/ledger", "ledger"), ("/1/ledger/abc", "ledger")]
        {
            assert_eq!(object_of(&format!("{uid}{id}")), object);
        }
    }
}
