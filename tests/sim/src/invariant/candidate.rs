//! Invariants 7 and 11: a server is elected only if it is a member, and has nothing of its own that
//! no primary numbered.

use conclave_core::state::{Command, Reply, Standing};

use super::{Event, Invariant, of};
use crate::world::World;

/// Looks at each election.
pub struct Candidate;

impl Invariant for Candidate {
    fn name(&self) -> &'static str {
        "candidate"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        let Event::Committed {
            command: Command::Elect { election, .. },
            reply: Reply::Opened { .. },
            before,
            ..
        } = event
        else {
            return Ok(());
        };
        let name = &election.candidate;
        let member = of(before, &world.cluster).and_then(|cluster| cluster.members.get(name));
        let standing = member.map(|member| &member.standing);
        if standing != Some(&Standing::Member) {
            return Err(format!("{name} is elected, it is {standing:?}"));
        }
        let Some(ix) = world.ix(name) else { return Ok(()) };
        let mut errant = world.errant.iter().filter(|trx| trx.origin == ix);
        // What has found its way into another server is part of the history.
        let is_alone = |trx: &&_| {
            world.servers.iter().filter(|server| server.has_received(**trx)).count() == 1
        };
        match errant.find(|trx| is_alone(trx)) {
            Some(trx) => Err(format!("{name} is elected with {trx:?} of its own")),
            None => Ok(()),
        }
    }
}
