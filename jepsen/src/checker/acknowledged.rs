//! Is every acknowledged insert in the final primary, and on every server that follows it? And is
//! nothing there that was refused, or that nobody ever asked for?
//!
//! **Source:** SAFETY.md, section 1, "Covered", and invariant 7; Jepsen's `set` checker. An insert
//! of unknown outcome may be there or not.

use std::collections::BTreeSet;

use conclave_lab::Outcome;

use super::Finding;
use crate::record::{Aim, Record, Rows};

const NAME: &str = "acknowledged";

pub fn check(record: &Record) -> Finding {
    let Some((primary, others)) = record.ending.rows.split_first() else {
        return Finding::unknown(NAME, "there was no final read".into());
    };
    let through = Wanted::of(record, |aim| *aim == Aim::Address);
    let watched = Wanted::of(record, |aim| *aim != Aim::Address);
    let mut wrong = through.compare(&primary.t, "app.t", &primary.server);
    wrong.extend(watched.lost(&primary.w, "app.w", &primary.server));
    wrong.extend(others.iter().flat_map(|other| apart(primary, other)));
    let asked = through.all.len() + watched.all.len();
    let acked = through.acked.len() + watched.acked.len();
    let looked_at = format!("{acked} acknowledged of {asked} inserts");
    if acked == 0 {
        return Finding::unknown(NAME, "nothing was ever acknowledged".into());
    }
    Finding::new(NAME, looked_at, wrong)
}

/// What must be there, what must not, and what may.
struct Wanted {
    all: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    refused: BTreeSet<u64>,
}

impl Wanted {
    fn of(record: &Record, is_meant: impl Fn(&Aim) -> bool) -> Wanted {
        let clients = record.clients.iter().filter(|client| is_meant(&client.aim));
        let mut wanted =
            Wanted { all: BTreeSet::new(), acked: BTreeSet::new(), refused: BTreeSet::new() };
        for op in clients.flat_map(|client| &client.ops) {
            wanted.all.insert(op.id);
            match op.outcome {
                Outcome::Ok => wanted.acked.insert(op.id),
                Outcome::Fail => wanted.refused.insert(op.id),
                Outcome::Unknown => false,
            };
        }
        wanted
    }

    fn compare(&self, found: &[u64], table: &str, server: &str) -> Vec<String> {
        let found: BTreeSet<u64> = found.iter().copied().collect();
        let mut wrong = self.missing(&found, table, server);
        let refused = self.refused.intersection(&found);
        wrong.extend(refused.map(|id| format!("row {id} of {table} was refused and is there")));
        let unasked = found.difference(&self.all);
        wrong.extend(unasked.map(|id| format!("row {id} of {table} is there, and no client's")));
        wrong
    }

    /// As [`Wanted::compare`] for clients that may have died with an insert under way that they
    /// could not write down, and for a table to which others write, too.
    fn lost(&self, found: &[u64], table: &str, server: &str) -> Vec<String> {
        self.missing(&found.iter().copied().collect(), table, server)
    }

    fn missing(&self, found: &BTreeSet<u64>, table: &str, server: &str) -> Vec<String> {
        let lost = self.acked.difference(found);
        lost.map(|id| format!("row {id} of {table} was acknowledged, and {server} has it not"))
            .collect()
    }
}

/// What a server that caught up has more or less than its primary.
fn apart(primary: &Rows, other: &Rows) -> Vec<String> {
    let set = |keys: &[u64]| keys.iter().copied().collect::<BTreeSet<u64>>();
    let mut wrong = Vec::new();
    for (table, here, there) in [("app.t", &primary.t, &other.t), ("app.w", &primary.w, &other.w)] {
        let apart = set(here).symmetric_difference(&set(there)).count();
        if apart > 0 {
            let (a, b) = (&primary.server, &other.server);
            wrong.push(format!("{apart} rows of {table} are on one of {a} and {b} only"));
        }
    }
    wrong
}
