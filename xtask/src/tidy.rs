//! `cargo xtask tidy`: the structure that ARCHITECTURE.md promises, checked against `cargo metadata` and the sources.
//!
//! Arrows between rings only downward; each heavy dependency in its one home; nothing impure in the pure
//! crates; no banned words, crates or exceptions; dependencies as deny.toml wants them. Every finding names the file
//! and the way out.

mod dashboards;
mod dependencies;
mod exceptions;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Ring of each crate; `BESIDE` crates are tools and tests, on which no product crate may depend.
const RINGS: &[(&str, u8)] = &[
    ("nullius-model", 0),
    ("nullius-fields", 0),
    ("nullius-cel", 1),
    ("nullius-kinds", 1),
    ("nullius-rbac", 1),
    ("nullius-access", 1),
    ("nullius-intention", 1),
    ("nullius-registration", 1),
    ("nullius-policy", 1),
    ("nullius-audit", 1),
    ("nullius-pki", 2),
    ("nullius-tls", 2),
    ("nullius-proto", 2),
    ("nullius-store", 2),
    ("nullius-kube", 2),
    ("nullius-manifest", 2),
    ("nullius-nft", 2),
    ("nullius-telemetry", 2),
    ("nullius-admission", 3),
    ("nullius-authn", 3),
    ("nullius-mesh", 3),
    ("nullius-redirect", 3),
    ("nullius-tunnel", 3),
    ("nullius-workload", 3),
    ("nullius-api", 4),
    ("nullius-hub", 4),
    ("nullius-agent", 4),
    ("nullius-cli", 4),
    ("nullius-node", 4),
    ("nullius", 5),
    ("nullius-skip", BESIDE),
    ("nullius-testkit", BESIDE),
    ("xtask", BESIDE),
];

const BESIDE: u8 = 9;

/// Arrows inside one ring: committed, acyclic, each with its reason in ARCHITECTURE.md.
const SAME_RING: &[(&str, &str)] = &[
    ("nullius-policy", "nullius-access"),
    ("nullius-policy", "nullius-cel"),
    ("nullius-policy", "nullius-intention"),
    ("nullius-policy", "nullius-rbac"),
    ("nullius-access", "nullius-rbac"),
    ("nullius-intention", "nullius-cel"),
    ("nullius-mesh", "nullius-tunnel"),
    ("nullius-tls", "nullius-pki"),
    ("nullius-hub", "nullius-api"),
    ("nullius-cli", "nullius-api"),
];

/// Where a heavy dependency lives; tests and tools (`BESIDE`) may use any.
const HOMES: &[(&str, &[&str])] = &[
    ("rustls", &["nullius-tls"]),
    ("tokio-rustls", &["nullius-tls"]),
    ("rcgen", &["nullius-pki"]),
    ("x509-parser", &["nullius-pki"]),
    ("jsonwebtoken", &["nullius-pki"]),
    ("aws-lc-rs", &["nullius-pki"]),
    ("sqlx", &["nullius-store"]),
    ("kube", &["nullius-kube"]),
    ("k8s-openapi", &["nullius-kube"]),
    ("argon2", &["nullius-authn", "nullius-pki"]),
    ("totp-rs", &["nullius-authn"]),
    ("granit-parser", &["nullius-manifest"]),
    ("h2", &["nullius-mesh", "nullius-tunnel"]),
    ("nix", &["nullius-node", "nullius-workload"]),
    ("netlink-sys", &["nullius-nft"]),
    (
        "tonic",
        &["nullius-proto", "nullius-hub", "nullius-agent", "nullius-node", "nullius-workload"],
    ),
    ("prost", &["nullius-proto"]),
    ("prost-types", &["nullius-proto"]),
    ("axum", &["nullius-hub"]),
    ("askama", &["nullius-hub"]),
    ("clap", &["nullius-cli", "nullius"]),
    ("tracing-subscriber", &["nullius-telemetry"]),
];

/// What a pure crate (rings 0 and 1) may not touch.
const IMPURE: &[&str] = &[
    "tokio",
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
    "std::process",
    "std::thread",
    "std::env",
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "rand::",
];

/// The one place of a pure crate that may read the clock: `SystemClock`, handed in by shells.
const CLOCK_HOME: &str = "crates/model/src/clock.rs";

/// The one place of a pure crate that may start a thread: for its stack, which the parser of expressions needs.
const STACK_HOME: &str = "crates/cel/src/stack.rs";

