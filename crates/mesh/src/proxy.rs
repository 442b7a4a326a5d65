//! The proxy as a whole: it binds everything or starts not at all, serves, and ends in order.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, ConfigError,
    access_log::{AccessLog, Writer},
    inbound::Inbound,
    outbound::Outbound,
    pool::Pool,
    world::{Reader, View, World},
};

/// How long what is open may go on when the proxy is told to end.
const DRAIN: Duration = Duration::from_secs(20);

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The files that the configuration names.
    #[error("identity or intentions cannot be used")]
    Files(#[source] ConfigError),
    /// The access log.
    #[error("the access log cannot be opened")]
    AccessLog(#[source] io::Error),
    /// A listener or upstream.
    #[error("`{name}` cannot listen at {address}")]
    Listen {
        /// Its name.
        name: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A proxy that ended though nobody told it to.
#[derive(Debug, thiserror::Error)]
#[error("nobody looks at the files any more: a defect of this program")]
pub struct Stopped;

/// What all tasks of a proxy share.
pub(crate) struct Shared {
    view: View,
    pub(crate) log: AccessLog,
    pub(crate) pool: Arc<Pool>,
    /// Nothing new begins.
    pub(crate) stop: CancellationToken,
    /// Nothing goes on.
    kill: CancellationToken,
    tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn view(&self) -> View {
        self.view.clone()
    }

    /// Runs a task until it ends or nothing goes on.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let kill = self.kill.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = kill.cancelled() => {}
                () = task => {}
            }
        });
    }
}

/// A proxy that listens.
pub struct Proxy {
    shared: Arc<Shared>,
    reader: Reader,
    sender: watch::Sender<Arc<World>>,
    inbound: Vec<(Arc<Inbound>, TcpListener)>,
    outbound: Vec<(Arc<Outbound>, TcpListener)>,
    writer: Writer,
    addresses: BTreeMap<String, SocketAddr>,
}

impl Proxy {
    /// Reads identity and intentions and binds everything.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let (reader, world) = Reader::first(&config).map_err(StartError::Files)?;
        let (log, writer) = AccessLog::open(&config.access_log).map_err(StartError::AccessLog)?;
        let (sender, view) = watch::channel(Arc::new(world));
        let shared = Arc::new(Shared {
            view,
            log,
            pool: Arc::default(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let mut addresses = BTreeMap::new();
        let mut inbound = Vec::new();
        for listener in &config.listeners {
            let socket = bind(&listener.name, listener.listen, &mut addresses).await?;
            inbound.push((Inbound::new(listener.clone(), Arc::clone(&shared)), socket));
        }
        let mut outbound = Vec::new();
        for upstream in &config.upstreams {
            let socket = bind(&upstream.name, upstream.listen, &mut addresses).await?;
            outbound.push((Outbound::new(upstream.clone(), Arc::clone(&shared)), socket));
        }
        Ok(Self { shared, reader, sender, inbound, outbound, writer, addresses })
    }

    /// Where listeners and upstreams listen, by name.
    pub fn addresses(&self) -> &BTreeMap<String, SocketAddr> {
        &self.addresses
    }

    /// Serves until it is told to end; then what is open may go on for a while.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Stopped> {
        let Self { shared, reader, sender, inbound, outbound, writer, .. } = self;
        for (inbound, socket) in inbound {
            shared.spawn(inbound.serve(socket));
        }
        for (outbound, socket) in outbound {
            shared.spawn(outbound.serve(socket));
        }
        let mut view = shared.view();
        let retire = async {
            while view.changed().await.is_ok() {
                let generation = view.borrow_and_update().generation;
                shared.pool.retire(generation);
            }
        };
        let reading = tokio::spawn(reader.run(sender));
        let ended = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            () = retire => Err(Stopped),
        };
        tracing::info!("take nothing new and let what is open end");
        shared.stop.cancel();
        // Tunnels without streams close; others with their last one.
        shared.pool.retire(u64::MAX);
        shared.tasks.close();
        if tokio::time::timeout(DRAIN, shared.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = shared.tasks.len(), "end what did not end in time");
        }
        shared.kill.cancel();
        shared.tasks.wait().await;
        reading.abort();
        drop(shared);
        let finished = tokio::task::spawn_blocking(move || writer.finish());
        // It has told by itself what it could not write.
        let _ = tokio::time::timeout(DRAIN, finished).await;
        ended
    }
}

async fn bind(
    name: &str,
    address: SocketAddr,
    addresses: &mut BTreeMap<String, SocketAddr>,
) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Listen { name: name.to_owned(), address, source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    tracing::info!(name, address = %bound, "listen");
    addresses.insert(name.to_owned(), bound);
    Ok(socket)
}
