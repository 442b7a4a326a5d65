//! Clients of the hub: one that speaks HTTP, one that sends bytes as a test gives them.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, combinators::BoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nullius_model::KubeStatus;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A request of ada's to the cluster.
pub(crate) fn ask(method: &str, target: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("/clusters/dev{target}"))
        .header("host", "hub")
        .header("authorization", "Bearer ada")
}

pub(crate) fn get(target: &str) -> Request<Body> {
    ask("GET", target).body(empty()).unwrap()
}

pub(crate) async fn http1(address: SocketAddr) -> http1::SendRequest<Body> {
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

pub(crate) async fn http2(address: SocketAddr) -> http2::SendRequest<Body> {
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let io = TokioIo::new(tcp);
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(8 << 20)
        .handshake(io)
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
}

/// Sends over HTTP/1.1 on a connection of its own.
pub(crate) async fn send(address: SocketAddr, request: Request<Body>) -> Response<Incoming> {
    http1(address).await.send_request(request).await.unwrap()
}

/// Sends over HTTP/2; the URI needs an authority there.
pub(crate) async fn send_http2(
    sender: &mut http2::SendRequest<Body>,
    mut request: Request<Body>,
) -> Response<Incoming> {
    let target = request.uri().path_and_query().unwrap().clone();
    *request.uri_mut() = format!("http://hub{target}").parse().unwrap();
    request.headers_mut().remove("host");
    sender.ready().await.unwrap();
    sender.send_request(request).await.unwrap()
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The status, which must be a Kubernetes failure with this code.
pub(crate) async fn failure(response: Response<Incoming>, code: u16) -> KubeStatus {
    assert_eq!(response.status(), StatusCode::from_u16(code).unwrap());
    assert_eq!(response.headers()["content-type"], "application/json");
    let status: KubeStatus = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!((status.code, status.status.as_str()), (code, "Failure"));
    status
}

/// Sends bytes and gives back all that comes until the server closes, or for a moment.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tcp.read_to_end(&mut answer);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), read).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Asks for an upgrade; gives the head of the answer and the connection behind it.
pub(crate) async fn upgrade(
    address: SocketAddr,
    method: &str,
    headers: &str,
) -> (String, TcpStream) {
    upgrade_for(address, method, headers, "sh").await
}

/// As `upgrade`, for a command that the API server of these tests knows.
pub(crate) async fn upgrade_for(
    address: SocketAddr,
    method: &str,
    headers: &str,
    command: &str,
) -> (String, TcpStream) {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let target =
        format!("/clusters/dev/api/v1/namespaces/shop/pods/p/exec?command={command}&stdin=true");
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer ada\r\nconnection: Upgrade\r\n{headers}\r\n"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if tcp.read(&mut byte).await.unwrap() == 0 {
            break;
        }
        answer.push(byte[0]);
    }
    (String::from_utf8(answer).unwrap(), tcp)
}

pub(crate) const SPDY: &str =
    "upgrade: SPDY/3.1\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n";
pub(crate) const WEBSOCKET: &str = "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: v5.channel.k8s.io, v4.channel.k8s.io\r\n";

pub(crate) fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    names
}
