//! Durations with their unit in the type, and one manager's monotonic clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A length of time in milliseconds; what policies are written in.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// A length of time in microseconds; what is measured. Ages are lengths of time, too.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Micros(pub u64);

/// A moment on *this* manager's monotonic clock, in microseconds since an arbitrary start.
/// It never crosses the network and is never stored: only ages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(pub u64);

impl Mono {
    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Mono) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved forward.
    pub fn plus(self, span: impl Into<Micros>) -> Mono {
        Mono(self.0.saturating_add(span.into().0))
    }

    /// This moment moved back, not below the clock's start.
    pub fn minus(self, span: impl Into<Micros>) -> Mono {
        Mono(self.0.saturating_sub(span.into().0))
    }
}

impl Micros {
    /// Both, one after the other.
    pub fn plus(self, other: Micros) -> Micros {
        Micros(self.0.saturating_add(other.0))
    }
}

impl From<Millis> for Micros {
    fn from(millis: Millis) -> Self {
        Micros(millis.0.saturating_mul(1000))
    }
}

impl From<Micros> for std::time::Duration {
    fn from(span: Micros) -> Self {
        std::time::Duration::from_micros(span.0)
    }
}

impl From<Millis> for std::time::Duration {
    fn from(span: Millis) -> Self {
        std::time::Duration::from_millis(span.0)
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..10_000 => write!(f, "{:.1} ms", self.0 as f64 / 1e3),
            10_000..1_000_000 => write!(f, "{:.0} ms", self.0 as f64 / 1e3),
            1_000_000..120_000_000 => write!(f, "{:.2} s", self.0 as f64 / 1e6),
            120_000_000.. => write!(f, "{:.0} min", self.0 as f64 / 60e6),
        }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Micros::from(*self).fmt(f)
    }
}
