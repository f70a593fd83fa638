//! The outside, as the core sees it: traits and closed enums of what may be asked of it. No code.
//!
//! ```text
//!   step::run ---- Mysql / Session ----> a database server, over one locked connection
//!        |-------- Remote -------------> its host, through the turnstile
//!        |-------- Logs ---------------> binary log files on hosts whose mysqld is dead
//!        |-------- Hooks --------------> the operators' scripts, on this manager's host
//!        |-------- Consensus ----------> the Raft log
//!        `-------- Clock
//! ```
//! Nobody sends a free string to a server: a dry run prints these enums, a fake matches on them.

use std::{fmt, future::Future};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    model::{
        ClusterName, DiskLog, GtidSet, HookCall, LinkOptions, Micros, Mono, Rejection, Rescue,
        ServerDefinition, Setting, StepId, Survey, Token, Trail, Vip,
    },
    state::{Command, Reply},
};

/// Whether a failed act may have had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Nothing was done.
    NotDone,
    /// It was done, although something after it failed.
    Done,
    /// It may or may not have been done; a time-out after sending is this.
    Unknown,
}

/// What kind of trouble a port met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Refused or reset: the host lives, the process does not.
    Refused,
    /// No answer in time.
    Silent,
    /// Login or host key not accepted.
    Denied,
    /// The turnstile or the named lock is held by a newer actor.
    Superseded,
    /// The thing itself answered with an error.
    Answered,
    /// Our own side: no secret, no route, bad settings.
    Local,
}

/// An act or a look that did not work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct PortError {
    /// What kind.
    pub trouble: Trouble,
    /// Whether it may have had its effect.
    pub certainty: Certainty,
    /// One sentence: what was wanted and what was found, without secrets.
    pub why: String,
}

/// Where an act goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The cluster; names the lock and the secrets.
    pub cluster: ClusterName,
    /// Account for the MySQL session.
    pub admin_account: String,
    /// The server and its host.
    pub server: ServerDefinition,
}

/// All that is ever done to a MySQL server over SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlAction {
    /// Stop receiving.
    StopReceiver,
    /// Start receiving.
    StartReceiver,
    /// Start applying.
    StartApplier,
    /// Stop receiving and applying.
    StopReplica,
    /// `STOP REPLICA` where the receiver is off and every complete transaction is applied. An applier
    /// that would wait a minute for the rest of one, which will not come, is killed: what it has of
    /// that was acknowledged by nobody.
    StopApplier,
    /// Start receiving and applying.
    StartReplica,
    /// Forget the source and the relay log.
    ForgetSource,
    /// Replicate from there, by GTID. Throws received, unapplied events away.
    ChangeSource {
        /// Address of the source.
        host: String,
        /// Port of the source.
        port: u16,
        /// Account to log in with; its password is the manager's own secret.
        account: String,
        /// Options to set; `None`: keep those of the present link.
        options: Option<LinkOptions>,
    },
    /// Acknowledge to the source, or not.
    SetSemiSyncReplica {
        /// On or off.
        on: bool,
    },
    /// Wait for acknowledgements, before anybody sees the commit and however long it takes; or do
    /// not.
    SetSemiSyncSource {
        /// On or off.
        on: bool,
        /// How many; ignored when off.
        acks: u32,
    },
    /// Let applications write (`read_only` off, which takes `super_read_only` with it).
    SetWritable,
    /// Let nobody write (`super_read_only` on, which takes `read_only` with it). A server that has no
    /// `offline_mode` cuts the clients that are connected, and one without `super_read_only` lets
    /// privileged ones write on.
    SetReadOnly,
    /// The same on a server that is well: whoever holds this up for longer than `drain` is cut
    /// (`KILL`), since everybody who writes waits behind it.
    CloseForWrites {
        /// How long statements under way may go on.
        drain: Micros,
    },
    /// Cut the connections of all accounts but the managers', and keep unprivileged ones out
    /// (`offline_mode`).
    CutClients,
    /// Cut unprivileged clients and keep them out, or let them in again (`offline_mode`).
    SetOffline {
        /// On or off.
        on: bool,
    },
    /// Let the server replace its own data (`super_read_only` off); `read_only` stays on.
    AllowRebuild,
    /// Replace all data by a copy of another server's (clone plugin). The server stops at its end,
    /// and starts again if something supervises it.
    Clone {
        /// Address of the donor.
        host: String,
        /// Port of the donor.
        port: u16,
        /// Account to log in with there; its password is the manager's own secret.
        account: String,
    },
    /// Commit one small transaction of our own.
    WriteMarker {
        /// What it says: the step that wrote it.
        step: StepId,
    },
    /// Lock an account, whatever host it may come from, and end its connections. Not written to
    /// the binary log: it waits for no acknowledgement, and it is a matter of this server alone.
    LockAccount {
        /// Its name.
        account: String,
    },
    /// Undo that, on a server that takes no writes as well.
    UnlockAccount {
        /// Its name.
        account: String,
    },
    /// Execute what lies beside the relay logs as those of the channel for rescued transactions,
    /// which is made by this; what is executed already is passed over by the server.
    ApplyRescued {
        /// `relay_log_basename`.
        relay_log: String,
    },
    /// Stop that channel, and remove it with its files.
    DropRescued,
    /// Set it for good.
    Persist {
        /// What.
        setting: Setting,
    },
}

