//! `nullius cni`: the plugin of a pod's network, and how it is taken out of a host.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use nullius_cli::{CniArgs, CniCommand, Exit};

/// The longest configuration that is read.
const INPUT_MAX: u64 = 16 * 1024 * 1024;

/// Answers the container runtime. It reads errors from standard output too.
pub(crate) fn run(args: CniArgs) -> Result<ExitCode> {
    if let Some(CniCommand::Remove { programs, networks }) = args.command {
        nullius_node::uninstall(&programs, &networks)?;
        return Ok(Exit::Ok.into());
    }
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mut input = Vec::new();
    io::stdin().take(INPUT_MAX).read_to_end(&mut input).context("cannot read standard input")?;
    let output = nullius_node::run_plugin(&environment, &input);
    io::stdout().write_all(output.text.as_bytes()).context("cannot write the answer")?;
    Ok(if output.is_success { Exit::Ok } else { Exit::Failed }.into())
}
