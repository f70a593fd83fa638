//! Sets of global transaction ids of MySQL, tagged ones included, and of MariaDB: parse, print, and
//! arithmetic.
//!
//! A set maps each origin to sorted, disjoint, non-adjacent intervals. On MySQL an origin is a server
//! (its uuid) and a tag, and the numbers are what a server says.
//!
//! On MariaDB it is a domain and a server, and a server tells the last number of each (`0-1-100`, as
//! in `gtid_binlog_state`). In a domain numbers only rise, whoever gives them
//! (`gtid_strict_mode`), so who has 0-1-100 has all that server 1 numbered there before: it is taken for
//! 1 to 100. That keeps the order: one server has all that another one has exactly if each of its last
//! numbers is as high. What is no transaction of server 1 (it came from another, or never was) is
//! counted with it, so [`GtidSet::count`] is then an upper bound. Two servers that both gave a number
//! in a domain are two origins: neither set holds the other. What this does not tell: a server that
//! was rebuilt without something that it had numbered has given that number to nothing else, and yet
//! whoever has it seems to lack nothing of what that server numbered later (SAFETY invariant 11 asks
//! all others before).
//!
//! **Source:** MySQL manual, "GTID Format and Storage"; MariaDB manual, "Global Transaction ID".

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Who numbered the transactions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A MySQL server.
    Uuid {
        /// Lower-case uuid, 36 characters.
        uuid: String,
        /// The tag, since MySQL 8.3, or empty.
        tag: String,
    },
    /// A MariaDB server in one of its domains.
    Domain {
        /// `gtid_domain_id`.
        domain: u32,
        /// `server_id`.
        server: u32,
    },
}

impl Origin {
    /// Without a tag.
    pub fn untagged(uuid: &str) -> Self {
        Self::Uuid { uuid: uuid.into(), tag: String::new() }
    }

    /// Whether the server of that identity (see [`server_identity`]) numbered them.
    fn is_of(&self, identity: &str) -> bool {
        match self {
            Origin::Uuid { uuid, .. } => uuid == identity,
            Origin::Domain { server, .. } => server_identity(*server) == identity,
        }
    }
}

/// The identity of a server that has no uuid: MariaDB's, by the number that its GTIDs bear.
pub fn server_identity(server_id: u32) -> String {
    format!("server_id {server_id}")
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
#[error("wanted a GTID set such as uuid:1-5:7 or 0-1-100, found {found:?}: {why}")]
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
        set.insert(Origin::untagged(uuid), Interval { first, last });
        set
    }

    /// Whether it holds no transaction.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// How many transactions it holds; at most that many if it is not [`GtidSet::is_exact`].
    pub fn count(&self) -> u64 {
        self.origins.values().flatten().map(|i| i.last - i.first + 1).fold(0, u64::saturating_add)
    }

    /// Whether [`GtidSet::count`] is exact, and no upper bound: nothing in it is MariaDB's.
    pub fn is_exact(&self) -> bool {
        self.origins.keys().all(|origin| matches!(origin, Origin::Uuid { .. }))
    }

    /// [`GtidSet::count`] as people are told: `7`, or `at most 7`.
    pub fn counted(&self) -> String {
        let bound = if self.is_exact() { "" } else { "at most " };
        format!("{bound}{}", self.count())
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

    /// Only the transactions numbered by one of these servers, by their identities, whatever tag or
    /// domain.
    #[must_use]
    pub fn of_origins(&self, identities: &[&str]) -> Self {
        let origins = self
            .origins
            .iter()
            .filter(|(origin, _)| identities.iter().any(|identity| origin.is_of(identity)))
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

/// As the servers print them: `uuid:1-5:7:tag:1`, and `0-1-100` for 1 to 100 of server 1 in domain 0.
/// MariaDB has no words for other numbers of a server; they are printed as MySQL's are: `0-1:101-120`.
impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before: Option<&Origin> = None;
        for (origin, runs) in &self.origins {
            let comma = if before.is_some() { "," } else { "" };
            match (origin, before) {
                (Origin::Uuid { uuid, tag }, Some(Origin::Uuid { uuid: same, .. }))
                    if uuid == same =>
                {
                    write!(f, ":{tag}")?;
                }
                (Origin::Uuid { uuid, tag }, _) if tag.is_empty() => write!(f, "{comma}{uuid}")?,
                (Origin::Uuid { uuid, tag }, _) => write!(f, "{comma}{uuid}:{tag}")?,
                (Origin::Domain { domain, server }, _) => write!(f, "{comma}{domain}-{server}")?,
            }
            match (origin, &runs[..]) {
                (Origin::Domain { .. }, [Interval { first: 1, last }]) => write!(f, "-{last}")?,
                (Origin::Domain { .. } | Origin::Uuid { .. }, _) => {
                    for run in runs {
                        match run.first == run.last {
                            true => write!(f, ":{}", run.first)?,
                            false => write!(f, ":{}-{}", run.first, run.last)?,
                        }
                    }
                }
            }
            before = Some(origin);
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
            let head = fields.next().unwrap_or_default().to_ascii_lowercase();
            let (mut origin, known) = origin(&head).map_err(bad)?;
            let mut seen = known.is_some();
            if let Some(run) = known {
                collected.entry(origin.clone()).or_default().push(run);
            }
            for field in fields {
                if field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    origin = origin.tagged(field).ok_or_else(|| bad("a domain has no tags"))?;
                    continue;
                }
                let run = interval(field).ok_or_else(|| bad("an interval is not N or N-M"))?;
                collected.entry(origin.clone()).or_default().push(run);
                seen = true;
            }
            if !seen {
                return Err(bad("a server has no interval"));
            }
        }
        let origins = collected.into_iter().map(|(o, runs)| (o, normal(runs))).collect();
        Ok(Self { origins })
    }
}

