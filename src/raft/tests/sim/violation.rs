//! What must hold in a simulated run? Each check by its name.

use std::fmt;

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// At most one leader in a term.
    OneLeader,
    /// One entry for a term and index, in whichever log.
    LogMatching,
    /// What was applied at an index stays, and is the same everywhere.
    OneHistory,
    /// The same state wherever the same index is applied.
    OneState,
    /// A proposal that was answered is in the history, where it belongs, with that reply.
    AnsweredStays,
    /// A proposal that was refused is never in it.
    RefusedNever,
    /// No proposal is in it twice.
    AtMostOnce,
    /// A confirmed read holds all that was answered or read before it was asked for.
    FreshRead,
    /// A confirmed term is not lower than any that answered before.
    TermsInOrder,
    /// No manager stops by itself.
    KeepsRunning,
    /// Once the faults are off, everybody agrees, and decides again.
    Converges,
    /// The log stays short.
    Compacted,
}

/// A check that found something.
#[derive(Clone, Debug)]
pub struct Violation {
    pub check: Check,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.check, self.what)
    }
}

pub fn violated<T>(check: Check, what: String) -> Result<T, Violation> {
    Err(Violation { check, what })
}
