//! Does an acker still hold what it acknowledged? (SAFETY section 3 and invariant 7.)
//!
//! A server that restarts may lose what it had received and not applied: with relay log recovery
//! it throws its relay log away and, read-only and without threads, does not fetch it again. So it
//! is evidence only if somebody saw it acknowledge, and level with the primary, *since it booted*,
//! and has all that it had then.
//!
//! And acknowledgements tell something only if the primary's commits wait for them: for as many as
//! agreed, of agreed servers alone, however long it takes. A primary that was seen to take writes
//! otherwise leaves nobody to vouch for, until ackers are seen level with it after it was put right.

use std::collections::{BTreeMap, BTreeSet};

use super::view::{FRESH, StepOrder};
use crate::model::{
    GtidSet, Micros, Mono, Observation, Receiver, Regime, ServerFacts, ServerName, StepEvidence,
    StepKind, StepOutcome,
};

/// How far two computations of one boot moment may differ: uptime is in whole seconds, and a look
/// takes a while.
const SLACK: i64 = 2_500_000;

/// How much older than the look at an acker the look at the primary must be: what was committed by
/// then has had time to arrive.
const HEAD_START: Micros = Micros(100_000);

/// A server that has not been up for so many seconds is young.
const YOUNG: u64 = 10;

/// What one manager saw of one primary's ackers.
#[derive(Clone, Debug, Default)]
pub struct Vouches {
    primary: Option<ServerName>,
    /// The newest looks at the primary, oldest first.
    executed: Vec<(Mono, GtidSet)>,
    /// Its identity, once seen.
    uuid: Option<String>,
    /// Why its commits do not wait as agreed, by the last look that could tell.
    unarmed: Option<String>,
    /// Servers seen to acknowledge its commits without being on record for it.
    strangers: BTreeSet<ServerName>,
    /// When each acker booted that was seen to acknowledge and to lack nothing, and what it had.
    boots: Boots,
    /// The same of those that were put behind the candidate of a switchover, which was not primary
    /// yet.
    ahead: BTreeMap<ServerName, Boots>,
}

/// When a server booted, on the observer's clock, and what it had received.
type Boots = BTreeMap<ServerName, (i64, GtidSet)>;

impl Vouches {
    /// Looks are about that primary from now on.
    fn turn_to(&mut self, primary: &ServerName) {
        if self.primary.as_ref() != Some(primary) {
            let boots = self.ahead.remove(primary).unwrap_or_default();
            *self = Self { primary: Some(primary.clone()), boots, ..Self::default() };
        }
    }

    /// Takes a look into account. `regime` is the one in force.
    pub fn record(&mut self, regime: &Regime, look: &Observation) {
        let primary = &regime.primary;
        self.turn_to(primary);
        let Ok(facts) = &look.seen else { return };
        if look.server == *primary {
            return self.record_primary(regime, look.at, facts);
        }
        let acknowledges = self.acknowledges(facts);
        if !regime.ackers.contains(&look.server) {
            match acknowledges {
                true => self.strangers.insert(look.server.clone()),
                false => self.strangers.remove(&look.server),
            };
            return;
        }
        self.strangers.remove(&look.server);
        let before = |(at, _): &&(Mono, GtidSet)| at.plus(HEAD_START) <= look.at;
        let theirs = self.executed.iter().rev().find(before).map(|(_, executed)| executed);
        let received = facts.received();
        if acknowledges && theirs.is_some_and(|theirs| theirs.is_subset(&received)) {
            let booted = boot(look.at, facts.uptime_seconds);
            self.boots.insert(look.server.clone(), (booted, received));
        }
    }

    /// Takes the end of a step of this leader's into account. An acker whose first link to a new
    /// primary was read back has acknowledged nothing for it before: as long as it does not restart,
    /// it holds all that it ever will, level or not. So a candidate that is lost while it is opened
    /// can be superseded. Nor has the old primary of a switchover acknowledged anything for its
    /// successor when its clients are cut: only then is it put behind it.
    ///
    /// It was read back at some time between `began` and `at`. Of a server as young as that a restart
    /// in between could not be told.
    pub fn followed(&mut self, order: &StepOrder, outcome: &StepOutcome, began: Mono, at: Mono) {
        let Some(primary) = &order.primary else { return };
        let goal = &order.record.goal;
        let source = if let StepKind::Follow { source, acker: true, .. } = goal {
            source
        } else if *goal == StepKind::CutClients {
            primary
        } else {
            return;
        };
        let Some(StepEvidence::Server { received, uptime_seconds: Some(uptime), .. }) =
            outcome.evidence()
        else {
            return;
        };
        let is_first = order
            .record
            .runs
            .iter()
            .all(|run| run.outcome.as_ref().is_none_or(|outcome| outcome.evidence().is_none()));
        let is_telling = *uptime >= YOUNG + at.since(began).0.div_ceil(1_000_000);
        // Put back behind the primary that it came from it may have acknowledged for it before.
        let is_new = !order.revoked.contains(source);
        if order.is_chore || !is_new || !is_first || !is_telling {
            return;
        }
        let boots = match source == primary {
            true => {
                self.turn_to(primary);
                &mut self.boots
            }
            false => self.ahead.entry(source.clone()).or_default(),
        };
        boots.insert(order.record.target.clone(), (boot(at, *uptime), received.clone()));
    }

