//! How long an API server waits: `?timeout=10s` in the webhook's URL, as Go writes durations.

use std::time::Duration;

/// What an API server waits where it does not say it; also the longest that is believed.
const LONGEST: Duration = Duration::from_secs(30);
const DEFAULT: Duration = Duration::from_secs(10);

/// When an answer is no longer of use: four fifths of what the API server waits.
pub(crate) fn use_by(query: Option<&str>) -> Duration {
    let said = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .find_map(|pair| pair.strip_prefix("timeout="));
    let waits = said.map_or(Some(DEFAULT), duration).unwrap_or(DEFAULT);
    waits.min(LONGEST) * 4 / 5
}

/// `1m30s`, `10s`, `250ms`.
fn duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)];
        let (unit, seconds) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
    }
    (total > Duration::ZERO).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_go_is_read_and_nonsense_is_not_believed() {
        for (query, millis) in [
            (Some("timeout=10s"), 8_000),
            (Some("a=b&timeout=1s"), 800),
            (Some("timeout=250ms"), 200),
            (Some("timeout=1m30s"), 24_000),
            (Some("timeout=1.5s"), 1_200),
            (Some("timeout=soon"), 8_000),
            (Some("timeout="), 8_000),
            (Some("timeout=-1s"), 8_000),
            (Some("timeout=99999999999999999999h"), 8_000),
            (None, 8_000),
        ] {
            assert_eq!(use_by(query), Duration::from_millis(millis), "{query:?}");
        }
    }
}
