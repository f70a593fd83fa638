//! The table of a hunt: one row for each mutant.

use std::fmt;

use serde::Serialize;

/// What caught a mutant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum End {
    /// A random seed.
    Seed {
        /// That seed.
        seed: u64,
        /// How many seeds were played until then, this one included.
        seeds: u64,
        /// The invariant that it broke, or `settled` if things did not come right, or `panic`.
        by: String,
        /// How.
        how: String,
    },
    /// A fixed scenario, after so many random seeds that did not notice.
    Scenario {
        /// The tests that failed.
        tests: Vec<String>,
    },
    /// Nothing: it survived.
    Survived,
    /// It is no mutant: it does not apply or does not build, or its run was not to be judged.
    Void {
        /// Why.
        why: String,
    },
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The mutant.
    pub mutant: String,
    /// What it breaks.
    pub breaks: String,
    /// What became of it.
    pub end: End,
}

impl Row {
    /// Caught, as every mutant must be.
    pub fn is_caught(&self) -> bool {
        match self.end {
            End::Seed { .. } | End::Scenario { .. } => true,
            End::Survived | End::Void { .. } => false,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.mutant;
        match &self.end {
            End::Seed { seed, seeds, by, how } => {
                let how: String = how.chars().take(70).collect();
                write!(f, "{name:36} {by:14} {seed:>6} {seeds:>6}  {how}")
            }
            End::Scenario { tests } => {
                let (first, more) = (tests.first().map_or("", String::as_str), tests.len());
                write!(
                    f,
                    "{name:36} {:14} {:>6} {:>6}  {first} ({more} failed)",
                    "scenario", "", ""
                )
            }
            End::Survived => write!(f, "{name:36} SURVIVED"),
            End::Void { why } => write!(f, "{name:36} VOID: {why}"),
        }
    }
}

/// The heading of the table.
pub fn heading() -> String {
    format!("{:36} {:14} {:>6} {:>6}  how", "mutant", "caught by", "seed", "seeds")
}
