//! What `deny.toml` says of dependencies, checked without cargo-deny: banned crates, licences, sources, wildcards.
//!
//! A machine with only the toolchains checks it too, and in seconds. Advisories need a database from outside: they are
//! checked by `cargo deny check advisories` alone.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

/// The one registry; `unknown-registry` and `unknown-git` deny all other sources.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The part of `deny.toml` that is read here; cargo-deny reads the rest as well.
#[derive(Debug, Deserialize)]
pub(super) struct Rules {
    licenses: Licences,
    bans: Bans,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Licences {
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Bans {
    #[serde(rename = "multiple-versions")]
    _multiple_versions: String,
    wildcards: Level,
    #[serde(rename = "allow-wildcard-paths")]
    _allow_wildcard_paths: bool,
    deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Sources {
    unknown_registry: Level,
    unknown_git: Level,
}

/// What happens to what is found; anything but `deny` would be a rule that is not kept.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Deny,
}

impl Rules {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let text = fs::read_to_string(root.join("deny.toml")).context("cannot read deny.toml")?;
        toml::from_str(&text).context("deny.toml is not what `cargo xtask tidy` reads")
    }

    /// Checks what is really built, by the names in the tree: Cargo.lock also has crates that nobody turns on.
    pub(super) fn check_names(&self, names: &BTreeSet<&str>, findings: &mut Vec<String>) {
        for ban in self.bans.deny.iter().filter(|ban| names.contains(ban.name.as_str())) {
            findings.push(format!(
                "`{}` is in the tree ({}): find who pulls it with `cargo tree -i {}`",
                ban.name, ban.reason, ban.name
            ));
        }
    }

    /// Checks licence, source and requirements of every package that `cargo metadata` resolves, for all platforms.
    pub(super) fn check_packages(
        &self,
        metadata: &Value,
        findings: &mut Vec<String>,
    ) -> Result<()> {
        let packages = metadata["packages"].as_array().context("`packages` is missing")?;
        for package in packages {
            let text = |field: &str| package[field].as_str();
            let name = format!(
                "{} {}",
                text("name").unwrap_or_default(),
                text("version").unwrap_or_default()
            );
            match text("license") {
                None => findings.push(format!("`{name}` names no licence")),
                Some(licence) if !self.licenses.permits(licence) => findings
                    .push(format!("`{name}` is under `{licence}`, which deny.toml does not allow")),
                Some(_) => {}
            }
            match text("source") {
                Some(source) => self.sources.check(&name, source, findings),
                // A package of ours: what it asks of others is checked, not what others ask.
                None => self.bans.check_requirements(&name, package, findings),
            }
        }
        Ok(())
    }
}

impl Licences {
    /// Whether the choices that an SPDX expression leaves include one that is allowed throughout.
    fn permits(&self, expression: &str) -> bool {
        // `MIT/Apache-2.0` is the old way to write `MIT OR Apache-2.0`.
        let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let mut words = spaced.split_whitespace().peekable();
        let permitted = self.either(&mut words);
        words.next().is_none() && permitted == Some(true)
    }

    fn either<'a>(&self, words: &mut Words<'a, impl Iterator<Item = &'a str>>) -> Option<bool> {
        let mut permitted = self.both(words)?;
        while words.next_if_eq(&"OR").is_some() {
            permitted |= self.both(words)?;
        }
        Some(permitted)
    }

    fn both<'a>(&self, words: &mut Words<'a, impl Iterator<Item = &'a str>>) -> Option<bool> {
        let mut permitted = self.one(words)?;
        while words.next_if_eq(&"AND").is_some() {
            permitted &= self.one(words)?;
        }
        Some(permitted)
    }

    fn one<'a>(&self, words: &mut Words<'a, impl Iterator<Item = &'a str>>) -> Option<bool> {
        let word = words.next()?;
        if word == "(" {
            let permitted = self.either(words)?;
            return (words.next() == Some(")")).then_some(permitted);
        }
        let mut licence = word.to_owned();
        if words.next_if_eq(&"WITH").is_some() {
            licence = format!("{licence} WITH {}", words.next()?);
        }
        Some(self.allow.contains(&licence))
    }
}

/// The words of an expression, one of which can be looked at ahead.
type Words<'a, I> = std::iter::Peekable<I>;

impl Sources {
    fn check(&self, name: &str, source: &str, findings: &mut Vec<String>) {
        let level =
            if source.starts_with("git+") { &self.unknown_git } else { &self.unknown_registry };
        if *level == Level::Deny && source != REGISTRY {
            findings.push(format!("`{name}` comes from `{source}`, not from crates.io"));
        }
    }
}

impl Bans {
    fn check_requirements(&self, name: &str, package: &Value, findings: &mut Vec<String>) {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let any = dependency["req"] == "*" && dependency["path"].is_null();
            if any && self.wildcards == Level::Deny {
                let of = dependency["name"].as_str().unwrap_or_default();
                findings.push(format!("`{name}` takes any version of `{of}`: name one"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use serde_json::json;

    use super::*;

    fn rules() -> Rules {
        Rules::read(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).unwrap()
    }

    #[test]
    fn a_licence_is_judged_as_the_expression_that_it_is() {
        let licences = rules().licenses;
        for allowed in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
            "(Apache-2.0 OR MIT) AND BSD-3-Clause",
            "Apache-2.0 WITH LLVM-exception",
            "ISC AND (GPL-2.0 OR ISC)",
        ] {
            assert!(licences.permits(allowed), "{allowed}");
        }
        for refused in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT OR ISC AND",
            "(MIT",
            "MIT ISC",
            "",
            "GPL-2.0 WITH LLVM-exception",
            "(MIT OR ISC) AND (GPL-2.0 OR GPL-3.0)",
        ] {
            assert!(!licences.permits(refused), "{refused}");
        }
    }

    #[test]
    fn licence_source_and_wildcard_of_a_package_are_told() {
        let findings = |package: Value| {
            let mut findings = Vec::new();
            rules().check_packages(&json!({ "packages": [package] }), &mut findings).unwrap();
            findings.join("\n")
        };
        let package = |licence: &str, source: &str| json!({ "name": "a", "version": "1.0.0", "license": licence, "source": source });
        assert_eq!(findings(package("MIT", REGISTRY)), "");
        assert!(findings(package("AGPL-3.0", REGISTRY)).contains("`a 1.0.0` is under `AGPL-3.0`"));
        let git = findings(package("MIT", "git+https://example.org/a"));
        assert!(git.contains("`git+https://example.org/a`, not from crates.io"), "{git}");
        let other = findings(package("MIT", "registry+https://example.org/index"));
        assert!(other.contains("not from crates.io"), "{other}");
        let none = json!({ "name": "a", "version": "1.0.0", "source": REGISTRY });
        assert_eq!(findings(none), "`a 1.0.0` names no licence");
        let ours = json!({
            "name": "a", "version": "1.0.0", "license": "MIT", "source": null,
            "dependencies": [{ "name": "b", "req": "*" }, { "name": "c", "req": "*", "path": "/c" }],
        });
        assert_eq!(findings(ours), "`a 1.0.0` takes any version of `b`: name one");
    }

    #[test]
    fn a_banned_crate_is_told_with_its_reason() {
        let mut findings = Vec::new();
        rules().check_names(&BTreeSet::from(["ring", "rustls"]), &mut findings);
        assert_eq!(findings.len(), 1);
        assert!(findings.join("").contains("aws-lc-rs is the one crypto provider"));
    }
}
