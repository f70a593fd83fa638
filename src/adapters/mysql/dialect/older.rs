//! MySQL before 8.4, in the words that all of these understand. Only 5.6 was asked; what 5.7 and 8.0 say
//! is from their manuals. Semi-sync plugins are known by their old names (`semisync_master.so`).

use conclave_core::{
    model::{Boot, Inbound, ReplicaFacts, SemiSync, ServerFacts},
    ports::SqlAction,
};
use mysql_async::Row;

use super::{Link, Terms, channel_of, classic, mysql8};
use crate::adapters::mysql::read::{Comeback, Named, Odd, Plugins, Wide, parse};

/// How old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::adapters::mysql) enum Age {
    /// 5.6: no `super_read_only`, no `offline_mode`, one lock for a session, no channels.
    Five6,
    /// 5.7: channels, and replication tables of the performance schema.
    Five7,
    /// 8.0 to 8.3: `caching_sha2_password`, so that links may ask for public keys.
    Eight0,
}

const VARIABLES: &str = "@@server_uuid AS server_uuid, @@version AS version, \
    @@server_id AS server_id, @@global.read_only AS read_only, @@gtid_mode AS gtid_mode, \
    @@log_bin AS log_bin, @@log_slave_updates AS log_replica_updates, \
    @@sync_binlog AS sync_binlog, @@innodb_flush_log_at_trx_commit AS flush_log, \
    @@sync_relay_log AS sync_relay_log, \
    @@global.gtid_executed AS executed, @@global.gtid_purged AS purged";

const LATER_VARIABLES: &str =
    "@@global.super_read_only AS super_read_only, @@global.offline_mode AS offline_mode";

const SOURCE_VARIABLES: &str = "@@rpl_semi_sync_master_enabled AS source_enabled, \
    @@rpl_semi_sync_master_timeout AS timeout, \
    @@rpl_semi_sync_master_wait_no_slave AS wait_no_replica";

const LATER_SOURCE_VARIABLES: &str = "@@rpl_semi_sync_master_wait_for_slave_count AS acks, \
    @@rpl_semi_sync_master_wait_point AS wait_point";

const REPLICA_VARIABLES: &str = "@@rpl_semi_sync_slave_enabled AS replica_enabled";

/// The heartbeats among them are 5.6's; later servers have a table for them.
const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Uptime', \
    'Rpl_semi_sync_master_clients', 'Rpl_semi_sync_master_wait_sessions', \
    'Rpl_semi_sync_slave_status', 'Slave_received_heartbeats', 'Slave_heartbeat_period')";

const HEARTBEATS: &str = "SELECT c.CHANNEL_NAME AS channel, c.HEARTBEAT_INTERVAL AS heartbeat, \
    s.COUNT_RECEIVED_HEARTBEATS AS heartbeats \
    FROM performance_schema.replication_connection_configuration c \
    JOIN performance_schema.replication_connection_status s USING (CHANNEL_NAME) \
    WHERE c.HOST <> '' ORDER BY CHANNEL_NAME";

impl Age {
    /// Received before executed, as [`mysql8::look`] says.
    pub(super) fn look(self, plugins: Plugins, wide: Wide) -> String {
        let is_later = self >= Age::Five7;
        let parts = [
            (true, VARIABLES),
            (is_later, LATER_VARIABLES),
            (plugins.source, SOURCE_VARIABLES),
            (plugins.source && is_later, LATER_SOURCE_VARIABLES),
            (plugins.replica, REPLICA_VARIABLES),
        ];
        let parts: Vec<&str> = parts.iter().filter(|(is_in, _)| *is_in).map(|it| it.1).collect();
        let mut sql = format!("SHOW SLAVE STATUS; SELECT {}; {STATUS}", parts.join(", "));
        if is_later {
            sql = format!("{sql}; {HEARTBEATS}");
            if wide != Wide::No {
                sql = format!("{sql}; {}", mysql8::ASK_INBOUND);
            }
        }
        sql
    }

    pub(super) fn facts(self, sets: &[Vec<Row>], asked: Plugins) -> Result<ServerFacts, Odd> {
        let replies = Replies::of(sets)?;
        let row = &replies.variables;
        let is_later = self >= Age::Five7;
        let read_only = row.flag("read_only")?;
        Ok(ServerFacts {
            uuid: row.text("server_uuid")?,
            version: row.text("version")?,
            server_id: row.value("server_id")?,
            uptime_seconds: parse("Uptime", &replies.status("Uptime")?.unwrap_or_default())?,
            read_only,
            super_read_only: if is_later { row.flag("super_read_only")? } else { read_only },
            offline: is_later && row.flag("offline_mode")?,
            gtid_mode: row.flag("gtid_mode")?,
            log_bin: row.flag("log_bin")?,
            log_replica_updates: row.flag("log_replica_updates")?,
            sync_binlog: row.value("sync_binlog")?,
            flush_log: row.value("flush_log")?,
            sync_relay_log: row.value("sync_relay_log")?,
            skips_replica_start: false,
            boot: COMEBACK.boot,
            inbound: replies.inbound()?,
            executed: row.value("executed")?,
            purged: row.value("purged")?,
            replica: self.replica(&replies)?,
            rescue: None,
            relay_log: String::new(),
            semi_sync: self.semi_sync(&replies, asked)?,
        })
    }

