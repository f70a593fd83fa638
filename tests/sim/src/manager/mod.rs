//! One manager process: what it keeps between two ticks, and how its view is put together.
//!
//! It decides nothing: [`conclave_core::decide::tick`] does, on the view that is built here.

mod ballot;
mod lead;
mod probe;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use conclave_core::{
    decide::{
        ClusterView, View, ackers::Attendance, hear::Tracker, suspect::PingHistory, upkeep,
        vouch::Vouches,
    },
    model::{
        Attempt, Ballot, ClusterName, CountedBallot, GtidSet, ManagerId, Micros as Span, Mono,
        Nonce, Outcome, Policy, ServerName, StepId, Tally, Term,
    },
    state::{ClusterState, GroupState},
};

use crate::{
    clock::{Micros, Owner, Sim, Slot},
    world::World,
};

/// A wall clock, for people: hours apart from the others', and one of them runs back.
fn wall(id: u64, now: Mono) -> u64 {
    let (begin, ms) = (1_700_000_000_000 + id * 3_600_000, now.0 / 1000);
    if id == 2 { begin - ms } else { begin + ms }
}

/// How long a report of trouble counts.
const NUDGE: Span = Span(500_000);

/// One manager.
pub struct Manager {
    /// Its id.
    pub id: u64,
    /// Its present process.
    pub owner: Owner,
    /// The process exists.
    pub is_alive: bool,
    /// Its clock runs ahead of the world's by this.
    pub ahead: Micros,
    /// What decisions look at.
    pub view: View,
    /// What it told operators.
    pub said: Vec<String>,
    pings: PingHistory,
    pinged: Option<ServerName>,
    trackers: BTreeMap<ServerName, Tracker>,
    pub(crate) vouches: Vouches,
    /// What a primary had executed when that step had closed it for writes.
    pub(crate) closed: Option<(StepId, GtidSet)>,
    attendance: Attendance,
    ballots: BTreeMap<ManagerId, (Ballot, Mono)>,
    asked: BTreeMap<Nonce, Mono>,
    nudges: BTreeMap<u64, (Mono, Span)>,
    last_nonce: u64,
    applied: usize,
    is_proposing: bool,
    /// Steps that run here: put in, the slot ends one.
    steps: BTreeMap<StepId, Slot<()>>,
    /// Steps that have acted and only wait for their end to be agreed.
    ending: BTreeSet<StepId>,
    awake_at: Mono,
}

impl Manager {
    /// A process that has just started.
    pub fn new(id: u64, owner: Owner, ahead: Micros, managers: u64) -> Self {
        let now = Mono(ahead);
        Self {
            id,
            owner,
            is_alive: true,
            ahead,
            view: View {
                me: ManagerId(id),
                term: None,
                voters: (1..=managers).map(ManagerId).collect(),
                group: Arc::default(),
                now,
                stalled: None,
                advanced_at: now,
                wall_ms: 0,
                clusters: BTreeMap::new(),
            },
            said: Vec::new(),
            pings: PingHistory::new(now),
            pinged: None,
            trackers: BTreeMap::new(),
            vouches: Vouches::default(),
            closed: None,
            attendance: Attendance::default(),
            ballots: BTreeMap::new(),
            asked: BTreeMap::new(),
            nudges: BTreeMap::new(),
            last_nonce: 0,
            applied: 0,
            is_proposing: false,
            steps: BTreeMap::new(),
            ending: BTreeSet::new(),
            awake_at: now,
        }
    }

    /// It runs and is not stopped.
    pub fn is_awake(&self, sim: &Sim) -> bool {
        self.is_alive && !sim.is_stopped(self.owner)
    }

    /// A step of this manager moves on.
    pub fn progressed(&mut self, now: Mono) {
        for seen in self.view.clusters.values_mut() {
            seen.progress_at = now;
        }
    }

    /// Looks at the clock: a gap means that this process did not run, and all it saw is void.
    fn wake(&mut self, now: Mono, policy: &Policy) {
        let gap = now.since(self.awake_at);
        self.awake_at = now;
        if gap >= policy.stall_ms.into() {
            self.pings.stall(now);
            self.ballots.clear();
            self.view.stalled = Some((now, gap));
        }
    }

    /// Its process did not run for a while since then, or does so again just now.
    pub fn has_stalled_since(&self, since: Mono, now: Mono) -> bool {
        let cluster = self.view.group.clusters.values().next();
        let patience = cluster.map(|cluster| Span::from(cluster.definition.policy.stall_ms));
        patience.is_some_and(|patience| now.since(self.awake_at) >= patience)
            || self.view.stalled.is_some_and(|(at, _)| at >= since)
    }

