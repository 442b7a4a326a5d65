//! `svid`.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use nullius_model::TrustDomain;

/// `nullius svid …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SvidCommand {
    /// Say whom a certificate or token proves, by trust bundles; exit code 2 where it proves nobody
    ///
    /// An X.509-SVID is PEM, the leaf first; a JWT-SVID is one line, and proves its workload to one audience alone. Only the
    /// bundle of the SVID's own trust domain counts. Nothing is asked of a hub or a cluster.
    Validate(SvidValidate),
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
