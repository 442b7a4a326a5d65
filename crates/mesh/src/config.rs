//! The proxy's file: what it listens on, whom it dials, and where identity and intentions stand.
//!
//! Fields that are not known are refused, and every fault names file, line and column. What is read here is checked whole before
//! anything starts; files that it names are read later, and again when they change.

mod form;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use nullius_intention::Protocol;
use nullius_manifest::{Dialect, FieldFault, Node, Reader, SyntaxError, parse};
use nullius_model::{API_VERSION, Namespace, SpiffeId, TrustDomain};
use serde::Deserialize as _;

use crate::{Exports, Via};

/// The kind.
const KIND: &str = "ProxyConfiguration";

/// A proxy's settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that says all this, where it is one.
    pub source: Option<PathBuf>,
    /// Who it is.
    pub identity: IdentityFiles,
    /// Whom intentions know it as, where its ID does not say that.
    pub workload: Option<WorkloadName>,
    /// Labels of the workload.
    pub labels: BTreeMap<String, String>,
    /// Files and folders with the cluster's intentions.
    pub intentions: Vec<PathBuf>,
    /// Files and folders with intentions of the fleet.
    pub fleet: Vec<PathBuf>,
    /// Whose tokens count beside identities.
    pub issuers: BTreeMap<Box<str>, KeysFrom>,
    /// Where others reach the workload.
    pub listeners: Vec<Listener>,
    /// Where workloads of other clusters come in, if anywhere.
    pub gateway: Option<GatewayListener>,
    /// Whom the workload reaches through the proxy.
    pub upstreams: Vec<Upstream>,
    /// Where attempts are written.
    pub access_log: AccessLogTo,
    /// Where health and metrics are asked for, without TLS.
    pub health: Option<SocketAddr>,
}

/// The files of an identity.
#[derive(Debug, Clone)]
pub struct IdentityFiles {
    /// The SVID in PEM, the leaf first.
    pub certificate: PathBuf,
    /// Its key in PEM.
    pub key: PathBuf,
    /// Bundles (SPIFFE's JSON, or CA certificates in PEM) by trust domain.
    pub bundles: BTreeMap<TrustDomain, PathBuf>,
}

/// Keys of an issuer (JWKS).
#[derive(Debug, Clone)]
pub enum KeysFrom {
    /// In a file, which is read again when it changes.
    File(PathBuf),
    /// At an `https` address.
    Url {
        /// The address.
        url: Box<str>,
        /// A file with the authorities in PEM that stand behind its server; without, those that browsers believe.
        authorities: Option<PathBuf>,
    },
}

/// Whom intentions know a workload as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadName {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its service account.
    pub service_account: String,
}

/// How connections look on the wire; ALPN tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wire {
    /// HTTP/2 CONNECT inside mTLS at the application's port (`nullius-hbone`).
    Hbone,
    /// HTTP/2 CONNECT inside mTLS at a port of its own, 15008, as Istio's ambient proxies speak it (`h2`).
    Istio,
    /// The application's bytes inside mTLS, as Envoy and others speak it.
    Tls,
}

impl Wire {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hbone => "hbone",
            Self::Istio => "istio",
            Self::Tls => "tls",
        }
    }
}

/// Where others reach the workload.
#[derive(Debug, Clone)]
pub struct Listener {
    /// What the access log calls it.
    pub name: Arc<str>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// What is spoken there.
    pub wires: BTreeSet<Wire>,
    /// Where what arrives is for.
    pub ports: Ports,
}

/// Which ports of the workload a listener is for.
#[derive(Debug, Clone)]
pub enum Ports {
    /// The one that it listens at.
    Own(Port),
    /// Those that a CONNECT may name.
    Named(BTreeMap<u16, Port>),
}

/// A port of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Where the application listens.
    pub forward: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
}

