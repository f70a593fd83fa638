//! Invariant 1: one attempt per epoch, and epochs only rise.

use std::collections::BTreeSet;

use conclave_core::{model::Epoch, state::Reply};

use super::{Event, Invariant, of};
use crate::world::World;

/// The epochs that were opened.
#[derive(Default)]
pub struct OneAttempt {
    opened: BTreeSet<Epoch>,
}

impl Invariant for OneAttempt {
    fn name(&self) -> &'static str {
        "one_attempt"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        let Event::Committed { reply, before, state, .. } = event else { return Ok(()) };
        let (Some(old), Some(new)) = (of(before, &world.cluster), of(state, &world.cluster)) else {
            return Ok(());
        };
        if new.epoch < old.epoch || new.epoch.0 > old.epoch.0 + 1 {
            return Err(format!("epoch {} became {}", old.epoch, new.epoch));
        }
        if let Some(open) = new.attempt.as_ref().filter(|open| open.epoch() != new.epoch) {
            return Err(format!("{} is open in epoch {}", open.id, new.epoch));
        }
        match reply {
            Reply::Opened { id } if new.epoch > old.epoch && !self.opened.insert(id.epoch) => {
                Err(format!("{id} was opened twice"))
            }
            Reply::Ok | Reply::Version { .. } | Reply::Opened { .. } | Reply::Rejected { .. } => {
                Ok(())
            }
        }
    }
}
