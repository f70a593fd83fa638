//! Invariant 4: never two servers that can both acknowledge a write.

use conclave_core::model::Receiver;

use super::{Event, Invariant};
use crate::{network::Ix, world::World};

/// Looks at all servers whenever something changes.
pub struct OnePrimary;

/// Whether a commit could be answered OK here, now or after the network heals.
pub(super) fn can_acknowledge(world: &World, ix: Ix) -> bool {
    let server = &world.servers[ix];
    let has_clients = server.waits.iter().any(|wait| wait.client.is_some());
    if !server.is_running || server.offline || (server.read_only && !has_clients) {
        return false;
    }
    if !server.semi.source {
        return true;
    }
    let ackers = world.servers.iter().filter(|other| {
        other.is_running
            && other.semi.replica
            && other
                .link
                .as_ref()
                .is_some_and(|link| link.receiver != Receiver::Off && link.source == server.address)
    });
    ackers.count() >= server.semi.acks as usize
}

impl Invariant for OnePrimary {
    fn name(&self) -> &'static str {
        "one_primary"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        if !matches!(event, Event::Tick | Event::Acted { .. }) {
            return Ok(());
        }
        let able = (0..world.servers.len()).filter(|ix| can_acknowledge(world, *ix));
        let able: Vec<&str> = able.map(|ix| world.names[ix].as_str()).collect();
        match able.len() {
            0 | 1 => Ok(()),
            2.. => Err(format!("{} can acknowledge", able.join(" and "))),
        }
    }
}
