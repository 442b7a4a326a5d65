//! Programs that others wrote and that Python's packages hold: what `dev/spiffe/requirements.txt` lists, each with its digest, in a
//! directory of the cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{
    packages,
    programs::{cache_directory, ensure_directory},
    progress::Progress,
};

/// Where tests read the directory: `envoy/_bin/envoy` stands in it, and it is a `PYTHONPATH`.
pub const PYTHON_PACKAGES: &str = "NULLIUS_PYTHON_PACKAGES";

/// Installs the packages if they are not in the cache yet, and says where they are.
pub fn ensure_python_packages(progress: Progress) -> Result<PathBuf> {
    packages::require_python(progress)?;
    let listed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/spiffe/requirements.txt");
    let content =
        fs::read(&listed).with_context(|| format!("cannot read `{}`", listed.display()))?;
    let digest = hex::encode(Sha256::digest(content));
    let key = format!("python-{}-{}", python_version()?, &digest[..12]);
    let cache = cache_directory()?;
    fs::create_dir_all(&cache)
        .with_context(|| format!("cannot make the cache `{}`", cache.display()))?;
    ensure_directory(&cache, &key, "the Python packages of peers", "10 s", progress, |staging| {
        let mut command = Command::new("python3");
        command
            .args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"])
            .args(["--no-deps", "--require-hashes", "--only-binary", ":all:", "--target"])
            .arg(staging)
            .arg("--requirement")
            .arg(&listed);
        Ok(vec![command])
    })?;
    Ok(cache.join(key))
}

/// The version for which packages with machine code are built: `3.11`.
fn python_version() -> Result<String> {
    let program = "import sys; print('%d.%d' % sys.version_info[:2])";
    let output = Command::new("python3").args(["-c", program]).output();
    let output = output.context("cannot run `python3`")?;
    if !output.status.success() {
        bail!("`python3` does not say its version: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
