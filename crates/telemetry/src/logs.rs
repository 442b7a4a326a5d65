//! Logs: one line an event, as text for people or JSON for collectors.

use std::{fmt, io, str::FromStr};

use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt as lines, util::SubscriberInitExt};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there are no logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A format that is none.
    #[error("`{0}` is not a log format; use `text` or `json`")]
    Format(String),
    /// A level that is none.
    #[error(
        "`{0}` is not a log level; use `error`, `warn`, `info`, `debug` or `trace`, or directives such as `info,nullius_tunnel=debug`"
    )]
    Level(String),
    /// Logs were set up before.
    #[error("logs are set up already")]
    Twice,
}

impl FromStr for LogFormat {
    type Err = LogError;
    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(shown(text))),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Sends logs to standard error for the life of the process. A plain level is that of Nullius' own lines, with
/// libraries at `warn`; directives are taken as they are.
pub fn init_logs(format: LogFormat, level: &str) -> Result<(), LogError> {
    let filter = filter(level)?;
    let lines = lines::fmt().with_env_filter(filter).with_writer(io::stderr);
    let done = match format {
        LogFormat::Text => {
            lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).finish().try_init()
        }
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .finish()
            .try_init(),
    };
    done.map_err(|_| LogError::Twice)
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let wrong = || LogError::Level(shown(level));
    let directives = match level.parse::<LevelFilter>() {
        Ok(own) if !level.is_empty() => {
            // It prints answers that it cannot read, and there may be a Secret in one.
            let kube = own.min(LevelFilter::ERROR);
            format!("{},kube_client={kube},nullius={own}", own.min(LevelFilter::WARN))
        }
        Ok(_) => return Err(wrong()),
        Err(_) if level.contains(['=', ',']) => level.to_owned(),
        Err(_) => return Err(wrong()),
    };
    EnvFilter::builder().parse(directives).map_err(|_| wrong())
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_level_is_for_our_lines_and_directives_stand_as_they_are() {
        let text = |level| filter(level).unwrap().to_string();
        assert_eq!(text("debug"), "kube_client=error,nullius=debug,warn");
        assert_eq!(text("error"), "kube_client=error,nullius=error,error");
        assert_eq!(text("info,nullius_tunnel=trace"), "nullius_tunnel=trace,info");
        for bad in ["", "loud", "a=b=c"] {
            assert!(matches!(filter(bad), Err(LogError::Level(_))), "{bad}");
        }
    }

    #[test]
    fn formats_read_and_print_the_same() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("xml".parse::<LogFormat>().is_err());
    }
}
