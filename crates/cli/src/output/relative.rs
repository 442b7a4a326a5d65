//! Times as people say them: `5m ago`, `in 2h`, `3d ago`.

use nullius_model::Timestamp;

/// An instant seen from now.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.as_second().saturating_sub(now.as_second());
    match seconds {
        0 => "now".to_owned(),
        future if future > 0 => format!("in {}", length(future.unsigned_abs())),
        past => format!("{} ago", length(past.unsigned_abs())),
    }
}

/// How long ago an instant was, as `5m`; nothing where there is none.
pub(crate) fn age(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map(|at| length(now.as_second().saturating_sub(at.as_second()).max(0).unsigned_abs()))
        .unwrap_or_default()
}

/// An instant seen from now; `never` where there is none.
pub(crate) fn relative_or_never(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "never".to_owned(), |at| relative(at, now))
}

/// A length in its largest unit, with the next one below ten.
fn length(seconds: u64) -> String {
    let (large, small) = match seconds {
        0..60 => return format!("{seconds}s"),
        60..3_600 => ((60, "m"), (1, "s")),
        3_600..86_400 => ((3_600, "h"), (60, "m")),
        _ => ((86_400, "d"), (3_600, "h")),
    };
    let (count, rest) = (seconds / large.0, seconds % large.0 / small.0);
    if count < 10 && rest > 0 {
        format!("{count}{}{rest}{}", large.1, small.1)
    } else {
        format!("{count}{}", large.1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let said = |offset: i64| relative(Timestamp::from_second(1_000_000 + offset).unwrap(), now);
        assert_eq!(said(0), "now");
        assert_eq!(said(-59), "59s ago");
        assert_eq!(said(-125), "2m5s ago");
        assert_eq!(said(900), "in 15m");
        assert_eq!(said(-86_400 * 3 - 7_200), "3d2h ago");
        assert_eq!(said(86_400 * 30), "in 30d");
    }
}
