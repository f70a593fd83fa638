//! Invariant 12: replicated time never runs back nor ahead of real time, and the last-failover
//! interval is kept.

use conclave_core::{
    model::{Cause, Millis, Outcome},
    state::{Command, Reply},
};

use super::{Event, Invariant, of};
use crate::world::World;

/// When the last failover of the group's own accord passed entry 9.
#[derive(Default)]
pub struct Time {
    last: Option<Millis>,
}

impl Invariant for Time {
    fn name(&self) -> &'static str {
        "time"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        let Event::Committed { command, reply, before, state, .. } = event else { return Ok(()) };
        let real_ms = world.sim.now() / 1000;
        if state.clock_ms > real_ms {
            return Err(format!("{} ms are counted, {real_ms} ms have passed", state.clock_ms));
        }
        if state.clock_ms < before.clock_ms {
            return Err(format!("{} ms became {} ms", before.clock_ms, state.clock_ms));
        }
        let Some(cluster) = of(state, &world.cluster) else { return Ok(()) };
        let interval = cluster.definition.policy.last_failover_minutes * 60_000;
        match (command, reply) {
            (Command::OpenAttempt { opening, .. }, Reply::Opened { .. }) => {
                let is_bound = !opening.interval_waived
                    && opening.cause.switchover().is_none()
                    && !matches!(opening.cause, Cause::CandidateLost { .. });
                let passed = self.last.map(|last| state.clock_ms - last.0);
                match passed.filter(|passed| is_bound && *passed < interval) {
                    Some(passed) => Err(format!("opened {passed} ms after the last failover")),
                    None => Ok(()),
                }
            }
            (Command::PassPointOfNoReturn { .. }, Reply::Opened { .. }) => {
                let is_planned = cluster
                    .attempt
                    .as_ref()
                    .is_some_and(|attempt| attempt.opening.cause.switchover().is_some());
                // A planned change holds up no failover.
                self.last = if is_planned { self.last } else { Some(Millis(state.clock_ms)) };
                Ok(())
            }
            // The failover that it was to supersede was not completed: it does not count.
            (Command::CloseAttempt { outcome: Outcome::Aborted { .. }, .. }, Reply::Ok)
                if of(before, &world.cluster).is_some_and(|was| was.regimes.len() > 1) =>
            {
                self.last = None;
                Ok(())
            }
            (
                _,
                Reply::Ok | Reply::Version { .. } | Reply::Opened { .. } | Reply::Rejected { .. },
            ) => Ok(()),
        }
    }
}
