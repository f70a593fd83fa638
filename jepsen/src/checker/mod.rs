//! Was any promise broken? One file for each, all of them judging the record alone.
//!
//! A checker that lacks what it needs says so: *unknown* is a verdict of its own, and never green.

mod acknowledged;
mod attempts;
mod bite;
mod converged;
mod reason;
mod revoked;

#[cfg(test)]
mod planted;

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// What one checker found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The checker.
    pub checker: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// What was looked at, in a few words with numbers.
    pub looked_at: String,
    /// What is wrong, or missing; the first few of many.
    pub because: Vec<String>,
}

/// A verdict, of one checker or of all of them. The worst of several is the last in this order,
/// but that a proved violation stands whatever else is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The promise was kept.
    Valid,
    /// The run proves nothing: the nemesis did not bite.
    Invalid,
    /// It cannot be told.
    Unknown,
    /// The promise was broken.
    Violation,
}

impl Verdict {
    /// The exit status that stands for it.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Valid => 0,
            Verdict::Violation => 1,
            Verdict::Invalid | Verdict::Unknown => 2,
        }
    }

    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Valid => "valid",
            Verdict::Invalid => "INVALID",
            Verdict::Unknown => "UNKNOWN",
            Verdict::Violation => "VIOLATION",
        }
    }
}

/// How many of many findings are told.
const TOLD: usize = 10;

impl Finding {
    fn new(checker: &str, looked_at: String, wrong: Vec<String>) -> Finding {
        let verdict = if wrong.is_empty() { Verdict::Valid } else { Verdict::Violation };
        Finding::with(checker, verdict, looked_at, wrong)
    }

    fn unknown(checker: &str, why: String) -> Finding {
        Finding::with(checker, Verdict::Unknown, "not all that it needs".into(), vec![why])
    }

    fn with(checker: &str, verdict: Verdict, looked_at: String, mut because: Vec<String>) -> Self {
        let all = because.len();
        because.truncate(TOLD);
        if all > TOLD {
            because.push(format!("... and {} more", all - TOLD));
        }
        Finding { checker: checker.into(), verdict, looked_at, because }
    }
}

/// What all checkers found.
pub fn check(record: &Record) -> Vec<Finding> {
    vec![
        harness(record),
        bite::check(record),
        acknowledged::check(record),
        revoked::check(record),
        attempts::check(record),
        reason::check(record),
        converged::check(record),
    ]
}

/// The verdict on a run.
pub fn verdict(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown)
}

/// What the harness could not do leaves the rest without a verdict.
fn harness(record: &Record) -> Finding {
    let actions = record.actions.len();
    let looked_at = format!("{actions} actions, {} stalls of the machine", record.stalls.len());
    let verdict = match record.failures.is_empty() {
        true => Verdict::Valid,
        false => Verdict::Unknown,
    };
    Finding::with("harness", verdict, looked_at, record.failures.clone())
}
