//! What the services need from the running manager. `run` sits behind this desk; a test can sit
//! there as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
};

use conclave_core::{
    decide::{View, Wish},
    model::{ClusterName, ManagerId, Micros, Problem, Ranked, Refusal, ServerName},
    ports::ProposeError,
    state::{Command, Planned, Reply},
};
use tokio::sync::mpsc;

/// What a manager does in the Raft group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It has no vote, as an empty manager.
    #[default]
    Learner,
    /// It has stopped.
    Stopped,
}

/// A member of the Raft group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// `host:port`.
    pub address: String,
    /// Its rack.
    pub rack: String,
    /// Whether it has a vote.
    pub is_voter: bool,
}

/// Another manager, as the leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Follower {
    /// Last entry known to be in its log.
    pub matched: Option<u64>,
    /// How long ago it answered; `None`: never in this term.
    pub heard: Option<Micros>,
}

/// How the Raft group is, as this manager sees it. Log positions are indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftFacts {
    /// The group's id; `None`: this manager is in no group yet.
    pub group: Option<String>,
    /// What this manager does.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader it knows of.
    pub leader: Option<ManagerId>,
    /// Last entry in its log.
    pub last_log: Option<u64>,
    /// Last entry that a majority holds, as it knows.
    pub committed: Option<u64>,
    /// Last entry it has applied.
    pub applied: Option<u64>,
    /// All members.
    pub members: BTreeMap<ManagerId, Seat>,
    /// On the leader: the others.
    pub followers: BTreeMap<ManagerId, Follower>,
    /// What else is wrong, each as one sentence: peers that refuse this manager's calls, ...
    pub warnings: Vec<String>,
}

/// All that this manager knows at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What decisions look at.
    pub view: View,
    /// The Raft group.
    pub raft: RaftFacts,
}

/// What would happen now if a fault came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// The fault, as the second half of "if ...".
    pub fault: String,
    /// The server that would be promoted.
    pub to: Option<ServerName>,
    /// Why not; empty: it would be done.
    pub refusals: Vec<Refusal>,
}

/// What the decisions say of one cluster, looking at a [`View`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What would happen now, per fault.
    pub forecasts: Vec<Forecast>,
    /// All servers, best first.
    pub ranking: Vec<Ranked>,
    /// Everything that the gate refuses with right now.
    pub refusals: Vec<Refusal>,
}

/// What a failover would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// The server that would be promoted.
    pub candidate: Option<ServerName>,
    /// Everything that stands against it; empty: it would be done.
    pub refusals: Vec<Refusal>,
    /// All servers, best first.
    pub ranking: Vec<Ranked>,
    /// Code of each stage with its steps, as far as they can be told beforehand.
    pub stages: Vec<(&'static str, Vec<Planned>)>,
}

/// Something said to whoever waits for a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// One sentence.
    pub sentence: String,
    /// The wish is answered: an attempt was opened, or will not be.
    pub is_answer: bool,
}

/// A manager to be made a member of a new group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// Its id.
    pub id: ManagerId,
    /// `host:port`.
    pub address: String,
    /// Its rack.
    pub rack: String,
}

/// The running manager.
pub trait Desk: Send + Sync + 'static {
    /// What this manager knows now. Must not wait.
    fn snapshot(&self) -> Snapshot;

    /// What the decisions say of a cluster.
    fn findings(&self, view: &View, cluster: &ClusterName) -> Findings;

    /// Commits a command; on the leader only.
    fn propose(&self, command: Command)
    -> impl Future<Output = Result<Reply, ProposeError>> + Send;

    /// Hands in an operator's wish; on the leader only. The channel closes when nothing more will
    /// be said about it.
    ///
    /// # Errors
    /// One sentence; nothing was done. Another operator's wish is waiting, for example.
    fn wish(&self, cluster: &ClusterName, wish: Wish) -> Result<mpsc::Receiver<Said>, String>;

    /// What that wish would lead to; nothing is done. On the leader only.
    ///
    /// # Errors
    /// One sentence: it could not be found out.
    fn rehearse(
        &self,
        cluster: &ClusterName,
        wish: Wish,
    ) -> impl Future<Output = Result<Rehearsal, String>> + Send;

    /// Makes this manager and the others a group, and returns its id.
    ///
    /// # Errors
    /// One sentence.
    fn init_group(
        &self,
        members: Vec<NewMember>,
    ) -> impl Future<Output = Result<String, String>> + Send;
}

/// Racks that hold a majority of the voters: the group dies with such a rack.
pub fn crowded_rack<'a>(racks: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all = 0;
    for rack in racks {
        *counts.entry(rack).or_default() += 1;
        all += 1;
    }
    let crowded = counts.into_iter().find(|(_, count)| all > 1 && *count > all / 2);
    crowded.map(|(rack, count)| {
        format!("rack {rack} holds {count} of {all} managers: the group stops if it is lost")
    })
}

impl Role {
    /// As shown to operators.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
            Role::Stopped => "stopped",
        }
    }
}

impl RaftFacts {
    /// All voters.
    pub fn voters(&self) -> BTreeSet<ManagerId> {
        let voters = self.members.iter().filter(|(_, seat)| seat.is_voter);
        voters.map(|(id, _)| *id).collect()
    }
}
