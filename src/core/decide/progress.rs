//! What to do next about an open attempt, from its record alone. A new leader finds the same
//! record and comes to the same answer: there is no other resume code.
//!
//! A step not begun is run; begun and lost with its leader, it is run again, and finds its goal
//! met if it was; failed, it is tried again. Before entry 9 an attempt that gets nowhere is undone;
//! past it there is only forward, or the next epoch.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    candidate, coverage, rescue, stage, verdict,
    view::{ClusterView, FRESH, Move, StepOrder, View, place},
    vouch,
};
use crate::{
    model::{
        Attempt, Cause, DiskLog, Election, GtidSet, HookEvent, Micros, Mode, Mono, Outcome,
        Receiver, Rescue, ServerName, Stage, StepEvidence, StepKind, StepOutcome, StepRecord,
        Switchover, Term, Token,
    },
    state::{ClusterState, Command},
};

/// Pause before a failed step is tried again.
const RETRY: Micros = Micros(200_000);

/// Pause before a step is run again whose beginning or end the log did not take: with no majority
/// it refuses at once, and would be asked as fast as the leader can.
const UNAGREED: Micros = Micros(100_000);

/// How long a stop of a receiver is waited for once nothing depends on it.
const STRAGGLER: Micros = Micros(1_000_000);

/// How long a fence is waited for that an operator's word stands in for.
const ASSERTED: Micros = Micros(3_000_000);

/// Failed runs in a row after which a step before entry 9 counts as impossible.
const TRIES: usize = 3;

/// Everything the rules below look at.
struct Case<'a> {
    view: &'a View,
    cluster: &'a ClusterState,
    seen: &'a ClusterView,
    attempt: &'a Attempt,
    term: Term,
}

/// The next moves for the open attempt of a cluster.
pub fn next(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    attempt: &Attempt,
    term: Term,
) -> Vec<Move> {
    let case = Case { view, cluster, seen, attempt, term };
    match &attempt.stage {
        Stage::Freeze => match attempt.opening.cause.switchover() {
            Some(plan) => case.switch(plan),
            None => case.freeze(),
        },
        Stage::Recover { election } => case.recover(election),
        Stage::Promote { entry } => case.promote(&entry.election),
        Stage::Repoint { entry } => case.repoint(&entry.election),
        Stage::Undo { .. } => case.undo(),
    }
}

