//! Did everything come right after healing, by itself? One primary, all others replicating from
//! it or quarantined; and those by right, with transactions that the primary lacks, and shown.
//! Made new by an operator's hand, they leave nothing to say.
//!
//! **Source:** SAFETY.md, invariant 11.

use super::Finding;
use crate::record::Record;

const NAME: &str = "converged";

pub fn check(record: &Record) -> Finding {
    let ending = &record.ending;
    let mut wrong: Vec<String> = Vec::new();
    wrong.extend(ending.unsettled.iter().map(|why| format!("not settled: {why}")));
    wrong.extend(ending.unhealthy.iter().map(|why| format!("not healthy: {why}")));
    for kept in &ending.quarantined {
        let server = &kept.server;
        if kept.errant.is_empty() {
            wrong.push(format!("{server} is quarantined, and the primary has all that it has"));
        }
        if !kept.is_shown {
            wrong.push(format!("{server} is quarantined, and no problem in status names it"));
        }
    }
    if wrong.is_empty() && (ending.settled_us.is_none() || ending.healthy_us.is_none()) {
        return Finding::unknown(NAME, "the run did not get that far".into());
    }
    let took = |to: Option<u64>| {
        let took = to.map(|to| to.saturating_sub(ending.healed_us));
        took.map_or("never".into(), |us| format!("{:.1} s", us as f64 / 1e6))
    };
    let looked_at = format!(
        "settled after {}, {} quarantined, healthy after {}",
        took(ending.settled_us),
        ending.quarantined.len(),
        took(ending.healthy_us)
    );
    Finding::new(NAME, looked_at, wrong)
}
