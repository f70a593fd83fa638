//! Random faults, each with its own end, and the healing of everything.

use conclave_core::{
    decide::Wish,
    model::{Actor, Discard, Millis, Mode, Rejoin, Switchover},
    state::{Command, Standing},
};

use crate::{
    ambush::{Ambush, Blow, Moment},
    clock::{Micros, Owner},
    network::{Ix, Node},
    world::World,
};

/// A kind of fault; its name is what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of the primary's mysqld; restarted 2 s later, or later, or not.
    KillPrimary,
    /// kill -9 of any mysqld.
    KillServer,
    /// SIGSTOP of a mysqld for a while.
    HangServer,
    /// A host without power for a while.
    PowerOff,
    /// Two hosts do not reach each other, one way or both, for a while.
    Part,
    /// A host does not reach anybody but its clients for a while.
    Isolate,
    /// Everything to and from a host is slow for a while.
    Slow,
    /// A replica applies slowly for a while.
    SlowApply,
    /// kill -9 of a manager; restarted after a while.
    KillManager,
    /// kill -9 of the leader.
    KillLeader,
    /// SIGSTOP of a manager for a while.
    StallManager,
    /// SIGSTOP of the leader for a while.
    StallLeader,
    /// Something befalls the leader or its target within a step.
    Ambush,
    /// The leader and the primary are killed in the same instant.
    KillBoth,
    /// The next primary is killed as soon as its promotion is over.
    KillNext,
    /// A person unmasks a fenced server and starts it.
    Unmask,
    /// An operator asks for a failover.
    Wish,
    /// An operator asks for a planned switchover.
    Switch,
    /// An operator changes who acknowledges, or for how many a commit waits from the next failover
    /// on.
    Redefine,
    /// An operator pauses the cluster for a while.
    Pause,
    /// All managers are stopped at once for a while, as when their machines are moved.
    StallAll,
    /// A rack: a database host and a manager without power for a while.
    LoseRack,
    /// The primary's host is cut off from everybody but its clients, and rebooted in that state.
    RebootIsolated,
    /// Another server answers at a replica's address for a while.
    SwapServer,
    /// An administrator writes on a replica.
    ErrantWrite,
    /// An administrator stops a replica's threads for a while.
    StopReplica,
    /// An operator wants a server back that was quarantined, whatever becomes of what it has extra.
    Rejoin,
    /// Hosts and managers fall into two parts that do not reach each other; clients reach both.
    Split,
}

impl Fault {
    /// All kinds.
    pub const ALL: [Fault; 28] = [
        Fault::KillPrimary,
        Fault::KillServer,
        Fault::HangServer,
        Fault::PowerOff,
        Fault::Part,
        Fault::Isolate,
        Fault::Slow,
        Fault::SlowApply,
        Fault::KillManager,
        Fault::KillLeader,
        Fault::StallManager,
        Fault::StallLeader,
        Fault::Ambush,
        Fault::KillBoth,
        Fault::KillNext,
        Fault::Unmask,
        Fault::Wish,
        Fault::Switch,
        Fault::Redefine,
        Fault::Pause,
        Fault::StallAll,
        Fault::LoseRack,
        Fault::RebootIsolated,
        Fault::SwapServer,
        Fault::ErrantWrite,
        Fault::StopReplica,
        Fault::Rejoin,
        Fault::Split,
    ];

    /// Stable name.
    pub fn code(self) -> &'static str {
        match self {
            Fault::KillPrimary => "kill_primary",
            Fault::KillServer => "kill_server",
            Fault::HangServer => "hang_server",
            Fault::PowerOff => "power_off",
            Fault::Part => "part",
            Fault::Isolate => "isolate",
            Fault::Slow => "slow",
            Fault::SlowApply => "slow_apply",
            Fault::KillManager => "kill_manager",
            Fault::KillLeader => "kill_leader",
            Fault::StallManager => "stall_manager",
            Fault::StallLeader => "stall_leader",
            Fault::Ambush => "ambush",
            Fault::KillBoth => "kill_both",
            Fault::KillNext => "kill_next",
            Fault::Unmask => "unmask",
            Fault::Wish => "wish",
            Fault::Switch => "switch",
            Fault::Redefine => "redefine",
            Fault::Pause => "pause",
            Fault::StallAll => "stall_all",
            Fault::LoseRack => "lose_rack",
            Fault::RebootIsolated => "reboot_isolated",
            Fault::SwapServer => "swap_server",
            Fault::ErrantWrite => "errant_write",
            Fault::StopReplica => "stop_replica",
            Fault::Rejoin => "rejoin",
            Fault::Split => "split",
        }
    }
}

fn operator() -> Actor {
    Actor::Operator { name: "ann".into() }
}

