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
    WorkloadAcceptor, WorkloadError, WorkloadPeer, WorkloadStream,
    tcp::{prepare, reset_on_close},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    Listener, Port, Ports, Wire,
    access_log::{Attempt, Direction, Why},
    authority,
    copy::{PlainCopy, StreamCopy},
    judge::{Call, Judgement, Outcome, Refused, Stage},
    live::{Ended, while_allowed},
    proxy::Shared,
    requests::Requests,
    stream_io::StreamIo,
    tunnel::{self, ALPN_H2, ALPN_HBONE, ALPN_HTTP1, IDLE},
    world::{View, World},
};

/// The header of an answer that says why not, as a closed word.
pub(crate) const WHY: &str = "nullius-reason";

/// Handshakes of one listener at the same time; whoever comes then is turned away at once.
const HANDSHAKES: usize = 1_024;
/// How long the application may take to accept.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a peer may take to begin HTTP/2.
const PREFACE: Duration = Duration::from_secs(10);
/// How long it is waited after the system refused to accept.
const BREATHER: Duration = Duration::from_millis(50);

/// A listener for other workloads.
pub(crate) struct Inbound {
    listener: Listener,
    shared: Arc<Shared>,
    handshakes: Arc<Semaphore>,
    acceptor: Mutex<Option<(u64, WorkloadAcceptor)>>,
}

/// A connection whose peer is proven.
struct Proven {
    peer: Arc<WorkloadPeer>,
    generation: u64,
    client: SocketAddr,
    /// Where it was reached.
    local: SocketAddr,
    wire: Wire,
}

impl Inbound {
    pub(crate) fn new(listener: Listener, shared: Arc<Shared>) -> Arc<Self> {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        Arc::new(Self { listener, shared, handshakes, acceptor: Mutex::new(None) })
    }

    /// Accepts until the proxy ends.
    pub(crate) async fn serve(self: Arc<Self>, socket: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.shared.stop.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            let (tcp, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(listener = &*self.listener.name, %error, "cannot accept");
                    tokio::time::sleep(BREATHER).await;
                    continue;
                }
            };
            let client = canonical(client);
            match Arc::clone(&self.handshakes).try_acquire_owned() {
                Ok(place) => {
                    let inbound = Arc::clone(&self);
                    self.shared.spawn(inbound.connection(tcp, client, place));
                }
                Err(_) => {
                    reset_on_close(&tcp);
                    self.attempt(client).failed(Why::Overloaded, None);
                }
            }
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn attempt(&self, client: SocketAddr) -> Attempt {
        let log = &self.shared.log;
        Attempt::begin(log, Direction::Inbound, &self.listener.name, client)
    }

