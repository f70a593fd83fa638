//! Statements on their way to a server and back.
//!
//! A request is carried by the network, not by its sender: once sent, it takes effect even if the
//! sender is stopped or dead by then. What protects a server from it is that its session is ended.

use conclave_core::{
    model::{LinkOptions, Receiver, ServerFacts, Setting, Token, Trail},
    ports::{PortError, SqlAction, Trouble},
};

use crate::{
    clock::{Micros, Owner, Slot},
    invariant::Event,
    network::{Ix, Node},
    server::{Link, Session, Told, account},
    world::{Ctx, World},
};

/// How long the kernel goes on sending what nobody waits for any more.
const LINGER: Micros = 15_000_000;

/// `lock_wait_timeout` of a manager's session.
const LOCK_WAIT: Micros = 1_000_000;

/// Between two attempts of a statement to get such a lock.
pub const RETRY: Micros = 20_000;

/// What a statement comes to when it is executed.
pub enum Answer<T> {
    /// It is done, or it failed.
    Now(Result<T, PortError>),
    /// It waits for a lock inside the server; tried again.
    Blocked,
    /// It waits for acknowledgements.
    Later(Slot<Result<T, PortError>>),
}

/// A session as its manager holds it.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    /// The server.
    pub server: Ix,
    /// Its incarnation.
    pub boot: u64,
    /// The session's number there.
    pub id: u64,
    /// Who acts.
    pub token: Token,
}

fn gone() -> PortError {
    PortError::unknown(Trouble::Refused, "the connection was closed by the server")
}

impl Ctx {
    /// Sends a request and waits for its answer until then.
    pub async fn request<T: Send + 'static>(
        &self,
        from: Node,
        to: Ix,
        until: Micros,
        mut work: impl FnMut(&mut World) -> Answer<T> + Send + 'static,
    ) -> Result<T, PortError> {
        let answer: Slot<Result<T, PortError>> = Slot::default();
        let (ctx, reply) = (self.clone(), answer.clone());
        self.sim.spawn(Owner::WORLD, async move {
            let there = Node::Host(to);
            if !ctx.travel(from, there, until.saturating_add(LINGER)).await {
                return;
            }
            let service = ctx.world().rng.range(200, 900);
            ctx.sim.sleep(service).await;
            while ctx.world().servers[to].is_hung {
                ctx.wakes(to).await;
            }
            let give_up = ctx.sim.now() + LOCK_WAIT;
            let result = loop {
                let is_running = ctx.world().servers[to].is_running;
                let result = match is_running {
                    true => work(&mut ctx.world()),
                    false => Answer::Now(Err(PortError::not_done(
                        Trouble::Refused,
                        "connection refused",
                    ))),
                };
                match result {
                    Answer::Now(result) => break result,
                    Answer::Later(slot) => break slot.take().await,
                    Answer::Blocked if ctx.sim.now() >= give_up => {
                        let why = "error 1205: lock wait timeout exceeded";
                        break Err(PortError::not_done(Trouble::Answered, why));
                    }
                    Answer::Blocked => ctx.sim.sleep(RETRY).await,
                }
            };
            if ctx.travel(there, from, until.saturating_add(LINGER)).await {
                reply.put(result);
            }
        });
        let silent = || PortError::unknown(Trouble::Silent, "no answer in time");
        self.sim.within(until, answer.take()).await.unwrap_or_else(|| Err(silent()))
    }

    /// A look over a connection of its own.
    pub async fn look(&self, from: Node, to: Ix, until: Micros) -> Result<ServerFacts, PortError> {
        let sim = self.sim.clone();
        let look = move |world: &mut World| Answer::Now(Ok(world.servers[to].facts(sim.now())));
        self.request(from, to, until, look).await
    }

    /// Opens a session, ends the session of an older actor, and takes the named lock.
    pub async fn lock(
        &self,
        manager: u64,
        to: Ix,
        token: Token,
        until: Micros,
    ) -> Result<Handle, PortError> {
        let take = move |world: &mut World| {
            let id = world.number();
            let server = &mut world.servers[to];
            if let Some((old, holder)) =
                server.holder.and_then(|old| Some((old, *server.sessions.get(&old)?)))
            {
                if holder.token > token {
                    let why = format!("the lock is held for {}", holder.token);
                    return Answer::Now(Err(PortError::not_done(Trouble::Superseded, why)));
                }
                server.end_session(old);
            }
            server.sessions.insert(id, Session { token, manager });
            server.holder = Some(id);
            let handle = Handle { server: to, boot: server.boot, id, token };
            world.emit(Event::Locked { server: to, token });
            Answer::Now(Ok(handle))
        };
        self.request(Node::Manager(manager), to, until, take).await
    }

    /// A look over a session.
    pub async fn look_over(
        &self,
        manager: u64,
        handle: Handle,
        until: Micros,
    ) -> Result<ServerFacts, PortError> {
        let sim = self.sim.clone();
        let look = move |world: &mut World| {
            Answer::Now(match world.is_open(handle) {
                true => Ok(world.servers[handle.server].facts(sim.now())),
                false => Err(gone()),
            })
        };
        self.request(Node::Manager(manager), handle.server, until, look).await
    }

    /// The server's own logs, over a session.
    pub async fn trail_over(
        &self,
        manager: u64,
        handle: Handle,
        until: Micros,
    ) -> Result<Trail, PortError> {
        let read = move |world: &mut World| {
            Answer::Now(match world.is_open(handle) {
                true => Ok(world.servers[handle.server].trail()),
                false => Err(gone()),
            })
        };
        self.request(Node::Manager(manager), handle.server, until, read).await
    }

    /// A statement over a session.
    pub async fn act(
        &self,
        manager: u64,
        handle: Handle,
        action: SqlAction,
        until: Micros,
    ) -> Result<(), PortError> {
        let sent = self.sim.now();
        let act = move |world: &mut World| {
            if !world.is_open(handle) {
                return Answer::Now(Err(gone()));
            }
            if world.is_blocked(handle.server, &action) {
                world.servers[handle.server].closing = Some(world.sim.now());
                return Answer::Blocked;
            }
            let (server, token) = (handle.server, handle.token);
            world.emit(Event::Acting { server, token, action: action.clone(), sent });
            let answer = world.execute(server, &action);
            world.servers[server].changed();
            world.note(|world| {
                let end = match &answer {
                    Answer::Now(Ok(())) => String::new(),
                    Answer::Now(Err(error)) => format!(": {error}"),
                    Answer::Blocked | Answer::Later(_) => ": waits".into(),
                };
                format!("m{manager} {token} {} {action:?}{end}", world.names[server])
            });
            world.emit(Event::Acted { server, token, action: action.clone() });
            answer
        };
        self.request(Node::Manager(manager), handle.server, until, act).await
    }

    /// The manager's side of a session is closed: so is the server's, if that is heard.
    pub fn close(&self, manager: u64, handle: Handle) {
        let ctx = self.clone();
        self.sim.spawn(Owner::WORLD, async move {
            let until = ctx.sim.now() + LINGER;
            if ctx.travel(Node::Manager(manager), Node::Host(handle.server), until).await {
                // A stopped server reads what was said before it reads that nobody listens.
                while ctx.world().servers[handle.server].is_hung {
                    ctx.wakes(handle.server).await;
                }
                let server = &mut ctx.world().servers[handle.server];
                if server.boot == handle.boot {
                    server.end_session(handle.id);
                }
            }
        });
    }
}

