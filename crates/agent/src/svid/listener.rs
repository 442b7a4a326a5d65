//! The port that nodes dial: TLS by an SVID of the agent's own, gRPC, and few places for who has not proven to be a node. Over HTTP/1.1
//! anybody is told the bundle ([`endpoint`]).

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nullius_mesh::news::NEWS_MAX;
use nullius_model::{Clock, SpiffeId, SystemClock, Timestamp, Ttl};
use nullius_pki::{PrivateKey, workload::SvidRequest};
use nullius_proto::node_v1::{
    identity_server::IdentityServer, machines_server::MachinesServer, mesh_server::MeshServer,
    seeing_server::SeeingServer,
};
use nullius_tls::{OpenAcceptor, WorkloadTls};
use nullius_workload::{Room, Unfinished, wire::REGISTRATIONS_MAX};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use super::{
    endpoint,
    mesh::{Mesh, MeshService, REPORT_MAX},
    seen::{SEEN_MAX, SeeingService, Sightings},
    service::{IdentityService, Issuing},
    standing::{Followed, Standing},
};
use crate::{
    AgentError,
    error::chain,
    places::{Most, Places},
};

/// One connection of each node, and one more while its part is replaced.
const MOST: Most = Most { strangers: 128, known: 4_096, of_one: 8 };
/// From the connection to the first call of a node.
const STRANGER: Duration = Duration::from_secs(10);
/// Requests of a connection at the same time; more wait at the node.
const STREAMS: u32 = 32;
/// Bytes of the head of a request: a token is most of it.
const HEAD_MAX: u32 = 16 * 1024;
/// Bytes of a message that a node sends.
const MESSAGE_MAX: usize = 16 * 1024;
/// Bytes of a connection that nobody has read yet.
const WINDOW: u32 = 64 * 1024;
/// Requests of a node's connection that are read, and asked about, at the same time. A stranger has one.
const UNFINISHED: usize = 8;
/// What was begun is answered within so long.
const DRAIN: Duration = Duration::from_secs(5);
/// A stranger's goodbye takes no longer.
const FAREWELL: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(30);
/// How often it is looked whether this replica hears anything.
const DEAF_LOOK: Duration = Duration::from_secs(2);
const OWN_LIFE: Ttl = Ttl::from_secs(3_600);

/// What the port shows of itself.
#[derive(Clone, Default)]
pub(crate) struct Shown(Arc<ArcSwapOption<OpenAcceptor>>);

impl Shown {
    pub(crate) fn is_there(&self) -> bool {
        self.0.load().is_some()
    }

