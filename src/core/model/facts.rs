//! What one manager saw of one server, and how old it is. Unknown is a value.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::{GtidSet, Micros, Mono, ServerName};

/// Something looked at: known with an age, or unknown with a reason. Never a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed<T> {
    /// Seen.
    Known {
        /// What was seen.
        value: T,
        /// How long ago the look *began*.
        age: Micros,
    },
    /// Not seen.
    Unknown {
        /// Why not; one sentence.
        why: String,
    },
}

/// State of the thread that receives events (MySQL's old name: I/O thread).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// Connected to its source, as far as it knows.
    On,
    /// Trying to connect.
    Connecting,
    /// Stopped.
    Off,
}

/// State of the threads that apply events (MySQL's old name: SQL thread).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applier {
    /// Running.
    On,
    /// Stopped, without an error.
    Off,
    /// Stopped by an error.
    Broken {
        /// The server's error number.
        code: u32,
        /// The server's text.
        text: String,
    },
}

/// A kind of server, where decisions depend on it: the two replicate from each other in no way that
/// is watched here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// MySQL, and what speaks as it does.
    Mysql,
    /// MariaDB: GTIDs by domains, no `super_read_only`, no `offline_mode`; a relay log that is thrown
    /// away whenever replication is started after both of its threads had stopped [ran].
    MariaDb,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Mysql => "MySQL",
            Family::MariaDb => "MariaDB",
        })
    }
}

/// Options of a replication link that outlive a change of source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkOptions {
    /// `SOURCE_SSL`.
    pub tls: bool,
    /// `SOURCE_SSL_VERIFY_SERVER_CERT`.
    pub tls_verify: bool,
    /// `SOURCE_SSL_CA`; empty: none.
    pub tls_ca: String,
    /// `GET_SOURCE_PUBLIC_KEY`.
    pub get_public_key: bool,
    /// `SOURCE_CONNECT_RETRY`, in seconds.
    pub connect_retry_s: u32,
    /// `SOURCE_RETRY_COUNT`.
    pub retry_count: u32,
    /// `SOURCE_HEARTBEAT_PERIOD`, in milliseconds; zero: none.
    pub heartbeat_ms: u64,
    /// `FOR CHANNEL`; empty: the default channel.
    pub channel: String,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            tls: true,
            tls_verify: false,
            tls_ca: String::new(),
            get_public_key: true,
            connect_retry_s: 1,
            retry_count: 86_400,
            heartbeat_ms: 500,
            channel: String::new(),
        }
    }
}

/// A server's replication from its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaFacts {
    /// `Source_Host`.
    pub source_host: String,
    /// `Source_Port`.
    pub source_port: u16,
    /// The source's identity (`Source_UUID`); empty before the first connection.
    pub source_uuid: String,
    /// The receiver.
    pub receiver: Receiver,
    /// `Last_IO_Error` with its number, if any.
    pub receiver_error: Option<(u32, String)>,
    /// The applier.
    pub applier: Applier,
    /// `Retrieved_Gtid_Set`: complete transactions in the relay log. On MariaDB `Gtid_IO_Pos`, which
    /// names the newest of each domain alone; empty where the relay log is as good as thrown away.
    pub retrieved: GtidSet,
    /// `Read_Source_Log_Pos`: moves with each event, also in the middle of a transaction.
    pub read_to: u64,
    /// `Seconds_Behind_Source`, if the server knows.
    pub lag_seconds: Option<u64>,
    /// Heartbeats counted since the receiver started; moves while the source is heard.
    pub heartbeats: u64,
    /// `Auto_Position`; on MariaDB `Using_Gtid`.
    pub auto_position: bool,
    /// What it leaves out (`Replicate_Do_DB` and the like), as `Replicate_Do_DB: app`; empty:
    /// nothing.
    pub filters: String,
    /// Options of the link.
    pub options: LinkOptions,
}

