//! MySQL 8.4 and 9.

use conclave_core::{
    model::{
        Applier, Boot, Inbound, LinkOptions, Receiver, ReplicaFacts, SemiSync, ServerFacts, StepId,
    },
    ports::SqlAction,
};
use mysql_async::Row;
use secrecy::ExposeSecret;

use super::{Link, Terms, channel_of, quote, seconds};
use crate::adapters::mysql::{
    RESCUE_CHANNEL,
    read::{Comeback, Named, Odd, Plugins, Wide, parse},
};

const VARIABLES: &str = "@@server_uuid AS server_uuid, @@version AS version, \
    @@server_id AS server_id, @@read_only AS read_only, @@super_read_only AS super_read_only, \
    @@offline_mode AS offline_mode, @@gtid_mode AS gtid_mode, @@log_bin AS log_bin, \
    @@log_replica_updates AS log_replica_updates, @@sync_binlog AS sync_binlog, \
    @@innodb_flush_log_at_trx_commit AS flush_log, @@sync_relay_log AS sync_relay_log, \
    @@skip_replica_start AS skip_replica_start, \
    @@relay_log_basename AS relay_log, \
    @@global.gtid_executed AS executed, @@global.gtid_purged AS purged";

const SOURCE_VARIABLES: &str = "@@rpl_semi_sync_source_enabled AS source_enabled, \
    @@rpl_semi_sync_source_wait_for_replica_count AS acks, \
    @@rpl_semi_sync_source_timeout AS timeout, \
    @@rpl_semi_sync_source_wait_point AS wait_point, \
    @@rpl_semi_sync_source_wait_no_replica AS wait_no_replica";

const REPLICA_VARIABLES: &str = "@@rpl_semi_sync_replica_enabled AS replica_enabled";

/// Counters; those of a semi-sync plugin are there only with it.
const STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Uptime', \
    'Rpl_semi_sync_source_clients', 'Rpl_semi_sync_source_wait_sessions', \
    'Rpl_semi_sync_replica_status')";

/// These tables fill even with the performance schema off.
pub(super) const ASK_LINK: &str = "SELECT c.CHANNEL_NAME AS channel, c.HOST AS host, \
    c.SSL_ALLOWED AS tls, c.SSL_VERIFY_SERVER_CERTIFICATE AS tls_verify, \
    c.SSL_CA_FILE AS tls_ca, c.GET_PUBLIC_KEY AS get_public_key, \
    c.CONNECTION_RETRY_INTERVAL AS connect_retry, c.CONNECTION_RETRY_COUNT AS retry_count, \
    c.HEARTBEAT_INTERVAL AS heartbeat, s.COUNT_RECEIVED_HEARTBEATS AS heartbeats \
    FROM performance_schema.replication_connection_configuration c \
    JOIN performance_schema.replication_connection_status s USING (CHANNEL_NAME) \
    WHERE c.HOST <> '' AND c.CHANNEL_NAME <> 'conclave_rescue' ORDER BY CHANNEL_NAME";

/// Where the settings of the boot come from, and what is persisted. These tables fill even with the
/// performance schema off [ran].
const ASK_BOOT: &str = "SELECT i.VARIABLE_NAME AS name, i.VARIABLE_SOURCE AS origin, \
    p.VARIABLE_VALUE AS persisted FROM performance_schema.variables_info i \
    LEFT JOIN performance_schema.persisted_variables p USING (VARIABLE_NAME) \
    WHERE i.VARIABLE_NAME IN ('read_only', 'super_read_only', 'skip_replica_start')";

/// Who is connected, and whose binary log dumps there are; who may not log in.
pub(super) const ASK_INBOUND: &str = "SELECT USER AS account, SUM(COMMAND LIKE 'Binlog Dump%') AS dumps \
    FROM information_schema.processlist GROUP BY USER; \
    SELECT User AS account FROM mysql.user GROUP BY User HAVING SUM(account_locked = 'N') = 0";