    fn semi_sync(self, replies: &Replies<'_>, asked: Plugins) -> Result<Option<SemiSync>, Odd> {
        if asked == Plugins::default() {
            return Ok(None);
        }
        let (row, mut seen) = (&replies.variables, SemiSync::default());
        if asked.source {
            seen.has_source = true;
            seen.source_enabled = row.flag("source_enabled")?;
            seen.timeout_ms = row.value("timeout")?;
            seen.wait_no_replica = row.flag("wait_no_replica")?;
            seen.clients = replies.count("Rpl_semi_sync_master_clients")?;
            seen.waiting = replies.count("Rpl_semi_sync_master_wait_sessions")?;
            // 5.6 waits for one, and after the commit is seen by others.
            let is_later = self >= Age::Five7;
            seen.acks = if is_later { row.value("acks")? } else { 1 };
            seen.after_sync =
                is_later && row.text("wait_point")?.eq_ignore_ascii_case("AFTER_SYNC");
        }
        if asked.replica {
            let active = replies.status("Rpl_semi_sync_slave_status")?;
            seen.replica_enabled = row.flag("replica_enabled")?;
            seen.replica_active = active.is_some_and(|text| text.eq_ignore_ascii_case("ON"));
        }
        Ok(Some(seen))
    }

    fn replica(self, replies: &Replies<'_>) -> Result<Option<ReplicaFacts>, Odd> {
        let Some(row) = classic::first(replies.replicas, "Channel_Name")? else { return Ok(None) };
        let (heartbeat_ms, heartbeats) = match self {
            Age::Five6 => {
                let period = replies.status("Slave_heartbeat_period")?.unwrap_or_default();
                let heard = replies.status("Slave_received_heartbeats")?.unwrap_or_default();
                (classic::millis(&period)?, parse("Slave_received_heartbeats", &heard)?)
            }
            Age::Five7 | Age::Eight0 => {
                // Configured between the two statements: the next look shows it.
                let Some(link) = replies.more.first().and_then(|rows| rows.first()).map(Named)
                else {
                    return Ok(None);
                };
                (classic::millis(&link.text("heartbeat")?)?, link.value("heartbeats")?)
            }
        };
        let told = classic::Told {
            source: row.text("Master_UUID")?,
            retrieved: row.value("Retrieved_Gtid_Set")?,
            by_gtid: row.flag("Auto_Position")?,
            heartbeats,
            heartbeat_ms,
            retry_count: row.value("Master_Retry_Count")?,
            get_public_key: match self {
                Age::Five6 | Age::Five7 => false,
                Age::Eight0 => row.flag("Get_master_public_key")?,
            },
            channel: match self {
                Age::Five6 => String::new(),
                Age::Five7 | Age::Eight0 => row.text("Channel_Name")?,
            },
        };
        Ok(Some(classic::replica(&row, told)?))
    }

