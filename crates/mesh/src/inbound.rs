//! The destination's side: who calls is proven, what is called is decided, and only then the application hears of it.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderValue, Request, Response, StatusCode};
use nullius_intention::Protocol;
use nullius_model::{Reason as Decision, Timestamp};
use nullius_policy::ConnectionPermit;
use nullius_tls::{
    HANDSHAKE_TIMEOUT, Transport, WorkloadAcceptor, WorkloadError, WorkloadPeer, WorkloadStream,
    tcp::{prepare, reset_on_close},
};
use tokio::{net::TcpStream, time::timeout};

pub(crate) use crate::front::Front;
use crate::{
    Caller, Port, Wire, World,
    access_log::{Attempt, Direction, PLAIN, Why},
    authority,
    copy::{PlainCopy, StreamCopy},
    first_bytes::{First, SILENCE, look},
    front::Meets,
    judge::{Call, Judgement, Outcome, Refused, Stage},
    live::{Ended, Judge, at_most, while_allowed},
    places::{Limits, Origin, Place, Places},
    reach::reach,
    requests::Requests,
    shared::Shared,
    stream_io::StreamIo,
    tunnel::{self, ALPN_HBONE, ALPN_TLS},
    world::View,
};

/// The header of an answer that says why not, as a closed word.
pub(crate) const WHY: &str = "nullius-reason";

/// How long a peer may take to begin HTTP/2.
pub(crate) const PREFACE: Duration = Duration::from_secs(10);

/// The kubelet has asked and was answered within so long: what goes on is no probe.
const PROBE: Duration = Duration::from_secs(60);
/// Those who have proven nothing yet. Half of the places are for pods of the mesh, so that strangers keep none of them away.
const UNPROVEN: Limits = Limits { all: 1_024, each: 256, strangers: 512 };
/// All that are connected.
const CONNECTED: Limits = Limits { all: 4_096, each: 2_048, strangers: 3_072 };
/// Those who ask whether the pod lives: they take no place of anybody else.
const PROBES: Limits = Limits { all: 256, each: 256, strangers: 256 };

/// A side on which other workloads call this one.
pub(crate) struct Inbound {
    front: Front,
    shared: Arc<Shared>,
    unproven: Arc<Places>,
    connected: Arc<Places>,
    probes: Arc<Places>,
    acceptors: Mutex<Acceptors>,
}

