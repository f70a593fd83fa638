//! Section 3: the agreed set of ackers is never smaller than the real one, and the agreed number of
//! acknowledgements never larger. What somebody sets by hand is found, and shown; here only what the
//! managers do is judged.

use conclave_core::{model::Regime, ports::SqlAction};

use super::{Event, Invariant, of};
use crate::{network::Ix, server::Server, world::World};

/// Compares what is agreed with what the primary in force does.
pub struct Agreed;

impl Invariant for Agreed {
    fn name(&self) -> &'static str {
        "agreed"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        let group = world.consensus.newest();
        let regime = of(&group, &world.cluster).and_then(|cluster| cluster.regime());
        let Some(regime) = regime.filter(|regime| regime.acks > 0) else { return Ok(()) };
        let Some(ix) = world.ix(&regime.primary) else { return Ok(()) };
        let primary = &world.servers[ix];
        match event {
            Event::Committed { before, .. } => {
                let old = of(before, &world.cluster).and_then(|cluster| cluster.regime());
                old.map_or(Ok(()), |old| risen(old, regime, primary))
            }
            Event::Acting { server, action: SqlAction::SetSemiSyncSource { on, acks }, .. }
                if *server == ix && primary.is_writable() =>
            {
                let number = if *on { *acks } else { 0 };
                match number < regime.acks {
                    true => Err(format!("{number} is set while {} are agreed", regime.acks)),
                    false => Ok(()),
                }
            }
            Event::Tick if primary.is_writable() => {
                // A source goes on counting a connection whose other end is gone: nobody is left
                // who could acknowledge over it.
                let is_alive = |ix: &Ix, number| {
                    let wire = world.servers[*ix].link.as_ref().and_then(|link| link.wire);
                    wire.is_some_and(|wire| wire.dump == number)
                };
                let dumps = primary.dumps.iter();
                let ackers = dumps.filter(|(ix, d)| d.is_semi && is_alive(ix, d.number));
                let mut names = ackers.map(|(ix, _)| &world.names[*ix]);
                match names.find(|name| !regime.ackers.contains(*name)) {
                    None => Ok(()),
                    Some(name) => Err(format!("{name} acknowledges and is not in the agreed set")),
                }
            }
            Event::Locked { .. }
            | Event::Acting { .. }
            | Event::Acted { .. }
            | Event::RemoteActing { .. }
            | Event::Acknowledged { .. }
            | Event::Tick => Ok(()),
        }
    }
}

/// A higher number is agreed on once it is set.
fn risen(old: &Regime, new: &Regime, primary: &Server) -> Result<(), String> {
    let is_same = old.primary == new.primary && old.epoch == new.epoch;
    let real = if primary.semi.source { primary.semi.acks } else { 0 };
    match is_same && new.acks > old.acks && primary.is_writable() && real < new.acks {
        true => Err(format!("{} are agreed on, and {} waits for {real}", new.acks, new.primary)),
        false => Ok(()),
    }
}
