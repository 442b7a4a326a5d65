//! What the hub is told of admission (decisions, merged uses and findings), of what the API server says and of what the mesh decides, in
//! numbered batches.
//!
//! Whoever decides puts its words into a spool and goes on; nothing waits for the hub but the background scan. A batch
//! is kept until the hub has written it down, also over connections. What finds no room in the spool is counted, and
//! the next batch says so.

mod mesh;
mod spool;

use std::{sync::Arc, time::Duration};

use nullius_proto::{
    VERSION,
    agent_v1::{
        AdmissionDecision, MeshDenial, MeshFlow, Report, ReportBatch, ReportHello, ReportReceipt,
        ScanWord, report::Kind, reporting_client::ReportingClient,
    },
};
use nullius_tls::Protocol;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use self::spool::Spool;
pub(crate) use self::spool::{Heard, NoRoom, UsedPolicy};
use crate::{
    Address, AgentError,
    backoff::{Backoff, random},
    identity::Identity,
    net::{BoxIo, Connecting, channel, dial},
};

/// Words of a scan that wait; the scan then waits itself.
const SCAN_QUEUE: usize = 500;
/// What comes within so long goes together.
const GATHER: Duration = Duration::from_millis(200);
/// Merged uses are told this often.
const USES_EVERY: Duration = Duration::from_secs(5 * 60);
/// Flows of the mesh this often, where they are few.
const FEW_EVERY: Duration = Duration::from_secs(60);
/// Bytes of one batch, below what the hub takes.
const BATCH_BYTES: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The hub lets an agent wait that tells too much.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(120);
/// A connection that lasted so long begins its tries anew.
const STEADY: Duration = Duration::from_secs(10);
/// How long the end of the process waits for the last receipt.
const FAREWELL: Duration = Duration::from_secs(3);

/// Where decisions, uses and findings are put; clones share it.
#[derive(Clone)]
pub(crate) struct Reports {
    spool: Arc<Spool>,
    scan: mpsc::Sender<ScanWord>,
}

impl Reports {
    /// Tells a decision: what a policy had something to say about. Never waits.
    pub(crate) fn decided(&self, decision: AdmissionDecision) {
        self.spool.decided(decision);
    }

    /// Counts a decision, whatever came of it. Never waits.
    pub(crate) fn used(&self, used: &UsedPolicy<'_>, at_millis: i64, sample: &str) {
        self.spool.used(used, at_millis, sample);
    }

    /// Tells what an API server's list says, all of it or nothing. Never waits.
    pub(crate) fn hear(&self, heard: Heard) -> Result<(), NoRoom> {
        self.spool.hear(heard)
    }

    /// Tells that a list of an API server could not be read. Never waits.
    pub(crate) fn unreadable_list(&self) {
        self.spool.unreadable_list();
    }

    /// Tells what a node said of the mesh. Never waits.
    pub(crate) fn hear_mesh(&self, node: &str, heard: MeshHeard) {
        self.spool.of_mesh(|mesh| {
            heard.denials.into_iter().for_each(|denial| mesh.denied(node, denial));
            heard.flows.into_iter().for_each(|flow| mesh.flowed(node, flow));
            mesh.lost(heard.lost_denials, heard.lost_flows);
            if heard.disbelieved > 0 {
                mesh.disbelieved(node, heard.disbelieved);
            }
        });
    }

    /// Tells a word of the background scan; waits while the hub takes none.
    pub(crate) async fn found(&self, word: ScanWord) {
        // The other end goes with the process.
        let _ = self.scan.send(word).await;
    }

    /// How many words of scans the hub refused: a scan during which it grows must begin anew.
    pub(crate) fn refused_words(&self) -> u64 {
        self.spool.refused_words()
    }
}

/// What a node said of the mesh.
#[derive(Debug, Default)]
pub(crate) struct MeshHeard {
    pub(crate) denials: Vec<MeshDenial>,
    pub(crate) flows: Vec<MeshFlow>,
    /// Attempts, connections and requests that it could not tell.
    pub(crate) lost_denials: u64,
    pub(crate) lost_flows: u64,
    /// Words of pods that are not on it.
    pub(crate) disbelieved: u64,
}

/// Begins to take words; they wait for a way to the hub.
pub(crate) fn open() -> (Reports, Waiting) {
    let spool = Arc::new(Spool::default());
    let (scan, words) = mpsc::channel(SCAN_QUEUE);
    (Reports { spool: Arc::clone(&spool), scan }, Waiting { spool, words })
}