/// What new handshakes show, by the protocols that are spoken; the same for all of one generation.
#[derive(Default)]
struct Acceptors {
    generation: u64,
    all: Vec<(Vec<&'static [u8]>, WorkloadAcceptor)>,
}

/// Who has connected, and where to.
#[derive(Clone, Copy)]
struct Met {
    client: SocketAddr,
    /// Where the workload was reached.
    at: SocketAddr,
}

/// The places of one who has connected.
struct Taken {
    /// Until it is known who it is; none for who need not prove it.
    unproven: Option<Place>,
    /// As long as it stays.
    connected: Place,
    /// How it goes on; nothing where nothing is known yet.
    meets: Option<Meets>,
}

/// A connection whose peer is proven.
struct Proven {
    peer: Arc<WorkloadPeer>,
    generation: u64,
    met: Met,
    wire: Wire,
}

impl Inbound {
    pub(crate) fn new(front: Front, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            front,
            shared,
            unproven: Places::new(UNPROVEN),
            connected: Places::new(CONNECTED),
            probes: Places::new(PROBES),
            acceptors: Mutex::default(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        self.front.name()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes a connection; who comes where too many are, or too many are not yet proven, is turned away.
    pub(crate) fn accepted(self: &Arc<Self>, tcp: TcpStream, client: SocketAddr) {
        match self.take(&tcp, client) {
            Some(taken) => self.shared.spawn(Arc::clone(self).connection(tcp, client, taken)),
            None => {
                reset_on_close(&tcp);
                self.attempt(client).failed(Why::Overloaded, None);
            }
        }
    }

    /// Places for somebody who has connected.
    fn take(&self, tcp: &TcpStream, client: SocketAddr) -> Option<Taken> {
        let address = client.ip();
        let world = self.shared.world();
        let from = match (&self.front, &world) {
            (Front::Pod(_), Some(world)) if world.directory.is_of_mesh(address) => Origin::Mesh,
            (Front::Pod(_), _) => Origin::Stranger,
            // It is told of nobody else.
            (Front::Listener(_), _) => Origin::Mesh,
        };
        let met = tcp.local_addr().ok().map(|at| Met { client, at: canonical(at) });
        let meets = world.zip(met).map(|(world, met)| self.meets(&world, met));
        if matches!(meets, Some(Meets::Probe | Meets::Nobody)) {
            let connected = self.probes.take(address, Origin::Stranger)?;
            return Some(Taken { unproven: None, connected, meets });
        }
        let unproven = Some(self.unproven.take(address, from)?);
        Some(Taken { unproven, connected: self.connected.take(address, from)?, meets })
    }

    fn attempt(&self, client: SocketAddr) -> Attempt {
        Attempt::begin(&self.shared.seen, Direction::Inbound, self.front.name(), client)
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, client: SocketAddr, taken: Taken) {
        let Taken { unproven: place, connected: _connected, meets } = taken;
        prepare(&tcp);
        let mut attempt = self.attempt(client);
        let at = match tcp.local_addr() {
            Ok(at) => canonical(at),
            Err(error) => return attempt.failed(Why::HandshakeFailed, Some(error.to_string())),
        };
        let (Some(world), Some(meets)) = (self.shared.world(), meets) else {
            reset_on_close(&tcp);
            attempt.address = Some(at);
            return attempt.denied(Why::STALE);
        };
        attempt.destination = Some(world.tls.id().clone());
        let met = Met { client, at };
        match meets {
            Meets::Proof => self.handshake(tcp, met, &world, attempt, place).await,
            Meets::Probe => {
                drop(place);
                self.probe(tcp, met, attempt).await;
            }
            Meets::Nobody => {
                attempt.wire = Some(PLAIN);
                attempt.address = Some(at);
                attempt.allowed(Why::Probe);
                attempt.ended(crate::End::Closed);
            }
            Meets::Refusal(why) => {
                reset_on_close(&tcp);
                attempt.address = Some(at);
                attempt.denied(why);
            }
            Meets::Either => match self.may_be_silent(met, &world) {
                MayBeSilent::No => self.either(tcp, met, HANDSHAKE_TIMEOUT, attempt, place).await,
                MayBeSilent::Yes => self.either(tcp, met, SILENCE, attempt, place).await,
            },
        }
    }

    /// How somebody goes on who has connected; whoever has the node's address and is not the node is like everybody.
    fn meets(&self, world: &World, met: Met) -> Meets {
        match self.front.meets(&world.here, met.client.ip(), met.at) {
            Meets::Probe => match self.shared.sockets.caller(met.client, met.at) {
                Caller::Root => Meets::Probe,
                Caller::Left => Meets::Nobody,
                Caller::Unknown => Meets::Either,
            },
            meets @ (Meets::Proof | Meets::Either | Meets::Nobody | Meets::Refusal(_)) => meets,
        }
    }

    /// Whether somebody who proves nothing may call and say nothing: then it cannot be waited long for what he would begin with.
    fn may_be_silent(&self, met: Met, world: &World) -> MayBeSilent {
        let Some(port) = self.front.port(&world.here, met.at, met.at) else {
            return MayBeSilent::No;
        };
        let call = met.unproven(port.protocol, world.generation);
        match call.judge(world, Stage::Begins, Timestamp::now()).outcome {
            Outcome::Allow(_) => MayBeSilent::Yes,
            Outcome::Deny(_) | Outcome::Requests(_) => MayBeSilent::No,
        }
    }

    /// Tells by the first bytes whether somebody wants to prove who he is.
    async fn either(
        self: Arc<Self>,
        tcp: TcpStream,
        met: Met,
        silence: Duration,
        mut attempt: Attempt,
        place: Option<Place>,
    ) {
        let is_ours = |name: &[u8]| name == ALPN_HBONE || name == ALPN_TLS;
        let first = match look(&tcp, silence).await {
            Ok(first) => first,
            Err(error) => return attempt.failed(Why::HandshakeFailed, Some(error.to_string())),
        };
        let world = self.shared.world();
        match (first, world) {
            (First::Hello(protocols), Some(world))
                if protocols.iter().any(|name| is_ours(name)) =>
            {
                self.handshake(tcp, met, &world, attempt, place).await;
            }
            (First::Unfinished, _) => {
                reset_on_close(&tcp);
                attempt.address = Some(met.at);
                attempt.failed(Why::HandshakeTimeout, None);
            }
            (First::Hello(_) | First::Other | First::Silence, Some(world)) => {
                drop(place);
                let Some(port) = self.front.port(&world.here, met.at, met.at) else {
                    reset_on_close(&tcp);
                    return attempt.denied(Why::WrongDestination);
                };
                attempt.wire = Some(PLAIN);
                let call = met.unproven(port.protocol, world.generation);
                self.bytes(tcp, call, port, met, attempt).await;
            }
            (_, None) => {
                reset_on_close(&tcp);
                attempt.denied(Why::STALE);
            }
        }
    }

    async fn handshake(
        self: Arc<Self>,
        tcp: TcpStream,
        met: Met,
        world: &World,
        mut attempt: Attempt,
        place: Option<Place>,
    ) {
        let acceptor = match self.acceptor(world, met.at) {
            Ok(acceptor) => acceptor,
            Err(error) => return attempt.failed(Why::HandshakeFailed, Some(error.to_string())),
        };
        let (stream, peer) = match acceptor.accept(tcp).await {
            Ok(accepted) => accepted,
            Err(error) => return attempt.failed(why(&error), Some(chain(&error))),
        };
        drop(place);
        attempt.source = Some(peer.id.clone());
        let Some(wire) = self.front.wire(met.at, stream.protocol()) else {
            return attempt.failed(Why::NoProtocol, None);
        };
        attempt.wire = Some(wire.as_str());
        let proven = Proven { peer: Arc::new(peer), generation: world.generation, met, wire };
        match wire {
            Wire::Hbone | Wire::Istio => {
                let handshake = timeout(PREFACE, tunnel::server().handshake(stream)).await;
                let connection = match handshake {
                    Ok(Ok(connection)) => connection,
                    Ok(Err(error)) => {
                        return attempt.failed(Why::TunnelFailed, Some(error.to_string()));
                    }
                    Err(_) => return attempt.failed(Why::HandshakeTimeout, None),
                };
                // From here on each CONNECT is an attempt of its own.
                attempt.forget();
                let (proven, shared) = (Arc::new(proven), Arc::clone(&self.shared));
                tunnel::serve(&shared, connection, proven.generation, |request, respond| {
                    let stream = Arc::clone(&self).stream(Arc::clone(&proven), request, respond);
                    shared.spawn(stream);
                })
                .await;
            }
            Wire::Tls => {
                let Some(port) = self.front.port(&world.here, met.at, met.at) else {
                    return attempt.denied(Why::WrongDestination);
                };
                let call = proven.call(met.at.port(), port.protocol);
                self.bytes(stream, call, port, met, attempt).await;
            }
        }
    }

    /// What a new handshake shows at an address.
    fn acceptor(
        &self,
        world: &World,
        at: SocketAddr,
    ) -> Result<WorkloadAcceptor, nullius_tls::TlsError> {
        let protocols = self.front.protocols(at);
        let mut kept = self.acceptors.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != world.generation {
            *kept = Acceptors { generation: world.generation, all: Vec::new() };
        }
        if let Some((_, acceptor)) = kept.all.iter().find(|(of, _)| *of == protocols) {
            return Ok(acceptor.clone());
        }
        let acceptor = world.tls.acceptor(&protocols)?;
        kept.all.push((protocols, acceptor.clone()));
        Ok(acceptor)
    }

    /// The kubelet asks whether the pod lives, for as long as it is the one to do so.
    async fn probe(&self, mut tcp: TcpStream, met: Met, mut attempt: Attempt) {
        let mut view = self.shared.view();
        attempt.wire = Some(PLAIN);
        attempt.address = Some(met.at);
        let mut local = match reach(&self.shared, met.client, met.at).await {
            Ok(local) => local,
            Err(error) => {
                reset_on_close(&tcp);
                return attempt.failed(Why::ApplicationUnreachable, Some(error.to_string()));
            }
        };
        attempt.allowed(Why::Probe);
        let again = |world: &World| match world.here.is_probe(met.client.ip(), met.at) {
            true => Ok(None),
            false => Err(Why::Probe),
        };
        let ended = {
            let moved = &attempt.moved;
            let (out, into) = (&moved.to_source, &moved.to_destination);
            let copy = PlainCopy::new(&mut local, &mut tcp, out, into);
            view.mark_changed();
            at_most(PROBE, Why::Probe, while_allowed(copy, &mut view, None, again)).await
        };
        if ended != Ended::Closed {
            reset_on_close(&tcp);
            reset_on_close(&local);
        }
        end(&mut attempt, ended);
    }

    /// One CONNECT.
    async fn stream(
        self: Arc<Self>,
        proven: Arc<Proven>,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let Met { client, at } = proven.met;
        let mut attempt = self.attempt(client);
        attempt.wire = Some(proven.wire.as_str());
        attempt.source = Some(proven.peer.id.clone());
        let mut view = self.shared.view();
        let Some(world) = view.borrow_and_update().clone() else {
            attempt.denied(Why::STALE);
            return answer(&mut respond, StatusCode::FORBIDDEN, Why::STALE);
        };
        attempt.destination = Some(world.tls.id().clone());
        let address = match authority::read(&request) {
            Ok(address) => address,
            Err(error) => {
                attempt.failed(Why::BadConnect, Some(error.to_string()));
                return answer(&mut respond, StatusCode::BAD_REQUEST, Why::BadConnect);
            }
        };
        attempt.address = Some(address);
        let Some(port) = self.front.port(&world.here, at, address) else {
            attempt.denied(Why::WrongDestination);
            return answer(&mut respond, StatusCode::FORBIDDEN, Why::WrongDestination);
        };
        let call = proven.call(address.port(), port.protocol);
        let Judgement { outcome, told } = call.judge(&world, Stage::Begins, Timestamp::now());
        attempt.told = told;
        let permit = match outcome {
            Outcome::Allow(permit) => permit,
            Outcome::Deny(refused) => {
                attempt.denied(refused.into());
                return answer(&mut respond, StatusCode::FORBIDDEN, refused.into());
            }
            Outcome::Requests(_) => {
                attempt.allowed(Why::Requests);
                let Ok(send) = respond.send_response(Response::new(()), false) else {
                    return attempt.ended(crate::End::MeshBroke);
                };
                let io = StreamIo::new(send, request.into_body());
                let template = attempt.template();
                let served = Requests::serve(Arc::clone(&self), io, call, client, port, template);
                let ended = served.await;
                return end(&mut attempt, ended);
            }
        };
        let mut local = match self.open(&permit, &call, client, port).await {
            Ok(local) => local,
            Err(error) => {
                attempt.failed(Why::ApplicationUnreachable, Some(error.to_string()));
                let why = Why::ApplicationUnreachable;
                return answer(&mut respond, StatusCode::SERVICE_UNAVAILABLE, why);
            }
        };
        attempt.allowed(reason(&attempt));
        let Ok(mut send) = respond.send_response(Response::new(()), false) else {
            reset_on_close(&local);
            return attempt.ended(crate::End::MeshBroke);
        };
        let mut recv = request.into_body();
        let ended = {
            let moved = &attempt.moved;
            let (out, into) = (&moved.to_source, &moved.to_destination);
            let copy = StreamCopy::new(&mut local, &mut send, &mut recv, out, into);
            call.while_allowed(copy, &mut view, &permit, world).await
        };
        if ended != Ended::Closed {
            send.send_reset(Reason::CANCEL);
            reset_on_close(&local);
        }
        end(&mut attempt, ended);
    }

    /// The application's bytes themselves, inside TLS or not.
    async fn bytes<S: Transport + Resets>(
        self: Arc<Self>,
        mut stream: S,
        call: Call,
        port: Port,
        met: Met,
        mut attempt: Attempt,
    ) {
        attempt.address = Some(met.at);
        let mut view = self.shared.view();
        let Some(world) = view.borrow_and_update().clone() else {
            stream.resets_on_close();
            return attempt.denied(Why::STALE);
        };
        let Judgement { outcome, told } = call.judge(&world, Stage::Begins, Timestamp::now());
        attempt.told = told;
        let permit = match outcome {
            Outcome::Allow(permit) => permit,
            Outcome::Deny(refused) => {
                stream.resets_on_close();
                return attempt.denied(refused.into());
            }
            Outcome::Requests(_) => {
                attempt.allowed(Why::Requests);
                let (inbound, template) = (Arc::clone(&self), attempt.template());
                let served = Requests::serve(inbound, stream, call, met.client, port, template);
                let ended = served.await;
                return end(&mut attempt, ended);
            }
        };
        let mut local = match self.open(&permit, &call, met.client, port).await {
            Ok(local) => local,
            Err(error) => {
                stream.resets_on_close();
                return attempt.failed(Why::ApplicationUnreachable, Some(error.to_string()));
            }
        };
        attempt.allowed(reason(&attempt));
        let ended = {
            let moved = &attempt.moved;
            let (out, into) = (&moved.to_source, &moved.to_destination);
            let copy = PlainCopy::new(&mut local, &mut stream, out, into);
            call.while_allowed(copy, &mut view, &permit, world).await
        };
        match ended {
            Ended::Closed => {}
            Ended::Broke(_) | Ended::Cut(_) | Ended::Shutdown => {
                stream.resets_on_close();
                reset_on_close(&local);
            }
        }
        end(&mut attempt, ended);
    }

    /// Reaches the application, for a call that is permitted.
    async fn open(
        &self,
        permit: &ConnectionPermit,
        call: &Call,
        client: SocketAddr,
        port: Port,
    ) -> io::Result<TcpStream> {
        if !call.is_permitted_by(permit) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the permit is for another call",
            ));
        }
        reach(&self.shared, client, port.forward).await
    }
}