impl Case<'_> {
    fn freeze(&self) -> Vec<Move> {
        let is_unconfirmed = is_unconfirmed(self.attempt, self.term);
        let confirmation = self.confirmation();
        match confirmation {
            Confirmation::Alive if is_unconfirmed || self.is_answering_unfenced() => {
                return vec![self.give_up("the primary answers again".into())];
            }
            Confirmation::Alive | Confirmation::Unclear if is_unconfirmed || self.has_stalled() => {
                let why = "the primary's death was not confirmed";
                return self.is_stuck().then(|| self.give_up(why.into())).into_iter().collect();
            }
            Confirmation::Dead | Confirmation::Alive | Confirmation::Unclear => {}
        }
        let fences = || self.steps(|goal| matches!(goal, StepKind::Fence { .. }));
        let stops = || self.steps(|goal| *goal == StepKind::StopReceiver);
        let is_fence_first = match self.attempt.mode {
            Mode::Quorum => false,
            Mode::Fenced | Mode::BestEffort => true,
        };
        let fence = self.fence(&fences().collect::<Vec<_>>());
        let mut moves: Vec<Move> = fences().filter_map(|step| self.run(step)).collect();
        moves.extend(self.call(HookEvent::Opened));
        if !is_fence_first || fence.is_enough {
            moves.extend(stops().filter_map(|step| self.run(step)));
        }
        let is_settled = stops().all(|step| self.is_settled(step));
        // In `quorum` mode stopped receivers are the proof; the fence goes on beside the recovery
        // and is waited for before the candidate is opened; before the election, too, if the
        // primary answers again: then the fence decides whether to go on or to give up.
        let may_elect = fence.is_enough || !is_fence_first && confirmation != Confirmation::Alive;
        let is_frozen = may_elect && is_settled && self.missed_call().is_none();
        let unread = self.unread(is_frozen);
        if is_frozen && unread.is_empty() {
            if let Some(why) = rescue::refused(self.cluster, self.attempt) {
                return vec![self.give_up(why)];
            }
            if let Some(election) = self.elected(true) {
                return vec![self.elect(election)];
            }
        }
        let readable = unread.into_iter();
        let readable = readable.filter(|step| rescue::is_readable(self.attempt, &step.target));
        moves.extend(readable.filter_map(|step| self.run(step)));
        if fence.is_hopeless {
            return vec![self.give_up("no fence of the old primary could be proved".into())];
        }
        if let Some(step) = self.missed_call().filter(|step| is_called_out(step)) {
            return vec![self.give_up(format!("{} failed, and is required", hook_name(step)))];
        }
        if self.is_stuck() {
            return vec![self.give_up(self.why_not_elected())];
        }
        moves
    }

    /// The freeze of a switchover: one thing after the other, and the first that does not work undoes
    /// it all.
    fn switch(&self, plan: &Switchover) -> Vec<Move> {
        if let Some(why) = self.obstacle(plan) {
            return vec![self.give_up(why)];
        }
        let mut moves: Vec<Move> = self.call(HookEvent::Opened).collect();
        if self.missed_call().is_some() {
            return moves;
        }
        let phases: [fn(&StepKind) -> bool; 4] = [
            |goal| matches!(goal, StepKind::Level { .. }),
            |goal| matches!(goal, StepKind::Follow { .. }),
            |goal| matches!(goal, StepKind::CloseForWrites { .. }),
            |goal| *goal == StepKind::StopReceiver,
        ];
        let is_over = |step: &StepRecord| match step.goal {
            StepKind::StopReceiver => self.is_settled(step),
            _ => step.met().is_some(),
        };
        let open = |phase: &&fn(&StepKind) -> bool| self.steps(**phase).any(|step| !is_over(step));
        if let Some(phase) = phases.iter().find(open) {
            moves.extend(self.steps(*phase).filter_map(|step| self.run(step)));
            return moves;
        }
        // Whoever acknowledges to the candidate already must be on record as its acker.
        let acknowledges =
            |step: &StepRecord| matches!(step.goal, StepKind::Follow { acker: true, .. });
        let is_as_planned = |it: &Election| {
            let mut ahead = self.attempt.steps.iter().filter(|step| acknowledges(step));
            Some(&it.candidate) == self.attempt.opening.wanted.as_ref()
                && ahead.all(|step| it.ackers.contains(&step.target))
        };
        match self.elected(true).filter(is_as_planned) {
            Some(election) => vec![self.elect(election)],
            None => vec![self.give_up(self.why_not_elected())],
        }
    }

    /// Why a switchover before entry 9 is undone now.
    fn obstacle(&self, plan: &Switchover) -> Option<String> {
        let failed = self.attempt.steps.iter().find(|step| {
            let may_fail = matches!(step.goal, StepKind::StopReceiver | StepKind::Hook { .. });
            step.has_failed() && !may_fail
        });
        if let Some(step) = failed {
            let why = match step.outcome() {
                Some(StepOutcome::Failed { why } | StepOutcome::Unknown { why }) => why.as_str(),
                Some(StepOutcome::Done { .. } | StepOutcome::FoundDone { .. }) | None => "",
            };
            return Some(format!("{} on {} failed: {why}", step.goal.code(), step.target));
        }
        if let Some(step) = self.missed_call().filter(|step| is_called_out(step)) {
            return Some(format!("{} failed, and is required", hook_name(step)));
        }
        let since = self.seen.opened_at.unwrap_or(self.seen.progress_at);
        let is_late = self.view.now.since(since) >= Micros::from(plan.deadline_ms);
        let mut open = self.attempt.steps.iter().filter(|step| step.met().is_none());
        let waited_for = open.next().map(|step| format!("{} on {}", step.goal.code(), step.target));
        is_late.then(|| {
            let waited_for = waited_for.unwrap_or_else(|| "the election".into());
            format!("its deadline of {} ms was over, in {waited_for}", plan.deadline_ms.0)
        })
    }

    fn elect(&self, election: Election) -> Move {
        let steps = stage::recover(&election, &self.applied_by(&election.candidate));
        self.propose(Command::Elect {
            cluster: self.attempt.cluster().clone(),
            epoch: self.attempt.epoch(),
            election: Box::new(election),
            steps,
            at_us: self.at(),
        })
    }

    /// Orders to call the scripts of that moment that have not ended for good.
    fn call(&self, event: HookEvent) -> impl Iterator<Item = Move> {
        let calls = self.calls(event).filter(|step| !is_called_out(step));
        calls.filter_map(|step| self.run(step))
    }

    /// A required script that has to end well before anything is decided, and has not.
    fn missed_call(&self) -> Option<&StepRecord> {
        let is_required = |step: &&StepRecord| step.goal.hook().is_some_and(|call| call.required);
        self.calls(HookEvent::Opened).filter(is_required).find(|step| step.met().is_none())
    }

    fn calls(&self, event: HookEvent) -> impl Iterator<Item = &StepRecord> {
        self.steps(move |goal| goal.hook().is_some_and(|call| call.event == event))
    }

    /// Every script of these moments ended, well or for good.
    fn is_told(&self, events: &[HookEvent]) -> bool {
        events.iter().flat_map(|event| self.calls(*event)).all(is_called_out)
    }

    /// The election, if the freeze is complete and somebody is eligible.
    fn elected(&self, is_ready: bool) -> Option<Election> {
        if !is_ready || !self.is_covered() {
            return None;
        }
        let received = stage::received(self.attempt);
        let wanted = self.attempt.opening.wanted.as_ref();
        let field = candidate::rank(self.cluster, self.seen, self.view.now, &received, wanted);
        let needs_logs = !self.is_covered_with(&BTreeMap::new());
        let election = stage::elect(self.cluster, self.attempt, &field, needs_logs)?;
        (election.ackers.len() >= election.acks as usize).then_some(election)
    }

    /// The logs of dead primaries that have to be read, or found not to be readable, before anybody
    /// is elected: in `quorum` mode only if the stopped servers do not hold everything by themselves.
    fn unread(&self, is_frozen: bool) -> Vec<&StepRecord> {
        let is_wanted = is_frozen
            && match self.attempt.mode {
                Mode::Quorum => !self.is_covered_with(&BTreeMap::new()),
                Mode::Fenced | Mode::BestEffort => true,
            };
        let is_open = |step: &&StepRecord| {
            let is_readable = rescue::is_readable(self.attempt, &step.target);
            step.met().is_none()
                && failures(step) < TRIES
                && (is_readable || self.may_be_read(step))
        };
        self.steps(|goal| *goal == StepKind::ReadLog)
            .filter(|_| is_wanted)
            .filter(is_open)
            .collect()
    }

    /// An operator's word stands in for the fence, which may be met all the same in a moment: what
    /// is not seen dead is not read.
    fn may_be_read(&self, read: &StepRecord) -> bool {
        let mut fences = self.steps(|goal| matches!(goal, StepKind::Fence { .. }));
        let waited = self.view.now.since(self.seen.opened_at.unwrap_or(self.seen.progress_at));
        self.attempt.opening.asserted_dead
            && waited < ASSERTED
            && fences.any(|fence| fence.target == read.target && failures(fence) == 0)
    }

    fn is_covered(&self) -> bool {
        self.is_covered_with(&self.attempt.logs())
    }

    fn is_covered_with(&self, logs: &BTreeMap<&ServerName, &DiskLog>) -> bool {
        if self.attempt.opening.cause.switchover().is_some() {
            return self.is_closed_and_revoked();
        }
        match self.attempt.mode {
            Mode::Fenced | Mode::BestEffort => !stage::received(self.attempt).is_empty(),
            Mode::Quorum => {
                let received = stage::received(self.attempt);
                let recruits: BTreeSet<ServerName> = received.keys().cloned().collect();
                let intact = recruits.iter().filter(|name| self.is_intact(name)).cloned().collect();
                let union = received.values().fold(GtidSet::empty(), |sum, set| sum.union(set));
                let held = rescue::held(&union, logs);
                self.attempt.revokes.iter().all(|regime| {
                    rescue::is_covered_by_log(self.attempt, regime, logs, &held)
                        || coverage::is_revoked(regime, &recruits)
                            && coverage::is_covered(regime, &intact, &held)
                })
            }
        }
    }

    /// The old primary was read back as closed, what it had executed is there, and enough of its
    /// ackers read from it no more: whoever opens it again by hand gets no acknowledgement.
    fn is_closed_and_revoked(&self) -> bool {
        let received = stage::received(self.attempt);
        let recruits: BTreeSet<ServerName> = received.keys().cloned().collect();
        let union = received.values().fold(GtidSet::empty(), |sum, set| sum.union(set));
        let is_revoked = match self.attempt.mode {
            Mode::Fenced | Mode::BestEffort => true,
            Mode::Quorum => {
                let mut regimes = self.attempt.revokes.iter();
                regimes.all(|regime| coverage::is_revoked(regime, &recruits))
            }
        };
        is_revoked && self.attempt.closed().is_some_and(|closed| closed.is_subset(&union))
    }

    /// It holds what it acknowledged: this manager vouches for it, or another did when the attempt
    /// was opened and it has not restarted since.
    fn is_intact(&self, server: &ServerName) -> bool {
        if self.attempt.opening.tally.is_unarmed() || self.seen.unarmed.is_some() {
            return false;
        }
        if self.seen.vouched.contains(server) {
            return !self.may_have_restarted(server);
        }
        let facts = self.seen.facts(server, self.view.now, FRESH);
        let since = self.seen.opened_at.map(|opened| self.view.now.since(opened));
        let is_older = facts.zip(since).is_some_and(|(facts, since)| vouch::is_older(facts, since));
        let limit = Micros::from(self.cluster.definition.policy.ballot_age_ms);
        is_older && self.attempt.opening.tally.vouched(limit).any(|name| name == server)
    }

    /// Between the look that it is vouched for by and the look that found its receiver stopped: it
    /// would not be the server that was seen level any more.
    fn may_have_restarted(&self, server: &ServerName) -> bool {
        let stops =
            |step: &&StepRecord| step.goal == StepKind::StopReceiver && step.target == *server;
        let stop = self.attempt.steps.iter().find(stops);
        let Some((stop, Some(StepEvidence::Server { uptime_seconds: Some(uptime), .. }))) =
            stop.map(|stop| (stop, stop.met()))
        else {
            return false;
        };
        let Some(look) = self.seen.observations.get(server) else { return true };
        let stopped = self.seen.ended.get(&stop.id).copied().unwrap_or(self.seen.progress_at);
        let was_up = look.seen.as_ref().map_or(0, |facts| facts.uptime_seconds);
        look.at < stopped && *uptime < was_up
    }

    fn why_not_elected(&self) -> String {
        let received = stage::received(self.attempt);
        let names: Vec<&str> = received.keys().map(ServerName::as_str).collect();
        let stopped = match names.is_empty() {
            true => "no receiver was".to_owned(),
            false => format!("only the receiver(s) of {} were", names.join(", ")),
        };
        if let Some(step) = self.missed_call() {
            return format!("{} did not end, and is required", hook_name(step));
        }
        match self.is_covered() {
            true => "no frozen server is eligible, or too few could acknowledge its writes".into(),
            false => format!(
                "{stopped} read back as stopped: that is no coverage{}",
                rescue::why_not_read(self.attempt)
            ),
        }
    }

    /// Whether fresh ballots still say what the attempt was opened on.
    fn confirmation(&self) -> Confirmation {
        let Some(verdict) = self.verdict() else { return Confirmation::Unclear };
        match verdict.outcome {
            verdict::Outcome::Down => Confirmation::Dead,
            verdict::Outcome::Unreachable => Confirmation::Alive,
            verdict::Outcome::NotDown if verdict.up >= verdict.needed => Confirmation::Alive,
            verdict::Outcome::NotDown | verdict::Outcome::Unconfirmed => Confirmation::Unclear,
        }
    }

    /// This leader's own loop stalled since it saw the attempt open, and nothing but ballots says
    /// that the primary is dead: those that it had are void, however far the freeze has come.
    fn has_stalled(&self) -> bool {
        let opened = self.seen.opened_at.unwrap_or_default();
        wants_ballots(self.attempt) && self.view.stalled.is_some_and(|(at, _)| at >= opened)
    }

    /// The count of fresh ballots. Those of the epoch before are about the same primary, asked for
    /// until the attempt was seen open.
    fn verdict(&self) -> Option<verdict::Verdict> {
        let primary = self.cluster.primary()?;
        let tally = self.seen.tally.as_ref().filter(|tally| tally.primary == *primary)?;
        let epoch = match tally.epoch == self.attempt.opening.tally.epoch {
            true => tally.epoch,
            false => self.cluster.epoch,
        };
        Some(verdict::count(tally, epoch, &self.cluster.definition.policy))
    }

    /// Begun long ago perhaps, and meanwhile a majority reaches the primary that was declared dead
    /// by ballots; no fence has struck or is about to. Replicas that were stopped say nothing.
    fn is_answering_unfenced(&self) -> bool {
        let mut fences = self.steps(|goal| matches!(goal, StepKind::Fence { .. }));
        let strikes = |s: &StepRecord| s.met().is_some() || self.seen.running.contains_key(&s.id);
        is_of_ballots(self.attempt)
            && !fences.any(strikes)
            && self.verdict().is_some_and(|verdict| verdict.up >= verdict.needed)
    }

    fn recover(&self, election: &Election) -> Vec<Move> {
        let is_open_rescue = |step: &StepRecord| {
            let StepKind::Rescue { rescue } = &step.goal else { return false };
            !self.is_given_up(step, rescue)
        };
        let is_mine = |step: &&StepRecord| {
            matches!(step.goal, StepKind::CatchUp { .. } | StepKind::Apply { .. })
                || is_open_rescue(step)
        };
        let mut steps = self.attempt.steps.iter().filter(is_mine);
        let Some(step) = steps.find(|step| step.met().is_none()) else {
            return vec![self.pass(election)];
        };
        if self.is_stuck() || failures(step) >= TRIES {
            let why = format!("{} could not be brought level", election.candidate);
            return vec![self.give_up(why)];
        }
        let fences = self.steps(|goal| matches!(goal, StepKind::Fence { .. }));
        fences.chain([step]).filter_map(|step| self.run(step)).collect()
    }

    /// A rescue that failed as often as it is tried, or for as long, and that the promise does not
    /// rest on: what it should have brought is lost, and told.
    fn is_given_up(&self, step: &StepRecord, rescue: &Rescue) -> bool {
        let is_over = failures(step) >= TRIES || self.is_stuck() && step.has_failed();
        !rescue.is_needed && step.has_failed() && is_over
    }

    /// What a server is known to have applied: after its last step of the recovery, or when it was
    /// frozen.
    fn applied_by(&self, server: &ServerName) -> GtidSet {
        let applies =
            self.steps(|goal| matches!(goal, StepKind::Apply { .. } | StepKind::Rescue { .. }));
        let mut met = applies.filter(|step| step.target == *server).filter_map(StepRecord::met);
        let applied = met.next_back();
        match applied.or_else(|| self.attempt.frozen().remove(server)) {
            Some(StepEvidence::Server { executed, .. }) => executed.clone(),
            Some(
                StepEvidence::Host { .. }
                | StepEvidence::Log { .. }
                | StepEvidence::Examined { .. }
                | StepEvidence::Hook { .. },
            )
            | None => GtidSet::empty(),
        }
    }

    fn pass(&self, election: &Election) -> Move {
        self.propose(Command::PassPointOfNoReturn {
            cluster: self.attempt.cluster().clone(),
            epoch: self.attempt.epoch(),
            executed: self.applied_by(&election.candidate),
            steps: stage::promote(self.cluster, self.seen, election),
            at_us: self.at(),
        })
    }

    fn promote(&self, election: &Election) -> Vec<Move> {
        let followers = || self.steps(|goal| matches!(goal, StepKind::Follow { .. }));
        let detach = || self.steps(|goal| *goal == StepKind::Detach);
        let opens = || self.steps(|goal| matches!(goal, StepKind::OpenForWrites { .. }));
        let vips = || self.steps(|goal| matches!(goal, StepKind::TakeVip { .. }));
        let is_open = opens().any(|step| step.met().is_some());
        // A failing address does not keep the others waiting: upkeep goes on trying.
        let is_published = vips().all(|step| step.met().is_some() || failures(step) >= TRIES);
        // A closed primary answers nobody: its successor need not have forgotten it before it is opened,
        // and the address may lead there before that.
        let is_closed = self.attempt.closed().is_some();
        let is_detached = detach().all(|step| step.met().is_some());
        if is_open && is_published && (is_detached || !is_closed) {
            return vec![self.propose(Command::EnterRepoint {
                cluster: self.attempt.cluster().clone(),
                epoch: self.attempt.epoch(),
                steps: stage::repoint(self.cluster, self.seen, election),
                at_us: self.at(),
            })];
        }
        let is_lost = |step: &&StepRecord| !is_open && self.is_lost(step, &election.candidate);
        let is_there = |step: &&StepRecord| {
            step.met().is_some() && !is_lost(step) && election.ackers.contains(&step.target)
        };
        let connected = followers().filter(is_there).count();
        let fences: Vec<_> = self.steps(|goal| matches!(goal, StepKind::Fence { .. })).collect();
        let may_open = (is_detached || is_closed)
            && connected >= election.acks as usize
            && self.fence(&fences).is_enough;
        // The old primary of a switchover is slow to become a replica: it waits, unless its
        // acknowledgements are needed.
        let others = self.attempt.steps.iter().filter(|step| {
            matches!(step.goal, StepKind::Follow { .. })
                && step.target != self.attempt.old_primary
                && election.ackers.contains(&step.target)
        });
        let is_enough = others.count() >= election.acks as usize;
        let may_follow =
            |step: &&StepRecord| is_open || !is_enough || step.target != self.attempt.old_primary;
        let may_detach = |_: &&StepRecord| is_open || !is_closed;
        let mut wanted: Vec<&StepRecord> =
            detach().filter(may_detach).chain(followers().filter(may_follow)).collect();
        wanted.extend(fences);
        wanted.extend(opens().filter(|_| may_open));
        wanted.extend(vips().filter(|_| is_open || is_closed));
        wanted.extend(self.drops().filter(|_| is_published));
        let again = followers().filter(is_lost).filter_map(|step| self.run_again(step));
        again.chain(wanted.into_iter().filter_map(|step| self.run(step))).collect()
    }

    /// The old primary of a switchover lets go of the address.
    fn drops(&self) -> impl Iterator<Item = &StepRecord> {
        let drops = self.steps(|goal| matches!(goal, StepKind::DropVips { .. }));
        drops.filter(|step| failures(step) < TRIES)
    }

    /// An acker that followed the candidate, as was read back, and does so no more.
    fn is_lost(&self, step: &StepRecord, candidate: &ServerName) -> bool {
        let look = self.seen.observations.get(&step.target);
        let since = self.seen.ended.get(&step.id).copied().unwrap_or_default();
        let source = self.cluster.definition.server(candidate);
        let Some((look, source)) = look.filter(|look| look.at >= since).zip(source) else {
            return false;
        };
        let Some(facts) = self.seen.facts(&step.target, self.view.now, FRESH) else { return false };
        let follows = facts.replica.as_ref().is_some_and(|replica| {
            let is_of =
                (&*replica.source_host, replica.source_port) == (&*source.host, source.port);
            is_of && replica.receiver != Receiver::Off
        });
        step.met().is_some() && look.seen.is_ok() && !follows
    }

    fn repoint(&self, election: &Election) -> Vec<Move> {
        let followers = || self.steps(|goal| matches!(goal, StepKind::Follow { .. }));
        let is_settled = followers().all(|step| step.met().is_some() || step.has_failed())
            && self.drops().all(|step| step.met().is_some())
            && self.is_told(&[HookEvent::Opened, HookEvent::Published]);
        if is_settled && self.is_told(&[HookEvent::Finished]) {
            let behind = followers().filter(|step| step.met().is_none());
            let mut left_behind: BTreeSet<_> = behind.map(|step| step.target.clone()).collect();
            let others = self.cluster.definition.servers.iter().map(|server| &server.name);
            let unreached = others.filter(|name| {
                !election.recruits.contains(*name) && *self.attempt.old_primary.0 != *name.0
            });
            left_behind.extend(unreached.cloned());
            return vec![self.close(Outcome::Promoted { left_behind })];
        }
        let fences = self.steps(|goal| matches!(goal, StepKind::Fence { .. }));
        let mut moves: Vec<Move> =
            followers().chain(fences).chain(self.drops()).filter_map(|s| self.run(s)).collect();
        moves.extend(self.call(HookEvent::Opened).chain(self.call(HookEvent::Published)));
        moves.extend(self.call(HookEvent::Finished).filter(|_| is_settled));
        moves
    }

    fn undo(&self) -> Vec<Move> {
        let resumes = || {
            self.steps(|goal| match goal {
                StepKind::Follow { source, .. } => *source == self.attempt.old_primary,
                goal => matches!(goal, StepKind::ResumeReceiver | StepKind::Reopen { .. }),
            })
        };
        let wakes = || self.steps(|goal| *goal == StepKind::Wake);
        let is_over = |step: &StepRecord| step.met().is_some() || failures(step) >= TRIES;
        if resumes().any(|step| !is_over(step)) {
            return resumes().filter(|s| !is_over(s)).filter_map(|s| self.run(s)).collect();
        }
        if let Some(step) = wakes().find(|step| !is_over(step)) {
            return self.run(step).into_iter().collect();
        }
        // A script that was called when it was opened is heard out, so that its end is on record.
        let is_running = |step: &StepRecord| self.seen.running.contains_key(&step.id);
        if !self.is_told(&[HookEvent::Undone]) || self.calls(HookEvent::Opened).any(is_running) {
            return self.call(HookEvent::Undone).collect();
        }
        let unmet = resumes().chain(wakes()).filter(|step| step.met().is_none());
        let unfinished = unmet.map(|step| format!("{} on {}", step.goal.code(), step.target));
        let why = match &self.attempt.stage {
            Stage::Undo { why } => why.clone(),
            Stage::Freeze
            | Stage::Recover { .. }
            | Stage::Promote { .. }
            | Stage::Repoint { .. } => String::new(),
        };
        vec![self.close(Outcome::Aborted { why, unfinished: unfinished.collect() })]
    }

    fn steps(
        &self,
        is_wanted: impl Fn(&StepKind) -> bool,
    ) -> impl DoubleEndedIterator<Item = &StepRecord> {
        self.attempt.steps.iter().filter(move |step| is_wanted(&step.goal))
    }

    /// An order to run this step now, unless it is met, running, or failed a moment ago.
    fn run(&self, step: &StepRecord) -> Option<Move> {
        order(self.view, self.cluster, self.seen, step, self.term, RETRY)
    }

    /// An order to run a step again whose goal was met and is so no more.
    fn run_again(&self, step: &StepRecord) -> Option<Move> {
        let is_running = self.seen.running.contains_key(&step.id);
        let order = || step_order(self.cluster, self.seen, step, self.term);
        (!is_running).then(order).flatten()
    }

    fn fence(&self, fences: &[&StepRecord]) -> Fence {
        let policy = &self.cluster.definition.policy;
        let all_met = fences.iter().all(|step| step.met().is_some());
        let tried_out = fences.iter().all(|s| s.met().is_some() || failures(s) >= TRIES);
        let is_proved = self.attempt.opening.asserted_dead || (all_met && !fences.is_empty());
        let waited = self.view.now.since(self.seen.opened_at.unwrap_or(self.seen.progress_at));
        if self.attempt.opening.cause.switchover().is_some() {
            return Fence { is_enough: true, is_hopeless: false };
        }
        match self.attempt.mode {
            Mode::Quorum => Fence {
                is_enough: all_met
                    || self.attempt.opening.asserted_dead
                    || fences.iter().all(|s| s.met().is_some() || s.has_failed())
                    || waited >= Micros::from(policy.fence_patience_ms),
                is_hopeless: false,
            },
            Mode::Fenced => Fence { is_enough: is_proved, is_hopeless: !is_proved && tried_out },
            Mode::BestEffort => Fence { is_enough: is_proved || tried_out, is_hopeless: false },
        }
    }

    /// Met, failed at least once, or not worth waiting for any longer.
    fn is_settled(&self, step: &StepRecord) -> bool {
        let began = self.seen.running.get(&step.id);
        let waited = began.map(|began| self.view.now.since(*began));
        step.met().is_some() || step.has_failed() || waited.is_some_and(|w| w >= STRAGGLER)
    }

    fn is_stuck(&self) -> bool {
        let budget = Micros::from(self.cluster.definition.policy.progress_budget_ms);
        self.view.now.since(self.seen.progress_at) >= budget
    }

    fn give_up(&self, why: String) -> Move {
        self.propose(Command::Undo {
            cluster: self.attempt.cluster().clone(),
            epoch: self.attempt.epoch(),
            steps: stage::undo(self.cluster, self.attempt, &why),
            why,
            at_us: self.at(),
        })
    }

    fn close(&self, outcome: Outcome) -> Move {
        self.propose(Command::CloseAttempt {
            cluster: self.attempt.cluster().clone(),
            epoch: self.attempt.epoch(),
            outcome,
            at_us: self.at(),
        })
    }

    fn propose(&self, command: Command) -> Move {
        Move::Propose { command: Box::new(command) }
    }

    fn at(&self) -> Option<Micros> {
        self.seen.opened_at.map(|opened| self.view.now.since(opened))
    }
}