impl World {
    /// Lets one fault strike.
    pub fn inject(&mut self, fault: Fault) {
        let server = self.rng.below(self.servers.len() as u64) as Ix;
        let manager = 1 + self.rng.below(self.managers.len() as u64);
        let primary = self.primary();
        match fault {
            Fault::KillPrimary => self.kill_and_restart(primary),
            Fault::KillServer => self.kill_and_restart(server),
            Fault::HangServer => {
                let ix = if self.rng.chance(50) { primary } else { server };
                self.hang_server(ix);
                self.later(500, 20_000, move |world| world.resume_server(ix));
            }
            Fault::PowerOff => {
                let ix = if self.rng.chance(50) { primary } else { server };
                self.power_off(ix);
                self.later(2_000, 30_000, move |world| world.power_on(ix));
            }
            Fault::Part => self.part_somebody(),
            Fault::Isolate => {
                self.isolate(if self.rng.clone().chance(60) { primary } else { server })
            }
            Fault::Slow => {
                let node = self.somewhere();
                let by = self.rng.range(1_000, 400_000);
                self.note(|_| format!("FAULT slow {node:?} by {by} us"));
                self.network.slow(node, by);
                self.later(500, 15_000, move |world| world.network.slow(node, 0));
            }
            Fault::SlowApply => {
                let by = self.rng.range(10_000, 500_000);
                self.note(|world| format!("FAULT {} applies slowly: {by} us", world.names[server]));
                self.servers[server].apply_us = by;
                self.later(500, 15_000, move |world| world.servers[server].apply_us = 300);
            }
            Fault::KillManager => self.kill_manager_for_a_while(manager),
            Fault::KillLeader => {
                let id = self.consensus.leader().unwrap_or(manager);
                self.kill_manager_for_a_while(id);
            }
            Fault::StallManager => self.stall_for_a_while(manager),
            Fault::StallLeader => {
                let id = self.consensus.leader().unwrap_or(manager);
                self.stall_for_a_while(id);
            }
            Fault::Ambush => self.lay_ambush(),
            Fault::KillBoth => {
                let id = self.consensus.leader().unwrap_or(manager);
                self.kill_manager_for_a_while(id);
                self.kill_and_restart(primary);
            }
            Fault::KillNext => self.kill_next(),
            Fault::Unmask => (0..self.servers.len()).for_each(|ix| self.unmask(ix)),
            Fault::Wish => self.wish_something(),
            Fault::Switch => self.wish_to_switch(),
            Fault::Redefine => self.redefine(server),
            Fault::Pause => {
                let (cluster, actor) = (self.cluster.clone(), operator());
                self.operate(Command::Pause { cluster, actor, reason: String::new() });
                self.later(1_000, 20_000, World::resume);
            }
            Fault::StallAll => {
                for id in self.managers.keys().copied().collect::<Vec<_>>() {
                    self.stall_for_a_while(id);
                }
            }
            Fault::LoseRack => {
                let ix = if self.rng.chance(50) { primary } else { server };
                self.kill_manager_for_a_while(manager);
                self.power_off(ix);
                self.later(2_000, 30_000, move |world| world.power_on(ix));
            }
            Fault::RebootIsolated => self.reboot_isolated(primary),
            Fault::SwapServer => self.swap_server(server),
            Fault::ErrantWrite => self.errant_write(server),
            Fault::StopReplica => self.stop_replica(server),
            Fault::Rejoin => self.rejoin_something(),
            Fault::Split => self.split(),
        }
    }

    /// Everything is put right again, by people where need be.
    pub fn heal(&mut self) {
        self.note(|_| "HEAL".into());
        self.ambush = None;
        self.resume();
        (0..self.servers.len()).for_each(|ix| self.swap_back(ix));
        self.network.heal();
        for ix in 0..self.servers.len() {
            self.network.power(Node::Host(ix), true);
            self.hosts[ix].is_up = true;
            self.servers[ix].is_hung = false;
            self.servers[ix].apply_us = 300;
            self.servers[ix].changed();
            self.unmask(ix);
        }
        for id in self.managers.keys().copied().collect::<Vec<_>>() {
            let owner = self.managers[&id].owner;
            self.sim.resume(owner);
            self.start_manager(id);
        }
    }

    /// Said to whoever leads; it may be lost.
    fn operate(&mut self, command: Command) {
        let Some(leader) = self.consensus.leader() else { return };
        self.note(|_| format!("FAULT operator says {command} to m{leader}"));
        let ctx = self.ctx();
        self.sim.spawn(Owner::WORLD, async move {
            // Refused or lost, the operator leaves it at that.
            drop(ctx.operate(leader, command).await);
        });
    }

