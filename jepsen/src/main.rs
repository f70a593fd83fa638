//! The command line: what to run, and what came of it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use conclave_jepsen::nemesis::Nemesis;
use conclave_jepsen::run::{self, Plan};
use conclave_jepsen::{programs, soak};

/// Chaos on real servers, and a verdict on what the clients were told.
///
/// Exit status 0: valid; 1: a promise was broken; 2: unknown, as the harness failed or the nemesis
/// did not bite.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One run: a lab, a nemesis, the healing, a verdict
    Run(Chosen),
    /// Run after run, each with the next seed
    Soak {
        #[command(flatten)]
        chosen: Chosen,
        /// Begin no run after so many seconds
        #[arg(long, default_value_t = 3600)]
        length: u64,
    },
    /// Judge a saved run again
    Check {
        /// Its folder
        dir: PathBuf,
    },
    /// Name all nemeses
    Nemeses,
}

#[derive(Debug, Args)]
struct Chosen {
    /// What goes wrong
    #[arg(long, value_enum, default_value = "mix")]
    nemesis: Nemesis,
    /// Seconds under faults; a round that has begun is finished
    #[arg(long, default_value_t = 120)]
    time: u64,
    /// All choices by chance come from this
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the record, the history and the results
    #[arg(long)]
    out: Option<PathBuf>,
    /// The program to test; by default the one beside this program
    #[arg(long)]
    conclave: Option<PathBuf>,
}

fn main() -> ExitCode {
    match command(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("conclave-jepsen: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn command(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(chosen) => {
            let results = run::run(&plan(&chosen)?, chosen.out.as_deref())?;
            print!("{}", run::tell(&results));
            Ok(results.verdict.exit_code())
        }
        Command::Soak { chosen, length } => {
            let Some(out) = &chosen.out else { bail!("many runs need a folder: give --out") };
            let totals =
                soak::soak(&plan(&chosen)?, Duration::from_secs(length), out, |results| {
                    print!("{}", run::tell(results));
                })?;
            print!("{}", totals.tell());
            Ok(totals.verdict().exit_code())
        }
        Command::Check { dir } => {
            let path = dir.join("record.json");
            let text = fs::read_to_string(&path);
            let text = text.with_context(|| format!("read {}", path.display()))?;
            let record = serde_json::from_str(&text);
            let results = run::judge(&record.with_context(|| format!("read {}", path.display()))?);
            print!("{}", run::tell(&results));
            Ok(results.verdict.exit_code())
        }
        Command::Nemeses => {
            for value in Nemesis::value_variants().iter().filter_map(|n| n.to_possible_value()) {
                let help = value.get_help().map(ToString::to_string).unwrap_or_default();
                println!("{:16} {help}", value.get_name());
            }
            Ok(0)
        }
    }
}

fn plan(chosen: &Chosen) -> anyhow::Result<Plan> {
    let name = chosen.nemesis.to_possible_value().context("a nemesis with a name")?;
    Ok(Plan {
        nemesis: chosen.nemesis,
        name: name.get_name().to_owned(),
        time: Duration::from_secs(chosen.time),
        seed: chosen.seed,
        program: programs::find(chosen.conclave.as_deref())?,
    })
}
