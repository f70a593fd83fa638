//! The two threads of a replica: the receiver, together with the dump thread at its source, and
//! the applier.
//!
//! ```text
//!   source.binlog --dump--> wire --receiver--> relay log (retrieved, queue) --applier--> executed
//!         ^--------------- acknowledgement ----------'
//! ```

use std::{future::poll_fn, task::Poll};

use conclave_core::model::{Applier, Receiver};

use crate::{
    clock::{Micros, Owner},
    network::{Ix, Node},
    server::{Dump, Link, Server, Trx, Watch, Wire},
    world::{Ctx, World},
};

/// `replica_net_timeout`.
const NET_TIMEOUT: Micros = 4_000_000;

/// `SOURCE_CONNECT_RETRY`.
const CONNECT_RETRY: Micros = 1_000_000;

/// How long an acknowledgement takes that is not sent at once.
const SLOW_ACK: Micros = 300;

/// Most transactions carried at once.
const BATCH: usize = 64;

/// How an attempt to connect ended.
enum Dial {
    Connected(Wire, usize),
    /// 2003: tried again.
    Failed,
    /// The source refused for good; the receiver stops.
    Fatal(u32, &'static str),
    /// The receiver is another one by now.
    Over,
}

/// One thread of one replica.
struct Thread {
    ctx: Ctx,
    me: Ix,
    run: u64,
}

impl World {
    /// START REPLICA IO_THREAD.
    pub fn start_receiver(&mut self, me: Ix) {
        let (ctx, run) = (self.ctx(), self.number());
        let Some(link) = self.servers[me].link.as_mut() else { return };
        if link.receiver != Receiver::Off {
            return;
        }
        link.receiver_run = run;
        link.receiver = Receiver::Connecting;
        link.error = None;
        link.heartbeats = 0;
        let thread = Thread { ctx, me, run };
        self.sim.spawn(Owner::WORLD, thread.receive());
    }

