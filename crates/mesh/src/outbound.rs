//! The source's side: what an application of this workload sends to a local address goes to one destination, once that has proven
//! to be who is expected there.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, StatusCode, Uri};
use nullius_model::{Reason as Decision, Timestamp};
use nullius_tls::{
    TlsError, WorkloadConnector, WorkloadPeer,
    tcp::{prepare, reset_on_close},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    Upstream, Wire,
    access_log::{Attempt, Direction, Why},
    copy::{PlainCopy, StreamCopy},
    inbound::{WHY, canonical, end},
    live::{Ended, while_allowed},
    pool::{self, DialError, Key, Lease},
    proxy::Shared,
    tunnel::{ALPN_H2, ALPN_HBONE},
    world::{View, World},
};

/// How long a destination may take to answer a CONNECT: it reaches its application meanwhile.
const ANSWER: Duration = Duration::from_secs(10);
/// How long it is waited after the system refused to accept.
const BREATHER: Duration = Duration::from_millis(50);

/// A local address that leads to one destination.
pub(crate) struct Outbound {
    upstream: Upstream,
    shared: Arc<Shared>,
    connector: Mutex<Option<(u64, WorkloadConnector)>>,
}

/// An open stream in a tunnel.
struct Opened {
    send: SendStream<Bytes>,
    recv: RecvStream,
    lease: Lease,
}

/// Why there is none.
enum Refused {
    /// The destination said no.
    Denied(Option<String>),
    Failed(DialError),
}

impl From<DialError> for Refused {
    fn from(error: DialError) -> Self {
        Self::Failed(error)
    }
}

