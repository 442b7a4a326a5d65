//! Until when a request needs the token by which it was let in.

use std::time::Duration;

use nullius_model::Timestamp;

/// What has lasted so long is a stream, whatever it is called: who calls says how.
const PLAIN: Duration = Duration::from_secs(30);

/// When a request needs its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    /// At this moment.
    pub(super) valid_at: Timestamp,
    /// From then on for as long as it lasts.
    lasts_from: Timestamp,
}

impl Needs {
    /// A plain request needs it when it came, and a stream, or what has become one by lasting, always.
    pub(super) fn of(began: Timestamp, is_stream: bool, now: Timestamp) -> Self {
        let lasts_from = if is_stream { began } else { began + PLAIN };
        let valid_at = if now >= lasts_from { now } else { began };
        Self { valid_at, lasts_from }
    }

    /// Until when it may go on with a token that ends.
    pub(super) fn valid_until(self, end: Timestamp) -> Timestamp {
        end.max(self.lasts_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_needs_its_token_for_as_long_whatever_it_is_called() {
        let began = Timestamp::now();
        let (second, end) = (Duration::from_secs(1), began + Duration::from_secs(5));
        let plain = |after| Needs::of(began, false, began + after);
        assert_eq!(plain(PLAIN - second).valid_at, began);
        assert_eq!(plain(second).valid_until(end), began + PLAIN);
        assert_eq!(plain(PLAIN).valid_at, began + PLAIN);
        let late = began + 2 * PLAIN;
        assert_eq!(plain(second).valid_until(late), late);
        let stream = Needs::of(began, true, began + second);
        assert_eq!((stream.valid_at, stream.valid_until(end)), (began + second, end));
    }
}
