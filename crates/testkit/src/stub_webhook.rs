//! Somebody else's webhook: it makes the same change to whatever it is asked about, and lets it pass.

use std::{convert::Infallible, path::Path, sync::Arc, thread};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, body::Incoming, header::CONTENT_TYPE, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A webhook on a thread of its own, for as long as the value lives.
pub struct StubWebhook {
    /// Where API servers on this machine call it.
    pub url: String,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl StubWebhook {
    /// Serves on loopback, with a certificate for 127.0.0.1; each answer has this JSON patch (RFC 6902).
    pub fn start(certificate: &Path, key: &Path, patch: &Value) -> Result<Self> {
        let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let url = format!("https://{}/", listener.local_addr()?);
        let patch: Arc<str> = STANDARD.encode(patch.to_string()).into();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    served = serve(listener, acceptor, patch) => drop(served),
                }
            });
        });
        Ok(Self { url, _stop: stop })
    }
}

async fn serve(
    listener: std::net::TcpListener,
    acceptor: TlsAcceptor,
    patch: Arc<str>,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, patch) = (acceptor.clone(), Arc::clone(&patch));
        tokio::spawn(async move {
            // A client that breaks off has nobody to be told of it.
            let _ = connection(acceptor, stream, patch).await;
        });
    }
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, patch: Arc<str>) -> Result<()> {
    let stream = acceptor.accept(stream).await?;
    let service = service_fn(move |request| answer(request, Arc::clone(&patch)));
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.context("lost")
}

async fn answer(
    request: Request<Incoming>,
    patch: Arc<str>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {
            "uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch", "patch": &*patch,
        },
    });
    let response = Response::builder().header(CONTENT_TYPE, "application/json");
    Ok(response.body(Full::new(Bytes::from(answer.to_string()))).unwrap_or_default())
}
