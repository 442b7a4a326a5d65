//! A connection to a hub: TCP within seconds, TLS to the pinned root, one HTTP/1.1 connection kept open.

use std::{io, sync::Mutex, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use nullius_tls::{HubConnector, InfraRoots, UnverifiedPeer};
use tokio::net::TcpStream;
use url::Url;

use super::patience::within;
use crate::failure::Failure;

type Sender = http1::SendRequest<Full<Bytes>>;

/// How long TCP and TLS together may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// How long one of several addresses may take.
const ADDRESS_WITHIN: Duration = Duration::from_millis(1_500);

/// Whom a connection believes.
pub(crate) enum Trust {
    /// A hub of the pinned root.
    Pinned(HubConnector),
    /// Anybody: to learn which root to ask about, never for anything secret.
    Unverified,
}

impl Trust {
    /// Believes the root of a context.
    pub(crate) fn pinned(ca: &str) -> Result<Self, Failure> {
        let roots = InfraRoots::from_pem(ca).and_then(|roots| HubConnector::new(&roots));
        roots.map(Self::Pinned).map_err(|error| {
            Failure::usage("the pinned root of the hub cannot be used")
                .because(error)
                .next("pin it again: `nullius login --hub URL --ca FILE`")
        })
    }
}

/// Makes connections to one hub and keeps one for the next call.
pub(crate) struct Dialer {
    hub: Url,
    trust: Trust,
    idle: Mutex<Option<Sender>>,
}

/// Whether a call may be sent again on a new connection when a kept one breaks under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// It only reads.
    Allowed,
    /// It may have changed something.
    Never,
}

/// Why a hub was not reached.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("no address is known for `{0}`")]
    Resolve(String, #[source] io::Error),
    #[error("no connection to `{0}`")]
    Connect(String, #[source] io::Error),
    #[error("no connection to `{0}` in time")]
    Slow(String),
    #[error("tls failed")]
    Tls(#[source] io::Error),
    #[error("http failed")]
    Http(#[source] hyper::Error),
}

impl Dialer {
    /// Connections to a hub.
    pub(crate) fn new(hub: Url, trust: Trust) -> Self {
        Self { hub, trust, idle: Mutex::new(None) }
    }

    /// The hub.
    pub(crate) fn hub(&self) -> &Url {
        &self.hub
    }

    /// Sends a request, on the kept connection where there is one.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        again: Again,
    ) -> Result<(Response<Incoming>, Kept<'_>), Failure> {
        let kept = self.idle.lock().ok().and_then(|mut idle| idle.take());
        if let Some(mut sender) = kept
            && sender.ready().await.is_ok()
        {
            let copy = clone(&request);
            match sender.send_request(copy).await {
                Ok(response) => return Ok((response, Kept { dialer: self, sender })),
                Err(_) if again == Again::Allowed => {}
                Err(error) => return Err(self.unreachable(DialError::Http(error))),
            }
        }
        let mut sender = self.dial().await.map_err(|error| self.unreachable(error))?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| self.unreachable(DialError::Http(error)))?;
        Ok((response, Kept { dialer: self, sender }))
    }

    async fn dial(&self) -> Result<Sender, DialError> {
        let host = self.hub.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = self.hub.port_or_known_default().unwrap_or(443);
        let slow = || DialError::Slow(format!("{host}:{port}"));
        within(CONNECT_WITHIN, self.dial_now(&host, port)).await.unwrap_or_else(|_| Err(slow()))
    }

    async fn dial_now(&self, host: &str, port: u16) -> Result<Sender, DialError> {
        let addresses = tokio::net::lookup_host((host, port)).await;
        let addresses = addresses.map_err(|error| DialError::Resolve(host.to_owned(), error))?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match within(ADDRESS_WITHIN, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    nullius_tls::tcp::prepare(&tcp);
                    return self.handshake(tcp, host).await;
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(DialError::Connect(format!("{host}:{port}"), last))
    }

    async fn handshake(&self, tcp: TcpStream, host: &str) -> Result<Sender, DialError> {
        let stream = match &self.trust {
            Trust::Pinned(connector) => connector.connect(tcp, host).await,
            Trust::Unverified => {
                UnverifiedPeer::connect(tcp, host).await.map(UnverifiedPeer::into_stream)
            }
        };
        let io = TokioIo::new(stream.map_err(DialError::Tls)?);
        let (sender, connection) = http1::handshake(io).await.map_err(DialError::Http)?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn unreachable(&self, error: DialError) -> Failure {
        let hub = self.hub.as_str().trim_end_matches('/');
        if let DialError::Tls(tls) = &error
            && tls.kind() == io::ErrorKind::InvalidData
        {
            let why = format!("its certificate is refused: {tls}");
            return Failure::new(format!("`{hub}` is not the hub that is pinned here"))
                .because(error)
                .why(why)
                .next("if the hub's root was changed on purpose, pin it again: `nullius login --hub URL --ca FILE`");
        }
        let why = match &error {
            DialError::Resolve(_, source)
            | DialError::Connect(_, source)
            | DialError::Tls(source) => {
                format!("{error}: {source}")
            }
            DialError::Slow(_) => error.to_string(),
            DialError::Http(source) if source.is_incomplete_message() || source.is_closed() => {
                "it closed the connection without an answer".to_owned()
            }
            DialError::Http(source) => format!("{error}: {source}"),
        };
        Failure::new(format!("cannot reach the hub `{hub}`"))
            .because(error)
            .why(why)
            .next("check that the hub runs and that this machine reaches it")
    }
}

/// A connection whose answer is being read; it can be kept once the answer is read whole.
pub(crate) struct Kept<'a> {
    dialer: &'a Dialer,
    sender: Sender,
}

impl Kept<'_> {
    /// Keeps the connection for the next call.
    pub(crate) fn keep(self) {
        if let Ok(mut idle) = self.dialer.idle.lock() {
            *idle = Some(self.sender);
        }
    }
}

fn clone(request: &Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    let mut copy = Request::new(request.body().clone());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
