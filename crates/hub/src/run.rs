//! One hub process from its first to its last breath: build, listen, serve, drain.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use nullius_model::{AuditKind, AuditOutcome, Clock};
use nullius_tls::{Accepted, HubAcceptor, InfraRoots, TlsError, exporter};
use nullius_tunnel::{PublicLimits, serve_public_connection};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use crate::{
    FirstAdmin, Hub, HubSettings, InitError, SessionEndCause, SettingsError, clusters,
    record::chain,
    start::{self, Relink},
    web::{self, Source},
};

/// Connections get so long to end by themselves once they are told to.
const LINGER: Duration = Duration::from_secs(3);

/// A hub that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Somebody else listens there.
    #[error("`{0}` is in use by another program: stop it, or listen elsewhere")]
    PortInUse(SocketAddr),
    /// The address cannot be listened on.
    #[error("`{address}` cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    /// The hub cannot be set up.
    #[error(transparent)]
    Init(#[from] InitError),
    /// TLS cannot be set up.
    #[error("tls cannot be set up")]
    Tls(#[from] TlsError),
}

impl From<SettingsError> for RunError {
    fn from(error: SettingsError) -> Self {
        Self::Init(error.into())
    }
}

/// A hub that listens.
pub struct RunningHub {
    hub: Arc<Hub>,
    listening: SocketAddr,
    first_admin: Option<FirstAdmin>,
    first_link: Option<PathBuf>,
    served: JoinHandle<()>,
}

impl RunningHub {
    /// The hub.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Where it listens.
    pub fn listening(&self) -> SocketAddr {
        self.listening
    }

    /// The link for the first admin, when this start made them. To be told to the operator, never to a log.
    pub fn first_admin(&self) -> Option<&FirstAdmin> {
        self.first_admin.as_ref()
    }

    /// The file that holds that link until it is used; absent where it could not be written.
    pub fn first_link_file(&self) -> Option<&Path> {
        self.first_link.as_deref()
    }

    /// Waits until the hub has drained and stopped.
    pub async fn stopped(self) {
        if let Err(error) = self.served.await {
            tracing::error!(%error, "the hub ended in disorder");
        }
    }
}

/// Starts a hub: builds everything, listens, and serves until `shutdown`.
pub async fn run(
    settings: HubSettings,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<RunningHub, RunError> {
    settings.check()?;
    nullius_tls::install_provider();
    // The port comes first: where it is taken, nothing is touched.
    let listener = listen(settings.listen).await?;
    let bound = listener.local_addr();
    let listening =
        bound.map_err(|source| RunError::Listen { address: settings.listen, source })?;
    let hub = start::open(settings, None, clock, listening).await?;
    let first_admin = hub.first_admin(Relink::Never).await?;
    hub.tidy_first_link().await;
    let first_link = first_admin.as_ref().and_then(|first| {
        let kept = hub.keep_first_link(&first.link);
        kept.inspect_err(|error| tracing::warn!(%error, "could not keep the first link")).ok()
    });
    let roots = InfraRoots::from_pem(hub.keys().root().certificate_pem())?;
    let acceptor = HubAcceptor::new(Arc::clone(&hub.certificate), &roots)?;
    hub.note(hub.lifecycle("start")).await;
    tracing::info!(address = %listening, origin = hub.origin(), "listen");

    let server = Server {
        router: web::router(&hub),
        hub: Arc::clone(&hub),
        acceptor,
        room: Arc::new(Semaphore::new(hub.settings().limits.connections)),
        connections: TaskTracker::new(),
        end_public: CancellationToken::new(),
        end_agents: CancellationToken::new(),
        cut: CancellationToken::new(),
    };
    let served = tokio::spawn(server.serve(listener, shutdown));
    Ok(RunningHub { hub, listening, first_admin, first_link, served })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => RunError::PortInUse(address),
        _ => RunError::Listen { address, source },
    })
}

#[derive(Clone)]
struct Server {
    hub: Arc<Hub>,
    router: Router,
    acceptor: HubAcceptor,
    room: Arc<Semaphore>,
    connections: TaskTracker,
    end_public: CancellationToken,
    end_agents: CancellationToken,
    cut: CancellationToken,
}

