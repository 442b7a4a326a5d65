//! A small blocking client for an API server: enough to wait for it and to create the first objects.
//!
//! It reads the administrator's kubeconfig that [`crate::Cluster`] wrote, verifies the server, and speaks HTTP/1.0, where
//! the end of the answer is the end of the connection.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned,
    client::WantsClientCert,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::Value;

/// How long a connection may take to come up.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long an answer may take: longer than an API server waits for a webhook that does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// An API server and a client certificate for it.
#[derive(Clone)]
pub struct Api {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// What the API server answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers as they came.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether the status is one of success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The values of a header.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("the API server's answer is no JSON")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Api {
    /// A client for `address` that trusts `authority` and shows the certificate `certificate` with `key` (PEM files).
    pub fn new(
        address: SocketAddr,
        authority: &Path,
        certificate: &Path,
        key: &Path,
    ) -> Result<Self> {
        let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(key)?;
        let tls = trusting(authority)?.with_client_auth_cert(chain, key)?;
        Ok(Self { address, tls: Arc::new(tls) })
    }

    /// A client for `address` that trusts `authority` and shows no certificate.
    pub fn anonymous(address: SocketAddr, authority: &Path) -> Result<Self> {
        let tls = trusting(authority)?.with_no_client_auth();
        Ok(Self { address, tls: Arc::new(tls) })
    }

    /// Gets a path.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.send("GET", path, &[])
    }

    /// Sends a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Result<Response> {
        self.send("POST", path, &serde_json::to_vec(body)?)
    }

    /// Puts a JSON body in the place of what stands.
    pub fn put(&self, path: &str, body: &Value) -> Result<Response> {
        self.send("PUT", path, &serde_json::to_vec(body)?)
    }

    /// Deletes what stands at a path.
    pub fn delete(&self, path: &str) -> Result<Response> {
        self.send("DELETE", path, &[])
    }

    /// Creates an object; one that exists already is fine.
    pub fn create(&self, path: &str, object: &Value) -> Result<()> {
        let response = self.send("POST", path, &serde_json::to_vec(object)?)?;
        if !response.is_success() && response.status != 409 {
            bail!(
                "the API server refused POST `{path}` ({}): {}",
                response.status,
                response.text()
            );
        }
        Ok(())
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Result<Response> {
        let stream = TcpStream::connect_timeout(&self.address, CONNECT_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        let name = ServerName::from(self.address.ip());
        let connection = ClientConnection::new(Arc::clone(&self.tls), name)?;
        let mut stream = StreamOwned::new(connection, stream);
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAccept: application/json, */*\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer)
            && answer.is_empty()
        {
            return Err(error.into());
        }
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.context("the API server's answer has no head")?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        let status = status.context("the API server's answer has no status")?;
        let headers = head.lines().skip(1).filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        });
        let headers = headers.collect();
        Ok(Response { status, headers, body: answer.split_off(end + 4) })
    }
}

/// A TLS configuration that takes the certificates of this authority (a PEM file) and no others.
fn trusting(authority: &Path) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(authority)? {
        roots.add(root?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots))
}