/// What fresh ballots say of an attempt that is open already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Confirmation {
    Dead,
    Alive,
    Unclear,
}

/// Opened on ballots and not begun by this leader. The entry that opened it, or those of its first
/// steps, may have waited in a log for long, so the ballots it was opened on may be no evidence any
/// more (SAFETY invariant 3). As a rule those that the leader holds are still young when it sees
/// the attempt open. A primary that was fenced is dead whatever ballots say.
fn is_unconfirmed(attempt: &Attempt, term: Term) -> bool {
    let is_mine = |step: &StepRecord| step.runs.iter().any(|run| run.term == term);
    wants_ballots(attempt) && !attempt.steps.iter().any(is_mine)
}

/// Whether ballots still matter to an open attempt: until the old primary is fenced or revoked, it
/// may answer again.
pub fn wants_ballots(attempt: &Attempt) -> bool {
    let is_fenced =
        |step: &StepRecord| matches!(step.goal, StepKind::Fence { .. }) && step.met().is_some();
    is_of_ballots(attempt) && attempt.stage == Stage::Freeze && !attempt.steps.iter().any(is_fenced)
}

/// Nobody vouches for the death of the old primary but the ballots.
fn is_of_ballots(attempt: &Attempt) -> bool {
    match attempt.opening.cause {
        Cause::PrimaryDown | Cause::CandidateLost { .. } => true,
        Cause::Manual => !attempt.opening.asserted_dead,
        Cause::PrimaryRestarted | Cause::Switchover { .. } => false,
    }
}

