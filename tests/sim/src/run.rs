//! A run: a world, its tasks, and what a test or a random run does to it.

use conclave_core::{
    decide::Wish,
    model::{Actor, Applier, GtidSet, LinkOptions, Mode, Receiver},
    ports::ProposeError,
    state::{ClusterState, Command, Reply, Standing},
};

use crate::{
    client::Door,
    clock::{Executor, Micros, Owner, Slot},
    invariant::Event,
    network::{Ix, Node},
    server::Link,
    setup::Setup,
    world::{Ctx, World},
};

/// Pause between two looks of the invariants at the world.
const TICK: Micros = 20_000;

/// One run.
pub struct Run {
    /// The world.
    pub ctx: Ctx,
    /// Its tasks.
    pub executor: Executor,
}

impl Run {
    /// A running cluster: the first server is primary, the others follow it, clients write, and
    /// the managers have adopted it.
    pub fn new(setup: &Setup) -> Self {
        let executor = Executor::default();
        let sim = executor.sim();
        let ctx = Ctx::new(sim.clone(), |me| {
            let definition = setup.definition.clone();
            World::new(me, sim, setup.seed, definition, setup.managers)
        });
        let mut run = Self { ctx, executor };
        run.world(|world| world.trace = setup.trace.then(Vec::new));
        run.world(World::start_servers);
        run.world(|world| {
            for server in &mut world.servers {
                (server.relay_log_recovery, server.age) = (setup.relay_log_recovery, setup.age_us);
            }
        });
        for id in 1..=setup.managers {
            run.world(|world| world.run_manager(id));
        }
        run.executor.sim().spawn(Owner::WORLD, run.ctx.clone().keep_group());
        run.executor.sim().spawn(Owner::WORLD, watch(run.ctx.clone()));
        for _ in 0..setup.writers {
            run.ctx.run_client(Door::Writer, setup.write_every_us);
        }
        let define = Command::ApplyDefinition {
            definition: Box::new(setup.definition.clone()),
            replaces: None,
            actor: Actor::Operator { name: "operator".into() },
        };
        run.until(10_000, "a leader", |world| world.consensus.leader().is_some());
        let defined = run.operate(define);
        assert_eq!(defined, Ok(Reply::Version { version: 1 }));
        run.until(10_000, "the cluster to be adopted", |world| {
            world.state().is_some_and(|cluster| cluster.primary().is_some())
        });
        run
    }

    /// Looks at the world or changes it.
    pub fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.ctx.world())
    }

    /// Lets that much time pass.
    pub fn pass(&mut self, millis: u64) {
        let end = self.executor.sim().now() + millis * 1000;
        self.executor.run_until(end);
    }

    /// Lets time pass until something is so; whether it came to be in time.
    pub fn comes(&mut self, millis: u64, is_so: impl Fn(&World) -> bool) -> bool {
        let end = self.executor.sim().now() + millis * 1000;
        while self.executor.sim().now() < end {
            if self.world(|world| is_so(world)) {
                return true;
            }
            self.pass(10);
        }
        self.world(|world| is_so(world))
    }

    /// Lets time pass until something is so.
    ///
    /// # Panics
    /// If it is not so in time; the trace is printed.
    pub fn until(&mut self, millis: u64, what: &str, is_so: impl Fn(&World) -> bool) {
        if !self.comes(millis, is_so) {
            self.print();
            panic!("waited {millis} ms for {what}");
        }
    }

    /// An operator's command, by way of whoever leads.
    pub fn operate(&mut self, command: Command) -> Result<Reply, ProposeError> {
        let answer: Slot<Result<Reply, ProposeError>> = Slot::default();
        let (ctx, slot) = (self.ctx.clone(), answer.clone());
        let leader = self.world(|world| world.consensus.leader());
        let Some(leader) = leader else { return Err(ProposeError::NotLeader) };
        self.executor.sim().spawn(Owner::WORLD, async move {
            slot.put(ctx.operate(leader, command).await);
        });
        for _ in 0..600 {
            self.pass(10);
            if let Some(result) = answer.take_now() {
                return result;
            }
        }
        Err(ProposeError::Unknown("no answer to the operator".into()))
    }

    /// The agreed state of the cluster.
    pub fn state(&self) -> ClusterState {
        self.world(|world| world.state()).unwrap_or_else(|| panic!("the cluster is not defined"))
    }

    /// The agreed primary.
    pub fn primary(&self) -> String {
        self.state().primary().map(ToString::to_string).unwrap_or_default()
    }

    /// Where that server is in the definition.
    pub fn ix(&self, name: &str) -> Ix {
        self.world(|world| world.ix(&name.into())).unwrap_or_else(|| panic!("no server {name}"))
    }

    /// Where the present primary is.
    pub fn primary_ix(&self) -> Ix {
        self.ix(&self.primary())
    }

    /// Whoever leads.
    pub fn leader(&self) -> u64 {
        self.world(|world| world.consensus.leader()).unwrap_or_else(|| panic!("nobody leads"))
    }

    /// An operator asks for a failover.
    pub fn wish(&mut self, operator: &str, change: impl FnOnce(&mut Wish)) {
        let mut wish = Wish {
            actor: Actor::Operator { name: operator.into() },
            wanted: None,
            asserted_dead: false,
            interval_waived: false,
            switchover: None,
        };
        change(&mut wish);
        self.world(|world| world.wish(operator, wish));
    }

    /// What operators were told, by all managers.
    pub fn said(&self) -> Vec<String> {
        let said = |world: &mut World| {
            world.managers.values().flat_map(|manager| manager.said.clone()).collect()
        };
        self.world(said)
    }

    /// How many writes were acknowledged since a moment.
    pub fn acknowledged_since(&self, since: Micros) -> usize {
        self.world(|world| {
            world.ledger.acknowledged().filter(|write| write.invoked >= since).count()
        })
    }

    /// Prints the trace.
    pub fn print(&self) {
        self.world(|world| {
            for line in world.trace.iter().flatten() {
                println!("{line}");
            }
        });
    }

    /// Asserts that no invariant was broken so far.
    ///
    /// # Panics
    /// If one was; the trace is printed.
    pub fn check(&self) {
        let violations = self.world(|world| world.checker.violations.clone());
        if !violations.is_empty() {
            self.print();
            panic!("{}", violations.join("\n"));
        }
    }

    /// Lets time pass until everything is as it should be, then asserts that nothing was lost.
    ///
    /// # Panics
    /// If it does not come to be, or an invariant was broken.
    pub fn settle(&mut self, millis: u64) {
        if !self.comes(millis, |world| world.unsettled().is_none()) {
            self.print();
            let why = self.world(|world| world.unsettled()).unwrap_or_default();
            panic!("after {millis} ms: {why}");
        }
        self.check();
        if self.state().definition.mode == Mode::Quorum {
            let lost = self.world(|world| crate::invariant::lost(world, world.primary()));
            assert_eq!(lost, Ok(()));
        }
    }
}

