//! What opens the hub's private keys: the key file beside the store, or a passphrase from a file, from the
//! environment, or from a command that asks the key store of the operating system.

use std::{
    io::Read as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nullius_hub::Sealing;
use zeroize::Zeroizing;

/// How long a key store may take, also one that asks a person.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than any passphrase.
const PRINTED_MAX: usize = 64 * 1024;

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
        let text = match self {
            Self::File(file) => {
                let text = std::fs::read_to_string(file);
                text.map(Zeroizing::new)
                    .with_context(|| format!("cannot read `{}`", file.display()))?
            }
            Self::Command(command) => printed(command)
                .context("`key-passphrase-command` does not print the passphrase of the keys")?,
        };
        Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// What seals the keys: what was given, then `NULLIUS_KEY_PASSPHRASE` as it stands, else the key file.
pub(crate) fn sealing(given: Option<&PassphraseFrom>) -> Result<Sealing> {
    let text = match given {
        Some(from) => Some(from.read()?),
        None => std::env::var("NULLIUS_KEY_PASSPHRASE").ok().map(Zeroizing::new),
    };
    let Some(text) = text else { return Ok(Sealing::KeyFile) };
    if text.is_empty() {
        bail!("the passphrase of the keys is empty; give one, or leave its setting out");
    }
    Ok(Sealing::Passphrase(text.as_str().into()))
}

/// What a command prints; it may ask at the terminal, where its messages go as well. The command line is not told in
/// errors: it may hold a credential.
fn printed(command: &str) -> Result<Zeroizing<String>> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("`/bin/sh` cannot be run")?;
    let stdout = child.stdout.take().context("it has no output")?;
    let (sender, read) = mpsc::channel();
    thread::spawn(move || {
        // One piece of memory, so that no copy stays behind.
        let mut text = Zeroizing::new(Vec::with_capacity(PRINTED_MAX));
        let whole = stdout.take(PRINTED_MAX as u64).read_to_end(&mut text);
        let _ = sender.send(whole.map(|_| text));
    });
    let text = match read.recv_timeout(PATIENCE) {
        Ok(text) => text.context("its output cannot be read")?,
        Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            bail!("it printed nothing whole within {} s", PATIENCE.as_secs());
        }
    };
    let status = child.wait().context("its end cannot be seen")?;
    if !status.success() {
        bail!("it failed: {status}");
    }
    let text = std::str::from_utf8(&text).map_err(|_| anyhow::anyhow!("it prints no UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
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
