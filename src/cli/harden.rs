//! `conclave cluster harden`.

use std::time::Duration;

use super::{
    Done, Failure, Output,
    print::{self, Paint},
    reach::{Reach, caller, print_json, read, tell},
};
use crate::api::{
    document::HardenDocument,
    pb::{Document, HardenRequest},
};

/// Pause between two looks at the steps.
const PAUSE: Duration = Duration::from_millis(300);

/// Most looks at them.
const ROUNDS: usize = 300;

/// Show what the servers lack for mode quorum, and set it
///
/// The promise of mode quorum rests on settings of the servers; the managers look at them all the
/// time, and what is missing is a problem.requirement in conclave status. This shows, server by
/// server, each thing that is missing and the statements that cure it, then the lines to keep in
/// every my.cnf and service unit, which no manager can see or write.
///
/// With --apply, what can be set over SQL is set (SET PERSIST, so that it outlives a restart): by
/// the leading manager, as steps in its record, under the lock that failovers use, each read back.
/// Nothing is restarted, no client is cut, no replication is stopped. The rest stays yours:
/// accounts, heartbeat periods, plugins, files.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  conclave cluster harden app1             show what is missing; changes nothing
  conclave cluster harden app1 --apply     set what can be set over SQL
  conclave cluster harden app1 -o json     for programs: \"missing\" counts what is left

Exit code 0: nothing is missing. 1: something is. 3: no manager could be asked."
)]
pub struct Args {
    /// The cluster
    cluster: String,
    /// Set what can be set over SQL
    #[arg(long)]
    apply: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(reach: &Reach, args: Args) -> Done {
    let mut answer = ask(reach, &args, args.apply).await?;
    let mut found: HardenDocument = read(&answer)?;
    if args.apply {
        (answer, found) = follow(reach, &args, answer, found).await?;
    }
    match args.output {
        Output::Json => print_json(&answer),
        Output::Table => print!("{}", print::harden(&found, args.apply, Paint::of_stdout())),
    }
    Ok(u8::from(found.missing > 0))
}

/// Waits for the end of the steps, and asks for those that had to wait for it.
async fn follow(
    reach: &Reach,
    args: &Args,
    mut answer: Document,
    mut found: HardenDocument,
) -> Result<(Document, HardenDocument), Failure> {
    for _ in 0..ROUNDS {
        if matches!(args.output, Output::Table) {
            found.planned.iter().for_each(|sentence| println!("planned: {sentence}"));
        }
        let is_under_way = found.servers.iter().any(|server| server.is_under_way);
        if !is_under_way && !is_progress_possible(&found) {
            return Ok((answer, found));
        }
        tokio::time::sleep(PAUSE).await;
        answer = ask(reach, args, !is_under_way).await?;
        found = read(&answer)?;
    }
    Err(Failure::refused("the steps have not ended in time; conclave status shows them"))
}

/// Something applicable is left on a server whose last step has not failed for good.
fn is_progress_possible(found: &HardenDocument) -> bool {
    found
        .servers
        .iter()
        .any(|server| server.step.is_none() && server.missing.iter().any(|need| need.is_applicable))
}

async fn ask(reach: &Reach, args: &Args, apply: bool) -> Result<Document, Failure> {
    let mut there = reach.managers()?.any().await?;
    let ask = HardenRequest { caller: caller(), cluster: args.cluster.clone(), apply };
    tell(there.cluster_harden(ask)).await
}
