//! A server's own logs, in the words of MySQL 8.4 and 9: its binary log files, and the lines of its
//! error log that tell of its life.

use conclave_core::model::{GtidSet, LogMark};
use mysql_async::Row;

use super::quote;
use crate::adapters::mysql::read::{Named, Odd};

/// The files with their sizes; then where they are, and whether the error log can be read.
pub(super) const LIST: &str = "SHOW BINARY LOGS; SELECT @@log_bin_basename AS base, \
    @@performance_schema AS readable";

/// The table holds what was in the file when the server started, too [ran]. Rows come in the order
/// of the file; the time in them is a wall clock's.
/// **Source:** MySQL manual, "The error_log Table"; error reference for the codes.
pub(super) const MARKS: &str = "SELECT ERROR_CODE AS code FROM performance_schema.error_log \
    WHERE ERROR_CODE IN ('MY-010116', 'MY-010931', 'MY-013172')";

/// A binary log file as it is listed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::adapters::mysql) struct Listed {
    /// Its name.
    pub(in crate::adapters::mysql) name: String,
    /// Its size in bytes.
    pub(in crate::adapters::mysql) size: u64,
    /// Its full path.
    pub(in crate::adapters::mysql) path: String,
}

/// The first two events of a file: its format, and what was logged before it.
pub(super) fn head(file: &str) -> String {
    format!("SHOW BINLOG EVENTS IN {} LIMIT 2", quote(file))
}

/// The event at a place in a file. There is an error if none begins there [ran].
pub(super) fn event_at(file: &str, at: u64) -> String {
    format!("SHOW BINLOG EVENTS IN {} FROM {at} LIMIT 1", quote(file))
}

pub(super) fn listed(sets: &[Vec<Row>]) -> Result<(Vec<Listed>, bool), Odd> {
    let [files, settings] = sets else {
        return Err(Odd(format!("wanted 2 replies about binary logs, found {}", sets.len())));
    };
    let settings = settings.first().map(Named);
    let settings = settings.ok_or_else(|| Odd("no reply about its settings".into()))?;
    let base = settings.text("base")?;
    let dir = base.rsplit_once('/').map_or("", |(dir, _)| dir);
    let of_row = |row: &Row| {
        let row = Named(row);
        let name = row.text("Log_name")?;
        let path = format!("{dir}/{name}");
        Ok(Listed { size: row.value("File_size")?, path, name })
    };
    let files = files.iter().map(of_row).collect::<Result<_, Odd>>()?;
    Ok((files, settings.flag("readable")?))
}

/// What was logged before a file, from its first events.
pub(super) fn previous(sets: &[Vec<Row>]) -> Result<GtidSet, Odd> {
    for row in sets.first().into_iter().flatten().map(Named) {
        if row.text("Event_type")? == "Previous_gtids" {
            return row.value("Info");
        }
    }
    Err(Odd("a binary log file does not say what was logged before it".into()))
}

/// The kind of the event, if it is the last one of a file of that size.
pub(super) fn last_event(sets: &[Vec<Row>], size: u64) -> Result<Option<String>, Odd> {
    let Some(row) = sets.first().and_then(|rows| rows.first()).map(Named) else { return Ok(None) };
    let is_last = row.value::<u64>("End_log_pos")? == size;
    let kind = row.text("Event_type")?;
    Ok(is_last.then_some(kind))
}

pub(super) fn marks(sets: &[Vec<Row>]) -> Result<Vec<LogMark>, Odd> {
    let of_row = |row: &Row| match Named(row).text("code")?.as_str() {
        "MY-010116" => Ok(LogMark::Starting),
        "MY-010931" => Ok(LogMark::Ready),
        "MY-013172" => Ok(LogMark::ShutdownAsked),
        other => Err(Odd(format!("its error log was asked for three codes and gave {other}"))),
    };
    sets.first().into_iter().flatten().map(of_row).collect()
}
