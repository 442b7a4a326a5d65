//! The source's side: what an application of this workload sends goes to its destination once that has proven to be who is expected
//! there; only who is not in the mesh gets it as it is.

mod living;
mod through;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use nullius_model::{Reason as Decision, SpiffeId};
use nullius_tls::{
    TlsError, WorkloadConnector, WorkloadPeer, WorkloadStream,
    tcp::{prepare, reset_on_close},
};
use socket2::SockRef;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    Upstream, Wire, World,
    access_log::{Attempt, Direction, Why},
    copy::{PlainCopy, StreamCopy},
    inbound::{WHY, canonical, end},
    live::{Ended, while_allowed},
    pool::{self, CONNECT, DialError, Key, Lease},
    reach::go_out,
    route::{Calls, Hop, Over, Route},
    shared::Shared,
    tunnel::{ALPN_H2, ALPN_HBONE},
    world::View,
};
use living::Living;
use through::Through;

/// How long a destination may take to answer a CONNECT: it reaches its application meanwhile. A tunnel in which nobody answers for so
/// long is given up, so a gateway takes less.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// How long who is not in the mesh may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections of one workload that are open at once.
const OPEN: usize = 4_096;
/// Of those, which have not reached their destination yet: each may take as long as that lets it.
const DIALLED: usize = 512;
/// Connectors that are kept; where there are more destinations, they are made again.
const CONNECTORS: usize = 1_024;

/// A side on which this workload calls others.
pub(crate) struct Outbound {
    front: Front,
    shared: Arc<Shared>,
    connectors: Mutex<Connectors>,
    calls: Arc<Calls>,
    open: Arc<Semaphore>,
    dialled: Semaphore,
}

/// What differs between an upstream that somebody wrote and where a pod's connections are led to.
pub(crate) enum Front {
    Upstream(Upstream),
    /// A pod by its name; the ports are those to which connections are led.
    Pod(Arc<str>, BTreeSet<u16>),
}

/// What is shown to destinations and believed of them; the same for all of one generation.
#[derive(Default)]
struct Connectors {
    generation: u64,
    all: HashMap<(&'static [u8], Arc<[SpiffeId]>), WorkloadConnector>,
}

/// A way to a destination that is open.
enum Opened {
    Stream { send: SendStream<Bytes>, recv: RecvStream, lease: Lease },
    Tls(Box<WorkloadStream>, WorkloadPeer),
    Plain(TcpStream),
    Through(Through),
}

/// Why there is none.
enum Refused {
    /// The destination said no.
    Denied(Option<String>),
    /// It is not known who is there.
    Unclear,
    Failed(DialError),
}

impl Refused {
    /// Whether it may be another matter with another endpoint of the same Service.
    fn is_of_one_endpoint(&self) -> bool {
        matches!(self, Self::Unclear | Self::Failed(_))
    }