    /// START REPLICA SQL_THREAD.
    pub fn start_applier(&mut self, me: Ix) {
        let (ctx, run) = (self.ctx(), self.number());
        let Some(link) = self.servers[me].link.as_mut() else { return };
        if link.applier == Applier::On {
            return;
        }
        link.applier_run = run;
        link.applier = Applier::On;
        let thread = Thread { ctx, me, run };
        self.sim.spawn(Owner::WORLD, thread.apply());
    }
}

impl Ctx {
    /// Waits until one of these servers changes, at most until then.
    pub async fn change(&self, of: [(Ix, Watch); 2], until: Micros) {
        let mut is_set = false;
        let change = poll_fn(|context| {
            if std::mem::replace(&mut is_set, true) {
                return Poll::Ready(());
            }
            let mut world = self.world();
            for (ix, what) in of {
                world.servers[ix].watch(what, context.waker());
            }
            Poll::Pending
        });
        self.sim.within(until, change).await;
    }
}

impl Ctx {
    /// Waits until a stopped server changes its state.
    pub async fn wakes(&self, ix: Ix) {
        self.change([(ix, Watch::State); 2], Micros::MAX).await;
    }
}

impl Thread {
    /// The link, if this is still its receiver.
    fn link<'a>(&self, world: &'a mut World) -> Option<&'a mut Link> {
        let link = world.servers[self.me].link.as_mut();
        link.filter(|link| link.receiver_run == self.run && link.receiver != Receiver::Off)
    }

    fn is_over(&self) -> bool {
        self.link(&mut self.ctx.world()).is_none()
    }

    async fn receive(self) {
        loop {
            match self.dial().await {
                Dial::Connected(wire, next) => {
                    self.stream(wire, next).await;
                    self.hang_up(wire);
                }
                Dial::Failed => {}
                Dial::Fatal(code, text) => {
                    let mut world = self.ctx.world();
                    if let Some(link) = self.link(&mut world) {
                        link.stop_receiver();
                        link.error = Some((code, text.into()));
                    }
                    return;
                }
                Dial::Over => return,
            }
            {
                let mut world = self.ctx.world();
                let Some(link) = self.link(&mut world) else { return };
                link.receiver = Receiver::Connecting;
                link.wire = None;
                link.error = Some((2003, "cannot connect to the source".into()));
            }
            self.ctx.sim.sleep(CONNECT_RETRY).await;
        }
    }

    async fn dial(&self) -> Dial {
        let ctx = &self.ctx;
        let until = ctx.sim.now() + NET_TIMEOUT;
        let source = {
            let mut world = ctx.world();
            let Some(address) = self.link(&mut world).map(|link| link.source.clone()) else {
                return Dial::Over;
            };
            world.servers.iter().position(|server| server.address == address)
        };
        let Some(source) = source else { return Dial::Failed };
        let (here, there) = (Node::Host(self.me), Node::Host(source));
        if !ctx.travel(here, there, until).await {
            return Dial::Failed;
        }
        // A stopped source takes the connection and never greets.
        while ctx.world().servers[source].is_hung {
            let of = [(source, Watch::State), (self.me, Watch::State)];
            ctx.change(of, until).await;
            if ctx.sim.now() >= until || self.is_over() {
                return Dial::Failed;
            }
        }
        if !ctx.travel(there, here, until).await {
            return Dial::Failed;
        }
        self.shake_hands(source)
    }

    /// The source compares what the replica has with what it has itself.
    ///
    /// **Source:** MySQL manual, "GTID Auto-Positioning": the source refuses a replica that has
    /// transactions numbered *by this source* which the source does not have.
    fn shake_hands(&self, source: Ix) -> Dial {
        let mut world = self.ctx.world();
        let is_semi = world.servers[self.me].semi.replica;
        let (me, server) = (&world.servers[self.me], &world.servers[source]);
        let is_locked = server.locked.contains(&self.me);
        if !me.is_serving() || !server.is_running || server.offline || is_locked {
            return Dial::Failed;
        }
        let (boot, uuid) = (server.boot, server.uuid.clone());
        let mut theirs = server.executed.clone();
        server.waits.iter().for_each(|wait| theirs.add(server.binlog[wait.index - 1]));
        let is_theirs = |link: &Link| link.retrieved.is_within(&theirs, source);
        if !me.executed.is_within(&theirs, source) || !me.link.as_ref().is_some_and(is_theirs) {
            return Dial::Fatal(1236, "the replica has more GTIDs than the source has");
        }
        let first = server.binlog.iter().position(|trx| !me.has_received(*trx));
        let next = first.unwrap_or(server.binlog.len());
        let dump = world.number();
        let wire = Wire { source, boot, is_semi, dump };
        let Some(link) = self.link(&mut world) else { return Dial::Over };
        link.receiver = Receiver::On;
        link.error = None;
        link.wire = Some(wire);
        link.source_uuid = uuid;
        world.servers[self.me].changed();
        world.servers[source].dumps.insert(self.me, Dump { number: dump, is_semi });
        Dial::Connected(wire, next)
    }

    /// Carries events and heartbeats until the connection breaks.
    async fn stream(&self, wire: Wire, mut next: usize) {
        let ctx = &self.ctx;
        let (here, there) = (Node::Host(self.me), Node::Host(wire.source));
        let mut heard = ctx.sim.now();
        loop {
            let period = {
                let mut world = ctx.world();
                let Some(link) = self.link(&mut world) else { return };
                link.options.heartbeat_ms.max(1) * 1000
            };
            let (is_alive, is_quiet, is_hung) = {
                let world = ctx.world();
                let source = &world.servers[wire.source];
                let is_alive = Self::is_served(&world, self.me, wire);
                let is_hung = source.is_hung || world.servers[self.me].is_hung;
                (is_alive, source.binlog.len() <= next, is_hung)
            };
            let now = ctx.sim.now();
            let silence = heard + NET_TIMEOUT;
            if now >= silence {
                return;
            }
            if !is_alive {
                // The kernel of the source closes the connection, if it can say so.
                ctx.travel(there, here, silence).await;
                return;
            }
            if is_hung || (is_quiet && now < heard + period) {
                let until = if is_hung { silence } else { heard + period };
                let of = [(wire.source, Watch::Log), (self.me, Watch::State)];
                ctx.change(of, until).await;
                continue;
            }
            let batch = self.pick(wire, next);
            if !ctx.travel(there, here, silence).await {
                return;
            }
            match batch {
                Some((events, up_to)) => {
                    if !self.deliver(&events) {
                        return;
                    }
                    next = up_to;
                    if wire.is_semi && !events.is_empty() {
                        self.acknowledge(wire, up_to);
                    }
                }
                None => {
                    let mut world = ctx.world();
                    let Some(link) = self.link(&mut world) else { return };
                    link.heartbeats += 1;
                }
            }
            heard = ctx.sim.now();
        }
    }

    /// The source notices that the receiver is gone, if it hears of it.
    fn hang_up(&self, wire: Wire) {
        let (ctx, me) = (self.ctx.clone(), self.me);
        self.ctx.sim.spawn(Owner::WORLD, async move {
            let until = ctx.sim.now() + NET_TIMEOUT;
            if ctx.travel(Node::Host(me), Node::Host(wire.source), until).await {
                let dumps = &mut ctx.world().servers[wire.source].dumps;
                dumps.retain(|ix, dump| *ix != me || dump.number != wire.dump);
            }
        });
    }

    /// Whether the dump thread of this connection was not ended.
    fn is_served(world: &World, me: Ix, wire: Wire) -> bool {
        let source = &world.servers[wire.source];
        let is_same = |dump: &Dump| dump.number == wire.dump;
        source.boot == wire.boot && source.is_running && source.dumps.get(&me).is_some_and(is_same)
    }

    /// The next events that the replica lacks; `None`: there is nothing, a heartbeat is due.
    fn pick(&self, wire: Wire, next: usize) -> Option<(Vec<Trx>, usize)> {
        let world = self.ctx.world();
        let source = &world.servers[wire.source];
        let up_to = source.binlog.len().min(next + BATCH);
        if up_to <= next {
            return None;
        }
        let me = &world.servers[self.me];
        let lacking = |trx: &&Trx| !me.has_received(**trx);
        let events = source.binlog[next..up_to].iter().filter(lacking).copied().collect();
        Some((events, up_to))
    }

    /// Into the relay log; false: nobody takes it any more.
    fn deliver(&self, events: &[Trx]) -> bool {
        let mut world = self.ctx.world();
        if world.servers[self.me].is_hung {
            // It stays in the socket; the source sends again after the replica reconnects.
            return false;
        }
        if self.link(&mut world).is_none() {
            return false;
        }
        world.servers[self.me].receive(events);
        true
    }

    /// The acknowledgement travels by itself: as a rule it arrives even if the receiver is stopped
    /// now [seen on real servers]; but it may not have been sent yet, and then it is lost [as well].
    fn acknowledge(&self, wire: Wire, index: usize) {
        let (ctx, me) = (self.ctx.clone(), self.me);
        let (run, is_slow) = (self.run, self.ctx.world().rng.chance(20));
        self.ctx.sim.spawn(Owner::WORLD, async move {
            if is_slow {
                ctx.sim.sleep(SLOW_ACK).await;
                let of = Thread { ctx: ctx.clone(), me, run };
                if of.is_over() {
                    return;
                }
            }
            let until = ctx.sim.now() + NET_TIMEOUT;
            if !ctx.travel(Node::Host(me), Node::Host(wire.source), until).await {
                return;
            }
            while ctx.world().servers[wire.source].is_hung {
                ctx.wakes(wire.source).await;
            }
            let source = &mut ctx.world().servers[wire.source];
            if source.boot == wire.boot && !source.locked.contains(&me) {
                source.acknowledged(me, index);
            }
        });
    }

    async fn apply(self) {
        let is_mine = |server: &Server| {
            let link = server.link.as_ref();
            link.is_some_and(|link| link.applier_run == self.run && link.applier == Applier::On)
        };
        loop {
            let (pause, is_waiting) = {
                let world = self.ctx.world();
                let me = &world.servers[self.me];
                if !is_mine(me) {
                    return;
                }
                let is_empty = me.link.as_ref().is_none_or(|link| link.queue.is_empty());
                // [semi-sync source on, on a replica: its own applier waits.]
                let is_stuck = me.waits.iter().any(|wait| wait.is_applier);
                (me.apply_us, is_empty || is_stuck || me.is_hung)
            };
            if is_waiting {
                let of = [(self.me, Watch::Queue), (self.me, Watch::State)];
                self.ctx.change(of, Micros::MAX).await;
                continue;
            }
            self.ctx.sim.sleep(pause).await;
            let mut world = self.ctx.world();
            let me = &mut world.servers[self.me];
            if !is_mine(me) || me.is_hung {
                continue;
            }
            let trx = me.link.as_mut().and_then(|link| link.queue.pop_front());
            if let Some(trx) = trx.filter(|trx| !me.executed.has(*trx)) {
                me.apply(trx);
            }
        }
    }
}