/// Words that wait for a way to the hub.
pub(crate) struct Waiting {
    spool: Arc<Spool>,
    words: mpsc::Receiver<ScanWord>,
}

impl Waiting {
    /// Tells the hub, on connections of a protocol, until it is told to stop.
    pub(crate) async fn tell(
        self,
        identity: Identity,
        protocol: Protocol,
        stop: CancellationToken,
    ) -> Result<(), AgentError> {
        let connector = identity.to_hub(protocol)?;
        let dialling = move |address: &Address| -> Connecting {
            let (address, connector) = (address.clone(), connector.clone());
            Box::pin(async move {
                let tcp = dial(&address).await?;
                Ok(Box::new(connector.connect(tcp, &address.host).await?.stream) as BoxIo)
            })
        };
        let hub = Way {
            addresses: identity.hub.addresses,
            renewed: identity.epoch,
            dialling: Arc::new(dialling),
        };
        self.link(hub, stop).run().await
    }

    fn link(self, hub: Way, stop: CancellationToken) -> Link {
        Link {
            spool: self.spool,
            words: self.words,
            hub,
            epoch: 0,
            number: 0,
            pending: None,
            uses_due: Instant::now() + USES_EVERY,
            few_due: Instant::now() + FEW_EVERY,
            stop,
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the hub did not answer in time")]
    Late,
    #[error("the hub says: {}", .0.message())]
    Status(Status),
    #[error("the hub closed the connection")]
    Closed,
    #[error("the hub receipted batch {0}, which is not the one that was told")]
    OtherBatch(u64),
    #[error("the certificate was renewed")]
    Renewed,
    #[error("the agent stops and everything is told")]
    Stopped,
}

/// The way to a hub.
struct Way {
    addresses: Vec<Address>,
    /// Counts the certificates that were taken.
    renewed: watch::Receiver<u64>,
    dialling: Arc<dyn Fn(&Address) -> Connecting + Send + Sync>,
}

struct Link {
    spool: Arc<Spool>,
    words: mpsc::Receiver<ScanWord>,
    hub: Way,
    epoch: u64,
    /// Of the last batch that was made.
    number: u64,
    /// The batch that is not receipted yet.
    pending: Option<ReportBatch>,
    uses_due: Instant,
    few_due: Instant,
    stop: CancellationToken,
}

/// A connection that was greeted.
struct Talk {
    to_hub: mpsc::Sender<Report>,
    receipts: Streaming<ReportReceipt>,
}

impl Link {
    async fn run(mut self) -> Result<(), AgentError> {
        let stop = self.stop.clone();
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            biased;
            ended = self.tell_on() => ended,
            () = late => {
                tracing::warn!("the agent ends before the hub has heard everything");
                Ok(())
            }
        }
    }

    /// Tells until the agent stops and everything is told.
    async fn tell_on(&mut self) -> Result<(), AgentError> {
        let stop = self.stop.clone();
        let mut backoff = Backoff::default();
        for turn in 0usize.. {
            let addresses = &self.hub.addresses;
            let Some(address) = addresses.get(turn % addresses.len().max(1)).cloned() else {
                return Err(AgentError::Settings("no address of a hub".to_owned()));
            };
            let began = Instant::now();
            let ended = self.tell(&address).await;
            if began.elapsed() > STEADY {
                backoff.reset();
            }
            match ended {
                Ended::Stopped => break,
                Ended::Renewed => continue,
                ended => {
                    tracing::warn!(hub = %address, why = %ended, "cannot tell the hub what was decided or heard")
                }
            }
            let wait = tokio::time::sleep(backoff.after_failure(random()));
            if stop.is_cancelled() {
                wait.await;
            } else {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = wait => {}
                }
            }
        }
        Ok(())
    }

