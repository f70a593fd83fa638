//! Sets of global transaction ids of MySQL, tagged ones included: parse, print, and arithmetic.
//!
//! A set maps each origin (server uuid and tag) to sorted, disjoint, non-adjacent intervals.
//! **Source:** MySQL manual, "GTID Format and Storage".

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Who numbered the transactions: a server's uuid and, since MySQL 8.3, a tag (empty: none).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Lower-case uuid, 36 characters.
    pub uuid: String,
    /// The tag, or empty.
    pub tag: String,
}

/// Transaction numbers from `first` to `last`, both included; `1 <= first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// First number.
    pub first: u64,
    /// Last number.
    pub last: u64,
}

/// A set of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidSet {
    origins: BTreeMap<Origin, Vec<Interval>>,
}

/// Why a text is no GTID set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("wanted a GTID set such as uuid:1-5:7, found {found:?}: {why}")]
pub struct ParseError {
    found: String,
    why: &'static str,
}

impl GtidSet {
    /// The set of no transactions.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A set of one run of numbers of one untagged origin.
    pub fn run(uuid: &str, first: u64, last: u64) -> Self {
        let mut set = Self::empty();
        set.insert(Origin { uuid: uuid.into(), tag: String::new() }, Interval { first, last });
        set
    }

    /// Whether it holds no transaction.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// How many transactions it holds.
    pub fn count(&self) -> u64 {
        self.origins.values().flatten().map(|i| i.last - i.first + 1).sum()
    }

    /// Adds one interval.
    pub fn insert(&mut self, origin: Origin, interval: Interval) {
        let runs = self.origins.entry(origin).or_default();
        runs.push(interval);
        *runs = normal(std::mem::take(runs));
    }

    /// Adds many intervals of one origin.
    pub fn insert_all(&mut self, origin: Origin, intervals: impl IntoIterator<Item = Interval>) {
        let mut runs = self.origins.remove(&origin).unwrap_or_default();
        runs.extend(intervals);
        if !runs.is_empty() {
            self.origins.insert(origin, normal(runs));
        }
    }

    /// Adds one transaction; in the order of their numbers this takes no time.
    pub fn insert_one(&mut self, origin: Origin, number: u64) {
        let runs = self.origins.entry(origin).or_default();
        match runs.last_mut() {
            Some(last) if last.last + 1 == number => last.last = number,
            Some(last) if last.first <= number && number <= last.last => {}
            Some(_) | None => {
                runs.push(Interval { first: number, last: number });
                *runs = normal(std::mem::take(runs));
            }
        }
    }

    /// Whether it holds that transaction.
    pub fn contains(&self, origin: &Origin, number: u64) -> bool {
        let runs = self.origins.get(origin).map_or(&[][..], Vec::as_slice);
        let place = runs.partition_point(|run| run.last < number);
        runs.get(place).is_some_and(|run| run.first <= number)
    }

    /// All transactions of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (origin, runs) in &other.origins {
            let mine = out.origins.entry(origin.clone()).or_default();
            mine.extend(runs);
            *mine = normal(std::mem::take(mine));
        }
        out
    }

    /// The transactions of `self` that `other` lacks.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut out = Self::empty();
        for (origin, runs) in &self.origins {
            let left = match other.origins.get(origin) {
                Some(theirs) => runs.iter().flat_map(|run| cut(*run, theirs)).collect(),
                None => runs.clone(),
            };
            if !left.is_empty() {
                out.origins.insert(origin.clone(), left);
            }
        }
        out
    }

    /// The transactions that both hold.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        self.minus(&self.minus(other))
    }

    /// Whether each transaction of `self` is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.origins.iter().all(|(origin, runs)| {
            let theirs = other.origins.get(origin).map_or(&[][..], Vec::as_slice);
            runs.iter().all(|run| theirs.iter().any(|t| t.first <= run.first && run.last <= t.last))
        })
    }

    /// Only the transactions numbered by one of these servers, whatever their tag.
    #[must_use]
    pub fn of_origins(&self, uuids: &[&str]) -> Self {
        let origins = self
            .origins
            .iter()
            .filter(|(origin, _)| uuids.contains(&origin.uuid.as_str()))
            .map(|(origin, runs)| (origin.clone(), runs.clone()))
            .collect();
        Self { origins }
    }
}

/// Sorts and joins intervals.
fn normal(mut runs: Vec<Interval>) -> Vec<Interval> {
    runs.sort_unstable();
    let mut out: Vec<Interval> = Vec::with_capacity(runs.len());
    for run in runs {
        match out.last_mut() {
            Some(last) if run.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(run.last);
            }
            Some(_) | None => out.push(run),
        }
    }
    out
}

