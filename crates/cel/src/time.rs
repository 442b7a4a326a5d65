//! Timestamps and durations, with Go's ways of reading and writing them: RFC 3339 between the years 1 and 9999,
//! spans of 64-bit nanoseconds. Time zones come from the bundled database, so that every machine agrees.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::LazyLock,
};

use jiff::tz::{TimeZone, TimeZoneDatabase};

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;
/// Seconds of 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

/// No offset is as far, in seconds: a hundred thousand years.
const FARTHEST: u64 = 3_155_760_000_000;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A point in time, to the nanosecond. It is written with the offset from UTC in which it was read, and compared
/// without it.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    seconds: i64,
    nanoseconds: u32,
    /// In seconds, east of Greenwich.
    offset: i32,
}

/// A span of time, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    nanoseconds: i64,
}

/// A point in time as a calendar and a clock show it somewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// From 1.
    pub(crate) month: i64,
    /// From 1.
    pub(crate) day: i64,
    /// From 0.
    pub(crate) day_of_year: i64,
    /// From 0, a Sunday.
    pub(crate) weekday: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
}

impl Timestamp {
    /// A time by its seconds since 1970; `None` outside of the years 1 to 9999.
    #[must_use]
    pub fn new(seconds: i64, nanoseconds: u32) -> Option<Timestamp> {
        ((FIRST..=LAST).contains(&seconds) && nanoseconds < 1_000_000_000).then_some(Timestamp {
            seconds,
            nanoseconds,
            offset: 0,
        })
    }

    fn instant(self) -> (i64, u32) {
        (self.seconds, self.nanoseconds)
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds past the second.
    #[must_use]
    pub fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }

    /// The offset that it was read with, where Go has one zone for all times with it: whole hours that places have. A time
    /// with another offset is like no other to Go.
    pub(crate) fn known_zone(self) -> Option<i32> {
        let hours = self.offset / 3600;
        (self.offset % 3600 == 0 && (-12..=14).contains(&hours)).then_some(self.offset)
    }

    /// Go's zero time: 0001-01-01T00:00:00Z.
    pub(crate) fn is_zero(self) -> bool {
        self.seconds == FIRST && self.nanoseconds == 0
    }

    /// The time that RFC 3339 text names: `Ok(None)` when it is outside of the range, `Err` when it is not RFC 3339.
    pub(crate) fn parse(text: &str) -> Result<Option<Timestamp>, NotATime> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| -> Result<i64, NotATime> {
            let digits = bytes.get(from..to).ok_or(NotATime)?;
            if !digits.iter().all(u8::is_ascii_digit) {
                return Err(NotATime);
            }
            Ok(digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
        };
        let mark = |at: usize, wanted: u8| {
            if bytes.get(at) == Some(&wanted) { Ok(()) } else { Err(NotATime) }
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        mark(4, b'-')?;
        mark(7, b'-')?;
        mark(10, b'T')?;
        // Go reads an hour of one digit too.
        let at = if bytes.get(12) == Some(&b':') { 12 } else { 13 };
        let (hour, minute, second) =
            (number(11, at)?, number(at + 1, at + 3)?, number(at + 4, at + 6)?);
        mark(at, b':')?;
        mark(at + 3, b':')?;
        if !(1..=12).contains(&month)
            || day < 1
            || day > days_in_month(year, month)
            || hour > 23
            || minute > 59
            || second > 59
        {
            return Err(NotATime);
        }
        let mut at = at + 6;
        let mut nanoseconds = 0_u32;
        if matches!(bytes.get(at), Some(b'.' | b',')) {
            at += 1;
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return Err(NotATime);
            }
            for place in 0..9 {
                let digit = if place < digits { bytes[at + place] - b'0' } else { 0 };
                nanoseconds = nanoseconds * 10 + u32::from(digit);
            }
            at += digits;
        }
        let offset = match bytes.get(at) {
            Some(b'Z') => {
                at += 1;
                0
            }
            Some(sign @ (b'+' | b'-')) => {
                let (hours, minutes) = (number(at + 1, at + 3)?, number(at + 4, at + 6)?);
                mark(at + 3, b':')?;
                if hours > 24 || minutes > 60 {
                    return Err(NotATime);
                }
                at += 6;
                let seconds = i32::try_from(hours * 3600 + minutes * 60).map_err(|_| NotATime)?;
                if *sign == b'-' { -seconds } else { seconds }
            }
            _ => return Err(NotATime),
        };
        if at != bytes.len() {
            return Err(NotATime);
        }
        let clock = hour * 3600 + minute * 60 + second;
        let seconds = days_from_civil(year, month, day) * DAY + clock - i64::from(offset);
        Ok(Timestamp::new(seconds, nanoseconds).map(|time| Timestamp { offset, ..time }))
    }

    /// The time a span later; `None` outside of the range.
    pub(crate) fn checked_add(self, span: Duration) -> Option<Timestamp> {
        let nanoseconds = i64::from(self.nanoseconds) + span.nanoseconds.rem_euclid(NANOS);
        let seconds = self.seconds + span.nanoseconds.div_euclid(NANOS) + nanoseconds / NANOS;
        let sum = Timestamp::new(seconds, u32::try_from(nanoseconds % NANOS).ok()?)?;
        Some(Timestamp { offset: self.offset, ..sum })
    }

