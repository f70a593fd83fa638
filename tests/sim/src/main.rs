//! Many seeds, one of them in readable lines, or the hunt for wrong variants of the product.
//!
//! ```text
//! cargo run --release -p conclave-sim -- --seeds 100000 [--from S] [--jobs N] [--json FILE]
//! cargo run --release -p conclave-sim -- --mutants [--only NAME] [--seeds N] [--json FILE]
//! cargo run -p conclave-sim -- --seed S [--trace]
//! ```

use std::{collections::BTreeMap, process::ExitCode, sync::Mutex, time::Instant};

use conclave_sim::{
    clock::lock,
    mutant::hunt::{self, Hunt},
    random::{self, Many, Report},
};
use serde::Serialize;

const USAGE: &str = "usage: conclave-sim --seeds N [--from S] [--jobs N] [--json FILE] \
                     [--until-broken]\n       conclave-sim --mutants [--only NAME,...] [--seeds N] \
                     [--seeds-only] [--root DIR] [--jobs N] [--json FILE]\n       conclave-sim --seed S \
                     [--trace]";

/// Most seeds for each mutant, unless said otherwise.
const MUTANT_SEEDS: u64 = 1000;

/// What was asked for.
#[derive(Debug, Default)]
struct Wanted {
    seeds: Option<u64>,
    from: u64,
    seed: Option<u64>,
    trace: bool,
    mutants: bool,
    seeds_only: bool,
    only: Option<String>,
    root: Option<String>,
    until_broken: bool,
    jobs: Option<usize>,
    json: Option<String>,
}

fn wanted(arguments: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let flag = match argument.as_str() {
            "--trace" => Some(&mut wanted.trace),
            "--mutants" => Some(&mut wanted.mutants),
            "--seeds-only" => Some(&mut wanted.seeds_only),
            "--until-broken" => Some(&mut wanted.until_broken),
            _ => None,
        };
        if let Some(flag) = flag {
            *flag = true;
            continue;
        }
        let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{argument}: no number: {value}"));
        match argument.as_str() {
            "--seeds" => wanted.seeds = Some(number()?),
            "--from" => wanted.from = number()?,
            "--seed" => wanted.seed = Some(number()?),
            "--jobs" => wanted.jobs = Some(number()? as usize),
            "--root" => wanted.root = Some(value),
            "--only" => wanted.only = Some(value),
            "--json" => wanted.json = Some(value),
            _ => return Err(format!("unknown argument {argument}")),
        }
    }
    Ok(wanted)
}

impl Wanted {
    fn jobs(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, |jobs| jobs.get());
        self.jobs.unwrap_or_else(all)
    }
}

fn main() -> ExitCode {
    match wanted(std::env::args().skip(1)) {
        Ok(Wanted { seed: Some(seed), trace, .. }) => one(seed, trace),
        Ok(wanted @ Wanted { mutants: true, .. }) => mutants(&wanted),
        Ok(wanted @ Wanted { seeds: Some(_), .. }) => many(&wanted),
        Ok(_) => usage("--seeds or --seed is needed"),
        Err(why) => usage(&why),
    }
}

fn usage(why: &str) -> ExitCode {
    eprintln!("{why}\n{USAGE}");
    ExitCode::from(2)
}

/// Plays one seed and prints what happened.
fn one(seed: u64, trace: bool) -> ExitCode {
    println!("seed {seed}");
    let (report, run) = random::play(seed, trace);
    if trace {
        run.print();
    }
    println!("{report:#?}\n{} polls", run.executor.polls);
    match report.violations.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The sum of many seeds.
#[derive(Debug, Default, Serialize)]
struct Sum {
    seeds: u64,
    first_seed: u64,
    violations: Vec<(u64, Vec<String>)>,
    simulated_seconds: f64,
    wall_seconds: f64,
    failovers: u64,
    aborted: u64,
    superseded: u64,
    acknowledged: u64,
    elections: u64,
    most_entries: u64,
    slowest_settled_ms: u64,
    faults: BTreeMap<&'static str, u64>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.simulated_seconds += report.simulated_us as f64 / 1e6;
        self.failovers += report.promoted;
        self.aborted += report.aborted;
        self.superseded += report.superseded;
        self.acknowledged += report.acknowledged;
        self.elections += report.elections;
        self.most_entries = self.most_entries.max(report.entries);
        self.slowest_settled_ms = self.slowest_settled_ms.max(report.settled_ms);
        for (kind, count) in report.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        if !report.violations.is_empty() {
            println!("seed {}: {}", report.seed, report.violations.join("; "));
            self.violations.push((report.seed, report.violations));
        }
    }
}

/// Plays many seeds on all processors.
#[allow(clippy::disallowed_methods)] // How long it took is measured on the wall.
fn many(wanted: &Wanted) -> ExitCode {
    let (first, count) = (wanted.from, wanted.seeds.unwrap_or(0));
    println!("seeds {first} to {}", first + count.saturating_sub(1));
    let began = Instant::now();
    let sum = Mutex::new(Sum { first_seed: first, ..Sum::default() });
    let (jobs, until_broken) = (wanted.jobs(), wanted.until_broken);
    Many { first, count, jobs, until_broken }.play(|report| lock(&sum).add(report));
    let mut sum = std::mem::take(&mut *lock(&sum));
    sum.violations.sort();
    sum.wall_seconds = began.elapsed().as_secs_f64();
    finish(wanted, &sum)
}

fn finish(wanted: &Wanted, sum: &Sum) -> ExitCode {
    println!(
        "{} seeds, {:.0} simulated seconds in {:.1} s ({:.0} times), {} failovers, {} undone, {} \
         superseded, {} elections, {} writes acknowledged, {} violations",
        sum.seeds,
        sum.simulated_seconds,
        sum.wall_seconds,
        sum.simulated_seconds / sum.wall_seconds.max(1e-9),
        sum.failovers,
        sum.aborted,
        sum.superseded,
        sum.elections,
        sum.acknowledged,
        sum.violations.len()
    );
    wanted.end(sum, sum.violations.is_empty())
}

/// Hunts the mutants and prints the table.
#[allow(clippy::disallowed_methods)] // How long it took is measured on the wall.
fn mutants(wanted: &Wanted) -> ExitCode {
    let (seeds, jobs) = (wanted.seeds.unwrap_or(MUTANT_SEEDS), wanted.jobs());
    println!("at most {seeds} seeds each, then the scenarios\n{}", hunt::heading());
    let (began, mut rows) = (Instant::now(), Vec::new());
    let hunt = Hunt {
        seeds,
        jobs,
        only: wanted.only.clone(),
        root: wanted.root.as_ref().map(Into::into),
        seeds_only: wanted.seeds_only,
    };
    let are_caught = hunt::run(&hunt, |row| {
        println!("{row}");
        rows.push(row.clone());
    });
    let caught = rows.iter().filter(|row| row.is_caught()).count();
    let took = began.elapsed().as_secs();
    // The product as it is has a row of its own, unless only some were asked for.
    let wrong = rows.iter().filter(|row| row.mutant != hunt::NONE).count();
    println!("{caught} of {wrong} mutants caught in {took} s");
    match are_caught {
        Ok(are_caught) => wanted.end(&rows, are_caught),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

impl Wanted {
    /// Writes what was asked for into a file; the exit code says whether all was well.
    fn end(&self, result: &impl Serialize, is_well: bool) -> ExitCode {
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(result).unwrap_or_default();
            if let Err(error) = std::fs::write(path, text) {
                eprintln!("write {path}: {error}");
                return ExitCode::from(2);
            }
        }
        match is_well {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}
