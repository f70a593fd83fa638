//! The loop: refresh, tick, perform. One match performs every move.

use conclave_core::{
    decide::{self, Move, StepOrder, Wish},
    model::{Actor, Epoch, Micros as Span, Mono, StepId},
    ports::{Mysql, Place, ProposeError},
    state::{Command, Reply},
    step,
};

use crate::{
    clock::Slot,
    ports::SimPorts,
    world::{Ctx, World},
};

/// Pause between two ticks while something is going on, and while nothing is.
const TICKS: (u64, u64) = (10_000, 100_000);

impl Ctx {
    pub(super) async fn tick_loop(self, id: u64) {
        loop {
            let (moves, pause) = {
                let mut world = self.world();
                world.refresh(id);
                world.look_at_addresses(id);
                world.look_at_hosts(id);
                let moves = decide::tick(&world.managers[&id].view);
                (moves, world.tick_pause(id))
            };
            for each in moves {
                self.perform(id, each);
            }
            self.sim.sleep(pause).await;
        }
    }

    fn perform(&self, id: u64, each: Move) {
        match each {
            Move::Ask { primary, .. } => self.world().ask(id, &primary),
            Move::Propose { command } => self.propose_once(id, *command),
            Move::Run { order } => self.run_step(id, *order),
            Move::Survey { place } => self.survey(id, *place),
            Move::Say { sentence, answers_wish, .. } => {
                let mut world = self.world();
                let name = world.cluster.clone();
                world.note(|_| format!("m{id} says: {sentence}"));
                if let Some(manager) = world.managers.get_mut(&id)
                    && answers_wish
                {
                    manager.said.push(sentence);
                    manager.seen(&name).wish = None;
                }
            }
        }
    }

    /// One proposal of the loop is under way at a time; the next tick proposes anew.
    fn propose_once(&self, id: u64, command: Command) {
        let owner = {
            let mut world = self.world();
            let Some(manager) = world.managers.get_mut(&id) else { return };
            if std::mem::replace(&mut manager.is_proposing, true) {
                return;
            }
            manager.owner
        };
        let ctx = self.clone();
        self.sim.spawn(owner, async move {
            let code = command.code();
            let result = ctx.propose(id, command).await;
            let mut world = ctx.world();
            if let Err(error) = &result {
                world.note(|_| format!("m{id} {code} was not taken: {error}"));
            }
            if let Some(manager) = world.managers.get_mut(&id) {
                manager.is_proposing = false;
            }
        });
    }

    fn survey(&self, id: u64, place: Place) {
        let (began, owner, ahead) = {
            let mut world = self.world();
            let (now, name) = (self.sim.now(), world.cluster.clone());
            let Some(manager) = world.managers.get_mut(&id) else { return };
            let began = Mono(now + manager.ahead);
            manager.seen(&name).last_survey = Some(began);
            (began, manager.owner, manager.ahead)
        };
        let step = StepId { epoch: Epoch(0), seq: 0 };
        let ports = SimPorts { ctx: self.clone(), manager: id, owner, ahead, step };
        let ctx = self.clone();
        self.sim.spawn(owner, async move {
            let answer = ports.survey(&place, began.plus(Span(1_000_000))).await;
            let mut world = ctx.world();
            let name = world.cluster.clone();
            if let Some(manager) = world.managers.get_mut(&id) {
                let answer = answer.map_err(|error| error.to_string());
                manager.seen(&name).survey = Some((began, answer));
            }
        });
    }

    fn run_step(&self, id: u64, order: StepOrder) {
        let stray: Slot<()> = Slot::default();
        let (step, began, owner, ahead) = {
            let mut world = self.world();
            let (now, name) = (self.sim.now(), world.cluster.clone());
            let Some(manager) = world.managers.get_mut(&id) else { return };
            let began = Mono(now + manager.ahead);
            let step = order.record.id;
            if manager.seen(&name).running.insert(step, began).is_some() {
                return;
            }
            manager.ending.remove(&step);
            if let Some(former) = manager.steps.insert(step, stray.clone()) {
                former.put(());
            }
            (step, began, manager.owner, manager.ahead)
        };
        let ports = SimPorts { ctx: self.clone(), manager: id, owner, ahead, step };
        let ctx = self.clone();
        self.sim.spawn(owner, async move {
            let run = step::run(&ports, &order);
            let Some(end) = ctx.sim.unless(stray.take(), run).await else { return };
            let mut world = ctx.world();
            if let step::End::NotBegun(error) | step::End::NotRecorded(_, error) = &end {
                world.note(|_| format!("m{id} step {step}: {error}"));
            }
            let (now, name) = (ctx.sim.now(), world.cluster.clone());
            let Some(manager) = world.managers.get_mut(&id) else { return };
            let ended = Mono(now + manager.ahead);
            if let step::End::Recorded(outcome) = &end {
                manager.vouches.followed(&order, outcome, began, ended);
            }
            manager.ending.remove(&step);
            let seen = manager.seen(&name);
            // A run of an earlier term leaves the newer one's marks alone.
            if seen.running.get(&step) == Some(&began) {
                seen.running.remove(&step);
                seen.ended.insert(step, ended);
                manager.steps.remove(&step);
            }
        });
    }

    /// An operator's proposal, by way of this manager.
    pub async fn operate(&self, id: u64, command: Command) -> Result<Reply, ProposeError> {
        self.propose(id, command).await
    }
}

impl World {
    fn tick_pause(&self, id: u64) -> u64 {
        let manager = &self.managers[&id];
        let cluster = manager.view.group.clusters.get(&self.cluster);
        let seen = manager.view.clusters.get(&self.cluster);
        let is_busy = cluster.is_some_and(|c| c.attempt.is_some() || !c.chores.is_empty())
            || seen.is_some_and(|seen| seen.doubt.is_some() || seen.wish.is_some());
        if is_busy && manager.view.term.is_some() { TICKS.0 } else { TICKS.1 }
    }

    /// Which server answers at each address, as this manager finds it.
    fn look_at_addresses(&mut self, id: u64) {
        let Some(vip) = self.definition.writer.clone() else { return };
        let found = self.answers_at_writer(crate::network::Node::Manager(id));
        let found = match found {
            Some(ix) if self.servers[ix].is_serving() => Ok(self.servers[ix].uuid.clone()),
            Some(ix) => Err(format!("{} does not answer", self.names[ix])),
            None => Err("nobody answers".into()),
        };
        let name = self.cluster.clone();
        if let Some(manager) = self.managers.get_mut(&id) {
            manager.seen(&name).vips.insert(vip.address, found);
        }
    }

    /// Whether this manager could log in to each host now.
    fn look_at_hosts(&mut self, id: u64) {
        if !self.knows_hosts {
            return;
        }
        let name = self.cluster.clone();
        let login = |ix: usize| {
            let is_there = self.hosts[ix].has_ssh && self.hosts[ix].is_up;
            let login = if is_there { Ok(()) } else { Err("no answer over SSH".to_owned()) };
            (self.names[ix].clone(), login)
        };
        let logins: Vec<_> = (0..self.hosts.len()).map(login).collect();
        if let Some(manager) = self.managers.get_mut(&id) {
            manager.seen(&name).logins.extend(logins);
        }
    }

    /// An operator asks the leader for a failover.
    pub fn wish(&mut self, operator: &str, wish: Wish) {
        let name = self.cluster.clone();
        let Some(leader) = self.consensus.leader() else { return };
        let actor = Actor::Operator { name: operator.into() };
        if let Some(manager) = self.managers.get_mut(&leader) {
            manager.seen(&name).wish = Some(Wish { actor, ..wish });
        }
    }
}
