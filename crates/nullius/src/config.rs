//! The hub's settings: a flag wins over the environment, and both over the file of `--config`.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nullius_cli::{HubFlags, LogFormat};
use nullius_hub::{FileForm, HubSettings, MetricsFor};
use nullius_model::Ttl;
use serde::Deserialize;
use url::Url;

use crate::sealing::{PassphraseFrom, sealing};

/// Marks an error of the configuration: the process ends with the exit code of wrong usage.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the configuration cannot be used")]
pub(crate) struct Misconfigured;

/// The file, TOML; an unknown word in it is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Config {
    state: Option<PathBuf>,
    listen: Option<SocketAddr>,
    public_url: Option<Url>,
    /// Further names of the hub's certificate.
    names: Vec<String>,
    log_format: Option<Logs>,
    /// `info`, or directives such as `info,nullius_tunnel=debug`.
    log_level: Option<String>,
    key_passphrase_file: Option<PathBuf>,
    /// A shell command that prints the passphrase: it asks the key store of the operating system.
    key_passphrase_command: Option<String>,
    metrics_for: Option<Metrics>,
    /// How long requests that run may take to finish when the hub is told to stop.
    drain: Option<Ttl>,
    lifetimes: Lifetimes,
    audit: Audit,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Audit {
    /// A file, or a directory for one, that receives every checkpoint.
    anchor: Option<PathBuf>,
    /// The form of the lines in the file beside the store.
    file_format: Option<AuditFile>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum AuditFile {
    Nullius,
    Kubernetes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Lifetimes {
    session: Option<Ttl>,
    idle: Option<Ttl>,
    browser_session: Option<Ttl>,
    join_token: Option<Ttl>,
    enrolment_link: Option<Ttl>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Logs {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Metrics {
    Loopback,
    Everyone,
}

impl Config {
    /// Reads the file, if one is named; the error says line and column.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read `{}`", path.display()))
            .context(Misconfigured)?;
        let config: Self = toml::from_str(&text)
            .with_context(|| format!("`{}` is no configuration", path.display()))
            .context(Misconfigured)?;
        if config.key_passphrase_command.is_some() {
            ours_alone(path).context(Misconfigured)?;
        }
        Ok(config)
    }

    /// The form of log lines.
    pub(crate) fn log_format(&self) -> LogFormat {
        match self.log_format {
            Some(Logs::Json) => LogFormat::Json,
            Some(Logs::Text) | None => LogFormat::Text,
        }
    }

    /// The level of log lines.
    pub(crate) fn log_level(&self) -> Option<&str> {
        self.log_level.as_deref()
    }
}

/// A command in the file runs as the hub does, so nobody else may write the file.
fn ours_alone(path: &Path) -> Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    let file = fs::metadata(path);
    let file = file.with_context(|| format!("cannot look at `{}`", path.display()))?;
    let me = rustix::process::getuid().as_raw();
    if file.permissions().mode() & 0o022 != 0 || ![0, me].contains(&file.uid()) {
        anyhow::bail!(
            "`{}` has `key-passphrase-command` and can be written by others; `chmod go-w` it, owned by root or \
             the hub's user",
            path.display()
        );
    }
    Ok(())
}

/// The settings of flags, environment and file together.
pub(crate) fn hub_settings(flags: &HubFlags, config: Config) -> Result<HubSettings> {
    together(flags, config).context(Misconfigured)
}

fn together(flags: &HubFlags, config: Config) -> Result<HubSettings> {
    let state = flags.state.clone().or(config.state).context(
        "no state directory: name it with `--state DIR`, `NULLIUS_STATE` or `state` in the file of `--config`",
    )?;
    let mut settings = HubSettings::new(state);
    if let Some(listen) = flags.listen.or(config.listen) {
        settings.listen = listen;
    }
    settings.public_url = flags.public_url.clone().or(config.public_url);
    settings.names = config.names;
    let flag = PassphraseFrom::of(
        flags.key_passphrase_file.clone(),
        flags.key_passphrase_command.clone(),
    )?;
    let set = PassphraseFrom::of(config.key_passphrase_file, config.key_passphrase_command)?;
    settings.sealing = sealing(flag.or(set).as_ref())?;
    if let Some(Metrics::Everyone) = config.metrics_for {
        settings.metrics_for = MetricsFor::Everyone;
    }
    settings.drain = config.drain.unwrap_or(settings.drain);
    settings.audit.anchor = flags.audit_anchor.clone().or(config.audit.anchor);
    settings.audit.file_form = match config.audit.file_format {
        Some(AuditFile::Kubernetes) => FileForm::Kubernetes,
        Some(AuditFile::Nullius) | None => FileForm::Nullius,
    };
    let from = config.lifetimes;
    let to = &mut settings.lifetimes;
    to.session = from.session.unwrap_or(to.session);
    to.idle = from.idle.unwrap_or(to.idle);
    to.browser_session = from.browser_session.unwrap_or(to.browser_session);
    to.join_token = from.join_token.unwrap_or(to.join_token);
    to.enrolment_link = from.enrolment_link.unwrap_or(to.enrolment_link);
    Ok(settings)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_flag_wins_over_the_file_and_an_unknown_word_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(
            file.path(),
            "state = '/var/lib/nullius'\nlisten = '127.0.0.1:1'\n[lifetimes]\nsession = '8h'\n",
        )
        .unwrap();
        let flags =
            HubFlags { listen: Some("127.0.0.1:2".parse().unwrap()), ..HubFlags::default() };
        let settings = hub_settings(&flags, Config::read(Some(file.path())).unwrap()).unwrap();
        assert_eq!(settings.listen.port(), 2);
        assert_eq!(settings.state_dir, Path::new("/var/lib/nullius"));
        assert_eq!(settings.lifetimes.session.to_string(), "8h");

        fs::write(file.path(), "stat = '/var/lib/nullius'\n").unwrap();
        let error = format!("{:#}", Config::read(Some(file.path())).unwrap_err());
        assert!(error.contains("stat") && error.contains("line 1"), "{error}");
        assert!(hub_settings(&HubFlags::default(), Config::default()).is_err());
    }
}
