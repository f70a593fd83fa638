//! `conclave report`.

use super::{
    Done, Output,
    print::{self, Paint},
    reach::{Reach, caller, print_json, read},
};
use crate::api::{document::ReportDocument, pb::ReportRequest};

/// Tell what happened in a failover, and why
///
/// Who answered what and how old it was, each step with its duration and evidence, what was or
/// may have been lost, and a time line. It is told from the replicated record alone: any manager
/// can, also long after, with the leader of that time gone.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  conclave report                   the newest of all
  conclave report app1              the newest of a cluster
  conclave report app1-7            that one; conclave status names it
  conclave report app1-7 -o json"
)]
pub struct Args {
    /// An attempt, or a cluster
    #[arg(value_name = "ID|CLUSTER")]
    what: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(reach: &Reach, args: Args) -> Done {
    let ask = ReportRequest { caller: caller(), what: args.what.unwrap_or_default() };
    let document = reach
        .managers()?
        .ask(|mut there| {
            let ask = ask.clone();
            async move { there.report(ask).await }
        })
        .await?;
    match args.output {
        Output::Json => print_json(&document),
        Output::Table => {
            let report: ReportDocument = read(&document)?;
            print!("{}", print::report(&report, Paint::of_stdout()));
        }
    }
    Ok(0)
}
