//! Invariant 9: past entry 9 an attempt is finished or superseded, never undone; and the candidate
//! is in the log before it can acknowledge.

use conclave_core::model::{Outcome, Stage};

use super::{Event, Invariant, of};
use crate::world::World;

/// Compares the attempt before and after each command.
pub struct NoReturn;

impl Invariant for NoReturn {
    fn name(&self) -> &'static str {
        "no_return"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        let Event::Committed { before, state, .. } = event else { return Ok(()) };
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
