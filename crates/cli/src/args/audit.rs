//! `audit`, `usage`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use nullius_model::{
    AuditId, AuditKind, AuditOutcome, ClusterName, Kind, SessionId, Timestamp, Ttl, UserName,
};

use crate::completion;

/// `nullius audit …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List events, newest first; audit.k8s.io/v1 events with `-o kubernetes`
    List(AuditList),
    /// Show everything about one request or action
    Show {
        /// The Audit-ID, as lists, answers of the hub and the API server's own log show it
        #[arg(value_name = "AUDIT-ID")]
        id: AuditId,
    },
    /// Follow events as they come; JSON lines with `-o json` or `-o kubernetes`
    Tail(AuditFilter),
    /// Check that the chain is whole; exit code 2 when it is not
    ///
    /// From inside, a trail that was cut at its end or written anew cannot be told from a whole one: give the checkpoints
    /// that were kept elsewhere with `--anchor`. A hub in wrong hands may answer what it likes: read its state directory,
    /// or a copy of it, with `--state`.
    Verify(AuditVerify),
}

/// `nullius audit verify`.
#[derive(Debug, Clone, Default, Args)]
#[command(
    after_help = "Examples:\n  nullius audit verify --anchor /mnt/worm/checkpoints.jsonl\n  nullius audit verify --anchor /mnt/worm/checkpoints.jsonl --state /backup/nullius"
)]
pub struct AuditVerify {
    /// Compare with the checkpoints in this file, or in a directory that the hub had as its anchor
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub anchor: Option<PathBuf>,
    /// Read this state directory and ask no hub
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub state: Option<PathBuf>,
    /// The passphrase that opens the keys of that directory stands in this file
    #[arg(long, value_name = "FILE", requires = "state", value_hint = ValueHint::FilePath)]
    pub key_passphrase_file: Option<PathBuf>,
    /// This shell command prints the passphrase that opens the keys of that directory
    #[arg(
        long,
        value_name = "COMMAND",
        requires = "state",
        conflicts_with = "key_passphrase_file"
    )]
    pub key_passphrase_command: Option<String>,
    /// The public half of the audit signer, as `nullius hub keys list` shows it; nothing of the directory is opened then
    #[arg(long, value_name = "KEY", requires = "state", conflicts_with_all = ["key_passphrase_file", "key_passphrase_command"])]
    pub audit_key: Option<String>,
}

/// `nullius audit list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius audit list --user ada --since 1h\n  nullius audit list -c dev --resource pods/exec -o json\n  nullius audit list --outcome denied"
)]
pub(crate) struct AuditList {
    #[command(flatten)]
    pub(crate) filter: AuditFilter,
    /// Not before: a time (RFC 3339) or a duration back from now, `90s`, `15m`, `8h`, `30d`
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// Before: a time or a duration back from now
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<Moment>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

/// Which events.
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditFilter {
    /// Of this person
    #[arg(long, value_name = "NAME", add = completion::names(Kind::User))]
    pub(crate) user: Option<UserName>,
    /// Of this cluster
    #[arg(short, long, value_name = "NAME", add = completion::names(Kind::Cluster))]
    pub(crate) cluster: Option<ClusterName>,
    /// Of this session
    #[arg(long, value_name = "SESSION", add = completion::sessions())]
    pub(crate) session: Option<SessionId>,
    /// Of this kind
    #[arg(long, value_name = "KIND", value_parser = audit_kinds())]
    pub(crate) kind: Option<AuditKind>,
    /// That ended so
    #[arg(long, value_name = "OUTCOME", value_parser = audit_outcomes())]
    pub(crate) outcome: Option<AuditOutcome>,
    /// Kubernetes requests with this verb
    #[arg(long, value_name = "VERB")]
    pub(crate) verb: Option<String>,
    /// Kubernetes requests on this resource, `pods` or `pods/exec`
    #[arg(long, value_name = "RESOURCE")]
    pub(crate) resource: Option<String>,
    /// Kubernetes requests in this namespace, and calls between workloads to it
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

/// `nullius usage …`.
#[derive(Debug, Subcommand)]
pub(crate) enum UsageCommand {
    /// Show who used what where, how often and when last
    Show(UsageShow),
}

/// `nullius usage show`.
#[derive(Debug, Args)]
pub(crate) struct UsageShow {
    /// Of this person
    #[arg(long, value_name = "NAME", add = completion::names(Kind::User))]
    pub(crate) user: Option<UserName>,
    /// In this cluster
    #[arg(short, long, value_name = "NAME", add = completion::names(Kind::Cluster))]
    pub(crate) cluster: Option<ClusterName>,
    /// Used since: a time (RFC 3339) or a duration back from now
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Moment>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

/// An instant, or a time back from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Timestamp),
    Ago(Ttl),
}

impl Moment {
    /// The instant, seen from now.
    pub(crate) fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ttl) => {
                let length = jiff::SignedDuration::from_secs(ttl.as_secs().into());
                now.checked_sub(length).unwrap_or(Timestamp::MIN)
            }
        }
    }
}

impl std::str::FromStr for Moment {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ttl) = text.parse() {
            return Ok(Self::Ago(ttl));
        }
        let at = text.parse().map(Self::At);
        at.map_err(|_| {
            "write a duration such as `15m` or a time such as `2026-05-01T12:00:00Z`".to_owned()
        })
    }
}

const KINDS: [AuditKind; 20] = [
    AuditKind::SignIn,
    AuditKind::StepUp,
    AuditKind::Refresh,
    AuditKind::SessionEnd,
    AuditKind::Enrol,
    AuditKind::KubeRequest,
    AuditKind::ObjectChange,
    AuditKind::Read,
    AuditKind::Join,
    AuditKind::AgentEnrol,
    AuditKind::AgentConnection,
    AuditKind::Provision,
    AuditKind::Flush,
    AuditKind::Lifecycle,
    AuditKind::Admission,
    AuditKind::ApiServer,
    AuditKind::Certify,
    AuditKind::Mesh,
    AuditKind::Rotate,
    AuditKind::Alarm,
];

const OUTCOMES: [AuditOutcome; 4] =
    [AuditOutcome::Begun, AuditOutcome::Done, AuditOutcome::Denied, AuditOutcome::Failed];

fn audit_kinds() -> impl clap::builder::TypedValueParser<Value = AuditKind> {
    words(KINDS.map(|kind| (kind.as_str(), kind)))
}

fn audit_outcomes() -> impl clap::builder::TypedValueParser<Value = AuditOutcome> {
    words(OUTCOMES.map(|outcome| (outcome.as_str(), outcome)))
}

/// One of some words; clap lists them and suggests the near one.
fn words<T: Copy + Send + Sync + 'static, const N: usize>(
    known: [(&'static str, T); N],
) -> impl clap::builder::TypedValueParser<Value = T> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    PossibleValuesParser::new(known.map(|(word, _)| word)).try_map(move |word| {
        let found = known.iter().find(|(known, _)| *known == word);
        found.map(|(_, value)| *value).ok_or_else(|| format!("`{word}` is unknown"))
    })
}
