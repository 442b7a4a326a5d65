//! `svid`.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use nullius_model::{SpiffeId, TrustDomain, Ttl};
use nullius_workload::Endpoint;

/// `nullius svid …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SvidCommand {
    /// Say whom a certificate or token proves, by trust bundles; exit code 2 where it proves nobody
    ///
    /// An X.509-SVID is PEM, the leaf first; a JWT-SVID is one line, and proves its workload to one audience alone. Only the
    /// bundle of the SVID's own trust domain counts. Nothing is asked of a hub or a cluster.
    Validate(SvidValidate),
    /// Fetch the identities that the node gives this process: X.509-SVIDs, or with `--audience` JWT-SVIDs
    ///
    /// The node recognises the process by itself: nothing is signed in, and nothing is configured. Keys and certificates are not shown;
    /// `--write` puts them into files. Exit code 2 where the process has no identity.
    Fetch(SvidFetch),
    /// Stay, and tell each change of the identities that the node gives this process
    ///
    /// With `--write` the files are kept up to date: all of them change at once. While the node is away they stay as they are, and it is
    /// asked again.
    Watch(SvidWatch),
}

/// Where the Workload API is.
#[derive(Debug, Args)]
pub(crate) struct WorkloadSocket {
    /// The socket of the Workload API, `unix:///PATH` or a path
    #[arg(
        long,
        env = "SPIFFE_ENDPOINT_SOCKET",
        value_name = "SOCKET",
        default_value = "unix:///run/nullius/workload/api.sock",
        hide_env_values = true
    )]
    pub(crate) socket: Endpoint,
}

/// `nullius svid fetch`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius svid fetch\n  nullius svid fetch --write /run/identity\n  nullius svid fetch --audience store"
)]
pub(crate) struct SvidFetch {
    #[command(flatten)]
    pub(crate) at: WorkloadSocket,
    /// Whom a JWT-SVID is for; may stand several times
    #[arg(long, value_name = "AUDIENCE", conflicts_with = "write")]
    pub(crate) audience: Vec<String>,
    /// Only the JWT-SVID of this identity
    #[arg(long, value_name = "SPIFFE_ID", requires = "audience")]
    pub(crate) id: Option<SpiffeId>,
    /// A folder for `svid.pem`, `svid_key.pem` and `bundle.pem`, with mode 0600
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) write: Option<PathBuf>,
    /// How long the node has to answer
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub(crate) timeout: Ttl,
}

/// `nullius svid watch`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius svid watch\n  nullius svid watch --write /run/identity --socket /run/nullius/workload/api.sock"
)]
pub(crate) struct SvidWatch {
    #[command(flatten)]
    pub(crate) at: WorkloadSocket,
    /// A folder for `svid.pem`, `svid_key.pem` and `bundle.pem`, with mode 0600
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) write: Option<PathBuf>,
}

/// `nullius svid validate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius svid validate svid.pem --bundle shop.example.org=bundle.json\n  nullius svid validate token.jwt --bundle shop.example.org=bundle.json --audience bank\n  cat svid.pem | nullius svid validate - --bundle a.example=a.pem --bundle b.example=b.json -o json"
)]
pub(crate) struct SvidValidate {
    /// The file with the SVID, or `-`
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// A trust domain and the file with its bundle: SPIFFE's JSON, or its CA certificates in PEM
    #[arg(long = "bundle", value_name = "DOMAIN=FILE", required = true)]
    pub(crate) bundles: Vec<BundleFile>,
    /// Whom a JWT-SVID must be for
    #[arg(long, value_name = "AUDIENCE")]
    pub(crate) audience: Option<String>,
}

/// Where the bundle of a trust domain stands.
#[derive(Debug, Clone)]
pub(crate) struct BundleFile {
    pub(crate) domain: TrustDomain,
    pub(crate) file: PathBuf,
}

impl FromStr for BundleFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (domain, file) = text.split_once('=').ok_or_else(|| {
            "write `DOMAIN=FILE`, such as `shop.example.org=bundle.json`".to_owned()
        })?;
        let domain = domain.parse().map_err(|error| format!("{error}"))?;
        if file.is_empty() {
            return Err("the file is missing after `=`".to_owned());
        }
        Ok(Self { domain, file: file.into() })
    }
}
