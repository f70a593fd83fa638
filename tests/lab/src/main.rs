//! `conclave-lab`: real MySQL servers and hosts on racks, from the command line.

// Real hosts take real time: here the clock is what is tested.
#![allow(clippy::disallowed_methods)]

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(err) => {
            eprintln!("conclave-lab: {err}");
            ExitCode::FAILURE
        }
    }
}
