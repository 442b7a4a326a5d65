//! Formats of texts and numbers that are checked; all others are remarks, as JSON Schema says.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::decimal::Decimal;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Date,
    DateTime,
    Int32,
    Int64,
    Ipv4,
    Ipv6,
    Uuid,
}

impl Format {
    pub(super) fn of(word: &str) -> Option<Self> {
        Some(match word {
            "date" => Self::Date,
            "date-time" => Self::DateTime,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }

    /// Whether a number has it; it has those that are for others.
    pub(super) fn fits_number(self, number: Decimal) -> bool {
        match self {
            Self::Int32 => number.is_within(i32::MIN.into(), i32::MAX.into()),
            Self::Int64 => number.is_within(i64::MIN.into(), i64::MAX.into()),
            _ => true,
        }
    }

    /// Whether a text has it.
    pub(super) fn fits_text(self, text: &str) -> bool {
        match self {
            Self::Date => is_date(text),
            Self::DateTime => is_date_time(text),
            Self::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Self::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Self::Uuid => is_uuid(text),
            Self::Int32 | Self::Int64 => true,
        }
    }
}

/// So many digits of ASCII, as a number.
fn digits(text: &str, count: usize) -> Option<u32> {
    let is = text.len() == count && text.bytes().all(|c| c.is_ascii_digit());
    if is { text.parse().ok() } else { None }
}

fn is_date(text: &str) -> bool {
    if text.len() != "2024-02-29".len() {
        return false;
    }
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return false };
    let (Some(year), Some(month), Some(day)) = (digits(year, 4), digits(month, 2), digits(day, 2))
    else {
        return false;
    };
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(is_leap),
        _ => return false,
    };
    (1..=days).contains(&day)
}

fn is_date_time(text: &str) -> bool {
    let Some((date, time)) = text.split_once(['T', 't']) else { return false };
    is_date(date) && is_time(time)
}

/// A time of day with its offset (RFC 3339); a leap second only where one can be.
fn is_time(text: &str) -> bool {
    let (time, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => {
            let Some(at) = text.rfind(['+', '-']) else { return false };
            let (time, offset) = text.split_at(at);
            let Some((hours, minutes)) = offset[1..].split_once(':') else { return false };
            let (Some(hours @ 0..=23), Some(minutes @ 0..=59)) =
                (digits(hours, 2), digits(minutes, 2))
            else {
                return false;
            };
            let minutes = i64::from(hours * 60 + minutes);
            (time, if offset.starts_with('-') { -minutes } else { minutes })
        }
    };
    let (time, part) = match time.split_once('.') {
        Some((time, part)) => (time, Some(part)),
        None => (time, None),
    };
    if part.is_some_and(|it| it.is_empty() || !it.bytes().all(|c| c.is_ascii_digit())) {
        return false;
    }
    let parts: Vec<&str> = time.splitn(4, ':').collect();
    let [hours, minutes, seconds] = parts[..] else { return false };
    let (Some(hours @ 0..=23), Some(minutes @ 0..=59), Some(seconds)) =
        (digits(hours, 2), digits(minutes, 2), digits(seconds, 2))
    else {
        return false;
    };
    let in_utc = (i64::from(hours * 60 + minutes) - offset).rem_euclid(24 * 60);
    seconds < 60 || (seconds == 60 && in_utc == 24 * 60 - 1)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == b'-',
            _ => c.is_ascii_hexdigit(),
        })
}
