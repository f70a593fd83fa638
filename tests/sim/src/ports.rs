//! The core's ports, plugged into the simulated world.

use conclave_core::{
    model::{
        ClusterName, DiskLog, GtidSet, Micros as Span, Mono, ServerFacts, StepId, Survey, Token,
        Trail,
    },
    ports::{
        Clock, Consensus, HookOrder, Hooks, Logs, Mysql, Place, PortError, Ports, ProposeError,
        Remote, RemoteCommand, RescueOrder, Session, SqlAction, Trouble,
    },
    state::{Command, Reply},
};

use crate::{
    ambush::Moment,
    clock::{Micros, Owner},
    network::{Ix, Node},
    sql::Handle,
    world::Ctx,
};

/// A command that has not begun on its host by then is refused there.
pub(crate) const START: Micros = 2_000_000;

/// One manager process's way to the outside, for one step.
#[derive(Clone)]
pub struct SimPorts {
    /// The world.
    pub ctx: Ctx,
    /// The manager.
    pub manager: u64,
    /// Its process.
    pub owner: Owner,
    /// Its clock runs ahead of the world's by this.
    pub ahead: Micros,
    /// The step.
    pub step: StepId,
}

impl SimPorts {
    fn until(&self, deadline: Mono) -> Micros {
        deadline.0.saturating_sub(self.ahead)
    }

    fn ix(&self, place: &Place) -> Result<Ix, PortError> {
        let ix = self.ctx.world().ix(&place.server.name);
        ix.ok_or_else(|| PortError::not_done(Trouble::Local, "no such server"))
    }

    async fn moment(&self, moment: Moment) {
        self.ctx.moment(self.manager, self.owner, moment, self.step).await;
    }
}

impl Ports for SimPorts {
    type Mysql = Self;
    type Remote = Self;
    type Logs = Self;
    type Hooks = Self;
    type Consensus = Self;
    type Clock = Self;

    fn mysql(&self) -> &Self {
        self
    }

    fn remote(&self) -> &Self {
        self
    }

    fn logs(&self) -> &Self {
        self
    }

    fn hooks(&self) -> &Self {
        self
    }

    fn consensus(&self) -> &Self {
        self
    }

    fn clock(&self) -> &Self {
        self
    }

    fn progressed(&self, _: &ClusterName) {
        let now = self.now();
        let mut world = self.ctx.world();
        if let Some(manager) = world.managers.get_mut(&self.manager) {
            manager.progressed(now);
        }
    }

    fn has_stalled_since(&self, since: Mono) -> bool {
        let now = self.now();
        let world = self.ctx.world();
        world.managers.get(&self.manager).is_some_and(|me| me.has_stalled_since(since, now))
    }
}

impl Clock for SimPorts {
    fn now(&self) -> Mono {
        Mono(self.ctx.sim.now() + self.ahead)
    }

    async fn sleep(&self, span: Span) {
        self.ctx.sim.sleep(span.0).await;
    }
}

impl Consensus for SimPorts {
    async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        if let Command::BeginStep { .. } = &command {
            self.moment(Moment::BeforeCommit).await;
        }
        if let Command::EndStep { .. } = &command {
            self.moment(Moment::BeforeClosingCommit).await;
        }
        self.ctx.propose(self.manager, command).await
    }
}

impl Mysql for SimPorts {
    type Session = SimSession;

    async fn lock(
        &self,
        place: &Place,
        token: Token,
        deadline: Mono,
    ) -> Result<SimSession, PortError> {
        self.moment(Moment::BeforeLock).await;
        let ix = self.ix(place)?;
        let handle = self.ctx.lock(self.manager, ix, token, self.until(deadline)).await?;
        Ok(SimSession { ports: self.clone(), handle, has_acted: false })
    }

    async fn look(&self, place: &Place, deadline: Mono) -> Result<ServerFacts, PortError> {
        let ix = self.ix(place)?;
        self.ctx.look(Node::Manager(self.manager), ix, self.until(deadline)).await
    }

    /// Nobody is ever busy for long.
    async fn survey(&self, place: &Place, deadline: Mono) -> Result<Survey, PortError> {
        self.look(place, deadline).await.map(|_| Survey::default())
    }
}

