//! `apply`, `get`, `describe`, `delete`, `diff`, `edit`.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use clap::Args;
use nullius_model::{Kind, ObjectName};

use super::Files;
use crate::{completion, object::document::nearest};

/// `nullius apply`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius apply -f roles.yaml -f grants/\n  nullius get roles -o yaml | nullius apply -f - --dry-run"
)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Let the hub judge it and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `nullius get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// `users`, `groups`, `clusters`, `roles`, `grants` or `locks`
    #[arg(value_parser = kind, add = completion::kinds())]
    pub(crate) kind: Kind,
    /// Only these
    #[arg(value_name = "NAME", add = completion::names_of_named_kind())]
    pub(crate) names: Vec<ObjectName>,
    /// Only those with these labels: `KEY=VALUE`, `KEY!=VALUE`, `KEY`, `!KEY`, joined by commas
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names")]
    pub(crate) selector: Option<Selector>,
}

/// `nullius describe`.
#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// `user`, `group`, `cluster`, `role`, `grant`, `lock` or `federation`
    #[arg(value_parser = kind, add = completion::kinds())]
    pub(crate) kind: Kind,
    /// The objects
    #[arg(value_name = "NAME", required = true, add = completion::names_of_named_kind())]
    pub(crate) names: Vec<ObjectName>,
}

/// `nullius delete`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius delete grant dev-shop\n  nullius delete -f grants/ --yes"
)]
pub(crate) struct Delete {
    /// `user`, `group`, `cluster`, `role`, `grant`, `lock` or `federation`
    #[arg(value_parser = kind, required_unless_present = "files", conflicts_with = "files", add = completion::kinds())]
    pub(crate) kind: Option<Kind>,
    /// The objects
    #[arg(value_name = "NAME", required_unless_present = "files", conflicts_with = "files", add = completion::names_of_named_kind())]
    pub(crate) names: Vec<ObjectName>,
    /// The objects that stand in a file, a folder, or standard input (`-`); may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) files: Vec<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Let the hub judge it and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `nullius diff`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius diff -f grants/\n  nullius diff main/manifests manifests --builtin all\n  nullius diff base/ head/ --state state/ -o markdown"
)]
pub(crate) struct Diff {
    /// What an apply of this file, folder or standard input (`-`) would change; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE", required_unless_present = "paths", conflicts_with = "paths", value_hint = clap::ValueHint::AnyPath)]
    pub(crate) files: Vec<PathBuf>,
    /// The manifests before and after
    #[arg(value_names = ["BASE", "HEAD"], num_args = 2, value_hint = clap::ValueHint::AnyPath)]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) asks: super::Asks,
}

/// `nullius edit`.
#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// `user`, `group`, `cluster`, `role`, `grant`, `lock` or `federation`
    #[arg(value_parser = kind, add = completion::kinds())]
    pub(crate) kind: Kind,
    /// The object
    #[arg(value_name = "NAME", add = completion::names_of_named_kind())]
    pub(crate) name: ObjectName,
}

/// Reads a kind; a typo is answered with the near one.
fn kind(text: &str) -> Result<Kind, String> {
    text.parse::<Kind>().map_err(|error| {
        let known = Kind::ALL.map(Kind::plural);
        match nearest(text, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => error.to_string(),
        }
    })
}

/// Labels to select by; all conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Condition>);

/// One condition on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    Is(String, String),
    IsNot(String, String),
    Exists(String),
    Lacks(String),
}

impl Selector {
    /// Whether labels meet all conditions.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Is(key, value) => labels.get(key) == Some(value),
            Condition::IsNot(key, value) => labels.get(key) != Some(value),
            Condition::Exists(key) => labels.contains_key(key),
            Condition::Lacks(key) => !labels.contains_key(key),
        })
    }
}

impl FromStr for Selector {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let read = |part: &str| {
            let part = part.trim();
            let condition = if let Some((key, value)) = part.split_once("!=") {
                Condition::IsNot(key.trim().to_owned(), value.trim().to_owned())
            } else if let Some((key, value)) = part.split_once('=') {
                let value = value.strip_prefix('=').unwrap_or(value);
                Condition::Is(key.trim().to_owned(), value.trim().to_owned())
            } else if let Some(key) = part.strip_prefix('!') {
                Condition::Lacks(key.trim().to_owned())
            } else {
                Condition::Exists(part.to_owned())
            };
            let (Condition::Is(key, _)
            | Condition::IsNot(key, _)
            | Condition::Exists(key)
            | Condition::Lacks(key)) = &condition;
            let plain = !key.is_empty()
                && key.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_./".contains(&c));
            if plain {
                Ok(condition)
            } else {
                Err(format!("`{}` is no condition on a label", part.escape_debug()))
            }
        };
        text.split(',').map(read).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn labels_are_selected_as_kubectl_does() {
        let labels = BTreeMap::from([("env".to_owned(), "dev".to_owned())]);
        let selects = |text: &str| text.parse::<Selector>().unwrap().selects(&labels);
        assert!(
            selects("env=dev")
                && selects("env==dev")
                && selects("env")
                && selects("env!=prod,!team")
        );
        assert!(!selects("env=prod") && !selects("!env") && !selects("env=dev,team"));
        assert!("=dev".parse::<Selector>().is_err());
        assert!("env in (dev)".parse::<Selector>().is_err());
    }
}