/// What a floor of the hub may not name: inside the crate arrows point downward too, and HTTP ends in `web`.
const FLOORS: &[(&str, &[&str])] = &[
    ("crates/hub/src/acts/", &["axum", "hyper::", "http::", "tonic", "web::"]),
    ("crates/hub/src/clusters/", &["acts::", "web::"]),
    ("crates/hub/src/memory/", &["Hub", "acts::", "clusters::", "web::"]),
    ("crates/hub/src/limits", &["Hub", "acts::", "clusters::", "memory::", "web::"]),
    ("crates/hub/src/keys", &["acts::", "clusters::", "memory::", "start::", "web::"]),
];

/// Words that name nothing.
const BANNED_WORDS: &[&str] = &["utils", "helpers", "Manager"];

/// Crates on the way of a decision: no exception to the lints against panics.
const DECISION_CRATES: &[&str] = &[
    "model",
    "cel",
    "kinds",
    "rbac",
    "access",
    "intention",
    "policy",
    "audit",
    "pki",
    "tls",
    "manifest",
    "admission",
    "authn",
    "mesh",
    "redirect",
    "tunnel",
    "workload",
    "node",
    "hub",
    "agent",
];

/// Crates that may hold `unsafe`, each for a reason in its manifest.
const UNSAFE_HOMES: &[&str] = &[];

const LONG_FILE: usize = 800;
const LONG_CRATE: usize = 15_000;

/// Checks everything; fails with all findings at once.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    let mut warnings = Vec::new();
    let metadata = metadata(root)?;
    check_graph(&metadata, &mut findings)?;
    let rules = dependencies::Rules::read(root)?;
    check_tree(root, &rules, &mut findings)?;
    rules.check_packages(&metadata, &mut findings)?;
    check_manifests(root, &mut findings)?;
    check_sources(root, &mut findings, &mut warnings)?;
    dashboards::check(root, &product(root)?, &mut findings)?;
    for warning in &warnings {
        eprintln!("tidy: warning: {warning}");
    }
    if findings.is_empty() {
        let packages = metadata["packages"].as_array().map_or(0, Vec::len);
        println!(
            "tidy: {} crates in their rings, {} homes kept, bans, licences and sources of {packages} packages as \
             deny.toml wants them",
            RINGS.len(),
            HOMES.len()
        );
        return Ok(());
    }
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    bail!("{} findings", findings.len())
}

fn metadata(root: &Path) -> Result<Value> {
    let output = Command::new(crate::ci::cargo_program())
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("cannot run `cargo metadata`")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("cannot read the answer of `cargo metadata`")
}

