//! A gateway: workloads of other clusters come in, and are led to Services that this cluster exports.
//!
//! Who comes in proves to be of a trust domain for which the gateway is, and names a Service in a CONNECT; no address is a name. What
//! passes is the caller's own mutual TLS with the destination: the gateway reads nothing of it, can be neither of the two, and decides
//! nothing but where it goes. Who may call is decided at the destination, by the caller's own identity.

mod endpoint;

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt as _;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Request, Response, StatusCode};
use nullius_model::Timestamp;
use nullius_tls::{
    TlsError, WorkloadAcceptor, WorkloadPeer,
    tcp::{prepare, reset_on_close},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::{
    Exported, Witness, World,
    access_log::{Attempt, Direction, Why},
    authority,
    copy::StreamCopy,
    first_bytes::{PIECE, WHILE},
    guests::{AtEndpoints, Guests, Seat},
    hello::{Beginning, HELLO_MAX},
    inbound::{PREFACE, answer, chain, end, why},
    live::{Ended, Judge, while_allowed},
    outbound::ANSWER,
    places::{Limits, Origin, Place, Places},
    reach::{go_out, random},
    route::{Calls, DIALS, OpenCall, choose},
    shared::{Shared, Side, adopt},
    sockets::OwnNetwork,
    tunnel::{self, ALPN_GATEWAY, ALPN_TLS, NARROW, WIDE},
};
use endpoint::{Endpoint, Waits};

/// What a gateway is made of, where what decides does not come from files.
#[derive(Debug)]
pub struct GatewayParts {
    /// What the access log calls it.
    pub name: Arc<str>,
    /// What decides; as long as that is nothing, nobody comes in.
    pub world: watch::Receiver<Option<Arc<World>>>,
    /// Where workloads of other clusters come in.
    pub listener: std::net::TcpListener,
    /// What is seen of its calls.
    pub seen: Arc<Witness>,
}

/// A gateway that serves until it is stopped; when this is dropped, everything is cut at once.
pub struct Serving {
    shared: Arc<Shared>,
}

impl Serving {
    /// Serves it, on the runtime that this is called on.
    pub fn start(parts: GatewayParts) -> io::Result<Self> {
        let GatewayParts { name, world, listener, seen } = parts;
        let shared = Shared::new(world, seen, Arc::new(OwnNetwork));
        let gateway = Gateway::new(name, Arc::clone(&shared));
        let listener = adopt(listener)?;
        shared.spawn(Arc::clone(&shared).serve(listener, Side::Gateway(gateway)));
        Ok(Self { shared })
    }

    /// Takes nothing new, gives what is open 20 seconds, and ends.
    pub async fn stop(self) {
        self.shared.drain().await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.kill.cancel();
    }
}

/// The word for how it looks on the wire, and its name in a proxy that has its settings in a file.
pub(crate) const GATEWAY: &str = "gateway";
/// Those who have proven nothing yet: nobody says of an address whose it is, and a whole cluster may have one.
const UNPROVEN: Limits = Limits { all: 1_024, each: 64, strangers: 1_024 };
/// Connections of guests.
const CONNECTED: usize = 4_096;
/// Of those, which have room for much that waits.
const WIDE_ONES: usize = 256;
/// Calls that are open at once.
const STREAMS: usize = 16_384;
/// Calls that an endpoint has from here whose guests have not answered it yet: one of the mesh lets one address have as many who have
/// proven nothing, and it sees the gateway's.
const WAITING: usize = 256;
/// Those of one connection; others have their turn when these have answered.
const TURNS: usize = 32;
/// How long a call waits for its turn.
const TURN: Duration = Duration::from_secs(2);
/// How long a guest may take to say its client hello, which goes with its CONNECT.
const HELLO: Duration = Duration::from_secs(5);
/// How long an endpoint may take to accept: all that are tried together, and the turn before, less than a caller waits for an answer,
/// since it gives up the tunnel of all its calls then.
const CONNECT: Duration = Duration::from_millis(2_500);
const _: () =
    assert!(TURN.as_millis() + CONNECT.as_millis() * (DIALS as u128) < ANSWER.as_millis());
const NO_HELLO: &str =
    "what came first is no client hello that asks for `nullius` and nothing else";

/// A side on which workloads of other clusters come in.
pub(crate) struct Gateway {
    name: Arc<str>,
    shared: Arc<Shared>,
    unproven: Arc<Places>,
    connected: Arc<Guests>,
    wide: Arc<Guests>,
    streams: Arc<Guests>,
    waiting: AtEndpoints,
    acceptor: Mutex<Option<(u64, WorkloadAcceptor)>>,
    calls: Arc<Calls>,
}

/// Who has come in, and by which generation of bundles that was proven.
struct Guest {
    peer: WorkloadPeer,
    generation: u64,
    client: SocketAddr,
    /// For its calls that it has not answered yet.
    turns: Arc<Semaphore>,
}

/// A call that lives, and by what it was judged last.
struct Living<'c> {
    guest: &'c Guest,
    exported: &'c Exported,
    /// None before the first look, which judges.
    by: Option<Arc<World>>,
}

