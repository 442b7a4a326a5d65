//! `cargo xtask ci`: the gate. Format, lints, structure, then every test; that generated files are what the code makes
//! is a test as well.

use std::{ffi::OsString, path::Path, process::Command, time::Instant};

use anyhow::{Context as _, Result, bail};

use crate::{test, tidy};

/// Runs every step; the first that fails ends the gate with its name.
pub(crate) fn run(root: &Path) -> Result<()> {
    step("format", || cargo(root, &["fmt", "--all", "--check"]))?;
    step("tidy", || tidy::run(root))?;
    step("clippy", || {
        cargo(
            root,
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ],
        )
    })?;
    step("documentation", || document(root))?;
    step("dependencies", || deny(root))?;
    step("tests", || test::run(root, &test::Arguments::default()))
}

fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("ci: {name}");
    let began = Instant::now();
    work().with_context(|| format!("the step `{name}` failed"))?;
    eprintln!("ci: {name} done in {:.0} s", began.elapsed().as_secs_f32());
    Ok(())
}

/// The cargo that runs this task: another toolchain's would build everything once more.
pub(crate) fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs cargo in the repository.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    let status = Command::new(cargo_program())
        .args(arguments)
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    if status.success() { Ok(()) } else { bail!("`cargo {}` failed", arguments.join(" ")) }
}

/// Links and marks in the documentation of our own code, which is read with its private parts.
fn document(root: &Path) -> Result<()> {
    let arguments =
        ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked", "--quiet"];
    let status = Command::new(cargo_program())
        .args(arguments)
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    if status.success() { Ok(()) } else { bail!("`cargo {}` failed", arguments.join(" ")) }
}

/// `tidy` has checked bans, licences and sources; where cargo-deny is there it checks them once more, in its own way.
fn deny(root: &Path) -> Result<()> {
    let present = Command::new("cargo-deny")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !present {
        eprintln!(
            "ci: cargo-deny is not installed: `tidy` has checked bans, licences and sources; advisories are not checked"
        );
        return Ok(());
    }
    cargo(root, &["deny", "--offline", "check", "bans", "licenses", "sources"])
}
