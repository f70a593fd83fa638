//! What did the clients see, and was any of it a lie?
//!
//! An operation is judged by when it was *invoked*: an acknowledgement may arrive late without
//! harm, a commit that begins after another server has taken over must not be acknowledged.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::host::Host;

/// The machine's monotonic clock in microseconds. All processes and hosts of a lab share it.
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the kernel has this clock");
    now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1000
}

/// How an operation ended, as far as the client can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Acknowledged: the row must never be lost.
    Ok,
    /// Refused: the row must not exist.
    Fail,
    /// The connection broke, or the deadline passed: the row may or may not exist, now or later.
    Unknown,
}

/// One insert of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// The row's primary key, unique among all clients of the lab.
    pub id: u64,
    /// Number of the client's connection loop, from 0.
    pub conn: u32,
    /// When the statement was sent, see [`now_us`].
    pub invoked_us: u64,
    /// When the outcome was known, see [`now_us`].
    pub completed_us: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What the server or the connection said, unless it is `Ok`.
    pub error: Option<String>,
    /// The server that the connection led to.
    pub server_id: u32,
}

/// A table that clients of the lab write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub enum Table {
    /// `app.t`, for writers through a VIP.
    T,
    /// `app.w`, for watchers of a single server.
    W,
}

impl Table {
    /// The table's full name.
    pub fn name(self) -> &'static str {
        match self {
            Table::T => "app.t",
            Table::W => "app.w",
        }
    }
}

/// All operations of one client, in the order of their completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The table that the client wrote to.
    pub table: Table,
    /// The operations.
    pub ops: Vec<Op>,
}

impl History {
    /// The acknowledged operations.
    pub fn acked(&self) -> impl Iterator<Item = &Op> {
        self.ops.iter().filter(|op| op.outcome == Outcome::Ok)
    }

    /// The acknowledged operation that was invoked at or after a time and completed first.
    pub fn first_ok_after(&self, us: u64) -> Option<&Op> {
        first_ok_after(&self.ops, us)
    }

    /// The longest time without an acknowledgement between two acknowledgements.
    pub fn longest_gap(&self) -> Duration {
        let times: Vec<u64> = self.acked().map(|op| op.completed_us).collect();
        let longest = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max();
        Duration::from_micros(longest.unwrap_or(0))
    }
}

pub(crate) fn first_ok_after(ops: &[Op], us: u64) -> Option<&Op> {
    let after = ops.iter().filter(|op| op.outcome == Outcome::Ok && op.invoked_us >= us);
    after.min_by_key(|op| op.completed_us)
}

/// The ids of acknowledged rows that a server does not have. Wait until it has applied what it
/// received before asking.
///
/// # Errors
/// The server cannot be asked.
pub fn lost_acked(history: &History, server: &Host) -> Result<Vec<u64>> {
    let wanted: BTreeSet<u64> = history.acked().map(|op| op.id).collect();
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(Vec::new()) };
    let table = history.table.name();
    let found = server.sql_within(
        Duration::from_secs(60),
        &format!("SELECT id FROM {table} WHERE id BETWEEN {first} AND {last}"),
    )?;
    let found: BTreeSet<u64> = found.iter().filter_map(|row| row.first()?.parse().ok()).collect();
    Ok(wanted.difference(&found).copied().collect())
}

/// Proof of two primaries: one server acknowledged before and after an operation that another
/// server took, was sent, and acknowledged in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Double {
    /// The earlier operation on the first server.
    pub before: Op,
    /// The operation on the other server, begun after `before` was acknowledged.
    pub between: Op,
    /// The later operation on the first server, begun after `between` was acknowledged.
    pub after: Op,
}

/// Looks for two servers that acknowledged in turns within `window`, which must be shorter than the
/// time in which the primary may lawfully change twice. One witness per operation in between.
pub fn double(histories: &[History], window: Duration) -> Vec<Double> {
    let window = window.as_micros() as u64;
    let mut acked: Vec<&Op> = histories.iter().flat_map(History::acked).collect();
    acked.sort_by_key(|op| op.completed_us);
    let mut found = Vec::new();
    for (at, between) in acked.iter().enumerate() {
        let other = |op: &&&Op| op.server_id != between.server_id;
        // Completed before it was invoked, the latest of them first.
        let earlier = acked[..at].iter().rev().filter(|op| op.completed_us < between.invoked_us);
        let recent =
            earlier.take_while(|op| between.completed_us - op.completed_us <= window).filter(other);
        for before in recent {
            let later = acked[at + 1..]
                .iter()
                .take_while(|op| op.completed_us - before.completed_us <= window)
                .filter(|op| op.server_id == before.server_id)
                .find(|op| op.invoked_us > between.completed_us);
            if let Some(after) = later {
                found.push(Double {
                    before: (*before).clone(),
                    between: (*between).clone(),
                    after: (*after).clone(),
                });
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(server_id: u32, invoked_us: u64, completed_us: u64) -> Op {
        let outcome = Outcome::Ok;
        Op { id: invoked_us, conn: 0, invoked_us, completed_us, outcome, error: None, server_id }
    }

    fn doubles(ops: &[Op]) -> usize {
        let history = History { table: Table::W, ops: ops.to_vec() };
        double(&[history], Duration::from_micros(100)).len()
    }

    #[test]
    fn one_change_of_the_primary_is_no_double() {
        assert_eq!(doubles(&[op(1, 0, 5), op(1, 10, 15), op(2, 20, 25), op(2, 30, 35)]), 0);
    }

    #[test]
    fn late_acknowledgement_of_an_early_invocation_is_no_double() {
        assert_eq!(doubles(&[op(2, 20, 25), op(1, 10, 28), op(2, 30, 35)]), 0);
    }

    #[test]
    fn commit_begun_on_the_old_primary_after_the_new_one_acknowledged_is_a_double() {
        let ops = [op(1, 0, 5), op(2, 20, 25), op(1, 27, 29), op(2, 30, 35)];
        assert_eq!(doubles(&ops), 2);
    }

    #[test]
    fn two_changes_further_apart_than_the_window_are_no_double() {
        assert_eq!(doubles(&[op(1, 0, 5), op(2, 50, 55), op(1, 200, 205)]), 0);
    }
}