    async fn connection(
        self: Arc<Self>,
        tcp: TcpStream,
        client: SocketAddr,
        place: OwnedSemaphorePermit,
    ) {
        prepare(&tcp);
        let mut attempt = self.attempt(client);
        let world = Arc::clone(&self.shared.view().borrow());
        attempt.destination = Some(world.tls.id().clone());
        let (acceptor, local) = match (self.acceptor(&world), tcp.local_addr()) {
            (Ok(acceptor), Ok(local)) => (acceptor, canonical(local)),
            (Err(error), _) => {
                return attempt.failed(Why::HandshakeFailed, Some(error.to_string()));
            }
            (_, Err(error)) => {
                return attempt.failed(Why::HandshakeFailed, Some(error.to_string()));
            }
        };
        let (stream, peer) = match acceptor.accept(tcp).await {
            Ok(accepted) => accepted,
            Err(error) => {
                attempt.failed(why(&error), Some(chain(&error)));
                return;
            }
        };
        drop(place);
        attempt.source = Some(peer.id.clone());
        let Some(wire) = self.wire(stream.protocol()) else {
            return attempt.failed(Why::NoProtocol, None);
        };
        attempt.wire = Some(wire);
        let peer = Arc::new(peer);
        let proven = Proven { peer, generation: world.generation, client, local, wire };
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
                self.tunnel(connection, Arc::new(proven)).await;
            }
            Wire::Tls => Arc::clone(&self).plain(stream, &proven, attempt).await,
        }
    }

    /// What a new handshake shows; the same for all of one generation.
    fn acceptor(&self, world: &World) -> Result<WorkloadAcceptor, nullius_tls::TlsError> {
        let mut kept = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((generation, acceptor)) = &*kept
            && *generation == world.generation
        {
            return Ok(acceptor.clone());
        }
        let mut protocols: Vec<&[u8]> = Vec::new();
        for wire in &self.listener.wires {
            match (wire, &self.listener.ports) {
                (Wire::Hbone, _) => protocols.push(ALPN_HBONE),
                (Wire::Istio, _) => protocols.push(ALPN_H2),
                (Wire::Tls, Ports::Own(Port { protocol: Protocol::Http, .. })) => {
                    protocols.extend([ALPN_H2, ALPN_HTTP1]);
                }
                (Wire::Tls, Ports::Own(_) | Ports::Named(_)) => {}
            }
        }
        let acceptor = world.tls.acceptor(&protocols)?;
        *kept = Some((world.generation, acceptor.clone()));
        Ok(acceptor)
    }

    /// Which wire a protocol stands for; none where it is not spoken here.
    fn wire(&self, alpn: Option<&[u8]>) -> Option<Wire> {
        let wire = match alpn {
            Some(ALPN_HBONE) => Wire::Hbone,
            Some(ALPN_H2) if self.listener.wires.contains(&Wire::Istio) => Wire::Istio,
            Some(_) | None => Wire::Tls,
        };
        self.listener.wires.contains(&wire).then_some(wire)
    }

    /// Serves a tunnel until its peer goes, nobody uses it, or the identity is another: then it takes nothing new, and what is
    /// open goes on.
    async fn tunnel<IO>(
        self: Arc<Self>,
        mut connection: h2::server::Connection<IO, Bytes>,
        proven: Arc<Proven>,
    ) where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let mut view = self.shared.view();
        let mut tick = tokio::time::interval(IDLE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.tick().await;
        let (mut is_leaving, mut is_used) = (false, true);
        let retired = async {
            let is_other = |world: &Arc<World>| world.generation != proven.generation;
            tokio::select! {
                _ = view.wait_for(is_other) => {}
                () = self.shared.stop.cancelled() => {}
            }
        };
        tokio::pin!(retired);
        loop {
            tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        is_used = true;
                        let stream = Arc::clone(&self).stream(Arc::clone(&proven), request, respond);
                        self.shared.spawn(stream);
                    }
                    Some(Err(_)) | None => return,
                },
                () = &mut retired, if !is_leaving => {
                    connection.graceful_shutdown();
                    is_leaving = true;
                }
                _ = tick.tick(), if !is_leaving => {
                    if !is_used && !connection.has_streams() {
                        connection.graceful_shutdown();
                        is_leaving = true;
                    }
                    is_used = false;
                }
            }
        }
    }

    /// One CONNECT.
    async fn stream(
        self: Arc<Self>,
        proven: Arc<Proven>,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let mut attempt = self.attempt(proven.client);
        attempt.wire = Some(proven.wire);
        attempt.source = Some(proven.peer.id.clone());
        let mut view = self.shared.view();
        let world = Arc::clone(&view.borrow_and_update());
        attempt.destination = Some(world.tls.id().clone());
        let address = match authority::read(&request) {
            Ok(address) => address,
            Err(error) => {
                attempt.failed(Why::BadConnect, Some(error.to_string()));
                return answer(&mut respond, StatusCode::BAD_REQUEST, Why::BadConnect);
            }
        };
        attempt.address = Some(address);
        let Some(port) = self.port(&proven, address) else {
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
                let ended = Requests::serve(Arc::clone(&self), io, call, port, template).await;
                return end(&mut attempt, ended);
            }
        };
        let mut local = match open(&permit, &call, port).await {
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
            call.while_allowed(copy, &mut view, &permit).await
        };
        if ended != Ended::Closed {
            send.send_reset(Reason::CANCEL);
            reset_on_close(&local);
        }
        end(&mut attempt, ended);
    }

    /// The application's bytes themselves.
    async fn plain(
        self: Arc<Self>,
        mut stream: WorkloadStream,
        proven: &Proven,
        mut attempt: Attempt,
    ) {
        let Some(port) = self.port(proven, proven.local) else {
            return attempt.denied(Why::WrongDestination);
        };
        attempt.address = Some(proven.local);
        let mut view = self.shared.view();
        let world = Arc::clone(&view.borrow_and_update());
        let call = proven.call(proven.local.port(), port.protocol);
        let Judgement { outcome, told } = call.judge(&world, Stage::Begins, Timestamp::now());
        attempt.told = told;
        let permit = match outcome {
            Outcome::Allow(permit) => permit,
            Outcome::Deny(refused) => {
                stream.reset_on_close();
                return attempt.denied(refused.into());
            }
            Outcome::Requests(_) => {
                attempt.allowed(Why::Requests);
                let template = attempt.template();
                let ended = Requests::serve(Arc::clone(&self), stream, call, port, template).await;
                return end(&mut attempt, ended);
            }
        };
        let mut local = match open(&permit, &call, port).await {
            Ok(local) => local,
            Err(error) => {
                stream.reset_on_close();
                return attempt.failed(Why::ApplicationUnreachable, Some(error.to_string()));
            }
        };
        attempt.allowed(reason(&attempt));
        let ended = {
            let moved = &attempt.moved;
            let (out, into) = (&moved.to_source, &moved.to_destination);
            let copy = PlainCopy::new(&mut local, &mut stream, out, into);
            call.while_allowed(copy, &mut view, &permit).await
        };
        match ended {
            Ended::Closed => {}
            Ended::Broke(_) | Ended::Cut(_) | Ended::Shutdown => {
                stream.reset_on_close();
                reset_on_close(&local);
            }
        }
        end(&mut attempt, ended);
    }

    /// The port of the workload that an address is for; none where it is not this workload's.
    fn port(&self, proven: &Proven, address: SocketAddr) -> Option<&Port> {
        if address.ip() != proven.local.ip() {
            return None;
        }
        match &self.listener.ports {
            Ports::Own(port) => (address.port() == proven.local.port()).then_some(port),
            Ports::Named(ports) => ports.get(&address.port()),
        }
    }
}

