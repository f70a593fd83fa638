//! `conclave pause` and `conclave resume`.

use super::{
    Done,
    reach::{Reach, caller, tell},
};
use crate::api::pb::{ClusterRequest, PauseRequest};

/// Stop automatic failover of a cluster until resumed
///
/// The managers go on watching and reporting; conclave failover still works. Meanwhile they do not
/// open a restarted primary for writes or put a stray replica right either. Who paused it and why
/// is shown by conclave status.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Example:
  conclave pause app1 --reason \"kernel upgrade on db1\""
)]
pub struct PauseArgs {
    /// The cluster
    cluster: String,
    /// Shown to everybody who looks at the status
    #[arg(long, default_value = "")]
    reason: String,
}

/// Let a paused cluster fail over by itself again
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// The cluster
    cluster: String,
}

pub(super) async fn pause(reach: &Reach, args: PauseArgs) -> Done {
    let mut there = reach.managers()?.any().await?;
    let cluster = args.cluster.clone();
    tell(there.pause(PauseRequest { caller: caller(), cluster, reason: args.reason })).await?;
    println!("{} is paused: no automatic failover until conclave resume", args.cluster);
    Ok(0)
}

pub(super) async fn resume(reach: &Reach, args: ResumeArgs) -> Done {
    let mut there = reach.managers()?.any().await?;
    let cluster = args.cluster.clone();
    tell(there.resume(ClusterRequest { caller: caller(), cluster })).await?;
    println!("{} is resumed: the group fails over by itself as its policy says", args.cluster);
    Ok(0)
}
