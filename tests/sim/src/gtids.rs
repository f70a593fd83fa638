//! Sets of transactions as the model servers keep them: small, and without text. What managers see
//! is the core's own type.

use conclave_core::model::{
    GtidSet,
    gtid::{Interval, Origin},
};

use crate::{network::Ix, server::Trx};

/// A set of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gtids {
    /// Sorted, disjoint, non-adjacent runs by origin.
    runs: Vec<Vec<(u64, u64)>>,
}

impl Gtids {
    /// Adds one transaction.
    pub fn add(&mut self, trx: Trx) {
        if self.runs.len() <= trx.origin {
            self.runs.resize(trx.origin + 1, Vec::new());
        }
        let runs = &mut self.runs[trx.origin];
        match runs.last_mut() {
            Some((_, last)) if trx.number == *last + 1 => *last = trx.number,
            Some((_, last)) if trx.number <= *last => insert(runs, trx.number),
            Some(_) | None => runs.push((trx.number, trx.number)),
        }
    }

    /// Whether it holds a transaction.
    pub fn has(&self, trx: Trx) -> bool {
        self.runs.get(trx.origin).is_some_and(|runs| holds(runs, trx.number))
    }

    /// Whether all that it holds of one origin is in another set.
    pub fn is_within(&self, other: &Self, origin: Ix) -> bool {
        let none = Vec::new();
        let theirs = other.runs.get(origin).unwrap_or(&none);
        self.runs.get(origin).is_none_or(|runs| {
            runs.iter().all(|(first, last)| theirs.iter().any(|t| t.0 <= *first && *last <= t.1))
        })
    }

    /// As the core knows it.
    pub fn set(&self, uuids: &[String]) -> GtidSet {
        let mut set = GtidSet::empty();
        for (runs, uuid) in self.runs.iter().zip(uuids) {
            for (first, last) in runs {
                let origin = Origin::untagged(uuid);
                set.insert(origin, Interval { first: *first, last: *last });
            }
        }
        set
    }
}

fn holds(runs: &[(u64, u64)], number: u64) -> bool {
    runs.iter().any(|(first, last)| *first <= number && number <= *last)
}

/// Adds a number that is not above the last run.
fn insert(runs: &mut Vec<(u64, u64)>, number: u64) {
    if holds(runs, number) {
        return;
    }
    let at = runs.partition_point(|(first, _)| *first < number);
    runs.insert(at, (number, number));
    if at + 1 < runs.len() && runs[at + 1].0 == number + 1 {
        runs[at].1 = runs.remove(at + 1).1;
    }
    if at > 0 && runs[at - 1].1 + 1 == number {
        runs[at - 1].1 = runs.remove(at).1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_any_order_become_runs() {
        let mut set = Gtids::default();
        for number in [5, 6, 1, 3, 2, 9, 9, 7] {
            set.add(Trx { origin: 1, number });
        }
        assert_eq!(set.runs[1], [(1, 3), (5, 7), (9, 9)]);
        assert!(set.has(Trx { origin: 1, number: 6 }) && !set.has(Trx { origin: 1, number: 4 }));
        assert!(!set.has(Trx { origin: 0, number: 1 }));
    }

    #[test]
    fn part_of_one_origin_is_compared() {
        let [mut small, mut large] = [Gtids::default(), Gtids::default()];
        (1..4).for_each(|number| small.add(Trx { origin: 0, number }));
        (1..9).for_each(|number| large.add(Trx { origin: 0, number }));
        small.add(Trx { origin: 1, number: 1 });
        assert!(small.is_within(&large, 0) && !large.is_within(&small, 0));
        assert!(!small.is_within(&large, 1));
    }
}
