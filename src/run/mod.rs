//! One manager, running: the loops that carry values between the core, the log and the world.
//! They decide nothing.
//!
//! ```text
//!   probe ---> live <--- ballot (other managers)
//!                |
//!             leader: view -> decide::tick -> moves -> log, steps, questions
//! ```

// Loops rest and look at the clock; decisions get the time as a value.
#![allow(clippy::disallowed_methods)]

pub mod ballot;
pub mod desk;
pub mod leader;
pub mod live;
pub mod ports;
pub mod probe;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use conclave_core::{
    model::{ManagerId, Micros},
    ports::Clock,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tonic::{Request, service::interceptor::InterceptedService};

use crate::{
    adapters::{
        clock::SystemClock,
        hook::HookPort,
        mysql::{MysqlPort, MysqlPortOptions},
        secrets::Secrets,
        ssh::{SshPort, SshPortOptions},
    },
    api,
    config::{ManagerConfig, Security},
    raft::{self, Node, NodeOptions, Timings},
    tls::Tls,
};

/// How long opening a session to a host may take.
const WARM: Micros = Micros(3_000_000);

/// Runs a manager until it is told to stop or must stop.
///
/// # Errors
/// It could not start, or its storage failed: one sentence with what to do.
pub async fn manager(config: ManagerConfig) -> anyhow::Result<()> {
    let secrets = Arc::new(Secrets::load(Some(&config.secrets))?);
    let tls = match &config.security {
        Security::Insecure => None,
        Security::Tls(files) => Some(files.load()?),
    };
    let listener = raft::listen(config.listen)?;
    let node = Node::start(NodeOptions {
        id: config.id.0,
        dir: config.data_dir.clone(),
        timings: Timings {
            heartbeat: config.raft.heartbeat,
            election_min: config.raft.election_min,
            election_max: config.raft.election_max,
            ..Timings::default()
        },
        compaction: raft::Compaction::default(),
        tls: tls.as_ref().map(|tls: &Tls| tls.client.clone()),
    })
    .await?;
    let mysql = Arc::new(MysqlPort::new(secrets.clone(), &MysqlPortOptions::default())?);
    let remote = Arc::new(SshPort::new(secrets, &SshPortOptions::default()));
    let live = live::Live::new(ManagerId(node.id()), SystemClock.now());
    let booths =
        ballot::Booths::new(node.clone(), tls.as_ref().map(|tls: &Tls| tls.client.clone()));
    let world = ports::World::new(
        mysql.clone(),
        remote.clone(),
        HookPort::new(config.hooks_dir),
        node.clone(),
        live.clone(),
    );

    let (stopper, stop) = watch::channel(false);
    let leader = leader::Loop::new(node.clone(), live.clone(), booths.clone(), world);
    let probes = probe::Supervisor { live: live.clone(), mysql, booths, me: ManagerId(node.id()) };
    let leader = tokio::spawn(leader.run(stop.clone()));
    let probes = tokio::spawn(probes.run(node.state(), stop.clone()));
    let warmer = tokio::spawn(warm(remote, node.clone(), live.clone(), stop.clone()));
    let pulse = tokio::spawn(pulse(live.clone(), stop.clone()));

    let desk = Arc::new(desk::Office::new(node.clone(), live.clone()));
    let admin = api::grpc::service(desk, tls.as_ref().map(|tls: &Tls| tls.client.clone()));
    let mut server = raft::server(tls.as_ref().map(|tls| tls.server.clone()))?;
    // Managers among themselves; operators have certificates of the same authority.
    let is_checked = tls.is_some();
    let only_managers = move |request: Request<()>| match is_checked {
        true => api::operator::only_managers(request),
        false => Ok(request),
    };
    let booth = ballot::Booth::service(node.clone(), live);
    let router = server
        .add_service(InterceptedService::new(node.service(), only_managers))
        .add_service(InterceptedService::new(booth, only_managers))
        .add_service(admin);
    tracing::info!(manager = node.id(), rack = %config.rack, listen = %config.listen, "running");
    let mut stopped = stop.clone();
    let serving = router.serve_with_incoming_shutdown(listener, async move {
        // The sender going away means the same.
        let _ = stopped.changed().await;
    });
    let serving = tokio::spawn(serving);

    let end = until_told(&node).await;
    tracing::info!("stopping");
    stopper.send_replace(true);
    for task in [leader, probes, warmer, pulse] {
        task.await.context("join a loop of the manager")?;
    }
    node.shutdown().await;
    // Standing calls of other managers would hold an orderly end up for ever.
    let served = tokio::time::timeout(Duration::from_secs(1), serving).await;
    if let Ok(result) = served {
        result.context("join the server")?.context("serve")?;
    }
    end
}

/// Waits for a signal, or for the log to fail.
async fn until_told(node: &Node) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        why = node.fatal().raised() => Err(anyhow::anyhow!("{why}")),
    }
}

/// Beats, so that a stall of this process is noticed by the gap.
async fn pulse(live: live::Live, mut stop: watch::Receiver<bool>) {
    let beat = || live.beat(SystemClock.now());
    loop {
        beat();
        tokio::select! {
            () = SystemClock.sleep(Micros(live::PULSE.0)) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Keeps sessions to the hosts open, so that a failover finds them open, and tells in advance where
/// it would not.
async fn warm(remote: Arc<SshPort>, node: Node, live: live::Live, mut stop: watch::Receiver<bool>) {
    let mut warming = JoinSet::new();
    loop {
        let group = node.state().borrow().clone();
        for cluster in group.clusters.values() {
            for server in &cluster.definition.servers {
                let at = conclave_core::decide::view::place(cluster, &server.name);
                if let Some(at) = at.filter(|at| at.server.ssh.is_some()) {
                    let (remote, live) = (remote.clone(), live.clone());
                    warming.spawn(async move {
                        let deadline = SystemClock.now().plus(WARM);
                        let login = remote.warm(&at, deadline).await;
                        let login = login.map_err(|error| error.to_string());
                        if let Err(error) = &login {
                            tracing::debug!(server = %at.server.name, error, "no ssh session");
                        }
                        live.saw_host(&at.cluster, &at.server.name, login);
                    });
                }
            }
        }
        let all_warm = async {
            while warming.join_next().await.is_some() {}
            tokio::time::sleep(Duration::from_secs(5)).await;
        };
        tokio::select! {
            () = all_warm => {}
            _ = stop.changed() => return,
        }
    }
}
