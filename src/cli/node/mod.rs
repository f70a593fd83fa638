//! `conclave node`: tools for a database host, under MHA's names and with its options.

mod filter;
mod save;

use clap::Subcommand;

use super::{Done, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(alias = "save_binary_logs")]
    SaveBinaryLogs(save::Args),
    #[command(alias = "filter_mysqlbinlog")]
    FilterMysqlbinlog(filter::Args),
}

pub(super) async fn run(command: Command) -> Done {
    match command {
        Command::SaveBinaryLogs(args) => save::run(args).await,
        Command::FilterMysqlbinlog(args) => filter::run(&args),
    }
}