    /// Brings the view up to date.
    fn refresh(
        &mut self,
        now: Mono,
        name: &ClusterName,
        (applied, group): (usize, Arc<GroupState>),
        term: Option<Term>,
    ) {
        if applied != self.applied {
            self.absorb(now, name, applied, group);
        }
        if self.view.term != term {
            self.view.term = term;
            self.view.advanced_at = now;
            self.ballots.clear();
            self.asked.clear();
            for seen in self.view.clusters.values_mut() {
                seen.running.clear();
                seen.ended.clear();
            }
        }
        self.view.now = now;
        self.view.wall_ms = wall(self.id, now);
        let group = self.view.group.clone();
        let Some(cluster) = group.clusters.get(name) else { return };
        self.wake(now, &cluster.definition.policy);
        let doubt = self.doubt(now);
        let tally = self.tally(now, cluster);
        let hearing = self.hearing(now, cluster);
        let seen = self.view.clusters.entry(name.clone()).or_default();
        seen.doubt = doubt;
        if doubt.is_none() && seen.wish.is_none() {
            seen.asked_at = None;
        }
        seen.tally = tally;
        seen.hearing = hearing;
    }

    /// Takes newer agreed state in and notes what changed about attempts.
    fn absorb(&mut self, now: Mono, name: &ClusterName, applied: usize, group: Arc<GroupState>) {
        let is_fresh = self.applied == 0;
        self.applied = applied;
        let before = std::mem::replace(&mut self.view.group, group);
        if before.clock_ms != self.view.group.clock_ms {
            self.view.advanced_at = now;
        }
        let old = before.clusters.get(name);
        let Some(new) = self.view.group.clusters.get(name) else { return };
        let seen = self.view.clusters.entry(name.clone()).or_default();
        let was = old.and_then(|cluster| cluster.attempt.as_ref());
        let come_to = |open: &Attempt| (open.epoch(), open.progress());
        if was.map(come_to) != new.attempt.as_ref().map(come_to) {
            seen.progress_at = now;
        }
        match &new.attempt {
            Some(open) if was.is_none_or(|was| was.epoch() != open.epoch()) => {
                seen.opened_at = (!is_fresh).then_some(now);
                seen.running.clear();
                seen.ended.clear();
                if seen.wish.as_ref().is_some_and(|wish| wish.actor == open.opening.actor) {
                    seen.wish = None;
                    self.said.push(format!("opened {}", open.id));
                }
            }
            Some(_) => {}
            None => {
                seen.opened_at = None;
                let last = new.history.back().and_then(|last| last.outcome.as_ref());
                if was.is_some() && matches!(last, Some(Outcome::Aborted { .. })) {
                    seen.aborted_at = Some(now);
                }
            }
        }
        if self.pinged.as_ref() != new.primary() {
            self.pinged = new.primary().cloned();
            self.pings = PingHistory::new(now);
            self.ballots.clear();
            seen.seen_writable = None;
        }
        self.end_stray_steps(now, name);
    }

    /// Ends steps that are no longer in the record: their attempt is over, or their chore was replaced.
    /// One that has acted is left to say so. As the product's leader does.
    fn end_stray_steps(&mut self, now: Mono, name: &ClusterName) {
        let Some(cluster) = self.view.group.clusters.get(name) else { return };
        let seen = self.view.clusters.entry(name.clone()).or_default();
        let ending = &self.ending;
        self.steps.retain(|step, end| {
            let is_kept = cluster.step(*step).is_some() || ending.contains(step);
            if !is_kept {
                end.put(());
                seen.running.remove(step);
                seen.ended.insert(*step, now);
            }
            is_kept
        });
    }

    /// A step will act no more: its end is being recorded.
    pub(crate) fn step_acted(&mut self, step: StepId) {
        self.ending.insert(step);
    }

    /// For how long the primary has been in doubt, by anybody's word.
    fn doubt(&mut self, now: Mono) -> Option<Span> {
        self.nudges.retain(|_, (at, _)| now.since(*at) < NUDGE);
        let mine = self.pings.trouble().map(|since| now.since(since));
        let theirs = self.nudges.values().map(|(at, age)| Span(age.0 + now.since(*at).0));
        theirs.chain(mine).max()
    }

    fn tally(&self, now: Mono, cluster: &ClusterState) -> Option<Tally> {
        let primary = cluster.primary()?;
        let is_asked = self.view.term.is_some() && self.last_nonce > 0;
        is_asked.then(|| Tally {
            primary: primary.clone(),
            epoch: cluster.epoch,
            nonce: Nonce(self.last_nonce),
            voters: self.view.voters.clone(),
            ballots: self
                .ballots
                .iter()
                .map(|(id, (ballot, asked))| {
                    let age = now.since(*asked);
                    (*id, CountedBallot { ballot: ballot.clone(), age })
                })
                .collect(),
        })
    }