impl Living<'_> {
    /// Whether two worlds say the same about it.
    fn is_same(&self, one: &World, other: &World) -> bool {
        let says = |world: &World| {
            let is_partner = world.exports.is_partner(self.guest.peer.id.trust_domain());
            (is_partner, world.exports.endpoints(self.exported).is_some())
        };
        one.generation == other.generation
            && Arc::ptr_eq(&one.tls, &other.tls)
            && (Arc::ptr_eq(&one.exports, &other.exports) || says(one) == says(other))
    }
}

impl Judge for Living<'_> {
    fn is_as_before(&mut self, world: &Arc<World>) -> bool {
        let is_as_before = self.by.as_ref().is_some_and(|by| self.is_same(by, world));
        if is_as_before {
            // What is of before is let go.
            self.by = Some(Arc::clone(world));
        }
        is_as_before
    }

    fn judge(&mut self, world: &Arc<World>) -> Result<Option<Timestamp>, Why> {
        self.by = Some(Arc::clone(world));
        self.guest.may_go_on(self.exported, world).map(|()| None)
    }
}

/// A call that is led on.
struct Led {
    local: Endpoint,
    _call: OpenCall,
}

impl Guest {
    /// Whether it may be here: its SVID may end while a call lives, and nothing new begins with it.
    fn may_be_here(&self, world: &World) -> Result<(), Why> {
        if self.generation != world.generation && world.tls.still_proves(&self.peer).is_err() {
            return Err(Why::NoLongerProven);
        }
        match world.exports.is_partner(self.peer.id.trust_domain()) {
            true => Ok(()),
            false => Err(Why::NotFederated),
        }
    }

    /// Whether a call may begin.
    fn may_begin(&self, world: &World, now: Timestamp) -> Result<(), Why> {
        if now >= self.peer.not_after {
            return Err(Why::SvidEnded);
        }
        self.may_be_here(world)
    }

    /// Whether a call may go on. An endpoint may have left the Service meanwhile: it ends in peace.
    fn may_go_on(&self, exported: &Exported, world: &World) -> Result<(), Why> {
        self.may_be_here(world)?;
        match world.exports.endpoints(exported) {
            Some(_) => Ok(()),
            None => Err(Why::NotExported),
        }
    }
}

