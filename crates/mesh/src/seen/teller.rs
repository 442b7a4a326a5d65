//! Says to `agent identity` what was seen of the calls of this node's pods: flows each half minute, single attempts within about a
//! second.
//!
//! One batch is told at a time, under its number, until it is receipted: a connection that breaks loses nothing, and the same agent takes
//! a number once. Meanwhile what is seen is counted on, in bounds.

use std::{sync::Arc, time::Duration};

use nullius_proto::{
    VERSION,
    node_v1::{SeenBatch, SeenReceipt},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Seen, TICK};

/// How often flows are told.
const ROUND: Duration = Duration::from_secs(30);
/// Bytes of a batch, about: of flows, and of attempts.
const BYTES: usize = 16 * 1024;
/// A batch is receipted within so long, or told again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(2);
/// How long the end waits for the last receipt.
const FAREWELL: Duration = Duration::from_secs(3);

/// Where a batch goes; it is told until somebody has receipted it.
pub trait Hears: Send + Sync + 'static {
    /// Hands over a batch; the receipt names its number.
    fn tell(&self, batch: SeenBatch) -> impl Future<Output = Result<SeenReceipt, Unheard>> + Send;
}

/// Why a batch was not receipted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// It never will be.
    #[error("it is refused: {0}")]
    Refused(String),
    /// Perhaps the next time.
    #[error("not now: {0}")]
    NotNow(String),
}

/// Tells.
pub struct Teller<H> {
    hears: H,
    seen: Arc<Seen>,
    /// Names this process: its numbers begin at 1.
    process: String,
    number: u64,
    /// What is not receipted yet.
    pending: Option<SeenBatch>,
    is_in_round: bool,
    lost: Lost,
    is_silent: bool,
}

/// What no agent will ever take.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Lost {
    attempts: u64,
    calls: u64,
}

impl<H: Hears> Teller<H> {
    /// Begins nothing yet.
    pub fn new(hears: H, seen: Arc<Seen>) -> Self {
        let process = format!("{:032x}", nullius_pki::random_bits());
        Self {
            hears,
            seen,
            process,
            number: 0,
            pending: None,
            is_in_round: false,
            lost: Lost::default(),
            is_silent: false,
        }
    }

    /// Tells until it is to end, and then the rest.
    pub async fn run(mut self, stop: CancellationToken) {
        let seen = Arc::clone(&self.seen);
        // Whoever hears nothing holds up nobody who counts.
        let ticking = async {
            loop {
                sleep(TICK).await;
                seen.tick();
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = ticking => {}
            () = self.tell_on() => {}
        }
        self.seen.finish();
        self.begin_round();
        if timeout(FAREWELL, self.tell_all()).await != Ok(Told::Everything) {
            tracing::warn!("end before the agent has heard everything that was seen");
        }
    }

    async fn tell_on(&mut self) {
        let mut round = Instant::now() + ROUND;
        loop {
            if Instant::now() >= round && !self.is_in_round {
                round = Instant::now() + ROUND;
                self.begin_round();
            }
            let wait = match self.tell_all().await {
                Told::Everything => TICK,
                Told::NotAll => AGAIN,
            };
            sleep(wait).await;
        }
    }

    fn begin_round(&mut self) {
        self.seen.begin_round();
        self.is_in_round = true;
    }

    /// Tells what there is, until somebody does not hear.
    async fn tell_all(&mut self) -> Told {
        loop {
            if self.pending.is_none() {
                self.pending = self.next();
            }
            let Some(batch) = self.pending.clone() else { return Told::Everything };
            let number = batch.number;
            let told = timeout(PATIENCE, self.hears.tell(batch)).await;
            let late = |_| Err(Unheard::NotNow("no receipt in time".to_owned()));
            let told = told.unwrap_or_else(late);
            match told {
                Ok(receipt) if receipt.number == number => {
                    self.pending = None;
                    self.is_silent = false;
                }
                Ok(receipt) => {
                    tracing::warn!(number, receipt = receipt.number, "another batch was receipted");
                    return Told::NotAll;
                }
                // It would be refused again and again: what is in it is lost, and said to be.
                Err(why @ Unheard::Refused(_)) => {
                    tracing::warn!(%why, "lose what was seen: nobody takes it");
                    self.lose();
                }
                Err(why @ Unheard::NotNow(_)) => {
                    if !std::mem::replace(&mut self.is_silent, true) {
                        tracing::warn!(%why, "fail to tell what was seen, try again");
                    }
                    return Told::NotAll;
                }
            }
        }
    }

    /// What is to be told next; none where that is nothing.
    fn next(&mut self) -> Option<SeenBatch> {
        let (attempts, unseen) = self.seen.take_attempts(BYTES);
        let flows = match self.is_in_round {
            true => self.seen.take_flows(BYTES),
            false => Vec::new(),
        };
        self.is_in_round &= !flows.is_empty();
        let lost = std::mem::take(&mut self.lost);
        let batch = SeenBatch {
            flows,
            attempts,
            lost_attempts: lost.attempts + unseen,
            lost_calls: lost.calls + self.seen.take_lost_calls(),
            ..SeenBatch::default()
        };
        if batch == SeenBatch::default() {
            return None;
        }
        self.number += 1;
        let (version, process, number) = (VERSION, self.process.clone(), self.number);
        Some(SeenBatch { version, process, number, ..batch })
    }

    fn lose(&mut self) {
        let Some(batch) = self.pending.take() else { return };
        let calls = batch.flows.iter().map(|flow| flow.connections + flow.requests);
        let attempts = batch.attempts.iter().map(|attempt| attempt.count);
        let lost = &mut self.lost;
        lost.calls += batch.lost_calls + calls.sum::<u64>();
        lost.attempts += batch.lost_attempts + attempts.sum::<u64>();
    }
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Everything,
    NotAll,
}
