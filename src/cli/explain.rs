//! `conclave explain`.

use super::{
    Done, Failure, Output,
    print::{self, Paint},
    reach::{Reach, caller, print_json, read},
};
use crate::api::{catalogue, document::ExplainDocument, pb::ClusterRequest};

/// Explain a cluster's candidates and refusals, or a code
///
/// A cluster: all servers as candidates, best first, each with the reasons for its place or
/// against it, and everything that stands against a failover now. A code such as
/// gate.no_coverage: what it says, how it comes about, and what to do. Nothing: all codes.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  conclave explain app1
  conclave explain gate.no_coverage
  conclave explain                  every code with its sentence"
)]
pub struct Args {
    /// A cluster, or a code (with a dot in it)
    #[arg(value_name = "CLUSTER|CODE")]
    what: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn run(reach: &Reach, args: Args) -> Done {
    let paint = Paint::of_stdout();
    let Some(what) = args.what else {
        print!("{}", print::codes(&catalogue::all(), paint));
        return Ok(0);
    };
    if what.contains('.') {
        let entry = catalogue::find(&what).ok_or_else(|| {
            Failure::usage(format!("there is no code {what}; conclave explain lists all"))
        })?;
        print!("{}", print::code(&entry, paint));
        return Ok(0);
    }
    let ask = ClusterRequest { caller: caller(), cluster: what };
    let document = reach
        .managers()?
        .ask(|mut there| {
            let ask = ask.clone();
            async move { there.explain(ask).await }
        })
        .await?;
    match args.output {
        Output::Json => print_json(&document),
        Output::Table => {
            let explained: ExplainDocument = read(&document)?;
            print!("{}", print::explain(&explained, paint));
        }
    }
    Ok(0)
}