/// What is left of `run` after taking away sorted `holes`.
fn cut(run: Interval, holes: &[Interval]) -> Vec<Interval> {
    let mut out = Vec::new();
    let mut first = run.first;
    for hole in holes.iter().filter(|h| h.last >= run.first && h.first <= run.last) {
        if hole.first > first {
            out.push(Interval { first, last: hole.first - 1 });
        }
        first = hole.last.saturating_add(1);
    }
    if first <= run.last {
        out.push(Interval { first, last: run.last });
    }
    out
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut uuid_before = None;
        for (origin, runs) in &self.origins {
            if uuid_before == Some(&origin.uuid) {
                write!(f, ":{}", origin.tag)?;
            } else {
                let comma = if uuid_before.is_some() { "," } else { "" };
                let tag = if origin.tag.is_empty() { "" } else { ":" };
                write!(f, "{comma}{}{tag}{}", origin.uuid, origin.tag)?;
            }
            for run in runs {
                match run.first == run.last {
                    true => write!(f, ":{}", run.first)?,
                    false => write!(f, ":{}-{}", run.first, run.last)?,
                }
            }
            uuid_before = Some(&origin.uuid);
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let bad = |why| ParseError { found: text.chars().take(200).collect(), why };
        let mut collected: BTreeMap<Origin, Vec<Interval>> = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut fields = part.split(':').map(str::trim);
            let uuid = fields.next().unwrap_or_default().to_ascii_lowercase();
            if !is_uuid(&uuid) {
                return Err(bad("the part before the first colon is not a server uuid"));
            }
            let mut tag = String::new();
            let mut seen = false;
            for field in fields {
                if field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    tag = field.to_ascii_lowercase();
                    continue;
                }
                let run = interval(field).ok_or_else(|| bad("an interval is not N or N-M"))?;
                let origin = Origin { uuid: uuid.clone(), tag: tag.clone() };
                collected.entry(origin).or_default().push(run);
                seen = true;
            }
            if !seen {
                return Err(bad("a server uuid has no interval"));
            }
        }
        let origins = collected.into_iter().map(|(o, runs)| (o, normal(runs))).collect();
        Ok(Self { origins })
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

fn interval(text: &str) -> Option<Interval> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (1 <= first && first <= last && last < i64::MAX as u64).then_some(Interval { first, last })
}

impl TryFrom<String> for GtidSet {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn tagged_and_plain_intervals_print_as_the_server_prints_them() {
        let text = format!("{A}:1-3:11:47-49:tag_a:1-2,{B}:7");
        assert_eq!(set(&text).to_string(), text);
        assert_eq!(set(&format!("{A}:5:1-4 ,\n{A}:6")), set(&format!("{A}:1-6")));
    }

    #[test]
    fn texts_that_are_no_set_are_refused() {
        for text in ["x", A, &format!("{A}:0"), &format!("{A}:3-2"), &format!("{A}:a-b:1-")] {
            assert!(text.parse::<GtidSet>().is_err(), "{text} was taken for a GTID set");
        }
    }

    fn pairs(set: &GtidSet) -> BTreeSet<(Origin, u64)> {
        let runs = set.origins.iter().flat_map(|(o, runs)| runs.iter().map(move |r| (o, r)));
        runs.flat_map(|(o, r)| (r.first..=r.last).map(move |n| (o.clone(), n))).collect()
    }

    fn any_set() -> impl Strategy<Value = GtidSet> {
        let run = (0..2usize, 0..2usize, 1..40u64, 0..9u64);
        prop::collection::vec(run, 0..12).prop_map(|runs| {
            let mut set = GtidSet::empty();
            for (u, t, first, more) in runs {
                let origin = Origin { uuid: [A, B][u].into(), tag: ["", "t"][t].into() };
                set.insert(origin, Interval { first, last: first + more });
            }
            set
        })
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_plain_sets_of_numbers(a in any_set(), b in any_set()) {
            let (pa, pb) = (pairs(&a), pairs(&b));
            prop_assert_eq!(pairs(&a.union(&b)), &pa | &pb);
            prop_assert_eq!(pairs(&a.minus(&b)), &pa - &pb);
            prop_assert_eq!(pairs(&a.common(&b)), &pa & &pb);
            prop_assert_eq!(a.is_subset(&b), pa.is_subset(&pb));
            prop_assert_eq!(a.count(), pa.len() as u64);
            let mut one_by_one = GtidSet::empty();
            let mut at_once = GtidSet::empty();
            for (origin, number) in pa.iter().rev().chain(&pa) {
                one_by_one.insert_one(origin.clone(), *number);
            }
            for (origin, runs) in &a.origins {
                at_once.insert_all(origin.clone(), runs.iter().copied());
            }
            prop_assert_eq!((&one_by_one, &at_once), (&a, &a));
            for (origin, number) in pb.iter().chain(&pa) {
                prop_assert_eq!(a.contains(origin, *number), pa.contains(&(origin.clone(), *number)));
            }
            prop_assert_eq!(a.to_string().parse::<GtidSet>().unwrap(), a);
        }
    }
}