    fn tell(self, attempt: &mut Attempt) {
        match self {
            Self::Denied(why) => {
                attempt.denied(Why::RefusedByDestination);
                attempt.say(why);
            }
            Self::Unclear => attempt.denied(Why::Unclear),
            Self::Failed(DialError { why, detail }) => attempt.failed(why, Some(detail)),
        }
    }
}

impl From<DialError> for Refused {
    fn from(error: DialError) -> Self {
        Self::Failed(error)
    }
}

impl From<TlsError> for Refused {
    fn from(error: TlsError) -> Self {
        Self::Failed(DialError { why: Why::HandshakeFailed, detail: error.to_string() })
    }
}

impl Outbound {
    pub(crate) fn new(front: Front, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            front,
            shared,
            connectors: Mutex::default(),
            calls: Arc::default(),
            open: Arc::new(Semaphore::new(OPEN)),
            dialled: Semaphore::new(DIALLED),
        })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        match &self.front {
            Front::Upstream(upstream) => &upstream.name,
            Front::Pod(name, _) => name,
        }
    }

    /// Takes a connection of the workload; where it has too many, it is turned away.
    pub(crate) fn accepted(self: &Arc<Self>, local: TcpStream, client: SocketAddr) {
        match Arc::clone(&self.open).try_acquire_owned() {
            Ok(place) => self.shared.spawn(Arc::clone(self).connection(local, client, place)),
            Err(_) => {
                reset_on_close(&local);
                self.attempt(client).failed(Why::Overloaded, None);
            }
        }
    }

    fn attempt(&self, client: SocketAddr) -> Attempt {
        Attempt::begin(&self.shared.seen, Direction::Outbound, self.name(), client)
    }

    async fn connection(
        self: Arc<Self>,
        local: TcpStream,
        client: SocketAddr,
        _place: OwnedSemaphorePermit,
    ) {
        prepare(&local);
        let mut attempt = self.attempt(client);
        // Many at once wait for each other as long as one would wait for its destination.
        let Ok(Ok(dialled)) = timeout(PATIENCE, self.dialled.acquire()).await else {
            reset_on_close(&local);
            return attempt.failed(Why::Overloaded, None);
        };
        let mut view = self.shared.view();
        let Some(world) = view.borrow_and_update().clone() else {
            reset_on_close(&local);
            return attempt.denied(Why::STALE);
        };
        attempt.source = Some(world.tls.id().clone());
        let mut route = match self.route(&local, &world, &mut attempt) {
            Ok(route) => route,
            Err(why) => {
                reset_on_close(&local);
                return attempt.denied(why);
            }
        };
        attempt.service = route.service().cloned();
        let patience = if attempt.service.is_some() { CONNECT } else { PATIENCE };
        let mut refused = None;
        let (hop, opened, _call) = loop {
            let Some(hop) = route.next(&world, &self.calls) else {
                reset_on_close(&local);
                return match refused {
                    Some(refused) => Refused::tell(refused, &mut attempt),
                    None => attempt.failed(Why::NoEndpoint, None),
                };
            };
            attempt.wire = hop.over.as_str();
            attempt.address = Some(hop.destination);
            let call = self.calls.begin(hop.destination);
            match self.open(&world, &hop, patience).await {
                Ok(opened) => break (hop, opened, call),
                Err(error) if error.is_of_one_endpoint() => refused = Some(error),
                Err(error) => {
                    reset_on_close(&local);
                    return error.tell(&mut attempt);
                }
            }
        };
        drop(dialled);
        self.carry(local, attempt, &mut view, &world, &hop, opened).await;
    }

    /// Where a connection goes; none where it may not begin.
    fn route(&self, local: &TcpStream, world: &World, attempt: &mut Attempt) -> Result<Route, Why> {
        match &self.front {
            Front::Upstream(upstream) => Ok(Route::of(upstream)),
            Front::Pod(_, own_ports) => {
                // Without one nothing was led here.
                let to = original_destination(local).map_err(|_| Why::ProxyItself)?;
                attempt.address = Some(to);
                Route::led(to, world, own_ports)
            }
        }
    }

    /// A way to a place; who is not in the mesh may take some time to accept.
    async fn open(&self, world: &World, hop: &Hop, patience: Duration) -> Result<Opened, Refused> {
        let sockets = &*self.shared.sockets;
        match &hop.over {
            Over::Unclear => Err(Refused::Unclear),
            Over::Plain => {
                let opened = go_out(sockets, hop.dial, hop.from, patience).await;
                Ok(Opened::Plain(opened.map_err(DialError::unreachable)?))
            }
            Over::Gateway(via, called) => {
                Ok(Opened::Through(self.through(world, hop.dial, via, *called).await?))
            }
            Over::Mesh(Wire::Tls, expected) => {
                let connector = self.connector(world, b"", expected)?;
                let (stream, peer) = pool::dial(sockets, hop.dial, hop.from, &connector).await?;
                Ok(Opened::Tls(Box::new(stream), peer))
            }
            Over::Mesh(wire, expected) => {
                let protocol = protocol(*wire);
                let connector = self.connector(world, protocol, expected)?;
                self.stream(world, hop, protocol, expected, &connector).await
            }
        }
    }

    /// Moves what is said, for as long as it may be.
    async fn carry(
        &self,
        mut local: TcpStream,
        mut attempt: Attempt,
        view: &mut View,
        world: &World,
        hop: &Hop,
        opened: Opened,
    ) {
        let moved = Arc::clone(&attempt.moved);
        let (out, into) = (&moved.to_destination, &moved.to_source);
        let met = Why::Decided(Decision::IntentionMatched);
        let ended = match opened {
            Opened::Stream { mut send, mut recv, lease } => {
                attempt.destination = Some(lease.peer().id.clone());
                attempt.allowed(met);
                let ended = {
                    let copy = StreamCopy::new(&mut local, &mut send, &mut recv, out, into);
                    let living = Living::proven(hop, lease.peer(), lease.generation());
                    while_allowed(copy, view, None, living).await
                };
                if ended != Ended::Closed {
                    send.send_reset(Reason::CANCEL);
                }
                ended
            }
            Opened::Tls(mut stream, peer) => {
                attempt.destination = Some(peer.id.clone());
                attempt.allowed(met);
                let ended = {
                    let copy = PlainCopy::new(&mut local, &mut *stream, out, into);
                    let living = Living::proven(hop, &peer, world.generation);
                    while_allowed(copy, view, None, living).await
                };
                if ended != Ended::Closed {
                    stream.reset_on_close();
                }
                ended
            }
            Opened::Through(Through { mut stream, living }) => {
                living.tell(&mut attempt);
                attempt.allowed(Why::ThroughGateway);
                let copy = PlainCopy::new(&mut local, &mut *stream, out, into);
                // What is cut is dropped unfinished, which resets it.
                while_allowed(copy, view, None, living.judge()).await
            }
            Opened::Plain(mut stream) => {
                attempt.allowed(Why::NotInMesh);
                let ended = {
                    let copy = PlainCopy::new(&mut local, &mut stream, out, into);
                    while_allowed(copy, view, None, Living::plain(hop)).await
                };
                if ended != Ended::Closed {
                    reset_on_close(&stream);
                }
                ended
            }
        };
        if ended != Ended::Closed {
            reset_on_close(&local);
        }
        end(&mut attempt, ended);
    }

    /// A stream for one connection.
    async fn stream(
        &self,
        world: &World,
        hop: &Hop,
        protocol: &'static [u8],
        expected: &Arc<[SpiffeId]>,
        connector: &WorkloadConnector,
    ) -> Result<Opened, Refused> {
        let key = Key {
            source: world.tls.id().clone(),
            expected: Arc::clone(expected),
            to: hop.dial,
            from: hop.from,
            protocol,
        };
        let authority = hop.destination.to_string();
        let (send, recv, lease) = self.asked(world, &key, &authority, connector).await?;
        Ok(Opened::Stream { send, recv, lease })
    }

    /// A stream in a tunnel, with a place in it. A tunnel that broke while nobody used it is dialled anew, once: nothing was sent in it.
    async fn asked(
        &self,
        world: &World,
        key: &Key,
        authority: &str,
        connector: &WorkloadConnector,
    ) -> Result<(SendStream<Bytes>, RecvStream, Lease), Refused> {
        let spawn = |task: BoxFuture<'static, ()>| self.shared.spawn(task);
        loop {
            let pool = &self.shared.pool;
            let lease = pool.lease(key, world.generation, connector, spawn).await?;
            match ask(&lease, authority).await {
                Ok((status, send, recv)) if status == StatusCode::OK => {
                    return Ok((send, recv.into_body(), lease));
                }
                Ok((status, _, response)) => return Err(refusal(status, response.headers())),
                Err(_) if lease.is_reused => lease.give_up(),
                Err(detail) => {
                    lease.give_up();
                    return Err(DialError { why: Why::TunnelFailed, detail }.into());
                }
            }
        }
    }

    /// What is shown to a destination and believed of it.
    fn connector(
        &self,
        world: &World,
        protocol: &'static [u8],
        expected: &Arc<[SpiffeId]>,
    ) -> Result<WorkloadConnector, TlsError> {
        let mut kept = self.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != world.generation || kept.all.len() >= CONNECTORS {
            *kept = Connectors { generation: world.generation, all: HashMap::new() };
        }
        let key = (protocol, Arc::clone(expected));
        if let Some(connector) = kept.all.get(&key) {
            return Ok(connector.clone());
        }
        let protocols: &[&[u8]] = if protocol.is_empty() { &[] } else { &[protocol] };
        let connector = world.tls.connector(Arc::clone(expected), protocols)?;
        kept.all.insert(key, connector.clone());
        Ok(connector)
    }
}