    fn redefine(&mut self, server: Ix) {
        let Some(state) = self.state() else { return };
        let mut definition = state.definition;
        match self.rng.chance(70) {
            true => definition.servers[server].acker = !definition.servers[server].acker,
            false => definition.acks = 1 + self.rng.below(2) as u32,
        }
        if definition.mistakes().is_empty() {
            let (definition, actor) = (Box::new(definition), operator());
            self.operate(Command::ApplyDefinition { definition, replaces: None, actor });
        }
    }

    /// Right or wrong, and at any moment: the group has to refuse what must not be.
    fn rejoin_something(&mut self) {
        let Some(state) = self.state() else { return };
        let members = state.members.into_iter();
        let apart = members.filter_map(|(server, member)| match member.standing {
            Standing::Quarantined { errant, .. } => Some((server, errant)),
            Standing::Member | Standing::Former { .. } => None,
        });
        let apart: Vec<_> = apart.collect();
        let Some((server, extra)) = self.rng.pick(&apart).cloned() else { return };
        let discard = [Discard::Nothing, Discard::Proved, Discard::All];
        let discard = *self.rng.pick(&discard).unwrap_or(&Discard::All);
        let (cluster, epoch, actor) = (self.cluster.clone(), state.epoch, operator());
        let rejoin = Rejoin { actor, discard, extra };
        self.operate(Command::Rejoin { cluster, epoch, server, rejoin });
    }

    /// Automatic failover again, said until it is heard.
    pub fn resume(&mut self) {
        if self.state().is_some_and(|state| state.pause.is_some()) {
            let cluster = self.cluster.clone();
            self.operate(Command::Resume { cluster });
            self.later(1_000, 1_000, World::resume);
        }
    }

    pub(crate) fn later(
        &mut self,
        least_ms: u64,
        most_ms: u64,
        then: impl FnOnce(&mut World) + Send + 'static,
    ) {
        let span = self.rng.range(least_ms, most_ms) * 1000;
        let ctx = self.ctx();
        self.sim.spawn(Owner::WORLD, async move {
            ctx.sim.sleep(span).await;
            then(&mut ctx.world());
        });
    }

    fn kill_and_restart(&mut self, ix: Ix) {
        self.kill_server(ix);
        match self.rng.below(4) {
            // At once, as when a person is quicker than the service manager.
            0 => self.later(10, 500, move |world| world.start_server(ix)),
            1 => self.later(2_000, 2_000, move |world| world.start_server(ix)),
            2 => self.later(5_000, 30_000, move |world| world.start_server(ix)),
            _ => {}
        }
    }

    /// One replica hears of everything late, so that it lags when its source dies.
    fn kill_next(&mut self) {
        let ctx = self.ctx();
        let epoch = self.epoch();
        let lag = self.rng.below(self.servers.len() as u64) as Ix;
        let by = self.rng.range(20_000, 300_000);
        let after = self.rng.below(20_000);
        self.network.slow(Node::Host(lag), by);
        let primary = self.primary();
        self.kill_server(primary);
        self.note(|_| format!("FAULT host {lag} is {by} us late, the next primary is killed"));
        self.sim.spawn(Owner::WORLD, async move {
            for _ in 0..5_000 {
                ctx.sim.sleep(2_000).await;
                let world = ctx.world();
                if world.epoch() > epoch && !world.is_failing_over() {
                    break;
                }
            }
            ctx.sim.sleep(after).await;
            let mut world = ctx.world();
            world.network.slow(Node::Host(lag), 0);
            let next = world.primary();
            world.kill_and_restart(next);
        });
    }

    fn somewhere(&mut self) -> Node {
        match self.rng.below(2) {
            0 => Node::Host(self.rng.below(self.servers.len() as u64) as Ix),
            _ => Node::Manager(1 + self.rng.below(self.managers.len() as u64)),
        }
    }

    fn part_somebody(&mut self) {
        let (one, other) = (self.somewhere(), self.somewhere());
        let both = self.rng.chance(60);
        self.note(|_| format!("FAULT cut {one:?} from {other:?}, both ways: {both}"));
        self.network.cut(one, other);
        if both {
            self.network.cut(other, one);
        }
        self.later(500, 20_000, move |world| {
            world.network.mend(one, other);
            world.network.mend(other, one);
        });
    }

    /// From managers, or from servers, or from both; never from its clients.
    fn isolate(&mut self, ix: Ix) {
        let here = Node::Host(ix);
        let of = self.rng.below(3);
        let servers = (0..self.servers.len()).filter(|other| *other != ix).map(Node::Host);
        let managers = self.managers.keys().map(|id| Node::Manager(*id));
        let others: Vec<Node> = match of {
            0 => servers.collect(),
            1 => managers.collect(),
            _ => servers.chain(managers).collect(),
        };
        self.cut_off(here, others);
    }

