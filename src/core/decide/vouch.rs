//! Does an acker still hold what it acknowledged? (SAFETY section 3 and invariant 7.)
//!
//! A server that restarts may lose what it had received and not applied: with relay log recovery
//! it throws its relay log away and, read-only and without threads, does not fetch it again. So it
//! is evidence only if somebody saw it acknowledge, and level with the primary, *since it booted*.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{GtidSet, Micros, Mono, Observation, Receiver, ServerFacts, ServerName};

/// How far two computations of one boot moment may differ: uptime is in whole seconds, and a look
/// takes a while.
const SLACK: i64 = 2_500_000;

/// How much older than the look at an acker the look at the primary must be: what was committed by
/// then has had time to arrive.
const HEAD_START: Micros = Micros(100_000);

/// What one manager saw of one primary's ackers.
#[derive(Clone, Debug, Default)]
pub struct Vouches {
    primary: Option<ServerName>,
    /// The newest looks at the primary, oldest first.
    executed: Vec<(Mono, GtidSet)>,
    /// When each acker booted that was seen to acknowledge and to lack nothing.
    boots: BTreeMap<ServerName, i64>,
}

impl Vouches {
    /// Takes a look into account. `primary` is the one in force.
    pub fn record(&mut self, primary: &ServerName, look: &Observation) {
        if self.primary.as_ref() != Some(primary) {
            *self = Self { primary: Some(primary.clone()), ..Self::default() };
        }
        let Ok(facts) = &look.seen else { return };
        if look.server == *primary {
            self.executed.push((look.at, facts.executed.clone()));
            if self.executed.len() > 4 {
                self.executed.remove(0);
            }
            return;
        }
        let before = |(at, _): &&(Mono, GtidSet)| at.plus(HEAD_START) <= look.at;
        let theirs = self.executed.iter().rev().find(before).map(|(_, executed)| executed);
        let is_level = theirs.is_some_and(|theirs| theirs.is_subset(&facts.received()));
        if is_acknowledging(facts) && is_level {
            self.boots.insert(look.server.clone(), boot(look.at, facts));
        }
    }

    /// The ackers that have not restarted since they were seen to lack nothing.
    pub fn standing<'a>(
        &self,
        looks: impl Iterator<Item = &'a Observation>,
    ) -> BTreeSet<ServerName> {
        let is_same = |look: &&Observation| {
            let seen = self.boots.get(&look.server).zip(look.seen.as_ref().ok());
            seen.is_some_and(|(known, facts)| (boot(look.at, facts) - known).abs() <= SLACK)
        };
        looks.filter(is_same).map(|look| look.server.clone()).collect()
    }
}

fn is_acknowledging(facts: &ServerFacts) -> bool {
    let is_on = facts.replica.as_ref().is_some_and(|replica| replica.receiver == Receiver::On);
    is_on && facts.semi_sync.as_ref().is_some_and(|semi_sync| semi_sync.replica_active)
}

/// When a server booted, on the observer's clock.
fn boot(at: Mono, facts: &ServerFacts) -> i64 {
    let micros = |n: u64| i64::try_from(n).unwrap_or(i64::MAX / 4);
    micros(at.0) - micros(facts.uptime_seconds.saturating_mul(1_000_000))
}
