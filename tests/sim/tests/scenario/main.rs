//! Scenarios: one story each, told in virtual time, ended by the checks of every invariant.

mod ackers;
mod fault;
mod foolish;
mod freeze;
mod hook;
mod leader;
mod operator;
mod random;
mod rescue;
mod returning;
mod second;
mod switchover;

use conclave_core::model::{Outcome, Refusal};
use conclave_sim::{network::Node, run::Run};

/// The newest attempt is closed, and this many were opened.
fn closed(run: &mut Run, millis: u64, epoch: u64) {
    run.until(millis, &format!("epoch {epoch} to be closed"), |world| {
        world.state().is_some_and(|state| state.epoch.0 == epoch && state.attempt.is_none())
    });
}

/// How each closed attempt ended.
fn outcomes(run: &Run) -> Vec<Option<Outcome>> {
    run.state().history.into_iter().map(|attempt| attempt.outcome).collect()
}

/// What the gate would refuse now, by its codes, as the leader sees it.
fn refusals(run: &Run) -> Vec<&'static str> {
    run.world(|world| {
        let (leader, name) = (world.consensus.leader(), world.cluster.clone());
        let Some(leader) = leader.and_then(|id| world.managers.get(&id)) else { return Vec::new() };
        let refusals = conclave_core::decide::gate::refusals(&leader.view, &name, None);
        refusals.iter().map(Refusal::code).collect()
    })
}

/// What is wrong, by its codes, as the leader sees it.
fn problems(run: &Run) -> Vec<&'static str> {
    run.world(|world| {
        let (leader, name) = (world.consensus.leader(), world.cluster.clone());
        let Some(leader) = leader.and_then(|id| world.managers.get(&id)) else { return Vec::new() };
        let problems = conclave_core::decide::problem::list(&leader.view, &name);
        problems.iter().map(|problem| problem.code()).collect()
    })
}

/// Cuts every manager from a host, both ways.
fn cut_managers_from(run: &Run, ix: usize) {
    run.world(|world| {
        for id in world.managers.keys().copied().collect::<Vec<_>>() {
            world.network.part(Node::Manager(id), Node::Host(ix));
        }
    });
}

/// Nobody but its clients reaches this host.
fn isolate(run: &Run, ix: usize) {
    cut_managers_from(run, ix);
    run.world(|world| {
        for other in (0..world.servers.len()).filter(|other| *other != ix) {
            world.network.part(Node::Host(ix), Node::Host(other));
        }
    });
}