    fn split(&mut self) {
        let hosts = (0..self.servers.len()).map(Node::Host);
        let managers = self.managers.keys().map(|id| Node::Manager(*id));
        let all: Vec<Node> = hosts.chain(managers).collect();
        let rng = &mut self.rng;
        let (one, other): (Vec<Node>, Vec<Node>) = all.into_iter().partition(|_| rng.chance(50));
        self.note(|_| format!("FAULT split {one:?} from {other:?}"));
        let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b)));
        let pairs: Vec<(Node, Node)> = pairs.collect();
        pairs.iter().for_each(|(a, b)| self.network.part(*a, *b));
        self.later(1_000, 25_000, move |world| {
            for (a, b) in pairs {
                world.network.mend(a, b);
                world.network.mend(b, a);
            }
        });
    }

    fn cut_off(&mut self, here: Node, others: Vec<Node>) {
        self.note(|_| format!("FAULT isolate {here:?} from {others:?}"));
        for other in &others {
            self.network.part(here, *other);
        }
        self.later(1_000, 25_000, move |world| {
            for other in others {
                world.network.mend(here, other);
                world.network.mend(other, here);
            }
        });
    }

    /// In an orderly way, with `KillSignal=SIGKILL` in the unit, as `quorum` mode requires.
    fn reboot_isolated(&mut self, ix: Ix) {
        let servers = (0..self.servers.len()).filter(|other| *other != ix).map(Node::Host);
        let managers = self.managers.keys().map(|id| Node::Manager(*id));
        let others = servers.chain(managers).collect();
        self.cut_off(Node::Host(ix), others);
        self.later(100, 6_000, move |world| {
            world.kill_server(ix);
            world.later(1_000, 3_000, move |world| world.start_server(ix));
        });
    }

    fn kill_manager_for_a_while(&mut self, id: u64) {
        if self.managers[&id].is_alive {
            self.kill_manager(id);
            self.later(500, 15_000, move |world| world.start_manager(id));
        }
    }

    fn stall_for_a_while(&mut self, id: u64) {
        let owner = self.managers[&id].owner;
        if self.managers[&id].is_awake(&self.sim) {
            let span: Micros = self.rng.range(200, 20_000) * 1000;
            self.stall_manager(id, owner, span);
        }
    }

    fn lay_ambush(&mut self) {
        const STEPS: [&str; 13] = [
            "level",
            "close_for_writes",
            "reopen",
            "stop_receiver",
            "fence",
            "catch_up",
            "apply",
            "detach",
            "follow",
            "open_for_writes",
            "take_vip",
            "resume_receiver",
            "make_read_only",
        ];
        let step = self.rng.pick(&STEPS).copied();
        let step = if self.rng.chance(20) { None } else { step };
        let moment = self.rng.pick(&Moment::ALL).copied().unwrap_or(Moment::BeforeAct);
        let blow = match self.rng.below(3) {
            0 => Blow::Kill,
            1 => Blow::Stall(self.rng.range(200, 15_000) * 1000),
            _ => Blow::KillTarget,
        };
        let skip = self.rng.below(3) as u32;
        self.note(|_| format!("FAULT ambush {step:?} {moment:?} {blow:?} after {skip}"));
        self.ambush = Some(Ambush { step, moment, skip, blow });
    }

    /// Vouches for a death only where it is true and stays so for a while: anything else would be
    /// the operator's fault.
    fn wish_something(&mut self) {
        let primary = self.primary();
        let is_dead = !self.servers[primary].is_running && self.hosts[primary].is_masked;
        let wanted = match self.rng.chance(50) {
            true => self.rng.pick(&self.names.clone()).cloned(),
            false => None,
        };
        let wish = Wish {
            actor: Actor::Group,
            wanted,
            asserted_dead: is_dead && self.definition.mode == Mode::Fenced,
            interval_waived: self.rng.chance(50),
            switchover: None,
        };
        self.note(|_| format!("FAULT operator wishes {wish:?}"));
        self.wish("ann", wish);
    }

    fn wish_to_switch(&mut self) {
        let wanted = match self.rng.chance(50) {
            true => self.rng.pick(&self.names.clone()).cloned(),
            false => None,
        };
        let plan = Switchover {
            deadline_ms: Millis(self.rng.range(1_000, 10_000)),
            leaves_old: false,
            cuts: self.rng.chance(50),
        };
        let wish = Wish {
            actor: Actor::Group,
            wanted,
            asserted_dead: false,
            interval_waived: false,
            switchover: Some(plan),
        };
        self.note(|_| format!("FAULT operator wishes {wish:?}"));
        self.wish("ann", wish);
    }
}
