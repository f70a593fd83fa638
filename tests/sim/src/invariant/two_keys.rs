//! Invariant 3: two keys to declare death, and no failover without a true reason.

use std::collections::{BTreeMap, BTreeSet};

use conclave_core::{
    model::{
        Answer, Attempt, Cause, Epoch, Opening, Policy, Stage, StepKind, StepRecord, Term, Token,
    },
    state::{Command, Reply},
};

use super::{Event, Invariant, of};
use crate::{
    clock::Micros,
    network::{Ix, Node},
    world::World,
};

/// Since when each server has been well, for everybody who matters.
#[derive(Default)]
pub struct TwoKeys {
    well_since: BTreeMap<Ix, Micros>,
    heard_since: BTreeMap<Ix, Micros>,
    /// Leaders that have acted, by epoch and term.
    acted: BTreeSet<(Epoch, Term)>,
}

/// What a ballot says may be this much older than an act on a server; so may what a replica heard.
const SLACK: Micros = 2_000_000;

/// How long a command for a host may be on its way after that: agreed on, logged in, margins.
const REMOTE: Micros = 5_000_000;

impl TwoKeys {
    fn look(&mut self, world: &World) {
        let now = world.sim.now();
        for ix in 0..world.servers.len() {
            mark(&mut self.well_since, ix, is_well(world, ix), now);
            mark(&mut self.heard_since, ix, is_heard(world, ix), now);
        }
    }

    fn judge(&self, opening: &Opening, policy: &Policy) -> Result<(), String> {
        let tally = &opening.tally;
        let limit = policy.ballot_age_ms.into();
        let down = tally.ballots.iter().filter(|(id, counted)| {
            let is_down = counted.ballot.answer == Answer::Down;
            tally.voters.contains(id) && counted.age <= limit && is_down
        });
        let (down, voters) = (down.count(), tally.voters.len());
        if down <= voters / 2 && !opening.asserted_dead {
            return Err(format!("opened on {down} of {voters} ballots"));
        }
        Ok(())
    }

