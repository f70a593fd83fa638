//! What openraft needs of its histogram library, without that library's tables: it computes the
//! bounds of all buckets of all its sixteen scales at the first use, 25 MB that stay resident in
//! every manager. openraft shows its statistics with a feature only that Conclave does not use.
//!
//! One counter per power of two; a percentile is the upper bound of the bucket that it falls in.

use std::{fmt, marker::PhantomData};

/// Values of that many bits, zero being of none.
const BUCKETS: usize = 65;

/// Counts values by their size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64; BUCKETS]>,
    labels: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), labels: PhantomData }
    }
}

impl<T> Histogram<T> {
    /// Nothing was counted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value that often.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let count = &mut self.counts[bits(value)];
        *count = count.saturating_add(times);
    }

    /// How many values were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The percentiles that people ask for.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.permille(1),
            p1: self.permille(10),
            p5: self.permille(50),
            p10: self.permille(100),
            p50: self.permille(500),
            p90: self.permille(900),
            p99: self.permille(990),
            p99_9: self.permille(999),
        }
    }

    /// The least bound that so many thousandths of the values do not exceed; 0 without any.
    fn permille(&self, permille: u128) -> u64 {
        let rank = (u128::from(self.total()) * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += u128::from(*count);
            seen >= rank
        };
        self.counts.iter().position(reaches).map_or(0, bound)
    }
}

fn bits(value: u64) -> usize {
    (u64::BITS - value.leading_zeros()) as usize
}

/// The largest value of so many bits.
fn bound(bits: usize) -> u64 {
    match bits {
        0 => 0,
        _ => u64::MAX >> (BUCKETS - 1 - bits),
    }
}

/// A distribution in nine numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PercentileStats {
    /// Values counted.
    pub samples: u64,
    /// 0.1 of a hundred are not above.
    pub p0_1: u64,
    /// 1 of a hundred.
    pub p1: u64,
    /// 5 of a hundred.
    pub p5: u64,
    /// 10 of a hundred.
    pub p10: u64,
    /// Half of them.
    pub p50: u64,
    /// 90 of a hundred.
    pub p90: u64,
    /// 99 of a hundred.
    pub p99: u64,
    /// 99.9 of a hundred.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, p99_9, .. } = self;
        write!(f, "{samples} samples, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}")
    }
}

/// Several distributions, a line each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart(Vec<(String, PercentileStats)>);

impl AsciiChart {
    /// Without any line.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more line.
    #[must_use]
    pub fn add<T>(mut self, name: impl Into<String>, histogram: Histogram<T>) -> Self {
        self.0.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_bounds_of_powers_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats(), PercentileStats::default());
        (0..100).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p1), (100, 0, 0));
        assert_eq!((stats.p10, stats.p50, stats.p99), (15, 63, 127));
        histogram.record(u64::MAX);
        assert_eq!(histogram.percentile_stats().p99_9, u64::MAX);
    }

    #[test]
    fn chart_has_a_line_for_each() {
        let chart = AsciiChart::new().add("a", Histogram::<()>::new());
        assert_eq!(chart.to_string(), "a: 0 samples, p50 0, p90 0, p99 0, p99.9 0\n");
    }
}
