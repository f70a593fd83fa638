//! `conclave status`.

use std::io::{IsTerminal, stdout};

use tonic::transport::Channel;

use super::{
    Done, Failure, Output,
    print::{self, Paint},
    reach::{Managers, Reach, caller, print_json, read},
};
use crate::api::{
    document::{Health, StatusDocument},
    pb::{Document, StatusRequest, admin_client::AdminClient},
};

/// Show the managers, the clusters, and what would happen now
///
/// For each cluster: its servers as a tree, who says what of the primary, what is wrong, and for
/// each fault whether it would be failed over, to whom, or why not and what to do about it.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  conclave status                   everything
  conclave status app1              one cluster
  conclave status --watch           again every 2 seconds
  conclave status -o json | jq .clusters[].problems
  conclave status app1 >/dev/null; echo $?      for monitoring

Exit codes: 0 ok, 1 warning, 2 critical, 3 no manager could be asked."
)]
pub struct Args {
    /// Only this cluster
    cluster: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Again and again, with so many seconds between
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3600))]
    watch: Option<u32>,
}

pub(super) async fn run(reach: &Reach, args: Args) -> Done {
    // Monitoring reads 1 and 2 as the state of a cluster, which was not found out.
    let unknown = |failure| Failure { exit_code: Health::Unknown.exit_code(), ..failure };
    let managers = reach.managers().map_err(unknown)?;
    let Some(seconds) = args.watch else {
        let document = look(&managers, &args).await.map_err(unknown)?;
        return show(&document, args.output).map_err(unknown);
    };
    let pause = std::time::Duration::from_secs(seconds.into());
    loop {
        let seen = look(&managers, &args).await;
        if stdout().is_terminal() && args.output == Output::Table {
            print!("\x1b[H\x1b[2J");
        }
        match seen {
            Ok(document) => {
                show(&document, args.output)?;
            }
            Err(failure) => println!("{}", failure.text),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = tokio::signal::ctrl_c() => return Ok(0),
        }
    }
}

async fn look(managers: &Managers, args: &Args) -> Result<Document, Failure> {
    let cluster = args.cluster.clone().unwrap_or_default();
    let ask = StatusRequest { caller: caller(), cluster };
    let question = |mut there: AdminClient<Channel>| {
        let ask = ask.clone();
        async move { there.status(ask).await }
    };
    // One that is cut off from the leader sees only its own part; another may see all.
    let is_whole =
        |document: &Document| read::<StatusDocument>(document).is_ok_and(|seen| seen.is_complete);
    managers.ask_for(question, is_whole).await
}

fn show(document: &Document, output: Output) -> Done {
    let status: StatusDocument = read(document)?;
    match output {
        Output::Json => print_json(document),
        Output::Table => print!("{}", print::status(&status, Paint::of_stdout())),
    }
    Ok(status.exit_code)
}