    async fn tell(&mut self, address: &Address) -> Ended {
        let mut renewed = self.hub.renewed.clone();
        renewed.mark_unchanged();
        let stop = self.stop.clone();
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(address)).await;
        let mut talk = match connected {
            Ok(Ok(talk)) => talk,
            Ok(Err(status)) => return Ended::Status(status),
            Err(_) => return Ended::Late,
        };
        loop {
            if self.pending.is_none() {
                tokio::select! {
                    () = stop.cancelled() => {
                        self.uses_due = Instant::now();
                        self.take();
                        if self.pending.is_none() {
                            return Ended::Stopped;
                        }
                    }
                    () = self.gather() => {}
                    Ok(()) = renewed.changed() => return Ended::Renewed,
                    end = talk.receipts.message() => return unasked(end),
                }
            }
            if let Err(ended) = self.deliver(&mut talk).await {
                return ended;
            }
        }
    }

    async fn connect(&mut self, address: &Address) -> Result<Talk, Status> {
        self.epoch += 1;
        let (address, dialling) = (address.clone(), Arc::clone(&self.hub.dialling));
        let channel = channel(move || dialling(&address));
        let (to_hub, reports) = mpsc::channel(2);
        let hello = ReportHello { version: VERSION, epoch: self.epoch };
        // The channel is new and empty.
        let _ = to_hub.try_send(Report { kind: Some(Kind::Hello(hello)) });
        let mut client = ReportingClient::new(channel);
        let receipts = client.report(ReceiverStream::new(reports)).await?.into_inner();
        tracing::info!("tell the hub what is decided or heard");
        Ok(Talk { to_hub, receipts })
    }

    /// Waits until there is something to tell, and makes a batch of it.
    async fn gather(&mut self) {
        let first = tokio::select! {
            () = self.spool.news() => None,
            word = self.words.recv() => word,
            () = tokio::time::sleep_until(self.uses_due.min(self.few_due)) => None,
        };
        self.spool.keep_word(first);
        tokio::time::sleep(GATHER).await;
        self.take();
    }

    fn take(&mut self) {
        while self.spool.wants_words()
            && let Ok(word) = self.words.try_recv()
        {
            self.spool.keep_word(Some(word));
        }
        let now = Instant::now();
        let (uses, few) = (now >= self.uses_due, now >= self.few_due);
        let batch = self.spool.take(match (uses, few) {
            (true, _) => spool::Uses::Told,
            (false, true) => spool::Uses::Few,
            (false, false) => spool::Uses::Kept,
        });
        if few {
            self.few_due = now + FEW_EVERY;
        }
        if uses && !self.spool.has_uses() {
            self.uses_due = Instant::now() + USES_EVERY;
        }
        if let Some(batch) = batch {
            self.number += 1;
            self.pending = Some(ReportBatch { number: self.number, ..batch });
        }
    }

    /// Tells the batch that waits, and waits for its receipt.
    async fn deliver(&mut self, talk: &mut Talk) -> Result<(), Ended> {
        let Some(batch) = self.pending.clone() else { return Ok(()) };
        let number = batch.number;
        let report = Report { kind: Some(Kind::Batch(batch)) };
        let told = async {
            talk.to_hub.send(report).await.map_err(|_| Ended::Closed)?;
            match talk.receipts.message().await {
                Ok(Some(receipt)) if receipt.number == number => Ok(()),
                Ok(Some(receipt)) => Err(Ended::OtherBatch(receipt.number)),
                Ok(None) => Err(Ended::Closed),
                Err(status) => Err(Ended::Status(status)),
            }
        };
        let told = tokio::time::timeout(RECEIPT_TIMEOUT, told).await.unwrap_or(Err(Ended::Late));
        match &told {
            Ok(()) => self.pending = None,
            // It would be refused again and again, as too long or for what is in it: that is lost, and said to be.
            Err(Ended::Status(status))
                if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) =>
            {
                if let Some(batch) = self.pending.take() {
                    self.spool.lose(&batch);
                }
            }
            Err(_) => {}
        }
        told
    }
}

/// What came of a connection on which nothing was told.
fn unasked(end: Result<Option<ReportReceipt>, Status>) -> Ended {
    match end {
        Ok(Some(receipt)) => Ended::OtherBatch(receipt.number),
        Ok(None) => Ended::Closed,
        Err(status) => Ended::Status(status),
    }
}

#[cfg(test)]
impl Waiting {
    /// What would be told next, with all uses.
    pub(crate) fn next(&self) -> Option<ReportBatch> {
        self.spool.take(spool::Uses::Told)
    }
}

#[cfg(test)]
impl Reports {
    /// Reports whose words of scans a test hears.
    pub(crate) fn heard() -> (Self, mpsc::Receiver<ScanWord>) {
        let (scan, words) = mpsc::channel(SCAN_QUEUE);
        (Self { spool: Arc::default(), scan }, words)
    }
}

#[cfg(test)]
mod tests;
