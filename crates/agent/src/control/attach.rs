//! The control connection: control is the client of the hub's service, hears orders, answers and beats.
//!
//! Orders are heeded in the order in which they are heard and carried out side by side. A message of a kind that is
//! not known ends the connection: nobody acts on half of what was said.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use nullius_model::Timestamp;
use nullius_proto::{
    VERSION,
    agent_v1::{
        AgentMessage, Heartbeat, Hello, HubMessage, State, agent_message::Kind as ToHub,
        control_client::ControlClient, hub_message::Kind as FromHub,
    },
};
use nullius_tls::{PartConnector, Protocol};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Streaming;

use super::Core;
use crate::{
    Address, AgentError,
    alarm::AlarmKind,
    backoff::{Backoff, random},
    identity::Identity,
    net::{BoxIo, channel, dial},
};

const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);
const ORDERS_AT_ONCE: usize = 64;
const OUTGOING: usize = 256;
/// A connection that lasted so long begins its tries anew.
const STEADY: Duration = Duration::from_secs(10);
const FINISH: Duration = Duration::from_secs(8);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the hub did not answer in time")]
    Late,
    #[error("the hub says: {0}")]
    Status(String),
    #[error("the hub closed the connection")]
    Closed,
    #[error("the hub speaks version {0} of the seam, this agent {VERSION}; update the older")]
    Version(u32),
    #[error("the hub sent a message of a kind that this agent does not know; update the agent")]
    Unknown,
    #[error("the hub was silent for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the hub goes away")]
    Drain,
    #[error("the certificate was renewed")]
    Renewed,
    #[error("the agent stops")]
    Stopped,
}

/// Attaches again and again, to one replica after the other, until it is told to stop.
pub(crate) async fn run(
    core: Arc<Core>,
    identity: Identity,
    kubernetes_version: String,
    outgoing: mpsc::Receiver<AgentMessage>,
    leaving: CancellationToken,
    stop: CancellationToken,
) -> Result<(), AgentError> {
    let connector = identity.to_hub(Protocol::Control)?;
    let mut link = Link {
        core,
        identity,
        connector,
        kubernetes_version,
        outgoing,
        orders: TaskTracker::new(),
        epoch: 0,
        stop,
    };
    let mut backoff = Backoff::default();
    for turn in 0usize.. {
        let addresses = &link.identity.hub.addresses;
        let Some(address) = addresses.get(turn % addresses.len().max(1)).cloned() else {
            return Err(AgentError::Settings("no address of a hub".to_owned()));
        };
        let began = Instant::now();
        let ended = link.attach(&address).await;
        if began.elapsed() > STEADY {
            backoff.reset();
        }
        match ended {
            Ended::Stopped => break,
            Ended::Drain | Ended::Renewed => {
                tracing::info!(hub = %address, why = %ended, "attach again");
                continue;
            }
            // A hub in the same process may go first.
            ended if leaving.is_cancelled() => {
                tracing::debug!(hub = %address, why = %ended, "end the connection");
            }
            ended => tracing::warn!(hub = %address, why = %ended, "lose the hub"),
        }
        tokio::select! {
            () = link.stop.cancelled() => break,
            () = tokio::time::sleep(backoff.after_failure(random())) => {}
        }
    }
    Ok(())
}

struct Link {
    core: Arc<Core>,
    identity: Identity,
    connector: PartConnector,
    kubernetes_version: String,
    outgoing: mpsc::Receiver<AgentMessage>,
    orders: TaskTracker,
    epoch: u64,
    stop: CancellationToken,
}

/// The heartbeats of one connection.
struct Beats {
    interval: Duration,
    lease: Duration,
    /// When the beats were sent that are not answered yet.
    sent: VecDeque<Instant>,
}

impl Link {
    async fn attach(&mut self, address: &Address) -> Ended {
        self.epoch += 1;
        let hello = Hello {
            version: VERSION,
            epoch: self.epoch,
            kubernetes_version: self.kubernetes_version.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            key_set_revision: self.core.verifier.revision().unwrap_or_default(),
            sessions: self.core.ready().iter().map(ToString::to_string).collect(),
        };
        let (to_hub, stream) = mpsc::channel(OUTGOING);
        // The channel is new and empty.
        let _ = to_hub.try_send(AgentMessage { kind: Some(ToHub::Hello(hello)) });
        let (address, connector) = (address.clone(), self.connector.clone());
        let channel = channel(move || {
            let (address, connector) = (address.clone(), connector.clone());
            Box::pin(async move {
                let tcp = dial(&address).await?;
                Ok(Box::new(connector.connect(tcp, &address.host).await?.stream) as BoxIo)
            })
        });
        let mut client = ControlClient::new(channel).max_decoding_message_size(4 << 20);
        let attaching =
            tokio::time::timeout(ATTACH_TIMEOUT, client.attach(ReceiverStream::new(stream)));
        let attached = tokio::select! {
            () = self.stop.cancelled() => return Ended::Stopped,
            attached = attaching => attached,
        };
        match attached {
            Ok(Ok(from_hub)) => self.converse(from_hub.into_inner(), to_hub).await,
            Ok(Err(status)) => Ended::Status(status.message().to_owned()),
            Err(_) => Ended::Late,
        }
    }

