//! Did the nemesis bite? A run in which nothing was broken proves nothing, however green the rest.
//!
//! Each fault has to be proved by what was read back: a process gone or stopped, packets counted
//! as lost, a connection that takes as long as it should. And a nemesis that is to lead to a
//! failover must have led to one.

use super::{Finding, Verdict};
use crate::record::{Expect, Record};

const NAME: &str = "bite";

pub fn check(record: &Record) -> Finding {
    let faults: Vec<_> = record.actions.iter().filter(|action| action.deed.is_fault()).collect();
    let proved = faults.iter().filter(|action| action.proof.is_some()).count();
    let looked_at = format!("{proved} of {} faults proved", faults.len());
    let mut because = Vec::new();
    // In a mix a fault may meet a link that nothing goes over just then.
    if proved == 0 || (record.nemesis != "mix" && proved < faults.len()) {
        let toothless = faults.iter().filter(|action| action.proof.is_none());
        because.extend(toothless.map(|action| {
            format!("{} {} had no effect", action.deed.code(), action.deed.subject())
        }));
        if faults.is_empty() {
            because.push("nothing was done".into());
        }
    }
    let is_promoted = |outcome: &str| outcome == "promoted" || outcome == "superseded";
    let promoted = record.attempts().iter().filter(|a| is_promoted(&a.outcome)).count();
    if record.expects == Expect::Failover && promoted == 0 {
        because.push("it is to lead to a failover, and led to none".into());
    }
    let verdict = if because.is_empty() { Verdict::Valid } else { Verdict::Invalid };
    Finding::with(NAME, verdict, looked_at, because)
}
