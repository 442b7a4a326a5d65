//! The control connection of an agent: it says hello, hears orders and key sets, answers, and beats.
//!
//! What an agent may say is bounded by its certificate: the cluster is the certificate's, never the message's. A
//! message whose kind is not known ends the connection.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use nullius_model::{
    AuditEvent, AuditKind, AuditOutcome, ClusterName, InfraId, InstanceId, Principal, SessionId,
};
use nullius_proto::{
    VERSION,
    agent_v1::{
        self as wire, AgentMessage, Hello, HubMessage, agent_message, control_server::Control,
        hub_message,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    HEARTBEAT_SECONDS, LEASE_SECONDS,
    commands::{Acknowledged, AgentState, Answer, Attached, Attachment},
};
use crate::Hub;

/// Messages that wait for a slow agent before orders fail.
const QUEUE: usize = 256;
/// An agent that said nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(3 * HEARTBEAT_SECONDS as u64);
/// Objects of an agent's answer that are kept, and characters of each.
const OBJECTS: usize = 2_000;
const OBJECT_CHARS: usize = 400;
/// Characters of an agent's own words that are kept.
const WORDS: usize = 1_000;

/// The control service for one connection, whose peer the TLS handshake has proven.
#[derive(Clone)]
pub(super) struct ControlService {
    pub(super) hub: Arc<Hub>,
    pub(super) cluster: ClusterName,
    pub(super) instance: InstanceId,
}

type ToAgent = Pin<Box<dyn Stream<Item = Result<HubMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Control for ControlService {
    type AttachStream = ToAgent;

    async fn attach(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<ToAgent>, Status> {
        let mut from_agent = request.into_inner();
        let hello = match next(&mut from_agent).await? {
            Some(agent_message::Kind::Hello(hello)) => hello,
            Some(_) | None => {
                return Err(Status::invalid_argument("the first message must be hello"));
            }
        };
        if hello.version != VERSION {
            return Err(Status::failed_precondition(format!(
                "the agent speaks version {} of the seam, this hub speaks {VERSION}; update the older",
                hello.version
            )));
        }
        if !self.hub.snapshot().knows_cluster(&self.cluster) {
            return Err(Status::permission_denied("the cluster is not known any more"));
        }
        let (to_agent, outgoing) = mpsc::channel(QUEUE);
        greet(&self.hub, &to_agent).await;
        let service = self.clone();
        tokio::spawn(async move { service.serve(hello, from_agent, to_agent).await });
        let stream = tokio_stream::StreamExt::map(ReceiverStream::new(outgoing), Ok);
        Ok(Response::new(Box::pin(stream)))
    }
}

async fn greet(hub: &Hub, to_agent: &mpsc::Sender<HubMessage>) {
    let welcome = wire::Welcome {
        version: VERSION,
        lease_seconds: LEASE_SECONDS,
        heartbeat_seconds: HEARTBEAT_SECONDS,
    };
    let key_set = wire::KeySet { jws: hub.keys().key_set_jws().to_owned() };
    for kind in [hub_message::Kind::Welcome(welcome), hub_message::Kind::KeySet(key_set)] {
        // The queue is new and empty.
        let _ = to_agent.send(HubMessage { kind: Some(kind) }).await;
    }
}

async fn next(
    from_agent: &mut Streaming<AgentMessage>,
) -> Result<Option<agent_message::Kind>, Status> {
    let message = tokio::time::timeout(SILENCE, from_agent.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no heartbeat"))??;
    match message {
        None => Ok(None),
        Some(AgentMessage { kind: Some(kind) }) => Ok(Some(kind)),
        Some(AgentMessage { kind: None }) => {
            Err(Status::invalid_argument("a message of a kind that this hub does not know"))
        }
    }
}

impl ControlService {
    async fn serve(
        self,
        hello: Hello,
        mut from_agent: Streaming<AgentMessage>,
        to_agent: mpsc::Sender<HubMessage>,
    ) {
        let hub = Arc::clone(&self.hub);
        let about = Attached {
            instance: self.instance.clone(),
            epoch: hello.epoch,
            since: hub.now(),
            kubernetes_version: words(&hello.kubernetes_version),
        };
        let attached = hub.clusters().commands.attach(&self.cluster, about, to_agent.clone());
        let Some(mut attachment) = attached else {
            if self.take_word().is_some() {
                self.note(AuditKind::Alarm, AuditOutcome::Denied, "stale or replayed epoch").await;
            }
            return;
        };
        let noted = self.take_word().is_some();
        if noted {
            self.note(AuditKind::AgentConnection, AuditOutcome::Begun, "attached").await;
        }
        hub.cluster_seen(&self.cluster).await;
        let standing: Vec<SessionId> =
            hello.sessions.iter().filter_map(|session| session.parse().ok()).collect();
        let acts = attachment.acts();
        let reconciling = {
            let (hub, cluster) = (Arc::clone(&hub), self.cluster.clone());
            tokio::spawn(async move {
                if acts {
                    hub.clusters().reconcile(&hub, &cluster, &standing).await;
                }
            })
        };
        let why = loop {
            let message = tokio::select! {
                message = next(&mut from_agent) => message,
                _ = attachment.gone.changed() => break "replaced by a newer connection".to_owned(),
            };
            match message {
                Ok(Some(kind)) => self.hear(&attachment, kind, &to_agent).await,
                Ok(None) => break "the agent closed the connection".to_owned(),
                Err(status) => break words(status.message()),
            }
        };
        reconciling.abort();
        drop(attachment);
        if noted {
            self.note(AuditKind::AgentConnection, AuditOutcome::Done, &why).await;
        }
        hub.cluster_seen(&self.cluster).await;
    }

    async fn hear(
        &self,
        attachment: &Attachment<'_>,
        kind: agent_message::Kind,
        to_agent: &mpsc::Sender<HubMessage>,
    ) {
        match kind {
            agent_message::Kind::Hello(_) => {}
            agent_message::Kind::Heartbeat(_) => {
                let ack = hub_message::Kind::HeartbeatAck(wire::HeartbeatAck {});
                // A full queue means that the agent does not read; the missing answer ends its lease.
                let _ = to_agent.try_send(HubMessage { kind: Some(ack) });
            }
            agent_message::Kind::SessionReady(ready) => {
                if let Ok(id) = ready.command.parse() {
                    let objects = kept(ready.objects);
                    attachment.answer(&id, Answer::Ready(objects));
                }
            }
            agent_message::Kind::SessionFlushed(flushed) => {
                self.hear_flushed(attachment, flushed).await;
            }
            agent_message::Kind::State(state) => self.hear_state(attachment, state).await,
            agent_message::Kind::CommandFailed(failed) => {
                if let Ok(id) = failed.command.parse() {
                    let message = words(&failed.message);
                    attachment.answer(&id, Answer::Failed { message, refused: failed.refused });
                }
            }
            agent_message::Kind::Alarm(alarm) => {
                let Some(unheard) = self.take_word() else { return };
                let mut text = format!("{}: {}", words(&alarm.what), words(&alarm.detail));
                if unheard > 0 {
                    text.push_str(&format!(" (and {unheard} more that were not written down)"));
                }
                tracing::warn!(cluster = %self.cluster, alarm = %text, "hear alarm of agent");
                self.note(AuditKind::Alarm, AuditOutcome::Denied, &text).await;
            }
        }
    }

    async fn hear_state(&self, attachment: &Attachment<'_>, state: wire::State) {
        let said = |text: &str| (!text.is_empty()).then(|| words(text));
        let acted = attachment.acts();
        let unguarded = said(&state.unguarded);
        let state = AgentState {
            unguarded: unguarded.clone(),
            ceiling: said(&state.ceiling),
            term: state.term,
        };
        let Some(before) = attachment.set_state(state) else { return };
        if before.unguarded.is_some() && unguarded.is_none() && self.take_word().is_some() {
            let what = "guarded: the admission policies are in force again";
            self.note(AuditKind::Alarm, AuditOutcome::Done, what).await;
        }
        if attachment.acts() && !acted {
            tracing::info!(cluster = %self.cluster, agent = %self.instance, "another replica leads");
            let (hub, cluster) = (Arc::clone(&self.hub), self.cluster.clone());
            // What the former one was about to do is not known.
            tokio::spawn(async move { hub.clusters().reconcile(&hub, &cluster, &[]).await });
        }
    }

    /// An agent's word that objects are gone ends nothing but what the hub ended, and ordered from this connection.
    async fn hear_flushed(&self, attachment: &Attachment<'_>, flushed: wire::SessionFlushed) {
        let objects: BTreeMap<String, String> = flushed.objects.into_iter().collect();
        let session = flushed.session.parse::<SessionId>().ok();
        if session.is_none() && !flushed.session.is_empty() {
            return;
        }
        let acknowledged = match flushed.command.parse() {
            Ok(id) => attachment.flushed(&id, session.as_ref(), objects.clone()),
            Err(_) => Acknowledged::Unordered,
        };
        match (acknowledged, session) {
            (Acknowledged::Told, _) | (Acknowledged::Unordered, None) => {}
            (Acknowledged::Late(session), _) => {
                let clusters = self.hub.clusters();
                clusters.flushed(&self.hub, &session, &self.cluster, kept(objects)).await;
            }
            (Acknowledged::Short(missing), session) => {
                if self.take_word().is_none() {
                    return;
                }
                let what = format!(
                    "flushed without {missing} of the objects that were made; it is ordered again"
                );
                self.note_session(AuditKind::Alarm, AuditOutcome::Failed, session, &what).await;
            }
            (Acknowledged::Unordered, Some(session)) => {
                if self.take_word().is_none() {
                    return;
                }
                let lives = self.hub.sessions().find(&session).is_some();
                let (kind, outcome, what) = if lives {
                    let what = "says that a session is flushed which lives and was not to be";
                    (AuditKind::Alarm, AuditOutcome::Denied, what)
                } else {
                    // Its time was over, or it was a leftover: the agent clears these by itself.
                    (AuditKind::Flush, AuditOutcome::Done, "cleared by itself")
                };
                self.note_session(kind, outcome, Some(session), what).await;
            }
        }
    }

    async fn note_session(
        &self,
        kind: AuditKind,
        outcome: AuditOutcome,
        session: Option<SessionId>,
        what: &str,
    ) {
        let mut event = agent_event(&self.hub, kind, outcome, &self.cluster, &self.instance, what);
        event.session = session;
        self.hub.note(event).await;
    }

    fn take_word(&self) -> Option<u64> {
        self.hub.clusters().commands.take_word(&self.cluster, self.hub.now())
    }

    async fn note(&self, kind: AuditKind, outcome: AuditOutcome, what: &str) {
        let event = agent_event(&self.hub, kind, outcome, &self.cluster, &self.instance, what);
        self.hub.note(event).await;
    }
}

/// An event about an agent.
pub(super) fn agent_event(
    hub: &Hub,
    kind: AuditKind,
    outcome: AuditOutcome,
    cluster: &ClusterName,
    instance: &InstanceId,
    what: &str,
) -> AuditEvent {
    AuditEvent {
        principal: Principal::Agent { cluster: cluster.clone(), instance: instance.clone() },
        cluster: Some(cluster.clone()),
        facts: BTreeMap::from([("what".to_owned(), what.to_owned())]),
        ..hub.own_event(kind, outcome)
    }
}

/// Objects with their UIDs as an agent told them, bounded: they go into the audit.
fn kept(objects: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let short = |text: &String| text.len() <= OBJECT_CHARS;
    let objects = objects.into_iter().filter(|(object, uid)| short(object) && short(uid));
    objects.take(OBJECTS).collect()
}

fn words(text: &str) -> String {
    text.chars().take(WORDS).collect()
}

/// The control service that the proven peer may use; none where it is no `agent control`.
pub(super) fn service_for(hub: &Arc<Hub>, id: &InfraId) -> Option<ControlService> {
    match id {
        InfraId::AgentControl { cluster, instance } => Some(ControlService {
            hub: Arc::clone(hub),
            cluster: cluster.clone(),
            instance: instance.clone(),
        }),
        InfraId::AgentProxy { .. }
        | InfraId::AgentAdmission { .. }
        | InfraId::AgentIdentity { .. }
        | InfraId::Hub { .. } => None,
    }
}
