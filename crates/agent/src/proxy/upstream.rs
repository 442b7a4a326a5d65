//! Connections to the cluster's API server: over TLS, believed by the cluster's CA, which is re-read as it rotates.

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Mutex,
    sync::PoisonError,
    time::Duration,
};

use arc_swap::ArcSwap;
use nullius_kube::ApiServer;
use nullius_tls::{ClientIdentity, HttpVersions, WebConnector, WebRoots};
use nullius_tunnel::{Dial, Dialled};
use tokio::time::Instant;

use crate::{Address, AgentError, net::dial};

const RELOAD: Duration = Duration::from_secs(60);

/// Dials the API server of this cluster and no other.
pub(crate) struct ClusterDial {
    address: Address,
    /// The name in the API server's certificate.
    server_name: String,
    connector: ArcSwap<WebConnector>,
    ca: Option<CaFile>,
}

struct CaFile {
    path: PathBuf,
    seen: Mutex<(Instant, Vec<u8>)>,
}

impl ClusterDial {
    /// To this API server; `ca_file` is where the kubelet rotates the cluster's CA.
    pub(crate) fn new(api: &ApiServer, ca_file: Option<&Path>) -> Result<Self, AgentError> {
        let url = api.url();
        let wrong = || AgentError::Settings(format!("`{url}` is not `https://host:port`"));
        if url.scheme_str() != Some("https") || !matches!(url.path(), "" | "/") {
            return Err(wrong());
        }
        let host = url.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let address = Address { host, port: url.port_u16().unwrap_or(443) };
        let pem = api.roots_pem().ok_or_else(|| {
            AgentError::Settings(
                "the kubeconfig names no `certificate-authority-data` for the API server"
                    .to_owned(),
            )
        })?;
        Ok(Self {
            server_name: api.server_name().unwrap_or(&address.host).to_owned(),
            address,
            connector: ArcSwap::from_pointee(connector(pem.as_bytes())?),
            ca: ca_file.map(|path| CaFile {
                path: path.to_owned(),
                seen: Mutex::new((Instant::now(), Vec::new())),
            }),
        })
    }

    /// Takes a CA that was rotated; a file that cannot be read leaves the last one.
    fn follow_ca(&self) {
        let Some(ca) = &self.ca else { return };
        let mut seen = ca.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0.elapsed() < RELOAD {
            return;
        }
        seen.0 = Instant::now();
        match std::fs::read(&ca.path) {
            Ok(pem) if pem != seen.1 => match connector(&pem) {
                Ok(newer) => {
                    self.connector.store(newer.into());
                    seen.1 = pem;
                }
                Err(error) => tracing::warn!(%error, "keep the API server's former CA"),
            },
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "keep the API server's former CA"),
        }
    }
}

fn connector(pem: &[u8]) -> Result<WebConnector, nullius_tls::TlsError> {
    // No client certificate: the session's token is all that the API server sees of us.
    WebConnector::new(&WebRoots::from_pem(pem)?, &ClientIdentity::Anonymous)
}

impl Dial for ClusterDial {
    fn dial(
        &self,
        offer: HttpVersions,
    ) -> Pin<Box<dyn Future<Output = io::Result<Dialled>> + Send + '_>> {
        Box::pin(async move {
            self.follow_ca();
            let tcp = dial(&self.address).await?;
            let connector = self.connector.load_full();
            let (tls, speaks) = connector.connect(tcp, &self.server_name, offer).await?;
            Ok(Dialled { io: Box::new(tls), speaks })
        })
    }

    fn authority(&self) -> String {
        self.address.to_string()
    }
}
