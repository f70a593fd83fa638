//! What must hold at every moment, one file per invariant of SAFETY.md. Each watches everything
//! that happens and knows the whole world, so it judges by what *is*, not by what anybody believes.

mod account;
mod ackers;
mod agreed;
mod applied;
mod candidate;
mod coverage;
mod discard;
mod establish;
mod identity;
mod intent;
mod no_return;
mod one_attempt;
mod one_primary;
mod proved;
mod readmission;
mod recruited;
mod stale;
mod time;
mod two_keys;

use std::sync::Arc;

use conclave_core::{
    model::{ClusterName, Mode, StepId, StepKind, Token},
    ports::{RemoteCommand, SqlAction},
    state::{Command, GroupState, Reply},
};

pub(crate) use coverage::lost;

use crate::{client::Write, clock::Micros, network::Ix, world::World};

/// Something that happened, or is about to.
#[derive(Clone, Debug)]
pub enum Event {
    /// The group agreed on a command.
    Committed {
        /// Its place in the log.
        index: u64,
        /// Its term.
        term: u64,
        /// The command.
        command: Command,
        /// What `apply` answered.
        reply: Reply,
        /// The state before.
        before: Arc<GroupState>,
        /// The state after.
        state: Arc<GroupState>,
    },
    /// A session got a server's named lock.
    Locked {
        /// The server.
        server: Ix,
        /// The actor.
        token: Token,
    },
    /// A statement is about to take effect.
    Acting {
        /// The server.
        server: Ix,
        /// The actor.
        token: Token,
        /// The statement.
        action: SqlAction,
        /// When it was sent: what it rests on was seen before.
        sent: Micros,
    },
    /// A statement has taken effect.
    Acted {
        /// The server.
        server: Ix,
        /// The actor.
        token: Token,
        /// The statement.
        action: SqlAction,
    },
    /// A command has passed a turnstile and is about to take effect.
    RemoteActing {
        /// The host.
        host: Ix,
        /// The actor.
        token: Token,
        /// The command.
        command: RemoteCommand,
    },
    /// A client was told OK.
    Acknowledged {
        /// The write.
        write: Write,
    },
    /// Time has passed.
    Tick,
}

/// One invariant.
trait Invariant: Send {
    /// Its name; that of its file.
    fn name(&self) -> &'static str;

    /// Looks at what happened; the error says how it is broken.
    fn see(&mut self, event: &Event, world: &World) -> Result<(), String>;
}

/// Most violations that are kept of one run.
const KEPT: usize = 20;

/// All invariants, and how they were broken.
#[derive(Default)]
pub struct Checker {
    all: Vec<Box<dyn Invariant>>,
    /// How they were broken, in order.
    pub violations: Vec<String>,
}

impl Checker {
    /// The invariants that a mode promises.
    pub fn new(mode: Mode) -> Self {
        let mut all: Vec<Box<dyn Invariant>> = vec![
            Box::new(one_attempt::OneAttempt::default()),
            Box::new(intent::Intent::default()),
            Box::new(two_keys::TwoKeys::default()),
            Box::new(recruited::Recruited),
            Box::new(candidate::Candidate),
            Box::new(identity::Identity),
            Box::new(stale::Stale::default()),
            Box::new(applied::Applied),
            Box::new(establish::Establish::default()),
            Box::new(no_return::NoReturn),
            Box::new(readmission::Readmission::default()),
            Box::new(proved::Proved::default()),
            Box::new(discard::Discarded),
            Box::new(time::Time::default()),
        ];
        match mode {
            Mode::Quorum => {
                all.push(Box::new(one_primary::OnePrimary));
                all.push(Box::new(coverage::Coverage::default()));
                all.push(Box::new(ackers::Ackers::default()));
                all.push(Box::new(agreed::Agreed));
            }
            Mode::Fenced => {
                all.push(Box::new(one_primary::OnePrimary));
                all.push(Box::new(account::Account));
            }
            Mode::BestEffort => all.push(Box::new(account::Account)),
        }
        Self { all, violations: Vec::new() }
    }

    /// Shows an event to all.
    pub fn see(&mut self, event: &Event, world: &World) {
        for each in &mut self.all {
            if let Err(how) = each.see(event, world)
                && self.violations.len() < KEPT
            {
                let at = crate::world::stamp(world.sim.now());
                self.violations.push(format!("{} at {}: {how}", each.name(), at.trim()));
            }
        }
    }
}

/// The goal of the step that a token was made for.
fn goal(world: &World, token: Token) -> Option<&StepKind> {
    world.goals.get(&StepId { epoch: token.epoch, seq: token.seq })
}

/// The cluster in a state.
fn of<'a>(
    state: &'a GroupState,
    name: &ClusterName,
) -> Option<&'a conclave_core::state::ClusterState> {
    state.clusters.get(name)
}