/// Semi-synchronous replication, both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemiSync {
    /// The plugin for the source's side is there: it could wait for acknowledgements as primary.
    pub has_source: bool,
    /// `rpl_semi_sync_source_enabled`.
    pub source_enabled: bool,
    /// `rpl_semi_sync_replica_enabled`.
    pub replica_enabled: bool,
    /// `Rpl_semi_sync_replica_status`: this server acknowledges.
    pub replica_active: bool,
    /// `Rpl_semi_sync_source_clients`. Stale after a partition.
    pub clients: u32,
    /// `rpl_semi_sync_source_wait_for_replica_count`.
    pub acks: u32,
    /// `rpl_semi_sync_source_timeout`, in milliseconds.
    pub timeout_ms: u64,
    /// `rpl_semi_sync_source_wait_point` is `AFTER_SYNC`.
    pub after_sync: bool,
    /// `rpl_semi_sync_source_wait_no_replica`.
    pub wait_no_replica: bool,
    /// `Rpl_semi_sync_source_wait_sessions`: sessions waiting for acknowledgements right now.
    pub waiting: u32,
}

impl SemiSync {
    /// The least `rpl_semi_sync_source_timeout` that counts as waiting for ever: a day.
    pub const LONG_MS: u64 = 86_400_000;

    /// Why commits here do not wait for so many acknowledgements, by setting; empty: they do.
    pub fn slack(&self, acks: u32) -> Vec<String> {
        let mut out = Vec::new();
        let mut odd = |is_odd: bool, what: String| out.extend(is_odd.then_some(what));
        odd(!self.source_enabled, "rpl_semi_sync_source_enabled is OFF".into());
        let name = "rpl_semi_sync_source_wait_for_replica_count";
        odd(self.acks < acks, format!("{name} is {}", self.acks));
        odd(!self.after_sync, "rpl_semi_sync_source_wait_point is not AFTER_SYNC".into());
        odd(!self.wait_no_replica, "rpl_semi_sync_source_wait_no_replica is OFF".into());
        let timeout = self.timeout_ms;
        odd(timeout < Self::LONG_MS, format!("rpl_semi_sync_source_timeout is {timeout} ms"));
        out
    }

    /// Commits here wait for so many acknowledgements, however long it takes.
    pub fn is_armed(&self, acks: u32) -> bool {
        self.slack(acks).is_empty()
    }
}

/// Whether a server that is started anew takes writes, as far as it tells by itself: its
/// configuration file is not to be seen over SQL once a setting was changed at run time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// `super_read_only` is persisted as ON, or is ON and comes from a file or the command line.
    ReadOnly,
    /// It will not be ON.
    Open,
    /// It was changed at run time and is not persisted.
    #[default]
    Unknown,
}

/// Who replicates from a server, and who may not: by account, as that is what is locked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// Accounts of the connections that are sent the binary log, one entry for each.
    pub dumps: Vec<String>,
    /// Accounts with any connection at all.
    pub connected: BTreeSet<String>,
    /// Locked accounts.
    pub locked: BTreeSet<String>,
}