/// Received before executed: what moves on between the two statements is seen in both, never in
/// neither.
pub(super) fn look(plugins: Plugins, wide: Wide) -> String {
    let mut variables = VARIABLES.to_owned();
    for (there, more) in [(plugins.source, SOURCE_VARIABLES), (plugins.replica, REPLICA_VARIABLES)]
    {
        if there {
            variables.push_str(", ");
            variables.push_str(more);
        }
    }
    let mut sql = format!("SHOW REPLICA STATUS; SELECT {variables}; {STATUS}; {ASK_LINK}");
    for more in match wide {
        Wide::No => [].as_slice(),
        Wide::Inbound => &[ASK_INBOUND],
        Wide::InboundAndBoot => &[ASK_INBOUND, ASK_BOOT],
    } {
        sql.push_str("; ");
        sql.push_str(more);
    }
    sql
}

/// The replies to [`look`]: four, two more about who is connected, one more about the boot.
struct Replies<'a> {
    replicas: &'a [Row],
    variables: Named<'a>,
    status: &'a [Row],
    links: &'a [Row],
    /// Who is connected, and who is locked.
    inbound: Option<(&'a [Row], &'a [Row])>,
    boot: Option<&'a [Row]>,
}

impl<'a> Replies<'a> {
    fn of(sets: &'a [Vec<Row>]) -> Result<Self, Odd> {
        match sets {
            [replicas, variables, status, links, wide @ ..] if variables.len() == 1 => {
                let inbound = wide.first().zip(wide.get(1));
                Ok(Self {
                    replicas,
                    variables: Named(&variables[0]),
                    status,
                    links,
                    inbound: inbound.map(|(connected, locked)| (&connected[..], &locked[..])),
                    boot: wide.get(2).map(|rows| &rows[..]),
                })
            }
            other => Err(Odd(format!("wanted 4 to 7 replies to a look, found {}", other.len()))),
        }
    }

    fn status(&self, name: &str) -> Result<Option<String>, Odd> {
        for row in self.status {
            let row = Named(row);
            if row.text("Variable_name")?.eq_ignore_ascii_case(name) {
                return row.maybe("Value");
            }
        }
        Ok(None)
    }

    fn count(&self, name: &str) -> Result<u32, Odd> {
        self.status(name)?.map_or(Ok(0), |text| parse(name, &text))
    }
}

pub(super) fn plugins(sets: &[Vec<Row>]) -> Result<Plugins, Odd> {
    let replies = Replies::of(sets)?;
    Ok(Plugins {
        source: replies.status("Rpl_semi_sync_source_clients")?.is_some(),
        replica: replies.status("Rpl_semi_sync_replica_status")?.is_some(),
    })
}

pub(super) fn facts(
    sets: &[Vec<Row>],
    asked: Plugins,
    known: Option<Comeback>,
) -> Result<ServerFacts, Odd> {
    let replies = Replies::of(sets)?;
    let row = &replies.variables;
    let comeback = comeback(sets)?.or(known).unwrap_or_default();
    let uptime = replies.status("Uptime")?.unwrap_or_default();
    Ok(ServerFacts {
        uuid: row.text("server_uuid")?,
        version: row.text("version")?,
        server_id: row.value("server_id")?,
        uptime_seconds: parse("Uptime", &uptime)?,
        read_only: row.flag("read_only")?,
        super_read_only: row.flag("super_read_only")?,
        offline: row.flag("offline_mode")?,
        gtid_mode: row.flag("gtid_mode")?,
        log_bin: row.flag("log_bin")?,
        log_replica_updates: row.flag("log_replica_updates")?,
        sync_binlog: row.value("sync_binlog")?,
        flush_log: row.value("flush_log")?,
        sync_relay_log: row.value("sync_relay_log")?,
        skips_replica_start: comeback.skips_start.unwrap_or(row.flag("skip_replica_start")?),
        boot: comeback.boot,
        inbound: replies.inbound.map(|(all, locked)| inbound(all, locked)).transpose()?,
        executed: row.value("executed")?,
        purged: row.value("purged")?,
        replica: replica(&replies)?,
        rescue: rescue(&replies)?,
        relay_log: row.text("relay_log")?,
        semi_sync: semi_sync(&replies, asked)?,
    })
}