impl Origin {
    fn tagged(self, tag: &str) -> Option<Self> {
        match self {
            Origin::Uuid { uuid, .. } => Some(Self::Uuid { uuid, tag: tag.to_ascii_lowercase() }),
            Origin::Domain { .. } => None,
        }
    }
}

/// What stands before the first colon: a uuid, `DOMAIN-SERVER`, or `DOMAIN-SERVER-LAST`, which has its
/// numbers with it.
fn origin(head: &str) -> Result<(Origin, Option<Interval>), &'static str> {
    if is_uuid(head) {
        return Ok((Origin::untagged(head), None));
    }
    const NEITHER: &str =
        "the part before the first colon is neither a server uuid nor DOMAIN-SERVER";
    let mut parts = head.split('-');
    let mut number = || parts.next().and_then(digits);
    let (domain, server) = (number(), number());
    let (domain, server) = domain.zip(server).ok_or(NEITHER)?;
    let id = |number: u64| u32::try_from(number).map_err(|_| "a domain or server id is too large");
    let origin = Origin::Domain { domain: id(domain)?, server: id(server)? };
    match (parts.next(), parts.next()) {
        (None, _) => Ok((origin, None)),
        (Some(last), None) => {
            let run = digits(last).and_then(|last| checked(1, last));
            let run = run.ok_or("the last number of a server is none from 1 on")?;
            Ok((origin, Some(run)))
        }
        (Some(_), Some(_)) => Err(NEITHER),
    }
}

/// A number without a sign.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
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
    checked(first.trim().parse().ok()?, last.trim().parse().ok()?)
}

