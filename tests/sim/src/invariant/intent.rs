//! Invariant 2: nothing outside is touched before the beginning of its step is in the log.

use std::collections::BTreeSet;

use conclave_core::{
    model::{StepId, Term, Token},
    state::{Command, Reply},
};

use super::{Event, Invariant};
use crate::world::World;

/// The steps that have begun, and in which terms.
#[derive(Default)]
pub struct Intent {
    begun: BTreeSet<(StepId, Term)>,
}

impl Intent {
    fn check(&self, token: Token, what: String) -> Result<(), String> {
        let step = StepId { epoch: token.epoch, seq: token.seq };
        // A leader that was deposed and elected again in between commits in its newer term.
        let mut runs = self.begun.range((step, token.term)..=(step, Term(u64::MAX)));
        match runs.next() {
            Some(_) => Ok(()),
            None => Err(format!("{what} of step {step} by {token}, which had not begun")),
        }
    }
}

impl Invariant for Intent {
    fn name(&self) -> &'static str {
        "intent"
    }

    fn see(&mut self, event: &Event, _: &World) -> Result<(), String> {
        match event {
            Event::Committed {
                term,
                command: Command::BeginStep { step, .. },
                reply: Reply::Ok,
                ..
            } => {
                self.begun.insert((*step, Term(*term)));
                Ok(())
            }
            Event::Acting { token, action, .. } => self.check(*token, format!("{action:?}")),
            Event::RemoteActing { token, command, .. } => {
                self.check(*token, format!("{command:?}"))
            }
            Event::Committed { .. }
            | Event::Locked { .. }
            | Event::Acted { .. }
            | Event::Acknowledged { .. }
            | Event::Tick => Ok(()),
        }
    }
}
