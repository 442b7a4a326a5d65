//! The task that makes events durable. While one commit is under way the next events gather, so that a busy hub
//! shares commits and an idle one waits for nothing.

use std::{sync::Arc, time::Duration};

use nullius_model::AuditEvent;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};

use super::{
    AuditOptions, AuditState, AuditStatus, AuditUnavailable, Encoded, Position, Shared, Trail,
    anchor,
    reserve::{Kept, Reserve},
    sink,
    spool::Share,
};
use crate::{Store, StoreError, keys::advance};

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Takes audit events and makes them durable. Clones share the one writer task, which ends with the last of them.
#[derive(Clone)]
pub struct AuditWriter {
    shared: Arc<Shared>,
    reserve: Reserve,
    queue: mpsc::Sender<Job>,
    capacity: usize,
    patience: Duration,
    stop: Arc<watch::Sender<bool>>,
    done: watch::Receiver<()>,
}

/// Room for one event, taken before the thing happens that the event will tell of; never lost for lack of room.
pub struct Slot {
    permit: mpsc::OwnedPermit<Job>,
}

struct Job {
    event: Encoded,
    reply: Option<oneshot::Sender<Result<Position, AuditUnavailable>>>,
}

/// A trail that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store refused.
    #[error("the audit cannot be started")]
    Store(#[from] StoreError),
    /// It runs already.
    #[error("the audit of this store is running already")]
    Running,
    /// The anchor cannot be written.
    #[error(
        "the audit's anchor `{}` cannot be written; check that its place exists and is mounted, and who owns it",
        place.display()
    )]
    Anchor {
        place: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("audit files in `{}` cannot be written; check the directory and who owns it", directory.display())]
    File {
        directory: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Store {
    /// Starts the audit trail of this process: a new epoch, linked to the one before.
    pub async fn start_audit(&self, options: AuditOptions) -> Result<AuditWriter, StartError> {
        let shared = Arc::clone(&self.inner().shared);
        if shared.state() != AuditState::Stopped {
            return Err(StartError::Running);
        }
        let files = match &options.file {
            None => None,
            Some(file) => Some(sink::Files::open(file).map_err(|source| StartError::File {
                directory: file.directory.clone(),
                source,
            })?),
        };
        let reserve = Reserve::open(options.reserve.as_deref());
        let anchor = options.anchor.as_ref().map(|place| {
            let unusable = |source| StartError::Anchor { place: place.clone(), source };
            anchor::Anchor::open(place).map_err(unusable)
        });
        let anchor = anchor.transpose()?;
        let mut tx = self.begin().await?;
        let side = tx.side();
        if side.trail.is_some() {
            return Err(StartError::Running);
        }
        let now = self.inner().clock.now();
        let trail = Trail::start(&mut side.conn, options.writer.clone(), now).await?;
        shared.start(trail.last_position(), trail.last_checkpoint());
        side.trail = Some(trail);
        tx.commit().await?;
        let (queue, jobs) = mpsc::channel(options.queue.max(1));
        let (stop, stopped) = watch::channel(false);
        let (finished, done) = watch::channel(());
        let finished = Arc::new(finished);
        if let Some(files) = files {
            let finished = Arc::clone(&finished);
            let follower = sink::Follower::new(self.clone(), files);
            tokio::spawn(async move {
                follower.run().await;
                drop(finished);
            });
        }
        if let Some(anchor) = anchor {
            let finished = Arc::clone(&finished);
            let follower = anchor::AnchorFollower::new(self.clone(), anchor);
            tokio::spawn(async move {
                follower.run().await;
                drop(finished);
            });
        }
        let writer = AuditWriter {
            shared: Arc::clone(&shared),
            reserve: reserve.clone(),
            queue,
            capacity: options.queue.max(1),
            patience: options.patience,
            stop: Arc::new(stop),
            done,
        };
        let task = Task { store: self.clone(), shared, reserve, options, jobs, stopped };
        tokio::spawn(async move {
            task.run().await;
            drop(finished);
        });
        Ok(writer)
    }
}

impl AuditWriter {
    /// Makes one event durable and says where it stands.
    ///
    /// On [`AuditUnavailable::Failing`] the event may still be written later, with a fact that says so: refuse what it
    /// tells of.
    pub async fn write(&self, event: &AuditEvent) -> Result<Position, AuditUnavailable> {
        match self.reserve().await {
            Ok(slot) => slot.write(event).await,
            Err(error) => {
                self.reserve.lose();
                Err(error)
            }
        }
    }

    /// Takes room for one event; refused while the trail cannot be written.
    pub async fn reserve(&self) -> Result<Slot, AuditUnavailable> {
        self.shared.admit()?;
        let waiting = self.queue.clone().reserve_owned();
        match tokio::time::timeout(self.patience, waiting).await {
            Ok(Ok(permit)) => Ok(Slot { permit }),
            Ok(Err(_)) => Err(AuditUnavailable::Stopped),
            Err(_) => Err(self.shared.admit().err().unwrap_or(AuditUnavailable::Overloaded)),
        }
    }

    /// Takes room for one event without waiting.
    pub fn try_reserve(&self) -> Result<Slot, AuditUnavailable> {
        self.shared.admit()?;
        match self.queue.clone().try_reserve_owned() {
            Ok(permit) => Ok(Slot { permit }),
            Err(mpsc::error::TrySendError::Full(_)) => Err(AuditUnavailable::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(AuditUnavailable::Stopped),
        }
    }

    /// Puts one event into the reserve while the trail cannot be written; writes it as usual when it can.
    pub async fn write_in_reserve(
        &self,
        event: &AuditEvent,
        share: Share,
    ) -> Result<(), AuditUnavailable> {
        match self.reserve.put(event, share, &self.shared).await? {
            Kept::InReserve => Ok(()),
            Kept::Nowhere => self.write(event).await.map(|_| ()),
        }
    }

    /// What stood in the reserve when the trail was started: it goes into the trail with the first commit.
    pub fn found_in_reserve(&self) -> &[AuditEvent] {
        self.reserve.found()
    }

    /// Whether events are taken now; cheap enough for every request.
    pub fn check(&self) -> Result<(), AuditUnavailable> {
        self.shared.admit()
    }

    /// How the trail is doing.
    pub fn health(&self) -> AuditStatus {
        let notes = self.shared.notes();
        AuditStatus {
            state: self.shared.state(),
            head: *self.shared.head().borrow(),
            file: notes.file,
            file_error: notes.file_error,
            anchor_error: notes.anchor_error,
            checkpoint_error: notes.checkpoint_error,
            pending: self.capacity.saturating_sub(self.queue.capacity()),
        }
    }

    /// Follows whether events are taken.
    pub fn watch(&self) -> watch::Receiver<AuditState> {
        self.shared.watch_state()
    }

    /// Takes no more events, makes those taken durable, signs a last checkpoint and brings the file up to date.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        // The sender is dropped, never sent on: an error means that the tasks have ended.
        while self.done.clone().changed().await.is_ok() {}
    }
}

impl Slot {
    /// Hands over the event; it becomes durable soon, without anybody waiting for it.
    pub fn enqueue(self, event: &AuditEvent) -> Result<(), StoreError> {
        self.permit.send(Job { event: Encoded::new(event)?, reply: None });
        Ok(())
    }

    /// Hands over the event and waits until it is durable; see [`AuditWriter::write`].
    pub async fn write(self, event: &AuditEvent) -> Result<Position, AuditUnavailable> {
        let event = Encoded::new(event)
            .map_err(|error| AuditUnavailable::Failing { reason: error.chain() })?;
        let (reply, answer) = oneshot::channel();
        self.permit.send(Job { event, reply: Some(reply) });
        answer.await.unwrap_or(Err(AuditUnavailable::Stopped))
    }
}

/// Whether the writer is asked to come to an end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Yes,
}