pub(super) fn inbound(connected: &[Row], locked: &[Row]) -> Result<Inbound, Odd> {
    let mut out = Inbound::default();
    for row in connected.iter().map(Named) {
        let account = row.text("account")?;
        let dumps: usize = row.value("dumps")?;
        out.dumps.extend(std::iter::repeat_n(account.clone(), dumps));
        out.connected.insert(account);
    }
    for row in locked.iter().map(Named) {
        out.locked.insert(row.text("account")?);
    }
    Ok(out)
}

/// What the server says about its next start; `None`: it was not asked.
///
/// `read_only = OFF` takes `super_read_only` with it, and the other way round, and neither leaves a
/// trace of it in the other's origin [ran]: so both must come from a file for it to tell.
pub(super) fn comeback(sets: &[Vec<Row>]) -> Result<Option<Comeback>, Odd> {
    let replies = Replies::of(sets)?;
    let Some(rows) = replies.boot else { return Ok(None) };
    let find = |name: &str| -> Result<(String, Option<String>), Odd> {
        for row in rows.iter().map(Named) {
            if row.text("name")?.eq_ignore_ascii_case(name) {
                return Ok((row.text("origin")?, row.maybe("persisted")?));
            }
        }
        Err(Odd(format!("its variables lack {name}")))
    };
    let is_on = |text: &String| ["1", "ON"].iter().any(|on| text.eq_ignore_ascii_case(on));
    let (origin, persisted) = find("super_read_only")?;
    let (plain_origin, _) = find("read_only")?;
    let is_dynamic = origin == "DYNAMIC" || plain_origin == "DYNAMIC";
    let is_read_only = replies.variables.flag("super_read_only")?;
    let boot = match (persisted, is_dynamic) {
        (Some(text), _) if is_on(&text) => Boot::ReadOnly,
        (Some(_), _) => Boot::Open,
        // Nobody ever set it: it is OFF.
        (None, _) if origin == "COMPILED" => Boot::Open,
        (None, true) => Boot::Unknown,
        (None, false) if is_read_only => Boot::ReadOnly,
        (None, false) => Boot::Open,
    };
    let (_, persisted) = find("skip_replica_start")?;
    Ok(Some(Comeback { boot, skips_start: persisted.as_ref().map(is_on) }))
}

fn semi_sync(replies: &Replies<'_>, asked: Plugins) -> Result<Option<SemiSync>, Odd> {
    if asked == Plugins::default() {
        return Ok(None);
    }
    let row = &replies.variables;
    let mut seen = SemiSync::default();
    if asked.source {
        seen.has_source = true;
        seen.source_enabled = row.flag("source_enabled")?;
        seen.acks = row.value("acks")?;
        seen.timeout_ms = row.value("timeout")?;
        seen.after_sync = row.text("wait_point")?.eq_ignore_ascii_case("AFTER_SYNC");
        seen.wait_no_replica = row.flag("wait_no_replica")?;
        seen.clients = replies.count("Rpl_semi_sync_source_clients")?;
        seen.waiting = replies.count("Rpl_semi_sync_source_wait_sessions")?;
    }
    if asked.replica {
        let active = replies.status("Rpl_semi_sync_replica_status")?;
        seen.replica_enabled = row.flag("replica_enabled")?;
        seen.replica_active = active.is_some_and(|text| text.eq_ignore_ascii_case("ON"));
    }
    Ok(Some(seen))
}

/// The link of the default channel, or of the first one with a source. Further channels, and
/// those of group replication, are none of our business.
fn replica(replies: &Replies<'_>) -> Result<Option<ReplicaFacts>, Odd> {
    let Some(link) = replies.links.iter().map(Named).next() else { return Ok(None) };
    let channel = link.text("channel")?;
    let mut status = None;
    for row in replies.replicas {
        if Named(row).text("Channel_Name")? == channel {
            status = Some(Named(row));
        }
    }
    // Configured between the two statements: the next look shows it.
    let Some(row) = status else { return Ok(None) };
    let lag = row.maybe("Seconds_Behind_Source")?;
    Ok(Some(ReplicaFacts {
        source_host: row.text("Source_Host")?,
        source_port: row.value("Source_Port")?,
        source_uuid: row.text("Source_UUID")?,
        receiver: receiver(&row.text("Replica_IO_Running")?)?,
        receiver_error: error(&row, "Last_IO_Errno", "Last_IO_Error")?,
        applier: applier(&row)?,
        retrieved: row.value("Retrieved_Gtid_Set")?,
        read_to: row.value("Read_Source_Log_Pos")?,
        lag_seconds: lag.map(|text| parse("Seconds_Behind_Source", &text)).transpose()?,
        heartbeats: link.value("heartbeats")?,
        auto_position: row.flag("Auto_Position")?,
        filters: filters(&row)?,
        options: options(&link, channel)?,
    }))
}

