//! Did a server acknowledge an insert that was sent when it was primary no more?
//!
//! A server *reigns* from entry 9 of its own epoch to entry 9 of the next (db1 from the
//! beginning). An insert on its own server that was invoked after the end of one reign and
//! answered before the beginning of the next must not be acknowledged. Judged by when it was
//! invoked: an acknowledgement that was on its way at the revocation may come late without harm.
//!
//! The record says which epochs passed entry 9, and when a leader *proposed* it, counted from when
//! it saw the opening: that is never later than the entry. What the harness itself saw bounds it
//! from above: the first read of the record with the entry in it, and the first insert that the
//! new primary acknowledged.
//!
//! **Source:** SAFETY.md, section 1, "Revoked", and invariant 4.

use conclave_lab::{Op, Outcome};

use super::Finding;
use crate::record::{Record, Sighting};

const NAME: &str = "revoked";
/// The leader's wall clock is told in whole milliseconds; both clocks are read one after the other.
const ROUNDING_US: u64 = 3_000;
/// Clocks that drift further apart during a run than this make times incomparable.
const DRIFT_US: u64 = 100_000;

pub fn check(record: &Record) -> Finding {
    if record.clocks.is_empty() || record.drift_us() > DRIFT_US {
        let why = format!("the clocks drifted apart by {} us, or were not read", record.drift_us());
        return Finding::unknown(NAME, why);
    }
    let reigns = match reigns(record) {
        Ok(reigns) => reigns,
        Err(why) => return Finding::unknown(NAME, why),
    };
    let mut wrong = Vec::new();
    let mut tried = 0;
    for op in record.clients.iter().flat_map(|client| &client.ops) {
        let Some(server) = record.server(op.server_id) else { continue };
        if reigns.iter().any(|reign| reign.server == server && reign.holds(op)) {
            continue;
        }
        tried += 1;
        if op.outcome == Outcome::Ok {
            let (sent, told) = (op.invoked_us, op.completed_us);
            wrong.push(format!(
                "{server} acknowledged row {}, sent at {sent} and told at {told} us, and was not \
                 the primary: {}",
                op.id,
                nearest(&reigns, server, op)
            ));
        }
    }
    let looked_at =
        format!("{} reigns, {tried} tries on servers that were not primary", reigns.len());
    Finding::new(NAME, looked_at, wrong)
}

/// When a server may acknowledge.
#[derive(Debug)]
struct Reign {
    server: String,
    epoch: u64,
    /// Not later than entry 9 of its epoch.
    from_us: u64,
    /// Not earlier than entry 9 of the next.
    to_us: u64,
}

impl Reign {
    fn holds(&self, op: &Op) -> bool {
        op.invoked_us <= self.to_us && op.completed_us >= self.from_us
    }
}

fn nearest(reigns: &[Reign], server: &str, op: &Op) -> String {
    let own = reigns.iter().filter(|reign| reign.server == server);
    let before = own.filter(|reign| reign.to_us < op.invoked_us).max_by_key(|reign| reign.to_us);
    before.map_or("it never was before".into(), |reign| {
        let late = op.invoked_us - reign.to_us;
        format!("its epoch {} had ended {late} us before at the latest", reign.epoch)
    })
}

fn reigns(record: &Record) -> Result<Vec<Reign>, String> {
    let first = record.servers.first().ok_or("the record names no servers")?;
    let mut reigns = vec![Reign { server: first.clone(), epoch: 0, from_us: 0, to_us: u64::MAX }];
    for attempt in record.attempts() {
        let Some(server) = &attempt.new_primary else { continue };
        let Some(opened) = record.monotonic(attempt.opened_wall_ms) else {
            return Err("the clocks were not read".into());
        };
        let proposed = opened + attempt.promoted_after_us.unwrap_or(0);
        let from_us = proposed.saturating_sub(ROUNDING_US + record.drift_us());
        let last = reigns.last_mut().ok_or("there is a first reign")?;
        last.to_us = seen_by(record, attempt, server, from_us);
        let (server, epoch) = (server.clone(), attempt.epoch);
        reigns.push(Reign { server, epoch, from_us, to_us: u64::MAX });
    }
    Ok(reigns)
}

/// The first moment at which entry 9 had certainly been agreed.
fn seen_by(record: &Record, attempt: &Sighting, server: &str, from_us: u64) -> u64 {
    let same = record.sightings.iter().filter(|other| other.epoch == attempt.epoch);
    let read = same.filter(|other| other.new_primary.is_some()).map(|other| other.seen_us);
    let ops = record.clients.iter().flat_map(|client| &client.ops);
    let acked = ops.filter(|op| {
        let is_his = record.server(op.server_id) == Some(server);
        is_his && op.outcome == Outcome::Ok && op.invoked_us >= from_us
    });
    read.chain(acked.map(|op| op.completed_us)).min().unwrap_or(u64::MAX)
}
