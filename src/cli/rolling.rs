//! `conclave switchover --rolling`: every server of a cluster is handed to its operator, one at a
//! time, the primary last. Each step by itself is a command of its own, so that whoever stops in the
//! middle goes on by hand.

use std::{
    io::{Write, stdin, stdout},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Done, Failure, drain,
    reach::{Reach, caller, read},
    switchover::{Args, carry_out},
};
use crate::api::{
    document::{ClusterDocument, ServerDocument, StatusDocument},
    pb::{StatusRequest, SwitchoverRequest},
};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Draining takes a step or two; longer means that something stands against it.
const DRAINED: Duration = Duration::from_secs(60);

pub(super) async fn run(reach: &Reach, args: &Args) -> Done {
    let cluster = &args.cluster;
    let first = look(reach, cluster).await?;
    let Some(primary) = first.primary.clone() else {
        return Err(Failure::refused(format!("{cluster} has no primary now")));
    };
    let mut names: Vec<String> = first.servers.iter().map(|server| server.name.clone()).collect();
    names.retain(|name| *name != primary);
    println!("{cluster}: {} in this order, then the primary {primary}", names.join(", "));
    for name in names.iter().chain([&primary]) {
        match is_primary(reach, cluster, name).await? {
            true => {
                println!("\n{name} is the primary: another server takes over");
                let exit_code = carry_out(reach, switch(args)).await?;
                if exit_code != 0 {
                    return Err(Failure::refused(format!(
                        "stopped before {name}: it is as it was"
                    )));
                }
            }
            false => {
                println!("\n{name}: draining");
                drain::ask(reach, cluster, name, false).await?;
            }
        }
        wait(reach, cluster, name, Some(DRAINED), |server| server.role == "drained").await?;
        if !hand_over(name)? {
            return Err(Failure::refused(format!(
                "stopped at {name}, which stays drained: conclave undrain {cluster} {name} has it \
                 back"
            )));
        }
        drain::ask(reach, cluster, name, true).await?;
        println!("{name}: waiting until it replicates again");
        wait(reach, cluster, name, None, is_back).await?;
        println!("{name}: back");
    }
    println!("\n{cluster}: every server was handed over and is back");
    Ok(0)
}

fn switch(args: &Args) -> SwitchoverRequest {
    SwitchoverRequest {
        caller: caller(),
        cluster: args.cluster.clone(),
        to: String::new(),
        deadline_ms: args.deadline,
        leave_old: true,
        cut: args.cut,
    }
}

/// It replicates, has what the primary has, and acknowledges if it is to.
fn is_back(server: &ServerDocument) -> bool {
    let lacks = server.missing.as_ref().map_or(u64::MAX, |missing| missing.count);
    let acknowledges = !server.is_acker || server.semi_sync.as_deref() == Some("replica");
    server.role == "replica" && acknowledges && server.lag_s == Some(0) && lacks < 1_000
}

async fn is_primary(reach: &Reach, cluster: &str, name: &str) -> Result<bool, Failure> {
    Ok(look(reach, cluster).await?.primary.as_deref() == Some(name))
}

/// True: go on.
fn hand_over(name: &str) -> Result<bool, Failure> {
    print!("{name} is drained, and yours. Enter when its mysqld runs again, q to stop here: ");
    let mut line = String::new();
    let asked = stdout().flush().and_then(|()| stdin().read_line(&mut line));
    let read = asked.map_err(|error| Failure::refused(format!("read the answer: {error}")))?;
    Ok(read > 0 && !line.trim().eq_ignore_ascii_case("q"))
}

async fn wait(
    reach: &Reach,
    cluster: &str,
    name: &str,
    limit: Option<Duration>,
    is_so: impl Fn(&ServerDocument) -> bool,
) -> Result<(), Failure> {
    let began = Instant::now();
    let mut told = String::new();
    loop {
        let now = look(reach, cluster).await?;
        let server = now.servers.iter().find(|server| server.name == name);
        let Some(server) = server else {
            return Err(Failure::refused(format!("{cluster} has no server {name} any more")));
        };
        if is_so(server) {
            return Ok(());
        }
        let state = format!("{name} is {}, {}", server.role, server.state);
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            return Err(Failure::refused(format!(
                "{state}; conclave status {cluster} shows what stands against it"
            )));
        }
        if state != told {
            println!("  {state}");
            told = state;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(reach: &Reach, cluster: &str) -> Result<ClusterDocument, Failure> {
    let question = |mut there: crate::api::pb::admin_client::AdminClient<_>| async move {
        let ask = StatusRequest { caller: caller(), cluster: cluster.to_owned() };
        there.status(ask).await
    };
    let is_whole = |document: &crate::api::pb::Document| {
        read::<StatusDocument>(document).is_ok_and(|seen| seen.is_complete)
    };
    let document = reach.managers()?.ask_for(question, is_whole).await?;
    let status: StatusDocument = read(&document)?;
    let found = status.clusters.into_iter().find(|found| found.name == cluster);
    found.ok_or_else(|| Failure::refused(format!("there is no cluster {cluster}")))
}