    async fn converse(
        &mut self,
        mut from_hub: Streaming<HubMessage>,
        to_hub: mpsc::Sender<AgentMessage>,
    ) -> Ended {
        let mut beats = match self.welcome(&mut from_hub).await {
            Ok(beats) => beats,
            Err(ended) => return ended,
        };
        let mut renewed = self.identity.epoch.clone();
        renewed.mark_unchanged();
        let mut certificate_is_old = false;
        let mut states = self.core.state.subscribe();
        states.mark_changed();
        let mut beat = tokio::time::interval(beats.interval);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let silence = beats.interval * 3;
        loop {
            // A new certificate needs a new connection; orders under way are answered on the old one first.
            if certificate_is_old && self.orders.is_empty() {
                return Ended::Renewed;
            }
            tokio::select! {
                message = from_hub.message() => {
                    heard = Instant::now();
                    match message {
                        Ok(Some(HubMessage { kind: Some(kind) })) => {
                            if let Err(ended) = self.hear(kind, &mut beats).await {
                                self.finish(&to_hub).await;
                                return ended;
                            }
                        }
                        Ok(Some(HubMessage { kind: None })) => return Ended::Unknown,
                        Ok(None) => return Ended::Closed,
                        Err(status) => return Ended::Status(status.message().to_owned()),
                    }
                }
                Some(message) = self.outgoing.recv() => {
                    if to_hub.send(message).await.is_err() {
                        return Ended::Closed;
                    }
                }
                _ = beat.tick() => {
                    if heard.elapsed() > silence {
                        return Ended::Silent(silence);
                    }
                    beats.sent.push_back(Instant::now());
                    let message = AgentMessage { kind: Some(ToHub::Heartbeat(Heartbeat {})) };
                    if to_hub.send(message).await.is_err() {
                        return Ended::Closed;
                    }
                }
                Ok(()) = states.changed() => {
                    let state = states.borrow_and_update().clone();
                    let state = ToHub::State(State {
                        unguarded: state.unguarded.unwrap_or_default(),
                        term: state.term.unwrap_or_default(),
                        ceiling: state.ceiling.unwrap_or_default(),
                    });
                    if to_hub.send(AgentMessage { kind: Some(state) }).await.is_err() {
                        return Ended::Closed;
                    }
                }
                Ok(()) = renewed.changed() => certificate_is_old = true,
                () = self.stop.cancelled() => {
                    self.finish(&to_hub).await;
                    return Ended::Stopped;
                }
            }
        }
    }

    async fn welcome(&self, from_hub: &mut Streaming<HubMessage>) -> Result<Beats, Ended> {
        let asked = Instant::now();
        let first = tokio::time::timeout(ATTACH_TIMEOUT, from_hub.message());
        let first = first.await.map_err(|_| Ended::Late)?;
        let first = first.map_err(|status| Ended::Status(status.message().to_owned()))?;
        match first.and_then(|message| message.kind) {
            Some(FromHub::Welcome(welcome)) if welcome.version == VERSION => {
                let lease =
                    Duration::from_secs(welcome.lease_seconds.into()).min(crate::lease::LONGEST);
                let wished = Duration::from_secs(welcome.heartbeat_seconds.into());
                let interval =
                    wished.clamp(Duration::from_secs(1), (lease / 3).max(Duration::from_secs(1)));
                tracing::info!(lease_seconds = lease.as_secs(), "attach to the hub");
                self.core.extend_lease(asked, lease);
                Ok(Beats { interval, lease, sent: VecDeque::new() })
            }
            Some(FromHub::Welcome(welcome)) => Err(Ended::Version(welcome.version)),
            Some(_) => Err(Ended::Unknown),
            None => Err(Ended::Closed),
        }
    }

    async fn hear(&self, kind: FromHub, beats: &mut Beats) -> Result<(), Ended> {
        match kind {
            FromHub::Welcome(_) => Ok(()),
            FromHub::KeySet(key_set) => {
                self.core.install_key_set(&key_set.jws).await;
                Ok(())
            }
            FromHub::Command(command) => {
                self.obey(&command.jws, command.heed_only).await;
                Ok(())
            }
            FromHub::HeartbeatAck(_) => {
                // The lease counts from when the beat was sent: what the hub knew then is what it vouches for.
                if let Some(sent) = beats.sent.pop_front() {
                    self.core.extend_lease(sent, beats.lease);
                }
                Ok(())
            }
            FromHub::Drain(_) => Err(Ended::Drain),
        }
    }

    async fn obey(&self, jws: &str, heed_only: bool) {
        let command = match self.core.commands.verify(jws, Timestamp::now()) {
            Ok(command) => command,
            Err(error) => {
                let mut text = error.to_string();
                if let Some(cause) = std::error::Error::source(&error) {
                    text = format!("{text}: {cause}");
                }
                self.core.alarms.raise(AlarmKind::RefusedCommand, &text);
                return;
            }
        };
        self.core.heed(&command.order);
        if heed_only {
            return;
        }
        while self.orders.len() >= ORDERS_AT_ONCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let core = Arc::clone(&self.core);
        self.orders.spawn(async move {
            let answer = core.carry_out(command.id.to_string(), command.order).await;
            core.outbox.send(answer);
        });
    }

    /// Answers what is under way before the connection is given up.
    async fn finish(&mut self, to_hub: &mpsc::Sender<AgentMessage>) {
        self.orders.close();
        // What is late is finished without the hub hearing of it; it asks again.
        let _ = tokio::time::timeout(FINISH, self.orders.wait()).await;
        self.orders.reopen();
        while let Ok(message) = self.outgoing.try_recv() {
            if to_hub.send(message).await.is_err() {
                return;
            }
        }
    }
}
