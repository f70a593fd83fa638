//! Invariant 7, last part: a server has applied all that it received before it is repointed,
//! because a change of source throws received, unapplied events away.

use conclave_core::ports::SqlAction;

use super::{Event, Invariant};
use crate::world::World;

/// Looks before each change of source.
pub struct Applied;

impl Invariant for Applied {
    fn name(&self) -> &'static str {
        "applied"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        let Event::Acting {
            server,
            action: SqlAction::ChangeSource { .. } | SqlAction::ForgetSource,
            ..
        } = event
        else {
            return Ok(());
        };
        let server = &world.servers[*server];
        let Some(link) = &server.link else { return Ok(()) };
        let mut queue = link.queue.iter();
        match queue.find(|trx| !server.executed.has(**trx)) {
            None => Ok(()),
            Some(trx) => Err(format!("{} throws {trx:?} away", world.names[server.ix])),
        }
    }
}
