//! MariaDB 10.11 and 11: GTIDs by domain and server, semi-sync built in, no `super_read_only` and no
//! `offline_mode`. What it cannot do has no statement: it is refused, never done half.

use conclave_core::{
    model::{Boot, Family, GtidSet, ReplicaFacts, SemiSync, ServerFacts, gtid::server_identity},
    ports::SqlAction,
};
use mysql_async::Row;

use super::{Link, Terms, channel_of, classic, quote};
use crate::adapters::mysql::read::{Comeback, Named, Odd, Plugins, parse};

/// Received before executed, as [`super::mysql8::look`] says.
pub(super) const LOOK: &str = "SHOW ALL SLAVES STATUS; SELECT @@version AS version, \
    @@server_id AS server_id, @@global.read_only AS read_only, @@log_bin AS log_bin, \
    @@log_slave_updates AS log_replica_updates, @@sync_binlog AS sync_binlog, \
    @@innodb_flush_log_at_trx_commit AS flush_log, @@sync_relay_log AS sync_relay_log, \
    @@global.gtid_strict_mode AS strict, @@global.gtid_binlog_state AS logged, \
    @@global.gtid_slave_pos AS applied, \
    @@rpl_semi_sync_master_enabled AS source_enabled, \
    @@rpl_semi_sync_master_timeout AS timeout, \
    @@rpl_semi_sync_master_wait_point AS wait_point, \
    @@rpl_semi_sync_master_wait_no_slave AS wait_no_replica, \
    @@rpl_semi_sync_slave_enabled AS replica_enabled; \
    SHOW GLOBAL STATUS WHERE Variable_name IN ('Uptime', 'Rpl_semi_sync_master_clients', \
    'Rpl_semi_sync_master_wait_sessions', 'Rpl_semi_sync_slave_status')";

/// Semi-sync is built in.
pub(super) const PLUGINS: Plugins = Plugins { source: true, replica: true };

/// Nothing is asked about the next start: only mode `quorum` asks for that.
pub(super) const COMEBACK: Comeback = Comeback { boot: Boot::Unknown, skips_start: None };

pub(super) const ASK_LINK: &str = "SHOW ALL SLAVES STATUS";

pub(super) fn facts(sets: &[Vec<Row>]) -> Result<ServerFacts, Odd> {
    let [replicas, variables, status] = sets else {
        return Err(Odd(format!("wanted 3 replies to a look, found {}", sets.len())));
    };
    let row = variables.first().map(Named);
    let row = row.ok_or_else(|| Odd("no reply about its variables".into()))?;
    let status = |name: &str| -> Result<String, Odd> {
        for row in status.iter().map(Named) {
            if row.text("Variable_name")?.eq_ignore_ascii_case(name) {
                return row.text("Value");
            }
        }
        Err(Odd(format!("its status lacks {name}")))
    };
    let count = |name: &str| -> Result<u32, Odd> { parse(name, &status(name)?) };
    let (logged, applied): (GtidSet, GtidSet) = (row.value("logged")?, row.value("applied")?);
    let server_id = row.value("server_id")?;
    let read_only = is_on(&row.text("read_only")?);
    let facts = ServerFacts {
        uuid: server_identity(server_id),
        version: row.text("version")?,
        server_id,
        uptime_seconds: parse("Uptime", &status("Uptime")?)?,
        read_only,
        super_read_only: read_only,
        offline: false,
        gtid_mode: row.flag("strict")?,
        log_bin: row.flag("log_bin")?,
        log_replica_updates: row.flag("log_replica_updates")?,
        sync_binlog: row.value("sync_binlog")?,
        flush_log: row.value("flush_log")?,
        sync_relay_log: row.value("sync_relay_log")?,
        skips_replica_start: false,
        boot: COMEBACK.boot,
        inbound: None,
        executed: logged.union(&applied),
        purged: GtidSet::empty(),
        replica: replica(replicas)?,
        rescue: None,
        relay_log: String::new(),
        semi_sync: Some(SemiSync {
            has_source: true,
            source_enabled: row.flag("source_enabled")?,
            replica_enabled: row.flag("replica_enabled")?,
            replica_active: status("Rpl_semi_sync_slave_status")?.eq_ignore_ascii_case("ON"),
            clients: count("Rpl_semi_sync_master_clients")?,
            acks: 1,
            timeout_ms: row.value("timeout")?,
            after_sync: row.text("wait_point")?.eq_ignore_ascii_case("AFTER_SYNC"),
            wait_no_replica: row.flag("wait_no_replica")?,
            waiting: count("Rpl_semi_sync_master_wait_sessions")?,
        }),
    };
    match facts.family() {
        Family::MariaDb => Ok(facts),
        Family::Mysql => Err(Odd(format!("version {:?} is none of MariaDB's", facts.version))),
    }
}

/// From MariaDB 12 on there are further kinds of read-only, all of which are more than `ON`.
fn is_on(read_only: &str) -> bool {
    !matches!(read_only, "0" | "OFF")
}

