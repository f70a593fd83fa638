//! The command line: one file per subcommand, [`print`] for what people read.
//!
//! Exit codes: `status` 0 ok, 1 warning, 2 critical, 3 no manager could be asked; all others 0
//! done, 1 refused or failed, 2 wrong usage, 3 no manager could be asked.

mod cluster;
mod drain;
mod explain;
mod failover;
mod group;
mod harden;
mod manager;
mod node;
mod pause;
pub mod print;
mod reach;
mod rejoin;
mod report;
mod rolling;
mod status;
mod switchover;
mod tls;
mod turnstile;

use std::{fmt, future::Future, pin::Pin, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};

use crate::config::{ConfigError, ManagerConfig};

/// What a manager process runs.
pub type Start = fn(ManagerConfig) -> Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// Failover for MySQL replication, decided by a quorum of managers.
#[derive(Debug, Parser)]
#[command(
    name = "conclave",
    version,
    about,
    after_help = "\
The first steps, on three hosts in three racks:
  conclave tls init --dir tls --manager m1=192.0.2.11 --manager m2=192.0.2.12 \\
                              --manager m3=192.0.2.13
  conclave manager --config /etc/conclave/manager.toml         (on each host)
  conclave group init --members 1=192.0.2.11:7300,r1 2=192.0.2.12:7300,r2 3=192.0.2.13:7300,r3
  conclave cluster apply app1.toml
  conclave status

Any manager answers. Which ones there are is said by --managers, CONCLAVE_MANAGERS, or
/etc/conclave/client.toml.

Exit codes: status 0 ok, 1 warning, 2 critical, 3 no manager could be asked;
            others 0 done, 1 refused or failed, 2 wrong usage, 3 no manager could be asked."
)]
pub struct Cli {
    #[command(flatten)]
    reach: reach::Reach,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Args),
    Explain(explain::Args),
    Switchover(switchover::Args),
    Failover(failover::Args),
    Report(report::Args),
    Rejoin(rejoin::Args),
    Drain(drain::DrainArgs),
    Undrain(drain::UndrainArgs),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    /// Define, list, show and remove database clusters
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Make managers a group
    #[command(subcommand)]
    Group(group::Command),
    /// Make certificates
    #[command(subcommand)]
    Tls(tls::Command),
    Manager(manager::Args),
    /// Save, apply and purge logs on a database host, by hand or from cron
    #[command(subcommand)]
    Node(node::Command),
    #[command(hide = true)]
    Turnstile(turnstile::Args),
    /// Print the version
    Version,
}

/// How a document is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Table,
    /// The document as the managers send it; its structure is versioned
    Json,
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    exit_code: u8,
    text: String,
}

impl Failure {
    /// Refused, or tried and failed.
    fn refused(text: impl fmt::Display) -> Self {
        Self { exit_code: 1, text: text.to_string() }
    }

    /// Asked for in a wrong way.
    fn usage(text: impl fmt::Display) -> Self {
        Self { exit_code: 2, text: text.to_string() }
    }

    /// No manager could be asked.
    fn unreachable(text: impl fmt::Display) -> Self {
        Self { exit_code: 3, text: text.to_string() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

/// The exit code, once all is printed.
type Done = Result<u8, Failure>;

/// Runs the command line of this process. `start` is what `conclave manager` runs.
pub fn main(start: Start) -> ExitCode {
    let cli = Cli::parse();
    match run(cli, start) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("conclave: {}", failure.text);
            ExitCode::from(failure.exit_code)
        }
    }
}

fn run(cli: Cli, start: Start) -> Done {
    let is_manager = matches!(cli.command, Command::Manager(_));
    let mut runtime = match is_manager {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.enable_all().build();
    let runtime = runtime.map_err(|error| Failure::refused(format!("start: {error}")))?;
    let reach = cli.reach;
    runtime.block_on(async move {
        match cli.command {
            Command::Status(args) => status::run(&reach, args).await,
            Command::Explain(args) => explain::run(&reach, args).await,
            Command::Switchover(args) => switchover::run(&reach, args).await,
            Command::Failover(args) => failover::run(&reach, args).await,
            Command::Report(args) => report::run(&reach, args).await,
            Command::Rejoin(args) => rejoin::run(&reach, args).await,
            Command::Drain(args) => drain::drain(&reach, args).await,
            Command::Undrain(args) => drain::undrain(&reach, args).await,
            Command::Pause(args) => pause::pause(&reach, args).await,
            Command::Resume(args) => pause::resume(&reach, args).await,
            Command::Cluster(command) => cluster::run(&reach, command).await,
            Command::Group(command) => group::run(&reach, command).await,
            Command::Tls(command) => tls::run(command),
            Command::Manager(args) => manager::run(args, start).await,
            Command::Node(command) => node::run(command).await,
            Command::Turnstile(args) => turnstile::run(args),
            Command::Version => {
                println!("conclave {}", env!("CARGO_PKG_VERSION"));
                Ok(0)
            }
        }
    })
}

#[cfg(test)]
mod tests;