/// Whether a client may wait for the server to begin.
enum MayBeSilent {
    Yes,
    No,
}

/// A connection that can end with a reset when it is dropped: what was cut off must not look like a whole.
trait Resets {
    fn resets_on_close(&self);
}

impl Resets for WorkloadStream {
    fn resets_on_close(&self) {
        self.reset_on_close();
    }
}

impl Resets for TcpStream {
    fn resets_on_close(&self) {
        reset_on_close(self);
    }
}

impl Met {
    /// A call of somebody who proves nothing.
    fn unproven(self, protocol: Protocol, generation: u64) -> Call {
        let (address, port) = (self.client.ip(), self.at.port());
        Call { peer: None, generation, address, port, protocol }
    }
}

impl Proven {
    fn call(&self, port: u16, protocol: Protocol) -> Call {
        let (peer, generation) = (Some(Arc::clone(&self.peer)), self.generation);
        Call { peer, generation, address: self.met.client.ip(), port, protocol }
    }
}

/// A call that lives, and by what it was judged last.
struct Living<'c> {
    call: &'c Call,
    by: Arc<World>,
}

impl Judge for Living<'_> {
    fn is_as_before(&mut self, world: &Arc<World>) -> bool {
        let is_as_before = self.by.decides_as(world, self.call.address);
        if is_as_before {
            // What is of before is let go.
            self.by = Arc::clone(world);
        }
        is_as_before
    }

    fn judge(&mut self, world: &Arc<World>) -> Result<Option<Timestamp>, Why> {
        self.by = Arc::clone(world);
        match self.call.judge(world, Stage::GoesOn, Timestamp::now()).outcome {
            Outcome::Allow(permit) => Ok(permit.ends_at()),
            Outcome::Deny(refused) => Err(refused.into()),
            // What has passed unread cannot be judged now.
            Outcome::Requests(_) => Err(Why::Requests),
        }
    }
}