    pub(super) fn ask_link(self) -> &'static str {
        match self {
            Age::Five6 => "SHOW GLOBAL STATUS WHERE Variable_name = 'Slave_heartbeat_period'",
            Age::Five7 | Age::Eight0 => HEARTBEATS,
        }
    }

    pub(super) fn link(self, sets: &[Vec<Row>]) -> Result<Link, Odd> {
        let Some(row) = sets.first().and_then(|rows| rows.first()).map(Named) else {
            return Ok(Link::default());
        };
        Ok(match self {
            Age::Five6 => Link { channel: String::new(), heartbeat: row.maybe("Value")? },
            Age::Five7 | Age::Eight0 => {
                Link { channel: row.text("channel")?, heartbeat: row.maybe("heartbeat")? }
            }
        })
    }

    /// What has no statement here is refused, never done half.
    pub(super) fn statement(self, action: &SqlAction, terms: &Terms<'_>) -> Option<String> {
        let on = |on: &bool| if *on { "ON" } else { "OFF" };
        let is_later = self >= Age::Five7;
        let channel = mysql8::for_channel(&terms.link.channel);
        let named = |verb: &str, rest: &str| format!("{verb}{rest}{channel}");
        if let Some(verb) = classic::verb(action, named) {
            return Some(verb);
        }
        match action {
            SqlAction::ChangeSource { host, port, account, options } => {
                let options = options.as_ref();
                let by_gtid = "MASTER_AUTO_POSITION = 1";
                let mut clauses = classic::change((host, *port, account), by_gtid, options, terms);
                if let Some(options) = options {
                    clauses.push(format!("MASTER_RETRY_COUNT = {}", options.retry_count));
                    let key = u8::from(options.get_public_key);
                    let has_keys = self == Age::Eight0;
                    clauses.extend(has_keys.then(|| format!("GET_MASTER_PUBLIC_KEY = {key}")));
                }
                let channel = mysql8::for_channel(channel_of(options, terms.link));
                Some(format!("CHANGE MASTER TO {}{channel}", clauses.join(", ")))
            }
            SqlAction::SetSemiSyncReplica { on: wanted } => {
                Some(format!("SET GLOBAL rpl_semi_sync_slave_enabled = {}", on(wanted)))
            }
            SqlAction::SetSemiSyncSource { on: true, acks } => is_later.then(|| {
                format!(
                    "SET GLOBAL rpl_semi_sync_master_wait_for_slave_count = {acks}, \
                     GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC', \
                     GLOBAL rpl_semi_sync_master_wait_no_slave = ON, \
                     GLOBAL rpl_semi_sync_master_timeout = \
                     CAST(GREATEST(@@GLOBAL.rpl_semi_sync_master_timeout, {}) AS UNSIGNED), \
                     GLOBAL rpl_semi_sync_master_enabled = ON",
                    SemiSync::LONG_MS
                )
            }),
            SqlAction::SetSemiSyncSource { on: false, acks: _ } => {
                Some("SET GLOBAL rpl_semi_sync_master_enabled = OFF".into())
            }
            SqlAction::SetWritable => Some("SET GLOBAL read_only = OFF".into()),
            SqlAction::SetReadOnly => Some(self.read_only().into()),
            SqlAction::SetOffline { on: wanted } => {
                is_later.then(|| format!("SET GLOBAL offline_mode = {}", on(wanted)))
            }
            SqlAction::StopReceiver
            | SqlAction::StartReceiver
            | SqlAction::StartApplier
            | SqlAction::StopReplica
            | SqlAction::StopApplier
            | SqlAction::StartReplica
            | SqlAction::ForgetSource
            | SqlAction::CloseForWrites { .. }
            | SqlAction::CutClients
            | SqlAction::ApplyRescued { .. }
            | SqlAction::DropRescued
            | SqlAction::AllowRebuild
            | SqlAction::Clone { .. }
            | SqlAction::WriteMarker { .. }
            | SqlAction::LockAccount { .. }
            | SqlAction::UnlockAccount { .. }
            | SqlAction::Persist { .. } => None,
        }
    }

    fn read_only(self) -> &'static str {
        match self {
            Age::Five6 => "SET GLOBAL read_only = ON",
            Age::Five7 | Age::Eight0 => "SET GLOBAL super_read_only = ON",
        }
    }
}

/// Nothing is asked about the next start: a configuration file alone decides it.
pub(super) const COMEBACK: Comeback = Comeback { boot: Boot::Unknown, skips_start: None };

pub(super) fn plugins(sets: &[Vec<Row>]) -> Result<Plugins, Odd> {
    let replies = Replies::of(sets)?;
    Ok(Plugins {
        source: replies.status("Rpl_semi_sync_master_clients")?.is_some(),
        replica: replies.status("Rpl_semi_sync_slave_status")?.is_some(),
    })
}

/// The replies to [`Age::look`].
struct Replies<'a> {
    replicas: &'a [Row],
    variables: Named<'a>,
    status: &'a [Row],
    /// Heartbeats, who is connected, who is locked; not of 5.6.
    more: &'a [Vec<Row>],
}

impl<'a> Replies<'a> {
    fn of(sets: &'a [Vec<Row>]) -> Result<Self, Odd> {
        match sets {
            [replicas, variables, status, more @ ..] if variables.len() == 1 => {
                Ok(Self { replicas, variables: Named(&variables[0]), status, more })
            }
            other => Err(Odd(format!("wanted 3 to 6 replies to a look, found {}", other.len()))),
        }
    }

    fn status(&self, name: &str) -> Result<Option<String>, Odd> {
        for row in self.status.iter().map(Named) {
            if row.text("Variable_name")?.eq_ignore_ascii_case(name) {
                return row.maybe("Value");
            }
        }
        Ok(None)
    }

    fn count(&self, name: &str) -> Result<u32, Odd> {
        self.status(name)?.map_or(Ok(0), |text| parse(name, &text))
    }

    fn inbound(&self) -> Result<Option<Inbound>, Odd> {
        let both = self.more.get(1).zip(self.more.get(2));
        both.map(|(connected, locked)| mysql8::inbound(connected, locked)).transpose()
    }
}
