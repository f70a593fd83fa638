//! What the group has agreed on: one value, changed only by [`GroupState::apply`].
//!
//! `apply` is pure and re-checks its own guard: every command is a compare-and-set that may be
//! answered with a [`Rejection`]. It touches no server, hook, clock or random number.

mod apply;
mod cluster;
mod command;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use cluster::{ClusterState, LastFailover, Member, Pause, Standing};
pub use command::{Command, Planned, Reply};
use serde::{Deserialize, Serialize};

use crate::model::{ClusterName, Rejection};

/// The replicated state of the group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupState {
    /// Version of this structure as stored; [`GroupState::FORMAT`].
    pub format: u32,
    /// Replicated time: milliseconds the group has been led. Never runs back; downtime of the
    /// group does not count as passed (SAFETY invariant 12).
    pub clock_ms: u64,
    /// The clusters that the group looks after.
    pub clusters: BTreeMap<ClusterName, ClusterState>,
}

impl Default for GroupState {
    fn default() -> Self {
        Self { format: Self::FORMAT, clock_ms: 0, clusters: BTreeMap::new() }
    }
}

impl GroupState {
    /// The stored format this code writes, and the only one it reads.
    pub const FORMAT: u32 = 1;

    /// Most clusters in one group.
    pub const CLUSTERS: usize = 4096;

    /// Applies one committed command. `index` and `term` are the log entry's own.
    pub fn apply(&mut self, index: u64, term: u64, command: Command) -> Reply {
        match self.try_apply(index, crate::model::Term(term), command) {
            Ok(reply) => reply,
            Err(rejection) => Reply::Rejected { rejection },
        }
    }

    /// The cluster of that name.
    ///
    /// # Errors
    /// [`Rejection::NoSuchCluster`].
    pub fn cluster(&self, name: &ClusterName) -> Result<&ClusterState, Rejection> {
        self.clusters
            .get(name)
            .ok_or_else(|| Rejection::NoSuchCluster { cluster: name.to_string() })
    }
}