/// Where workloads of other clusters come in.
#[derive(Debug, Clone)]
pub struct GatewayListener {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it leads to, and for whom.
    pub exports: Arc<Exports>,
}

/// Whom the workload reaches through the proxy.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// What the access log calls it.
    pub name: Arc<str>,
    /// Where the application connects to.
    pub listen: SocketAddr,
    /// Whom it is for.
    pub to: Reached,
}

/// Whom an upstream is for.
#[derive(Debug, Clone)]
pub enum Reached {
    /// A workload at an address.
    Workload(At),
    /// A Service of another cluster, through a gateway there.
    Service(Arc<Via>),
}

/// A workload at an address.
#[derive(Debug, Clone)]
pub struct At {
    /// The destination as it is known to itself.
    pub destination: SocketAddr,
    /// Where it is dialled.
    pub dial: SocketAddr,
    /// What is spoken there.
    pub wire: Wire,
    /// Who may be there.
    pub expect: Arc<[SpiffeId]>,
    /// The address to dial from.
    pub source: Option<IpAddr>,
}

/// Where attempts are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTo {
    /// Standard output.
    Stdout,
    /// Nowhere.
    Off,
    /// The end of a file.
    File(PathBuf),
}

/// A file that cannot be used, with every fault.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<ConfigFault>);

/// A fault and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// The file.
    pub file: String,
    /// Line and column, counted from 1; none for the file as a whole.
    pub place: Option<(usize, usize)>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.escape_debug();
        match self.place {
            Some((line, column)) => write!(f, "{file}:{line}:{column}: {}", self.message),
            None => write!(f, "{file}: {}", self.message),
        }
    }
}

impl Config {
    /// Reads and checks a file. Paths in it are taken from its own folder.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let name = file.display().to_string();
        let fault = |place, message: String| {
            ConfigError(vec![ConfigFault { file: name.clone(), place, message }])
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| fault(None, format!("it cannot be read: {error}")))?;
        let read = Self::parse(&name, file.parent().unwrap_or(Path::new("")), &text)?;
        Ok(Self { source: Some(file.to_owned()), ..read })
    }

    /// Reads and checks a text.
    pub fn parse(file: &str, folder: &Path, text: &str) -> Result<Self, ConfigError> {
        let fault = |place, message: String| {
            ConfigError(vec![ConfigFault { file: file.to_owned(), place, message }])
        };
        let documents = parse(text, Dialect::Strict).map_err(|error| {
            let SyntaxError { line, column, message } = error;
            fault(Some((line, column)), message)
        })?;
        let [document] = documents.as_slice() else {
            let told = format!("it has {} documents; write one", documents.len());
            return Err(fault(None, told));
        };
        let text_of = |name| document.child(name).and_then(Node::text);
        if text_of("apiVersion") != Some(API_VERSION) || text_of("kind") != Some(KIND) {
            let place = document.place();
            let told = format!("expected `apiVersion: {API_VERSION}` and `kind: {KIND}`");
            return Err(fault(Some((place.line, place.column)), told));
        }
        let form = form::File::deserialize(Reader(document)).map_err(|error| {
            let place = document.place_of_text(&error.path);
            let field =
                if error.path.is_empty() { String::new() } else { format!("{}: ", error.path) };
            let told = match &error.fault {
                FieldFault::Unknown { known, .. } => {
                    format!("{error}; these are known here: `{}`", known.join("`, `"))
                }
                FieldFault::Value(_) => format!("{field}{error}"),
            };
            fault(Some((place.line, place.column)), told)
        })?;
        form.check(folder).map_err(|faults| {
            let at = |(field, message): (String, String)| {
                let place = document.place_of_text(&field);
                let message = format!("{field}: {message}");
                ConfigFault {
                    file: file.to_owned(),
                    place: Some((place.line, place.column)),
                    message,
                }
            };
            ConfigError(faults.into_iter().map(at).collect())
        })
    }
}

#[cfg(test)]
mod tests;
