//! What the disk of a dead primary held is executed by its successor when that is opened, or it is
//! on record that it is not: nothing is lost silently.

use conclave_core::model::{GtidSet, StepKind};

use super::{Event, Invariant, goal, of};
use crate::world::World;

/// Looks at each server that an attempt opens. `quorum` mode promises more than this, and another
/// thing ([`super::coverage`]): what was never acknowledged may be left behind.
pub struct Account;

impl Invariant for Account {
    fn name(&self) -> &'static str {
        "account"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        let Event::Acted { server, token, action: conclave_core::ports::SqlAction::SetWritable } =
            event
        else {
            return Ok(());
        };
        if !matches!(goal(world, *token), Some(StepKind::OpenForWrites { .. })) {
            return Ok(());
        }
        let group = world.consensus.newest();
        let Some(cluster) = of(&group, &world.cluster) else { return Ok(()) };
        let Some(attempt) = cluster.attempt.as_ref().filter(|it| it.epoch() == token.epoch) else {
            return Ok(());
        };
        let Some(entry) = attempt.stage.entry_nine() else { return Ok(()) };
        let Some(old) = world.ix(&attempt.old_primary).filter(|old| old != server) else {
            return Ok(());
        };
        // It says that it does not know what is lost.
        if !entry.election.loss.is_empty() || attempt.opening.cause.switchover().is_some() {
            return Ok(());
        }
        let told = entry
            .election
            .rescues
            .iter()
            .filter(|rescue| attempt.rescue_of(rescue).is_some_and(|step| step.has_failed()));
        let told = told.fold(GtidSet::empty(), |sum, rescue| sum.union(&rescue.gtids));
        let lacks = world.servers[old].logged().minus(&world.servers[*server].executed());
        let lacks = lacks.minus(&told);
        match lacks.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{} is opened without {lacks} of {}, and nobody says so",
                world.names[*server], attempt.old_primary
            )),
        }
    }
}