fn check_graph(metadata: &Value, findings: &mut Vec<String>) -> Result<()> {
    let rings: BTreeMap<&str, u8> = RINGS.iter().copied().collect();
    let packages = metadata["packages"].as_array().context("`packages` is missing")?;
    let ours: Vec<_> = packages.iter().filter(|package| package["source"].is_null()).collect();
    for package in &ours {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(ring) = rings.get(name) else {
            findings.push(format!(
                "crate `{name}` has no ring: add it to RINGS and to ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let target = dependency["name"].as_str().unwrap_or_default();
            check_arrow(name, *ring, target, &rings, findings);
            check_home(name, *ring, target, findings);
        }
    }
    let present: BTreeSet<&str> =
        ours.iter().filter_map(|package| package["name"].as_str()).collect();
    for (name, _) in RINGS {
        if !present.contains(name) {
            findings.push(format!(
                "crate `{name}` has a ring but does not exist: take it out of RINGS"
            ));
        }
    }
    Ok(())
}

fn check_arrow(
    name: &str,
    ring: u8,
    target: &str,
    rings: &BTreeMap<&str, u8>,
    findings: &mut Vec<String>,
) {
    let Some(&target_ring) = rings.get(target) else { return };
    let allowed = match target_ring {
        BESIDE => ring == BESIDE,
        other if other < ring => !(ring == 3 && target == "nullius-store"),
        other if other == ring => SAME_RING.contains(&(name, target)) || ring == BESIDE,
        _ => false,
    };
    if !allowed {
        findings.push(format!(
            "`{name}` (ring {ring}) depends on `{target}` (ring {target_ring}): move the shared noun down or the wiring up"
        ));
    }
}

fn check_home(name: &str, ring: u8, target: &str, findings: &mut Vec<String>) {
    let Some((_, homes)) = HOMES.iter().find(|(dependency, _)| *dependency == target) else {
        return;
    };
    if ring != BESIDE && !homes.contains(&name) {
        findings
            .push(format!("`{name}` depends on `{target}`, whose home is {}", homes.join(", ")));
    }
}

/// Looks at what is really built: Cargo.lock also names optional crates that nobody turns on.
fn check_tree(root: &Path, rules: &dependencies::Rules, findings: &mut Vec<String>) -> Result<()> {
    let arguments =
        ["tree", "--workspace", "--target", "all", "--edges", "normal,build", "--prefix", "none"];
    let output = Command::new(crate::ci::cargo_program())
        .args(arguments)
        .args(["--format", "{p}", "--locked"])
        .current_dir(root)
        .output()
        .context("cannot run `cargo tree`")?;
    if !output.status.success() {
        bail!("`cargo tree` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let tree = String::from_utf8_lossy(&output.stdout);
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    rules.check_names(&names, findings);
    Ok(())
}

fn check_manifests(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    for manifest in manifests(root)? {
        let text = fs::read_to_string(&manifest)?;
        let crate_name =
            manifest.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let shared = text.contains("[lints]\nworkspace = true");
        if !shared && !UNSAFE_HOMES.contains(&crate_name.as_ref()) {
            findings
                .push(format!("{} does not take the workspace's lints", shown(root, &manifest)));
        }
    }
    let workspace = fs::read_to_string(root.join("Cargo.toml"))?;
    if !workspace.contains("unsafe_code = \"forbid\"") {
        findings.push("Cargo.toml: the workspace's lints do not forbid `unsafe_code`".to_owned());
    }
    Ok(())
}

/// Product code, a file each.
fn product(root: &Path) -> Result<Vec<(String, String)>> {
    let mut product = Vec::new();
    for path in sources(root)? {
        let place = shown(root, &path);
        if place.starts_with("crates/") && place.contains("/src/") && !place.ends_with("tests.rs") {
            let text = fs::read_to_string(&path)?;
            let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
            product.push((place, shipped.to_owned()));
        }
    }
    Ok(product)
}

fn manifests(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![root.join("xtask/Cargo.toml")];
    for entry in fs::read_dir(root.join("crates")).context("cannot list crates/")? {
        found.push(entry?.path().join("Cargo.toml"));
    }
    found.sort();
    Ok(found)
}

fn check_sources(
    root: &Path,
    findings: &mut Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let mut lines_of: BTreeMap<String, usize> = BTreeMap::new();
    for path in sources(root)? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let place = shown(root, &path);
        let name = place.split('/').nth(1).unwrap_or_default().to_owned();
        let lines = text.lines().count();
        *lines_of.entry(name.clone()).or_default() += lines;
        if lines > LONG_FILE {
            warnings.push(format!("{place} has {lines} lines: a noun is missing"));
        }
        if !place.ends_with("/tests.rs") && !text.starts_with("//!") {
            findings.push(format!("{place} does not say what it is for: begin with `//!`"));
        }
        check_words(&place, &text, findings);
        let product = product_part(&place, &text);
        if is_pure(&name) && place != CLOCK_HOME && place != STACK_HOME {
            for word in IMPURE
                .iter()
                .filter(|word| code_lines(product).any(|(_, line)| line.contains(**word)))
            {
                findings.push(format!(
                    "{place} is in a pure crate and uses `{word}`: pass the value in"
                ));
            }
        }
        check_floor(&place, product, findings);
        if DECISION_CRATES.contains(&name.as_str()) {
            exceptions::check(&place, product, findings);
        }
    }
    for (name, lines) in lines_of.iter().filter(|(_, lines)| **lines > LONG_CRATE) {
        warnings.push(format!("crate `{name}` has {lines} lines: a noun is missing"));
    }
    Ok(())
}

/// Finds what a file names that lies above its floor.
fn check_floor(place: &str, product: &str, findings: &mut Vec<String>) {
    let above = FLOORS.iter().filter(|(floor, _)| place.starts_with(floor));
    for word in above.flat_map(|(_, words)| words.iter()) {
        for (number, _) in code_lines(product).filter(|(_, line)| line.contains(word)) {
            findings.push(format!(
                "{place}:{number} names `{word}`, which lies above it: pass plain values in and errors out"
            ));
        }
    }
}

fn is_pure(crate_dir: &str) -> bool {
    let name = format!("nullius-{crate_dir}");
    RINGS.iter().any(|(known, ring)| *known == name && *ring <= 1)
}

fn check_words(place: &str, text: &str, findings: &mut Vec<String>) {
    if place == "xtask/src/tidy.rs" {
        return;
    }
    let named = |word: &str| place.split(['/', '.']).any(|part| part == word);
    for word in BANNED_WORDS {
        if named(word) {
            findings.push(format!("{place} is called `{word}`: name what it holds"));
        }
        for (number, line) in code_lines(text) {
            let at = line.match_indices(word).any(|(at, _)| is_identifier_part(line, at, word));
            if at {
                findings
                    .push(format!("{place}:{number} names something `{word}`: name what it does"));
            }
        }
    }
}

/// Whether `word` at `at` is a word of an identifier of ours, not part of a longer lower-case word or a string.
fn is_identifier_part(line: &str, at: usize, word: &str) -> bool {
    let before = &line[..at];
    let after = line[at + word.len()..].chars().next();
    let quoted = before.matches('"').count() % 2 == 1;
    let clean_end = after.is_none_or(|c| !c.is_ascii_lowercase());
    let clean_start = word.starts_with(char::is_uppercase)
        || before.chars().last().is_none_or(|c| !c.is_ascii_alphanumeric());
    !quoted && clean_end && clean_start
}

/// Lines of code with their numbers: comments left out.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let code = line.split("//").next().unwrap_or_default();
        (!code.trim().is_empty()).then_some((index + 1, code))
    })
}