impl From<Option<Instant>> for Stopping {
    fn from(closing: Option<Instant>) -> Self {
        if closing.is_some() { Self::Yes } else { Self::No }
    }
}

/// Returns when a shutdown was asked for, or nobody is left to ask.
async fn stopping(stopped: &mut watch::Receiver<bool>) {
    while !*stopped.borrow_and_update() {
        if stopped.changed().await.is_err() {
            return;
        }
    }
}

async fn deadline(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Task {
    store: Store,
    shared: Arc<Shared>,
    reserve: Reserve,
    options: AuditOptions,
    jobs: mpsc::Receiver<Job>,
    stopped: watch::Receiver<bool>,
}

impl Task {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(self.options.batch);
        let mut timer = tokio::time::interval_at(
            Instant::now() + self.options.checkpoint_interval,
            self.options.checkpoint_interval,
        );
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut closing = None;
        if self.reserve.is_used() {
            // What a process before could not write comes first.
            self.settle(&mut batch, Stopping::No).await;
        }
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                biased;
                () = stopping(&mut self.stopped), if closing.is_none() => {
                    closing = Some(Instant::now() + self.options.grace);
                    self.jobs.close();
                }
                () = deadline(closing) => {
                    tracing::warn!(pending = self.jobs.len(), "stop the audit before all slots came back");
                    while let Ok(job) = self.jobs.try_recv() {
                        batch.push(job);
                    }
                    self.settle(&mut batch, Stopping::Yes).await;
                    break;
                }
                _ = timer.tick() => self.checkpoint(1).await,
                () = shared.probe.notified() => self.settle(&mut batch, closing.into()).await,
                taken = self.jobs.recv_many(&mut batch, self.options.batch) => {
                    if taken == 0 {
                        break;
                    }
                    self.settle(&mut batch, closing.into()).await;
                }
            }
        }
        self.checkpoint(1).await;
        match self.store.begin().await {
            Ok(mut tx) => {
                tx.side().trail = None;
                if let Err(error) = tx.rollback().await {
                    tracing::warn!(error = error.chain(), "cannot close the audit in order");
                }
            }
            Err(error) => tracing::warn!(error = error.chain(), "cannot close the audit in order"),
        }
        self.shared.stop();
    }

    /// Makes a batch durable, trying again until the store takes it; an empty batch asks whether the store is well.
    async fn settle(&mut self, batch: &mut Vec<Job>, mut stop: Stopping) {
        let mut retry = FIRST_RETRY;
        loop {
            let reason = match self.write(batch).await {
                Ok(last) => {
                    self.shared.recover();
                    let count = i64::try_from(batch.len()).unwrap_or(i64::MAX);
                    for (position, job) in (last.0.saturating_sub(count) + 1..).zip(batch.drain(..))
                    {
                        if let Some(reply) = job.reply {
                            // Whoever asked may have gone; the event is durable all the same.
                            let _ = reply.send(Ok(Position(position)));
                        }
                    }
                    return;
                }
                Err(error) => error.chain(),
            };
            self.shared.fail(reason.clone());
            for job in batch.iter_mut() {
                if let Some(reply) = job.reply.take() {
                    job.event.mark_late();
                    let _ = reply.send(Err(AuditUnavailable::Failing { reason: reason.clone() }));
                }
            }
            if stop == Stopping::Yes {
                tracing::error!(lost = batch.len(), reason, "lose audit events at shutdown");
                batch.clear();
                return;
            }
            stop = self.wait(batch, Instant::now() + retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// Waits before the next attempt; meanwhile events of slots held before still find room in the batch.
    async fn wait(&mut self, batch: &mut Vec<Job>, until: Instant) -> Stopping {
        loop {
            let room = self.options.batch.saturating_sub(batch.len());
            tokio::select! {
                () = stopping(&mut self.stopped) => return Stopping::Yes,
                () = tokio::time::sleep_until(until) => return Stopping::No,
                taken = self.jobs.recv_many(batch, room), if room > 0 => {
                    if taken == 0 {
                        return Stopping::Yes;
                    }
                }
            }
        }
    }

    async fn write(&self, batch: &[Job]) -> Result<Position, StoreError> {
        let mut kept = self.reserve.take_out().await;
        let mut tx = self.store.begin().await?;
        let late = kept.events(&mut tx, self.store.inner().clock.now()).await?;
        if batch.is_empty() && late.is_empty() {
            advance(&mut tx.side().conn, "audit-probe", 1).await?;
            tx.commit().await?;
            return Ok(Position(0));
        }
        let events: Vec<&Encoded> = batch.iter().map(|job| &job.event).chain(&late).collect();
        let last = tx.commit_audited(events.into_iter()).await?;
        kept.clear();
        let late = i64::try_from(late.len()).unwrap_or(i64::MAX);
        let last = Position(last.0.saturating_sub(late));
        let due = tx
            .side()
            .trail
            .as_ref()
            .is_some_and(|trail| trail.uncovered() >= self.options.checkpoint_entries);
        drop(tx);
        // After a failure the timer tries again, not every batch.
        if due && self.shared.notes().checkpoint_error.is_none() {
            self.checkpoint(self.options.checkpoint_entries).await;
        }
        Ok(last)
    }

    /// Signs a checkpoint when at least `least` entries are not covered by one.
    async fn checkpoint(&self, least: u64) {
        let outcome = self.try_checkpoint(least).await;
        if let Err(error) = &outcome {
            tracing::error!(error, "cannot make an audit checkpoint");
        }
        self.shared.note(|notes| notes.checkpoint_error = outcome.err());
    }

    async fn try_checkpoint(&self, least: u64) -> Result<(), String> {
        let mut tx = self.store.begin().await.map_err(|error| error.chain())?;
        let side = tx.side();
        let Some(mut trail) = side.trail.clone() else { return Ok(()) };
        if trail.uncovered() < least {
            return tx.rollback().await.map_err(|error| error.chain());
        }
        let now = self.store.inner().clock.now();
        let signed =
            trail.sign_checkpoint(now, &self.options.signer).map_err(|error| error.to_string())?;
        let seq = trail
            .insert_checkpoint(&mut side.conn, &signed)
            .await
            .map_err(|error| error.chain())?;
        tx.commit_trail(trail).await.map_err(|error| error.chain())?;
        self.shared.publish_checkpoint(seq);
        Ok(())
    }
}
