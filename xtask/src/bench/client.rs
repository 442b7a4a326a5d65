//! The client that measures: HTTP/2 over TLS with one credential, the same code for every way to a cluster.
//!
//! What a way costs in the client is then in both figures alike. No TLS session is resumed: each connection stands
//! for a process of its own, as kubectl's are.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, client::Resumption};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A server, and what it is verified against.
#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    name: ServerName<'static>,
    http2: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

/// A way to a cluster's API: a server, what comes before its paths, and with whose credential.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) server: Server,
    pub(crate) prefix: String,
    bearer: HeaderValue,
}

/// A connection of a way. Clones share it.
#[derive(Clone)]
pub(crate) struct Line {
    requests: SendRequest<Full<Bytes>>,
    base: String,
    bearer: Option<HeaderValue>,
}

impl Server {
    /// The server at this address, verified against the certificates of a PEM file.
    pub(crate) fn new(address: SocketAddr, authority: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(authority)? {
            roots.add(root?)?;
        }
        let config = |protocol: &[u8]| -> Result<Arc<ClientConfig>> {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            config.resumption = Resumption::disabled();
            Ok(Arc::new(config))
        };
        let name = ServerName::from(address.ip());
        Ok(Self { address, name, http2: config(b"h2")?, http1: config(b"http/1.1")? })
    }

    /// The server of this DNS name at this address.
    pub(crate) fn named(address: SocketAddr, authority: &Path, name: &str) -> Result<Self> {
        let name = ServerName::try_from(name.to_owned())?;
        Ok(Self { name, ..Self::new(address, authority)? })
    }

    /// A new connection over HTTP/2, without any credential.
    pub(crate) async fn connect(&self) -> Result<Line> {
        let stream = self.dial(&self.http2).await?;
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        // How a connection ends, the requests on it say.
        tokio::spawn(connection);
        let base = format!("https://{}", self.address);
        Ok(Line { requests, base, bearer: None })
    }

    /// A new connection for HTTP/1.1: upgrades need one of their own.
    pub(crate) async fn connect_http1(&self) -> Result<TlsStream<TcpStream>> {
        self.dial(&self.http1).await
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    async fn dial(&self, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address)
            .await
            .with_context(|| format!("cannot connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        Ok(TlsConnector::from(Arc::clone(config)).connect(self.name.clone(), stream).await?)
    }
}

impl Way {
    /// To this server with this bearer token; `prefix` is what comes before a Kubernetes path.
    pub(crate) fn new(server: &Server, prefix: &str, token: &str) -> Result<Self> {
        Ok(Self { server: server.clone(), prefix: prefix.to_owned(), bearer: bearer(token)? })
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Line> {
        let mut line = self.server.connect().await?;
        line.base.push_str(&self.prefix);
        line.bearer = Some(self.bearer.clone());
        Ok(line)
    }

    /// The value of the `Authorization` header.
    pub(crate) fn authorization(&self) -> Result<&str> {
        Ok(self.bearer.to_str()?)
    }
}

impl Line {
    /// The same with this bearer token.
    pub(crate) fn with_token(mut self, token: &str) -> Result<Self> {
        self.bearer = Some(bearer(token)?);
        Ok(self)
    }

    /// Gets a path and reads the answer to its end; anything but success is an error.
    pub(crate) async fn get(&self, path: &str) -> Result<Bytes> {
        let (status, body) = self.try_get(path).await?;
        if status != StatusCode::OK {
            bail!("`GET {path}` was answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    /// Gets a path and reads the answer to its end, whatever its status.
    pub(crate) async fn try_get(&self, path: &str) -> Result<(StatusCode, Bytes)> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Gets a path; the caller reads the body as it comes.
    pub(crate) async fn open(&self, path: &str) -> Result<Incoming> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            bail!("`GET {path}` was answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(response.into_body())
    }

    /// Posts JSON and gives what is answered; anything but success is an error.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let body = self.post_bytes(path, serde_json::to_vec(body)?.into()).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).with_context(|| format!("`POST {path}` gave no JSON"))
    }

    /// Posts JSON that was written before, and gives what is answered as it came; anything but success is an error.
    pub(crate) async fn post_bytes(&self, path: &str, body: Bytes) -> Result<Bytes> {
        let response = self.send(Method::POST, path, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("`POST {path}` was answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer);
        }
        let request = request.body(Full::new(body))?;
        let mut requests = self.requests.clone();
        requests.ready().await?;
        Ok(requests.send_request(request).await?)
    }
}

fn bearer(token: &str) -> Result<HeaderValue> {
    Ok(HeaderValue::from_str(&format!("Bearer {token}"))?)
}
