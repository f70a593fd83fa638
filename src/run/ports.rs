//! The core's ports, bundled for the step runner.

use std::sync::Arc;

use conclave_core::{
    model::{ClusterName, GtidSet, Mono, StepId},
    ports::{Clock, Consensus, Ports, ProposeError},
    state::{Command, Reply},
};

use super::live::Live;
use crate::{
    adapters::{clock::SystemClock, hook::HookPort, mysql::MysqlPort, ssh::SshPort},
    raft::{self, Node},
};

/// The Raft log, as the step runner sees it.
#[derive(Clone)]
pub struct Log {
    node: Node,
    live: Live,
}

impl Consensus for Log {
    async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        if let Command::EndStep { cluster, step, .. } = &command {
            self.live.step_acted(cluster, *step);
        }
        propose(&self.node, command).await
    }
}

/// Proposes, and takes a rejection by the state machine for the error that it is.
///
/// # Errors
/// See [`ProposeError`].
pub async fn propose(node: &Node, command: Command) -> Result<Reply, ProposeError> {
    match node.propose(command).await {
        Ok(Reply::Rejected { rejection }) => Err(ProposeError::Rejected(rejection)),
        Ok(reply) => Ok(reply),
        Err(raft::ProposeError::NotLeader { .. }) => Err(ProposeError::NotLeader),
        Err(raft::ProposeError::NoQuorum) => Err(ProposeError::NoQuorum),
        Err(
            error @ (raft::ProposeError::TooLarge { .. }
            | raft::ProposeError::Unknown { .. }
            | raft::ProposeError::Fatal { .. }),
        ) => Err(ProposeError::Unknown(error.to_string())),
    }
}

/// Everything a step needs, for real.
#[derive(Clone)]
pub struct World {
    mysql: Arc<MysqlPort>,
    remote: Arc<SshPort>,
    hooks: HookPort,
    log: Log,
    live: Live,
}

impl World {
    /// Bundles the adapters.
    pub fn new(
        mysql: Arc<MysqlPort>,
        remote: Arc<SshPort>,
        hooks: HookPort,
        node: Node,
        live: Live,
    ) -> Self {
        Self { mysql, remote, hooks, log: Log { node, live: live.clone() }, live }
    }
}

impl Ports for World {
    type Mysql = MysqlPort;
    type Remote = SshPort;
    type Logs = SshPort;
    type Hooks = HookPort;
    type Consensus = Log;
    type Clock = SystemClock;

    fn mysql(&self) -> &MysqlPort {
        &self.mysql
    }

    fn remote(&self) -> &SshPort {
        &self.remote
    }

    fn logs(&self) -> &SshPort {
        &self.remote
    }

    fn hooks(&self) -> &HookPort {
        &self.hooks
    }

    fn consensus(&self) -> &Log {
        &self.log
    }

    fn clock(&self) -> &SystemClock {
        &SystemClock
    }

    fn progressed(&self, cluster: &ClusterName) {
        self.live.progressed(cluster, SystemClock.now());
    }

    fn closed(&self, cluster: &ClusterName, step: StepId, executed: &GtidSet) {
        self.live.closed(cluster, step, executed);
    }

    fn closed_with(&self, cluster: &ClusterName, step: StepId) -> Option<GtidSet> {
        self.live.closed_with(cluster, step)
    }

    fn has_stalled_since(&self, since: Mono) -> bool {
        self.live.has_stalled_since(since, SystemClock.now())
    }
}
