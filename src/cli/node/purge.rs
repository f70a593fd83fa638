//! `conclave node purge-relay-logs`.

use std::path::PathBuf;

use super::{Done, Failure, login::LoginArgs};
use crate::node::purge::{Outcome, Purge};

/// Delete relay logs that are applied, without holding the applier up
///
/// For replicas that keep their relay logs (relay_log_purge = OFF) so that others can be brought
/// level from them; run it from cron, at different times on each replica. What the server deletes
/// has a second name by then, so that deleting costs it nothing; the files are taken away in small
/// pieces afterwards. Not while a failover is under way.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Example, in cron:
  conclave node purge-relay-logs --defaults-file /root/.my.cnf --disable-relay-log-purge

Exit codes: 0 done, or the server purges them itself; 1 refused or failed; 2 wrong usage.
MHA's spellings (--disable_relay_log_purge ...) are understood."
)]
pub struct Args {
    #[command(flatten)]
    login: LoginArgs,
    /// If the server purges them itself, switch that off and go on
    #[arg(long, alias = "disable_relay_log_purge")]
    disable_relay_log_purge: bool,
    /// Where the second names are made: on the file system of the relay logs
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    workdir: PathBuf,
    /// Let the server delete the files, however long that takes
    #[arg(long)]
    no_hardlink: bool,
    /// A cluster of Conclave's: wait while a manager acts on the server
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    #[arg(long = "use_hardlink", alias = "use-hardlink", hide = true)]
    _use_hardlink: bool,
    #[arg(long = "relay_log_info", hide = true)]
    _relay_log_info: Option<String>,
}

pub(super) async fn run(args: Args) -> Done {
    let purge = Purge {
        login: args.login.login()?,
        switch_off: args.disable_relay_log_purge,
        link_dir: (!args.no_hardlink).then_some(args.workdir),
        cluster: args.cluster,
    };
    match purge.run().await.map_err(Failure::refused)? {
        Outcome::PurgesItself => println!(
            "relay_log_purge is ON: the server deletes its relay logs itself \
             (--disable-relay-log-purge switches that off)"
        ),
        Outcome::Done { files, bytes, left, no_links } => {
            if let Some(why) = no_links {
                eprintln!("conclave: without second names, as {why}");
            }
            println!("{files} relay logs are gone, {bytes} bytes; {left} applied ones are left");
        }
    }
    Ok(0)
}
