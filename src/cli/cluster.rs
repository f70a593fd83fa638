//! `conclave cluster apply | list | show | harden | remove`.

use std::{
    io::{IsTerminal, stdin},
    path::PathBuf,
};

use clap::Subcommand;

use super::{
    Done, Failure, Output,
    failover::ask_for_name,
    print::{self, Paint},
    reach::{Reach, caller, print_json, read, tell},
};
use crate::{
    api::{
        advice,
        document::{ClusterListDocument, ClusterShowDocument},
        pb::{ClusterApplyRequest, ClusterListRequest, ClusterRequest},
    },
    config,
};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put a definition in, or a new version of it
    ///
    /// The file is checked whole before anything is sent, and every mistake is told at once. A new
    /// version changes a running cluster safely: it never changes by itself who is primary, and
    /// what would take away the ground under a failover is refused.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Examples:
  conclave cluster apply app1.toml
  conclave cluster apply app1.toml --check       only check the file; asks no manager
  conclave cluster apply app1.toml --replaces 3  only if version 3 is in force

A file begins like this; deploy/samples/app1.toml shows every key:
  name = \"app1\"
  mode = \"quorum\"            # or \"fenced\" or \"best_effort\"; leave it out to read what they mean
  admin_account = \"conclave\""
    )]
    Apply {
        /// The definition
        file: PathBuf,
        /// Only check the file
        #[arg(long)]
        check: bool,
        /// Refuse unless this version is in force
        #[arg(long, value_name = "VERSION")]
        replaces: Option<u64>,
    },
    /// List the clusters
    List {
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show the definition in force, as a file that apply takes
    Show {
        /// The cluster
        cluster: String,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    Harden(super::harden::Args),
    /// Look after a cluster no more; its servers are not touched
    Remove {
        /// The cluster
        cluster: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

pub(super) async fn run(reach: &Reach, command: Command) -> Done {
    match command {
        Command::Apply { file, check, replaces } => apply(reach, file, check, replaces).await,
        Command::List { output } => list(reach, output).await,
        Command::Show { cluster, output } => show(reach, cluster, output).await,
        Command::Harden(args) => super::harden::run(reach, args).await,
        Command::Remove { cluster, yes } => remove(reach, cluster, yes).await,
    }
}

async fn apply(reach: &Reach, file: PathBuf, check: bool, replaces: Option<u64>) -> Done {
    let definition = config::cluster::load(&file).map_err(Failure::refused)?;
    let name = &definition.name;
    if check {
        for warning in advice::on_definition(&definition) {
            println!("note: {warning}");
        }
        println!("{} is a good definition of cluster {name}; nothing was sent", file.display());
        return Ok(0);
    }
    let json = serde_json::to_string(&definition).map_err(Failure::refused)?;
    let mut there = reach.managers()?.any().await?;
    let ask = ClusterApplyRequest { caller: caller(), definition: json, replaces };
    let reply = tell(there.cluster_apply(ask)).await?;
    for warning in reply.warnings {
        println!("note: {warning}");
    }
    println!("cluster {name}: version {} is in force", reply.version);
    Ok(0)
}

async fn list(reach: &Reach, output: Output) -> Done {
    let document = reach
        .managers()?
        .ask(|mut there| async move {
            there.cluster_list(ClusterListRequest { caller: caller() }).await
        })
        .await?;
    match output {
        Output::Json => print_json(&document),
        Output::Table => {
            let list: ClusterListDocument = read(&document)?;
            print!("{}", print::list(&list, Paint::of_stdout()));
        }
    }
    Ok(0)
}

async fn show(reach: &Reach, cluster: String, output: Output) -> Done {
    let ask = ClusterRequest { caller: caller(), cluster };
    let document = reach
        .managers()?
        .ask(|mut there| {
            let ask = ask.clone();
            async move { there.cluster_show(ask).await }
        })
        .await?;
    match output {
        Output::Json => print_json(&document),
        Output::Table => {
            let shown: ClusterShowDocument = read(&document)?;
            println!("# version {}", shown.version);
            print!("{}", config::cluster::to_toml(&shown.definition));
        }
    }
    Ok(0)
}

async fn remove(reach: &Reach, cluster: String, yes: bool) -> Done {
    let managers = reach.managers()?;
    if !yes {
        if !stdin().is_terminal() {
            return Err(Failure::usage("wanted --yes, since nobody can be asked here"));
        }
        ask_for_name(&cluster, "look no more after")?;
    }
    let mut there = managers.any().await?;
    let ask = ClusterRequest { caller: caller(), cluster: cluster.clone() };
    tell(there.cluster_remove(ask)).await?;
    println!("{cluster} is removed: nobody looks after it any more; its servers run on");
    Ok(0)
}