impl Outbound {
    pub(crate) fn new(upstream: Upstream, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { upstream, shared, connector: Mutex::new(None) })
    }

    /// Accepts until the proxy ends.
    pub(crate) async fn serve(self: Arc<Self>, socket: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.shared.stop.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((local, client)) => {
                    self.shared.spawn(Arc::clone(&self).connection(local, canonical(client)));
                }
                Err(error) => {
                    tracing::warn!(upstream = &*self.upstream.name, %error, "cannot accept");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, local: TcpStream, client: SocketAddr) {
        prepare(&local);
        let upstream = &self.upstream;
        let log = &self.shared.log;
        let mut attempt = Attempt::begin(log, Direction::Outbound, &upstream.name, client);
        let mut view = self.shared.view();
        let world = Arc::clone(&view.borrow_and_update());
        attempt.wire = Some(upstream.wire);
        attempt.source = Some(world.tls.id().clone());
        attempt.address = Some(upstream.destination);
        let connector = match self.connector(&world) {
            Ok(connector) => connector,
            Err(error) => {
                reset_on_close(&local);
                return attempt.failed(Why::HandshakeFailed, Some(error.to_string()));
            }
        };
        match upstream.wire {
            Wire::Tls => self.plain(local, attempt, &mut view, &world, &connector).await,
            Wire::Hbone | Wire::Istio => {
                self.stream(local, attempt, &mut view, &world, &connector).await;
            }
        }
    }

    async fn stream(
        &self,
        mut local: TcpStream,
        mut attempt: Attempt,
        view: &mut View,
        world: &World,
        connector: &WorkloadConnector,
    ) {
        let Opened { mut send, mut recv, lease } = match self.open(world, connector).await {
            Ok(opened) => opened,
            Err(refused) => {
                reset_on_close(&local);
                match refused {
                    Refused::Denied(why) => {
                        attempt.denied(Why::RefusedByDestination);
                        attempt.say(why);
                    }
                    Refused::Failed(DialError { why, detail }) => attempt.failed(why, Some(detail)),
                }
                return;
            }
        };
        attempt.destination = Some(lease.peer().id.clone());
        attempt.allowed(Why::Decided(Decision::IntentionMatched));
        let ended = {
            let moved = &attempt.moved;
            let (out, into) = (&moved.to_destination, &moved.to_source);
            let copy = StreamCopy::new(&mut local, &mut send, &mut recv, out, into);
            let again = |world: &World| still(lease.peer(), lease.generation(), world);
            while_allowed(copy, view, None, again).await
        };
        if ended != Ended::Closed {
            send.send_reset(Reason::CANCEL);
            reset_on_close(&local);
        }
        end(&mut attempt, ended);
    }

    async fn plain(
        &self,
        mut local: TcpStream,
        mut attempt: Attempt,
        view: &mut View,
        world: &World,
        connector: &WorkloadConnector,
    ) {
        let Upstream { dial, source, .. } = &self.upstream;
        let (mut stream, peer) = match pool::dial(*dial, *source, connector).await {
            Ok(dialled) => dialled,
            Err(DialError { why, detail }) => {
                reset_on_close(&local);
                return attempt.failed(why, Some(detail));
            }
        };
        attempt.destination = Some(peer.id.clone());
        attempt.allowed(Why::Decided(Decision::IntentionMatched));
        let ended = {
            let moved = &attempt.moved;
            let (out, into) = (&moved.to_destination, &moved.to_source);
            let copy = PlainCopy::new(&mut local, &mut stream, out, into);
            let again = |now: &World| still(&peer, world.generation, now);
            while_allowed(copy, view, None, again).await
        };
        if ended != Ended::Closed {
            stream.reset_on_close();
            reset_on_close(&local);
        }
        end(&mut attempt, ended);
    }

    /// A stream for one connection. A tunnel that broke while nobody used it is dialled anew, once: nothing was sent in it.
    async fn open(&self, world: &World, connector: &WorkloadConnector) -> Result<Opened, Refused> {
        let upstream = &self.upstream;
        let key = Key {
            source: world.tls.id().clone(),
            expected: Arc::clone(&upstream.expect),
            to: upstream.dial,
            from: upstream.source,
            protocol: protocol(upstream.wire),
        };
        let spawn = |task: BoxFuture<'static, ()>| self.shared.spawn(task);
        loop {
            let pool = &self.shared.pool;
            let lease = pool.lease(&key, world.generation, connector, spawn).await?;
            match self.ask(&lease).await {
                Ok((status, send, recv)) if status == StatusCode::OK => {
                    return Ok(Opened { send, recv: recv.into_body(), lease });
                }
                Ok((status, _, response)) => {
                    let why = response.headers().get(WHY).and_then(|why| why.to_str().ok());
                    let why =
                        why.map_or_else(|| status.to_string(), |why| format!("{status}: {why}"));
                    return Err(Refused::Denied(Some(why)));
                }
                Err(_) if lease.is_reused => lease.give_up(),
                Err(detail) => {
                    lease.give_up();
                    return Err(DialError { why: Why::TunnelFailed, detail }.into());
                }
            }
        }
    }

    async fn ask(
        &self,
        lease: &Lease,
    ) -> Result<(StatusCode, SendStream<Bytes>, http::Response<RecvStream>), String> {
        let authority = self.upstream.destination.to_string();
        let uri = Uri::builder().authority(authority).build().map_err(|error| error.to_string())?;
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = uri;
        let asked = async {
            let mut sender = lease.sender().ready().await?;
            let (response, send) = sender.send_request(request, false)?;
            Ok::<_, h2::Error>((response.await?, send))
        };
        match timeout(ANSWER, asked).await {
            Ok(Ok((response, send))) => Ok((response.status(), send, response)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the destination does not answer".to_owned()),
        }
    }

    /// What is shown to the destination and believed of it; the same for all of one generation.
    fn connector(&self, world: &World) -> Result<WorkloadConnector, TlsError> {
        let mut kept = self.connector.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((generation, connector)) = &*kept
            && *generation == world.generation
        {
            return Ok(connector.clone());
        }
        let expected = Arc::clone(&self.upstream.expect);
        let connector = match self.upstream.wire {
            Wire::Tls => world.tls.connector(expected, &[])?,
            wire @ (Wire::Hbone | Wire::Istio) => {
                world.tls.connector(expected, &[protocol(wire)])?
            }
        };
        *kept = Some((world.generation, connector.clone()));
        Ok(connector)
    }
}

fn protocol(wire: Wire) -> &'static [u8] {
    match wire {
        Wire::Hbone => ALPN_HBONE,
        Wire::Istio => ALPN_H2,
        Wire::Tls => b"",
    }
}

/// Whether who is there is still proven.
fn still(peer: &WorkloadPeer, generation: u64, world: &World) -> Result<Option<Timestamp>, Why> {
    if generation == world.generation || world.tls.still_proves(peer).is_ok() {
        return Ok(None);
    }
    Err(Why::NoLongerProven)
}