    /// One that takes no writes commits nothing, whatever its settings are.
    fn record_primary(&mut self, regime: &Regime, at: Mono, facts: &ServerFacts) {
        self.uuid = Some(facts.uuid.clone());
        if facts.is_writable() {
            self.unarmed = unarmed(regime, facts);
        }
        if self.unarmed.is_some() {
            self.executed.clear();
            self.boots.clear();
            return;
        }
        self.executed.push((at, facts.executed.clone()));
        if self.executed.len() > 4 {
            self.executed.remove(0);
        }
    }

    /// Why the primary's commits do not wait for acknowledgements of its ackers.
    pub fn unarmed(&self) -> Option<String> {
        let stranger = self.strangers.first();
        let stranger = stranger
            .map(|name| format!("{name} acknowledges its commits and is not one of its ackers"));
        self.unarmed.clone().or(stranger)
    }

    /// The ackers that have not restarted since they were seen to lack nothing.
    pub fn standing<'a>(
        &self,
        looks: impl Iterator<Item = &'a Observation>,
    ) -> BTreeSet<ServerName> {
        if self.unarmed().is_some() {
            return BTreeSet::new();
        }
        let is_same = |look: &&Observation| {
            let seen = self.boots.get(&look.server).zip(look.seen.as_ref().ok());
            seen.is_some_and(|((known, had), facts)| {
                (boot(look.at, facts.uptime_seconds) - known).abs() <= SLACK
                    && had.is_subset(&facts.received())
            })
        };
        looks.filter(is_same).map(|look| look.server.clone()).collect()
    }

    /// Whether an acker of this regime acknowledges by its last look and is not vouched for yet: then
    /// it is worth looking again soon.
    pub fn is_awaited<'a>(
        &self,
        regime: &Regime,
        looks: impl Iterator<Item = &'a Observation> + Clone,
    ) -> bool {
        let standing = self.standing(looks.clone());
        let mut ackers = looks.filter(|look| regime.ackers.contains(&look.server));
        let acknowledges =
            |look: &Observation| look.seen.as_ref().is_ok_and(|facts| self.acknowledges(facts));
        self.unarmed().is_none()
            && ackers.any(|look| acknowledges(look) && !standing.contains(&look.server))
    }

    /// It is connected to this very primary and acknowledges.
    fn acknowledges(&self, facts: &ServerFacts) -> bool {
        let is_on = facts.replica.as_ref().is_some_and(|replica| {
            replica.receiver == Receiver::On && Some(&replica.source_uuid) == self.uuid.as_ref()
        });
        is_on && facts.semi_sync.as_ref().is_some_and(|semi_sync| semi_sync.replica_active)
    }
}

/// What is wrong with a primary that takes writes.
fn unarmed(regime: &Regime, facts: &ServerFacts) -> Option<String> {
    if regime.acks == 0 {
        return None;
    }
    let semi_sync = facts.semi_sync.clone().unwrap_or_default();
    let slack = semi_sync.slack(regime.acks);
    if !slack.is_empty() {
        let (acks, why) = (regime.acks, slack.join(", "));
        return Some(format!("its commits did not wait for {acks} acknowledgement(s): {why}"));
    }
    let (clients, ackers) = (semi_sync.clients, regime.ackers.len());
    (clients as usize > ackers)
        .then(|| format!("{clients} servers acknowledge its commits, {ackers} are on record"))
}

/// Whether a server was up before any ballot that counted when an attempt was opened `since` ago: it
/// did not restart after another manager vouched for it.
pub fn is_older(facts: &ServerFacts, since: Micros) -> bool {
    facts.uptime_seconds.saturating_mul(1_000_000) > since.plus(FRESH).plus(FRESH).0
}

