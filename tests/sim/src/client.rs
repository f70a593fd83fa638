//! Applications: they write through the writer address (or hold on to one server), and remember
//! what they were told. What they were told OK must never be lost.

use crate::{
    clock::{Micros, Owner},
    network::{Ix, Node},
    server::{Mishap, Told, Trx},
    sql::Answer,
    world::{Ctx, World},
};

/// How long a write, or the answer to it, may be on its way.
const PATIENCE: Micros = 2_000_000;

/// What a client was told of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Waiting,
    /// OK, at that moment.
    Acknowledged(Micros),
    /// It was not done.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// One write.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The server it was sent to.
    pub server: Ix,
    /// When it was sent.
    pub invoked: Micros,
    /// Its transaction, once the server wrote one.
    pub trx: Option<Trx>,
    /// What the client was told.
    pub told: Outcome,
}

/// All writes of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// In the order of their invocation.
    pub writes: Vec<Write>,
}

impl Ledger {
    /// The writes that were answered OK.
    pub fn acknowledged(&self) -> impl Iterator<Item = &Write> {
        self.writes.iter().filter(|write| matches!(write.told, Outcome::Acknowledged(_)))
    }
}

/// Where a client connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The writer address.
    Writer,
    /// One server, whatever its role.
    Server(Ix),
}

impl World {
    /// The host that packets to the writer address end up at.
    pub fn answers_at_writer(&self, from: Node) -> Option<Ix> {
        let ix = self.network.announced?;
        let vip = self.definition.writer.as_ref()?;
        let is_there = self.hosts[ix].is_up && self.hosts[ix].vips.contains(&vip.address);
        (is_there && self.network.talk(from, Node::Host(ix))).then_some(ix)
    }
}

impl Ctx {
    /// A client that writes every so often, for ever.
    pub fn run_client(&self, door: Door, every: Micros) {
        self.sim.spawn(Owner::WORLD, self.clone().client_loop(door, every));
    }

    async fn client_loop(self, door: Door, every: Micros) {
        loop {
            let server = match door {
                Door::Writer => self.world().answers_at_writer(Node::Client),
                Door::Server(ix) => Some(ix),
            };
            if let Some(server) = server
                && let Ok((boot, connection)) = self.connect(server).await
            {
                self.write_while_it_works(server, boot, connection, every).await;
            }
            self.sim.sleep(50_000).await;
        }
    }

    async fn connect(&self, server: Ix) -> Result<(u64, u64), ()> {
        let until = self.sim.now() + 1_000_000;
        let connect = move |world: &mut World| {
            let id = world.number();
            let server = &mut world.servers[server];
            Answer::Now(Ok(match server.offline {
                true => None,
                false => {
                    server.clients.insert(id);
                    Some((server.boot, id))
                }
            }))
        };
        let connected = self.request(Node::Client, server, until, connect).await;
        connected.ok().flatten().ok_or(())
    }

    async fn write_while_it_works(&self, server: Ix, boot: u64, connection: u64, every: Micros) {
        loop {
            let told = self.write(server, boot, connection).await;
            if !matches!(told, Outcome::Acknowledged(_)) {
                return;
            }
            self.sim.sleep(every).await;
        }
    }

    /// One write over a connection, recorded.
    async fn write(&self, server: Ix, boot: u64, connection: u64) -> Outcome {
        let invoked = self.sim.now();
        let at = {
            let mut world = self.world();
            let told = Outcome::Waiting;
            world.ledger.writes.push(Write { server, invoked, trx: None, told });
            world.ledger.writes.len() - 1
        };
        let answer: Told = Told::default();
        let (ctx, slot) = (self.clone(), answer.clone());
        self.sim.spawn(Owner::WORLD, async move {
            let (here, there) = (Node::Client, Node::Host(server));
            if !ctx.travel(here, there, invoked + PATIENCE).await {
                return;
            }
            while ctx.world().servers[server].is_hung {
                ctx.wakes(server).await;
            }
            let told = ctx.world().take_write(at, server, boot, connection);
            let result = told.take().await;
            if ctx.travel(there, here, ctx.sim.now() + PATIENCE).await {
                slot.put(result);
            }
        });
        let patience = self.world().client_patience;
        let result = self.sim.within(invoked + patience, answer.take()).await;
        let told = match result {
            Some(Ok(_)) => Outcome::Acknowledged(self.sim.now()),
            Some(Err(Mishap::ReadOnly | Mishap::Refused)) => Outcome::Failed,
            Some(Err(Mishap::Lost)) | None => Outcome::Unknown,
        };
        self.world().write_answered(at, told);
        told
    }
}

impl World {
    /// The server takes a write, and tells later.
    fn take_write(&mut self, at: usize, server: Ix, boot: u64, connection: u64) -> Told {
        let told = Told::default();
        let target = &mut self.servers[server];
        if !target.is_running || target.boot != boot || !target.clients.contains(&connection) {
            told.put(Err(Mishap::Lost));
            return told;
        }
        if target.read_only {
            told.put(Err(Mishap::ReadOnly));
            return told;
        }
        let trx = target.commit(Some((connection, told.clone())));
        self.ledger.writes[at].trx = Some(trx);
        told
    }

    fn write_answered(&mut self, at: usize, told: Outcome) {
        self.ledger.writes[at].told = told;
        if let Outcome::Acknowledged(_) = told {
            let write = self.ledger.writes[at];
            self.emit(crate::invariant::Event::Acknowledged { write });
        }
    }
}
