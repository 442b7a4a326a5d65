//! `test`.

use std::path::PathBuf;

use clap::Args;

/// `nullius test`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius test\n  nullius test policies/ --coverage --min-coverage 90\n  nullius test policies/replicas.test.yaml --run 'denied' --explain\n  nullius test . -o junit > tests.xml"
)]
pub(crate) struct Test {
    /// A file of tests, or a folder with files named `*.test.yaml`
    #[arg(value_name = "PATH", default_value = ".", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    /// Only the cases whose name this regular expression matches
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    pub(crate) run: Option<regex::Regex>,
    /// Show what each policy, binding and expression came to
    #[arg(long)]
    pub(crate) explain: bool,
    /// Show which expressions of the policies the cases have seen from both sides
    #[arg(long)]
    pub(crate) coverage: bool,
    /// How much of the policies the cases must have seen, in percent; less is exit code 2
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) min_coverage: Option<u8>,
    /// End well where no test stands in the paths
    #[arg(long)]
    pub(crate) allow_empty: bool,
}

pub(super) fn pattern(text: &str) -> Result<regex::Regex, String> {
    regex::Regex::new(text).map_err(|error| {
        let told = error.to_string();
        told.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}
