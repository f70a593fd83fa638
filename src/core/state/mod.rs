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

use crate::model::{ClusterName, Epoch, Rejection};

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
    /// Clusters it looked after once. The locks and turnstiles of their servers have seen those
    /// epochs: a cluster that gets the name again goes on from there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retired: BTreeMap<ClusterName, Retired>,
}

/// What is remembered of a cluster that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Its last epoch.
    pub epoch: Epoch,
    /// Number of the next step.
    pub next_seq: u64,
}

impl Default for GroupState {
    fn default() -> Self {
        Self {
            format: Self::FORMAT,
            clock_ms: 0,
            clusters: BTreeMap::new(),
            retired: BTreeMap::new(),
        }
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
