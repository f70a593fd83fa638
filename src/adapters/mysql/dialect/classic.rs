//! What MariaDB and MySQL before 8.4 have in common: `SLAVE` and `MASTER`, and a status of the
//! replica that tells its options, too.

use conclave_core::{
    model::{Applier, GtidSet, LinkOptions, Receiver, ReplicaFacts},
    ports::SqlAction,
};
use mysql_async::Row;
use secrecy::ExposeSecret;

use super::{Terms, quote, seconds};
use crate::adapters::mysql::read::{Named, Odd, parse};

/// What the status of a replica does not tell in the same words everywhere.
pub(super) struct Told {
    /// The source's identity.
    pub(super) source: String,
    /// What is in the relay log.
    pub(super) retrieved: GtidSet,
    /// Whether it follows by GTID.
    pub(super) by_gtid: bool,
    /// Heartbeats heard.
    pub(super) heartbeats: u64,
    /// `MASTER_HEARTBEAT_PERIOD`, in milliseconds.
    pub(super) heartbeat_ms: u64,
    /// `MASTER_RETRY_COUNT`.
    pub(super) retry_count: u32,
    /// `GET_MASTER_PUBLIC_KEY`.
    pub(super) get_public_key: bool,
    /// Name of the channel or connection.
    pub(super) channel: String,
}

/// A row of the status.
pub(super) fn replica(row: &Named<'_>, told: Told) -> Result<ReplicaFacts, Odd> {
    let lag = row.maybe("Seconds_Behind_Master")?;
    let options = LinkOptions {
        // Ignored: asked for, but the server was built without TLS.
        tls: !row.text("Master_SSL_Allowed")?.eq_ignore_ascii_case("NO"),
        tls_verify: row.flag("Master_SSL_Verify_Server_Cert")?,
        tls_ca: row.text("Master_SSL_CA_File")?,
        get_public_key: told.get_public_key,
        connect_retry_s: row.value("Connect_Retry")?,
        retry_count: told.retry_count,
        heartbeat_ms: told.heartbeat_ms,
        channel: told.channel,
    };
    Ok(ReplicaFacts {
        source_host: row.text("Master_Host")?,
        source_port: row.value("Master_Port")?,
        source_uuid: told.source,
        receiver: receiver(&row.text("Slave_IO_Running")?)?,
        receiver_error: error(row, "Last_IO_Errno", "Last_IO_Error")?,
        applier: applier(row)?,
        retrieved: told.retrieved,
        read_to: row.value("Read_Master_Log_Pos")?,
        lag_seconds: lag.map(|text| parse("Seconds_Behind_Master", &text)).transpose()?,
        heartbeats: told.heartbeats,
        auto_position: told.by_gtid,
        filters: filters(row)?,
        options,
    })
}

/// The row of the default channel, or of the first one. Others are none of our business.
pub(super) fn first<'a>(rows: &'a [Row], channel: &str) -> Result<Option<Named<'a>>, Odd> {
    let mut first: Option<(String, Named<'a>)> = None;
    for row in rows.iter().map(Named) {
        let name = row.maybe(channel).unwrap_or_default().unwrap_or_default();
        if first.as_ref().is_none_or(|(known, _)| name < *known) {
            first = Some((name, row));
        }
    }
    Ok(first.map(|(_, row)| row))
}

/// What a replica leaves out. Later servers have more columns than earlier ones.
fn filters(row: &Named<'_>) -> Result<String, Odd> {
    const COLUMNS: [&str; 6] = [
        "Replicate_Do_DB",
        "Replicate_Ignore_DB",
        "Replicate_Do_Table",
        "Replicate_Ignore_Table",
        "Replicate_Wild_Do_Table",
        "Replicate_Wild_Ignore_Table",
    ];
    const LATER: [&str; 5] = [
        "Replicate_Rewrite_DB",
        "Replicate_Ignore_Server_Ids",
        "Replicate_Do_Domain_Ids",
        "Replicate_Ignore_Domain_Ids",
        "Replicate_Ignore_Channels",
    ];
    let mut out = Vec::new();
    for column in COLUMNS {
        let set = row.maybe(column)?.filter(|text| !text.is_empty());
        out.extend(set.map(|text| format!("{column}: {text}")));
    }
    for column in LATER {
        let set = row.maybe(column).unwrap_or_default().filter(|text| !text.is_empty());
        out.extend(set.map(|text| format!("{column}: {text}")));
    }
    Ok(out.join("; "))
}