impl Gateway {
    pub(crate) fn new(name: Arc<str>, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            name,
            shared,
            unproven: Places::new(UNPROVEN),
            connected: Guests::new(CONNECTED),
            wide: Guests::new(WIDE_ONES),
            streams: Guests::new(STREAMS),
            waiting: AtEndpoints::default(),
            acceptor: Mutex::default(),
            calls: Arc::default(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Takes a connection; who comes where too many are, or too many are not yet proven, is turned away.
    pub(crate) fn accepted(self: &Arc<Self>, tcp: TcpStream, client: SocketAddr) {
        match self.unproven.take(network(client.ip()), Origin::Stranger) {
            Some(unproven) => {
                self.shared.spawn(Arc::clone(self).connection(tcp, client, unproven));
            }
            None => {
                reset_on_close(&tcp);
                self.attempt(client).failed(Why::Overloaded, None);
            }
        }
    }

    fn attempt(&self, client: SocketAddr) -> Attempt {
        let mut attempt = Attempt::begin(&self.shared.seen, Direction::Inbound, &self.name, client);
        attempt.wire = Some(GATEWAY);
        attempt
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, client: SocketAddr, unproven: Place) {
        prepare(&tcp);
        let mut attempt = self.attempt(client);
        let Some(world) = self.shared.world() else {
            reset_on_close(&tcp);
            return attempt.denied(Why::STALE);
        };
        attempt.destination = Some(world.tls.id().clone());
        let acceptor = match self.acceptor(&world) {
            Ok(acceptor) => acceptor,
            Err(error) => return attempt.failed(Why::HandshakeFailed, Some(error.to_string())),
        };
        let (stream, peer) = match acceptor.accept(tcp).await {
            Ok(accepted) => accepted,
            Err(error) => return attempt.failed(why(&error), Some(chain(&error))),
        };
        attempt.source = Some(peer.id.clone());
        if stream.protocol() != Some(ALPN_GATEWAY) {
            stream.reset_on_close();
            return attempt.failed(Why::NoProtocol, None);
        }
        let turns = Arc::new(Semaphore::new(TURNS));
        let guest = Guest { peer, generation: world.generation, client, turns };
        if let Err(why) = guest.may_be_here(&world) {
            stream.reset_on_close();
            return attempt.denied(why);
        }
        let Some(_connected) = self.connected.take(&guest.peer.id) else {
            stream.reset_on_close();
            return attempt.failed(Why::Overloaded, None);
        };
        let wide = self.wide.take(&guest.peer.id);
        let server = tunnel::gateway(if wide.is_some() { WIDE } else { NARROW });
        let connection = match timeout(PREFACE, server.handshake(stream)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return attempt.failed(Why::TunnelFailed, Some(error.to_string())),
            Err(_) => return attempt.failed(Why::HandshakeTimeout, None),
        };
        // From here on each CONNECT is an attempt of its own.
        attempt.forget();
        drop(unproven);
        let (guest, shared) = (Arc::new(guest), Arc::clone(&self.shared));
        tunnel::serve(&shared, connection, guest.generation, |request, mut respond| {
            match self.streams.take(&guest.peer.id) {
                Some(seat) => {
                    let (gateway, guest) = (Arc::clone(&self), Arc::clone(&guest));
                    shared.spawn(gateway.stream(guest, request, respond, seat));
                }
                None => {
                    let mut attempt = self.attempt(client);
                    attempt.source = Some(guest.peer.id.clone());
                    attempt.failed(Why::Overloaded, None);
                    answer(&mut respond, StatusCode::SERVICE_UNAVAILABLE, Why::Overloaded);
                }
            }
        })
        .await;
    }

    /// What new handshakes show; the same for all of one generation.
    fn acceptor(&self, world: &World) -> Result<WorkloadAcceptor, TlsError> {
        let mut kept = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((generation, acceptor)) = &*kept
            && *generation == world.generation
        {
            return Ok(acceptor.clone());
        }
        let acceptor = world.tls.acceptor(&[ALPN_GATEWAY])?;
        *kept = Some((world.generation, acceptor.clone()));
        Ok(acceptor)
    }

    /// One CONNECT.
    async fn stream(
        self: Arc<Self>,
        guest: Arc<Guest>,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        _seat: Seat,
    ) {
        let mut attempt = self.attempt(guest.client);
        attempt.source = Some(guest.peer.id.clone());
        let mut view = self.shared.view();
        let Some(world) = view.borrow_and_update().clone() else {
            attempt.denied(Why::STALE);
            return answer(&mut respond, StatusCode::FORBIDDEN, Why::STALE);
        };
        attempt.destination = Some(world.tls.id().clone());
        let exported = match authority::read_exported(&request) {
            Ok(exported) => exported,
            Err(error) => {
                attempt.failed(Why::BadConnect, Some(error.to_string()));
                return answer(&mut respond, StatusCode::BAD_REQUEST, Why::BadConnect);
            }
        };
        if let Err(why) = guest.may_begin(&world, Timestamp::now()) {
            attempt.denied(why);
            return answer(&mut respond, StatusCode::FORBIDDEN, why);
        }
        let Some(endpoints) = world.exports.endpoints(&exported) else {
            // A name that nobody exports is text of a stranger: it names no Service.
            attempt.say(Some(exported.to_string()));
            attempt.denied(Why::NotExported);
            return answer(&mut respond, StatusCode::FORBIDDEN, Why::NotExported);
        };
        attempt.service = Some(exported.to_string().into());
        let mut recv = request.into_body();
        // Whoever may be behind hears nothing before it is sure that the guest proves itself.
        let heard = timeout(HELLO, hello(&mut recv)).await;
        let hello = match heard.unwrap_or(Err(Why::HandshakeTimeout)) {
            Ok(hello) => hello,
            Err(why) => {
                if why == Why::MustProve {
                    attempt.say(Some(NO_HELLO.to_owned()));
                    attempt.denied(why);
                } else {
                    attempt.failed(why, None);
                }
                return answer(&mut respond, StatusCode::BAD_REQUEST, why);
            }
        };
        let led = tokio::select! {
            led = self.reach(&guest, endpoints, &hello, &mut attempt) => led,
            // Nobody waits for it any more.
            _ = poll_fn(|cx| respond.poll_reset(cx)) => {
                return attempt.failed(Why::TunnelFailed, None);
            }
        };
        let Led { mut local, _call } = match led {
            Ok(led) => led,
            Err((why, detail)) => {
                attempt.failed(why, detail);
                return answer(&mut respond, StatusCode::SERVICE_UNAVAILABLE, why);
            }
        };
        let _ = recv.flow_control().release_capacity(hello.len());
        attempt.moved.to_destination.fetch_add(hello.len() as u64, Ordering::Relaxed);
        attempt.allowed(Why::Exported);
        let Ok(mut send) = respond.send_response(Response::new(()), false) else {
            local.reset_on_close();
            return attempt.ended(crate::End::MeshBroke);
        };
        let ended = {
            let moved = &attempt.moved;
            let (out, into) = (&moved.to_source, &moved.to_destination);
            let copy = StreamCopy::new(&mut local, &mut send, &mut recv, out, into);
            let living = Living { guest: &guest, exported: &exported, by: None };
            while_allowed(copy, &mut view, None, living).await
        };
        if ended != Ended::Closed {
            send.send_reset(Reason::CANCEL);
            local.reset_on_close();
        }
        end(&mut attempt, ended);
    }

    /// Reaches one of the endpoints, the less busy of two and another one where nobody answers, and says to it what a guest has begun with.
    async fn reach(
        &self,
        guest: &Guest,
        endpoints: &[SocketAddr],
        hello: &[u8],
        attempt: &mut Attempt,
    ) -> Result<Led, (Why, Option<String>)> {
        let turn = timeout(TURN, Arc::clone(&guest.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err((Why::Overloaded, None)) };
        let mut tried = Vec::new();
        let mut failed = (Why::NoEndpoint, None);
        while tried.len() < DIALS {
            let random = |below| usize::try_from(random()).unwrap_or_default() % below;
            let Some(at) = choose(endpoints, &tried, |at| self.calls.count(at), random) else {
                break;
            };
            tried.push(at);
            attempt.address = Some(at);
            let Some(seat) = self.waiting.take(at, WAITING, &guest.peer.id) else {
                failed = (Why::Overloaded, None);
                continue;
            };
            let call = self.calls.begin(at);
            match self.dial(at, hello).await {
                Ok(tcp) => {
                    let local = Endpoint::new(tcp, Waits { _turn: turn, _seat: seat });
                    return Ok(Led { local, _call: call });
                }
                Err(error) => failed = (Why::Unreachable, Some(error.to_string())),
            }
        }
        Err(failed)
    }

    async fn dial(&self, at: SocketAddr, hello: &[u8]) -> io::Result<TcpStream> {
        let dialled = async {
            let mut local = go_out(&*self.shared.sockets, at, None, CONNECT).await?;
            local.write_all(hello).await?;
            Ok(local)
        };
        timeout(CONNECT, dialled).await?
    }
}

/// Whose an address is, as far as that can be told: of IPv6 one machine has as many as there are in a /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
    }
}

/// The client hello of mutual TLS with a destination, which is all that a guest may begin with: whatever else it sends would be heard as
/// the gateway's own. It counts against the guest's window until an endpoint has it.
async fn hello(recv: &mut RecvStream) -> Result<Vec<u8>, Why> {
    let (mut read, mut seen) = (Vec::new(), 0);
    loop {
        match Beginning::of(&read) {
            Beginning::Hello(protocols) if matches!(&*protocols, [one] if **one == *ALPN_TLS) => {
                return Ok(read);
            }
            Beginning::Hello(_) | Beginning::Other => return Err(Why::MustProve),
            Beginning::More => {}
        }
        // Each look reads all from the beginning.
        if seen > 0 && read.len() < seen + PIECE {
            tokio::time::sleep(WHILE).await;
        }
        seen = read.len();
        let mut next = Some(recv.data().await);
        while let Some(piece) = next {
            let piece = piece.ok_or(Why::MustProve)?.map_err(|_| Why::TunnelFailed)?;
            read.extend_from_slice(&piece);
            next = if read.len() < HELLO_MAX { recv.data().now_or_never() } else { None };
        }
    }
}

#[cfg(test)]
mod tests;
