//! The test programs of the workspace, as cargo builds them, and how each is run: as `cargo test` would, but beside one another.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// A program that libtest made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// Package and target, as people read it: `nullius tests/it`.
    pub(super) name: String,
    /// Whether its tests run on the environment of everybody, whole: they wait more than they work.
    pub(super) end_to_end: bool,
    /// Whether it is of a library, whose documentation may have examples.
    pub(super) of_library: bool,
    executable: PathBuf,
    /// Its package, as cargo names it.
    package: String,
    /// The folder of its package, in which it runs.
    folder: PathBuf,
}

/// What cargo says of one thing that it built.
#[derive(Deserialize)]
struct Message {
    reason: String,
    package_id: Option<String>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the test programs of these packages, and what they start.
pub(super) fn build(root: &Path, selected: &[&str]) -> Result<Vec<Program>> {
    let output = Command::new(crate::ci::cargo_program())
        .args(["test", "--locked", "--no-run", "--message-format=json-render-diagnostics"])
        .args(selected)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("`cargo test --no-run` failed");
    }
    let text = String::from_utf8(output.stdout).context("cannot read what cargo prints")?;
    text.lines().filter_map(|line| read(line).transpose()).collect()
}

/// The program that a line of cargo's tells of, if it tells of one.
fn read(line: &str) -> Result<Option<Program>> {
    let message: Message = serde_json::from_str(line)
        .with_context(|| format!("cannot read what cargo prints: {line}"))?;
    let Message { reason, package_id, manifest_path, target, profile, executable } = message;
    let is_test = reason == "compiler-artifact" && profile.is_some_and(|profile| profile.test);
    let (true, Some(manifest), Some(target), Some(executable)) =
        (is_test, manifest_path, target, executable)
    else {
        return Ok(None);
    };
    let folder = manifest.parent().context("a manifest is in no folder")?.to_owned();
    let short = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // An id ends with `#NAME@VERSION`, or with `#VERSION` alone where the folder has the package's name.
    let id = package_id.unwrap_or_default();
    let named = id.rsplit_once('#').and_then(|(_, end)| end.split_once('@'));
    let package = named.map_or(short.as_str(), |(name, _)| name).to_owned();
    let is_integration = target.kind.iter().any(|kind| kind == "test");
    let name = match is_integration {
        true => format!("{short} tests/{}", target.name),
        false => format!("{short} src"),
    };
    let of_library = target.kind.iter().any(|kind| kind == "lib");
    let end_to_end = short == "nullius" && is_integration;
    Ok(Some(Program { name, end_to_end, of_library, executable, package, folder }))
}

impl Program {
    /// The command that runs it as cargo would.
    pub(super) fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("CARGO", crate::ci::cargo_program())
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env("CARGO_PKG_NAME", &self.package)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }
}

/// The command that runs the examples in the documentation of these packages.
pub(super) fn examples(root: &Path, selected: &[&str], arguments: &[String]) -> Command {
    let mut command = Command::new(crate::ci::cargo_program());
    let arguments = arguments.iter().map(OsString::from);
    command
        .args(["test", "--locked", "--doc", "--quiet"])
        .args(selected)
        .arg("--")
        .args(arguments)
        .current_dir(root)
        .stdout(Stdio::piped());
    command
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    const BUILT: &str = r#"{"reason":"compiler-artifact","package_id":"path+file:///w/crates/NAME#nullius-NAME@0.1.0",
        "manifest_path":"/w/crates/NAME/Cargo.toml",
        "target":{"kind":["KIND"],"name":"it"},"profile":{"test":TEST},"executable":EXECUTABLE}"#;

    fn told(name: &str, kind: &str, is_test: bool, executable: &str) -> Option<Program> {
        let line = BUILT
            .replace("NAME", name)
            .replace("KIND", kind)
            .replace("TEST", &is_test.to_string())
            .replace("EXECUTABLE", executable);
        read(&line).unwrap()
    }

    #[test]
    fn test_programs_are_found_in_what_cargo_prints() {
        let found = told("agent", "lib", true, "\"/w/target/a\"").unwrap();
        assert_eq!((found.name.as_str(), found.end_to_end), ("agent src", false));
        assert!(found.of_library && found.folder == Path::new("/w/crates/agent"));
        assert_eq!(found.package, "nullius-agent");
        let found = told("nullius", "test", true, "\"/w/target/it\"").unwrap();
        assert_eq!((found.name.as_str(), found.end_to_end), ("nullius tests/it", true));
        assert!(!found.of_library);
        assert!(!told("nullius", "bin", true, "\"/w/target/n\"").unwrap().end_to_end);
    }

    #[test]
    fn what_is_no_test_program_is_left_out() {
        assert_eq!(told("agent", "lib", false, "\"/w/target/a\""), None);
        assert_eq!(told("agent", "lib", true, "null"), None);
        assert_eq!(read(r#"{"reason":"build-finished","success":true}"#).unwrap(), None);
        assert!(read("cargo says").is_err());
    }
}
