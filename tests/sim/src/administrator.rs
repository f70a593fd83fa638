//! An administrator who does foolish things by hand: another server behind an address, writes on a
//! replica, threads stopped without a word.

use conclave_core::{
    model::{Receiver, ServerName},
    state::{ClusterState, Standing},
};

use crate::{network::Ix, world::World};

impl World {
    /// Nothing is under way, and this server is a replica like any other.
    fn is_plain_replica(&self, ix: Ix) -> bool {
        let is_plain = |cluster: &ClusterState, name: &ServerName| {
            let member = cluster.members.get(name);
            let is_member = member.is_some_and(|member| member.standing == Standing::Member);
            cluster.attempt.is_none() && !cluster.is_primary(name) && is_member
        };
        self.state().is_some_and(|cluster| is_plain(&cluster, &self.names[ix]))
            && self.servers[ix].is_running
            && self.servers[ix].link.is_some()
            && !self.away.contains_key(&ix)
    }

    /// Another server, empty and with an identity of its own, answers at a replica's address for a
    /// while: a wrong name, a wrong address, a restored machine.
    pub(crate) fn swap_server(&mut self, ix: Ix) {
        if self.is_plain_replica(ix) {
            self.put_away(ix);
            self.later(2_000, 20_000, move |world| world.swap_back(ix));
        }
    }

    /// Another server answers at this address until it is swapped back.
    pub fn put_away(&mut self, ix: Ix) {
        self.note(|world| format!("FAULT another server is behind {}", world.names[ix]));
        self.servers[ix].crash();
        let stranger = self.servers[ix].stranger(self.sim.now());
        let own = std::mem::replace(&mut self.servers[ix], stranger);
        self.away.insert(ix, own);
    }

    /// The right server answers at its address again, started anew.
    pub fn swap_back(&mut self, ix: Ix) {
        let Some(mut own) = self.away.remove(&ix) else { return };
        self.note(|world| format!("FAULT {} itself is back", world.names[ix]));
        self.servers[ix].crash();
        own.boot = self.servers[ix].boot + 1;
        self.servers[ix] = own;
        self.start_server(ix);
    }

    /// A transaction that is on one replica alone, written past `super_read_only`.
    pub fn errant_write(&mut self, ix: Ix) {
        if self.is_plain_replica(ix) && !self.servers[ix].semi.source {
            let trx = self.servers[ix].commit(None);
            self.note(|world| format!("FAULT {trx:?} written on {}", world.names[ix]));
            self.errant.push(trx);
        }
    }

    /// What was quarantined because of such a transaction is made anew from the primary.
    pub fn rebuild_quarantined(&mut self) {
        let (Some(state), primary) = (self.state(), self.primary()) else { return };
        for ix in (0..self.servers.len()).filter(|ix| *ix != primary) {
            let standing = state.members.get(&self.names[ix]).map(|member| &member.standing);
            let is_astray = self.errant.iter().any(|trx| {
                self.servers[ix].has_logged(*trx) && !self.servers[primary].has_logged(*trx)
            });
            if is_astray && matches!(standing, Some(Standing::Quarantined { .. })) {
                self.note(|world| format!("FAULT {} is made anew", world.names[ix]));
                let (executed, binlog, _) = self.servers[primary].copy();
                self.servers[ix].replace_data(executed, binlog, None);
                self.start_server(ix);
            }
        }
    }

    /// STOP REPLICA, and START REPLICA after a while.
    pub(crate) fn stop_replica(&mut self, ix: Ix) {
        if self.is_plain_replica(ix) {
            self.note(|world| format!("FAULT threads of {} stopped by hand", world.names[ix]));
            self.stop_threads(ix);
            self.later(500, 10_000, move |world| world.start_by_hand(ix));
        }
    }

    /// STOP REPLICA.
    pub fn stop_threads(&mut self, ix: Ix) {
        if let Some(link) = self.servers[ix].link.as_mut() {
            link.stop_receiver();
            link.stop_applier();
        }
        self.servers[ix].changed();
    }

    /// Comes back later if a failover is under way; nothing to do if it replicates from elsewhere by
    /// then.
    fn start_by_hand(&mut self, ix: Ix) {
        let source = self.servers[self.primary()].address.clone();
        let is_stopped = self.servers[ix]
            .link
            .as_ref()
            .is_some_and(|link| link.receiver == Receiver::Off && link.source == source);
        if !is_stopped {
            return;
        }
        if !self.is_plain_replica(ix) {
            return self.later(1_000, 1_000, move |world| world.start_by_hand(ix));
        }
        self.note(|world| format!("FAULT threads of {} started by hand", world.names[ix]));
        self.start_receiver(ix);
        self.start_applier(ix);
    }
}
