//! The commands of the Raft log. Imperative, small, and each with what it expects to find.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::model::{
    Actor, ClusterDefinition, ClusterName, Election, Epoch, FailoverId, GtidSet, Micros, Opening,
    Outcome, Rejection, Rejoin, ServerName, StepId, StepKind, StepOutcome, Term,
};

/// A step to be added to the record; the state numbers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// The server acted on.
    pub target: ServerName,
    /// What is to be achieved.
    pub goal: StepKind,
}

/// A change of the replicated state.
///
/// Tagged from the outside: within an inside tag serde reads no map with numbers for keys, and the
/// tally in an opening has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Put a cluster's definition in, or a new version of it.
    ApplyDefinition {
        /// The definition.
        definition: Box<ClusterDefinition>,
        /// Version it replaces; `None`: whatever there is.
        replaces: Option<u64>,
        /// Who.
        actor: Actor,
    },
    /// Look after a cluster no more.
    RemoveCluster {
        /// The cluster.
        cluster: ClusterName,
    },
    /// No automatic failover until resumed.
    Pause {
        /// The cluster.
        cluster: ClusterName,
        /// Who.
        actor: Actor,
        /// Why; shown in status.
        reason: String,
    },
    /// Automatic failover again.
    Resume {
        /// The cluster.
        cluster: ClusterName,
    },
    /// The primary was found by looking at the servers.
    Adopt {
        /// The cluster.
        cluster: ClusterName,
        /// The primary.
        primary: ServerName,
        /// What it has executed.
        executed: GtidSet,
        /// Identities of the servers seen.
        uuids: BTreeMap<ServerName, String>,
    },
    /// Identities of servers that were not known yet.
    Identify {
        /// The cluster.
        cluster: ClusterName,
        /// Name to uuid.
        uuids: BTreeMap<ServerName, String>,
    },
    /// Open an attempt: epoch `expected` becomes `expected + 1`.
    OpenAttempt {
        /// The cluster.
        cluster: ClusterName,
        /// The epoch that the decision was made in.
        expected: Epoch,
        /// What was known.
        opening: Box<Opening>,
        /// The steps of stage Freeze.
        steps: Vec<Planned>,
    },
    /// A step is about to act; its session holds the lock already.
    BeginStep {
        /// The cluster.
        cluster: ClusterName,
        /// The step.
        step: StepId,
    },
    /// A step ended.
    EndStep {
        /// The cluster.
        cluster: ClusterName,
        /// The step.
        step: StepId,
        /// The term in which this run began.
        begun_in: Term,
        /// How it ended.
        outcome: StepOutcome,
        /// From lock to read-back.
        took_us: Micros,
        /// Since the opening, if this leader saw it.
        at_us: Option<Micros>,
    },
    /// Freeze -> Recover.
    Elect {
        /// The cluster.
        cluster: ClusterName,
        /// The attempt.
        epoch: Epoch,
        /// The choice.
        election: Box<Election>,
        /// The steps of stage Recover.
        steps: Vec<Planned>,
        /// Since the opening.
        at_us: Option<Micros>,
    },
    /// Recover -> Promote; entry 9.
    PassPointOfNoReturn {
        /// The cluster.
        cluster: ClusterName,
        /// The attempt.
        epoch: Epoch,
        /// What the candidate has executed, read back.
        executed: GtidSet,
        /// The steps of stage Promote.
        steps: Vec<Planned>,
        /// Since the opening.
        at_us: Option<Micros>,
    },
    /// Promote -> Repoint: the new primary takes writes.
    EnterRepoint {
        /// The cluster.
        cluster: ClusterName,
        /// The attempt.
        epoch: Epoch,
        /// The steps of stage Repoint.
        steps: Vec<Planned>,
        /// Since the opening.
        at_us: Option<Micros>,
    },
    /// Freeze or Recover -> Undo.
    Undo {
        /// The cluster.
        cluster: ClusterName,
        /// The attempt.
        epoch: Epoch,
        /// Why.
        why: String,
        /// The steps of stage Undo.
        steps: Vec<Planned>,
        /// Since the opening.
        at_us: Option<Micros>,
    },
    /// The attempt is over.
    CloseAttempt {
        /// The cluster.
        cluster: ClusterName,
        /// The attempt.
        epoch: Epoch,
        /// How it ended.
        outcome: Outcome,
        /// Since the opening.
        at_us: Option<Micros>,
    },
    /// Something to be put right outside an attempt: one step, one per server at a time.
    PlanChore {
        /// The cluster.
        cluster: ClusterName,
        /// The epoch that the decision was made in.
        epoch: Epoch,
        /// The step.
        planned: Planned,
    },
    /// A server has transactions that the primary lacks.
    Quarantine {
        /// The cluster.
        cluster: ClusterName,
        /// The epoch that the decision was made in.
        epoch: Epoch,
        /// The server.
        server: ServerName,
        /// The transactions.
        errant: GtidSet,
    },
    /// An operator wants a server back that is no member now.
    Rejoin {
        /// The cluster.
        cluster: ClusterName,
        /// The epoch that the decision was made in.
        epoch: Epoch,
        /// The server.
        server: ServerName,
        /// Who, and what is discarded.
        rejoin: Rejoin,
    },
    /// An operator works on a server, or is done with it.
    LeaveOut {
        /// The cluster.
        cluster: ClusterName,
        /// The server.
        server: ServerName,
        /// Who works on it; `None`: it comes back.
        by: Option<Actor>,
    },
    /// Time has passed, by the leader's monotonic clock.
    AdvanceTime {
        /// Group time from which it was measured: what waited in a log does not count twice.
        from_ms: u64,
        /// How much; at most an hour at once.
        by_ms: u64,
    },
}