/// The applier of the channel for rescued transactions.
fn rescue(replies: &Replies<'_>) -> Result<Option<Applier>, Odd> {
    for row in replies.replicas.iter().map(Named) {
        if row.text("Channel_Name")? == RESCUE_CHANNEL {
            return applier(&row).map(Some);
        }
    }
    Ok(None)
}

/// What a replica leaves out, in the words of `SHOW REPLICA STATUS`.
fn filters(row: &Named<'_>) -> Result<String, Odd> {
    const COLUMNS: [&str; 7] = [
        "Replicate_Do_DB",
        "Replicate_Ignore_DB",
        "Replicate_Do_Table",
        "Replicate_Ignore_Table",
        "Replicate_Wild_Do_Table",
        "Replicate_Wild_Ignore_Table",
        "Replicate_Rewrite_DB",
    ];
    let mut out = Vec::new();
    for column in COLUMNS {
        let set = row.maybe(column)?.filter(|text| !text.is_empty());
        out.extend(set.map(|text| format!("{column}: {text}")));
    }
    Ok(out.join("; "))
}

fn receiver(text: &str) -> Result<Receiver, Odd> {
    match text {
        "Yes" => Ok(Receiver::On),
        "Connecting" => Ok(Receiver::Connecting),
        "No" => Ok(Receiver::Off),
        other => Err(Odd(format!("Replica_IO_Running is {other:?}"))),
    }
}

fn applier(row: &Named<'_>) -> Result<Applier, Odd> {
    if row.flag("Replica_SQL_Running")? {
        return Ok(Applier::On);
    }
    let error = error(row, "Last_SQL_Errno", "Last_SQL_Error")?;
    Ok(error.map_or(Applier::Off, |(code, text)| Applier::Broken { code, text }))
}

fn error(row: &Named<'_>, code: &str, text: &str) -> Result<Option<(u32, String)>, Odd> {
    let code = row.value(code)?;
    Ok(if code == 0 { None } else { Some((code, row.text(text)?)) })
}

fn options(link: &Named<'_>, channel: String) -> Result<LinkOptions, Odd> {
    let heartbeat: f64 = link.value("heartbeat")?;
    Ok(LinkOptions {
        // IGNORED: asked for, but the server was built without TLS.
        tls: !link.text("tls")?.eq_ignore_ascii_case("NO"),
        tls_verify: link.flag("tls_verify")?,
        tls_ca: link.text("tls_ca")?,
        get_public_key: link.flag("get_public_key")?,
        connect_retry_s: link.value("connect_retry")?,
        retry_count: link.value("retry_count")?,
        heartbeat_ms: (heartbeat * 1000.0).round() as u64,
        channel,
    })
}

pub(super) fn link(sets: &[Vec<Row>]) -> Result<Link, Odd> {
    let Some(row) = sets.first().and_then(|rows| rows.first()).map(Named) else {
        return Ok(Link::default());
    };
    Ok(Link { channel: row.text("channel")?, heartbeat: row.maybe("heartbeat")? })
}

/// The server itself compares, when it comes to it: said by one who was overtaken, it does nothing.
/// Nor does it where several channels apply, as nothing tells here which is which.
pub(super) fn kill_idle_applier(lock: &str, holder: u32) -> String {
    format!(
        "SET @kill = (SELECT IF(COUNT(*) = 1, CONCAT('KILL ', MIN(ID)), NULL) \
         FROM information_schema.processlist WHERE USER = 'system user' AND STATE LIKE '%has read all relay log%' \
         AND IS_USED_LOCK('{lock}') = {holder}); \
         SET @kill = COALESCE(@kill, 'DO 0'); PREPARE kill_applier FROM @kill; \
         EXECUTE kill_applier"
    )
}

