//! `cargo xtask generate`: files that are made from the code; a test of each crate checks that they are up to date.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

/// A file, and the package and example that prints it.
const FILES: &[(&str, &str, &str)] = &[("docs/reference/cli.md", "nullius-cli", "reference")];

/// Writes the files anew.
pub(crate) fn write(root: &Path) -> Result<()> {
    for (file, text) in made(root)? {
        let path = root.join(file);
        fs::create_dir_all(path.parent().context("a file has a folder")?)?;
        fs::write(&path, text)?;
        println!("wrote {file}");
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
