//! A stand-in for an API server that costs next to nothing: every request gets the same small object, every upgrade
//! is an echo.
//!
//! It is for measuring what stands before an API server, never for tests of behaviour: those have a real one. A
//! request without a bearer token is refused, so that figures never come from requests that lost their credential.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{
    cluster::Cluster,
    pki::{self, Subject, Usage},
};

const OBJECT: &str = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"stub","namespace":"shop","uid":"11f0a2c4-77ba-4c39-a8f3-2b7e6f0d9f10","resourceVersion":"4711","creationTimestamp":"2026-01-01T00:00:00Z"},"data":{"served-by":"stub"}}"#;
const REFUSED: &str = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"no bearer token","reason":"Unauthorized","code":401}"#;
/// The subprotocol that an upgrade to SPDY/3.1 agrees on when it is offered.
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// A stub that listens.
pub struct StubApi {
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
}

/// Makes a serving certificate of the cluster's own authority for a stub at this address; gives certificate and key.
pub fn stub_certificate(cluster: &Cluster, address: IpAddr) -> Result<(PathBuf, PathBuf)> {
    let pki = cluster.file("pki")?;
    let names = [address.to_string()];
    let subject = Subject { common_name: "stub-api", organization: None, names: &names };
    pki::issue_later(&pki, "ca", "stub-api", Usage::Server, subject)?;
    Ok((pki.join("stub-api.crt"), pki.join("stub-api.key")))
}

impl StubApi {
    /// Listens; port 0 takes a free one.
    pub fn bind(address: SocketAddr, certificate: &Path, key: &Path) -> Result<Self> {
        let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = std::net::TcpListener::bind(address)
            .with_context(|| format!("the stub cannot listen on {address}"))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls)) })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until the process ends.
    pub async fn serve(self) -> Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let acceptor = self.acceptor.clone();
            tokio::spawn(async move {
                // A client that breaks off has nobody to be told of it.
                let _ = connection(acceptor, stream).await;
            });
        }
    }
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(1_000);
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service_fn(answer));
    served.await.map_err(|error| anyhow::anyhow!(error))
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let json = |status: StatusCode, body: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let bearer = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    if !bearer.is_some_and(|value| value.starts_with(b"Bearer ")) {
        return Ok(json(StatusCode::UNAUTHORIZED, REFUSED));
    }
    if let Some(token) = request.headers().get(UPGRADE).cloned() {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(UPGRADE, token);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Some(protocol) = request.headers().get(STREAM_PROTOCOL).cloned() {
            response.headers_mut().insert(STREAM_PROTOCOL, protocol);
        }
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
            }
        });
        return Ok(response);
    }
    // A body is read to its end, as an API server would.
    let _ = request.into_body().collect().await;
    Ok(json(StatusCode::OK, OBJECT))
}