pub(super) fn statement(action: &SqlAction, terms: &Terms<'_>) -> Option<String> {
    let on = |on: &bool| if *on { "ON" } else { "OFF" };
    let channel = |verb: &str| format!("{verb}{}", for_channel(&terms.link.channel));
    Some(match action {
        SqlAction::StopReceiver => channel("STOP REPLICA IO_THREAD"),
        SqlAction::StartReceiver => channel("START REPLICA IO_THREAD"),
        SqlAction::StartApplier => channel("START REPLICA SQL_THREAD"),
        SqlAction::StopReplica | SqlAction::StopApplier => channel("STOP REPLICA"),
        SqlAction::StartReplica => channel("START REPLICA"),
        SqlAction::ForgetSource => channel("RESET REPLICA ALL"),
        SqlAction::ApplyRescued { relay_log } => apply_rescued(relay_log),
        SqlAction::DropRescued => {
            let channel = for_channel(RESCUE_CHANNEL);
            format!("STOP REPLICA{channel}; RESET REPLICA ALL{channel}")
        }
        SqlAction::ChangeSource { host, port, account, options } => {
            change_source(host, *port, account, options.as_ref(), terms)
        }
        SqlAction::SetSemiSyncReplica { on: wanted } => {
            format!("SET GLOBAL rpl_semi_sync_replica_enabled = {}", on(wanted))
        }
        // One statement, carried out from left to right: never fewer acknowledgements than wanted.
        SqlAction::SetSemiSyncSource { on: true, acks } => format!(
            "SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = {acks}, \
             GLOBAL rpl_semi_sync_source_wait_point = 'AFTER_SYNC', \
             GLOBAL rpl_semi_sync_source_wait_no_replica = ON, \
             GLOBAL rpl_semi_sync_source_timeout = \
             CAST(GREATEST(@@GLOBAL.rpl_semi_sync_source_timeout, {}) AS UNSIGNED), \
             GLOBAL rpl_semi_sync_source_enabled = ON",
            SemiSync::LONG_MS
        ),
        SqlAction::SetSemiSyncSource { on: false, acks: _ } => {
            "SET GLOBAL rpl_semi_sync_source_enabled = OFF".into()
        }
        SqlAction::SetWritable => "SET GLOBAL read_only = OFF".into(),
        SqlAction::SetReadOnly => "SET GLOBAL super_read_only = ON".into(),
        SqlAction::SetOffline { on: wanted } => {
            format!("SET GLOBAL offline_mode = {}", on(wanted))
        }
        SqlAction::AllowRebuild => "SET GLOBAL super_read_only = OFF".into(),
        SqlAction::Clone { host, port, account } => clone(host, *port, account, terms),
        SqlAction::Persist { setting } => setting.statement(),
        SqlAction::CloseForWrites { .. }
        | SqlAction::CutClients
        | SqlAction::WriteMarker { .. }
        | SqlAction::LockAccount { .. }
        | SqlAction::UnlockAccount { .. } => return None,
    })
}

/// The hosts that an account may come from.
pub(super) fn ask_hosts(account: &str) -> String {
    format!("SELECT Host AS host FROM mysql.user WHERE User = {}", quote(account))
}

/// Locks or unlocks an account. Not written to the binary log it waits for no acknowledgement,
/// even while all clients do [ran].
pub(super) fn lock_account(account: &str, hosts: &[String], is_locked: bool) -> String {
    let named = |host: &String| format!("{}@{}", quote(account), quote(host));
    let named = hosts.iter().map(named).collect::<Vec<_>>().join(", ");
    let what = if is_locked { "LOCK" } else { "UNLOCK" };
    format!(
        "SET SESSION sql_log_bin = 0; ALTER USER {named} ACCOUNT {what}; \
         SET SESSION sql_log_bin = 1"
    )
}

/// The connections of an account, but not the one that asks.
pub(super) fn ask_connections(account: &str) -> String {
    format!(
        "SELECT ID AS id FROM information_schema.processlist WHERE USER = {} \
         AND ID <> CONNECTION_ID()",
        quote(account)
    )
}

