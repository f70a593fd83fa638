//! `conclave turnstile`: what managers run on a database host, over SSH.

use std::{fs::File, os::fd::AsFd, path::PathBuf};

use conclave_core::model::{Epoch, Term, Token};

use super::{Done, Failure};
use crate::turnstile::{self, PROTOCOL, Request};

/// Let the newest actor's command through, on a database host
///
/// Managers run this over SSH for each command on a database host: it takes a file lock, compares
/// the actor's (epoch, term, step) with the highest that came by, refuses a lower one, runs the
/// command until its deadline, and logs it. Where it is not installed, managers send a shell script
/// that does the same. Not meant to be typed.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Exit codes: the command's own; 113 a newer actor came by, 114 the lock was held all the time or the
command came too late, 115 the turnstile cannot work on this host (none of these ran the command),
124 ended at its deadline.

Files in DIR: turnstile.CLUSTER (the highest token), .lock, .log"
)]
pub struct Args {
    /// Version of these arguments that is spoken
    #[arg(long, value_name = "N")]
    protocol: u32,
    /// Only tell whether that version is spoken: exit code 0 or 1
    #[arg(long)]
    is_ready: bool,
    /// Where the files are kept
    #[arg(long, default_value = "/var/lib/conclave")]
    dir: PathBuf,
    /// The cluster; commands of one cluster follow each other
    #[arg(long, value_parser = file_name, required_unless_present = "is_ready")]
    cluster: Option<String>,
    /// Who asks: epoch:term:step
    #[arg(long, value_parser = token, required_unless_present = "is_ready")]
    token: Option<Token>,
    /// What the log says of it
    #[arg(long, default_value = "")]
    what: String,
    /// Time for waiting and running, in hundredths of a second
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit_cs: u64,
    /// Refuse once the host has been up for so many hundredths of a second
    #[arg(long, value_name = "N", default_value_t = u64::MAX)]
    start_by_cs: u64,
    /// What sh runs
    #[arg(long, default_value = "")]
    body: String,
}

fn token(text: &str) -> Result<Token, String> {
    let numbers: Result<Vec<u64>, _> = text.split(':').map(str::parse).collect();
    match numbers.as_deref() {
        Ok([epoch, term, seq]) => Ok(Token { epoch: Epoch(*epoch), term: Term(*term), seq: *seq }),
        Ok(_) | Err(_) => Err("wanted epoch:term:step, three numbers".into()),
    }
}

/// A cluster's name as part of a file's.
fn file_name(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains(['/', '\0']) {
        true => Err("wanted a cluster's name, without a slash".into()),
        false => Ok(text.to_owned()),
    }
}

pub(super) fn run(args: Args) -> Done {
    let is_spoken = args.protocol == PROTOCOL;
    if args.is_ready {
        return Ok(u8::from(!is_spoken));
    }
    let (Some(cluster), Some(token), true) = (args.cluster, args.token, is_spoken) else {
        return Err(Failure::usage(format!(
            "wanted protocol {PROTOCOL}, found {}: install the managers' version on this host, or \
             none",
            args.protocol
        )));
    };
    let request = Request {
        dir: args.dir,
        cluster,
        token,
        what: args.what,
        limit: std::time::Duration::from_millis(args.limit_cs.saturating_mul(10)),
        start_by_cs: args.start_by_cs,
        body: args.body,
    };
    let out = std::io::stdout().as_fd().try_clone_to_owned().map_err(Failure::refused)?;
    Ok(u8::try_from(turnstile::pass(&request, File::from(out))).unwrap_or(u8::MAX))
}