    /// The span from another time to this one; `None` beyond 64 bits of nanoseconds.
    pub(crate) fn checked_sub(self, other: Timestamp) -> Option<Duration> {
        let nanoseconds = i128::from(self.seconds - other.seconds) * i128::from(NANOS)
            + i128::from(self.nanoseconds)
            - i128::from(other.nanoseconds);
        Some(Duration { nanoseconds: i64::try_from(nanoseconds).ok()? })
    }

    /// The time in a zone: an IANA name, `UTC`, or an offset such as `-08:00`.
    pub(crate) fn civil(self, zone: Option<&str>) -> Result<Civil, String> {
        let offset = match zone {
            None | Some("" | "UTC") => 0,
            Some(zone) => self.offset_in(zone)?,
        };
        Ok(civil(self.seconds.saturating_add(offset)))
    }

    /// Seconds east of Greenwich. An offset is whatever two numbers around a colon make, as in cel-go.
    fn offset_in(self, zone: &str) -> Result<i64, String> {
        if let Some((hours, minutes)) = zone.split_once(':') {
            let negative = hours.starts_with('-');
            let (hours, minutes) = (whole(hours)?, whole(minutes)?);
            let minutes = if negative { hours * 60 - minutes } else { hours * 60 + minutes };
            return i64::try_from(minutes * 60)
                .ok()
                .filter(|seconds| seconds.unsigned_abs() < FARTHEST)
                .ok_or_else(|| unknown_zone(zone));
        }
        if zone.contains("..") || zone.starts_with(['/', '\\']) {
            return Err("time: invalid location name".to_owned());
        }
        // A part of a file's name has 255 bytes: where zones are files, that is asked first.
        if zone.split('/').any(|part| part.len() > 255) {
            return Err("file name too long".to_owned());
        }
        let found: TimeZone = ZONES.get(zone).map_err(|_| unknown_zone(zone))?;
        // The database does not look at case; names of zones have one.
        if found.iana_name() != Some(zone) {
            return Err(unknown_zone(zone));
        }
        let nanoseconds = i32::try_from(self.nanoseconds).unwrap_or_default();
        // The last hours of the year 9999 are beyond what the database answers for.
        let instant =
            jiff::Timestamp::new(self.seconds, nanoseconds).unwrap_or(match self.seconds {
                ..0 => jiff::Timestamp::MIN,
                0.. => jiff::Timestamp::MAX,
            });
        Ok(i64::from(found.to_offset(instant).seconds()))
    }
}

fn unknown_zone(zone: &str) -> String {
    format!("unknown time zone {zone}")
}

/// A number as Go's `Atoi` reads it, in its words.
fn whole(text: &str) -> Result<i128, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("strconv.Atoi: parsing {text:?}: invalid syntax"));
    }
    let number: Option<i64> = text.parse().ok();
    number
        .map(i128::from)
        .ok_or_else(|| format!("strconv.Atoi: parsing {text:?}: value out of range"))
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.instant() == other.instant()
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        self.instant().cmp(&other.instant())
    }
}

impl Hash for Timestamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.instant().hash(state);
    }
}

/// Text that is not RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotATime;

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second, .. } =
            civil(self.seconds + i64::from(self.offset));
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanoseconds != 0 {
            let digits = format!("{:09}", self.nanoseconds);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        let minutes = self.offset.unsigned_abs() / 60;
        match self.offset {
            0 => f.write_str("Z"),
            ..0 => write!(f, "-{:02}:{:02}", minutes / 60, minutes % 60),
            1.. => write!(f, "+{:02}:{:02}", minutes / 60, minutes % 60),
        }
    }
}

impl Duration {
    /// A span by its nanoseconds.
    #[must_use]
    pub fn from_nanoseconds(nanoseconds: i64) -> Duration {
        Duration { nanoseconds }
    }

    /// A span by seconds and nanoseconds; `None` beyond 64 bits of nanoseconds.
    #[must_use]
    pub fn new(seconds: i64, nanoseconds: i64) -> Option<Duration> {
        seconds
            .checked_mul(NANOS)?
            .checked_add(nanoseconds)
            .map(|nanoseconds| Duration { nanoseconds })
    }

    /// The whole span in nanoseconds.
    #[must_use]
    pub fn nanoseconds(self) -> i64 {
        self.nanoseconds
    }

    /// The span that Go's form names: `1h30m`, `-1.5s`, `100ms`; `None` when it is not of the form or too long.
    pub(crate) fn parse(text: &str) -> Option<Duration> {
        let (negative, mut rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Some(Duration { nanoseconds: 0 });
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let (whole, fraction, after) = split_number(rest)?;
            let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
            let unit: u128 = match &after[..end] {
                "ns" => 1,
                "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "m" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return None,
            };
            let mut scale = unit;
            let mut part = whole.checked_mul(unit)?;
            for digit in fraction.bytes() {
                scale /= 10;
                // Digits past the nanosecond are cut off.
                part = part.checked_add(u128::from(digit - b'0') * scale)?;
            }
            total = total.checked_add(part)?;
            if total > 1 << 63 {
                return None;
            }
            rest = &after[end..];
        }
        let signed = i128::try_from(total).ok()?;
        let signed = if negative { -signed } else { signed };
        Some(Duration { nanoseconds: i64::try_from(signed).ok()? })
    }

