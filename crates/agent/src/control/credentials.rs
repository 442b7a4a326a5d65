//! What control serves to the proxies of its cluster, and to nobody else: tokens of sessions, and what changes.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nullius_model::{SessionId, Timestamp};
use nullius_proto::{
    VERSION,
    agent_v1::{
        CredentialEvent, IssueRequest, IssueResponse, KeySet, Lease, RaiseRequest, RaiseResponse,
        SessionEnded, WatchRequest, agent_message,
        credential_event::Kind,
        credentials_server::{Credentials, CredentialsServer},
    },
};
use nullius_tls::{PartAcceptor, PeerRule, Protocol};
use secrecy::ExposeSecret;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{broadcast, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Core, IssueError, Notice};
use crate::{AgentError, identity::Identity};

const EVENTS: usize = 64;

/// Serves proxies for as long as the process lives.
pub(crate) fn serve(
    listener: TcpListener,
    identity: Identity,
    core: Arc<Core>,
) -> Result<impl Future<Output = ()> + Send, AgentError> {
    let admit = PeerRule::ProxyOf(identity.cluster.clone());
    let certificate = Arc::clone(&identity.certificate);
    let acceptor = PartAcceptor::new(&identity.hub.roots, certificate, admit, Protocol::Handover)?;
    Ok(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (acceptor, core) = (acceptor.clone(), Arc::clone(&core));
            tokio::spawn(async move { serve_one(stream, &acceptor, core).await });
        }
    })
}

async fn serve_one(stream: TcpStream, acceptor: &PartAcceptor, core: Arc<Core>) {
    nullius_tls::tcp::prepare(&stream);
    let proven = match acceptor.accept(stream).await {
        Ok(proven) => proven,
        Err(error) => {
            tracing::debug!(%error, "refuse who is no proxy of this cluster");
            return;
        }
    };
    tracing::info!(proxy = %proven.peer.id, "let a proxy in");
    let left = proven.peer.not_after.duration_since(Timestamp::now());
    let left = Duration::try_from(left).unwrap_or_default();
    let service = TowerToHyperService::new(CredentialsServer::new(Service { core }));
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(20))
        .serve_connection(TokioIo::new(proven.stream), service);
    // The proxy comes back with a newer certificate.
    if tokio::time::timeout(left, serving).await.is_err() {
        tracing::debug!(proxy = %proven.peer.id, "close connection whose certificate has ended");
    }
}

struct Service {
    core: Arc<Core>,
}

type Events = Pin<Box<dyn Stream<Item = Result<CredentialEvent, Status>> + Send>>;

#[tonic::async_trait]
impl Credentials for Service {
    type WatchStream = Events;

    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let request = request.into_inner();
        known_version(request.version)?;
        let session: SessionId = request
            .session
            .parse()
            .map_err(|_| Status::invalid_argument("`session` is not 32 hex digits"))?;
        let now = Timestamp::now();
        let token = self
            .core
            .issue(&session, request.generation, &request.assertion, now)
            .await
            .map_err(|error| status_of(&error))?;
        Ok(Response::new(IssueResponse {
            token: token.token.expose_secret().to_owned(),
            expires_at: token.expires_at.as_second(),
        }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Events>, Status> {
        known_version(request.into_inner().version)?;
        // Subscribe first: what happens between here and the state below is then told twice rather than never.
        let notices = self.core.notices.subscribe();
        let (events, stream) = mpsc::channel(EVENTS);
        let core = Arc::clone(&self.core);
        tokio::spawn(async move { tell(&core, notices, events).await });
        let stream = tokio_stream::StreamExt::map(ReceiverStream::new(stream), Ok);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn raise(
        &self,
        request: Request<RaiseRequest>,
    ) -> Result<Response<RaiseResponse>, Status> {
        let request = request.into_inner();
        known_version(request.version)?;
        let alarm = request.alarm.ok_or_else(|| Status::invalid_argument("an alarm is missing"))?;
        tracing::warn!(alarm = %alarm.what, detail = %alarm.detail, "hear alarm of a proxy");
        self.core.outbox.send(agent_message::Kind::Alarm(alarm));
        Ok(Response::new(RaiseResponse {}))
    }
}

/// Tells what holds, then what changes. A proxy that is too slow is let go: it comes back and hears all of it.
async fn tell(
    core: &Core,
    mut notices: broadcast::Receiver<Notice>,
    events: mpsc::Sender<CredentialEvent>,
) {
    let mut holds = vec![key_set(core.key_set.borrow().clone())];
    holds.extend(core.ended().iter().map(session_ended));
    holds.extend(lease(core));
    for kind in holds {
        if events.send(CredentialEvent { kind: Some(kind) }).await.is_err() {
            return;
        }
    }
    while let Ok(notice) = notices.recv().await {
        let kind = match notice {
            Notice::KeySet(jws) => Some(key_set(jws)),
            Notice::SessionEnded(session) => Some(session_ended(&session)),
            Notice::Lease => lease(core),
        };
        if let Some(kind) = kind
            && events.send(CredentialEvent { kind: Some(kind) }).await.is_err()
        {
            return;
        }
    }
}

fn key_set(jws: String) -> Kind {
    Kind::KeySet(KeySet { jws })
}

fn session_ended(session: &SessionId) -> Kind {
    Kind::SessionEnded(SessionEnded { session: session.to_string() })
}

fn lease(core: &Core) -> Option<Kind> {
    let left = core.lease.remaining()?;
    let valid_millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    Some(Kind::Lease(Lease { valid_millis }))
}

fn known_version(version: u32) -> Result<(), Status> {
    if version == VERSION {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "the proxy speaks version {version} of the seam, control speaks {VERSION}; update the older"
    )))
}

fn status_of(error: &IssueError) -> Status {
    let text = error.to_string();
    match error {
        IssueError::Assertion(_) | IssueError::OtherSession(_) => Status::permission_denied(text),
        IssueError::Ended => Status::unauthenticated(text),
        IssueError::Lease | IssueError::Cluster(_) => Status::unavailable(text),
        IssueError::NotReady => Status::deadline_exceeded(text),
    }
}
