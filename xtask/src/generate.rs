//! `cargo xtask generate`: files that are made from the code, ours and Kubernetes'; tests check that they are up to date.

mod kinds;

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

/// The arguments of `cargo xtask generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only what is made from Kubernetes' own code, by Go.
    #[arg(long)]
    kinds: bool,
    /// Writes nothing, and fails if a file would change.
    #[arg(long)]
    check: bool,
}

/// A file, and the package and example that prints it.
const FILES: &[(&str, &str, &str)] = &[("docs/reference/cli.md", "nullius-cli", "reference")];

/// Writes the files anew, or compares them.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let mut files = if arguments.kinds { Vec::new() } else { made(root)? };
    match kinds::made(root)? {
        Some(of_kubernetes) => files.extend(of_kubernetes),
        None if arguments.kinds => {
            bail!("`go` is not on PATH: install Go 1.26 from https://go.dev/dl")
        }
        None => println!(
            "left crates/kinds as it is: Go makes it from Kubernetes, and `go` is not on PATH"
        ),
    }
    let mut stale = Vec::new();
    for (file, text) in files {
        let path = root.join(file);
        let standing = fs::read_to_string(&path).unwrap_or_default();
        if standing == text {
            println!("{file} is up to date");
        } else if arguments.check {
            stale.push(file);
        } else {
            fs::create_dir_all(path.parent().context("a file has a folder")?)?;
            fs::write(&path, text)?;
            println!("wrote {file}");
        }
    }
    if !stale.is_empty() {
        bail!("not up to date: {}; run `cargo xtask generate`", stale.join(", "));
    }
    Ok(())
}

fn made(root: &Path) -> Result<Vec<(&'static str, String)>> {
    FILES
        .iter()
        .map(|(file, package, example)| {
            let output = Command::new(crate::ci::cargo_program())
                .args(["run", "--quiet", "--locked", "--package", package, "--example", example])
                .current_dir(root)
                .output()?;
            if !output.status.success() {
                bail!("cannot make {file}: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok((*file, String::from_utf8(output.stdout)?))
        })
        .collect()
}
