//! How is the group, as this manager sees it? Plain values for `conclave status`.

use std::{collections::BTreeMap, time::Duration};

use openraft::{Instant, ServerState};

use super::{
    group::GroupId,
    node::Leader,
    types::{LogId, MemberNode, Metrics},
};

/// What this manager does in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It receives the log but has no vote; an empty manager too.
    Learner,
    /// It has stopped.
    Stopped,
}

impl From<ServerState> for Role {
    fn from(state: ServerState) -> Self {
        match state {
            ServerState::Leader => Self::Leader,
            ServerState::Follower => Self::Follower,
            ServerState::Candidate => Self::Candidate,
            ServerState::Learner => Self::Learner,
            ServerState::Shutdown => Self::Stopped,
        }
    }
}

/// Another manager, as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    /// The last entry known to be in its log; `None`: nothing known yet.
    pub matched: Option<u64>,
    /// How long ago it answered last; `None`: never in this term.
    pub last_ack: Option<Duration>,
}

/// How the group is. Log positions are indexes; `None`: there is no such entry.
#[derive(Clone, Debug)]
pub struct Status {
    pub id: u64,
    /// `None`: this manager is not part of a group yet.
    pub group: Option<GroupId>,
    pub role: Role,
    pub term: u64,
    pub leader: Option<Leader>,
    pub last_log: Option<u64>,
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    /// The last entry in the snapshot.
    pub snapshot: Option<u64>,
    /// The last entry that was removed from the log.
    pub purged: Option<u64>,
    pub voters: BTreeMap<u64, MemberNode>,
    pub learners: BTreeMap<u64, MemberNode>,
    /// On the leader only; without the leader itself.
    pub followers: BTreeMap<u64, Follower>,
    /// On the leader only: how long ago a majority had answered.
    pub quorum_ack: Option<Duration>,
    /// Why peers refuse this manager's calls, by their ids.
    pub refusals: BTreeMap<u64, String>,
    /// Why this manager must stop, if it must.
    pub fatal: Option<String>,
}

impl Status {
    pub(super) fn new(
        metrics: &Metrics,
        group: Option<GroupId>,
        refusals: BTreeMap<u64, String>,
        fatal: Option<String>,
    ) -> Self {
        let membership = metrics.membership_config.membership();
        let voter_ids: Vec<u64> = membership.voter_ids().collect();
        let nodes = membership.nodes().map(|(id, node)| (*id, node.clone()));
        let (voters, learners) = nodes.partition(|(id, _)| voter_ids.contains(id));
        let index = |id: Option<LogId>| id.map(|id| id.index);
        Self {
            id: metrics.id,
            group,
            role: metrics.state.into(),
            term: metrics.current_term,
            leader: Leader::of(metrics),
            last_log: metrics.last_log_index,
            committed: index(metrics.local_committed),
            applied: index(metrics.last_applied),
            snapshot: index(metrics.snapshot),
            purged: index(metrics.purged),
            voters,
            learners,
            followers: followers(metrics),
            quorum_ack: metrics.last_quorum_acked.map(|at| at.elapsed()),
            refusals,
            fatal,
        }
    }
}

fn followers(metrics: &Metrics) -> BTreeMap<u64, Follower> {
    let Some(replication) = &metrics.replication else { return BTreeMap::new() };
    let heartbeat = metrics.heartbeat.as_ref();
    let others = replication.iter().filter(|(id, _)| **id != metrics.id);
    let seen = others.map(|(id, matched)| {
        let acked = heartbeat.and_then(|beats| beats.get(id).copied().flatten());
        let matched = matched.map(|id| id.index);
        (*id, Follower { matched, last_ack: acked.map(|at| at.elapsed()) })
    });
    seen.collect()
}
