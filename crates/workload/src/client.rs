//! The other end of the socket: a client of the SPIFFE Workload API, for any implementation of it.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use nullius_model::{ParseSpiffeError, SpiffeId, Timestamp, TrustDomain};
use nullius_pki::{
    private_key_pem,
    workload::{SvidError, X509Svid, read_x509_svid, split_certificates},
};
use nullius_proto::spiffe::{
    JwtsvidRequest, X509svid, X509svidRequest, X509svidResponse,
    spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use rustls_pki_types::CertificateDer;
use secrecy::SecretString;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::MetadataValue,
    transport::{self, Channel},
};
use zeroize::Zeroizing;

/// Bytes of a message that is read.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// Where the Workload API is: a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

/// Text that is no endpoint which is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseEndpointError {
    /// A network address.
    #[error("the Workload API is asked on a Unix socket alone: a network does not say who calls")]
    Network,
    /// Something else.
    #[error("write `unix:///run/nullius/workload/api.sock`, or an absolute path")]
    Malformed,
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("cannot connect to `{path}`")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: transport::Error,
    },
    /// This process has no identity.
    #[error("the node denies it: {0}")]
    Denied(String),
    /// It cannot answer now.
    #[error("the node cannot answer now: {0}")]
    Unavailable(String),
    /// It refuses the request.
    #[error("the node refuses the request: {0}")]
    Refused(String),
    /// The stream has ended.
    #[error("the node ended the stream")]
    Ended,
    /// An answer that is not as the specification says.
    #[error("the answer of the node is malformed: {0}")]
    Malformed(&'static str),
    /// An ID in it.
    #[error("the answer of the node has an ID that is refused")]
    Id(#[from] ParseSpiffeError),
    /// A certificate in it.
    #[error("the answer of the node has a certificate that is refused")]
    Certificate(#[from] SvidError),
}

/// A connection to the Workload API.
pub struct Client {
    api: SpiffeWorkloadApiClient<Channel>,
}

/// Everything that a workload is given at one time.
#[derive(Debug)]
pub struct WorkloadIdentities {
    /// Its identities; the first is its default.
    pub identities: Vec<Identity>,
    /// Anchors of other trust domains.
    pub foreign: BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>,
}

/// An X.509-SVID with its key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub svid: X509Svid,
    /// The key.
    pub key: IdentityKey,
    /// Anchors of its trust domain.
    pub anchors: Vec<CertificateDer<'static>>,
    /// What it is for.
    pub hint: Option<String>,
}

/// A private key, PKCS#8.
pub struct IdentityKey(Zeroizing<Vec<u8>>);

/// A JWT-SVID.
#[derive(Debug)]
pub struct JwtIdentity {
    /// Whom it names.
    pub id: SpiffeId,
    /// The token, in its compact form.
    pub token: SecretString,
    /// What it is for.
    pub hint: Option<String>,
}

/// Sets of identities, as they change.
pub struct Identities(Streaming<X509svidResponse>);

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(text: &str) -> Result<Self, ParseEndpointError> {
        let path = match text.split_once(':') {
            _ if text.starts_with('/') => text,
            // `unix:/path` and `unix:///path` are the same (SPIFFE Workload Endpoint, section 4).
            Some(("unix", rest)) => rest.strip_prefix("//").unwrap_or(rest),
            Some(("tcp", _)) => return Err(ParseEndpointError::Network),
            _ => return Err(ParseEndpointError::Malformed),
        };
        let is_plain = path.starts_with('/') && !path.contains(['\0', '?', '#']);
        match is_plain && path.len() > 1 {
            true => Ok(Self(path.into())),
            false => Err(ParseEndpointError::Malformed),
        }
    }
}