/// Asks for a stream to an address, or to what a gateway leads to.
async fn ask(
    lease: &Lease,
    authority: &str,
) -> Result<(StatusCode, SendStream<Bytes>, http::Response<RecvStream>), String> {
    let asked = async {
        let (response, send) = begin(lease, authority).await?;
        let response = response.await.map_err(|error| error.to_string())?;
        Ok((response.status(), send, response))
    };
    let silent = |_| Err("the destination does not answer".to_owned());
    timeout(ANSWER, asked).await.unwrap_or_else(silent)
}

/// Begins to ask, and does not wait for the answer.
async fn begin(
    lease: &Lease,
    authority: &str,
) -> Result<(ResponseFuture, SendStream<Bytes>), String> {
    let uri = Uri::builder().authority(authority).build().map_err(|error| error.to_string())?;
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = uri;
    let sender = lease.sender().ready().await;
    let sent = sender.and_then(|mut sender| sender.send_request(request, false));
    sent.map_err(|error| error.to_string())
}

/// What it means that a CONNECT is answered with no.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Refused {
    let why = headers.get(WHY).and_then(|why| why.to_str().ok());
    let why = why.map_or_else(|| status.to_string(), |why| format!("{status}: {why}"));
    match status {
        // Nobody heard anything: another endpoint may be better.
        StatusCode::SERVICE_UNAVAILABLE => {
            DialError { why: Why::ApplicationUnreachable, detail: why }.into()
        }
        _ => Refused::Denied(Some(why)),
    }
}

/// Where a connection was going before it was led here.
fn original_destination(tcp: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(tcp);
    let original = match canonical(tcp.local_addr()?).is_ipv4() {
        true => socket.original_dst_v4()?,
        false => socket.original_dst_v6()?,
    };
    original.as_socket().map(canonical).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn protocol(wire: Wire) -> &'static [u8] {
    match wire {
        Wire::Hbone => ALPN_HBONE,
        Wire::Istio => ALPN_H2,
        Wire::Tls => b"",
    }
}
