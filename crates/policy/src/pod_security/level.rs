//! Levels and versions of the standards, as namespace labels and command lines spell them.

use std::{fmt, str::FromStr};

/// How strict; a stricter level is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Anything goes.
    Privileged,
    /// No known way to a node.
    Baseline,
    /// Hardened as far as is usual practice.
    Restricted,
}

/// A version of the standards; `latest` is greater than every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `v1.N`.
    Minor(u64),
    /// `latest`.
    Latest,
}

/// What pods are measured by: `restricted:v1.36`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LevelVersion {
    /// How strict.
    pub level: Level,
    /// As of which version.
    pub version: Version,
}

/// A level or version that is none; its text is Kubernetes' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseLevelError {
    /// The level is unknown.
    #[error("must be one of privileged, baseline, restricted")]
    Level,
    /// The version is malformed.
    #[error("must be \"latest\" or \"v1.x\"")]
    Version,
}

impl Version {
    /// The newest version whose rules are known here; newer ones are judged by it.
    pub const NEWEST_KNOWN: u64 = 37;

    /// The minor version whose rules count, for a server that knows them up to `newest`.
    pub(super) fn rules_of(self, newest: u64) -> u64 {
        match self {
            Self::Minor(minor) => minor.min(newest),
            Self::Latest => newest,
        }
    }
}

impl LevelVersion {
    /// Whether both mean the same: privileged is privileged in every version.
    pub fn is_equivalent_to(self, other: Self) -> bool {
        self == other || (self.level == Level::Privileged && other.level == Level::Privileged)
    }
}

impl Level {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = ParseLevelError;

    fn from_str(text: &str) -> Result<Self, ParseLevelError> {
        [Self::Privileged, Self::Baseline, Self::Restricted]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or(ParseLevelError::Level)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minor(minor) => write!(f, "v1.{minor}"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

impl FromStr for Version {
    type Err = ParseLevelError;

    fn from_str(text: &str) -> Result<Self, ParseLevelError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let digits = text.strip_prefix("v1.").ok_or(ParseLevelError::Version)?;
        let canonical = digits == "0" || !digits.starts_with('0');
        if digits.is_empty() || !canonical || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(ParseLevelError::Version);
        }
        // Kubernetes reads the number into a signed word.
        let minor = digits.parse::<i64>().ok().and_then(|minor| u64::try_from(minor).ok());
        minor.map(Self::Minor).ok_or(ParseLevelError::Version)
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

impl FromStr for LevelVersion {
    type Err = ParseLevelError;

    /// `LEVEL` alone means its latest version.
    fn from_str(text: &str) -> Result<Self, ParseLevelError> {
        let (level, version) = text.split_once(':').unwrap_or((text, "latest"));
        Ok(Self { level: level.parse()?, version: version.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_kubernetes_reads_them() {
        assert_eq!("v1.0".parse(), Ok(Version::Minor(0)));
        assert_eq!("v1.36".parse(), Ok(Version::Minor(36)));
        assert_eq!("latest".parse(), Ok(Version::Latest));
        for wrong in
            ["", "1.36", "v1.", "v1.01", "v2.0", "v1.-1", "v1.+1", "Latest", "v1.1 ", "v1.1\n"]
        {
            assert_eq!(wrong.parse::<Version>(), Err(ParseLevelError::Version), "{wrong:?}");
        }
        assert_eq!("v1.9223372036854775807".parse(), Ok(Version::Minor(i64::MAX as u64)));
        assert!("v1.9223372036854775808".parse::<Version>().is_err());
        assert!(Version::Minor(99) < Version::Latest && Version::Minor(9) < Version::Minor(10));
    }

    #[test]
    fn a_level_alone_is_its_latest_version() {
        let read = |text: &str| text.parse::<LevelVersion>().map(|read| read.to_string());
        assert_eq!(read("restricted"), Ok("restricted:latest".to_owned()));
        assert_eq!(read("baseline:v1.24"), Ok("baseline:v1.24".to_owned()));
        assert_eq!(read("Baseline"), Err(ParseLevelError::Level));
        assert_eq!(read("baseline:"), Err(ParseLevelError::Version));
        assert!(Level::Restricted > Level::Baseline && Level::Baseline > Level::Privileged);
    }
}
