//! `cel`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nullius_cel::Dialect;

/// `nullius cel …`.
#[derive(Debug, Subcommand)]
pub(crate) enum CelCommand {
    /// Evaluate an expression, or many
    ///
    /// An expression means what it means to the API server of the version: the same types, libraries, errors and cost. With
    /// `-o json` the value stands in its tagged form, such as `{"t":"int","v":"1"}`, beside its type and cost.
    ///
    /// With `--batch` each line of standard input is one `{"id","expr","vars","env"}`, and each line of the answer
    /// `{"id","value"}` or `{"id","error"}`.
    Eval(CelEval),
}

/// `nullius cel eval`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius cel eval --expr 'object.spec.replicas <= 3' --vars vars.json\n  nullius cel eval --expr \"'1.2.3'.matches('^[0-9.]+$')\" --env k8s-1.30\n  nullius cel eval --batch < cases.jsonl"
)]
pub(crate) struct CelEval {
    /// The expression
    #[arg(
        long,
        value_name = "EXPR",
        required_unless_present = "batch",
        allow_hyphen_values = true
    )]
    pub(crate) expr: Option<String>,
    /// A JSON file with an object of variables, each as plain JSON or as a tagged value
    #[arg(long, value_name = "FILE", conflicts_with = "batch", value_hint = clap::ValueHint::FilePath)]
    pub(crate) vars: Option<PathBuf>,
    /// The language: the API server's of a version, `k8s-1.27` to `k8s-1.37`, or the specification's, `spec`
    #[arg(long, value_name = "ENV", default_value = "k8s-1.37")]
    pub(crate) env: Dialect,
    /// Read expressions from standard input, one JSON document a line
    #[arg(long, conflicts_with = "expr")]
    pub(crate) batch: bool,
}
