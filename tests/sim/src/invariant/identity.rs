//! Another server behind a server's address is left alone: identity is the uuid, not the address.

use super::{Event, Invariant};
use crate::world::World;

/// Looks at each act on a server.
pub struct Identity;

impl Invariant for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::Acting { server, action, .. } if world.away.contains_key(server) => {
                let (name, uuid) = (&world.names[*server], &world.servers[*server].uuid);
                Err(format!("{action:?} on {uuid}, which is not {name}"))
            }
            Event::Acting { .. }
            | Event::Committed { .. }
            | Event::Locked { .. }
            | Event::Acted { .. }
            | Event::RemoteActing { .. }
            | Event::Acknowledged { .. }
            | Event::Tick => Ok(()),
        }
    }
}