/// Shows the invariants the passing of time.
async fn watch(ctx: Ctx) {
    loop {
        ctx.sim.sleep(TICK).await;
        ctx.world().emit(Event::Tick);
    }
}

impl World {
    /// The first server is primary, the others follow it.
    fn start_servers(&mut self) {
        let definition = self.definition.clone();
        let acks = if definition.mode == Mode::Quorum { definition.acks } else { 0 };
        let source = self.servers[0].address.clone();
        for ix in 1..self.servers.len() {
            self.servers[ix].link = Some(Link::new(source.clone(), LinkOptions::default()));
            self.servers[ix].semi.replica = acks > 0 && definition.servers[ix].acker;
            self.start_receiver(ix);
            self.start_applier(ix);
        }
        let primary = &mut self.servers[0];
        primary.set_semi_source(acks > 0, acks);
        primary.read_only = false;
        primary.super_read_only = false;
        if let Some(vip) = &definition.writer {
            self.hosts[0].vips.insert(vip.address.clone());
        }
        self.network.announced = Some(0);
    }

    /// What is not yet as it should be; `None`: one writable primary with its address, and every
    /// other server that runs follows it or waits in quarantine for a reason.
    pub fn unsettled(&self) -> Option<String> {
        let state = self.state()?;
        let ix = self.primary();
        let primary = &self.servers[ix];
        let name = &self.names[ix];
        if let Some(open) = &state.attempt {
            return Some(format!("{} is open in stage {}", open.id, open.stage.code()));
        }
        if !primary.is_serving() || !primary.is_writable() {
            return Some(format!("primary {name} does not take writes"));
        }
        if self.definition.writer.is_some() && self.answers_at_writer(Node::Client) != Some(ix) {
            return Some(format!("the writer address is not at {name}"));
        }
        let (is_quorum, wanted) = (state.definition.mode == Mode::Quorum, state.definition.acks);
        // Fewer cannot be made to wait for more.
        let here = primary.dumps.values().filter(|dump| dump.is_semi).count();
        let is_possible = here >= wanted as usize;
        if let Some(regime) = state.regime().filter(|_| is_quorum && is_possible)
            && (regime.acks != wanted || primary.semi.acks != wanted)
        {
            let (agreed, set) = (regime.acks, primary.semi.acks);
            return Some(format!("{wanted} are to acknowledge, {agreed} are agreed, {set} set"));
        }
        let others = (0..self.servers.len()).filter(|other| *other != ix);
        others.filter_map(|other| self.unsettled_replica(&state, ix, other)).next()
    }

