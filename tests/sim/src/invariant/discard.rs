//! Invariant 11: data is replaced only on an operator's word on record, of a server in quarantine,
//! once what it has extra is saved, and if it was proved unless the word says all; and nobody else
//! has any of it that it will number again.

use conclave_core::{
    model::{Discard, Findings},
    ports::SqlAction,
    state::Standing,
};

use super::{Event, Invariant, of};
use crate::world::World;

/// Looks at each copy of a server.
pub struct Discarded;

impl Invariant for Discarded {
    fn name(&self) -> &'static str {
        "discard"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        let Event::Acting { server, action: SqlAction::Clone { .. }, .. } = event else {
            return Ok(());
        };
        let name = &world.names[*server];
        let group = world.consensus.newest();
        let Some(member) = of(&group, &world.cluster).and_then(|c| c.members.get(name)) else {
            return Err(format!("{name} is replaced and not on record"));
        };
        let Some(wish) = &member.rejoin else {
            return Err(format!("{name} is replaced, and nobody wanted that"));
        };
        let Standing::Quarantined { errant, findings, saved: Some(_) } = &member.standing else {
            return Err(format!("{name} is replaced as {:?}", member.standing));
        };
        let is_proved = findings.as_ref().is_some_and(Findings::is_all_proved);
        if wish.discard == Discard::Nothing || wish.discard == Discard::Proved && !is_proved {
            return Err(format!("{name} is replaced for {:?}", wish.discard));
        }
        let here = &world.servers[*server];
        let source = &world.servers[world.primary()];
        // What waits for acknowledgements is in the primary's binary log, and comes again from there.
        let lost = here.executed().minus(&source.logged()).minus(errant);
        if !lost.is_empty() {
            return Err(format!("{name} loses {lost}, which nobody agreed to"));
        }
        let others = world.servers.iter().filter(|other| other.ix != *server && other.is_running);
        let own = errant.of_origins(&[&here.uuid]);
        let mut holders = others.filter(|other| !other.received().common(&own).is_empty());
        match holders.next() {
            None => Ok(()),
            Some(other) => Err(format!("{} has some of what is discarded", world.names[other.ix])),
        }
    }
}
