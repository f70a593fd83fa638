//! The agreed state of one database cluster.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::{
    Actor, Attempt, ClusterDefinition, Epoch, Findings, GtidSet, Outcome, Regime, Rejoin, Saved,
    ServerName, StepId, StepKind, StepRecord, Vip,
};

/// Where a server stands in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// Primary, or a replica as it should be.
    Member,
    /// Was primary, or was left behind: read-only and no acker until readmitted.
    Former {
        /// Its host was read back as not holding the cluster's addresses.
        vips_dropped: bool,
    },
    /// Has transactions that the primary lacks; waits for a person.
    Quarantined {
        /// Those transactions.
        errant: GtidSet,
        /// Whether they can have been acknowledged; `None`: not examined yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        findings: Option<Findings>,
        /// Where they were copied to; `None`: not yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saved: Option<Saved>,
    },
}

/// A server as the group knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its identity; `None`: never seen.
    pub uuid: Option<String>,
    /// Where it stands.
    pub standing: Standing,
    /// Acknowledgements that its commits waited for when it was found to take writes beside the
    /// primary and was made read-only: the least of all such times since it was a member; `None`:
    /// there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<u32>,
    /// An operator has it out of the cluster, to work on it: it neither acknowledges nor takes
    /// readers, nor is it promoted or repaired, until it is wanted back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<Actor>,
    /// An operator wants it back, and it is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejoin: Option<Rejoin>,
    /// How an operator had it back last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejoined: Option<Rejoin>,
}

/// Automatic failover is switched off by a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who.
    pub actor: Actor,
    /// Why.
    pub reason: String,
}

/// When the last failover was, for the last-failover interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailover {
    /// Its epoch.
    pub epoch: Epoch,
    /// Group time of entry 9.
    pub at_ms: u64,
}

/// One database cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterState {
    /// What its operators want.
    pub definition: ClusterDefinition,
    /// Rises with each applied definition.
    pub version: u64,
    /// Rises with each attempt.
    pub epoch: Epoch,
    /// Who may acknowledge writes. Empty: no primary adopted yet. More than one only between
    /// entry 9 and the closing of an attempt.
    pub regimes: Vec<Regime>,
    /// Every defined server.
    pub members: BTreeMap<ServerName, Member>,
    /// Set while automatic failover is off.
    pub pause: Option<Pause>,
    /// Start of the last-failover interval.
    pub last_failover: Option<LastFailover>,
    /// The open attempt.
    pub attempt: Option<Attempt>,
    /// Steps outside attempts, one per server.
    pub chores: BTreeMap<ServerName, StepRecord>,
    /// For each server the members whose replication accounts were locked there, or are being
    /// locked: they are let in again when they are back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locks: BTreeMap<ServerName, BTreeSet<ServerName>>,
    /// Closed attempts, newest last; the last [`ClusterState::HISTORY`] are kept.
    pub history: VecDeque<Attempt>,
    /// Number of the next step.
    pub next_seq: u64,
}

impl ClusterState {
    /// How many closed attempts are kept.
    pub const HISTORY: usize = 20;

    /// Most steps of one attempt.
    pub const STEPS: usize = 1000;

    /// A cluster that nobody has looked at yet.
    pub fn new(definition: ClusterDefinition) -> Self {
        let members = definition.servers.iter().map(|s| (s.name.clone(), Member::unseen()));
        Self {
            members: members.collect(),
            definition,
            version: 1,
            epoch: Epoch(0),
            regimes: Vec::new(),
            pause: None,
            last_failover: None,
            attempt: None,
            chores: BTreeMap::new(),
            locks: BTreeMap::new(),
            history: VecDeque::new(),
            next_seq: 1,
        }
    }

    /// The primary in force: of the newest regime.
    pub fn primary(&self) -> Option<&ServerName> {
        self.regime().map(|regime| &regime.primary)
    }

    /// The newest regime.
    pub fn regime(&self) -> Option<&Regime> {
        self.regimes.last()
    }

