//! Invariant 7: every acknowledged write is on the new primary when it becomes writable, and what
//! an old one acknowledges afterwards was on its way before and is there, too.

use conclave_core::{model::StepKind, ports::SqlAction};

use super::{Event, Invariant, goal, of};
use crate::{clock::Micros, network::Ix, world::World};

/// The server that was opened for writes last, and when.
#[derive(Default)]
pub struct Coverage {
    newest: Option<(Ix, Micros)>,
}

impl Invariant for Coverage {
    fn name(&self) -> &'static str {
        "coverage"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::Acted { server, token, action: SqlAction::SetWritable } => {
                let goal = goal(world, *token);
                if !matches!(goal, Some(StepKind::OpenForWrites { .. } | StepKind::Reopen { .. })) {
                    return Err(format!("made writable by {goal:?}"));
                }
                // One that was revoked while the statement was on its way has a successor.
                let group = world.consensus.newest();
                let cluster = of(&group, &world.cluster).filter(|it| it.epoch > token.epoch);
                let regime = cluster.and_then(|cluster| cluster.regimes.last());
                if regime.is_some_and(|regime| regime.primary != world.names[*server]) {
                    return Ok(());
                }
                self.newest = Some((*server, world.sim.now()));
                lost(world, *server)
            }
            Event::Acknowledged { write } => {
                let Some((newest, since)) = self.newest.filter(|(ix, _)| *ix != write.server)
                else {
                    return Ok(());
                };
                let old = &world.names[write.server];
                if write.invoked > since {
                    return Err(format!("{old} acknowledged a write invoked after its successor"));
                }
                let new = &world.servers[newest];
                match write.trx {
                    Some(trx) if !new.executed.has(trx) => {
                        Err(format!("{old} acknowledged {trx:?}, which its successor lacks"))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Event::Committed { .. }
            | Event::Locked { .. }
            | Event::Acting { .. }
            | Event::Acted { .. }
            | Event::RemoteActing { .. }
            | Event::Tick => Ok(()),
        }
    }
}

/// The acknowledged writes that this server lacks.
pub(crate) fn lost(world: &World, ix: Ix) -> Result<(), String> {
    let server = &world.servers[ix];
    let lost: Vec<String> = world
        .ledger
        .acknowledged()
        .filter_map(|write| write.trx)
        .filter(|trx| !server.executed.has(*trx))
        .map(|trx| format!("{trx:?}"))
        .take(5)
        .collect();
    match lost.is_empty() {
        true => Ok(()),
        false => Err(format!("{} lacks acknowledged {}", world.names[ix], lost.join(", "))),
    }
}
