//! `conclave switchover`.

use std::io::{IsTerminal, stdin};

use super::{
    Done, Failure,
    failover::{ask_for_name, follow},
    print::{self, Paint},
    reach::{Reach, caller, read, tell},
    rolling,
};
use crate::api::{document::PlanDocument, pb::SwitchoverRequest};

/// Replace a live primary, without a write lost and almost without a pause
///
/// Everything that could go wrong is looked at first, and listed together; nothing is touched while
/// one check fails. Then the new primary comes level while writes go on, writes end on the old one,
/// and begin on the new one. Whatever fails, hangs or takes longer than the deadline before the new
/// primary is decided undoes it all: the old primary takes writes again.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  conclave switchover app1 --dry-run        the steps, and every reason against it
  conclave switchover app1                  asks before it begins
  conclave switchover app1 --to db3 --yes
  conclave switchover app1 --leave-old --yes
        the old primary stays read-only and out of the cluster, so that you can work on it;
        conclave undrain app1 db1 has it back
  conclave switchover app1 --rolling
        one server after the other is drained and handed to you, and taken back when you say so;
        the primary comes last

Progress is printed as it happens. If the connection is lost the switchover goes on; conclave status
and conclave report show it."
)]
pub struct Args {
    /// The cluster
    pub(super) cluster: String,
    /// Promote this server rather than the best
    #[arg(long, value_name = "SERVER", conflicts_with = "rolling")]
    to: Option<String>,
    /// Print what would be done and what stands against it, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Undo it if the new primary is not decided by then: 500ms to 600s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = millis)]
    pub(super) deadline: u64,
    /// Leave the old primary read-only and out of the cluster
    #[arg(long, conflicts_with = "rolling")]
    leave_old: bool,
    /// Cut long transactions, long statements and LOCK TABLES rather than refuse
    #[arg(long)]
    pub(super) cut: bool,
    /// Hand every server over for maintenance, one at a time
    #[arg(long, conflicts_with = "dry_run")]
    rolling: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// `5s`, `1500ms` or `1.5s`.
fn millis(text: &str) -> Result<u64, String> {
    let wrong = || format!("wanted a time such as 5s or 1500ms, found {text:?}");
    let millis = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => number.parse::<f64>().map_err(|_| wrong())?,
        (None, Some(number)) => number.parse::<f64>().map_err(|_| wrong())? * 1000.0,
        (None, None) => return Err(wrong()),
    };
    match (500.0..=600_000.0).contains(&millis) {
        true => Ok(millis.round() as u64),
        false => Err(format!("wanted a deadline of 500ms to 600s, found {text}")),
    }
}

pub(super) async fn run(reach: &Reach, args: Args) -> Done {
    if args.rolling {
        return rolling::run(reach, &args).await;
    }
    let ask = SwitchoverRequest {
        caller: caller(),
        cluster: args.cluster.clone(),
        to: args.to.clone().unwrap_or_default(),
        deadline_ms: args.deadline,
        leave_old: args.leave_old,
        cut: args.cut,
    };
    if args.dry_run {
        return rehearse(reach, ask).await;
    }
    if !args.yes {
        if !stdin().is_terminal() {
            let text =
                "wanted --yes, since nobody can be asked here; --dry-run shows what it would do";
            return Err(Failure::usage(text));
        }
        ask_for_name(&args.cluster, "switch over")?;
    }
    carry_out(reach, ask).await
}

async fn rehearse(reach: &Reach, ask: SwitchoverRequest) -> Done {
    let document = reach
        .managers()?
        .ask(|mut there| {
            let ask = ask.clone();
            async move { there.switchover_plan(ask).await }
        })
        .await?;
    let plan: PlanDocument = read(&document)?;
    print!("{}", print::plan(&plan, Paint::of_stdout()));
    Ok(u8::from(!plan.refusals.is_empty()))
}

/// Asks for it and tells what happens until it is over.
pub(super) async fn carry_out(reach: &Reach, ask: SwitchoverRequest) -> Done {
    let cluster = ask.cluster.clone();
    let mut there = reach.managers()?.any().await?;
    let progress = tell(there.switchover(ask)).await?;
    follow(progress, &cluster).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_with_their_unit_and_checked() {
        assert_eq!(millis("5s"), Ok(5_000));
        assert_eq!(millis("1.5s"), Ok(1_500));
        assert_eq!(millis("500ms"), Ok(500));
        for wrong in ["5", "s", "-1s", "NaNs", "5 min"] {
            assert!(millis(wrong).is_err(), "{wrong}");
        }
        assert!(millis("499ms").is_err_and(|why| why.contains("500ms to 600s")));
        assert!(millis("601s").is_err());
    }
}