impl Proven {
    fn call(&self, port: u16, protocol: Protocol) -> Call {
        let (peer, generation) = (Arc::clone(&self.peer), self.generation);
        Call { peer, generation, address: self.client.ip(), port, protocol }
    }
}

impl Call {
    /// Runs a copy for as long as it is allowed.
    async fn while_allowed(
        &self,
        copy: impl Future<Output = Result<(), crate::copy::Broke>>,
        view: &mut View,
        permit: &ConnectionPermit,
    ) -> Ended {
        let again = |world: &World| {
            match self.judge(world, Stage::GoesOn, Timestamp::now()).outcome {
                Outcome::Allow(permit) => Ok(permit.ends_at()),
                Outcome::Deny(refused) => Err(refused.into()),
                // What has passed unread cannot be judged now.
                Outcome::Requests(_) => Err(Why::Requests),
            }
        };
        while_allowed(copy, view, permit.ends_at(), again).await
    }
}

impl From<Refused> for Why {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Decided(reason) => Self::Decided(reason),
            Refused::NoLongerProven => Self::NoLongerProven,
            Refused::SvidEnded => Self::SvidEnded,
        }
    }
}

/// Reaches the application, for a call that is permitted.
async fn open(permit: &ConnectionPermit, call: &Call, port: &Port) -> io::Result<TcpStream> {
    if !call.is_permitted_by(permit) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the permit is for another call",
        ));
    }
    let local = timeout(CONNECT, TcpStream::connect(port.forward)).await??;
    prepare(&local);
    Ok(local)
}

/// Ends a CONNECT that comes to nothing.
fn answer(respond: &mut SendResponse<Bytes>, status: StatusCode, why: Why) {
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
