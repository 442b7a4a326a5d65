//! Time as data: an instant, a length of time as people write it, and the one clock that shells pass in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

/// An instant in UTC; RFC 3339 in text.
pub type Timestamp = jiff::Timestamp;

/// Reads an instant that people write; what is none is told with the form that is wanted.
pub(crate) fn written<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
        let told = format!("`{shown}` is no time; write one like `2026-12-31T00:00:00Z`");
        serde::de::Error::custom(told)
    })
}

/// Where the time comes from; pure code takes a [`Timestamp`] instead.
pub trait Clock: Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> Timestamp;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A length of time in whole seconds, written `90s`, `15m`, `8h` or `30d`; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ttl(u32);

/// Text that is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a duration: write a whole number and one of `s`, `m`, `h`, `d`, for example `8h`"
)]
pub struct TtlError(String);

impl Ttl {
    /// A length of so many seconds; zero becomes one second.
    pub const fn from_secs(secs: u32) -> Self {
        Self(if secs == 0 { 1 } else { secs })
    }

    /// The length in seconds.
    pub const fn as_secs(self) -> u32 {
        self.0
    }

    /// The instant that lies this length before `end`; the first representable instant on overflow.
    pub fn before(self, end: Timestamp) -> Timestamp {
        end.checked_sub(jiff::SignedDuration::from_secs(self.0.into())).unwrap_or(Timestamp::MIN)
    }

    /// The instant that lies this length after `start`; the last representable instant on overflow.
    pub fn after(self, start: Timestamp) -> Timestamp {
        start.checked_add(jiff::SignedDuration::from_secs(self.0.into())).unwrap_or(Timestamp::MAX)
    }
}

impl FromStr for Ttl {
    type Err = TtlError;
    fn from_str(text: &str) -> Result<Self, TtlError> {
        let wrong = || TtlError(text.chars().take(40).flat_map(char::escape_debug).collect());
        let unit = text.chars().last().ok_or_else(wrong)?;
        let scale: u32 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let digits = &text[..text.len() - unit.len_utf8()];
        if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return Err(wrong());
        }
        let count: u32 = digits.parse().map_err(|_| wrong())?;
        match count.checked_mul(scale) {
            Some(secs) if secs > 0 => Ok(Self(secs)),
            Some(_) | None => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Ttl {
    type Error = TtlError;
    fn try_from(text: String) -> Result<Self, TtlError> {
        text.parse()
    }
}

impl From<Ttl> for String {
    fn from(ttl: Ttl) -> String {
        ttl.to_string()
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            secs if secs.is_multiple_of(86_400) => write!(f, "{}d", secs / 86_400),
            secs if secs.is_multiple_of(3_600) => write!(f, "{}h", secs / 3_600),
            secs if secs.is_multiple_of(60) => write!(f, "{}m", secs / 60),
            secs => write!(f, "{secs}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn lengths_read_and_print_the_same() {
        for text in ["90s", "15m", "8h", "30d", "1s"] {
            assert_eq!(text.parse::<Ttl>().unwrap().to_string(), text);
        }
        assert_eq!("60s".parse::<Ttl>().unwrap().to_string(), "1m");
        for bad in ["", "0s", "8", "h", "-1h", "1.5h", "8 h", "99999999999d", "1ü"] {
            assert!(bad.parse::<Ttl>().is_err(), "{bad:?}");
        }
    }
}