/// Whether the fence lets the freeze go on.
struct Fence {
    is_enough: bool,
    is_hopeless: bool,
}

/// A script's call ended well, or as often as it is tried.
fn is_called_out(step: &StepRecord) -> bool {
    let tries = match step.goal.hook().is_some_and(|call| call.required) {
        true => TRIES,
        false => 1,
    };
    step.met().is_some() || failures(step) >= tries
}

fn hook_name(step: &StepRecord) -> String {
    let call = step.goal.hook();
    call.map_or_else(String::new, |call| format!("hook {} on {}", call.name, call.event.as_str()))
}

/// Failed runs at the end of a step's record, whether or not another one is under way.
fn failures(step: &StepRecord) -> usize {
    let failed = |run: &&crate::model::StepRun| {
        run.outcome.as_ref().is_some_and(|outcome| outcome.evidence().is_none())
    };
    let is_under_way = |run: &&crate::model::StepRun| run.outcome.is_none();
    step.runs.iter().rev().skip_while(is_under_way).take_while(failed).count()
}

/// An order to run a step now, unless it is met, running, or failed less than `pause` ago; each
/// further failure in a row doubles the pause, up to sixteen times. One that ended without a word
/// about it in the record rests for a moment, too.
pub fn order(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    step: &StepRecord,
    term: Term,
    pause: Micros,
) -> Option<Move> {
    let ended = seen.ended.get(&step.id);
    let pause = Micros(pause.0 << failures(step).saturating_sub(1).min(4));
    let pause = if step.has_failed() { pause } else { UNAGREED };
    let rests = |ended: &Mono| view.now.since(*ended) < pause;
    if step.met().is_some() || seen.running.contains_key(&step.id) || ended.is_some_and(rests) {
        return None;
    }
    step_order(cluster, seen, step, term)
}

