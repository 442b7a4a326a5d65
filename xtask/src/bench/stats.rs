//! Figures of samples: medians and percentiles of interleaved blocks, with their spread.

/// Samples in milliseconds (or any one unit), in blocks that alternated with those of a peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks(Vec<Vec<f64>>);

/// The median over the blocks, and the least and most that a block gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Blocks {
    /// Adds a block; an empty one says nothing and is left out.
    pub(crate) fn add(&mut self, block: Vec<f64>) {
        if !block.is_empty() {
            self.0.push(block);
        }
    }

    /// All samples.
    pub(crate) fn all(&self) -> Vec<f64> {
        self.0.concat()
    }

    /// The percentile in each block.
    pub(crate) fn percentiles(&self, percent: f64) -> Vec<f64> {
        self.0.iter().map(|block| percentile(block, percent)).collect()
    }
}

impl Figure {
    /// Of one value a block.
    pub(crate) fn of(values: &[f64]) -> Self {
        Self {
            median: percentile(values, 50.0),
            least: percentile(values, 0.0),
            most: percentile(values, 100.0),
        }
    }

    /// Of samples that belong together: their percentile, with the quartiles as spread.
    pub(crate) fn with_quartiles(values: &[f64], percent: f64) -> Self {
        Self {
            median: percentile(values, percent),
            least: percentile(values, 25.0),
            most: percentile(values, 75.0),
        }
    }

    /// Of one value that was measured once.
    pub(crate) fn once(value: f64) -> Self {
        Self { median: value, least: value, most: value }
    }
}

/// The value below which so many per cent of the samples lie (nearest rank); 0 without any.
pub(crate) fn percentile(samples: &[f64], percent: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank lies between 0 and the number of samples"
    )]
    let rank = (percent / 100.0 * last as f64).round() as usize;
    sorted.get(rank.min(last)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "test")]
    use super::*;

    #[test]
    fn percentiles_are_ranks_and_the_order_of_samples_does_not_matter() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(percentile(&samples, 50.0), 3.0);
        assert_eq!(percentile(&samples, 0.0), 1.0);
        assert_eq!(percentile(&samples, 99.0), 5.0);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }

    #[test]
    fn one_bad_block_moves_the_spread_and_not_the_median() {
        let mut blocks = Blocks::default();
        for block in [vec![1.0, 1.0, 9.0], vec![2.0, 2.0], vec![100.0, 100.0], vec![]] {
            blocks.add(block);
        }
        let figure = Figure::of(&blocks.percentiles(50.0));
        assert_eq!(figure, Figure { median: 2.0, least: 1.0, most: 100.0 });
    }
}
