//! Invariant 5: a server whose receiver was stopped to revoke a primary does not read from that
//! primary again while the attempt goes forward, nor ever from one that is revoked for good.

use conclave_core::model::{Receiver, Stage};

use super::{Event, Invariant, of};
use crate::world::World;

/// Looks at the frozen servers whenever something changes.
pub struct Recruited;

impl Invariant for Recruited {
    fn name(&self) -> &'static str {
        "recruited"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        if !matches!(event, Event::Tick | Event::Acted { .. }) {
            return Ok(());
        }
        let group = world.consensus.newest();
        let Some(cluster) = of(&group, &world.cluster) else { return Ok(()) };
        let Some(attempt) = &cluster.attempt else { return Ok(()) };
        let is_undone = matches!(attempt.stage, Stage::Undo { .. });
        // All but the one that this attempt establishes, whatever it says that it revokes.
        let older = || cluster.regimes.iter().filter(|regime| regime.epoch < attempt.epoch());
        let frozen = attempt.frozen();
        for name in frozen.keys() {
            // What a person starts by hand is found when the candidate is to be opened.
            let server = world.ix(name).map(|ix| &world.servers[ix]).filter(|s| !s.is_loose);
            let Some(link) = server.and_then(|server| server.link.as_ref()) else { continue };
            // One that an earlier attempt has covered stays revoked whatever becomes of this one.
            let mut revokes = older().filter(|regime| !is_undone || regime.closed_with.is_some());
            let revoked = revokes.find(|regime| {
                let ix = world.ix(&regime.primary);
                ix.is_some_and(|ix| world.servers[ix].address == link.source)
            });
            if let Some(regime) = revoked.filter(|_| link.receiver != Receiver::Off) {
                let primary = &regime.primary;
                return Err(format!("{name} reads from revoked {primary} in {}", attempt.id));
            }
        }
        Ok(())
    }
}
