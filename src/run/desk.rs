//! What the admin services ask of the running manager.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use conclave_core::{
    decide::Wish,
    model::{ClusterName, ManagerId, Term},
    ports::{Clock, ProposeError},
    state::{Command, GroupState, Reply},
};
use tokio::sync::mpsc;

use super::{
    live::{Frame, Live},
    ports,
};
use crate::{
    adapters::clock::SystemClock,
    api::desk::{Desk, Snapshot},
    raft::{Leader, MemberNode, Node},
};

/// How long a primary's answer about its sessions is waited for.
const SURVEYED: std::time::Duration = std::time::Duration::from_millis(1_500);

/// The desk of a running manager.
pub struct Office {
    node: Node,
    live: Live,
}

impl Office {
    /// Over these.
    pub fn new(node: Node, live: Live) -> Self {
        Self { node, live }
    }
}

impl Desk for Office {
    fn snapshot(&self) -> Snapshot {
        let raft = self.node.status();
        let now = SystemClock.now();
        let leadership = self.node.leadership().borrow().clone();
        let view = self.live.view(Frame {
            term: leadership.is_me.then_some(Term(leadership.term)),
            voters: raft.voters.keys().map(|id| ManagerId(*id)).collect(),
            group: self.group(),
            now,
            advanced_at: now,
            wall_ms: wall_ms(),
        });
        Snapshot { view, raft }
    }

    fn leader(&self) -> Option<Leader> {
        self.node.leader()
    }

    fn me(&self) -> u64 {
        self.node.id()
    }

    fn group(&self) -> Arc<GroupState> {
        self.node.state().borrow().clone()
    }

    async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        ports::propose(&self.node, command).await
    }

    fn wish(
        &self,
        cluster: &ClusterName,
        wish: Wish,
    ) -> Result<mpsc::UnboundedReceiver<String>, String> {
        let (answers, told) = mpsc::unbounded_channel();
        self.live.wish(cluster, wish, answers, SystemClock.now())?;
        Ok(told)
    }

    async fn survey(&self, cluster: &ClusterName) {
        self.live.want_survey(cluster);
        let until = SystemClock.after(SURVEYED);
        while !self.live.has_survey(cluster) && SystemClock.now() < until {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        self.live.surveyed_enough(cluster);
    }

    async fn init_group(&self, members: BTreeMap<u64, MemberNode>) -> Result<String, String> {
        let formed = self.node.init_group(members).await;
        formed.map(|id| id.to_string()).map_err(|error| error.to_string())
    }
}

/// Milliseconds since 1970, for people only; zero if the clock says less.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}