    /// Whether a server is primary, or was and is being replaced.
    pub fn is_primary(&self, server: &ServerName) -> bool {
        self.regimes.iter().any(|regime| regime.primary == *server)
    }

    /// The old primary of a switchover past entry 9 whose candidate was lost: closed by its own word,
    /// with all that it had on record, it takes part in what follows as a replica does (SAFETY
    /// invariant 9).
    pub fn stepped_down(&self) -> Option<&ServerName> {
        let is_superseded = |it: &&Attempt| matches!(it.outcome, Some(Outcome::Superseded { .. }));
        let before = self.history.iter().rev().take_while(is_superseded);
        let mut attempts = self.attempt.iter().chain(before);
        let switched =
            attempts.find(|it| it.closed().is_some() && it.stage.entry_nine().is_some())?;
        let plan = switched.opening.cause.switchover()?;
        let old = &switched.old_primary;
        let mut replaced = self.regimes.iter().rev().skip(1);
        let is_there = replaced.any(|it| it.primary == *old && it.closed_with.is_some());
        (is_there && !plan.leaves_old).then_some(old)
    }

    /// Whether a server is primary, or was and is being replaced, and is no replica for anybody.
    pub fn is_set_apart(&self, server: &ServerName) -> bool {
        self.is_primary(server) && self.stepped_down() != Some(server)
    }

    /// The regimes that an attempt opened now has to revoke. One that was to acknowledge for the newest
    /// primary, and that nobody began to put behind it, has acknowledged nothing for it and never will.
    pub fn to_revoke(&self) -> Vec<Regime> {
        let mut regimes = self.regimes.clone();
        let (Some(old), Some(newest)) = (self.stepped_down(), regimes.last_mut()) else {
            return regimes;
        };
        let mut steps = self.attempt.iter().flat_map(|attempt| &attempt.steps);
        let was_put_behind = steps.any(|step| {
            let is_behind = |goal: &StepKind| matches!(goal, StepKind::Follow { source, .. } if *source == newest.primary);
            step.target == *old && is_behind(&step.goal) && !step.runs.is_empty()
        });
        if !was_put_behind {
            newest.ackers.remove(old);
        }
        regimes
    }

    /// Servers that wait for readmission.
    pub fn formers(&self) -> BTreeSet<&ServerName> {
        let is_former = |member: &Member| matches!(member.standing, Standing::Former { .. });
        let formers = self.members.iter().filter(|(_, member)| is_former(member));
        formers.map(|(name, _)| name).collect()
    }

    /// All addresses of the cluster.
    pub fn vips(&self) -> Vec<Vip> {
        self.definition.writer.iter().chain(&self.definition.readers).cloned().collect()
    }

    /// A step of the open attempt, or a chore.
    pub fn step(&self, id: StepId) -> Option<&StepRecord> {
        let planned = self.attempt.iter().flat_map(|attempt| &attempt.steps);
        planned.chain(self.chores.values()).find(|step| step.id == id)
    }

    /// The attempt of that epoch, open or closed and still kept.
    pub fn attempt_of(&self, epoch: Epoch) -> Option<&Attempt> {
        self.attempt.iter().chain(&self.history).find(|attempt| attempt.epoch() == epoch)
    }

    /// Milliseconds of group time left of the last-failover interval; zero: over.
    pub fn interval_left_ms(&self, clock_ms: u64) -> u64 {
        let whole = self.definition.policy.last_failover_minutes.saturating_mul(60_000);
        let passed = |last: &LastFailover| clock_ms.saturating_sub(last.at_ms);
        self.last_failover.as_ref().map_or(0, |last| whole.saturating_sub(passed(last)))
    }
}

impl Member {
    /// A server that was never seen.
    pub fn unseen() -> Self {
        Self {
            uuid: None,
            standing: Standing::Member,
            cut: None,
            left_out: None,
            rejoin: None,
            rejoined: None,
        }
    }
}
