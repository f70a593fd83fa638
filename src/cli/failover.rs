//! `conclave failover`.

use std::io::{IsTerminal, Write, stdin, stdout};

use tonic::{Status, Streaming};

use super::{
    Done, Failure,
    print::{self, Paint},
    reach::{Reach, caller, read, refusal, tell},
};
use crate::api::{
    client::is_lost,
    document::PlanDocument,
    pb::{End, FailoverRequest, Progress},
};

/// Replace a dead primary now
///
/// The same states and rules as for the group's own failovers: a majority has to find the primary
/// dead, and every reason to refuse counts. For a live primary this is refused.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  conclave failover app1 --dry-run          the steps, and every refusal; nothing is done
  conclave failover app1                    asks before it begins
  conclave failover app1 --to db3 --yes
  conclave failover app1 --old-primary-is-dead --yes
        where no fence can be proved, and you know that the old primary takes no writes: its
        power is off, for example. You are recorded as the one who vouched for it.

Progress is printed as it happens. If the connection is lost the failover goes on; conclave status
and conclave report show it."
)]
pub struct Args {
    /// The cluster
    cluster: String,
    /// Promote this server rather than the best
    #[arg(long, value_name = "SERVER")]
    to: Option<String>,
    /// Print what would be done and what stands against it, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Vouch that the old primary takes no writes any more
    #[arg(long)]
    old_primary_is_dead: bool,
    /// Do it although the last failover was a short time ago
    #[arg(long)]
    ignore_last_failover: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(reach: &Reach, args: Args) -> Done {
    let managers = reach.managers()?;
    let ask = FailoverRequest {
        caller: caller(),
        cluster: args.cluster.clone(),
        to: args.to.clone().unwrap_or_default(),
        old_primary_is_dead: args.old_primary_is_dead,
        ignore_last_failover: args.ignore_last_failover,
    };
    if args.dry_run {
        let document = managers
            .ask(|mut there| {
                let ask = ask.clone();
                async move { there.failover_plan(ask).await }
            })
            .await?;
        let plan: PlanDocument = read(&document)?;
        print!("{}", print::plan(&plan, Paint::of_stdout()));
        return Ok(u8::from(!plan.refusals.is_empty()));
    }
    if !args.yes {
        confirm(&args)?;
    }
    let mut there = managers.any().await?;
    let progress = tell(there.failover(ask)).await?;
    follow(progress, &args.cluster).await
}

fn confirm(args: &Args) -> Result<(), Failure> {
    if !stdin().is_terminal() {
        let text = "wanted --yes, since nobody can be asked here; --dry-run shows what it would do";
        return Err(Failure::usage(text));
    }
    if args.old_primary_is_dead {
        println!("You vouch that the old primary of {} takes no writes any more.", args.cluster);
        println!("If it does, there will be two primaries. Your name is recorded.");
    }
    ask_for_name(&args.cluster, "fail over")
}

/// Asks for the cluster's name, as a yes that is not typed by accident.
pub(super) fn ask_for_name(cluster: &str, what: &str) -> Result<(), Failure> {
    print!("To {what} {cluster}, type its name: ");
    let mut line = String::new();
    let asked = stdout().flush().and_then(|()| stdin().read_line(&mut line));
    asked.map_err(|error| Failure::refused(format!("read the answer: {error}")))?;
    match line.trim() == cluster {
        true => Ok(()),
        false => Err(Failure::refused("nothing was done: another name was typed")),
    }
}

pub(super) async fn follow(mut progress: Streaming<Progress>, cluster: &str) -> Done {
    let paint = Paint::of_stdout();
    let mut failover = String::new();
    loop {
        let news = match progress.message().await {
            Ok(Some(news)) => news,
            Ok(None) => return Err(lost(None, cluster)),
            Err(status) => return Err(lost(Some(&status), cluster)),
        };
        if !news.failover.is_empty() {
            failover.clone_from(&news.failover);
        }
        if !news.sentence.is_empty() {
            println!("{}", print::progress(&news.sentence, news.at_us, news.end(), paint));
        }
        let exit_code = match news.end() {
            End::Unspecified => continue,
            End::Promoted => 0,
            End::Refused | End::Aborted | End::Superseded => 1,
        };
        if !failover.is_empty() {
            println!("conclave report {failover} tells all of it");
        }
        return Ok(exit_code);
    }
}

fn lost(status: Option<&Status>, cluster: &str) -> Failure {
    match status {
        Some(status) if !is_lost(status) => refusal(status),
        Some(_) | None => Failure::refused(format!(
            "the connection was lost, and it may go on: conclave status {cluster} and \
             conclave report {cluster} show it"
        )),
    }
}