/// What `apply` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(Default)]
pub enum Reply {
    /// Taken.
    #[default]
    Ok,
    /// Taken; the definition now has this version.
    Version {
        /// That version.
        version: u64,
    },
    /// Taken; the attempt has this name.
    Opened {
        /// That name.
        id: FailoverId,
    },
    /// Not taken; nothing was changed.
    Rejected {
        /// Why.
        rejection: Rejection,
    },
}

impl Command {
    /// Stable name, for logs.
    pub fn code(&self) -> &'static str {
        match self {
            Command::ApplyDefinition { .. } => "apply_definition",
            Command::RemoveCluster { .. } => "remove_cluster",
            Command::Pause { .. } => "pause",
            Command::Resume { .. } => "resume",
            Command::Adopt { .. } => "adopt",
            Command::Identify { .. } => "identify",
            Command::OpenAttempt { .. } => "open_attempt",
            Command::BeginStep { .. } => "begin_step",
            Command::EndStep { .. } => "end_step",
            Command::Elect { .. } => "elect",
            Command::PassPointOfNoReturn { .. } => "pass_point_of_no_return",
            Command::EnterRepoint { .. } => "enter_repoint",
            Command::Undo { .. } => "undo",
            Command::CloseAttempt { .. } => "close_attempt",
            Command::PlanChore { .. } => "plan_chore",
            Command::Quarantine { .. } => "quarantine",
            Command::Rejoin { .. } => "rejoin",
            Command::LeaveOut { .. } => "leave_out",
            Command::AdvanceTime { .. } => "advance_time",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Ok => f.write_str("ok"),
            Reply::Version { version } => write!(f, "version {version}"),
            Reply::Opened { id } => write!(f, "opened {id}"),
            Reply::Rejected { rejection } => write!(f, "rejected: {rejection}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Answer, Ballot, Cause, CountedBallot, Evidence, ManagerId, Nonce, Tally};

    #[test]
    fn opening_with_ballots_comes_back_from_the_log_as_it_went_in() {
        let ballot = Ballot {
            manager: ManagerId(1),
            nonce: Nonce(7),
            answer: Answer::Down,
            evidence: Evidence::Refused { times: 3, span: Micros(5) },
            hearing: BTreeMap::new(),
            vouched: Default::default(),
            is_restarted: false,
            is_unarmed: false,
        };
        let counted = CountedBallot { ballot, age: Micros(9) };
        let opening = Opening {
            cause: Cause::PrimaryDown,
            actor: Actor::Group,
            tally: Tally {
                primary: "db1".into(),
                epoch: Epoch(3),
                nonce: Nonce(7),
                voters: [ManagerId(1), ManagerId(2)].into(),
                ballots: [(ManagerId(1), counted)].into(),
            },
            wanted: None,
            asserted_dead: false,
            interval_waived: false,
            detected_us: Micros(1),
            verdict_us: Micros(1),
            at_ms: 0,
            wall_ms: 0,
        };
        let command = Command::OpenAttempt {
            cluster: "app1".into(),
            expected: Epoch(3),
            opening: Box::new(opening),
            steps: Vec::new(),
        };
        let text = serde_json::to_string(&command).unwrap();
        assert_eq!(serde_json::from_str::<Command>(&text).unwrap(), command);
    }
}