/// Everything looked at on one server, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// The server's identity, whatever its address: `@@server_uuid`, or on MariaDB, which has none,
    /// [`super::gtid::server_identity`].
    pub uuid: String,
    /// `@@version`.
    pub version: String,
    /// `@@server_id`.
    pub server_id: u32,
    /// `Uptime`, in seconds.
    pub uptime_seconds: u64,
    /// `@@read_only`.
    pub read_only: bool,
    /// `@@super_read_only`; `@@read_only` of a server that has no other.
    pub super_read_only: bool,
    /// `@@offline_mode`; never, of a server that has none.
    pub offline: bool,
    /// `@@gtid_mode` is `ON`; on MariaDB `@@gtid_strict_mode`, without which its numbers say little.
    pub gtid_mode: bool,
    /// `@@log_bin`.
    pub log_bin: bool,
    /// `@@log_replica_updates`.
    pub log_replica_updates: bool,
    /// `@@sync_binlog`.
    pub sync_binlog: u32,
    /// `@@innodb_flush_log_at_trx_commit`.
    pub flush_log: u32,
    /// `@@sync_relay_log`.
    pub sync_relay_log: u32,
    /// `skip_replica_start` will be ON at the next start.
    pub skips_replica_start: bool,
    /// How it comes up when it is started anew.
    pub boot: Boot,
    /// Who replicates from it; `None`: the managers' account may not look.
    pub inbound: Option<Inbound>,
    /// `@@gtid_executed`; on MariaDB `@@gtid_binlog_state` with `@@gtid_slave_pos`.
    pub executed: GtidSet,
    /// `@@gtid_purged`; empty on MariaDB, which does not tell.
    pub purged: GtidSet,
    /// Its replication; `None`: it has no source configured.
    pub replica: Option<ReplicaFacts>,
    /// The applier of what was rescued from a dead server's disk, which has a channel of its own;
    /// `None`: there is no such channel.
    pub rescue: Option<Applier>,
    /// `@@relay_log_basename`: where its relay logs are, and how their names begin.
    pub relay_log: String,
    /// Semi-synchronous replication; `None`: the plugins are not there.
    pub semi_sync: Option<SemiSync>,
}

impl ServerFacts {
    /// What kind of server it is.
    pub fn family(&self) -> Family {
        match self.version.contains("MariaDB") {
            true => Family::MariaDb,
            false => Family::Mysql,
        }
    }

    /// `MySQL 9.7.4`, for sentences.
    pub fn product(&self) -> String {
        format!("{} {}", self.family(), self.version.split('-').next().unwrap_or_default())
    }

    /// Major and minor version: a release, from whose successors it does not replicate. Unknown text
    /// sorts first.
    pub fn release(&self) -> (u32, u32) {
        let mut parts = self.version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    /// Whether it can cut clients and keep them out (`offline_mode`, since MySQL 5.7).
    pub fn has_offline_mode(&self) -> bool {
        self.family() == Family::Mysql && self.release() >= (5, 7)
    }

    /// Whether it can keep privileged sessions from writing (`super_read_only`, since MySQL 5.7).
    pub fn has_super_read_only(&self) -> bool {
        self.family() == Family::Mysql && self.release() >= (5, 7)
    }

    /// Whether it can be rebuilt as a copy of another server (clone plugin, since MySQL 8.0.17).
    pub fn has_clone(&self) -> bool {
        self.family() == Family::Mysql && self.release() >= (8, 0)
    }

    /// An application could commit here.
    pub fn is_writable(&self) -> bool {
        !self.read_only && !self.offline
    }

    /// Executed, or in the relay log and complete.
    pub fn received(&self) -> GtidSet {
        match &self.replica {
            Some(replica) => self.executed.union(&replica.retrieved),
            None => self.executed.clone(),
        }
    }

    /// Its receiver is connected to the server at that address, and it acknowledges. (The status
    /// variable alone stays ON while the receiver tries to connect again [ran].)
    pub fn acknowledges_to(&self, (host, port): (&str, u16)) -> bool {
        let is_on = self.replica.as_ref().is_some_and(|replica| {
            replica.receiver == Receiver::On
                && (&*replica.source_host, replica.source_port) == (host, port)
        });
        is_on && self.semi_sync.as_ref().is_some_and(|semi_sync| semi_sync.replica_active)
    }

    /// Whether its receiver is not running, or it has none.
    pub fn is_receiver_off(&self) -> bool {
        self.replica.as_ref().is_none_or(|replica| replica.receiver == Receiver::Off)
    }
}

/// One manager's newest look at one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The server.
    pub server: ServerName,
    /// When the look began, on the observer's clock.
    pub at: Mono,
    /// What was seen, or why nothing was.
    pub seen: Result<ServerFacts, String>,
}