impl World {
    fn is_open(&self, handle: Handle) -> bool {
        let server = &self.servers[handle.server];
        server.boot == handle.boot && server.sessions.contains_key(&handle.id)
    }

    /// [`SET GLOBAL read_only` blocks behind commits that wait for acknowledgements. Those that have
    /// been cut while they wait are in its way as before.]
    fn is_blocked(&self, at: Ix, action: &SqlAction) -> bool {
        matches!(action, SqlAction::SetReadOnly | SqlAction::CloseForWrites { .. })
            && !self.servers[at].waits.is_empty()
    }

    fn execute(&mut self, at: Ix, action: &SqlAction) -> Answer<()> {
        if let SqlAction::WriteMarker { .. } = action {
            return self.write_marker(at);
        }
        Answer::Now(self.set(at, action))
    }

    /// [A transaction like any other: it waits for acknowledgements, too.]
    fn write_marker(&mut self, at: Ix) -> Answer<()> {
        if self.servers[at].super_read_only {
            return Answer::Now(Err(answered("error 1290: running with --super-read-only")));
        }
        let (told, slot): (Told, Slot<_>) = Default::default();
        let id = self.number();
        self.servers[at].commit(Some((id, told.clone())));
        let reply = slot.clone();
        self.sim.spawn(Owner::WORLD, async move {
            reply.put(told.take().await.map(drop).map_err(|_| gone()));
        });
        Answer::Later(slot)
    }

