//! Lower and upper bounds of costs and sizes, which saturate instead of overflowing.

/// At least and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// At least this.
    pub min: u64,
    /// At most this.
    pub max: u64,
}

impl Estimate {
    pub(crate) const UNKNOWN: Estimate = Estimate { min: 0, max: u64::MAX };
    pub(crate) const ZERO: Estimate = Estimate { min: 0, max: 0 };
    pub(crate) const ONE: Estimate = Estimate { min: 1, max: 1 };

    pub(crate) fn fixed(value: u64) -> Estimate {
        Estimate { min: value, max: value }
    }

    pub(crate) fn plus(self, other: Estimate) -> Estimate {
        Estimate {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    pub(crate) fn times(self, other: Estimate) -> Estimate {
        Estimate {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    pub(crate) fn scaled(self, factor: f64) -> Estimate {
        Estimate { min: scale(self.min, factor), max: scale(self.max, factor) }
    }

    pub(crate) fn union(self, other: Estimate) -> Estimate {
        Estimate { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounds are compared as the API server compares them, in doubles"
)]
fn scale(value: u64, factor: f64) -> u64 {
    const LIMIT: f64 = 18_446_744_073_709_551_616.0;
    let scaled = (value as f64 * factor).ceil();
    if scaled >= LIMIT { u64::MAX } else { scaled as u64 }
}
