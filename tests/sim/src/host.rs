//! A database host: its power, the service manager's mask, its addresses, and the turnstile, the
//! small command that lets only the newest actor through (SAFETY invariant 6).

use std::collections::BTreeSet;

use conclave_core::{
    model::{Saved, Token},
    ports::{PortError, RemoteCommand, Trouble},
};

use crate::{
    clock::{Micros, Owner, Slot},
    invariant::Event,
    network::{Ix, Node},
    world::{Ctx, World},
};

/// One host.
#[derive(Debug)]
pub struct Host {
    /// It has power.
    pub is_up: bool,
    /// Managers may log in over SSH.
    pub has_ssh: bool,
    /// The data directory is there.
    pub has_disk: bool,
    /// The unit of mysqld is masked: nobody starts it but a person.
    pub is_masked: bool,
    /// Floating addresses it holds.
    pub vips: BTreeSet<String>,
    /// The highest token the turnstile has let through; survives a restart of the host.
    pub highest: Option<Token>,
    /// Somebody is in the turnstile.
    is_busy: bool,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            is_up: true,
            has_ssh: true,
            has_disk: true,
            is_masked: false,
            vips: BTreeSet::new(),
            highest: None,
            is_busy: false,
        }
    }
}

/// How long a login over SSH is waited for.
const LOGIN: Micros = 3_000_000;

/// What a sender's and a host's clock may differ by.
const CLOCK_MARGIN: Micros = 500_000;

/// How long what nobody waits for any more may still arrive.
const LINGER: Micros = 15_000_000;

impl Ctx {
    /// Runs a command through the turnstile of a host. Like a statement, it is carried by the
    /// network: it runs even if its sender is gone by then.
    pub async fn remote(
        &self,
        manager: u64,
        to: Ix,
        token: Token,
        command: RemoteCommand,
        (start_by, until): (Micros, Micros),
    ) -> Result<String, PortError> {
        let (from, there) = (Node::Manager(manager), Node::Host(to));
        let login = until.min(self.sim.now() + LOGIN);
        if !self.world().hosts[to].has_ssh
            || !self.travel(from, there, login).await
            || !self.travel(there, from, login).await
        {
            return Err(PortError::not_done(Trouble::Silent, "no login over SSH in time"));
        }
        let answer: Slot<Result<String, PortError>> = Slot::default();
        let (ctx, reply) = (self.clone(), answer.clone());
        self.sim.spawn(Owner::WORLD, async move {
            if !ctx.travel(from, there, until.saturating_add(LINGER)).await {
                return;
            }
            let result = ctx.turnstile(to, token, &command, start_by).await;
            ctx.world().note(|world| {
                let name = &world.names[to];
                format!("m{manager} {token} host of {name}: {command:?} -> {result:?}")
            });
            if ctx.travel(there, from, until.saturating_add(LINGER)).await {
                reply.put(result);
            }
        });
        let silent = || PortError::unknown(Trouble::Silent, "no answer over SSH in time");
        self.sim.within(until, answer.take()).await.unwrap_or_else(|| Err(silent()))
    }

    async fn turnstile(
        &self,
        at: Ix,
        token: Token,
        command: &RemoteCommand,
        start_by: Micros,
    ) -> Result<String, PortError> {
        while self.world().hosts[at].is_busy {
            self.sim.sleep(2_000).await;
        }
        let work = {
            let mut world = self.world();
            // By the host's own clock, which its sender has read.
            if self.sim.now() > start_by + CLOCK_MARGIN {
                return Err(PortError::not_done(Trouble::Answered, "it came too late"));
            }
            let host = &mut world.hosts[at];
            if let Some(highest) = host.highest.filter(|highest| *highest > token) {
                let why = format!("the turnstile has seen {highest}, this is {token}");
                return Err(PortError::not_done(Trouble::Superseded, why));
            }
            host.highest = Some(token);
            host.is_busy = true;
            world.rng.range(5_000, 40_000)
        };
        self.sim.sleep(work).await;
        let mut world = self.world();
        world.hosts[at].is_busy = false;
        if !world.hosts[at].is_up {
            return Err(PortError::unknown(Trouble::Silent, "the host lost its power"));
        }
        world.emit(Event::RemoteActing { host: at, token, command: command.clone() });
        world.run_command(at, command)
    }
}

impl World {
    fn run_command(&mut self, at: Ix, command: &RemoteCommand) -> Result<String, PortError> {
        Ok(match command {
            RemoteCommand::Fence { vips, .. } => {
                self.hosts[at].is_masked = true;
                self.servers[at].crash();
                vips.iter().for_each(|vip| self.drop_vip(at, &vip.address));
                "masked, killed, addresses dropped".into()
            }
            RemoteCommand::TakeVip { vip } => {
                self.hosts[at].vips.insert(vip.address.clone());
                self.network.announced = Some(at);
                format!("holds and announced {}", vip.address)
            }
            RemoteCommand::StartService { service } => {
                self.unmask(at);
                format!("{service} is active")
            }
            RemoteCommand::Save { name, .. } => {
                format!("{} {} /data.extra/{name}", Saved::WORD, "00".repeat(32))
            }
            RemoteCommand::DropVip { vip } => {
                self.drop_vip(at, &vip.address);
                format!("does not hold {}", vip.address)
            }
            RemoteCommand::PutRescued { upload, .. } => {
                self.put_rescued(at, upload)?;
                "put".into()
            }
            RemoteCommand::DropKept { .. } => "dropped".into(),
        })
    }

    /// An address nobody announced since is found by asking again: whoever holds it answers.
    fn drop_vip(&mut self, at: Ix, address: &str) {
        self.hosts[at].vips.remove(address);
        if self.network.announced == Some(at) {
            self.network.announced =
                self.hosts.iter().position(|host| host.is_up && host.vips.contains(address));
        }
    }
}
