//! Run after run, each with the next seed, and the totals of all of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::checker::Verdict;
use crate::run::{self, Counts, Plan, Results};

/// The totals of many runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Seconds from the first run's start to the last one's end.
    pub wall_seconds: u64,
    /// Number of runs by verdict.
    pub runs: BTreeMap<Verdict, u64>,
    /// Seeds of the runs that are not valid, with their verdicts.
    pub seeds: Vec<(u64, Verdict)>,
    /// The numbers of all runs.
    pub counts: Counts,
}

impl Totals {
    fn take(&mut self, results: &Results) {
        *self.runs.entry(results.verdict).or_default() += 1;
        if results.verdict != Verdict::Valid {
            self.seeds.push((results.seed, results.verdict));
        }
        self.counts.add(&results.counts);
    }

    /// The worst verdict; *unknown* without a run.
    pub fn verdict(&self) -> Verdict {
        self.runs.keys().max().copied().unwrap_or(Verdict::Unknown)
    }

    /// For people.
    pub fn tell(&self) -> String {
        let runs = self.runs.iter().map(|(verdict, number)| format!("{number} {}", verdict.word()));
        let runs: Vec<String> = runs.collect();
        let mut text = format!("{} s: {}\n", self.wall_seconds, runs.join(", "));
        for (seed, verdict) in &self.seeds {
            text.push_str(&format!("  {} seed {seed}\n", verdict.word()));
        }
        text + &run::tell_counts(&self.counts)
    }
}

/// Runs `plan` again and again, each time with the next seed, until `length` is over. Every run has
/// its own folder below `out`; the totals are written there after each. `told` hears of each run.
///
/// # Errors
/// The files cannot be written.
pub fn soak(
    plan: &Plan,
    length: Duration,
    out: &Path,
    mut told: impl FnMut(&Results),
) -> anyhow::Result<Totals> {
    let began = Instant::now();
    let mut totals = Totals::default();
    let mut plan = plan.clone();
    while began.elapsed() < length {
        let dir = out.join(format!("seed-{}", plan.seed));
        let results = run::run(&plan, Some(&dir))?;
        told(&results);
        totals.take(&results);
        totals.wall_seconds = began.elapsed().as_secs();
        let path = out.join("totals.json");
        fs::write(&path, serde_json::to_string_pretty(&totals)?)
            .with_context(|| format!("write {}", path.display()))?;
        if results.verdict == Verdict::Valid {
            // Green histories are many and large; a seed that is wanted again is run again.
            for name in ["record.json", "history.edn"] {
                fs::remove_file(dir.join(name)).with_context(|| format!("remove {name}"))?;
            }
        }
        plan.seed += 1;
    }
    Ok(totals)
}
