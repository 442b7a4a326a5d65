//! Stand-ins for an API server: one that behaves, over TLS with HTTP/2 or HTTP/1.1, and one that says what a test
//! gives it.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nullius_tls::{ClientIdentity, HttpVersions, WebConnector, WebRoots};
use nullius_tunnel::{ApiServer, Dial, Dialled};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::broadcast,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::io::InspectReader;

type Body = BoxBody<Bytes, io::Error>;

/// What the server saw of a request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
}

pub(crate) struct Api {
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) connections: AtomicUsize,
    pub(crate) watches: AtomicUsize,
    pub(crate) pipes: AtomicUsize,
    /// Bytes that were taken from `/big` so far.
    pub(crate) produced: AtomicU64,
    events: broadcast::Sender<Bytes>,
    address: SocketAddr,
    roots: WebRoots,
}

/// Counts while it lives.
struct Running<F: Fn(&Api) -> &AtomicUsize>(Arc<Api>, F);

impl<F: Fn(&Api) -> &AtomicUsize> Running<F> {
    fn new(api: &Arc<Api>, which: F) -> Self {
        which(api).fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(api), which)
    }
}

impl<F: Fn(&Api) -> &AtomicUsize> Drop for Running<F> {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

impl Api {
    pub(crate) async fn start(speaks: HttpVersions) -> Arc<Self> {
        nullius_tls::install_provider();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let ca = CertifiedIssuer::self_signed(params, ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &ca).unwrap();
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        config.alpn_protocols = match speaks {
            HttpVersions::Http1 => vec![b"http/1.1".to_vec()],
            _ => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Arc::new(Self {
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            watches: AtomicUsize::new(0),
            pipes: AtomicUsize::new(0),
            produced: AtomicU64::new(0),
            events: broadcast::channel(64).0,
            address: listener.local_addr().unwrap(),
            roots: WebRoots::from_pem(ca.pem().as_bytes()).unwrap(),
        });
        let serving = Arc::clone(&api);
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let (api, acceptor) = (Arc::clone(&serving), acceptor.clone());
                tokio::spawn(async move {
                    let tls = acceptor.accept(tcp).await.unwrap();
                    let _running = Running::new(&api, |api| &api.connections);
                    let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                    let handler = Arc::clone(&api);
                    let service = service_fn(move |request| {
                        let api = Arc::clone(&handler);
                        async move { Ok::<_, Infallible>(answer(api, request).await) }
                    });
                    let io = TokioIo::new(tls);
                    if is_http2 {
                        let mut builder = http2::Builder::new(TokioExecutor::new());
                        builder.max_concurrent_streams(100);
                        let _ = builder.serve_connection(io, service).await;
                    } else {
                        let builder = http1::Builder::new();
                        let _ = builder.serve_connection(io, service).with_upgrades().await;
                    }
                });
            }
        });
        api
    }

    pub(crate) fn dial(&self) -> Arc<dyn Dial> {
        let connector = WebConnector::new(&self.roots, &ClientIdentity::Anonymous).unwrap();
        Arc::new(ApiServer::new("127.0.0.1", self.address.port(), connector))
    }

    /// Tells an event to all watches.
    pub(crate) fn emit(&self, event: &'static str) {
        let _ = self.events.send(Bytes::from_static(event.as_bytes()));
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().cloned().unwrap()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

fn parameter(request: &Request<Incoming>, name: &str) -> Option<String> {
    let query = request.uri().query()?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(|value| value.to_owned()))
}