pub(super) fn for_channel(channel: &str) -> String {
    if channel.is_empty() { String::new() } else { format!(" FOR CHANNEL {}", quote(channel)) }
}

/// Options that are not named keep their values, but for the heartbeat period, which falls back
/// to its default [ran]; so it is named always.
fn change_source(
    host: &str,
    port: u16,
    account: &str,
    options: Option<&LinkOptions>,
    terms: &Terms<'_>,
) -> String {
    let mut clauses = vec![
        format!("SOURCE_HOST = {}", quote(host)),
        format!("SOURCE_PORT = {port}"),
        format!("SOURCE_USER = {}", quote(account)),
        "SOURCE_AUTO_POSITION = 1".into(),
    ];
    if let Some(password) = terms.password {
        clauses.push(format!("SOURCE_PASSWORD = {}", quote(password.expose_secret())));
    }
    match (options, &terms.link.heartbeat) {
        (Some(options), _) => clauses.extend([
            format!("SOURCE_SSL = {}", u8::from(options.tls)),
            format!("SOURCE_SSL_VERIFY_SERVER_CERT = {}", u8::from(options.tls_verify)),
            format!("SOURCE_SSL_CA = {}", quote(&options.tls_ca)),
            format!("GET_SOURCE_PUBLIC_KEY = {}", u8::from(options.get_public_key)),
            format!("SOURCE_CONNECT_RETRY = {}", options.connect_retry_s),
            format!("SOURCE_RETRY_COUNT = {}", options.retry_count),
            format!("SOURCE_HEARTBEAT_PERIOD = {}", seconds(options.heartbeat_ms)),
        ]),
        (None, Some(heartbeat)) => clauses.push(format!("SOURCE_HEARTBEAT_PERIOD = {heartbeat}")),
        (None, None) => {}
    }
    let channel = for_channel(channel_of(options, terms.link));
    format!("CHANGE REPLICATION SOURCE TO {}{channel}", clauses.join(", "))
}

/// The host is never asked for anything: only the applier is started. The file is named as the index
/// names it.
/// **Source:** MySQL manual, "CHANGE REPLICATION SOURCE TO", `RELAY_LOG_FILE`; the rest is [ran].
fn apply_rescued(relay_log: &str) -> String {
    let file = format!("{relay_log}-{RESCUE_CHANNEL}.000001");
    let channel = for_channel(RESCUE_CHANNEL);
    format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'conclave-rescue.invalid', RELAY_LOG_FILE = {}, \
         RELAY_LOG_POS = 4{channel}; START REPLICA SQL_THREAD{channel}",
        quote(&file)
    )
}

/// The plugin's settings are there only with it: see [`INSTALL_CLONE`].
fn clone(host: &str, port: u16, account: &str, terms: &Terms<'_>) -> String {
    let password = terms.password.map_or("", |password| password.expose_secret());
    format!(
        "SET GLOBAL clone_valid_donor_list = {}; CLONE INSTANCE FROM {}@{}:{port} IDENTIFIED BY {}",
        quote(&format!("{host}:{port}")),
        quote(account),
        quote(host),
        quote(password)
    )
}

/// Each connection has a row of its own (of a thousand): a marker that waits for acknowledgements
/// holds its row, and the next marker must not wait behind it.
pub(super) fn write_marker(step: StepId) -> String {
    format!(
        "REPLACE INTO conclave.marker (id, epoch, seq, at) \
         VALUES (CONNECTION_ID() % 1000, {}, {}, UTC_TIMESTAMP(6))",
        step.epoch, step.seq
    )
}

/// Loads the clone plugin, for good.
pub(super) const INSTALL_CLONE: &str = "INSTALL PLUGIN clone SONAME 'mysql_clone.so'";

pub(super) const MAKE_MARKER: [&str; 2] = [
    "CREATE DATABASE IF NOT EXISTS conclave",
    "CREATE TABLE IF NOT EXISTS conclave.marker (id INT UNSIGNED PRIMARY KEY, \
     epoch BIGINT UNSIGNED NOT NULL, seq BIGINT UNSIGNED NOT NULL, at DATETIME(6) NOT NULL)",
];
