//! A planned change of a live primary: what an operator asked for, what stands in its way on the
//! primary, and what it cost the clients.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Micros, Millis};

/// What an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switchover {
    /// It is undone if it has not passed entry 9 by then, counted from its opening. 500 to
    /// 600,000 ms.
    pub deadline_ms: Millis,
    /// The old primary is left read-only and out of replication, for its operator to work on.
    pub leaves_old: bool,
    /// Long transactions and statements are cut rather than refused.
    pub cuts: bool,
}

impl Switchover {
    /// Usual deadline.
    pub const DEADLINE: Millis = Millis(5_000);
}

/// A session that stands in the way of stopping writes without harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// Its number on the server, for `KILL`.
    pub id: u64,
    /// Its account.
    pub account: String,
    /// Where it comes from.
    pub host: String,
    /// What it does.
    pub what: Work,
    /// For how long.
    pub seconds: u64,
}

/// What a session does. Never its statement: that may hold anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Holds tables locked against readers or writers (`LOCK TABLES ... WRITE`).
    Locks,
    /// Has a transaction open.
    Transaction,
    /// Runs a statement.
    Statement,
}

impl fmt::Display for Busy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            Work::Locks => "has held LOCK TABLES ... WRITE",
            Work::Transaction => "has had a transaction open",
            Work::Statement => "has been running one statement",
        };
        let Self { id, account, host, seconds, .. } = self;
        write!(out, "session {id} of {account}@{host} {what} for {seconds} s")
    }
}

/// What a server tells of itself only when it is asked before a switchover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// Every session that holds table locks, has a transaction open, or runs a statement.
    pub busy: Vec<Busy>,
    /// What it leaves out of its binary log (`binlog_do_db`, `binlog_ignore_db`); empty: nothing.
    pub binlog_filters: String,
}

/// How writes were stopped on the old primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// Who was cut: sessions, one sentence each, or how many of an account.
    pub cut: Vec<String>,
    /// From the statement that stopped writes to the end of the step.
    pub took_us: Micros,
}
