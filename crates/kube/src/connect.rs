//! The API server, and with whose credential it is asked.
//!
//! The address and its CA are kept apart from credentials: a client is made for exactly one of them, and the
//! administrator's kubeconfig is dropped once the join manifest is applied.

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderValue, Request, Uri,
    header::{AUTHORIZATION, USER_AGENT},
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use tower::util::MapRequestLayer;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The API server cannot be addressed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file of the pod or of the kubeconfig cannot be read.
    #[error("`{path}` cannot be read")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// No certificates where there should be.
    #[error("`{path}` holds no certificates in PEM")]
    NoCertificates { path: PathBuf },
    /// The kubeconfig is not one.
    #[error("the kubeconfig `{path}` cannot be used")]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The kubeconfig turns verification off.
    #[error(
        "the kubeconfig sets `insecure-skip-tls-verify`: put the API server's CA in `certificate-authority-data` instead"
    )]
    VerificationOff,
    /// The address is not a URL.
    #[error("`{0}` is not the address of an API server: write `https://host:port`")]
    Address(String),
    /// TLS or the credential cannot be set up.
    #[error("the client for the API server cannot be made")]
    Client(#[source] Box<kube::Error>),
}

/// How a pod reaches its API server: what the kubelet puts into each pod.
#[derive(Debug, Clone)]
pub struct InCluster {
    /// `KUBERNETES_SERVICE_HOST`.
    pub host: String,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: u16,
    /// The cluster's CA, re-read when it changes.
    pub ca_file: PathBuf,
}

/// A bearer token that is replaced while clients use it.
#[derive(Clone, Default)]
pub struct SharedToken(Arc<ArcSwapOption<HeaderValue>>);

impl SharedToken {
    /// Uses this token from the next request on.
    pub fn replace(&self, token: &SecretString) {
        self.0.store(bearer(token).map(Arc::new));
    }
}

impl std::fmt::Debug for SharedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedToken(..)")
    }
}

pub(crate) fn bearer(token: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// With what a client signs in at the API server.
#[derive(Debug, Clone)]
pub enum Credential {
    /// Nothing: for requests that carry their own, and for public documents.
    None,
    /// A projected ServiceAccount token, re-read as the kubelet rotates it.
    File(PathBuf),
    /// A token that the agent renews.
    Shared(SharedToken),
}

/// An API server: its address and whom it is verified against, without any credential.
#[derive(Debug, Clone)]
pub struct ApiServer {
    config: Config,
}

impl ApiServer {
    /// The API server of the cluster that this pod runs in.
    pub fn in_cluster(pod: &InCluster) -> Result<Self, ConnectError> {
        let host =
            if pod.host.contains(':') { format!("[{}]", pod.host) } else { pod.host.clone() };
        let url = format!("https://{host}:{}", pod.port);
        let address: Uri = url.parse().map_err(|_| ConnectError::Address(url))?;
        let mut config = Config::new(address);
        config.root_cert = Some(read_certificates(&pod.ca_file)?);
        config.root_cert_file = Some(pod.ca_file.clone());
        Ok(Self { config: with_deadlines(config) })
    }

    /// The API server of a kubeconfig's context (`None`: the current one), and its user's client.
    pub(crate) async fn from_kubeconfig(
        path: &std::path::Path,
        context: Option<&str>,
    ) -> Result<(Self, Client), ConnectError> {
        let wrong =
            |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
        let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrong)?;
        if config.accept_invalid_certs {
            return Err(ConnectError::VerificationOff);
        }
        let mut config = with_deadlines(config);
        let administrator =
            Client::try_from(config.clone()).map_err(|e| ConnectError::Client(Box::new(e)))?;
        config.auth_info = AuthInfo::default();
        Ok((Self { config }, administrator))
    }

    /// A client that signs in with exactly this credential.
    pub(crate) fn client(&self, credential: Credential) -> Result<Client, ConnectError> {
        let mut config = self.config.clone();
        let shared = match credential {
            Credential::None => None,
            Credential::File(path) => {
                config.auth_info.token_file = Some(path.display().to_string());
                None
            }
            Credential::Shared(token) => Some(token),
        };
        let builder =
            ClientBuilder::try_from(config).map_err(|e| ConnectError::Client(Box::new(e)))?;
        let Some(token) = shared else { return Ok(builder.build()) };
        let sign_in = MapRequestLayer::new(move |mut request: Request<Body>| {
            if let Some(value) = token.0.load_full() {
                request.headers_mut().insert(AUTHORIZATION, HeaderValue::clone(&value));
            }
            request
        });
        Ok(builder.with_layer(&sign_in).build())
    }

    /// The address, `https://host:port`.
    pub fn url(&self) -> &Uri {
        &self.config.cluster_url
    }

    /// The authorities that the API server is verified against, in PEM; none means the system's.
    pub fn roots_pem(&self) -> Option<String> {
        let roots = self.config.root_cert.as_ref()?;
        let pem = |der: &Vec<u8>| {
            let text = STANDARD.encode(der);
            let lines: Vec<&str> = split_every(&text, 64).collect();
            format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                lines.join("\n")
            )
        };
        Some(roots.iter().map(pem).collect())
    }

    /// The name in the API server's certificate, where it is not the host of the address.
    pub fn server_name(&self) -> Option<&str> {
        self.config.tls_server_name.as_deref()
    }
}

/// Pieces of ASCII text.
fn split_every(text: &str, length: usize) -> impl Iterator<Item = &str> {
    (0..text.len()).step_by(length).map(move |at| &text[at..text.len().min(at + length)])
}

fn with_deadlines(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(ANSWER_TIMEOUT);
    config.write_timeout = Some(ANSWER_TIMEOUT);
    config.reset_reader_on_write = true;
    // The API server's audit and the field managers of what is written say who it was.
    let name = HeaderValue::from_static(concat!("nullius-agent/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, name));
    config
}

fn read_certificates(path: &std::path::Path) -> Result<Vec<Vec<u8>>, ConnectError> {
    let pem = std::fs::read(path)
        .map_err(|source| ConnectError::File { path: path.to_owned(), source })?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match parsed {
        Ok(certificates) if !certificates.is_empty() => {
            Ok(certificates.into_iter().map(|der| der.as_ref().to_vec()).collect())
        }
        _ => Err(ConnectError::NoCertificates { path: path.to_owned() }),
    }
}
