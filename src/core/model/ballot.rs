//! Ballots: each manager's answer about one primary, and the leader's tally of them.
//! Ballots are soft: they age, and stay out of the Raft log except as evidence of a verdict.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Epoch, ManagerId, Micros, Nonce, ServerName};

/// What a manager says of the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It answers, or answers with an error that only the living give.
    Up,
    /// Its process is gone, or it has been silent for longer than the threshold.
    Down,
    /// In between, or this manager's own clock or loop is in doubt. Counts as not Down.
    Unknown,
}

/// Why a manager answers as it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// The last ping was answered.
    Answered {
        /// How long ago.
        age: Micros,
    },
    /// Connections are refused or reset: the kernel lives, the process is gone.
    Refused {
        /// How often in a row.
        times: u32,
        /// For how long no ping was answered.
        span: Micros,
    },
    /// Nothing comes back.
    Silent {
        /// For how long no ping was answered.
        span: Micros,
    },
    /// Fewer refusals or less silence than the policy asks for.
    Doubtful {
        /// Refusals in a row.
        refusals: u32,
        /// For how long no ping was answered.
        span: Micros,
    },
    /// This manager's own loop stalled or its clock jumped; what it saw meanwhile is void.
    Stalled,
    /// It has not looked yet.
    NotProbed,
}

/// Whether a replica hears the primary (SAFETY invariant 3b).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Hearing {
    /// Heartbeats or transactions moved this long ago.
    Hears {
        /// Age of the last movement.
        age: Micros,
    },
    /// The receiver is on, but nothing moved for this long.
    Silent {
        /// Age of the last movement.
        age: Micros,
    },
    /// The receiver is not connected, and not because somebody stopped it.
    Disconnected,
    /// The receiver is stopped or reads from elsewhere; says nothing about the primary.
    NotListening,
    /// The replica could not be reached or not judged.
    Unknown,
}

/// One manager's answer to one nonce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// Who answers.
    pub manager: ManagerId,
    /// The question.
    pub nonce: Nonce,
    /// The answer.
    pub answer: Answer,
    /// Why.
    pub evidence: Evidence,
    /// What this manager knows of the other servers' links to the primary.
    pub hearing: BTreeMap<ServerName, Hearing>,
    /// Ackers that have not restarted since this manager saw them acknowledge and lack nothing.
    pub vouched: BTreeSet<ServerName>,
    /// The server runs and is read-only since a restart younger than our knowledge of it.
    pub is_restarted: bool,
    /// When this manager last saw the primary, its commits did not wait as agreed: who has
    /// acknowledged what tells nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unarmed: bool,
}

/// A ballot as the leader holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedBallot {
    /// The ballot.
    pub ballot: Ballot,
    /// Time since the leader sent the nonce.
    pub age: Micros,
}

impl Tally {
    /// Ackers that a ballot no older than `limit` vouches for; nobody, if a manager saw the primary
    /// unarmed. An acker may have restarted since an older one.
    pub fn vouched(&self, limit: Micros) -> impl Iterator<Item = &ServerName> {
        let is_unarmed = self.is_unarmed();
        let fresh = self.counted().filter(move |counted| counted.age <= limit && !is_unarmed);
        fresh.flat_map(|counted| &counted.ballot.vouched)
    }

    /// Any counted manager saw the primary unarmed when it saw it last, however long ago it said
    /// so.
    pub fn is_unarmed(&self) -> bool {
        self.counted().any(|counted| counted.ballot.is_unarmed)
    }

    fn counted(&self) -> impl Iterator<Item = &CountedBallot> {
        let counted = self.ballots.iter().filter(|(id, _)| self.voters.contains(id));
        counted.map(|(_, counted)| counted)
    }
}

/// The leader's count for one primary in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The primary asked about.
    pub primary: ServerName,
    /// The cluster's epoch at the time of asking.
    pub epoch: Epoch,
    /// The newest nonce sent.
    pub nonce: Nonce,
    /// All Raft voters: the silent ones count against.
    pub voters: BTreeSet<ManagerId>,
    /// Newest ballot of each manager that answered.
    pub ballots: BTreeMap<ManagerId, CountedBallot>,
}
