//! Section 3: the agreed set of ackers is never smaller than the real one, and commits on an open
//! primary never wait for fewer acknowledgements than agreed.

use std::collections::BTreeSet;

use super::{Event, Invariant, of};
use crate::{network::Ix, world::World};

/// Looks at who acknowledges whose commits.
#[derive(Default)]
pub struct Ackers {
    /// Primaries that a person has set otherwise by hand.
    exempt: BTreeSet<Ix>,
}

impl Invariant for Ackers {
    fn name(&self) -> &'static str {
        "ackers"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        if !matches!(event, Event::Tick | Event::Acted { .. } | Event::Committed { .. }) {
            return Ok(());
        }
        let group = world.consensus.newest();
        let Some(cluster) = of(&group, &world.cluster) else { return Ok(()) };
        for regime in &cluster.regimes {
            let Some(ix) = world.ix(&regime.primary) else { continue };
            let primary = &world.servers[ix];
            if primary.is_loose {
                self.exempt.insert(ix);
            }
            let is_open = primary.is_writable() && regime.is_open && !self.exempt.contains(&ix);
            let waits_for = if primary.semi.source { primary.semi.acks } else { 0 };
            if is_open && waits_for < regime.acks && world.epoch() == regime.epoch.0 {
                let (name, acks) = (&regime.primary, regime.acks);
                return Err(format!("commits on {name} wait for {waits_for}, agreed are {acks}"));
            }
            if regime.acks == 0 {
                continue;
            }
            // One that was locked out has lost its connection there, whatever it knows of it yet:
            // nothing that it sends is taken.
            let others = world.servers.iter().filter(|s| !primary.locked.contains(&s.ix));
            let real = others.filter(|server| {
                let wire = server.link.as_ref().and_then(|link| link.wire);
                wire.is_some_and(|w| w.source == ix && w.boot == primary.boot && w.is_semi)
            });
            let mut real = real.map(|server| &world.names[server.ix]);
            if let Some(name) = real.find(|name| !regime.ackers.contains(*name)) {
                let of = &regime.primary;
                return Err(format!("{name} acknowledges commits of {of} and is not on record"));
            }
        }
        Ok(())
    }
}