fn checked(first: u64, last: u64) -> Option<Interval> {
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
    fn states_of_mariadb_print_as_the_server_prints_them() {
        for text in ["0-1-1", "0-1-100,0-2-150", "0-1-100,7-1-3", "0-4294967295-1"] {
            assert_eq!(set(text).to_string(), text);
        }
        assert_eq!(set(" 0-2-150 ,\n0-1-100"), set("0-1-100,0-2-150"));
        assert_eq!(set("0-1-7"), set("0-1:1-7"));
        for text in ["0-1:101-120", "0-1:5:9-11", "0-1:1-4:9", &format!("{A}:1-3,0-1-5")] {
            assert_eq!(set(text).to_string(), text);
        }
    }

    #[test]
    fn texts_that_are_no_set_are_refused() {
        let texts =
            ["x", A, "0-1", "0-1-0", "0-1-2-3", "0--1-2", "0-1-+2", "4294967296-1-1", "-1-2"];
        let more = [":0", ":3-2", ":a-b:1-", "-1"].map(|end| format!("{A}{end}"));
        let more = more.iter().map(String::as_str).chain([
            "0-1:a:2",
            "0-1-2:x:3",
            "0-1-99999999999999999999",
        ]);
        for text in texts.into_iter().chain(more) {
            assert!(text.parse::<GtidSet>().is_err(), "{text} was taken for a GTID set");
        }
    }

    #[test]
    fn what_a_server_numbered_itself_is_known_by_its_identity() {
        let both = set(&format!("{A}:1-3:t:4,{B}:9,0-1-100,0-2-150,3-1-7"));
        assert_eq!(both.of_origins(&[A]), set(&format!("{A}:1-3:t:4")));
        assert_eq!(
            both.of_origins(&[&server_identity(1), B]),
            set(&format!("{B}:9,0-1-100,3-1-7"))
        );
        assert_eq!(both.of_origins(&["1", "server_id 12"]), GtidSet::empty());
    }

    #[test]
    fn counts_of_mariadb_are_upper_bounds_and_said_to_be() {
        let lacks = set("0-1-100,0-2-150").minus(&set("0-1-100,0-2-120"));
        assert_eq!(
            (lacks.to_string(), lacks.counted()),
            ("0-2:121-150".into(), "at most 30".into())
        );
        assert_eq!(set(&format!("{A}:1-3")).counted(), "3");
        assert_eq!(GtidSet::empty().counted(), "0");
    }

    fn pairs(set: &GtidSet) -> BTreeSet<(Origin, u64)> {
        let runs = set.origins.iter().flat_map(|(o, runs)| runs.iter().map(move |r| (o, r)));
        runs.flat_map(|(o, r)| (r.first..=r.last).map(move |n| (o.clone(), n))).collect()
    }

    fn any_set() -> impl Strategy<Value = GtidSet> {
        let run = (0..3usize, 0..2usize, 1..40u64, 0..9u64);
        prop::collection::vec(run, 0..12).prop_map(|runs| {
            let mut set = GtidSet::empty();
            for (u, t, first, more) in runs {
                let origin = match u {
                    2 => Origin::Domain { domain: t as u32, server: 7 },
                    uuid => Origin::Uuid { uuid: [A, B][uuid].into(), tag: ["", "t"][t].into() },
                };
                set.insert(origin, Interval { first, last: first + more });
            }
            set
        })
    }

    /// What happens in one domain of a group: a server writes as primary, so that the next number is
    /// its own; or a replica comes level with the primary, as far as it can.
    #[derive(Clone, Debug)]
    enum Event {
        Write(usize),
        Copy { from: usize, to: usize },
    }

    /// A server of MariaDB: its binary log, in order.
    type Log = Vec<(u32, u64)>;

    fn write(log: &mut Log, server: u32) {
        let next = log.last().map_or(1, |(_, number)| number + 1);
        log.push((server, next));
    }

    /// A replica takes what follows what it has itself, if that is in the other's log.
    fn copy(from: &Log, to: &mut Log) {
        if to.len() <= from.len() && from[..to.len()] == to[..] {
            *to = from.clone();
        }
    }

    /// `gtid_binlog_state`.
    fn state(log: &Log) -> GtidSet {
        let last: BTreeMap<_, _> = log.iter().copied().collect();
        let all: Vec<String> =
            last.iter().map(|(server, last)| format!("0-{server}-{last}")).collect();
        set(&all.join(","))
    }

    fn any_history() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            (0..3usize).prop_map(Event::Write),
            (0..3usize, 0..3usize).prop_map(|(from, to)| Event::Copy { from, to }),
        ];
        prop::collection::vec(event, 0..60)
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

        /// By their states alone one server is found to have all that another one has exactly if it
        /// has, diverged histories included, in which both gave the same numbers.
        #[test]
        fn states_of_mariadb_are_ordered_as_the_logs_are(events in any_history()) {
            let mut logs: [Log; 3] = Default::default();
            for event in events {
                match event {
                    Event::Write(at) => write(&mut logs[at], at as u32 + 1),
                    Event::Copy { from, to } => {
                        let theirs = logs[from].clone();
                        copy(&theirs, &mut logs[to]);
                    }
                }
            }
            for one in &logs {
                for other in &logs {
                    let lacks: Vec<_> = one.iter().filter(|gtid| !other.contains(gtid)).collect();
                    let told = state(one).minus(&state(other));
                    prop_assert_eq!(state(one).is_subset(&state(other)), lacks.is_empty());
                    prop_assert!(told.count() >= lacks.len() as u64);
                    for (server, number) in lacks {
                        let missing = set(&format!("0-{server}:{number}"));
                        prop_assert!(missing.is_subset(&told));
                    }
                }
            }
        }
    }
}
