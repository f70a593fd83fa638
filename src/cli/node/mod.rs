//! `conclave node`: tools for a database host, under MHA's names and with its options.

mod apply;
mod filter;
mod login;
mod purge;
mod save;

use clap::Subcommand;

use super::{Done, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(alias = "save_binary_logs")]
    SaveBinaryLogs(save::Args),
    #[command(alias = "apply_diff_relay_logs")]
    ApplyDiffRelayLogs(Box<apply::Args>),
    #[command(alias = "purge_relay_logs")]
    PurgeRelayLogs(purge::Args),
    #[command(alias = "filter_mysqlbinlog")]
    FilterMysqlbinlog(filter::Args),
}

pub(super) async fn run(command: Command) -> Done {
    match command {
        Command::SaveBinaryLogs(args) => save::run(args).await,
        Command::ApplyDiffRelayLogs(args) => apply::run(*args).await,
        Command::PurgeRelayLogs(args) => purge::run(args).await,
        Command::FilterMysqlbinlog(args) => filter::run(&args),
    }
}