impl Server {
    async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        tasks.spawn(Arc::clone(&self.hub).follow_time(stop.clone()));
        tasks.spawn(Arc::clone(&self.hub).keep_up(stop.clone()));
        tasks.spawn(Arc::clone(&self.hub).follow_keys(stop.clone()));
        tasks.spawn(Arc::clone(&self.hub).follow_foreign(stop.clone()));
        self.hub.act_on_time().await;
        self.accept_until(&listener, &shutdown).await;
        drop(listener);
        self.drain().await;
        self.hub.end_browser_sessions().await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        self.hub.note(self.hub.lifecycle("stop")).await;
        self.hub.audit.shutdown().await;
        self.hub.store.close().await;
        tracing::info!("stopped");
    }

    async fn accept_until(&self, listener: &TcpListener, shutdown: &CancellationToken) {
        loop {
            let room = tokio::select! {
                () = shutdown.cancelled() => return,
                room = Arc::clone(&self.room).acquire_owned() => room,
            };
            let Ok(room) = room else { return };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let server = self.clone();
                    self.connections.spawn(async move {
                        server.hub.metrics().connected();
                        tokio::select! {
                            () = server.connection(stream, peer) => {}
                            () = server.cut.cancelled() => {}
                        }
                        server.hub.metrics().disconnected();
                        drop(room);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, mostly: those in use come back in a while.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        nullius_tls::tcp::prepare(&stream);
        match self.acceptor.accept(stream).await {
            Ok(Accepted::Public(stream)) => {
                let alpn = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
                let limits = PublicLimits::default();
                let end = self.end_public.clone();
                let server = self.clone();
                let service = service_fn(move |request| server.clone().answer(request, peer));
                let served =
                    serve_public_connection(stream, alpn.as_deref(), service, &limits, end).await;
                if let Err(error) = served {
                    tracing::debug!(%error, %peer, "end a connection");
                }
            }
            Ok(Accepted::Agent { stream, id, protocol, not_after }) => {
                let exporter = match exporter(stream.get_ref().1) {
                    Ok(exporter) => exporter,
                    Err(error) => {
                        tracing::warn!(%error, agent = %id, "refuse agent");
                        return;
                    }
                };
                let serve =
                    clusters::agents::accept(&self.hub, stream, id, protocol, exporter, not_after);
                tokio::select! {
                    () = serve => {}
                    () = self.end_agents.cancelled() => {}
                }
            }
            Err(error) => {
                self.hub.metrics().handshake_failed();
                tracing::debug!(error = %chain(&error), %peer, "refuse a connection");
            }
        }
    }

    async fn answer(
        self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<Body>, Infallible> {
        if request.uri().path().starts_with("/clusters/") {
            let response = clusters::kube::handle(&self.hub, request, peer.ip()).await;
            self.hub.metrics().kube_call(response.status());
            return Ok(response.map(Body::new));
        }
        request.extensions_mut().insert(Source(peer.ip()));
        self.router.oneshot(request.map(Body::new)).await
    }

    /// Takes no new work, lets what runs finish for a while, then cuts it.
    async fn drain(&self) {
        self.hub.draining.store(true, std::sync::atomic::Ordering::Release);
        tracing::info!("drain");
        let limit = Duration::from_secs(self.hub.settings().drain.as_secs().into());
        let clusters = self.hub.clusters();
        clusters.announce_drain(limit);
        if tokio::time::timeout(limit, clusters.tunnels.drain()).await.is_err() {
            tracing::info!("cut what did not finish in time");
            let cut = self.hub.sessions().all();
            for session in cut {
                clusters.tunnels.cut(session.id());
            }
        }
        self.end_public.cancel();
        self.end_agents.cancel();
        self.connections.close();
        if tokio::time::timeout(LINGER, self.connections.wait()).await.is_err() {
            tracing::debug!(left = self.connections.len(), "cut connections that linger");
            self.cut.cancel();
            self.connections.wait().await;
        }
    }
}

impl Hub {
    /// Sessions of pages live in this process alone.
    async fn end_browser_sessions(self: &Arc<Self>) {
        let pages = self.sessions.all().into_iter();
        for session in pages.filter(|session| !session.client().is_stored()) {
            self.end_session(session.id(), SessionEndCause::Stopped).await;
        }
    }

    fn lifecycle(&self, what: &str) -> nullius_model::AuditEvent {
        let mut event = self.own_event(AuditKind::Lifecycle, AuditOutcome::Done);
        event.facts.insert("what".to_owned(), what.to_owned());
        event.facts.insert("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        event.facts.insert("instance".to_owned(), self.keys.instance().to_string());
        event
    }
}
