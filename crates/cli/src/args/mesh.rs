//! `mesh`.

use clap::{Args, Subcommand};
use nullius_model::{ClusterName, Kind, MeshVerdict, Ttl};

use super::{audit::Moment, findings::words};
use crate::completion;

/// `nullius mesh …`.
#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// Show who called whom, how often, and what was decided of it, what was refused first
    ///
    /// Counts are of whole hours, and of whole days where they are older than two. A call that both of its ends saw is shown once, as its
    /// destination saw it. Beside the forms of every command `-o` takes `dot` (Graphviz) and `svg`, a picture.
    Graph(MeshGraphArgs),
    /// Show when a cluster told of its mesh last, what was decided since an hour, and what is not known
    Status(MeshStatusArgs),
}

/// `nullius mesh graph`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius mesh graph -c dev -n shop\n  nullius mesh graph -c dev --verdict denied --since 24h -o wide\n  nullius mesh graph -c dev -o svg > dev.svg\n  nullius mesh graph -c dev -o dot | dot -Tpdf > dev.pdf"
)]
pub(crate) struct MeshGraphArgs {
    #[command(flatten)]
    pub(crate) of: OfCluster,
    /// Calls from or to this namespace
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Calls seen since: a time (RFC 3339) or a duration back from now, `15m`, `24h`, `30d`
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub(crate) since: Moment,
    /// Calls of which this became
    #[arg(long, value_name = "VERDICT", value_parser = words(MeshVerdict::ALL, MeshVerdict::as_str))]
    pub(crate) verdict: Option<MeshVerdict>,
}

impl MeshGraphArgs {
    /// All calls of the last hour.
    pub(crate) fn of_an_hour(of: OfCluster) -> Self {
        let since = Moment::Ago(Ttl::from_secs(3_600));
        Self { of, namespace: None, since, verdict: None }
    }
}

/// `nullius mesh status`.
#[derive(Debug, Args)]
pub(crate) struct MeshStatusArgs {
    #[command(flatten)]
    pub(crate) of: OfCluster,
}

/// `-c`, which only a hub with one cluster can do without.
#[derive(Debug, Clone, Args)]
pub(crate) struct OfCluster {
    /// The cluster; may be left out where you may see one alone
    #[arg(short, long, value_name = "NAME", add = completion::names(Kind::Cluster))]
    pub(crate) cluster: Option<ClusterName>,
}
