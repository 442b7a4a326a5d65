//! What Kubernetes' own kinds are made of, from its code: `dev/cluster/cmd/fields` built at the pinned version and run.

use std::{fs, io, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

/// Objects of each kind in the corpus.
const EXAMPLES: &str = "4";

/// The files and their texts; `None` without Go.
pub(super) fn made(root: &Path) -> Result<Option<Vec<(&'static str, String)>>> {
    let module = root.join("dev/cluster");
    let found = go(&module, &["list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"])?;
    let Some(kubernetes) = found else { return Ok(None) };
    let swagger = Path::new(kubernetes.trim()).join("api/openapi-spec/swagger.json");
    let folder = root.join("target");
    fs::create_dir_all(&folder)?;
    let program = folder.join("fields");
    let target = program.display().to_string();
    eprintln!("generate: building dev/cluster/cmd/fields (the first time it takes minutes)");
    go(&module, &["build", "-trimpath", "-o", &target, "./cmd/fields"])?;
    let table = run(&program, &[Path::new("table"), &swagger])?;
    let corpus = run(&program, &[Path::new("corpus"), &swagger, Path::new(EXAMPLES)])?;
    Ok(Some(vec![
        ("crates/kinds/src/table.txt", table),
        ("crates/kinds/tests/it/corpus.jsonl", corpus),
    ]))
}

/// What a command of Go prints; `None` without Go.
fn go(module: &Path, args: &[&str]) -> Result<Option<String>> {
    let output = Command::new("go")
        .args(args)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false")
        .current_dir(module)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("cannot run `go`"),
    };
    if !output.status.success() {
        bail!("`go {}` failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(Some(String::from_utf8(output.stdout)?))
}

fn run(program: &Path, args: &[&Path]) -> Result<String> {
    let output = Command::new(program).args(args).output().context("cannot run `fields`")?;
    if !output.status.success() {
        bail!("`fields` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