/// When a server booted, on the observer's clock.
fn boot(at: Mono, uptime_seconds: u64) -> i64 {
    let micros = |n: u64| i64::try_from(n).unwrap_or(i64::MAX / 4);
    micros(at.0) - micros(uptime_seconds.saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixture::*, model::Millis};

    const S: u64 = 1_000_000;

    fn regime() -> Regime {
        Group::adopted().cluster().regimes[0].clone()
    }

    fn at(second: u64, server: u64, mut facts: ServerFacts) -> Observation {
        facts.uptime_seconds = second;
        Observation { server: name(server), at: Mono(second * S), seen: Ok(facts) }
    }

    fn primary(last: u64) -> ServerFacts {
        primary_facts(1, run(1, last))
    }

    fn acker(server: u64, last: u64) -> ServerFacts {
        replica_facts(server, 1, run(1, last))
    }

    /// Whom these looks, one after the other, leave to be vouched for; the newest of each counts.
    fn vouched(looks: &[Observation]) -> BTreeSet<ServerName> {
        let mut vouches = Vouches::default();
        looks.iter().for_each(|look| vouches.record(&regime(), look));
        let newest = (1..=4).filter_map(|n| looks.iter().rfind(|look| look.server == name(n)));
        vouches.standing(newest)
    }

    #[test]
    fn acker_seen_level_since_it_booted_is_vouched_for() {
        let level = [at(10, 1, primary(9)), at(11, 2, acker(2, 9))];
        assert_eq!(vouched(&level), names(&[2]));
        assert_eq!(vouched(&[level[0].clone(), at(11, 2, acker(2, 8))]), names(&[]));
        let mut early = level.clone();
        early[1].at = early[0].at.plus(Millis(99));
        assert_eq!(vouched(&early), names(&[]));
    }

    #[test]
    fn acker_that_restarted_or_has_less_than_it_had_is_not() {
        let level = [at(10, 1, primary(9)), at(11, 2, acker(2, 9))];
        let mut without_threads = acker(2, 9);
        link(&mut without_threads).receiver = Receiver::Off;
        let mut booted = at(14, 2, without_threads);
        booted.seen.as_mut().unwrap().uptime_seconds = 2;
        assert_eq!(vouched(&[level[0].clone(), level[1].clone(), booted]), names(&[]));
        // Put back to an older copy, memory and all: its uptime fits.
        let less = at(14, 2, acker(2, 7));
        assert_eq!(vouched(&[level[0].clone(), level[1].clone(), less]), names(&[]));
        let more = at(14, 2, acker(2, 11));
        assert_eq!(vouched(&[level[0].clone(), level[1].clone(), more]), names(&[2]));
    }

    #[test]
    fn acker_that_acknowledges_and_was_not_yet_seen_level_is_awaited() {
        let awaited = |looks: &[Observation]| {
            let mut vouches = Vouches::default();
            looks.iter().for_each(|look| vouches.record(&regime(), look));
            vouches.is_awaited(&regime(), looks.iter())
        };
        assert!(awaited(&[at(10, 1, primary(9)), at(11, 2, acker(2, 8))]));
        assert!(!awaited(&[at(10, 1, primary(9)), at(11, 2, acker(2, 9))]));
        assert!(!awaited(&[at(10, 1, primary(9)), at(11, 2, replica_facts(2, 3, run(1, 8)))]));
        let mut loose = primary(9);
        loose.semi_sync.as_mut().unwrap().source_enabled = false;
        assert!(!awaited(&[at(10, 1, loose), at(11, 2, acker(2, 8))]));
    }

    #[test]
    fn acker_of_another_source_is_not() {
        let elsewhere = replica_facts(2, 3, run(1, 9));
        assert_eq!(vouched(&[at(10, 1, primary(9)), at(11, 2, elsewhere)]), names(&[]));
    }

    #[test]
    fn nobody_is_vouched_for_once_the_primary_was_seen_not_to_wait_as_agreed() {
        let lacking: [fn(&mut crate::model::SemiSync); 6] = [
            |s| s.source_enabled = false,
            |s| s.acks = 0,
            |s| s.after_sync = false,
            |s| s.wait_no_replica = false,
            |s| s.timeout_ms = 10_000,
            |s| s.clients = 3,
        ];
        for lack in lacking {
            let mut loose = primary(12);
            lack(loose.semi_sync.as_mut().unwrap());
            let mut looks = vec![
                at(10, 1, primary(9)),
                at(11, 2, acker(2, 9)),
                at(12, 1, loose.clone()),
                at(13, 2, acker(2, 12)),
            ];
            assert_eq!(vouched(&looks), names(&[]));
            // Put right, everybody has to be seen level with what it has by then.
            looks.push(at(14, 1, primary(15)));
            assert_eq!(vouched(&looks), names(&[]));
            looks.push(at(15, 2, acker(2, 15)));
            assert_eq!(vouched(&looks), names(&[2]));
            // Read-only since a restart it commits nothing, whatever its settings are.
            (loose.read_only, loose.super_read_only) = (true, true);
            looks.push(at(16, 1, loose));
            assert_eq!(vouched(&looks), names(&[2]));
        }
    }

    /// The order by which db3 follows db2 past entry 9, and its end with this uptime.
    fn following(group: &Group, uptime: u64) -> (StepOrder, StepOutcome) {
        let view = view(group, bereft());
        let (cluster, seen) = view.cluster(&"app1".into()).unwrap();
        let moves = crate::decide::progress::next(
            &view,
            cluster,
            seen,
            cluster.attempt.as_ref().unwrap(),
            crate::model::Term(TERM),
        );
        let order = moves.into_iter().find_map(|each| match each {
            crate::decide::Move::Run { order } if order.record.goal.code() == "follow" => {
                Some(*order)
            }
            _ => None,
        });
        let mut outcome = met(&run(1, 9));
        if let StepOutcome::Done { evidence: StepEvidence::Server { uptime_seconds, .. } } =
            &mut outcome
        {
            *uptime_seconds = Some(uptime);
        }
        (order.unwrap(), outcome)
    }

    /// Whether db3 is vouched for once it followed, by a later look at it.
    fn is_vouched(order: &StepOrder, outcome: &StepOutcome, look: u64, uptime: u64) -> bool {
        let mut vouches = Vouches::default();
        vouches.followed(order, outcome, Mono(98 * S), Mono(100 * S));
        let mut later = at(uptime, 3, replica_facts(3, 2, run(1, 9)));
        later.at = Mono(look * S);
        vouches.standing([later].iter()) == names(&[3])
    }

    #[test]
    fn acker_that_followed_a_new_primary_is_vouched_for_until_it_restarts() {
        let (order, outcome) = following(&Group::passed(), 50);
        assert!(is_vouched(&order, &outcome, 103, 53));
        assert!(!is_vouched(&order, &outcome, 110, 5));
        // It took two seconds to learn of it.
        for (uptime, is_telling) in [(11, false), (12, true)] {
            let (order, young) = following(&Group::passed(), uptime);
            assert_eq!(is_vouched(&order, &young, 103, uptime + 3), is_telling);
        }
    }

    #[test]
    fn acker_that_was_put_behind_the_candidate_of_a_switchover_is_vouched_for_once_that_is_primary()
    {
        let (order, outcome) = following(&Group::passed(), 50);
        let ahead = StepOrder { primary: Some(name(1)), ..order.clone() };
        let later = at(53, 3, replica_facts(3, 2, run(1, 9)));
        let later = Observation { at: Mono(103 * S), ..later };
        let mut vouches = Vouches::default();
        vouches.record(&regime(), &at(90, 1, primary(9)));
        vouches.followed(&ahead, &outcome, Mono(98 * S), Mono(100 * S));
        assert_eq!(vouches.standing([later.clone()].iter()), names(&[]), "db1 is primary still");
        let of_db2 = Group::passed().cluster().regimes.last().unwrap().clone();
        vouches.record(&of_db2, &later);
        assert_eq!(vouches.standing([later.clone()].iter()), names(&[3]));
        // Undone, it is put back behind a primary for which it may have acknowledged before.
        let mut vouches = Vouches::default();
        let back = StepOrder { revoked: names(&[2]), ..order };
        vouches.followed(&back, &outcome, Mono(98 * S), Mono(100 * S));
        assert_eq!(vouches.standing([later].iter()), names(&[]));
    }

    #[test]
    fn acker_that_followed_before_or_outside_an_attempt_has_to_be_seen_level() {
        let mut group = Group::passed();
        let (order, outcome) = following(&group, 50);
        let chore = StepOrder { is_chore: true, ..order.clone() };
        assert!(!is_vouched(&chore, &outcome, 103, 53));
        let elsewhere = StepOrder { primary: Some(name(1)), ..order };
        assert!(!is_vouched(&elsewhere, &outcome, 103, 53));
        let follow = group.steps("follow")[0];
        group.begin(follow);
        group.end(follow, failed());
        let (again, _) = following(&group, 50);
        assert!(is_vouched(&again, &outcome, 103, 53), "it never followed");
        let mut again = again;
        again.record.runs[0].outcome = Some(outcome.clone());
        assert!(!is_vouched(&again, &outcome, 103, 53));
    }

    #[test]
    fn stranger_that_acknowledges_leaves_nobody_to_vouch_for() {
        let mut regime = regime();
        regime.ackers.remove(&name(3));
        let mut vouches = Vouches::default();
        let level = [at(10, 1, primary(9)), at(11, 2, acker(2, 9))];
        level.iter().for_each(|look| vouches.record(&regime, look));
        vouches.record(&regime, &at(12, 3, acker(3, 9)));
        assert_eq!(vouches.standing(level.iter()), names(&[]));
        let why = "db3 acknowledges its commits and is not one of its ackers";
        assert_eq!(vouches.unarmed().as_deref(), Some(why));
        let mut plain = acker(3, 9);
        plain.semi_sync = None;
        vouches.record(&regime, &at(13, 3, plain));
        assert_eq!(vouches.standing(level.iter()), names(&[2]));
    }
}