impl Call {
    /// Runs a copy for as long as it is allowed.
    async fn while_allowed(
        &self,
        copy: impl Future<Output = Result<(), crate::copy::Broke>>,
        view: &mut View,
        permit: &ConnectionPermit,
        world: Arc<World>,
    ) -> Ended {
        let living = Living { call: self, by: world };
        while_allowed(copy, view, permit.ends_at(), living).await
    }
}

impl From<Refused> for Why {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Decided(reason) => Self::Decided(reason),
            Refused::MustProve => Self::MustProve,
            Refused::NoLongerProven => Self::NoLongerProven,
            Refused::SvidEnded => Self::SvidEnded,
        }
    }
}

/// Ends a CONNECT that comes to nothing.
pub(crate) fn answer(respond: &mut SendResponse<Bytes>, status: StatusCode, why: Why) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert(WHY, HeaderValue::from_static(why.as_str()));
    // Whoever asked may be gone.
    let _ = respond.send_response(response, true);
}

/// Why an attempt was allowed.
fn reason(attempt: &Attempt) -> Why {
    let told = attempt.told.as_ref();
    Why::Decided(told.map_or(Decision::IntentionMatched, |told| told.explanation.reason))
}

pub(crate) fn end(attempt: &mut Attempt, ended: Ended) {
    match ended.end() {
        Ok(end) => attempt.ended(end),
        Err(why) => attempt.cut(why),
    }
}

/// What a failed handshake is called.
pub(crate) fn why(error: &WorkloadError) -> Why {
    match error {
        WorkloadError::Timeout => Why::HandshakeTimeout,
        WorkloadError::Svid(_) => Why::SvidRefused,
        WorkloadError::Unexpected { .. } => Why::UnexpectedServer,
        WorkloadError::Protocol => Why::NoProtocol,
        WorkloadError::Handshake(_) => Why::HandshakeFailed,
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// An address without the mapping of IPv4 into IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