    /// Keeps an SVID of its own fresh, for as long as the process lives.
    pub(crate) async fn keep(self, id: SpiffeId, mut standing: Followed) {
        let mut renew_at = None;
        let mut signer = None;
        loop {
            let current = standing.borrow_and_update().clone();
            let now = SystemClock.now();
            if let Some(current) = current {
                let anchor = current.authority.anchor_der().clone();
                let is_fresh = signer.as_ref() == Some(&anchor)
                    && renew_at.is_some_and(|renew_at| now < renew_at);
                if !is_fresh {
                    match show(&current, &id, now) {
                        Ok((acceptor, half)) => {
                            self.0.store(Some(Arc::new(acceptor)));
                            (renew_at, signer) = (Some(half), Some(anchor));
                        }
                        Err(error) => {
                            tracing::warn!(error = %error.chain(), "cannot issue the agent's own SVID");
                        }
                    }
                }
            }
            tokio::select! {
                changed = standing.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

fn show(
    standing: &Standing,
    id: &SpiffeId,
    now: Timestamp,
) -> Result<(OpenAcceptor, Timestamp), AgentError> {
    let key = PrivateKey::generate().map_err(|error| AgentError::Authority(error.into()))?;
    let csr = key.request().map_err(|error| AgentError::Authority(error.into()))?;
    let asked = SvidRequest { id, dns_names: &[], csr: &csr, life: OWN_LIFE };
    let svid = standing.authority.issue(&asked, now).map_err(AgentError::Authority)?;
    let half = now + svid.not_after.duration_since(now) / 2;
    let tls = WorkloadTls::new(svid.chain, key.to_der(), [])?;
    // Nodes speak the one alone. Who says nothing, or speaks both, asks for the bundle.
    Ok((tls.open_acceptor(&[b"http/1.1", b"h2"])?.or_none(), half))
}

/// Serves until it is told to stop, and until what was begun is answered.
pub(crate) async fn serve(
    listener: TcpListener,
    shown: Shown,
    issuing: Arc<Issuing>,
    mesh: Arc<Mesh>,
    sightings: Arc<Sightings>,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let places = Places::new(MOST);
    let mut leave = stop.child_token();
    let mut looks = tokio::time::interval(DEAF_LOOK);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            _ = looks.tick() => {
                // Nodes would wait here for what never comes; another replica may hear.
                if issuing.is_deaf() && !connections.is_empty() {
                    tracing::warn!(connections = connections.len(), "send nodes away: the API server has not been heard for a while");
                    leave.cancel();
                    leave = stop.child_token();
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let Ok((tcp, from)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if issuing.is_deaf() {
            continue;
        }
        // Nobody can be shown who this is before there is an authority.
        let Some(acceptor) = shown.0.load_full() else { continue };
        let place = Arc::new(places.take(from.ip(), leave.child_token()));
        let identity = IdentityService { issuing: Arc::clone(&issuing), place };
        let (mesh, sightings) = (Arc::clone(&mesh), Arc::clone(&sightings));
        connections.spawn(async move {
            let cut = identity.place.cut.clone();
            tokio::select! {
                () = cut.cancelled() => {}
                () = talk(tcp, &acceptor, identity, mesh, sightings) => {}
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "leave connections that do not end");
    }
}

async fn talk(
    tcp: TcpStream,
    acceptor: &OpenAcceptor,
    identity: IdentityService,
    mesh: Arc<Mesh>,
    sightings: Arc<Sightings>,
) {
    let place = Arc::clone(&identity.place);
    let known_by = Instant::now() + STRANGER;
    nullius_tls::tcp::prepare(&tcp);
    let stream = match acceptor.accept(tcp).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(error = %chain(&error), "a client did not get as far as asking");
            return;
        }
    };
    if stream.protocol() != Some(b"h2") {
        return endpoint::serve(stream, place, identity.issuing.standing.clone()).await;
    }
    let mesh = MeshServer::new(MeshService { identity: identity.clone(), mesh })
        .max_decoding_message_size(REPORT_MAX)
        .max_encoding_message_size(NEWS_MAX);
    let seeing = SeeingServer::new(SeeingService { identity: identity.clone(), sightings })
        .max_decoding_message_size(SEEN_MAX);
    let machines = MachinesServer::new(identity.clone()).max_decoding_message_size(MESSAGE_MAX);
    let server = IdentityServer::new(identity)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(REGISTRATIONS_MAX);
    let routes = Routes::new(server).add_service(machines).add_service(mesh).add_service(seeing);
    let (stranger, known) =
        (Room::new(1, REPORT_MAX), Room::new(UNFINISHED, REPORT_MAX + UNFINISHED * MESSAGE_MAX));
    let whose = Arc::clone(&place);
    let room = move || Ok(if whose.is_known() { known.clone() } else { stranger.clone() });
    let service = Unfinished::new(TowerToHyperService::new(routes), room);
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_MAX)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let stays_a_stranger = async {
        if tokio::time::timeout_at(known_by, place.known()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        // Who goes away in the middle has nothing to be told.
        _ = &mut serving => return,
        () = place.leave.cancelled() => {}
        () = stays_a_stranger => return,
    }
    serving.as_mut().graceful_shutdown();
    let patience = if place.is_known() { DRAIN } else { FAREWELL };
    let _ = tokio::time::timeout(patience, serving).await;
}

#[cfg(test)]
mod tests;