    fn set(&mut self, at: Ix, action: &SqlAction) -> Result<(), PortError> {
        match action {
            SqlAction::StopReceiver => self.with_link(at, Link::stop_receiver),
            SqlAction::StopReplica => self.with_link(at, |link| {
                link.stop_receiver();
                link.stop_applier();
            }),
            SqlAction::StopApplier => self.with_link(at, Link::stop_applier),
            SqlAction::StartReceiver => self.start(at, true, false),
            SqlAction::StartApplier => self.start(at, false, true),
            SqlAction::StartReplica => self.start(at, true, true),
            SqlAction::ForgetSource => self.forget(at),
            SqlAction::ApplyRescued { .. } => self.apply_rescued(at),
            SqlAction::DropRescued => {
                (self.servers[at].rescue, self.servers[at].rescued) = (None, None);
                Ok(())
            }
            SqlAction::ChangeSource { host, port, options, .. } => {
                self.change_source(at, (host.clone(), *port), options.as_ref())
            }
            SqlAction::SetSemiSyncReplica { on } => {
                self.servers[at].semi.replica = *on;
                Ok(())
            }
            SqlAction::SetSemiSyncSource { on, acks } => {
                self.servers[at].set_semi_source(*on, *acks);
                Ok(())
            }
            SqlAction::SetWritable => {
                self.servers[at].read_only = false;
                self.servers[at].super_read_only = false;
                Ok(())
            }
            SqlAction::SetReadOnly | SqlAction::CloseForWrites { .. } => {
                self.servers[at].closing = None;
                self.servers[at].read_only = true;
                self.servers[at].super_read_only = true;
                Ok(())
            }
            SqlAction::SetOffline { on } => {
                self.servers[at].set_offline(*on);
                Ok(())
            }
            SqlAction::CutClients => {
                self.servers[at].set_offline(true);
                Ok(())
            }
            SqlAction::AllowRebuild => {
                self.servers[at].super_read_only = false;
                Ok(())
            }
            SqlAction::Clone { host, .. } => self.clone_from(at, host),
            // [Not in the binary log: it waits for nobody.]
            SqlAction::LockAccount { account } => {
                self.of_account(account)?.into_iter().for_each(|ix| self.servers[at].lock_out(ix));
                Ok(())
            }
            SqlAction::UnlockAccount { account } => {
                let ix = self.of_account(account)?;
                self.servers[at].locked.retain(|locked| Some(*locked) != ix);
                Ok(())
            }
            SqlAction::Persist { setting } => {
                self.servers[at].boots_read_only |= *setting == Setting::BootReadOnly;
                Ok(())
            }
            SqlAction::WriteMarker { .. } => Ok(()),
        }
    }

    /// [Refused while `super_read_only` is on; at its end the server stops.]
    fn clone_from(&mut self, at: Ix, host: &str) -> Result<(), PortError> {
        if self.servers[at].super_read_only {
            return Err(answered("error 1290: running with --super-read-only"));
        }
        let from = self.servers.iter().position(|server| server.address.0 == host);
        let from = from.filter(|from| self.servers[*from].is_serving());
        let Some(from) = from else { return Err(answered("error 3862: clone donor error")) };
        let (executed, binlog, link) = self.servers[from].copy();
        self.servers[at].replace_data(executed, binlog, link);
        Ok(())
    }

    /// The server that logs in with that account.
    fn of_account(&self, wanted: &str) -> Result<Option<Ix>, PortError> {
        let ix = (0..self.servers.len()).find(|ix| account(*ix) == wanted);
        ix.map(Some).ok_or_else(|| answered("error 1396: there is no such account"))
    }

    fn with_link(&mut self, at: Ix, act: impl FnOnce(&mut Link)) -> Result<(), PortError> {
        if let Some(link) = self.servers[at].link.as_mut() {
            act(link);
        }
        Ok(())
    }

    fn start(&mut self, at: Ix, receiver: bool, applier: bool) -> Result<(), PortError> {
        if self.servers[at].link.is_none() {
            return Err(answered("error 1200: the server is not configured as replica"));
        }
        if receiver {
            self.start_receiver(at);
        }
        if applier {
            self.start_applier(at);
        }
        Ok(())
    }

    fn forget(&mut self, at: Ix) -> Result<(), PortError> {
        match self.is_replicating(at) {
            true => Err(answered("error 3081: this operation cannot run with replica threads on")),
            false => {
                self.servers[at].link = None;
                Ok(())
            }
        }
    }

    /// [CHANGE throws received, unapplied events away.]
    fn change_source(
        &mut self,
        at: Ix,
        source: (String, u16),
        options: Option<&LinkOptions>,
    ) -> Result<(), PortError> {
        if self.is_replicating(at) {
            return Err(answered("error 3081: this operation cannot run with replica threads on"));
        }
        let kept = self.servers[at].link.as_ref().map(|link| link.options.clone());
        let options = options.cloned().or(kept).unwrap_or_default();
        self.servers[at].link = Some(Link::new(source, options));
        Ok(())
    }

    fn is_replicating(&self, at: Ix) -> bool {
        self.servers[at].link.as_ref().is_some_and(|link| {
            link.receiver != Receiver::Off || link.applier == conclave_core::model::Applier::On
        })
    }
}

fn answered(why: &str) -> PortError {
    PortError::not_done(Trouble::Answered, why)
}
