//! `intention`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use nullius_model::{Namespace, Timestamp, TrustDomain};

use super::Files;

/// `nullius intention …`.
#[derive(Debug, Subcommand)]
pub(crate) enum IntentionCommand {
    /// Say whether a workload may call another one, by which rule, and what to do where it may not
    ///
    /// Asks the intentions of files as the destination's proxy would. Exit code 0 when it is allowed, 2 when it is denied, and when
    /// requests decide and none was given.
    Explain(Box<IntentionExplain>),
    /// Test intentions by calls in files, and what must come of them; exit code 2 where something else comes
    Test(IntentionTest),
}

/// `nullius intention explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius intention explain --from shop/web --to shop/orders:8080 -f mesh/\n  nullius intention explain --from spiffe://dev.example/ns/shop/sa/web --to shop/orders:8080 --method GET --path /orders/1 -f mesh/\n  nullius intention explain --from 10.0.0.7 --to shop/orders:8080 --tcp -f mesh/ -o json\n  nullius intention explain --from shop/web --to shop/orders:8080 --request 'POST /orders' --body @order.json --token token.jwt -f mesh/"
)]
pub(crate) struct IntentionExplain {
    /// Who calls: a SPIFFE ID, a service account `NAMESPACE/NAME` or `NAME`, or an address that has proven no identity
    #[arg(long, value_name = "ID|ACCOUNT|ADDRESS")]
    pub(crate) from: String,
    /// The address from which a workload calls; without it only blocks of all addresses fit
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from_address: Option<IpAddr>,
    /// Who is called: a service account and a port of its pods
    #[arg(long, value_name = "[NAMESPACE/]ACCOUNT:PORT")]
    pub(crate) to: String,
    /// A label of the pods that are called; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// The namespace of accounts that are named without one
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    pub(crate) namespace: Namespace,
    /// The port speaks no HTTP that could be read
    #[arg(long, conflicts_with_all = ["request", "method", "path", "host", "headers", "claims", "token", "body"])]
    pub(crate) tcp: bool,
    /// The request in one word: its method, and path and query as they are sent
    #[arg(long, value_name = "METHOD PATH", value_parser = request, conflicts_with_all = ["method", "path"])]
    pub(crate) request: Option<(String, String)>,
    /// The method of the request; `GET` unless it is said
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Path and query of the request, as they are sent
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// The host of the request; the service account unless it is said
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// A header of the request; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) headers: Vec<(String, String)>,
    /// A claim of the request's token, as if it was verified; JSON where it is JSON, `iss` is the issuer; may be repeated
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) claims: Vec<(String, String)>,
    /// A file with the request's token; the answer says whether it was verified, by keys that an intention holds (`issuers[].jwks`), or
    /// whether its claims are assumed
    #[arg(long, value_name = "FILE", conflicts_with = "claims", value_hint = clap::ValueHint::FilePath)]
    pub(crate) token: Option<PathBuf>,
    /// The body of the request, or `@FILE`; JSON unless a header says otherwise
    #[arg(long, value_name = "TEXT|@FILE")]
    pub(crate) body: Option<String>,
    #[command(flatten)]
    pub(crate) files: Files,
    /// Intentions of a bundle of the hub: a file or a folder; may be repeated
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) fleet: Vec<PathBuf>,
    /// The trust domain of the cluster
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub(crate) trust_domain: TrustDomain,
    /// When it is, `2027-01-31T00:00:00Z`; the present unless it is said
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Timestamp>,
}

/// `nullius intention test`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius intention test mesh/\n  nullius intention test mesh/orders.test.yaml --coverage --min-coverage 100\n  nullius intention test . -o junit > intentions.xml"
)]
pub(crate) struct IntentionTest {
    /// A file of tests, or a folder with files named `*.test.yaml`
    #[arg(value_name = "PATH", default_value = ".", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// Only the cases whose name this regular expression matches
    #[arg(long, value_name = "REGEX", value_parser = super::test::pattern)]
    pub(crate) run: Option<regex::Regex>,
    /// Show which rules of the intentions have decided no case
    #[arg(long)]
    pub(crate) coverage: bool,
    /// How many of the rules must have decided a case, in percent; less is exit code 2
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) min_coverage: Option<u8>,
}

fn request(text: &str) -> Result<(String, String), String> {
    match text.split_once(' ') {
        Some((method, path)) if !method.is_empty() && path.starts_with('/') => {
            Ok((method.to_owned(), path.to_owned()))
        }
        Some(_) | None => Err("write `METHOD /PATH`".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write `NAME=VALUE`".to_owned()),
    }
}