/// All that is ever run on a database host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteCommand {
    /// SIGKILL the mysqld of that data directory, drop the addresses, mask the unit (if named),
    /// and prove all of it. Never an orderly shutdown: that would answer OK to waiting clients.
    Fence {
        /// mysqld's data directory.
        data_dir: String,
        /// systemd unit.
        service: Option<String>,
        /// Addresses to drop.
        vips: Vec<Vip>,
    },
    /// Hold the address and announce it (gratuitous ARP), after a look whether somebody else
    /// answers for it.
    TakeVip {
        /// The address.
        vip: Vip,
    },
    /// Do not hold the address.
    DropVip {
        /// The address.
        vip: Vip,
    },
    /// Unmask and start a systemd unit, and see it active.
    StartService {
        /// The unit.
        service: String,
    },
    /// Copy transactions from binary log files into a directory beside the data, with checksums;
    /// prints [`crate::model::Saved::WORD`], the checksum and the path.
    Save {
        /// mysqld's data directory.
        data_dir: String,
        /// Name of the directory; the same for each run of one step.
        name: String,
        /// The files, by their full paths.
        files: Vec<String>,
        /// The transactions.
        extra: GtidSet,
    },
    /// Make an uploaded file the relay log of the channel for rescued transactions, if it is whole,
    /// and keep a copy of it under another name.
    PutRescued {
        /// The uploaded file.
        upload: String,
        /// Its SHA-256, in hexadecimal digits.
        sum: String,
        /// `relay_log_basename` of the server that is to execute it.
        relay_log: String,
        /// Where the copy is kept.
        kept: String,
    },
    /// Remove that copy, and uploads that were never completed.
    DropKept {
        /// How their names begin.
        prefix: String,
    },
}

/// What a rescue takes from where to where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RescueOrder {
    /// The host with the dead server's disk.
    pub from: Place,
    /// The server that is to execute it.
    pub to: Place,
    /// Shown to the turnstile of that one's host.
    pub token: Token,
    /// What.
    pub rescue: Rescue,
    /// That server's `relay_log_basename`.
    pub relay_log: String,
}

/// Binary log files on hosts over SSH.
pub trait Logs: Send + Sync {
    /// Reads the binary log of a server whose mysqld does not run, from its end back to where it
    /// holds nothing any more beside `known`. `told` is called whenever a part of it has come.
    ///
    /// # Errors
    /// mysqld runs; no login; no files; files that cannot be read or make no sense. Nothing is ever
    /// changed by it. `patience`: nothing came for so long.
    fn read(
        &self,
        place: &Place,
        known: &GtidSet,
        patience: Micros,
        told: &(dyn Fn() + Send + Sync),
    ) -> impl Future<Output = Result<DiskLog, PortError>> + Send;

    /// Brings those parts of a dead server's log to another host, as the relay log of a channel that
    /// must not exist there. Returns where a copy of it is kept until it is discarded.
    ///
    /// # Errors
    /// As for reading, and those of the other host: no room, no permission, `Superseded`. What was
    /// not completed lies under a name of its own, which nobody reads.
    fn carry(
        &self,
        order: &RescueOrder,
        patience: Micros,
        told: &(dyn Fn() + Send + Sync),
    ) -> impl Future<Output = Result<String, PortError>> + Send;

    /// Removes that copy.
    ///
    /// # Errors
    /// It is still there; that harms nobody.
    fn discard(
        &self,
        order: &RescueOrder,
        deadline: Mono,
    ) -> impl Future<Output = Result<(), PortError>> + Send;
}

/// What a script of the operators' own is told, and how long it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookOrder {
    /// The cluster.
    pub cluster: ClusterName,
    /// The call.
    pub call: HookCall,
    /// The same whenever this call is made again: after a failure, or after the leader was lost.
    pub step: StepId,
    /// How often it was begun before.
    pub repeats: usize,
    /// What a turnstile of the script's own may compare.
    pub token: Token,
    /// The server that is replaced; `None`: it is no longer defined.
    pub old: Option<ServerDefinition>,
    /// The server that replaces it.
    pub new: Option<ServerDefinition>,
}

/// Scripts of the operators' own, on this manager's host.
pub trait Hooks: Send + Sync {
    /// Calls a script, hears it out and returns the last lines it printed.
    ///
    /// # Errors
    /// `Local` if it cannot be run here; `Answered` if it failed; `Silent`, with an unknown effect,
    /// if it was killed at the deadline.
    fn call(
        &self,
        order: &HookOrder,
        deadline: Mono,
    ) -> impl Future<Output = Result<String, PortError>> + Send;
}

/// MySQL servers.
pub trait Mysql: Send + Sync {
    /// A dedicated connection that holds the cluster's named lock on one server.
    type Session: Session;