async fn answer(api: Arc<Api>, request: Request<Incoming>) -> Response<Body> {
    api.seen.lock().unwrap().push(Seen {
        method: request.method().to_string(),
        target: request.uri().path_and_query().unwrap().to_string(),
        headers: request.headers().clone(),
    });
    let path = request.uri().path().to_owned();
    if parameter(&request, "watch").is_some() {
        return watch(api);
    }
    if path.ends_with("/exec") {
        return exec(api, request);
    }
    let path = path.rsplit_once("/proxy").map_or(path.as_str(), |(_, inner)| inner);
    match path {
        "/echo" => Response::new(request.into_body().map_err(io::Error::other).boxed()),
        "/big" => big(api, parameter(&request, "bytes").unwrap().parse().unwrap()),
        "/sink" => {
            let mut body = request.into_body();
            let mut bytes = 0u64;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return Response::new(full("broken")) };
                bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Response::new(full(bytes.to_string()))
        }
        "/trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", "abc".parse().unwrap());
            trailers.insert("set-cookie", "planted=1".parse().unwrap());
            let frames = [
                Ok(Frame::data(Bytes::from_static(b"body"))),
                Ok::<_, io::Error>(Frame::trailers(trailers)),
            ];
            let mut response = Response::new(StreamBody::new(stream::iter(frames)).boxed());
            response.headers_mut().insert(header::TRAILER, "x-checksum".parse().unwrap());
            response
        }
        "/hostile" => {
            let mut response = Response::new(full("<script>alert(1)</script>"));
            for (name, value) in [
                ("set-cookie", "session=stolen; Path=/"),
                ("alt-svc", "h3=\"evil.example:443\""),
                ("strict-transport-security", "max-age=0"),
                ("content-type", "text/html"),
                ("content-security-policy", "default-src *"),
                ("access-control-allow-origin", "*"),
                ("refresh", "0; url=https://evil.example"),
                ("nullius-upgrade", "websocket"),
                ("nullius-answered-by", "agent"),
                ("link", "<https://evil.example>; rel=preload"),
            ] {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        "/redirect" => {
            let to = parameter(&request, "to").unwrap().replace("%2F", "/").replace("%3A", ":");
            let mut response = Response::new(full(""));
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().insert(header::LOCATION, to.parse().unwrap());
            response
        }
        "/never" => std::future::pending().await,
        _ if request.method() == http::Method::HEAD => {
            let mut response = Response::new(full(""));
            response.headers_mut().insert(header::CONTENT_LENGTH, "5".parse().unwrap());
            response
        }
        _ => Response::new(full("hello")),
    }
}

fn watch(api: Arc<Api>) -> Response<Body> {
    let events = api.events.subscribe();
    let running = Running::new(&api, |api| &api.watches);
    let frames = stream::unfold((events, running), |(mut events, running)| async move {
        let event = events.recv().await.ok()?;
        Some((Ok::<_, io::Error>(Frame::data(event)), (events, running)))
    });
    Response::new(StreamBody::new(frames).boxed())
}

fn big(api: Arc<Api>, bytes: u64) -> Response<Body> {
    const CHUNK: u64 = 64 * 1024;
    let chunk = Bytes::from(vec![b'x'; CHUNK as usize]);
    let frames = stream::unfold(bytes, move |left| {
        let (chunk, api) = (chunk.clone(), Arc::clone(&api));
        async move {
            let now = left.min(CHUNK);
            api.produced.fetch_add(now, Ordering::SeqCst);
            (now > 0)
                .then(|| (Ok::<_, io::Error>(Frame::data(chunk.slice(..now as usize))), left - now))
        }
    });
    Response::new(StreamBody::new(frames).boxed())
}

/// What a command says that then goes; a stream of the tunnel takes it whole, whether anybody reads or not.
pub(crate) const LAST_WORDS: &[u8] = &[b'w'; 768 << 10];

/// Switches and echoes: bytes come back until the client closes its side, then `bye` does. The
/// commands `close` and `break` say much at the first byte and go, as TLS closes and without that.
fn exec(api: Arc<Api>, mut request: Request<Incoming>) -> Response<Body> {
    let Some(token) = request.headers().get(header::UPGRADE).cloned() else {
        let mut response = Response::new(full("upgrade required"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, "Upgrade".parse().unwrap());
    response.headers_mut().insert(header::UPGRADE, token);
    response
        .headers_mut()
        .insert("x-stream-protocol-version", "v4.channel.k8s.io".parse().unwrap());
    if request.headers().contains_key("sec-websocket-key") {
        // RFC 6455, section 1.3: the example's key and its answer.
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".parse().unwrap();
        response.headers_mut().insert("sec-websocket-accept", accept);
        let protocol = "v5.channel.k8s.io".parse().unwrap();
        response.headers_mut().insert("sec-websocket-protocol", protocol);
    }
    let command = parameter(&request, "command").unwrap_or_default();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let _running = Running::new(&api, |api| &api.pipes);
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
        let mut buffer = vec![0; 64 * 1024];
        if ["close", "break"].contains(&command.as_str()) {
            read.read_exact(&mut buffer[..1]).await.unwrap();
            write.write_all(LAST_WORDS).await.unwrap();
            write.flush().await.unwrap();
            if command == "close" {
                write.shutdown().await.unwrap();
            }
            return;
        }
        loop {
            match read.read(&mut buffer).await {
                Ok(0) => break,
                Ok(count) => {
                    if write.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
        let _ = write.write_all(b"bye").await;
        let _ = write.shutdown().await;
    });
    response
}

/// An API server that reads one head and then says exactly this, and keeps what it was sent.
pub(crate) struct Scripted {
    answer: Vec<u8>,
    pub(crate) got: Arc<Mutex<Vec<u8>>>,
    pub(crate) closed: Arc<AtomicUsize>,
    pub(crate) dialled: AtomicUsize,
}

impl Scripted {
    pub(crate) fn new(answer: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            answer: answer.to_vec(),
            got: Arc::default(),
            closed: Arc::default(),
            dialled: AtomicUsize::new(0),
        })
    }
}

impl Dial for Scripted {
    fn dial(
        &self,
        _offer: HttpVersions,
    ) -> Pin<Box<dyn Future<Output = io::Result<Dialled>> + Send + '_>> {
        self.dialled.fetch_add(1, Ordering::SeqCst);
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let (answer, got) = (self.answer.clone(), Arc::clone(&self.got));
        let closed = Arc::clone(&self.closed);
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            let mut answered = false;
            while let Ok(count) = far.read(&mut buffer).await {
                if count == 0 {
                    break;
                }
                let complete = {
                    let mut got = got.lock().unwrap();
                    got.extend_from_slice(&buffer[..count]);
                    got.windows(4).any(|window| window == b"\r\n\r\n")
                };
                if complete && !answered {
                    answered = true;
                    let _ = far.write_all(&answer).await;
                }
            }
            closed.fetch_add(1, Ordering::SeqCst);
        });
        let dialled = Dialled { io: Box::new(near), speaks: HttpVersions::Http1 };
        Box::pin(std::future::ready(Ok(dialled)))
    }

    fn authority(&self) -> String {
        "kubernetes.example:6443".to_owned()
    }
}

