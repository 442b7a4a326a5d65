//! A small document from a server of somebody else: HTTPS to exactly the address that was declared, short and small, followed nowhere.
//!
//! Who declares an address may not own the machine that asks: what is asked, is asked at an address that was looked at
//! ([`Reach`]), and what the name is for somebody else, or a moment later, does not count.

use std::{io, net::IpAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nullius_tls::{
    ClientIdentity, HttpVersions, TlsError, WebConnector, WebRoots, WorkloadConnector,
    WorkloadError,
};
use tokio::net::TcpStream;

use crate::{Io, elsewhere::is_elsewhere};

/// All of a fetch.
const WITHIN: Duration = Duration::from_secs(10);
/// One of several addresses.
const ADDRESS_WITHIN: Duration = Duration::from_secs(3);
const ADDRESSES_MAX: usize = 4;
/// The longest address.
const URL_MAX: usize = 2_048;

/// What is fetched.
pub struct Fetch<'f> {
    /// An `https` address.
    pub url: &'f str,
    /// How the server proves itself.
    pub server: ServerProof<'f>,
    /// Where it may be.
    pub reach: Reach,
    /// The longest answer, in bytes.
    pub max: usize,
    /// What is asked for (`Accept`).
    pub accept: &'static str,
}

/// How a server proves that it is the one that was declared.
pub enum ServerProof<'f> {
    /// By a certificate for its name, of authorities that browsers believe.
    Web,
    /// The same, of these authorities in PEM alone.
    Authorities(&'f str),
    /// By an SVID, as this connector says.
    Svid(WorkloadConnector),
}

/// Which addresses may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All: who declares it owns the machine.
    All,
    /// None of this machine, of its link, or that clouds tell secrets at.
    Elsewhere,
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No address of the one kind that is fetched.
    #[error(
        "`{0}` is no address to fetch from: write `https://HOST/PATH` without user, password and fragment"
    )]
    Url(String),
    /// The authorities that were given.
    #[error("the authorities for its server cannot be used")]
    Authorities(#[source] TlsError),
    /// A name without an address.
    #[error("no address is known for `{0}`")]
    Resolve(String, #[source] io::Error),
    /// It leads where nothing is fetched from.
    #[error("`{0}` leads to {1}, which is not asked")]
    Forbidden(String, IpAddr),
    /// No connection.
    #[error("no connection to `{0}`")]
    Connect(String, #[source] io::Error),
    /// The server proves no SVID that is expected.
    #[error("the server at `{0}` is not believed")]
    Svid(String, #[source] WorkloadError),
    /// It takes too long.
    #[error("it took longer than 10 s")]
    Slow,
    /// HTTP.
    #[error("http failed")]
    Http(#[source] hyper::Error),
    /// Another answer than the document.
    #[error("the server answered {0}; it is not followed elsewhere")]
    Status(StatusCode),
    /// An answer that is too long, or broke.
    #[error("the answer broke off, or is longer than {max} bytes")]
    Body {
        /// What may be.
        max: usize,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Fetch<'_> {
    /// Whether it can be fetched at all; the error says why not.
    pub fn check(&self) -> Result<(), FetchError> {
        target(self.url)?;
        self.web().map(drop)
    }

    /// Fetches what is there.
    pub async fn get(&self) -> Result<Vec<u8>, FetchError> {
        tokio::time::timeout(WITHIN, self.get_now()).await.unwrap_or(Err(FetchError::Slow))
    }

    async fn get_now(&self) -> Result<Vec<u8>, FetchError> {
        let (uri, host, port) = target(self.url)?;
        let stream = self.connect(&host, port).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::Http)?;
        let ask = async {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            let request = Request::get(path)
                .header(header::HOST, authority)
                .header(header::ACCEPT, self.accept)
                .header(header::USER_AGENT, "nullius")
                .body(Empty::<Bytes>::new())
                .map_err(|_| odd(self.url))?;
            let response = sender.send_request(request).await.map_err(FetchError::Http)?;
            if response.status() != StatusCode::OK {
                return Err(FetchError::Status(response.status()));
            }
            let max = self.max;
            let body = Limited::new(response.into_body(), max).collect().await;
            Ok(body.map_err(|source| FetchError::Body { max, source })?.to_bytes().to_vec())
        };
        tokio::pin!(ask);
        tokio::pin!(connection);
        tokio::select! {
            biased;
            told = &mut ask => told,
            ended = &mut connection => match ended {
                // What was answered before it ended is still to be read.
                Ok(()) => ask.await,
                Err(error) => Err(FetchError::Http(error)),
            },
        }
    }

    /// Connects to who proves to be the server.
    async fn connect(&self, host: &str, port: u16) -> Result<Box<dyn Io>, FetchError> {
        let at = || format!("{host}:{port}");
        if let ServerProof::Svid(connector) = &self.server {
            let (tcp, address) = self.dial(host, port).await?;
            let connected = connector.connect_named(tcp, host, address).await;
            let (stream, _) = connected.map_err(|error| FetchError::Svid(at(), error))?;
            return Ok(Box::new(stream));
        }
        let connector = self.web()?;
        let (tcp, _) = self.dial(host, port).await?;
        let connected = connector.connect(tcp, host, HttpVersions::Http1).await;
        let (stream, _) = connected.map_err(|error| FetchError::Connect(at(), error))?;
        Ok(Box::new(stream))
    }

    fn web(&self) -> Result<WebConnector, FetchError> {
        let roots = match &self.server {
            ServerProof::Authorities(pem) => {
                WebRoots::from_pem(pem.as_bytes()).map_err(FetchError::Authorities)?
            }
            ServerProof::Web | ServerProof::Svid(_) => WebRoots::public(),
        };
        WebConnector::new(&roots, &ClientIdentity::Anonymous).map_err(FetchError::Authorities)
    }

    /// Connects to an address of the name that may be asked.
    async fn dial(&self, host: &str, port: u16) -> Result<(TcpStream, IpAddr), FetchError> {
        let all = tokio::net::lookup_host((host, port)).await;
        let all = all.map_err(|error| FetchError::Resolve(host.to_owned(), error))?;
        let mut last =
            FetchError::Connect(format!("{host}:{port}"), io::ErrorKind::AddrNotAvailable.into());
        for address in all.take(ADDRESSES_MAX) {
            let ip = address.ip().to_canonical();
            if !self.reach.has(ip) {
                last = FetchError::Forbidden(host.to_owned(), ip);
                continue;
            }
            let connected = tokio::time::timeout(ADDRESS_WITHIN, TcpStream::connect(address)).await;
            match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(tcp) => return Ok((tcp, ip)),
                Err(error) => last = FetchError::Connect(format!("{host}:{port}"), error),
            }
        }
        Err(last)
    }
}

impl Reach {
    /// Whether it has an address in its one form.
    pub fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Elsewhere => is_elsewhere(ip),
        }
    }
}

fn odd(url: &str) -> FetchError {
    FetchError::Url(url.chars().take(200).flat_map(char::escape_debug).collect())
}

/// The address, its host without brackets, and its port.
fn target(url: &str) -> Result<(Uri, String, u16), FetchError> {
    let is_plain = url.len() <= URL_MAX && !url.contains(['#', '@', '\\']);
    let uri: Uri = url.parse().map_err(|_| odd(url))?;
    if !is_plain || uri.scheme_str() != Some("https") {
        return Err(odd(url));
    }
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| odd(url))?;
    let host = host.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(443);
    Ok((uri, host, port))
}

#[cfg(test)]
mod tests;