    /// Opens a connection, ends the session that holds the lock if it is another's, and takes the
    /// lock.
    ///
    /// # Errors
    /// `Superseded` if a newer actor holds it; nothing was done in any case.
    fn lock(
        &self,
        place: &Place,
        token: Token,
        deadline: Mono,
    ) -> impl Future<Output = Result<Self::Session, PortError>> + Send;

    /// Looks at a server over a connection of its own.
    ///
    /// # Errors
    /// Nothing was done.
    fn look(
        &self,
        place: &Place,
        deadline: Mono,
    ) -> impl Future<Output = Result<crate::model::ServerFacts, PortError>> + Send;

    /// Asks a server who is busy on it, over a connection of its own.
    ///
    /// # Errors
    /// Nothing was done.
    fn survey(
        &self,
        place: &Place,
        deadline: Mono,
    ) -> impl Future<Output = Result<Survey, PortError>> + Send;
}

/// One locked connection. No pool, no reconnect: once broken, it stays broken.
pub trait Session: Send {
    /// Looks at the server over this connection.
    ///
    /// # Errors
    /// The session is unusable afterwards.
    fn look(
        &mut self,
        deadline: Mono,
    ) -> impl Future<Output = Result<crate::model::ServerFacts, PortError>> + Send;

    /// Reads the server's own logs, as far back as `wanted` was written and a file further.
    ///
    /// # Errors
    /// Nothing was done.
    fn trail(
        &mut self,
        wanted: &GtidSet,
        deadline: Mono,
    ) -> impl Future<Output = Result<Trail, PortError>> + Send;

    /// Acts over this connection. Returns who was cut by it, a sentence each.
    ///
    /// # Errors
    /// Says how certain it is that nothing happened. After `Unknown` the session is unusable.
    fn act(
        &mut self,
        action: &SqlAction,
        deadline: Mono,
    ) -> impl Future<Output = Result<Vec<String>, PortError>> + Send;
}

/// Database hosts.
pub trait Remote: Send + Sync {
    /// Runs a command through the host's turnstile and returns the last lines it printed.
    ///
    /// # Errors
    /// `Superseded` if the turnstile has seen a higher token.
    fn run(
        &self,
        place: &Place,
        token: Token,
        command: &RemoteCommand,
        deadline: Mono,
    ) -> impl Future<Output = Result<String, PortError>> + Send;
}

/// Why a command did not get into the state.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// The state machine said no; nothing was changed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// This manager does not lead; nothing was changed.
    #[error("this manager is not the leader")]
    NotLeader,
    /// This manager leads but hears no majority; nothing was changed.
    #[error("no majority of the managers can be reached: nothing can be decided")]
    NoQuorum,
    /// It may still be committed.
    #[error("no majority answered in time: {0}")]
    Unknown(String),
}

/// The Raft log.
pub trait Consensus: Send + Sync {
    /// Commits a command by a majority and applies it.
    ///
    /// # Errors
    /// See [`ProposeError`].
    fn propose(&self, command: Command)
    -> impl Future<Output = Result<Reply, ProposeError>> + Send;
}

/// One manager's monotonic clock.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Mono;

    /// Waits.
    fn sleep(&self, span: Micros) -> impl Future<Output = ()> + Send;
}

/// Everything a step needs, in one bundle.
pub trait Ports: Send + Sync {
    /// MySQL servers.
    type Mysql: Mysql;
    /// Database hosts.
    type Remote: Remote;
    /// Files of dead servers.
    type Logs: Logs;
    /// Scripts.
    type Hooks: Hooks;
    /// The Raft log.
    type Consensus: Consensus;
    /// The clock.
    type Clock: Clock;

    /// MySQL servers.
    fn mysql(&self) -> &Self::Mysql;
    /// Database hosts.
    fn remote(&self) -> &Self::Remote;
    /// Files of dead servers.
    fn logs(&self) -> &Self::Logs;
    /// Scripts.
    fn hooks(&self) -> &Self::Hooks;
    /// The Raft log.
    fn consensus(&self) -> &Self::Consensus;
    /// The clock.
    fn clock(&self) -> &Self::Clock;

    /// A step of this cluster moves on, although its goal is not met yet: its attempt is not
    /// stuck.
    fn progressed(&self, cluster: &ClusterName);

    /// A step of this manager has read back, over the session that made it so, that its server is
    /// closed for writes: what that has executed is final. Others wait for that.
    fn closed(&self, cluster: &ClusterName, step: StepId, executed: &GtidSet);

    /// What such a step has told.
    fn closed_with(&self, cluster: &ClusterName, step: StepId) -> Option<GtidSet>;

    /// This manager's own loop stalled since then, longer than the policy's `stall_ms`: what was
    /// seen before is void.
    fn has_stalled_since(&self, since: Mono) -> bool;
}

impl PortError {
    /// An error after which nothing was done.
    pub fn not_done(trouble: Trouble, why: impl fmt::Display) -> Self {
        Self { trouble, certainty: Certainty::NotDone, why: why.to_string() }
    }

    /// An error after which nobody knows.
    pub fn unknown(trouble: Trouble, why: impl fmt::Display) -> Self {
        Self { trouble, certainty: Certainty::Unknown, why: why.to_string() }
    }
}