    fn hearing(
        &self,
        now: Mono,
        cluster: &ClusterState,
    ) -> BTreeMap<ServerName, conclave_core::model::Hearing> {
        let Some(primary) = cluster.primary().and_then(|p| cluster.definition.server(p)) else {
            return BTreeMap::new();
        };
        let looks = self.view.clusters.get(&cluster.definition.name).map(|seen| &seen.observations);
        let others = cluster.definition.servers.iter().filter(|s| s.name != primary.name);
        others
            .map(|server| {
                let look = looks.and_then(|looks| looks.get(&server.name));
                let tracker = self.trackers.get(&server.name).cloned().unwrap_or_default();
                let hears = tracker.judge(look, primary, &cluster.definition.policy, now);
                (server.name.clone(), hears)
            })
            .collect()
    }

    /// Whether the primary runs, read-only, since a restart.
    fn is_restarted(&self, now: Mono, cluster: &ClusterState) -> bool {
        let seen = self.view.clusters.get(&cluster.definition.name);
        let facts = seen.zip(cluster.primary()).and_then(|(seen, primary)| {
            seen.facts(primary, now, conclave_core::decide::view::FRESH)
        });
        let seen_writable = seen.and_then(|seen| seen.seen_writable);
        facts.is_some_and(|facts| upkeep::is_restarted(facts, seen_writable, now))
    }

    /// What it sees of the cluster.
    pub fn seen(&mut self, name: &ClusterName) -> &mut ClusterView {
        self.view.clusters.entry(name.clone()).or_default()
    }
}

impl World {
    /// Brings one manager's view up to date with the world's time and its own log.
    pub(crate) fn refresh(&mut self, id: u64) {
        let known = self.consensus.known_to(id);
        let term = self.consensus.voters[&id].leads();
        let (now, name) = (self.sim.now(), self.cluster.clone());
        if let Some(manager) = self.managers.get_mut(&id) {
            manager.refresh(Mono(now + manager.ahead), &name, known, term);
        }
    }

    /// kill -9 of a manager.
    pub fn kill_manager(&mut self, id: u64) {
        self.note(|_| format!("FAULT kill manager {id}"));
        self.leave_group(id);
        if let Some(manager) = self.managers.get_mut(&id) {
            manager.is_alive = false;
            self.sim.kill(manager.owner);
        }
    }

    /// Starts a manager that was killed; it knows what its log says.
    pub fn start_manager(&mut self, id: u64) {
        let voters = self.managers.len() as u64;
        let owner = self.sim.process();
        // Its host may have been started anew, hours ago or just now.
        let ahead = self.rng.below(10 * 3_600_000_000);
        let Some(manager) = self.managers.get_mut(&id).filter(|manager| !manager.is_alive) else {
            return;
        };
        let said = std::mem::take(&mut manager.said);
        *manager = Manager::new(id, owner, ahead, voters);
        manager.said = said;
        let now = Mono(self.sim.now() + ahead);
        manager.awake_at = now;
        manager.pings = PingHistory::new(now);
        self.note(|_| format!("FAULT manager {id} is started again"));
        self.run_manager(id);
    }

    /// Starts all loops of a manager.
    pub fn run_manager(&mut self, id: u64) {
        let (owner, ctx) = (self.managers[&id].owner, self.ctx());
        self.sim.spawn(owner, ctx.clone().ping_loop(id));
        for ix in 0..self.servers.len() {
            self.sim.spawn(owner, ctx.clone().look_loop(id, ix));
        }
        self.sim.spawn(owner, ctx.tick_loop(id));
    }

    /// Starts a killed manager after a while, as a service manager does.
    pub fn start_manager_later(&mut self, id: u64, span: Micros) {
        let ctx = self.ctx();
        self.sim.spawn(Owner::WORLD, async move {
            ctx.sim.sleep(span).await;
            ctx.world().start_manager(id);
        });
    }

    /// SIGSTOP of a manager's process, and SIGCONT after a while.
    pub fn stall_manager(&mut self, id: u64, owner: Owner, span: Micros) {
        self.note(|_| format!("FAULT stop manager {id} for {span} us"));
        self.sim.stop(owner);
        let ctx = self.ctx();
        self.sim.spawn(Owner::WORLD, async move {
            ctx.sim.sleep(span).await;
            ctx.world().note(|_| format!("FAULT manager {id} goes on"));
            ctx.sim.resume(owner);
        });
    }
}
