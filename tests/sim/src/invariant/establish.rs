//! Invariant 8: establish in this order: entry 9, acknowledgers, semi-sync, writable, published.

use conclave_core::{
    model::{Mode, StepKind, Token},
    ports::{RemoteCommand, SqlAction},
    state::ClusterState,
};

use super::{Event, Invariant, goal, of};
use crate::{network::Ix, world::World};

/// Looks at each act that opens or publishes.
pub struct Establish;

impl Invariant for Establish {
    fn name(&self) -> &'static str {
        "establish"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        if !matches!(event, Event::Acting { .. } | Event::RemoteActing { .. }) {
            return Ok(());
        }
        let group = world.consensus.newest();
        let Some(cluster) = of(&group, &world.cluster) else { return Ok(()) };
        match event {
            Event::Acting { server, token, action: SqlAction::SetWritable } => {
                opens(world, cluster, *server, *token)
            }
            Event::RemoteActing { token, command: RemoteCommand::TakeVip { .. }, .. } => {
                publishes(cluster, *token)
            }
            Event::Committed { .. }
            | Event::Locked { .. }
            | Event::Acting { .. }
            | Event::Acted { .. }
            | Event::RemoteActing { .. }
            | Event::Acknowledged { .. }
            | Event::Tick => Ok(()),
        }
    }
}

fn opens(world: &World, cluster: &ClusterState, ix: Ix, token: Token) -> Result<(), String> {
    let name = &world.names[ix];
    let Some(StepKind::OpenForWrites { acks, .. }) = goal(world, token) else {
        return Err(format!("{name} is opened by a step that is not on record"));
    };
    let is_logged = cluster.regimes.iter().any(|regime| regime.primary == *name);
    if !is_logged {
        return Err(format!("{name} is opened without entry 9"));
    }
    if cluster.definition.mode != Mode::Quorum {
        return Ok(());
    }
    let server = &world.servers[ix];
    let is_armed = *acks > 0 && server.semi.source && server.semi.acks >= *acks;
    match is_armed {
        true => Ok(()),
        false => Err(format!("{name} is opened with semi-sync not on for {acks}")),
    }
}

/// Within an attempt; a chore publishes a primary that is in force.
fn publishes(cluster: &ClusterState, token: Token) -> Result<(), String> {
    let Some(attempt) = &cluster.attempt else { return Ok(()) };
    let is_open = attempt
        .steps
        .iter()
        .any(|step| matches!(step.goal, StepKind::OpenForWrites { .. }) && step.met().is_some());
    match is_open || token.epoch != attempt.epoch() {
        true => Ok(()),
        false => Err(format!("{} is published before it is open", attempt.id)),
    }
}