/// The part of a file that ships: nothing of a test file, all before the module of tests of another.
fn product_part<'a>(place: &str, text: &'a str) -> &'a str {
    if place.contains("/tests/") || place.ends_with("/tests.rs") {
        return "";
    }
    let is_tests = |line: &str| line.starts_with("mod tests {") || line.starts_with("mod tests;");
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if is_tests(line) {
            return &text[..start];
        }
        start += line.len();
    }
    text
}

fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.join("crates"), root.join("xtask")];
    while let Some(folder) = open.pop() {
        for entry in
            fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> usize {
        let mut findings = Vec::new();
        check_words("crates/x/src/y.rs", text, &mut findings);
        findings.len()
    }

    #[test]
    fn a_banned_word_is_found_as_an_identifier_only() {
        assert_eq!(words("struct SessionManager;"), 1);
        assert_eq!(words("mod utils;"), 1);
        assert_eq!(words("let x = \"kube-controller Manager\";"), 0);
        assert_eq!(words("// the Manager of a cluster"), 0);
        assert_eq!(words("let coreutils_path = 1;"), 0);
    }

    #[test]
    fn only_the_module_of_tests_does_not_ship() {
        let text = "#[cfg(test)]\nfn for_a_test() {}\nfn ships() {}\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n";
        let product = product_part("crates/x/src/y.rs", text);
        assert!(product.contains("fn ships()") && !product.contains("fn t()"), "{product}");
        assert_eq!(product_part("crates/x/src/y/tests.rs", text), "");
        assert_eq!(product_part("crates/x/src/y.rs", "mod tests_of_x;\n"), "mod tests_of_x;\n");
    }

    #[test]
    fn an_act_of_the_hub_does_not_know_http() {
        let findings = |place: &str, text: &str| {
            let mut findings = Vec::new();
            check_floor(place, text, &mut findings);
            findings.len()
        };
        assert_eq!(findings("crates/hub/src/acts/enrol.rs", "use http::StatusCode;"), 1);
        assert_eq!(findings("crates/hub/src/acts/enrol.rs", "let url = \"http://x\";"), 0);
        assert_eq!(findings("crates/hub/src/memory/usage.rs", "use crate::Hub;"), 1);
        assert_eq!(findings("crates/hub/src/web/audit.rs", "use http::header;"), 0);
    }

    #[test]
    fn arrows_point_downward() {
        let rings: BTreeMap<&str, u8> = RINGS.iter().copied().collect();
        let refused = |from: &str, to: &str| {
            let mut findings = Vec::new();
            check_arrow(from, rings[from], to, &rings, &mut findings);
            !findings.is_empty()
        };
        assert!(refused("nullius-rbac", "nullius-tls"));
        assert!(refused("nullius-tunnel", "nullius-store"));
        assert!(refused("nullius-tunnel", "nullius-authn"));
        assert!(refused("nullius-hub", "nullius-testkit"));
        assert!(refused("nullius-rbac", "nullius-policy"));
        assert!(!refused("nullius-policy", "nullius-access"));
        assert!(!refused("nullius", "nullius-hub"));
    }
}
