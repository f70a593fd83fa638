//! Invariant 9: past entry 9 an attempt is finished or superseded, never undone; and entry 9 is made
//! only once the candidate has applied all that was received (invariant 7). That of a switchover is
//! made only once it has all that the old primary acknowledged, in every mode.

use conclave_core::{
    model::{Outcome, Stage},
    state::{ClusterState, Command, Reply},
};

use super::{Event, Invariant, of};
use crate::world::World;

/// Compares the attempt before and after each command.
pub struct NoReturn;

impl Invariant for NoReturn {
    fn name(&self) -> &'static str {
        "no_return"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        let Event::Committed { command, reply, before, state, .. } = event else { return Ok(()) };
        if let (Command::PassPointOfNoReturn { .. }, Reply::Opened { .. }) = (command, reply) {
            is_level(of(state, &world.cluster), world)?;
            has_the_last_write(of(state, &world.cluster), world)?;
        }
        let (Some(old), Some(new)) = (of(before, &world.cluster), of(state, &world.cluster)) else {
            return Ok(());
        };
        if new.regimes.len() > 1 && new.attempt.is_none() {
            return Err("more than one regime without an open attempt".into());
        }
        let Some(was) = old.attempt.as_ref().filter(|open| open.stage.entry_nine().is_some())
        else {
            return Ok(());
        };
        let ended = new.attempt_of(was.epoch());
        let Some(is) = ended else { return Err(format!("{} is not on record", was.id)) };
        match (&is.stage, &is.outcome) {
            (Stage::Freeze | Stage::Recover { .. } | Stage::Undo { .. }, _) => {
                Err(format!("{} went back to {}", is.id, is.stage.code()))
            }
            (Stage::Promote { .. } | Stage::Repoint { .. }, Some(Outcome::Aborted { .. })) => {
                Err(format!("{} was aborted past entry 9", is.id))
            }
            (
                Stage::Promote { .. } | Stage::Repoint { .. },
                None | Some(Outcome::Promoted { .. } | Outcome::Superseded { .. }),
            ) => Ok(()),
        }
    }
}

/// The candidate has applied the target.
fn is_level(cluster: Option<&ClusterState>, world: &World) -> Result<(), String> {
    let entry = cluster.and_then(|cluster| cluster.attempt.as_ref()?.stage.entry_nine());
    let Some(election) = entry.map(|entry| &entry.election) else { return Ok(()) };
    let Some(ix) = world.ix(&election.candidate) else { return Ok(()) };
    let lacking = election.target.minus(&world.servers[ix].executed());
    match lacking.is_empty() {
        true => Ok(()),
        false => Err(format!("{} is to be opened without {lacking}", election.candidate)),
    }
}

/// The candidate of a switchover has whatever clients were answered OK by the primary it replaces.
fn has_the_last_write(cluster: Option<&ClusterState>, world: &World) -> Result<(), String> {
    let attempt = cluster.and_then(|cluster| cluster.attempt.as_ref());
    let planned = attempt.filter(|attempt| attempt.opening.cause.switchover().is_some());
    let Some(attempt) = planned else { return Ok(()) };
    let candidate = attempt.stage.entry_nine().map(|entry| &entry.election.candidate);
    let servers = world.ix(&attempt.old_primary).zip(candidate.and_then(|name| world.ix(name)));
    let Some((old, new)) = servers.map(|(old, new)| (&world.servers[old], &world.servers[new]))
    else {
        return Ok(());
    };
    let acknowledged = world.ledger.acknowledged().filter_map(|write| write.trx);
    let mut lost = acknowledged.filter(|t| old.executed.has(*t) && !new.executed.has(*t));
    match lost.next() {
        None => Ok(()),
        Some(trx) => Err(format!("{} is closed, its successor lacks {trx:?}", attempt.old_primary)),
    }
}