/// A locked connection; closed when dropped.
pub struct SimSession {
    ports: SimPorts,
    handle: Handle,
    has_acted: bool,
}

impl Session for SimSession {
    async fn look(&mut self, deadline: Mono) -> Result<ServerFacts, PortError> {
        if self.has_acted {
            self.ports.moment(Moment::BeforeReadBack).await;
        }
        let until = self.ports.until(deadline);
        self.ports.ctx.look_over(self.ports.manager, self.handle, until).await
    }

    async fn trail(&mut self, _: &GtidSet, deadline: Mono) -> Result<Trail, PortError> {
        let until = self.ports.until(deadline);
        self.ports.ctx.trail_over(self.ports.manager, self.handle, until).await
    }

    async fn act(&mut self, action: &SqlAction, deadline: Mono) -> Result<Vec<String>, PortError> {
        self.ports.moment(Moment::BeforeAct).await;
        let until = self.ports.until(deadline);
        let act = self.ports.ctx.act(self.ports.manager, self.handle, action.clone(), until);
        let result = act.await;
        self.has_acted = true;
        result.map(|()| Vec::new())
    }
}

impl Drop for SimSession {
    fn drop(&mut self) {
        self.ports.ctx.close(self.ports.manager, self.handle);
    }
}

impl Remote for SimPorts {
    async fn run(
        &self,
        place: &Place,
        token: Token,
        command: &RemoteCommand,
        deadline: Mono,
    ) -> Result<String, PortError> {
        let until = self.until(deadline);
        // Whatever befalls it from here on, the host knows by when the command has to begin.
        let start_by = until.min(self.ctx.sim.now() + START);
        self.moment(Moment::BeforeAct).await;
        let ix = self.ix(place)?;
        self.ctx.remote(self.manager, ix, token, command.clone(), (start_by, until)).await
    }
}

impl Logs for SimPorts {
    async fn read(
        &self,
        place: &Place,
        known: &GtidSet,
        patience: Span,
        told: &(dyn Fn() + Send + Sync),
    ) -> Result<DiskLog, PortError> {
        self.moment(Moment::BeforeAct).await;
        let ix = self.ix(place)?;
        let until = self.ctx.sim.now() + patience.0;
        let log = self.ctx.read_log(self.manager, ix, known.clone(), until).await?;
        told();
        Ok(log)
    }

    async fn carry(
        &self,
        order: &RescueOrder,
        patience: Span,
        told: &(dyn Fn() + Send + Sync),
    ) -> Result<String, PortError> {
        self.moment(Moment::BeforeAct).await;
        let ends = (self.ix(&order.from)?, self.ix(&order.to)?);
        let until = self.ctx.sim.now() + patience.0;
        let kept = self.ctx.carry(self.manager, ends, order, until).await?;
        told();
        Ok(kept)
    }

    async fn discard(&self, order: &RescueOrder, deadline: Mono) -> Result<(), PortError> {
        let ix = self.ix(&order.to)?;
        let until = self.until(deadline);
        let start_by = until.min(self.ctx.sim.now() + START);
        let command = RemoteCommand::DropKept { prefix: "/data/kept".into() };
        self.ctx.remote(self.manager, ix, order.token, command, (start_by, until)).await.map(drop)
    }
}

/// A script that takes its time, and now and then fails or hangs, as the world wants it.
impl Hooks for SimPorts {
    async fn call(&self, order: &HookOrder, deadline: Mono) -> Result<String, PortError> {
        self.moment(Moment::BeforeAct).await;
        let (fails, hangs) = {
            let mut world = self.ctx.world();
            *world.calls.entry(order.step).or_default() += 1;
            let (fails, hangs) = world.hook_trouble;
            (world.rng.chance(fails), world.rng.chance(hangs))
        };
        if hangs {
            let until = self.until(deadline).saturating_sub(self.ctx.sim.now());
            self.ctx.sim.sleep(until).await;
            return Err(PortError::unknown(Trouble::Silent, "killed at its deadline"));
        }
        self.ctx.sim.sleep(20_000).await;
        match fails {
            true => Err(PortError::not_done(Trouble::Answered, "exit status 1")),
            false => Ok("told".into()),
        }
    }
}
