//! Values that Kubernetes writes in its own form: times, durations, bytes.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jiff::{
    Timestamp,
    civil::{Date, DateTime, Time},
    tz::Offset,
};

/// RFC 3339 as Go reads it, in universal time, to the second or to the microsecond.
pub(crate) fn time(text: &str, digits: Digits) -> Option<String> {
    let (date, rest) = text.split_once('T')?;
    let date = civil_date(date)?;
    let zone = rest.find(['Z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone);
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, "0"));
    // Where Go writes microseconds, it reads nothing else.
    if digits == Digits::Microseconds && fraction.len() != 6 {
        return None;
    }
    let nanos = nanoseconds(fraction)?;
    let offset = offset(zone)?;
    let [hour, minute, second] = pair_of_digits(clock, ':')?;
    let time = Time::new(hour, minute, second, nanos).ok()?;
    let at = offset.to_timestamp(DateTime::from_parts(date, time)).ok()?;
    Some(written(at, digits))
}

/// How finely a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digits {
    /// To the second.
    Seconds,
    /// To the microsecond.
    Microseconds,
}

fn written(at: Timestamp, digits: Digits) -> String {
    let utc = Offset::UTC.to_datetime(at);
    let (date, time) = (utc.date(), utc.time());
    let whole = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        date.month(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    match digits {
        Digits::Seconds => format!("{whole}Z"),
        Digits::Microseconds => format!("{whole}.{:06}Z", time.subsec_nanosecond() / 1000),
    }
}

fn civil_date(text: &str) -> Option<Date> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let two = |part: &str| number(part, 2).and_then(|value| i8::try_from(value).ok());
    Date::new(i16::try_from(number(year, 4)?).ok()?, two(month)?, two(day)?).ok()
}

fn pair_of_digits(text: &str, between: char) -> Option<[i8; 3]> {
    let mut parts = text.split(between);
    let mut next = || parts.next().and_then(|part| i8::try_from(number(part, 2)?).ok());
    let all = [next()?, next()?, next()?];
    parts.next().is_none().then_some(all)
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let all = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if all { text.parse().ok() } else { None }
}

fn nanoseconds(fraction: &str) -> Option<i32> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    nine.parse().ok()
}

fn offset(zone: &str) -> Option<Offset> {
    if zone == "Z" {
        return Some(Offset::UTC);
    }
    let (negative, clock) = match zone.as_bytes().first()? {
        b'-' => (true, zone.get(1..)?),
        b'+' => (false, zone.get(1..)?),
        _ => return None,
    };
    let (hours, minutes) = clock.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    if hours > 24 || minutes > 59 {
        return None;
    }
    let seconds = i32::try_from((hours * 60 + minutes) * 60).ok()?;
    Offset::from_seconds(if negative { -seconds } else { seconds }).ok()
}

const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// A duration as Go reads and writes it: `90m` is `1h30m0s`.
pub(crate) fn duration(text: &str) -> Option<String> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if unsigned == "0" {
        return Some("0s".to_owned());
    }
    let mut rest = unsigned;
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        nanos = nanos.checked_add(nanos_of(value, *factor)?)?;
        rest = next;
    }
    if unsigned.is_empty() || nanos > i128::from(i64::MAX) {
        return None;
    }
    Some(written_duration(nanos.unsigned_abs(), negative))
}

#[expect(clippy::cast_possible_truncation, reason = "a factor is a whole number of nanoseconds")]
fn nanos_of(value: &str, factor: f64) -> Option<i128> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let factor_whole = factor as i128;
    let mut nanos = whole.checked_mul(factor_whole)?;
    if !fraction.is_empty() {
        let eighteen: String = fraction.chars().take(18).collect();
        let scale = 10i128.checked_pow(u32::try_from(eighteen.len()).ok()?)?;
        nanos =
            nanos.checked_add(eighteen.parse::<i128>().ok()?.checked_mul(factor_whole)? / scale)?;
    }
    Some(nanos)
}

fn written_duration(nanos: u128, negative: bool) -> String {
    let sign = if negative && nanos > 0 { "-" } else { "" };
    let with_fraction = |whole: u128, rest: u128, digits: usize| {
        let fraction = format!("{rest:0digits$}");
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            fraction => format!("{whole}.{fraction}"),
        }
    };
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000 {
        return format!("{sign}{nanos}ns");
    }
    if nanos < 1_000_000 {
        return format!("{sign}{}µs", with_fraction(nanos / 1_000, nanos % 1_000, 3));
    }
    if nanos < 1_000_000_000 {
        return format!("{sign}{}ms", with_fraction(nanos / 1_000_000, nanos % 1_000_000, 6));
    }
    let seconds = nanos / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let shown = with_fraction(seconds % 60, nanos % 1_000_000_000, 9);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{shown}s"),
        (0, minutes) => format!("{sign}{minutes}m{shown}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{shown}s"),
    }
}

/// Go's base64: padding is asked for, line ends are passed over, bits behind the end too.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// Bytes in base64, written without line ends.
pub(crate) fn bytes(text: &str) -> Option<String> {
    let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    BASE64.decode(plain).ok().map(|bytes| BASE64.encode(bytes))
}

/// Text as bytes in base64.
pub(crate) fn bytes_of_text(text: &str) -> String {
    BASE64.encode(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_universal() {
        let seconds = |text| time(text, Digits::Seconds);
        assert_eq!(seconds("2026-01-02T03:04:05+01:00").as_deref(), Some("2026-01-02T02:04:05Z"));
        assert_eq!(seconds("2026-07-02T23:59:59-03:30").as_deref(), Some("2026-07-03T03:29:59Z"));
        assert_eq!(seconds("2026-01-02T03:04:05.999Z").as_deref(), Some("2026-01-02T03:04:05Z"));
        let micro = |text| time(text, Digits::Microseconds);
        let written = micro("2026-01-02T03:04:05.100000-01:00");
        assert_eq!(written.as_deref(), Some("2026-01-02T04:04:05.100000Z"));
        assert_eq!(micro("2026-01-02T03:04:05.1Z"), None);
        assert_eq!(micro("2026-01-02T03:04:05Z"), None);
        for wrong in [
            "",
            "2026-01-02",
            "2026-02-30T00:00:00Z",
            "2026-01-02 03:04:05Z",
            "2026-01-02T03:04:05",
            "2026-1-2T03:04:05Z",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (text, written) in [
            ("60s", "1m0s"),
            ("1h", "1h0m0s"),
            ("90m", "1h30m0s"),
            ("1.5s", "1.5s"),
            ("0", "0s"),
            ("300ms", "300ms"),
            ("1h1ns", "1h0m0.000000001s"),
            ("-1.5h", "-1h30m0s"),
            ("1500us", "1.5ms"),
            ("1us", "1µs"),
        ] {
            assert_eq!(duration(text).as_deref(), Some(written), "{text}");
        }
        for wrong in ["", "1", "s", "1d", "1s ", "9999999999999h", ".s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_are_written_in_one_line() {
        assert_eq!(bytes("aGVs\r\nbG8=\n").as_deref(), Some("aGVsbG8="));
        assert_eq!(bytes("aGVsbG8"), None);
        assert_eq!(bytes("a b="), None);
    }
}
