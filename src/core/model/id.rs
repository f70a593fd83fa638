//! Names and counters, each its own type, so that one is never taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

counter!(
    /// One manager process of the group; a Raft node id. Never reused.
    ManagerId
);
counter!(
    /// Rises by one with each attempt to change a cluster's primary, aborted ones included.
    /// Zero: no attempt was ever made.
    Epoch
);
counter!(
    /// A Raft term. One leader per term, so it orders leaders.
    Term
);
counter!(
    /// The leader's question number. A ballot answers exactly one nonce; its age counts from the
    /// moment the leader sent the nonce.
    Nonce
);
name!(
    /// A database cluster that the group looks after, unique in the group.
    ClusterName
);
name!(
    /// A database server, unique in its cluster.
    ServerName
);

/// One attempt to change the primary of one cluster. Written `app1-7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FailoverId {
    /// The cluster.
    pub cluster: ClusterName,
    /// The epoch that the attempt opened.
    pub epoch: Epoch,
}

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for FailoverId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.cluster, self.epoch)
    }
}

/// One step within one epoch of one cluster: the idempotency key of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepId {
    /// The epoch in which the step was planned.
    pub epoch: Epoch,
    /// Its number; rises over the life of the cluster and is never reused.
    pub seq: u64,
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

/// What an actor shows to the thing it acts on. A turnstile refuses a token lower than the highest
/// it has seen (SAFETY invariant 6). The order of the fields is the order of comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token {
    /// The cluster's epoch.
    pub epoch: Epoch,
    /// The leader's Raft term.
    pub term: Term,
    /// The step's number.
    pub seq: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.epoch, self.term, self.seq)
    }
}
