//! What only the disk of a dead primary holds: when is its log read, what is to be brought to the
//! candidate, and may the attempt go on without?

use std::collections::BTreeMap;

use crate::{
    model::{Attempt, DiskLog, GtidSet, Mode, Policy, Regime, Rescue, ServerName, StepKind},
    state::{ClusterState, Planned},
};

/// The logs that may have to be read: of every server that is or was primary and is reached over
/// SSH. One that an earlier attempt has revoked may hold what its successor was given.
pub fn reads(cluster: &ClusterState) -> impl Iterator<Item = Planned> {
    let primaries = cluster.regimes.iter().map(|regime| &regime.primary);
    let is_there = |name: &&ServerName| {
        cluster.definition.server(name).is_some_and(|server| server.ssh.is_some())
    };
    let reads = primaries.filter(is_there);
    reads.map(|name| Planned { target: name.clone(), goal: StepKind::ReadLog })
}

/// Its mysqld was seen dead, in this attempt or in one that has revoked it for good. (Reading makes
/// sure itself that none runs.)
pub fn is_readable(attempt: &Attempt, server: &ServerName) -> bool {
    let is_closed = |regime: &Regime| regime.primary == *server && regime.closed_with.is_some();
    attempt.is_fenced(server) || attempt.revokes.iter().any(is_closed)
}

/// All that is held by somebody who is reached: received by the stopped servers, or on a disk.
pub fn held(received: &GtidSet, logs: &BTreeMap<&ServerName, &DiskLog>) -> GtidSet {
    logs.values().fold(received.clone(), |sum, log| sum.union(&log.only_here))
}

/// Whether a dead primary's own log stands in for its ackers: all that it ever acknowledged was in
/// it first, it was read to its end, and mysqld was killed (SAFETY section 1, "Covered by the
/// disk").
pub fn is_covered_by_log(
    attempt: &Attempt,
    regime: &Regime,
    logs: &BTreeMap<&ServerName, &DiskLog>,
    held: &GtidSet,
) -> bool {
    let is_held = match &regime.closed_with {
        // Its log was read by an earlier attempt, or was not needed.
        Some(closed_with) => closed_with.is_subset(held),
        None => {
            let log = logs.get(&regime.primary);
            log.is_some_and(|log| log.purged.is_subset(held)) && regime.base.is_subset(held)
        }
    };
    is_held && attempt.is_fenced(&regime.primary)
}

/// What the candidate is to be given beside `target`, from the newest primary's disk on. `is_needed`:
/// the stopped servers alone would not do.
pub fn plan(
    cluster: &ClusterState,
    attempt: &Attempt,
    target: &GtidSet,
    is_needed: bool,
) -> Vec<Rescue> {
    let logs = attempt.logs();
    let mut known = target.clone();
    let mut out = Vec::new();
    for regime in attempt.revokes.iter().rev() {
        let Some(log) = logs.get(&regime.primary) else { continue };
        let gtids = log.only_here.minus(&known);
        if gtids.is_empty() {
            continue;
        }
        known = known.union(&gtids);
        let from = regime.primary.clone();
        let pieces = log.pieces.clone();
        out.push(Rescue { from, gtids, pieces, is_needed });
    }
    let policy = &cluster.definition.policy;
    if attempt.mode != Mode::Quorum && exceeds(policy, &out) {
        out.iter_mut().for_each(|rescue| rescue.is_needed = true);
    }
    out
}

/// Lost altogether, it would be more than the policy allows.
fn exceeds(policy: &Policy, rescues: &[Rescue]) -> bool {
    let transactions: u64 = rescues.iter().map(|rescue| rescue.gtids.count()).sum();
    let bytes: u64 = rescues.iter().map(Rescue::bytes).sum();
    policy.max_loss_transactions.is_some_and(|most| transactions > most)
        || policy.max_loss_bytes.is_some_and(|most| bytes > most)
}

/// The primaries whose logs could not be read to the end, each with the reason: nobody knows what is
/// lost with them.
pub fn unknown(attempt: &Attempt) -> Vec<(&ServerName, String)> {
    let logs = attempt.logs();
    let open = attempt.revokes.iter().filter(|regime| regime.closed_with.is_none());
    let lacking = open.map(|regime| &regime.primary).filter_map(|name| {
        let why = match logs.get(name) {
            Some(log) if log.purged.is_empty() => return None,
            Some(log) => format!("its binary log does not hold {} any more", log.purged),
            None => unread(attempt, name),
        };
        Some((name, why))
    });
    lacking.collect()
}

/// Why a dead primary's disk does not help, for the end of a sentence.
pub fn why_not_read(attempt: &Attempt) -> String {
    let whys = unknown(attempt).into_iter();
    whys.map(|(server, why)| format!(", and the log of {server} was not read: {why}")).collect()
}

fn unread(attempt: &Attempt, server: &ServerName) -> String {
    let mut reads = attempt.steps.iter().filter(|step| step.goal == StepKind::ReadLog);
    let Some(step) = reads.find(|step| step.target == *server) else {
        return "the definition names no ssh login for its host".into();
    };
    match step.runs.iter().rev().find_map(|run| run.outcome.as_ref()) {
        Some(outcome) => outcome.why().unwrap_or_default().to_owned(),
        None if attempt.is_fenced(server) => "no time was left".into(),
        None => "its mysqld was not seen dead over ssh".into(),
    }
}

/// Why the policy forbids to go on although nobody knows what is lost.
pub fn refused(cluster: &ClusterState, attempt: &Attempt) -> Option<String> {
    let policy = &cluster.definition.policy;
    let has_limit = policy.max_loss_transactions.is_some() || policy.max_loss_bytes.is_some();
    if attempt.mode == Mode::Quorum || !has_limit {
        return None;
    }
    let (server, why) = unknown(attempt).into_iter().next()?;
    Some(format!(
        "what would be lost with {server} is not known, and policy max_loss is set: {why}"
    ))
}

/// What is or may be lost although the attempt goes on; empty: nothing.
pub fn loss(attempt: &Attempt) -> String {
    if attempt.opening.cause.switchover().is_some() {
        return String::new();
    }
    match attempt.mode {
        Mode::Quorum => "nothing that was acknowledged: the stopped servers hold it all".into(),
        Mode::Fenced | Mode::BestEffort => {
            let unknown = unknown(attempt).into_iter().map(|(server, why)| {
                format!(
                    "what {server} committed and no stopped server received is lost or still on its \
                     disk: {why}"
                )
            });
            unknown.collect::<Vec<_>>().join("; ")
        }
    }
}
