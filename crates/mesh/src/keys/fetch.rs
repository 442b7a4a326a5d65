//! One fetch: HTTPS to exactly the address that was declared, short and small.

use std::{fmt, io, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nullius_pki::{JWKS_MAX, JwksError};
use nullius_tls::{ClientIdentity, HttpVersions, TlsError, WebConnector, WebRoots};
use tokio::net::TcpStream;

use crate::directory::is_elsewhere;

/// All of a fetch.
const WITHIN: Duration = Duration::from_secs(10);
/// One of several addresses.
const ADDRESS_WITHIN: Duration = Duration::from_secs(3);
const ADDRESSES_MAX: usize = 4;
/// The longest address.
const URL_MAX: usize = 2_048;

/// Where keys are published.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySource {
    /// An `https` address.
    pub url: Box<str>,
    /// Authorities in PEM that stand behind the server; without, those that browsers believe.
    pub authorities: Option<Arc<str>>,
    /// Where it may be.
    pub reach: Reach,
}

/// Which addresses may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All: who declares it owns the machine.
    All,
    /// None of this machine, of its link, or that clouds tell secrets at.
    Elsewhere,
}

/// Why keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No address of the one kind that is fetched.
    #[error(
        "`{0}` is no address of keys: write `https://HOST/PATH` without user, password and fragment"
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
    /// It takes too long.
    #[error("it took longer than 10 s")]
    Slow,
    /// HTTP.
    #[error("http failed")]
    Http(#[source] hyper::Error),
    /// Another answer than the keys.
    #[error("the server answered {0}; it is not followed elsewhere")]
    Status(StatusCode),
    /// An answer that is too long, or broke.
    #[error("the answer broke off, or is longer than {JWKS_MAX} bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What came is no key set.
    #[error("what came cannot be used")]
    Keys(#[from] JwksError),
}

impl KeySource {
    /// Whether it can be fetched at all; the error says why not.
    pub fn check(&self) -> Result<(), FetchError> {
        self.target()?;
        self.connector().map(drop)
    }

    /// Fetches what is there.
    pub async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        tokio::time::timeout(WITHIN, self.fetch_now()).await.unwrap_or(Err(FetchError::Slow))
    }

    async fn fetch_now(&self) -> Result<Vec<u8>, FetchError> {
        let (uri, host, port) = self.target()?;
        let connector = self.connector()?;
        let tcp = self.dial(&host, port).await?;
        let refused = |error| FetchError::Connect(format!("{host}:{port}"), error);
        let (stream, _) =
            connector.connect(tcp, &host, HttpVersions::Http1).await.map_err(refused)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::Http)?;
        let ask = async {
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            let request = Request::get(path)
                .header(header::HOST, authority)
                .header(header::ACCEPT, "application/json, application/jwk-set+json")
                .header(header::USER_AGENT, "nullius")
                .body(Empty::<Bytes>::new())
                .map_err(|_| self.odd())?;
            let response = sender.send_request(request).await.map_err(FetchError::Http)?;
            if response.status() != StatusCode::OK {
                return Err(FetchError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), JWKS_MAX);
            Ok(body.collect().await.map_err(FetchError::Body)?.to_bytes().to_vec())
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

    fn odd(&self) -> FetchError {
        FetchError::Url(self.url.chars().take(200).flat_map(char::escape_debug).collect())
    }

    /// The address, its host without brackets, and its port.
    fn target(&self) -> Result<(Uri, String, u16), FetchError> {
        let is_plain = self.url.len() <= URL_MAX && !self.url.contains(['#', '@', '\\']);
        let uri: Uri = self.url.parse().map_err(|_| self.odd())?;
        if !is_plain || uri.scheme_str() != Some("https") {
            return Err(self.odd());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| self.odd())?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        Ok((uri, host, port))
    }

    fn connector(&self) -> Result<WebConnector, FetchError> {
        let roots = match &self.authorities {
            Some(pem) => WebRoots::from_pem(pem.as_bytes()).map_err(FetchError::Authorities)?,
            None => WebRoots::public(),
        };
        WebConnector::new(&roots, &ClientIdentity::Anonymous).map_err(FetchError::Authorities)
    }

    /// Connects to an address of the name that was looked at: what it is for somebody else, or a moment later, does not count.
    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, FetchError> {
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
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = FetchError::Connect(format!("{host}:{port}"), error),
            }
        }
        Err(last)
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource").field("url", &self.url).field("reach", &self.reach).finish()
    }
}

impl Reach {
    /// Whether it has an address in its one form.
    fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Elsewhere => is_elsewhere(ip),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn source(url: &str, reach: Reach) -> KeySource {
        KeySource { url: url.into(), authorities: None, reach }
    }

    #[test]
    fn an_address_of_keys_is_https_and_nothing_beside() {
        for url in ["https://login.example/keys", "https://10.0.0.1:8443/a?b=c", "https://[::1]/"] {
            source(url, Reach::All).check().unwrap();
        }
        for url in [
            "",
            "login.example/keys",
            "http://login.example/keys",
            "file:///etc/passwd",
            "https:///keys",
            "https://user@login.example/keys",
            "https://login.example/keys#x",
            "https://login.example/a b",
            "https://login.example/\r\nX: y",
            "https://login.example\\@evil.example/",
        ] {
            let told = source(url, Reach::All).check();
            assert!(matches!(told, Err(FetchError::Url(_))), "{url}: {told:?}");
        }
        let long = format!("https://login.example/{}", "x".repeat(URL_MAX));
        assert!(source(&long, Reach::All).check().is_err());
        let odd = KeySource {
            authorities: Some("no certificate".into()),
            ..source("https://login.example/", Reach::All)
        };
        assert!(matches!(odd.check(), Err(FetchError::Authorities(_))));
    }

    #[tokio::test]
    async fn nothing_is_fetched_from_the_machine_itself_or_where_clouds_tell_secrets() {
        for host in [
            "127.0.0.1",
            "127.8.9.1",
            "localhost",
            "0.0.0.0",
            "169.254.169.254",
            "169.254.1.1",
            "224.0.0.1",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[fe80::1]",
            "[fd00:ec2::254]",
        ] {
            let url = format!("https://{host}:1/keys");
            let told = source(&url, Reach::Elsewhere).fetch().await.unwrap_err();
            assert!(matches!(told, FetchError::Forbidden(..)), "{host}: {told}");
        }
        for private in ["10.0.0.1", "192.168.0.1", "fd00::1", "93.184.216.34"] {
            assert!(Reach::Elsewhere.has(private.parse().unwrap()), "{private}");
        }
    }
}
