//! Invariant 11: what is said to be proved never acknowledged was never acknowledged, and never is.

use conclave_core::{
    model::{GtidSet, StepEvidence},
    ports::SqlAction,
    state::Command,
};

use super::{Event, Invariant};
use crate::{client::Write, world::World};

/// Remembers every verdict.
#[derive(Default)]
pub struct Proved {
    proved: GtidSet,
}

impl Proved {
    fn judge<'a>(&self, writes: impl Iterator<Item = &'a Write>, at: &World) -> Result<(), String> {
        for trx in writes.filter_map(|write| write.trx) {
            let uuid = &at.servers[trx.origin].uuid;
            let one = GtidSet::run(uuid, trx.number, trx.number);
            if one.is_subset(&self.proved) {
                return Err(format!("{one} is called never acknowledged, and was"));
            }
        }
        Ok(())
    }
}

impl Invariant for Proved {
    fn name(&self) -> &'static str {
        "proved"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::Committed { command: Command::EndStep { outcome, .. }, .. } => {
                if let Some(StepEvidence::Examined { findings }) = outcome.evidence() {
                    self.proved = self.proved.union(&findings.proved);
                    self.judge(world.ledger.acknowledged(), world)?;
                }
                Ok(())
            }
            // Rebuilt, it will give the same numbers to others; by hand, too.
            Event::Tick if !self.proved.is_empty() => {
                let held = world.servers.iter().map(|server| server.received());
                let held = held.fold(GtidSet::empty(), |sum, set| sum.union(&set));
                let waiting = world.servers.iter().flat_map(|server| {
                    let trx = server.waits.iter().map(|wait| server.binlog[wait.index - 1]);
                    let uuid = |origin: usize| &world.servers[origin].uuid;
                    trx.map(move |it| GtidSet::run(uuid(it.origin), it.number, it.number))
                });
                let held = waiting.fold(held, |sum, set| sum.union(&set));
                self.proved = self.proved.common(&held);
                Ok(())
            }
            Event::Acted { server, action: SqlAction::Clone { .. }, .. } => {
                let own = self.proved.of_origins(&[&world.servers[*server].uuid]);
                self.proved = self.proved.minus(&own);
                Ok(())
            }
            Event::Acknowledged { write } if !self.proved.is_empty() => {
                self.judge([write].into_iter(), world)
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
