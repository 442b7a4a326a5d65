//! The proxy as a whole: it binds everything or starts not at all, serves, and ends in order.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use nullius_telemetry::Metrics;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    AccessLog, AccessLogWriter, Config, ConfigError, KeyAsks, KeyRing, KeySources, Neighbours,
    Seen, World,
    files::Reader,
    gateway::{GATEWAY, Gateway},
    inbound::{self, Inbound},
    keys::keep_keys,
    load,
    outbound::{self, Outbound},
    seen::TICK,
    shared::{DRAIN, Shared, Side},
    sockets::OwnNetwork,
};

/// So many ticks are a round of flows.
const ROUND: u64 = 30;

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The files that the configuration names.
    #[error("identity or intentions cannot be used")]
    Files(#[source] ConfigError),
    /// The access log.
    #[error("the access log cannot be opened")]
    AccessLog(#[source] io::Error),
    /// A listener, gateway or upstream.
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

/// A proxy that listens.
pub struct Proxy {
    shared: Arc<Shared>,
    seen: Arc<Seen>,
    reader: Reader,
    keys: Keys,
    sender: watch::Sender<Option<Arc<World>>>,
    listeners: Vec<(Side, TcpListener)>,
    writer: AccessLogWriter,
    addresses: BTreeMap<String, SocketAddr>,
}

/// What fetches keys of issuers.
struct Keys {
    sources: watch::Sender<KeySources>,
    asks: Arc<KeyAsks>,
    ring: watch::Sender<KeyRing>,
}

impl Proxy {
    /// Reads identity and intentions and binds everything.
    pub async fn start(config: Config, metrics: &Metrics) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let sources = load::key_sources(&config).map_err(StartError::Files)?;
        let (asks, (ring, fetched)) = (Arc::<KeyAsks>::default(), watch::channel(KeyRing::new()));
        let first = Reader::first(&config, fetched, Arc::clone(&asks));
        let (reader, world) = first.map_err(StartError::Files)?;
        let keys = Keys { sources: watch::Sender::new(sources), asks, ring };
        let (log, writer) = AccessLog::open(&config.access_log).map_err(StartError::AccessLog)?;
        let (sender, view) = watch::channel(Some(Arc::new(world)));
        let seen = Seen::new(log, metrics);
        // Guests of a gateway are of others, and none of them takes the room of all.
        let neighbours = match &config.gateway {
            Some(_) => Neighbours::Some,
            None => Neighbours::None,
        };
        let witness = seen.workload("proxy", "proxy".into(), neighbours);
        let shared = Shared::new(view, witness, Arc::new(OwnNetwork));
        let (mut addresses, mut listeners) = (BTreeMap::new(), Vec::new());
        for listener in &config.listeners {
            let socket = bind(&listener.name, listener.listen, &mut addresses).await?;
            let front = inbound::Front::Listener(listener.clone());
            listeners.push((Side::In(Inbound::new(front, Arc::clone(&shared))), socket));
        }
        if let Some(gateway) = &config.gateway {
            let socket = bind(GATEWAY, gateway.listen, &mut addresses).await?;
            let gateway = Gateway::new(GATEWAY.into(), Arc::clone(&shared));
            listeners.push((Side::Gateway(gateway), socket));
        }
        for upstream in &config.upstreams {
            let socket = bind(&upstream.name, upstream.listen, &mut addresses).await?;
            let front = outbound::Front::Upstream(upstream.clone());
            listeners.push((Side::Out(Outbound::new(front, Arc::clone(&shared))), socket));
        }
        Ok(Self { shared, seen, reader, keys, sender, listeners, writer, addresses })
    }

    /// Where listeners and upstreams listen, by name.
    pub fn addresses(&self) -> &BTreeMap<String, SocketAddr> {
        &self.addresses
    }

    /// Serves until it is told to end; then what is open may go on for a while.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Stopped> {
        let Self { shared, seen, reader, keys, sender, listeners, writer, .. } = self;
        let Keys { sources, asks, ring } = keys;
        let fetching = tokio::spawn(keep_keys(sources.subscribe(), asks, ring));
        for (side, socket) in listeners {
            shared.spawn(Arc::clone(&shared).serve(socket, side));
        }
        let retire = shared.retire();
        let reading = tokio::spawn(reader.run(sender));
        let ticking = tokio::spawn(tick(Arc::clone(&seen)));
        let ended = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            _ = retire => Err(Stopped),
        };
        tracing::info!("take nothing new and let what is open end");
        shared.drain().await;
        reading.abort();
        fetching.abort();
        drop(sources);
        ticking.abort();
        // What it holds of the log is gone when it has ended.
        let _ = ticking.await;
        seen.finish();
        drop((shared, seen));
        let finished = tokio::task::spawn_blocking(move || writer.finish());
        // It has told by itself what it could not write.
        let _ = tokio::time::timeout(DRAIN, finished).await;
        ended
    }
}

/// What is counted is for the metrics; nobody is told of flows.
async fn tick(seen: Arc<Seen>) {
    let mut rounds = 0_u64..;
    loop {
        tokio::time::sleep(TICK).await;
        seen.tick();
        seen.take_attempts(usize::MAX);
        if rounds.next().is_some_and(|round| round % ROUND == 0) {
            seen.begin_round();
            seen.take_flows(usize::MAX);
        }
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
