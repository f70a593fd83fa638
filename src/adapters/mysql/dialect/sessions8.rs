//! Who is connected to a MySQL 8.4 or 9, what they are at, and how they are cut.

use conclave_core::model::{Busy, Survey, Work};
use mysql_async::Row;

use super::{
    super::read::{Named, Odd},
    quote,
};

/// The sessions of all accounts but the managers' own, replicas' left out. The lists of
/// transactions and of locked tables are of a moment later each. With the performance schema off
/// nothing tells who holds tables locked.
pub(super) fn list(admin: &str) -> String {
    format!(
        "SELECT p.ID AS id, p.USER AS account, p.HOST AS host, p.COMMAND AS command, \
         p.TIME AS seconds FROM information_schema.processlist p WHERE p.ID <> CONNECTION_ID() \
         AND p.USER NOT IN ('system user', 'event_scheduler', 'unauthenticated user', {}) \
         AND p.COMMAND NOT LIKE 'Binlog Dump%' AND p.COMMAND NOT IN ('Daemon', 'Killed'); \
         SELECT trx_mysql_thread_id AS id, TIMESTAMPDIFF(SECOND, trx_started, NOW()) AS seconds \
         FROM information_schema.innodb_trx WHERE trx_mysql_thread_id > 0; \
         SELECT DISTINCT t.PROCESSLIST_ID AS id FROM performance_schema.metadata_locks m \
         JOIN performance_schema.threads t ON t.THREAD_ID = m.OWNER_THREAD_ID \
         WHERE m.OBJECT_TYPE = 'TABLE' AND m.LOCK_STATUS = 'GRANTED' \
         AND m.LOCK_TYPE = 'SHARED_NO_READ_WRITE' AND t.PROCESSLIST_ID IS NOT NULL",
        quote(admin)
    )
}

/// A session, and what it is at if it is at anything.
pub(in crate::adapters::mysql) struct Client {
    /// Its number.
    pub(in crate::adapters::mysql) id: u64,
    /// Its account.
    pub(in crate::adapters::mysql) account: String,
    /// What it is at.
    pub(in crate::adapters::mysql) busy: Option<Busy>,
}

/// The replies to [`list`].
pub(super) fn clients(sets: &[Vec<Row>]) -> Result<Vec<Client>, Odd> {
    let [sessions, transactions, locks, ..] = sets else {
        return Err(Odd(format!("wanted 3 replies about sessions, found {}", sets.len())));
    };
    let mut open = std::collections::BTreeMap::new();
    for row in transactions.iter().map(Named) {
        let seconds: Option<String> = row.maybe("seconds")?;
        open.insert(row.value::<u64>("id")?, seconds.and_then(|text| text.parse().ok()));
    }
    let mut locking = std::collections::BTreeSet::new();
    for row in locks.iter().map(Named) {
        locking.insert(row.value::<u64>("id")?);
    }
    let mut out = Vec::new();
    for row in sessions.iter().map(Named) {
        let id: u64 = row.value("id")?;
        let seconds: i64 = row.value("seconds")?;
        let seconds = u64::try_from(seconds).unwrap_or(0);
        let (account, host) = (row.text("account")?, row.maybe("host")?.unwrap_or_default());
        let host = host.rsplit_once(':').map_or(host.clone(), |(name, _)| name.to_owned());
        let work = match (locking.contains(&id), open.get(&id), &*row.text("command")?) {
            (true, _, _) => Some((Work::Locks, seconds)),
            (false, Some(since), _) => Some((Work::Transaction, since.unwrap_or(seconds))),
            (false, None, "Sleep") => None,
            (false, None, _) => Some((Work::Statement, seconds)),
        };
        let busy = |(what, seconds)| Busy { id, account: account.clone(), host, what, seconds };
        let busy = work.map(busy);
        out.push(Client { id, account, busy });
    }
    Ok(out)
}

/// The replies to [`list`] and to the question for what the binary log leaves out.
pub(super) fn surveyed(sets: &[Vec<Row>]) -> Result<Survey, Odd> {
    let busy = clients(sets)?.into_iter().filter_map(|client| client.busy).collect();
    let mut filters = Vec::new();
    for row in sets.get(3).into_iter().flatten().map(Named) {
        for (column, name) in
            [("Binlog_Do_DB", "binlog_do_db"), ("Binlog_Ignore_DB", "binlog_ignore_db")]
        {
            let set = row.maybe(column)?.filter(|text| !text.is_empty());
            filters.extend(set.map(|text| format!("{name} = {text}")));
        }
    }
    Ok(Survey { busy, binlog_filters: filters.join("; ") })
}

/// Writes end. Whoever waits behind this waits for as long, so it gives up soon; a second is the
/// least that can be said.
pub(super) const CLOSE: &str = "SET SESSION lock_wait_timeout = 1; SET GLOBAL super_read_only = ON";

/// Ends a session, if that connection holds the lock when the server comes to it.
pub(super) fn kill(id: u64, lock: &str, holder: u32) -> String {
    format!(
        "SET @kill = IF(IS_USED_LOCK('{lock}') = {holder}, 'KILL {id}', 'DO 0'); \
         PREPARE kill_session FROM @kill; EXECUTE kill_session"
    )
}
