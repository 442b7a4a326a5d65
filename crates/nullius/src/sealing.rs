//! What opens the hub's private keys: the key file beside the store, or a passphrase from a file, from the
//! environment, or from a command that asks the key store of the operating system.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use nullius_hub::Sealing;
use zeroize::Zeroizing;

/// Where the passphrase of the keys stands, as one place says it: flags, or the file of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PassphraseFrom {
    /// This file.
    File(PathBuf),
    /// What this shell command prints.
    Command(String),
}

impl PassphraseFrom {
    /// Of the two ways at most one.
    pub(crate) fn of(file: Option<PathBuf>, command: Option<String>) -> Result<Option<Self>> {
        match (file, command) {
            (Some(_), Some(_)) => bail!(
                "`key-passphrase-file` and `key-passphrase-command` are both given; leave one out"
            ),
            (Some(file), None) => Ok(Some(Self::File(file))),
            (None, Some(command)) => Ok(Some(Self::Command(command))),
            (None, None) => Ok(None),
        }
    }

    fn read(&self) -> Result<Zeroizing<String>> {
        match self {
            Self::File(file) => {
                let text = std::fs::read_to_string(file);
                text.map(Zeroizing::new)
                    .with_context(|| format!("cannot read `{}`", file.display()))
            }
            Self::Command(command) => printed(command),
        }
    }
}

/// What seals the keys: what was given, then `NULLIUS_KEY_PASSPHRASE`, else the key file.
pub(crate) fn sealing(given: Option<&PassphraseFrom>) -> Result<Sealing> {
    let text = match given {
        Some(from) => Some(from.read()?),
        None => std::env::var("NULLIUS_KEY_PASSPHRASE").ok().map(Zeroizing::new),
    };
    let Some(text) = text else { return Ok(Sealing::KeyFile) };
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        bail!("the passphrase of the keys is empty; give one, or leave its setting out");
    }
    Ok(Sealing::Passphrase(line.to_owned().into()))
}

/// What a command prints. It may ask at the terminal, where its messages go as well.
fn printed(command: &str) -> Result<Zeroizing<String>> {
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run the command that prints the passphrase of the keys")?;
    let text = String::from_utf8(output.stdout).map(Zeroizing::new);
    if !output.status.success() {
        let how = output.status;
        bail!("the command that prints the passphrase of the keys failed ({how}): `{command}`");
    }
    text.map_err(|_| anyhow::anyhow!("what `{command}` prints as a passphrase is no UTF-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use secrecy::ExposeSecret as _;

    use super::*;

    fn of(command: &str) -> Result<Sealing> {
        sealing(PassphraseFrom::of(None, Some(command.to_owned()))?.as_ref())
    }

    #[test]
    fn a_command_prints_the_passphrase_and_its_failure_is_told() {
        let Sealing::Passphrase(text) = of("printf 'from the key store\\n'").unwrap() else {
            unreachable!("a command gives a passphrase")
        };
        assert_eq!(text.expose_secret(), "from the key store");
        for (command, told) in [
            ("exit 3", "exit status: 3"),
            ("true", "the passphrase of the keys is empty"),
            ("printf '\\377'", "no UTF-8"),
        ] {
            let error = of(command).unwrap_err();
            assert!(format!("{error:#}").contains(told), "{command}: {error:#}");
        }
    }

    #[test]
    fn two_places_at_once_are_refused() {
        let error = PassphraseFrom::of(Some("file".into()), Some("true".to_owned())).unwrap_err();
        assert!(error.to_string().contains("leave one out"), "{error}");
    }
}