fn receiver(text: &str) -> Result<Receiver, Odd> {
    match text {
        "Yes" => Ok(Receiver::On),
        "Connecting" | "Preparing" => Ok(Receiver::Connecting),
        "No" => Ok(Receiver::Off),
        other => Err(Odd(format!("Slave_IO_Running is {other:?}"))),
    }
}

fn applier(row: &Named<'_>) -> Result<Applier, Odd> {
    if row.flag("Slave_SQL_Running")? {
        return Ok(Applier::On);
    }
    let error = error(row, "Last_SQL_Errno", "Last_SQL_Error")?;
    Ok(error.map_or(Applier::Off, |(code, text)| Applier::Broken { code, text }))
}

fn error(row: &Named<'_>, code: &str, text: &str) -> Result<Option<(u32, String)>, Odd> {
    let code = row.value(code)?;
    Ok(if code == 0 { None } else { Some((code, row.text(text)?)) })
}

/// The verbs that act on threads; `named` puts the channel in. `None`: the action is none of these.
pub(super) fn verb(action: &SqlAction, named: impl Fn(&str, &str) -> String) -> Option<String> {
    match action {
        SqlAction::StopReceiver => Some(named("STOP SLAVE", " IO_THREAD")),
        SqlAction::StartReceiver => Some(named("START SLAVE", " IO_THREAD")),
        SqlAction::StartApplier => Some(named("START SLAVE", " SQL_THREAD")),
        SqlAction::StopReplica | SqlAction::StopApplier => Some(named("STOP SLAVE", "")),
        SqlAction::StartReplica => Some(named("START SLAVE", "")),
        SqlAction::ForgetSource => Some(named("RESET SLAVE", " ALL")),
        SqlAction::ChangeSource { .. }
        | SqlAction::SetSemiSyncReplica { .. }
        | SqlAction::SetSemiSyncSource { .. }
        | SqlAction::SetWritable
        | SqlAction::SetReadOnly
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

/// The clauses of a change of source that are the same everywhere; `by_gtid` says how the place is
/// found. Options that are not named keep their values, but for the heartbeat period, which falls back
/// to its default [ran]; so it is named always.
pub(super) fn change(
    (host, port, account): (&str, u16, &str),
    by_gtid: &str,
    options: Option<&LinkOptions>,
    terms: &Terms<'_>,
) -> Vec<String> {
    let mut clauses = vec![
        format!("MASTER_HOST = {}", quote(host)),
        format!("MASTER_PORT = {port}"),
        format!("MASTER_USER = {}", quote(account)),
        by_gtid.to_owned(),
    ];
    if let Some(password) = terms.password {
        clauses.push(format!("MASTER_PASSWORD = {}", quote(password.expose_secret())));
    }
    match (options, &terms.link.heartbeat) {
        (Some(options), _) => clauses.extend([
            format!("MASTER_SSL = {}", u8::from(options.tls)),
            format!("MASTER_SSL_VERIFY_SERVER_CERT = {}", u8::from(options.tls_verify)),
            format!("MASTER_SSL_CA = {}", quote(&options.tls_ca)),
            format!("MASTER_CONNECT_RETRY = {}", options.connect_retry_s),
            format!("MASTER_HEARTBEAT_PERIOD = {}", seconds(options.heartbeat_ms)),
        ]),
        (None, Some(heartbeat)) => clauses.push(format!("MASTER_HEARTBEAT_PERIOD = {heartbeat}")),
        (None, None) => {}
    }
    clauses
}

/// Decimal seconds, as a server tells a period, in milliseconds.
pub(super) fn millis(text: &str) -> Result<u64, Odd> {
    let period: f64 = parse("the heartbeat period", text)?;
    Ok((period * 1000.0).round() as u64)
}