    fn unsettled_replica(&self, state: &ClusterState, primary: Ix, ix: Ix) -> Option<String> {
        let (name, server) = (&self.names[ix], &self.servers[ix]);
        let source = &self.servers[primary];
        if !server.is_running || !self.hosts[ix].is_up {
            return None;
        }
        if server.is_writable() {
            return Some(format!("{name} takes writes"));
        }
        let standing = &state.members.get(name)?.standing;
        if let Standing::Quarantined { findings, saved, .. } = standing {
            let extra = server.received().minus(&source.executed());
            let is_applied = extra.is_subset(&server.executed());
            return match findings {
                _ if extra.is_empty() => Some(format!("{name} is quarantined without a reason")),
                None if is_applied => Some(format!("{name} was not examined")),
                Some(_) if saved.is_none() && self.hosts[ix].has_ssh => {
                    Some(format!("what {name} has extra was not saved"))
                }
                None | Some(_) => None,
            };
        }
        if *standing != Standing::Member {
            return Some(format!("{name} was not readmitted"));
        }
        let Some(link) = &server.link else { return Some(format!("{name} has no source")) };
        if link.source != source.address {
            return Some(format!("{name} follows {:?}", link.source));
        }
        if link.receiver != Receiver::On || link.applier != Applier::On {
            return Some(format!("{name} does not replicate"));
        }
        let regime = state.regime()?;
        let is_wanted = state.definition.ackers_of(&regime.primary).contains(name);
        let is_so = (regime.ackers.contains(name), server.is_acker());
        // One too many is kept while the others are too few.
        let wanted = state.definition.ackers_of(&regime.primary);
        let others = wanted.iter().filter_map(|name| self.ix(name));
        let acknowledge = others.filter(|ix| self.servers[*ix].is_acker_of(primary));
        let is_needed = acknowledge.count() < regime.acks as usize;
        let is_right = is_so == (is_wanted, is_wanted) || is_needed && is_so == (true, true);
        if state.definition.mode == Mode::Quorum && !is_right {
            return Some(format!("{name} is to acknowledge: {is_wanted}; logged, does: {is_so:?}"));
        }
        let lacks: GtidSet = source.executed().minus(&server.executed());
        // A few are always on their way.
        (lacks.count() > 50).then(|| format!("{name} lacks {lacks}"))
    }

    /// kill -9 of mysqld.
    pub fn kill_server(&mut self, ix: Ix) {
        self.note(|world| format!("FAULT kill {}", world.names[ix]));
        self.servers[ix].crash();
    }

    /// Starts mysqld, unless it runs, its unit is masked, or its host has no power.
    pub fn start_server(&mut self, ix: Ix) {
        let now = self.sim.now();
        if !self.servers[ix].is_running && self.hosts[ix].is_up && !self.hosts[ix].is_masked {
            self.note(|world| format!("FAULT {} is started again", world.names[ix]));
            self.servers[ix].start(now);
        }
    }

    /// An orderly shutdown of mysqld: whoever waits for acknowledgements is answered OK.
    pub fn shut_down_server(&mut self, ix: Ix) {
        self.note(|world| format!("FAULT {} is shut down in order", world.names[ix]));
        self.servers[ix].shut_down();
    }

    /// SIGSTOP of mysqld.
    pub fn hang_server(&mut self, ix: Ix) {
        self.note(|world| format!("FAULT stop {}", world.names[ix]));
        self.servers[ix].is_hung = self.servers[ix].is_running;
        self.servers[ix].changed();
    }

    /// SIGCONT of mysqld.
    pub fn resume_server(&mut self, ix: Ix) {
        self.note(|world| format!("FAULT {} goes on", world.names[ix]));
        self.servers[ix].is_hung = false;
        self.servers[ix].changed();
    }

    /// A host loses its power: silence first, then everything on it is gone.
    pub fn power_off(&mut self, ix: Ix) {
        self.note(|world| format!("FAULT host of {} loses its power", world.names[ix]));
        self.network.power(Node::Host(ix), false);
        self.hosts[ix].is_up = false;
        self.hosts[ix].vips.clear();
        if self.network.announced == Some(ix) {
            self.network.announced = None;
        }
        self.servers[ix].crash();
    }

    /// A host has power again; mysqld starts with it unless it is masked.
    pub fn power_on(&mut self, ix: Ix) {
        self.note(|world| format!("FAULT host of {} has power", world.names[ix]));
        self.network.power(Node::Host(ix), true);
        self.hosts[ix].is_up = true;
        self.start_server(ix);
    }

    /// A person unmasks the unit and starts mysqld.
    pub fn unmask(&mut self, ix: Ix) {
        self.hosts[ix].is_masked = false;
        self.start_server(ix);
    }
}
