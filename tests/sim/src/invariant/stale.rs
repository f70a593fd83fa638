//! Invariant 6: once a newer actor has held a server's lock or passed a host's turnstile, nothing
//! of an older one takes effect there.

use std::collections::BTreeMap;

use conclave_core::model::Token;

use super::{Event, Invariant};
use crate::{network::Ix, world::World};

/// The newest actor that each server and host has let through.
#[derive(Default)]
pub struct Stale {
    servers: BTreeMap<Ix, Token>,
    hosts: BTreeMap<Ix, Token>,
}

impl Invariant for Stale {
    fn name(&self) -> &'static str {
        "stale"
    }

    fn see(&mut self, event: &Event, world: &World) -> Result<(), String> {
        match event {
            Event::Locked { server, token } => {
                let newest = self.servers.entry(*server).or_insert(*token);
                *newest = (*token).max(*newest);
                Ok(())
            }
            Event::Acting { server, token, action, .. } => {
                match self.servers.get(server).filter(|newest| *newest > token) {
                    Some(newest) => Err(format!(
                        "{action:?} on {} by {token} after {newest}",
                        world.names[*server]
                    )),
                    None => Ok(()),
                }
            }
            Event::RemoteActing { host, token, command } => {
                let newest = self.hosts.entry(*host).or_insert(*token);
                if *newest > *token {
                    return Err(format!("{command:?} by {token} after {newest}"));
                }
                *newest = *token;
                Ok(())
            }
            Event::Committed { .. }
            | Event::Acted { .. }
            | Event::Acknowledged { .. }
            | Event::Tick => Ok(()),
        }
    }
}
