//! `conclave manager`.

use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::{Done, Failure, Start};
use crate::config::{ManagerConfig, manager::LogFormat};

/// Run a manager on this host
///
/// One process per host. It logs to the standard error output and runs until it is told to stop
/// (SIGTERM); killed at any moment, it loses nothing. An empty one waits for conclave group init.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Example:
  conclave manager --config /etc/conclave/manager.toml

deploy/samples/manager.toml shows every key."
)]
pub struct Args {
    /// This manager's file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only check the file
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(args: Args, start: Start) -> Done {
    let config = ManagerConfig::load(&args.config).map_err(Failure::refused)?;
    if args.check {
        println!("{} is a good configuration of manager {}", args.config.display(), config.id);
        return Ok(0);
    }
    log(&config)?;
    start(config).await.map_err(|error| Failure::refused(format!("{error:#}")))?;
    Ok(0)
}

fn log(config: &ManagerConfig) -> Result<(), Failure> {
    // The libraries' own logs are for their developers; whoever wants one names it.
    let quiet = ["openraft", "sled"].into_iter().filter(|name| !config.log_level.contains(name));
    let quiet: String = quiet.map(|name| format!(",{name}=off")).collect();
    let level = format!("{}{quiet}", config.log_level);
    let filter = EnvFilter::try_new(level).map_err(Failure::refused)?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let started = match config.log_format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| Failure::refused(format!("start the log: {error}")))
}
