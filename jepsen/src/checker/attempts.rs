//! Is there one attempt at most for each epoch, with one candidate, and do all managers have the
//! same on record?
//!
//! **Source:** SAFETY.md, invariants 1 and 9.

use std::collections::BTreeMap;

use super::Finding;
use crate::record::{Record, Sighting};

const NAME: &str = "attempts";

pub fn check(record: &Record) -> Finding {
    let Some(epoch) = record.ending.epoch else {
        return Finding::unknown(NAME, "the epoch at the end is not known".into());
    };
    let mut wrong = Vec::new();
    let mut first: BTreeMap<u64, &Sighting> = BTreeMap::new();
    let mut chosen: BTreeMap<u64, &Sighting> = BTreeMap::new();
    let mut sightings: Vec<&Sighting> = record.sightings.iter().collect();
    sightings.sort_by_key(|sighting| sighting.seen_us);
    for seen in sightings {
        let known = *first.entry(seen.epoch).or_insert(seen);
        let name = |s: &Sighting| (s.id.clone(), s.opened_wall_ms, s.old_primary.clone());
        if name(known) != name(seen) {
            let (a, b) = (&known.manager, &seen.manager);
            let (one, other) = (name(known), name(seen));
            wrong.push(format!("{a} has {one:?} on record for an epoch, {b} has {other:?}"));
        }
        if seen.new_primary.is_none() {
            continue;
        }
        let choice = *chosen.entry(seen.epoch).or_insert(seen);
        if choice.new_primary != seen.new_primary {
            wrong.push(format!(
                "epoch {} made {:?} the primary by {}, and {:?} by {}",
                seen.epoch, choice.new_primary, choice.manager, seen.new_primary, seen.manager
            ));
        }
    }
    if let Some(beyond) = first.keys().find(|seen| **seen > epoch) {
        wrong.push(format!("epoch {beyond} was seen, and the end is at epoch {epoch}"));
    }
    wrong.extend(unfinished(record));
    let unseen: Vec<u64> = (1..=epoch).filter(|epoch| !first.contains_key(epoch)).collect();
    if wrong.is_empty() && !unseen.is_empty() {
        return Finding::unknown(NAME, format!("nobody told of the epochs {unseen:?}"));
    }
    Finding::new(NAME, format!("{epoch} epochs, {} sightings", record.sightings.len()), wrong)
}

/// Attempts past entry 9 that were undone, or are open though all is over.
fn unfinished(record: &Record) -> Vec<String> {
    let is_wrong = |seen: &&Sighting| {
        let is_open = seen.outcome == "open" && record.ending.healthy_us.is_some();
        is_open || (seen.outcome == "aborted" && seen.new_primary.is_some())
    };
    let attempts = record.attempts().into_iter();
    let wrong = attempts.filter(is_wrong);
    wrong.map(|s| format!("{} has {:?} chosen and is {}", s.id, s.new_primary, s.outcome)).collect()
}