/// Counts what the agent has read of an API server.
pub(crate) struct Counted {
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) read: Arc<AtomicUsize>,
}

impl Dial for Counted {
    fn dial(
        &self,
        offer: HttpVersions,
    ) -> Pin<Box<dyn Future<Output = io::Result<Dialled>> + Send + '_>> {
        Box::pin(async move {
            let Dialled { io, speaks } = self.dial.dial(offer).await?;
            let read = Arc::clone(&self.read);
            let count = move |bytes: &[u8]| {
                read.fetch_add(bytes.len(), Ordering::SeqCst);
            };
            Ok(Dialled { io: Box::new(InspectReader::new(io, count)), speaks })
        })
    }

    fn authority(&self) -> String {
        self.dial.authority()
    }
}

/// An API server that is not there.
pub(crate) struct Absent;

impl Dial for Absent {
    fn dial(
        &self,
        _offer: HttpVersions,
    ) -> Pin<Box<dyn Future<Output = io::Result<Dialled>> + Send + '_>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())))
    }

    fn authority(&self) -> String {
        "127.0.0.1:1".to_owned()
    }
}

/// An HTTP/2 API server in memory whose connections treat requests as the test says.
pub(crate) struct Moody {
    mood: Mood,
    pub(crate) connections: AtomicUsize,
    pub(crate) served: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
pub(crate) enum Mood {
    /// Refuses the first request of each connection, which it did not look at, with the body already sent.
    RefusesFirst,
    /// Serves one request a connection, then says GOAWAY.
    GoesAway,
    /// Processes a request and breaks the connection.
    Breaks,
}

impl Moody {
    pub(crate) fn new(mood: Mood) -> Arc<Self> {
        Arc::new(Self { mood, connections: AtomicUsize::new(0), served: Arc::default() })
    }
}

impl Dial for Moody {
    fn dial(
        &self,
        _offer: HttpVersions,
    ) -> Pin<Box<dyn Future<Output = io::Result<Dialled>> + Send + '_>> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (mood, served) = (self.mood, Arc::clone(&self.served));
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(far).await.unwrap();
            let mut count = 0;
            while let Some(Ok((mut request, mut respond))) = connection.accept().await {
                count += 1;
                match mood {
                    Mood::RefusesFirst if count == 1 => {
                        tokio::spawn(async move {
                            while let Some(Ok(data)) = request.body_mut().data().await {
                                let flow = request.body_mut().flow_control();
                                let _ = flow.release_capacity(data.len());
                            }
                            respond.send_reset(h2::Reason::REFUSED_STREAM);
                        });
                        continue;
                    }
                    Mood::Breaks => {
                        served.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                    Mood::GoesAway => connection.graceful_shutdown(),
                    Mood::RefusesFirst => {}
                }
                let served = Arc::clone(&served);
                tokio::spawn(async move {
                    let mut text = Vec::new();
                    while let Some(Ok(data)) = request.body_mut().data().await {
                        text.extend_from_slice(&data);
                        let _ = request.body_mut().flow_control().release_capacity(data.len());
                    }
                    served.fetch_add(1, Ordering::SeqCst);
                    let mut send = respond.send_response(Response::new(()), false).unwrap();
                    send.send_data(Bytes::from(text), true).unwrap();
                });
            }
        });
        let dialled = Dialled { io: Box::new(near), speaks: HttpVersions::Http2 };
        Box::pin(std::future::ready(Ok(dialled)))
    }

    fn authority(&self) -> String {
        "kubernetes.example:6443".to_owned()
    }
}
