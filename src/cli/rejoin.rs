//! `conclave rejoin`.

use std::{
    io::{IsTerminal, stdin},
    time::Duration,
};

use tonic::transport::Channel;

use super::{
    Done, Failure,
    failover::ask_for_name,
    print::{self, Paint},
    reach::{Managers, Reach, caller, read, tell},
};
use crate::api::{
    document::{RejoinDocument, StatusDocument},
    pb::{RejoinRequest, StatusRequest, admin_client::AdminClient},
};

/// Pause between two looks at how it goes.
const LOOK: Duration = Duration::from_secs(1);

/// Have a server back that was replaced or quarantined
///
/// A server without transactions of its own is put behind the primary. One with transactions that
/// the primary lacks is rebuilt with a copy of a healthy server's data (clone plugin), and what it
/// had extra is discarded: it was saved to files of its own host before. A server whose mysqld is
/// not supervised has to be started by hand when the copy is complete.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  conclave rejoin app1 db1 --dry-run             what it has, what would be done, what stands against it
  conclave rejoin app1 db1                       a server that has nothing extra
  conclave rejoin app1 db1 --discard-proved      all it has extra is proved never acknowledged
  conclave rejoin app1 db1 --discard-all         somebody may have been told OK; your name is recorded"
)]
pub struct Args {
    /// The cluster
    cluster: String,
    /// The server
    server: String,
    /// Discard what it has extra, if all of it is proved never acknowledged
    #[arg(long, conflicts_with = "discard_all")]
    discard_proved: bool,
    /// Discard what it has extra, also what may have been acknowledged
    #[arg(long)]
    discard_all: bool,
    /// Only show what it would do
    #[arg(long)]
    dry_run: bool,
    /// Do not ask back
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(reach: &Reach, args: Args) -> Done {
    let managers = reach.managers()?;
    let mut ask = RejoinRequest {
        caller: caller(),
        cluster: args.cluster.clone(),
        server: args.server.clone(),
        discard_proved: args.discard_proved,
        discard_all: args.discard_all,
        dry_run: true,
        extra: String::new(),
    };
    let question = |mut there: AdminClient<Channel>| {
        let ask = ask.clone();
        async move { there.rejoin(ask).await }
    };
    let plan: RejoinDocument = read(&managers.ask(question).await?)?;
    print!("{}", print::rejoin(&plan, Paint::of_stdout()));
    if args.dry_run || !plan.refusals.is_empty() {
        return Ok(u8::from(!plan.refusals.is_empty()));
    }
    let is_discarding = plan.extra.is_some();
    if is_discarding && !args.yes {
        if !stdin().is_terminal() {
            let text = "wanted --yes, since nobody can be asked here; nothing was done";
            return Err(Failure::usage(text));
        }
        ask_for_name(&args.server, "discard what the primary lacks and rebuild")?;
    }
    ask.dry_run = false;
    ask.extra = plan.extra.map(|extra| extra.gtids.set).unwrap_or_default();
    let mut there = managers.any().await?;
    let done: RejoinDocument = read(&tell(there.rejoin(ask)).await?)?;
    if !done.refusals.is_empty() {
        print!("{}", print::rejoin(&done, Paint::of_stdout()));
        return Ok(1);
    }
    println!("agreed; the group goes on with it, also if this command is ended");
    follow(&managers, &args).await
}

/// Tells each change until the server is a replica again.
async fn follow(managers: &Managers, args: &Args) -> Done {
    let mut told = String::new();
    loop {
        let ask = StatusRequest { caller: caller(), cluster: args.cluster.clone() };
        let question = |mut there: AdminClient<Channel>| {
            let ask = ask.clone();
            async move { there.status(ask).await }
        };
        let seen: StatusDocument = read(&managers.ask(question).await?)?;
        let cluster = seen.clusters.first();
        let servers = cluster.map(|cluster| &cluster.servers[..]).unwrap_or_default();
        let server = servers.iter().find(|server| server.name == args.server);
        let Some((cluster, server)) = cluster.zip(server) else {
            return Err(Failure::refused(format!("{} is not defined any more", args.server)));
        };
        let steps = cluster.chores.iter().filter(|step| step.target == args.server);
        let steps: Vec<String> = steps.map(print::step).collect();
        let now =
            format!("{} is {}, {}: {}", server.name, server.role, server.state, steps.join("; "));
        if now != told {
            println!("{}", now.trim_end_matches([':', ' ']));
            told = now;
        }
        if server.role == "replica" {
            return Ok(0);
        }
        tokio::time::sleep(LOOK).await;
    }
}
