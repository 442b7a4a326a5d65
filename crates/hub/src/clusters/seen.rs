//! How often it is written down that a cluster was seen: connections may come and go as fast as somebody likes.

use std::{collections::HashMap, time::Duration};

use jiff::SignedDuration;
use nullius_model::{ClusterName, Timestamp};

/// At most one write of a cluster in so long.
pub(super) const EVERY: Duration = Duration::from_secs(30);

/// When each cluster was written down last, and whether a later write is under way.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<ClusterName, Last>);

#[derive(Debug)]
struct Last {
    written: Timestamp,
    due: bool,
}

/// What to do about a cluster that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    Now,
    /// In so long, once for all that comes until then.
    After(Duration),
    /// Somebody does already.
    Never,
}

impl Seen {
    /// What to do about a cluster that is seen now.
    pub(super) fn take(&mut self, cluster: &ClusterName, now: Timestamp) -> Write {
        let Some(last) = self.0.get_mut(cluster) else {
            self.0.insert(cluster.clone(), Last { written: now, due: false });
            return Write::Now;
        };
        let since = now.duration_since(last.written);
        let every = SignedDuration::try_from(EVERY).unwrap_or(SignedDuration::MAX);
        if since >= every || since.is_negative() {
            last.written = now;
            return Write::Now;
        }
        if std::mem::replace(&mut last.due, true) {
            return Write::Never;
        }
        Write::After(Duration::try_from(every - since).unwrap_or(EVERY))
    }

    /// The write that was due happens now.
    pub(super) fn settle(&mut self, cluster: &ClusterName, now: Timestamp) {
        self.0.insert(cluster.clone(), Last { written: now, due: false });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_connection_that_comes_and_goes_is_written_down_twice_in_half_a_minute() {
        let mut seen = Seen::default();
        let (dev, other): (ClusterName, ClusterName) =
            ("dev".parse().unwrap(), "other".parse().unwrap());
        let at = |milli| Timestamp::from_millisecond(milli).unwrap();
        assert_eq!(seen.take(&dev, at(0)), Write::Now);
        assert_eq!(seen.take(&dev, at(10_000)), Write::After(Duration::from_secs(20)));
        for flap in 0..1_000 {
            assert_eq!(seen.take(&dev, at(10_000 + flap)), Write::Never);
        }
        assert_eq!(seen.take(&other, at(11_000)), Write::Now, "each cluster by itself");
        seen.settle(&dev, at(30_000));
        assert_eq!(seen.take(&dev, at(31_000)), Write::After(Duration::from_secs(29)));
        seen.settle(&dev, at(60_000));
        assert_eq!(seen.take(&dev, at(90_000)), Write::Now);
        assert_eq!(seen.take(&dev, at(1_000)), Write::Now, "a clock that went back stops nothing");
    }
}
