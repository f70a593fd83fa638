//! `conclave drain` and `conclave undrain`.

use super::{
    Done,
    reach::{Reach, caller, tell},
};
use crate::api::pb::DrainRequest;

/// Leave a server out of the cluster, to work on it
///
/// It acknowledges no more commits, readers are sent elsewhere, and it is neither promoted nor
/// repaired until conclave undrain. Its replication goes on as long as you let it. The primary
/// itself is drained by conclave switchover --leave-old; conclave switchover --rolling does all of
/// them.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Example:
  conclave drain app1 db3        then conclave status app1 shows it as drained
  conclave undrain app1 db3      once its mysqld runs again"
)]
pub struct DrainArgs {
    /// The cluster
    cluster: String,
    /// The server
    server: String,
}

/// Have a server back that was left out
#[derive(Debug, clap::Args)]
pub struct UndrainArgs {
    /// The cluster
    cluster: String,
    /// The server
    server: String,
}

pub(super) async fn drain(reach: &Reach, args: DrainArgs) -> Done {
    ask(reach, &args.cluster, &args.server, false).await?;
    println!(
        "{} is left out of {}: readers and acknowledgements move elsewhere; conclave status shows \
         when that is done",
        args.server, args.cluster
    );
    Ok(0)
}

pub(super) async fn undrain(reach: &Reach, args: UndrainArgs) -> Done {
    ask(reach, &args.cluster, &args.server, true).await?;
    println!("{} comes back: it is put behind the primary once it answers", args.server);
    Ok(0)
}

/// Says so to the leader.
pub(super) async fn ask(reach: &Reach, cluster: &str, server: &str, is_over: bool) -> Done {
    let mut there = reach.managers()?.any().await?;
    let (cluster, server) = (cluster.to_owned(), server.to_owned());
    tell(there.drain(DrainRequest { caller: caller(), cluster, server, is_over })).await?;
    Ok(0)
}