impl Endpoint {
    /// The path of the socket.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Client {
    /// Connects.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect { path: endpoint.0.clone(), source };
        let target = format!("unix:{}", endpoint.0.display());
        let channel = transport::Endpoint::from_shared(target).map_err(failed)?;
        let channel = channel.connect().await.map_err(failed)?;
        let api = SpiffeWorkloadApiClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
        Ok(Self { api })
    }

    /// Sets of identities, the first as soon as there is one.
    pub async fn identities(&mut self) -> Result<Identities, ClientError> {
        let stream = self.api.fetch_x509svid(signed(X509svidRequest {})).await.map_err(told)?;
        Ok(Identities(stream.into_inner()))
    }

    /// JWT-SVIDs for audiences: of one identity, or of all.
    pub async fn tokens(
        &mut self,
        audience: Vec<String>,
        id: Option<&SpiffeId>,
    ) -> Result<Vec<JwtIdentity>, ClientError> {
        let spiffe_id = id.map(ToString::to_string).unwrap_or_default();
        let request = signed(JwtsvidRequest { audience, spiffe_id });
        let answer = self.api.fetch_jwtsvid(request).await.map_err(told)?.into_inner();
        let tokens = answer.svids.into_iter().map(|svid| {
            Ok(JwtIdentity {
                id: svid.spiffe_id.parse()?,
                token: svid.svid.into(),
                hint: Some(svid.hint).filter(|hint| !hint.is_empty()),
            })
        });
        match tokens.collect::<Result<Vec<_>, ClientError>>()? {
            tokens if tokens.is_empty() => Err(ClientError::Malformed("it has no JWT-SVID")),
            tokens => Ok(tokens),
        }
    }
}

impl Identities {
    /// The next set; it replaces the one before.
    pub async fn next(&mut self) -> Result<WorkloadIdentities, ClientError> {
        let answer = self.0.message().await.map_err(told)?.ok_or(ClientError::Ended)?;
        let identities = answer.svids.into_iter().map(Identity::read);
        let identities = identities.collect::<Result<Vec<_>, _>>()?;
        if identities.is_empty() {
            return Err(ClientError::Malformed("it has no X.509-SVID"));
        }
        let foreign = answer.federated_bundles.into_iter().map(|(domain, anchors)| {
            let name = domain.strip_prefix("spiffe://").unwrap_or(&domain);
            Ok((name.parse()?, split_certificates(&anchors)?))
        });
        Ok(WorkloadIdentities { identities, foreign: foreign.collect::<Result<_, ClientError>>()? })
    }
}

impl Identity {
    fn read(svid: X509svid) -> Result<Self, ClientError> {
        let key = IdentityKey(Zeroizing::new(svid.x509_svid_key));
        let chain = split_certificates(&svid.x509_svid)?;
        let leaf = chain.first().ok_or(ClientError::Malformed("an X.509-SVID is empty"))?;
        let (id, not_after) = read_x509_svid(leaf)?;
        if id.as_str() != svid.spiffe_id {
            return Err(ClientError::Malformed("a certificate names another ID than the answer"));
        }
        let anchors = split_certificates(&svid.bundle)?;
        if anchors.is_empty() || key.0.is_empty() {
            return Err(ClientError::Malformed("an X.509-SVID has no key or no bundle"));
        }
        let hint = Some(svid.hint).filter(|hint| !hint.is_empty());
        Ok(Self { svid: X509Svid { chain, id, not_after }, key, anchors, hint })
    }

    /// Whom it names.
    pub fn id(&self) -> &SpiffeId {
        &self.svid.id
    }

    /// When it ends.
    pub fn not_after(&self) -> Timestamp {
        self.svid.not_after
    }
}

impl IdentityKey {
    /// The key in PEM.
    pub fn to_pem(&self) -> SecretString {
        private_key_pem(&self.0)
    }

    /// The key as PKCS#8.
    pub fn as_pkcs8(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityKey").finish_non_exhaustive()
    }
}

/// The sign of a workload's request.
fn signed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

fn told(status: Status) -> ClientError {
    let message = status.message().to_owned();
    match status.code() {
        Code::PermissionDenied => ClientError::Denied(message),
        Code::Unavailable | Code::ResourceExhausted => ClientError::Unavailable(message),
        _ => ClientError::Refused(message),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn an_endpoint_is_a_unix_socket() {
        for text in ["unix:///run/a.sock", "unix:/run/a.sock", "/run/a.sock"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.path().to_str().unwrap(), "/run/a.sock", "{text}");
        }
        for text in
            ["", "unix:", "unix://", "unix:a.sock", "unix:///", "unix:///a?b", "a.sock", "http://a"]
        {
            assert_eq!(text.parse::<Endpoint>(), Err(ParseEndpointError::Malformed), "{text}");
        }
        assert_eq!("tcp://127.0.0.1:8081".parse::<Endpoint>(), Err(ParseEndpointError::Network));
    }
}
