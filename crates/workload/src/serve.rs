//! The socket: who connects is held and looked at, and served until they end.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nullius_model::Clock;
use nullius_proto::{
    envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer,
    spiffe::spiffe_workload_api_server::SpiffeWorkloadApiServer,
};
use tokio::{
    net::UnixListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    account::{Accounts, Holder},
    api::Api,
    aside::{Guarded, Kept, close_listener},
    attest::{AttestError, Attestor},
    authority::Mended,
    caller::{Caller, Process, too_often},
    issuer::Issuer,
    jwt::Tokens,
    keep::Holdings,
    peer::Peer,
    sds::Secrets,
    unfinished::Unfinished,
    words::Words,
};

/// Bytes of a request that is read: a JWT-SVID to verify is the longest.
const REQUEST_MAX: usize = 32 * 1024;
/// The same of Envoy, which tells everything of itself.
const DISCOVERY_MAX: usize = 64 * 1024;
const HEADERS_MAX: u32 = 8 * 1024;
/// Streams of HTTP/2 of one connection.
const STREAMS: u32 = 128;
/// Bytes of a connection that nobody has read yet, and of a stream that a caller does not fetch.
const WINDOW: u32 = 64 * 1024;
/// Lines a minute of the log about callers of whom nothing is known.
const WORDS: u32 = 10;
/// Connections that have no place of their caller, or none yet: those who are refused, until what they sent is closed.
const DOOR: usize = 256;
/// How long nothing is accepted after the system had no room.
const NO_ROOM: Duration = Duration::from_millis(100);

/// How long what was asked is answered after the end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How much callers may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all callers at the same time.
    pub connections: usize,
    /// Connections of one pod, or of one user of the host.
    pub connections_of_one: usize,
    /// Open streams of one.
    pub streams_of_one: usize,
    /// Requests that one may make at once.
    pub burst: u32,
    /// Requests of one that are added each second.
    pub requests_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            connections_of_one: 64,
            streams_of_one: 512,
            burst: 200,
            requests_per_second: 50,
        }
    }
}

/// Binds a socket to which everybody may connect; one that stands there is replaced in one step.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = name.to_owned();
    beside.push(".new");
    let beside = path.with_file_name(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&beside)?;
    fs::set_permissions(&beside, Permissions::from_mode(0o666))?;
    fs::rename(&beside, path)?;
    Ok(listener)
}

/// What all connections share.
struct Shared {
    attestor: Arc<Attestor>,
    holdings: watch::Receiver<Option<Arc<Holdings>>>,
    tokens: Arc<Tokens>,
    accounts: Arc<Accounts>,
    unknown: Words,
}

/// Serves the Workload API and Envoy's secret discovery until it is told to stop.
pub async fn serve(
    listener: UnixListener,
    attestor: Attestor,
    holdings: watch::Receiver<Option<Arc<Holdings>>>,
    issuer: Issuer,
    clock: Arc<dyn Clock>,
    limits: Limits,
    stop: CancellationToken,
) {
    let shared = Arc::new(Shared {
        attestor: Arc::new(attestor),
        holdings,
        tokens: Arc::new(Tokens::new(issuer, clock)),
        accounts: Accounts::new(limits),
        unknown: Words::new(WORDS),
    });
    let door = Arc::new(Semaphore::new(DOOR));
    let mut connections = JoinSet::new();
    loop {
        let accept = async { (Arc::clone(&door).acquire_owned().await, listener.accept().await) };
        let (at_door, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        let guarded = accepted.and_then(|(stream, _)| Guarded::new(stream, Arc::new(at_door.ok())));
        match guarded {
            Ok(stream) => {
                connections.spawn(connection(stream, Arc::clone(&shared), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "fail to accept a caller");
                tokio::time::sleep(NO_ROOM).await;
            }
        }
    }
    close_listener(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(mut stream: Guarded, shared: Arc<Shared>, stop: CancellationToken) {
    // Whose it is costs few reads and no wait, so that it is counted before anything is done for it.
    let found = Peer::of(stream.stream()).map_err(AttestError::from).and_then(|peer| {
        let place = shared.attestor.place(&peer)?;
        Ok((Holder::of(&place, peer.owner.0), peer))
    });
    let (holder, peer) = match found {
        Ok(found) => found,
        Err(error) => {
            if let Some(left_out) = shared.unknown.take() {
                tracing::info!(%error, left_out, "refuse a caller that is not known");
            }
            return;
        }
    };
    let place = match shared.accounts.connect(holder.clone()) {
        Ok(place) => place,
        Err(why) => {
            if let Some(left_out) = shared.accounts.word(&holder) {
                tracing::info!(?holder, %why, left_out, "refuse a connection");
            }
            return;
        }
    };
    stream.keep(Arc::clone(&place) as Kept);
    let handed = stream.refused();
    let holdings = shared.holdings.borrow().clone();
    let attestor = Arc::clone(&shared.attestor);
    let looked: Result<Result<Process, AttestError>, _> =
        tokio::task::spawn_blocking(move || Process::of(peer, attestor, holdings.as_deref())).await;
    let process = match looked {
        Ok(Ok(process)) => Arc::new(process),
        Ok(Err(error)) => {
            if let Some(left_out) = shared.accounts.word(&holder) {
                tracing::info!(?holder, %error, left_out, "refuse a caller that cannot be attested");
            }
            return;
        }
        Err(_) => return,
    };
    let cut = place.cut.clone();
    let counted = Arc::clone(&place);
    let caller = Arc::new(Caller::new(Arc::clone(&process), shared.holdings.clone(), place));
    let tokens = Arc::clone(&shared.tokens);
    let api = SpiffeWorkloadApiServer::new(Api { caller: Arc::clone(&caller), tokens })
        .max_decoding_message_size(REQUEST_MAX);
    let secrets = SecretDiscoveryServiceServer::new(Secrets { caller })
        .max_decoding_message_size(DISCOVERY_MAX);
    let routes = Routes::new(api).add_service(secrets).prepare();
    let service = Unfinished::new(TowerToHyperService::new(routes), move || {
        counted.room().ok_or_else(too_often)
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS_MAX)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(WINDOW as usize)
        .serve_connection(TokioIo::new(Mended::new(stream)), service);
    let mut served = std::pin::pin!(served);
    tokio::select! {
        served = served.as_mut() => if let Err(error) = served {
            tracing::debug!(%error, "end a connection");
        },
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            // What is asked by now is answered; streams have no end of their own.
            let _ = tokio::time::timeout(LAST_ANSWERS, served).await;
        }
        () = handed.cancelled() => {}
        () = cut.cancelled() => tracing::debug!(?holder, "end a connection to make room for others"),
        // Whoever else holds the socket is not who was attested.
        () = process.peer.ended() => tracing::debug!("end the connection of a caller that has ended"),
    }
    if handed.is_cancelled()
        && let Some(left_out) = shared.accounts.word(&holder)
    {
        tracing::info!(
            ?holder,
            left_out,
            "end a connection: the caller hands over descriptors, which nobody here takes"
        );
    }
}
