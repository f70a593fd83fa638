//! Invariant 11, and A of section 3: a server acknowledges only after it is in the logged set, and
//! only if it has nothing that its primary lacks.

use conclave_core::{model::StepKind, ports::SqlAction};

use super::{Event, Invariant, goal, of};
use crate::{clock::Micros, world::World};

/// How long a look and the statement that rests on it may be on their way. What a person writes on
/// that server in between, past `super_read_only`, nobody can know of: the next look does, before
/// the receiver is started.
const ON_ITS_WAY: Micros = 2_000_000;

/// Looks at each enabling of an acker.
#[derive(Default)]
pub struct Readmission {
    /// When each of the transactions written by hand was there first, in their order.
    errant_since: Vec<Micros>,
}

impl Invariant for Readmission {
    fn name(&self) -> &'static str {
        "readmission"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        let now = world.sim.now();
        self.errant_since.resize(world.errant.len(), now);
        let Event::Acting {
            server, token, action: SqlAction::SetSemiSyncReplica { on: true }, ..
        } = event
        else {
            return Ok(());
        };
        let since = world.errant.iter().zip(&self.errant_since);
        let young: Vec<_> = since.filter(|(_, at)| now - **at <= ON_ITS_WAY).collect();
        let is_young = |trx| young.iter().any(|(errant, _)| *errant == trx);
        let group = world.consensus.newest();
        let Some(cluster) = of(&group, &world.cluster) else { return Ok(()) };
        let name = &world.names[*server];
        let Some(wanted @ StepKind::Follow { source, .. }) = goal(world, *token) else {
            return Err(format!("{name} was made an acker by a step that is not on record"));
        };
        // Locked out there, it acknowledges nothing until it is let in, which is logged beforehand.
        let is_locked =
            world.ix(source).is_some_and(|ix| world.servers[ix].locked.contains(server));
        let regime = cluster.regimes.iter().find(|regime| regime.primary == *source);
        // The candidate of a switchover takes no writes yet: entry 9 logs those that are there.
        let is_ahead = regime.is_none()
            && cluster.attempt.as_ref().is_some_and(|attempt| attempt.moves_ahead(wanted));
        if !is_locked && !is_ahead && !regime.is_some_and(|regime| regime.ackers.contains(name)) {
            return Err(format!("{name} is made an acker of {source} before it is logged as one"));
        }
        let Some(primary) = world.ix(source).map(|ix| &world.servers[ix]) else { return Ok(()) };
        let mut logged = world.servers[*server].binlog.iter();
        match logged.find(|trx| !primary.has_logged(**trx) && !is_young(*trx)) {
            None => Ok(()),
            Some(trx) => Err(format!("{name} is made an acker with {trx:?}, not on {source}")),
        }
    }
}