    /// The first act of each leader in the freeze of an attempt that was opened on ballots. What
    /// is undone touches nothing but what it puts back.
    fn judge_act(&mut self, world: &World, token: Token, slack: Micros) -> Result<(), String> {
        let group = world.consensus.newest();
        let attempt = of(&group, &world.cluster).and_then(|cluster| cluster.attempt.as_ref());
        let is_judged = |open: &&Attempt| {
            open.epoch() == token.epoch
                && open.stage == Stage::Freeze
                && is_of_death(&open.opening.cause)
        };
        match attempt.filter(is_judged) {
            Some(open) if self.acted.insert((token.epoch, token.term)) => {
                let fences = open.steps.iter().filter(|s| matches!(s.goal, StepKind::Fence { .. }));
                let is_fenced = fences.into_iter().any(|step| step.met().is_some());
                if is_fenced { Ok(()) } else { self.is_true(world, &open.opening, slack) }
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A primary that answers a majority again and is not fenced is left in its place.
    fn judge_election(&self, world: &World, open: &Attempt) -> Result<(), String> {
        let mut fences = open.steps.iter().filter(|s| matches!(s.goal, StepKind::Fence { .. }));
        // A fence may strike before its end is in the log.
        let is_under_way = |step: &StepRecord| !step.runs.is_empty() && step.outcome().is_none();
        let is_fenced = fences.any(|step| step.met().is_some() || is_under_way(step));
        let is_vouched = open.opening.asserted_dead || !is_of_death(&open.opening.cause);
        let Some(ix) = world.ix(&open.opening.tally.primary) else { return Ok(()) };
        let since = self.well_since.get(&ix).copied().unwrap_or(world.sim.now());
        let well = world.sim.now() - since;
        match well > SLACK && !is_fenced && !is_vouched {
            true => Err(format!("{} is replaced, well for {well} us", world.names[ix])),
            false => Ok(()),
        }
    }

    /// Looks at the truth when an attempt touches something.
    fn is_true(&self, world: &World, opening: &Opening, slack: Micros) -> Result<(), String> {
        let tally = &opening.tally;
        let now = world.sim.now();
        let Some(ix) = world.ix(&tally.primary) else { return Ok(()) };
        let since = |marks: &BTreeMap<Ix, Micros>| {
            marks.get(&ix).map_or(0, |since| now.saturating_sub(*since))
        };
        let (well, heard) = (since(&self.well_since), since(&self.heard_since));
        if well > slack {
            return Err(format!("{} was declared dead, well for {well} us", tally.primary));
        }
        if heard > slack {
            let who = &tally.primary;
            return Err(format!("{who} was declared dead, heard by replicas for {heard} us"));
        }
        Ok(())
    }
}

/// The primary is declared dead by it. One that restarted, or is to be replaced as planned, is alive.
fn is_of_death(cause: &Cause) -> bool {
    match cause {
        Cause::PrimaryDown | Cause::CandidateLost { .. } | Cause::Manual => true,
        Cause::PrimaryRestarted | Cause::Switchover { .. } => false,
    }
}

fn mark(marks: &mut BTreeMap<Ix, Micros>, ix: Ix, is_so: bool, now: Micros) {
    match is_so {
        true => {
            marks.entry(ix).or_insert(now);
        }
        false => {
            marks.remove(&ix);
        }
    }
}

/// It serves, and a majority of all managers reaches it quickly.
fn is_well(world: &World, ix: Ix) -> bool {
    let reach = world.managers.keys().filter(|id| {
        let (here, there) = (Node::Manager(**id), Node::Host(ix));
        world.network.talk(here, there) && world.network.extra(here, there) < 50_000
    });
    world.servers[ix].is_serving() && reach.count() > world.managers.len() / 2
}

/// A replica that every manager reaches gets its heartbeats and events.
fn is_heard(world: &World, ix: Ix) -> bool {
    world.servers[ix].is_serving()
        && world.servers.iter().any(|replica| {
            let wire = replica.link.as_ref().and_then(|link| link.wire);
            let is_wired = wire.is_some_and(|w| w.source == ix && w.boot == world.servers[ix].boot);
            let hosts = (Node::Host(ix), Node::Host(replica.ix));
            let is_near = world.network.extra(hosts.0, hosts.1) < 50_000;
            let reached = world.managers.keys().all(|id| {
                let (here, there) = (Node::Manager(*id), Node::Host(replica.ix));
                world.network.talk(here, there) && world.network.extra(here, there) < 50_000
            });
            is_wired
                && is_near
                && reached
                && replica.is_serving()
                && world.network.talk(hosts.0, hosts.1)
        })
}

impl Invariant for TwoKeys {
    fn name(&self) -> &'static str {
        "two_keys"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::Tick => {
                self.look(world);
                Ok(())
            }
            Event::Committed {
                command: Command::OpenAttempt { opening, .. },
                reply: Reply::Opened { .. },
                state,
                ..
            } if is_of_death(&opening.cause) => {
                let Some(cluster) = of(state, &world.cluster) else { return Ok(()) };
                self.judge(opening, &cluster.definition.policy)
            }
            Event::Committed {
                command: Command::Elect { .. },
                reply: Reply::Opened { .. },
                before,
                ..
            } => {
                let open = of(before, &world.cluster).and_then(|c| c.attempt.as_ref());
                open.map_or(Ok(()), |open| self.judge_election(world, open))
            }
            Event::Acting { token, .. } => self.judge_act(world, *token, SLACK),
            Event::RemoteActing { token, .. } => self.judge_act(world, *token, SLACK + REMOTE),
            Event::Committed { .. }
            | Event::Locked { .. }
            | Event::Acted { .. }
            | Event::Acknowledged { .. } => Ok(()),
        }
    }
}
