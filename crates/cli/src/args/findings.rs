//! `findings`.

use clap::{Args, Subcommand};
use nullius_model::{ClusterName, FindingState, Kind, Severity};

use super::audit::Moment;
use crate::completion;

/// `nullius findings …`.
#[derive(Debug, Subcommand)]
pub(crate) enum FindingsCommand {
    /// List what is not as it should be, the worst first
    ///
    /// Also as documents for a cluster that has the kinds, `-o policyreport` (wgpolicyk8s.io/v1alpha2) or `-o openreports`
    /// (openreports.io/v1alpha1): a report for each namespace, and one for objects of the cluster. They hold what was
    /// mended too, as passed. Nothing is written into a cluster by itself.
    List(FindingsList),
    /// Show one finding in full
    Show {
        /// The finding's id, or enough of its beginning
        #[arg(value_name = "ID", add = completion::findings())]
        id: String,
    },
}

/// `nullius findings list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius findings list -c dev -n shop\n  nullius findings list --severity high --since 7d\n  nullius findings list --state resolved -o csv\n  nullius findings list -c dev -o policyreport | kubectl apply -f -"
)]
pub(crate) struct FindingsList {
    /// In this cluster
    #[arg(short, long, value_name = "NAME", add = completion::names(Kind::Cluster))]
    pub(crate) cluster: Option<ClusterName>,
    /// Of objects in this namespace
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// At least so bad
    #[arg(long, value_name = "SEVERITY", value_parser = severities())]
    pub(crate) severity: Option<Severity>,
    /// Of this policy, as lists show it: `PodSecurity/restricted`
    #[arg(long, value_name = "POLICY")]
    pub(crate) policy: Option<String>,
    /// That stand so; without it what is open or waived
    #[arg(long, value_name = "STATE", value_parser = states())]
    pub(crate) state: Option<FindingState>,
    /// Of objects of this kind
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Seen or resolved since: a time (RFC 3339) or a duration back from now
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// At most so many; reports hold all
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

fn severities() -> impl clap::builder::TypedValueParser<Value = Severity> {
    words(Severity::ALL, Severity::as_str)
}

fn states() -> impl clap::builder::TypedValueParser<Value = FindingState> {
    words(FindingState::ALL, FindingState::as_str)
}

/// One of some words; clap lists them and suggests the near one.
pub(super) fn words<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    word_of: fn(T) -> &'static str,
) -> impl clap::builder::TypedValueParser<Value = T> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(all.iter().map(|value| word_of(*value))).try_map(move |word| {
        let found = all.iter().copied().find(|value| word_of(*value) == word);
        found.ok_or_else(|| format!("`{word}` is unknown"))
    })
}
