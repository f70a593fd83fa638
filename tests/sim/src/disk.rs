//! The binary log on the disk of a server that does not run, read over SSH; and what is brought from
//! there to another server, whose own applier executes it on a channel of its own.

use std::collections::VecDeque;

use conclave_core::{
    model::{Applier, DiskLog, GtidSet, LogPiece},
    ports::{PortError, RemoteCommand, RescueOrder, Trouble},
};

use crate::{
    clock::{Micros, Owner},
    gtids::Gtids,
    network::{Ix, Node},
    server::{Server, Trx},
    world::{Ctx, World},
};

/// The channel for rescued transactions.
#[derive(Debug)]
pub struct Channel {
    /// What is to be applied.
    queue: VecDeque<Trx>,
    /// Its applier.
    pub applier: Applier,
    /// Which applier thread this is; zero: none.
    run: u64,
}

fn refused(why: &str) -> PortError {
    PortError::not_done(Trouble::Answered, why)
}

impl Server {
    /// What its log holds that is not in `known`; a piece counts transactions instead of bytes.
    fn disk_log(&self, known: &GtidSet, uuids: &[String]) -> DiskLog {
        let one = |trx: &Trx| {
            let mut set = Gtids::default();
            set.add(*trx);
            set.set(uuids)
        };
        let is_new = |trx: &Trx| !one(trx).is_subset(known);
        let Some(from) = self.binlog.iter().position(is_new) else { return DiskLog::default() };
        let mut only_here = Gtids::default();
        self.binlog[from..].iter().filter(|trx| is_new(trx)).for_each(|trx| only_here.add(*trx));
        let (from, to) = (from as u64, self.binlog.len() as u64);
        let pieces = vec![LogPiece { path: "/data/binlog".into(), from, to }];
        DiskLog { only_here: only_here.set(uuids), pieces, ..DiskLog::default() }
    }
}

impl World {
    /// What is wrong with the disk of a dead server, if it cannot be read.
    fn unreadable(&self, at: Ix) -> Option<PortError> {
        if !self.hosts[at].is_up || !self.hosts[at].has_ssh {
            return Some(PortError::not_done(Trouble::Silent, "no login over SSH in time"));
        }
        if !self.hosts[at].has_disk {
            return Some(refused("there is no binary log"));
        }
        self.servers[at].is_running.then(|| refused("mysqld runs"))
    }

    /// What was brought to a host becomes the relay log of the channel.
    pub(crate) fn put_rescued(&mut self, at: Ix, upload: &str) -> Result<(), PortError> {
        let events = self.uploads.remove(upload);
        let events = events.ok_or_else(|| refused("the upload is not there"))?;
        self.servers[at].rescued = Some(events);
        Ok(())
    }

    /// CHANGE REPLICATION SOURCE and START REPLICA SQL_THREAD for the channel.
    pub(crate) fn apply_rescued(&mut self, at: Ix) -> Result<(), PortError> {
        if self.servers[at].rescue.is_some() {
            return Err(refused("error 3081: the channel is there"));
        }
        let events = self.servers[at].rescued.take();
        let events = events.ok_or_else(|| refused("error 13117: there is no relay log"))?;
        let run = self.number();
        self.servers[at].rescue = Some(Channel { queue: events.into(), applier: Applier::On, run });
        let ctx = self.ctx();
        self.sim.spawn(Owner::WORLD, async move { ctx.apply_channel(at, run).await });
        Ok(())
    }
}

impl Ctx {
    /// Reads a dead server's log.
    pub async fn read_log(
        &self,
        manager: u64,
        at: Ix,
        known: GtidSet,
        until: Micros,
    ) -> Result<DiskLog, PortError> {
        self.reach(manager, at, until).await?;
        let log = {
            let world = self.world();
            let uuids: Vec<String> = world.servers.iter().map(|it| it.uuid.clone()).collect();
            world.unreadable(at).map_or_else(|| Ok(world.servers[at].disk_log(&known, &uuids)), Err)
        }?;
        let transactions: u64 = log.pieces.iter().map(LogPiece::bytes).sum();
        self.sim.sleep(20_000 + transactions * 10).await;
        // It was read to its end while nobody wrote.
        self.reach(manager, at, until).await?;
        let unreadable = self.world().unreadable(at);
        unreadable.map_or(Ok(log), Err)
    }

    /// There and back.
    async fn reach(&self, manager: u64, at: Ix, until: Micros) -> Result<(), PortError> {
        let (from, there) = (Node::Manager(manager), Node::Host(at));
        match self.travel(from, there, until).await && self.travel(there, from, until).await {
            true => Ok(()),
            false => Err(PortError::not_done(Trouble::Silent, "no answer over SSH in time")),
        }
    }

    /// Brings parts of a log from one host to another.
    pub async fn carry(
        &self,
        manager: u64,
        (from, to): (Ix, Ix),
        order: &RescueOrder,
        until: Micros,
    ) -> Result<String, PortError> {
        self.reach(manager, from, until).await?;
        let events: Vec<Trx> = {
            let world = self.world();
            if let Some(error) = world.unreadable(from) {
                return Err(error);
            }
            let log = &world.servers[from].binlog;
            let part = |piece: &LogPiece| log.get(piece.from as usize..piece.to as usize);
            let parts = order.rescue.pieces.iter().map(part);
            let parts: Option<Vec<&[Trx]>> = parts.collect();
            parts.ok_or_else(|| refused("the log is shorter than it was"))?.concat()
        };
        self.sim.sleep(20_000 + events.len() as u64 * 20).await;
        let upload = format!("upload {}", self.world().number());
        self.world().uploads.insert(upload.clone(), events);
        let kept = "/data/kept".to_owned();
        let command = RemoteCommand::PutRescued {
            upload,
            sum: String::new(),
            relay_log: order.relay_log.clone(),
            kept: kept.clone(),
        };
        let start_by = until.min(self.sim.now() + crate::ports::START);
        self.remote(manager, to, order.token, command, (start_by, until)).await?;
        Ok(kept)
    }

    /// The applier of the channel: passes over what is executed already.
    async fn apply_channel(&self, at: Ix, run: u64) {
        loop {
            let pause = {
                let world = self.world();
                let channel = world.servers[at].rescue.as_ref();
                let is_mine = channel.is_some_and(|it| it.run == run && it.applier == Applier::On);
                if !is_mine {
                    return;
                }
                world.servers[at].apply_us
            };
            self.sim.sleep(pause).await;
            let mut world = self.world();
            let server = &mut world.servers[at];
            if server.is_hung {
                continue;
            }
            let Some(channel) = server.rescue.as_mut().filter(|it| it.run == run) else { return };
            match channel.queue.pop_front() {
                Some(trx) if !server.executed.has(trx) => {
                    server.apply(trx);
                }
                Some(_) => {}
                // It waits for more, which will not come.
                None => return,
            }
        }
    }
}

impl Channel {
    /// mysqld is gone: it does not go on by itself, and a restart may have thrown its events away.
    pub(crate) fn stop(&mut self) {
        (self.applier, self.run) = (Applier::Off, 0);
    }
}