/// What it received and has not applied is thrown away by whatever starts a thread once both have
/// stopped (SAFETY section 7): it is not counted then.
fn replica(rows: &[Row]) -> Result<Option<ReplicaFacts>, Odd> {
    let Some(row) = classic::first(rows, "Connection_name")? else { return Ok(None) };
    let source: u32 = row.value("Master_Server_Id")?;
    let runs = |column: &str| Ok::<_, Odd>(row.text(column)? != "No");
    let is_kept = runs("Slave_IO_Running")? || runs("Slave_SQL_Running")?;
    let retrieved = if is_kept { row.value("Gtid_IO_Pos")? } else { GtidSet::empty() };
    let told = classic::Told {
        // Zero before the first connection.
        source: if source == 0 { String::new() } else { server_identity(source) },
        retrieved,
        by_gtid: row.text("Using_Gtid")? != "No",
        heartbeats: row.value("Slave_received_heartbeats")?,
        heartbeat_ms: classic::millis(&row.text("Slave_heartbeat_period")?)?,
        // An option of the server's, and of no statement before MariaDB 12.
        retry_count: 0,
        get_public_key: false,
        channel: row.text("Connection_name")?,
    };
    Ok(Some(classic::replica(&row, told)?))
}

pub(super) fn link(sets: &[Vec<Row>]) -> Result<Link, Odd> {
    let rows = sets.first().map_or(&[][..], Vec::as_slice);
    let Some(row) = classic::first(rows, "Connection_name")? else { return Ok(Link::default()) };
    let heartbeat = row.maybe("Slave_heartbeat_period")?;
    Ok(Link { channel: row.text("Connection_name")?, heartbeat })
}

pub(super) fn statement(action: &SqlAction, terms: &Terms<'_>) -> Option<String> {
    let on = |on: &bool| if *on { "ON" } else { "OFF" };
    let named = |verb: &str, rest: &str| format!("{verb}{}{rest}", connection(&terms.link.channel));
    if let Some(verb) = classic::verb(action, named) {
        return Some(verb);
    }
    match action {
        // A former primary's own transactions are in its binary log only: from where it is, and not
        // from where it once was as a replica.
        SqlAction::ChangeSource { host, port, account, options } => {
            let options = options.as_ref();
            let by_gtid = "MASTER_USE_GTID = slave_pos";
            let clauses = classic::change((host, *port, account), by_gtid, options, terms);
            let channel = connection(channel_of(options, terms.link));
            Some(format!(
                "SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_current_pos; CHANGE MASTER{channel} TO {}",
                clauses.join(", ")
            ))
        }
        SqlAction::SetSemiSyncReplica { on: wanted } => {
            Some(format!("SET GLOBAL rpl_semi_sync_slave_enabled = {}", on(wanted)))
        }
        SqlAction::SetSemiSyncSource { on: false, acks: _ } => {
            Some("SET GLOBAL rpl_semi_sync_master_enabled = OFF".into())
        }
        SqlAction::SetWritable => Some("SET GLOBAL read_only = OFF".into()),
        SqlAction::SetReadOnly => Some("SET GLOBAL read_only = ON".into()),
        SqlAction::StopReceiver
        | SqlAction::StartReceiver
        | SqlAction::StartApplier
        | SqlAction::StopReplica
        | SqlAction::StopApplier
        | SqlAction::StartReplica
        | SqlAction::ForgetSource
        | SqlAction::SetSemiSyncSource { on: true, .. }
        | SqlAction::SetOffline { .. }
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

/// Connections are named where MySQL has channels, in front of what is said of them.
fn connection(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" {}", quote(name)) }
}

/// As [`super::mysql8::kill_idle_applier`].
pub(super) fn kill_idle_applier(lock: &str, holder: u32) -> String {
    format!(
        "SET @kill = (SELECT IF(COUNT(*) = 1, CONCAT('KILL ', MIN(ID)), NULL) \
         FROM information_schema.processlist WHERE COMMAND = 'Slave_SQL' \
         AND STATE LIKE '%has read all relay log%' AND IS_USED_LOCK('{lock}') = {holder}); \
         SET @kill = COALESCE(@kill, 'DO 0'); PREPARE kill_applier FROM @kill; \
         EXECUTE kill_applier"
    )
}

/// What was logged before a file, from its first events: `[0-1-100,0-2-150]`.
pub(super) fn previous(sets: &[Vec<Row>]) -> Result<GtidSet, Odd> {
    for row in sets.first().into_iter().flatten().map(Named) {
        if row.text("Event_type")? == "Gtid_list" {
            let list = row.text("Info")?;
            let list = list.trim_start_matches('[').trim_end_matches(']');
            return parse("Gtid_list", list);
        }
    }
    Err(Odd("a binary log file does not say what was logged before it".into()))
}

/// The files with their sizes; then where they are. Its error log is a file alone.
pub(super) const LIST_LOGS: &str =
    "SHOW BINARY LOGS; SELECT @@log_bin_basename AS base, 0 AS readable";

/// Sessions and open transactions as MySQL lists them, and nobody who holds tables locked: that is
/// asked before switchovers only.
pub(super) fn list_clients(admin: &str) -> String {
    format!(
        "SELECT p.ID AS id, p.USER AS account, p.HOST AS host, p.COMMAND AS command, \
         p.TIME AS seconds FROM information_schema.processlist p WHERE p.ID <> CONNECTION_ID() \
         AND p.USER NOT IN ('system user', 'event_scheduler', 'unauthenticated user', {}) \
         AND p.COMMAND NOT LIKE 'Binlog Dump%' AND p.COMMAND NOT IN ('Daemon', 'Killed'); \
         SELECT trx_mysql_thread_id AS id, TIMESTAMPDIFF(SECOND, trx_started, NOW()) AS seconds \
         FROM information_schema.innodb_trx WHERE trx_mysql_thread_id > 0; \
         SELECT 0 AS id FROM DUAL WHERE 1 = 0",
        quote(admin)
    )
}

/// As [`super::sessions8::CLOSE`], without the promise: privileged sessions write on.
pub(super) const CLOSE: &str = "SET SESSION lock_wait_timeout = 1; SET GLOBAL read_only = ON";