    pub(crate) fn checked_add(self, other: Duration) -> Option<Duration> {
        self.nanoseconds.checked_add(other.nanoseconds).map(|nanoseconds| Duration { nanoseconds })
    }

    pub(crate) fn checked_sub(self, other: Duration) -> Option<Duration> {
        self.nanoseconds.checked_sub(other.nanoseconds).map(|nanoseconds| Duration { nanoseconds })
    }

    pub(crate) fn checked_neg(self) -> Option<Duration> {
        self.nanoseconds.checked_neg().map(|nanoseconds| Duration { nanoseconds })
    }
}

impl fmt::Display for Duration {
    #[expect(clippy::cast_precision_loss, reason = "it is what cel-go does")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As cel-go writes it: by way of a double, which for long spans has no place for nanoseconds.
        let (seconds, rest) = (self.nanoseconds / NANOS, self.nanoseconds % NANOS);
        write!(f, "{}s", seconds as f64 + rest as f64 / 1e9)
    }
}

/// Whole digits as a number, the digits after the point, what follows; `None` without any digit.
fn split_number(text: &str) -> Option<(u128, &str, &str)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    let value = if whole == 0 { 0 } else { text[..whole].parse().ok()? };
    let rest = &text[whole..];
    let Some(after_point) = rest.strip_prefix('.') else {
        return (whole > 0).then_some((value, "", rest));
    };
    let fraction = digits(after_point);
    (whole + fraction > 0).then_some((value, &after_point[..fraction], &after_point[fraction..]))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970 of a date of the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil(seconds: i64) -> Civil {
    let days = seconds.div_euclid(DAY);
    let clock = seconds.rem_euclid(DAY);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Civil {
        year,
        month,
        day,
        day_of_year: days - days_from_civil(year, 1, 1),
        weekday: (days + 4).rem_euclid(7),
        hour: clock / 3600,
        minute: clock / 60 % 60,
        second: clock % 60,
    }
}

/// Whether the text is a date of RFC 3339, `2021-01-31`.
pub(crate) fn is_date(text: &str) -> bool {
    matches!(Timestamp::parse(&format!("{text}T00:00:00Z")), Ok(Some(_))) && text.len() == 10
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for text in [
            "2009-02-13T23:31:30Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "2000-02-29T12:00:00.5Z",
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().unwrap().to_string(), text);
        }
        assert_eq!(
            Timestamp::parse("2000-01-01T00:00:00+01:00").unwrap().unwrap().to_string(),
            "2000-01-01T00:00:00+01:00"
        );
        assert_eq!(
            Timestamp::parse("2000-01-01T00:00:00+01:00"),
            Timestamp::parse("1999-12-31T23:00:00Z")
        );
        assert_eq!(Timestamp::parse("0000-01-01T00:00:00Z"), Ok(None));
        assert_eq!(Timestamp::parse("10000-01-01T00:00:00Z"), Err(NotATime));
        let far = Timestamp::parse("0001-01-01T01:00:00-03:30").unwrap().unwrap();
        assert_eq!(far.to_string(), "0001-01-01T01:00:00-03:30");
        for text in
            ["", "2009", "2009-02-30T00:00:00Z", "2009-02-13 23:31:30Z", "2009-02-13T23:31:30"]
        {
            assert_eq!(Timestamp::parse(text), Err(NotATime), "{text}");
        }
    }

    #[test]
    fn spans_are_read_and_written() {
        for (text, shown) in [
            ("1h30m", "5400s"),
            ("-1.5s", "-1.5s"),
            ("100ms", "0.1s"),
            ("0", "0s"),
            (".5s", "0.5s"),
        ] {
            assert_eq!(Duration::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "-", "1", "1d", "s", "1h 2m", "300000000h", "1.s.s"] {
            assert!(Duration::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn zones_are_known_by_name_and_by_offset() {
        let time = Timestamp::parse("2009-02-13T23:31:30Z").unwrap().unwrap();
        assert_eq!(time.civil(None).unwrap().weekday, 5);
        assert_eq!(time.civil(Some("Australia/Sydney")).unwrap().day, 14);
        assert_eq!(time.civil(Some("-02:30")).unwrap().minute, 1);
        assert_eq!(time.civil(Some("+99:99")).unwrap().hour, 4);
        for (zone, message) in [
            ("Mars/Base", "unknown time zone Mars/Base"),
            ("utc", "unknown time zone utc"),
            ("a:1", "strconv.Atoi: parsing \"a\": invalid syntax"),
        ] {
            assert_eq!(time.civil(Some(zone)).unwrap_err(), message);
        }
    }
}
