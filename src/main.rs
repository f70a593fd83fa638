//! The program. Everything is in the library; what a manager runs is handed to the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    conclave::cli::main(|config| Box::pin(conclave::run::manager(config)))
}
