//! Had every attempt a true reason? At some moment shortly before it was opened something must
//! have been broken that can make that primary be taken for dead, see [`World::can_hurt`]; or a
//! person asked for it.
//!
//! If the machine itself stalled at that time, nobody can tell.
//!
//! **Source:** SAFETY.md, invariant 3.

use super::{Finding, Verdict};
use crate::record::{Deed, Record, Sighting};
use crate::world::World;

const NAME: &str = "reason";
/// How long after its repair a fault may still lead to an attempt: the primary has to start, to
/// be seen, and opened; a leader has to be elected.
const AFTERMATH_US: u64 = 15_000_000;
/// The wall clock is told in whole milliseconds.
const ROUNDING_US: u64 = 3_000;

pub fn check(record: &Record) -> Finding {
    let mut wrong = Vec::new();
    let mut doubtful = Vec::new();
    let attempts = record.attempts();
    for attempt in &attempts {
        let Some(opened) = record.monotonic(attempt.opened_wall_ms) else {
            return Finding::unknown(NAME, "the clocks were not read".into());
        };
        if attempt.is_asked_for || has_reason(record, attempt, opened + ROUNDING_US) {
            continue;
        }
        let (id, old, cause) = (&attempt.id, &attempt.old_primary, &attempt.cause);
        let told = format!("{id} replaces {old} at {opened} us, and nothing was wrong ({cause})");
        let from = opened.saturating_sub(AFTERMATH_US);
        match record.stalls.iter().any(|stall| stall.to_us >= from && stall.from_us <= opened) {
            true => doubtful.push(format!("{told}, but that the machine stalled")),
            false => wrong.push(told),
        }
    }
    let looked_at = format!("{} attempts", attempts.len());
    if wrong.is_empty() && !doubtful.is_empty() {
        return Finding::with(NAME, Verdict::Unknown, looked_at, doubtful);
    }
    Finding::new(NAME, looked_at, wrong)
}

fn has_reason(record: &Record, attempt: &Sighting, opened_us: u64) -> bool {
    let from = opened_us.saturating_sub(AFTERMATH_US);
    let hurts =
        |world: &World| world.can_hurt(&attempt.old_primary, &record.servers, &record.managers);
    let mut world = World::default();
    let mut is_hurt = false;
    for action in record.actions.iter().filter(|action| action.at_us <= opened_us) {
        // What was broken up to this action was so within the time that counts.
        is_hurt |= action.at_us >= from && hurts(&world);
        let is_restart = matches!(&action.deed,
            Deed::RestartServer { server, .. } if *server == attempt.old_primary);
        is_hurt |= is_restart && action.done_us >= from;
        world.apply(&action.deed);
    }
    is_hurt || hurts(&world) || is_fenced(record, attempt, opened_us)
}

/// An attempt with a reason kills the old primary by its fence. Undone, it leaves it dead, which
/// is the reason of the next, until somebody starts it.
fn is_fenced(record: &Record, attempt: &Sighting, opened_us: u64) -> bool {
    let attempts = record.attempts();
    let earlier = attempts.iter().rev().find(|other| other.epoch + 1 == attempt.epoch);
    let Some(earlier) = earlier.filter(|other| other.old_primary == attempt.old_primary) else {
        return false;
    };
    let Some(before) = record.monotonic(earlier.opened_wall_ms) else { return false };
    let from = opened_us.saturating_sub(AFTERMATH_US);
    let old = &attempt.old_primary;
    let is_start = |deed: &Deed| {
        matches!(deed, Deed::StartServer { server } if server == old)
            || matches!(deed, Deed::PowerOn { host } if host == old)
    };
    let mut actions = record.actions.iter();
    let started = actions.find(|a| a.at_us > before && a.at_us <= opened_us && is_start(&a.deed));
    let is_dead = started.is_none_or(|start| start.done_us >= from);
    is_dead && (earlier.is_asked_for || has_reason(record, earlier, before + ROUNDING_US))
}
