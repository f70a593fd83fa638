//! Settings of a server that `quorum` mode rests on (SAFETY section 3), each with the one value that
//! it has to have.

use serde::{Deserialize, Serialize};

use super::{Boot, SemiSync, ServerFacts};

/// One of them. All can be set over SQL and outlive a restart (`SET PERSIST`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// A commit is in the binary log on disk before anybody acknowledges it.
    SyncBinlog,
    /// A commit is in the redo log on disk.
    FlushLog,
    /// What was received is in the relay log on disk before it is acknowledged.
    SyncRelayLog,
    /// It boots read-only: the managers open the primary, nobody else does.
    BootReadOnly,
    /// It boots without replicating.
    SkipReplicaStart,
    /// A commit waits before anybody sees it.
    WaitPoint,
    /// A commit waits although no acker is connected.
    WaitNoReplica,
    /// A commit waits however long it takes.
    Timeout,
    /// A replica waits for nobody: its applier would hang.
    SourceOff,
}

impl Setting {
    /// All of them.
    pub const ALL: [Setting; 9] = [
        Setting::SyncBinlog,
        Setting::FlushLog,
        Setting::SyncRelayLog,
        Setting::BootReadOnly,
        Setting::SkipReplicaStart,
        Setting::WaitPoint,
        Setting::WaitNoReplica,
        Setting::Timeout,
        Setting::SourceOff,
    ];

    /// The system variables with their values.
    pub fn variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Setting::SyncBinlog => &[("sync_binlog", "1")],
            Setting::FlushLog => &[("innodb_flush_log_at_trx_commit", "1")],
            Setting::SyncRelayLog => &[("sync_relay_log", "1")],
            Setting::BootReadOnly => &[("read_only", "ON"), ("super_read_only", "ON")],
            Setting::SkipReplicaStart => &[("skip_replica_start", "ON")],
            Setting::WaitPoint => &[("rpl_semi_sync_source_wait_point", "AFTER_SYNC")],
            Setting::WaitNoReplica => &[("rpl_semi_sync_source_wait_no_replica", "ON")],
            Setting::Timeout => &[("rpl_semi_sync_source_timeout", "4294967295")],
            Setting::SourceOff => &[("rpl_semi_sync_source_enabled", "OFF")],
        }
    }

    /// It says how the server comes up; what is in force now is not touched.
    pub fn is_of_boot(self) -> bool {
        match self {
            Setting::BootReadOnly | Setting::SkipReplicaStart => true,
            Setting::SyncBinlog
            | Setting::FlushLog
            | Setting::SyncRelayLog
            | Setting::WaitPoint
            | Setting::WaitNoReplica
            | Setting::Timeout
            | Setting::SourceOff => false,
        }
    }

    /// The statement that sets it for good.
    /// **Source:** MySQL manual, "Persisted System Variables".
    pub fn statement(self) -> String {
        let scope = if self.is_of_boot() { "PERSIST_ONLY" } else { "PERSIST" };
        let quoted = |value: &str| match value {
            "AFTER_SYNC" => format!("'{value}'"),
            plain => plain.to_owned(),
        };
        let set = |(name, value): &(&str, &str)| format!("{scope} {name} = {}", quoted(value));
        let all: Vec<String> = self.variables().iter().map(set).collect();
        format!("SET {}", all.join(", "))
    }

    /// Whether a server has it, as far as the server tells.
    pub fn is_met(self, facts: &ServerFacts) -> bool {
        let semi_sync = facts.semi_sync.as_ref();
        let source = |is_so: fn(&SemiSync) -> bool| semi_sync.is_some_and(is_so);
        match self {
            Setting::SyncBinlog => facts.sync_binlog == 1,
            Setting::FlushLog => facts.flush_log == 1,
            Setting::SyncRelayLog => facts.sync_relay_log == 1,
            Setting::BootReadOnly => facts.boot == Boot::ReadOnly,
            Setting::SkipReplicaStart => facts.skips_replica_start,
            Setting::WaitPoint => source(|s| s.after_sync),
            Setting::WaitNoReplica => source(|s| s.wait_no_replica),
            Setting::Timeout => source(|s| s.timeout_ms >= SemiSync::LONG_MS),
            Setting::SourceOff => !source(|s| s.source_enabled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_set_for_good_and_those_of_boot_for_the_next_start_only() {
        let said: Vec<String> = Setting::ALL.into_iter().map(Setting::statement).collect();
        let wanted = [
            "SET PERSIST sync_binlog = 1",
            "SET PERSIST innodb_flush_log_at_trx_commit = 1",
            "SET PERSIST sync_relay_log = 1",
            "SET PERSIST_ONLY read_only = ON, PERSIST_ONLY super_read_only = ON",
            "SET PERSIST_ONLY skip_replica_start = ON",
            "SET PERSIST rpl_semi_sync_source_wait_point = 'AFTER_SYNC'",
            "SET PERSIST rpl_semi_sync_source_wait_no_replica = ON",
            "SET PERSIST rpl_semi_sync_source_timeout = 4294967295",
            "SET PERSIST rpl_semi_sync_source_enabled = OFF",
        ];
        assert_eq!(said, wanted);
    }
}