fn step_order(
    cluster: &ClusterState,
    seen: &ClusterView,
    step: &StepRecord,
    term: Term,
) -> Option<Move> {
    let servers = cluster.definition.servers.iter().map(|server| &server.name);
    let others = servers
        .filter(|name| **name != step.target)
        .filter_map(|name| Some((name.clone(), place(cluster, name)?)));
    let revoked = cluster.attempt.iter().flat_map(|attempt| &attempt.revokes);
    let is_chore = cluster.chores.get(&step.target).is_some_and(|chore| chore.id == step.id);
    let order = StepOrder {
        token: Token { epoch: cluster.epoch, term, seq: step.id.seq },
        record: step.clone(),
        place: place(cluster, &step.target)?,
        uuid: cluster.members.get(&step.target).and_then(|member| member.uuid.clone()),
        others: others.collect(),
        primary: cluster.primary().cloned(),
        revoked: revoked.map(|regime| regime.primary.clone()).collect(),
        known: if step.goal == StepKind::ReadLog { received(cluster) } else { GtidSet::empty() },
        deadline: match step.goal.hook() {
            Some(call) => call.deadline_ms.into(),
            None => cluster.definition.policy.step_deadline_ms.into(),
        },
        opened_at: seen.opened_at,
        is_chore,
    };
    Some(Move::Run { order: Box::new(order) })
}

/// What the servers that were stopped in the open attempt have received together.
fn received(cluster: &ClusterState) -> GtidSet {
    let received = cluster.attempt.as_ref().map(stage::received).unwrap_or_default();
    received.values().fold(GtidSet::empty(), |sum, set| sum.union(set))
}
