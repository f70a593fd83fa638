//! Relay logs that are applied, away from a replica that keeps them (`relay_log_purge = OFF`).
//!
//! A replica that keeps its relay logs can bring others level after a failover, and fills its disk.
//! The server deletes what is applied when its applier goes on to the next file while
//! `relay_log_purge` is on; deleting a large file takes some file systems so long that the applier
//! stands still. So each file gets a second name first: what the server deletes then is a name, and
//! we take the file away in small pieces, after it.
//!
//! ```text
//!   link applied files    lock, purge ON, FLUSH RELAY LOGS, wait, purge OFF, unlock    shrink links
//! ```
//! Whatever fails in between, purging is off again in the end.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use conclave_core::{model::Micros, ports::Clock};
use mysql_async::{Conn, OptsBuilder, Row, prelude::Queryable};
use thiserror::Error;

use super::{
    disk::{Disk, DiskError, io_error},
    login::Login,
};
use crate::{adapters::clock::SystemClock, binlog::index::log_name};

/// Deadline of a connection and of each statement but the lock's.
const SQL_LIMIT: Duration = Duration::from_secs(10);
/// How long an attempt of a failover may hold the lock before we give up.
const LOCK_SECONDS: u64 = 200;
/// How long the applier may take to go on to the next file.
const PURGE_LIMIT: Duration = Duration::from_secs(15);
/// Between two looks.
const PAUSE: Micros = Micros(100_000);
/// So much of a file is given back at once.
const PIECE: u64 = 64 << 20;
/// MHA's managers hold it while they fail over.
const MHA_LOCK: &str = "MHA_Master_High_Availability_Failover";

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Purge {
    /// How to log in.
    pub login: Login,
    /// Switch `relay_log_purge` off if it is on.
    pub switch_off: bool,
    /// Where the second names are made: on the file system of the relay logs. `None`: none are.
    pub link_dir: Option<PathBuf>,
    /// A cluster of Conclave's: nothing is purged while a step acts on the server.
    pub cluster: Option<String>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server purges them itself.
    PurgesItself,
    /// It was done.
    Done {
        /// Files that are gone.
        files: usize,
        /// Bytes they had.
        bytes: u64,
        /// Applied ones that are still there.
        left: usize,
        /// Why there were no links.
        no_links: Option<String>,
    },
}

/// Why it was not done.
#[derive(Debug, Error)]
pub enum PurgeError {
    /// The server.
    #[error("{what}: {cause}")]
    Sql {
        /// What was tried.
        what: &'static str,
        /// What it said.
        cause: mysql_async::Error,
    },
    /// It does not answer.
    #[error("{what}: no answer within {} s", limit.as_secs())]
    Silent {
        /// What was tried.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// It is no replica of one source.
    #[error("wanted a replica of one source, found {found} links")]
    NoReplica {
        /// How many.
        found: usize,
    },
    /// Nothing would be purged.
    #[error("the applier does not run: nothing would be purged (state {found:?})")]
    NoApplier {
        /// What the server says.
        found: String,
    },
    /// Somebody fails over.
    #[error("a failover holds the lock {name} for more than {LOCK_SECONDS} s")]
    Locked {
        /// The lock.
        name: String,
    },
    /// An answer that was not expected.
    #[error("{what}: wanted {wanted}, found something else")]
    Odd {
        /// What was asked.
        what: &'static str,
        /// What was wanted.
        wanted: &'static str,
    },
    /// The files.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Purging was switched on and could not be switched off.
    #[error("relay_log_purge is ON and should be OFF: SET GLOBAL relay_log_purge = OFF; {why}")]
    StaysOn {
        /// Why.
        why: Box<PurgeError>,
    },
}

/// Relay logs and how far they are applied.
struct State {
    is_purging: bool,
    disk: Disk,
    base: String,
    applier_at: u64,
}

impl Purge {
    /// Does it.
    ///
    /// # Errors
    /// Nothing was purged, or purging could not be switched off again (which is said).
    pub async fn run(&self) -> Result<Outcome, PurgeError> {
        let mut conn = self.connect().await?;
        let state = look(&mut conn).await?;
        if state.is_purging && !self.switch_off {
            return Ok(Outcome::PurgesItself);
        }
        if state.is_purging {
            execute(&mut conn, "switch relay_log_purge off", "SET GLOBAL relay_log_purge = OFF")
                .await?;
        }
        let (before, _) = state.disk.chain(&state.base)?;
        let applied = before
            .files
            .iter()
            .filter(|file| log_name(&file.name).is_some_and(|name| name.number < state.applier_at));
        let applied: Vec<&str> = applied.map(|file| file.name.as_str()).collect();
        let links =
            self.link_dir.as_deref().map(|dir| Links::make(dir, state.disk.dir(), &applied));
        let (links, no_links) = match links {
            Some(Ok(links)) => (Some(links), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        self.lock(&mut conn).await?;
        let purged = purge(&mut conn, &state).await;
        let is_off = self.switch_off_for_sure(conn).await;
        // What the server deleted has one name left: ours.
        if let Some(links) = links {
            links.remove().await?;
        }
        is_off?;
        purged?;
        let there = |name: &str| state.disk.dir().join(name).exists();
        let gone: Vec<_> = before.files.iter().filter(|file| !there(&file.name)).collect();
        Ok(Outcome::Done {
            files: gone.len(),
            bytes: gone.iter().map(|file| file.len).sum(),
            left: applied.iter().filter(|name| there(name)).count(),
            no_links,
        })
    }

    async fn connect(&self) -> Result<Conn, PurgeError> {
        let opts: OptsBuilder = self.login.options();
        within(SQL_LIMIT, "connect", Conn::new(opts)).await
    }

    async fn lock(&self, conn: &mut Conn) -> Result<(), PurgeError> {
        let own = self.cluster.as_ref().map(|cluster| format!("conclave.{cluster}"));
        for name in [MHA_LOCK.to_owned()].into_iter().chain(own) {
            let asked = conn.exec_first("SELECT GET_LOCK(?, ?)", (&name, LOCK_SECONDS));
            let limit = SQL_LIMIT + Duration::from_secs(LOCK_SECONDS);
            let held: Option<Option<u8>> = within(limit, "take the lock", asked).await?;
            if held.flatten() != Some(1) {
                return Err(PurgeError::Locked { name });
            }
        }
        Ok(())
    }

    /// Over this connection, or over a new one if a manager that came by has ended it.
    async fn switch_off_for_sure(&self, mut conn: Conn) -> Result<(), PurgeError> {
        const OFF: &str = "SET GLOBAL relay_log_purge = OFF";
        let what = "switch relay_log_purge off";
        if execute(&mut conn, what, OFF).await.is_ok() {
            let _ = within(SQL_LIMIT, "log out", conn.disconnect()).await;
            return Ok(());
        }
        let again = async {
            let mut conn = self.connect().await?;
            execute(&mut conn, what, OFF).await
        };
        again.await.map_err(|why| PurgeError::StaysOn { why: Box::new(why) })
    }
}

/// Lets the server purge, and waits until what was applied is gone.
async fn purge(conn: &mut Conn, state: &State) -> Result<(), PurgeError> {
    execute(conn, "switch relay_log_purge on", "SET GLOBAL relay_log_purge = ON").await?;
    execute(conn, "rotate the relay log", "FLUSH NO_WRITE_TO_BINLOG RELAY LOGS").await?;
    // The server keeps the file that its applier has just left, for the next time.
    let deadline = SystemClock.after(PURGE_LIMIT);
    let was_applied =
        |name: &str| log_name(name).is_some_and(|name| name.number < state.applier_at);
    loop {
        let (chain, _) = state.disk.chain(&state.base)?;
        let is_gone = !chain.files.iter().any(|file| was_applied(&file.name));
        if is_gone || SystemClock.left(deadline).is_zero() {
            return Ok(());
        }
        SystemClock.sleep(PAUSE).await;
    }
}

async fn look(conn: &mut Conn) -> Result<State, PurgeError> {
    let what = "read relay_log_purge and relay_log_basename";
    let asked = conn.query_first("SELECT @@GLOBAL.relay_log_purge, @@GLOBAL.relay_log_basename");
    let row: Option<(bool, Option<String>)> = within(SQL_LIMIT, what, asked).await?;
    let (is_purging, path) = match row {
        Some((is_purging, Some(path))) => (is_purging, PathBuf::from(path)),
        Some((_, None)) | None => return Err(PurgeError::Odd { what, wanted: "a path" }),
    };
    let (Some(dir), Some(base)) = (path.parent(), path.file_name()) else {
        return Err(PurgeError::Odd { what, wanted: "a path" });
    };
    let rows = status(conn).await?;
    let [row] = &rows[..] else { return Err(PurgeError::NoReplica { found: rows.len() }) };
    let text = |names: [&str; 2]| -> Option<String> {
        names.iter().find_map(|name| row.get_opt::<String, _>(*name)?.ok())
    };
    let running = text(["Replica_SQL_Running", "Slave_SQL_Running"]).unwrap_or_default();
    if running != "Yes" {
        return Err(PurgeError::NoApplier { found: running });
    }
    let file = text(["Relay_Log_File", "Relay_Log_File"]).unwrap_or_default();
    let what = "read the replica's status";
    let name = log_name(&file).ok_or(PurgeError::Odd { what, wanted: "a relay log's name" })?;
    Ok(State {
        is_purging,
        disk: Disk::new(dir),
        base: base.to_string_lossy().into_owned(),
        applier_at: name.number,
    })
}

/// In the words of newer servers, or else in those of older ones and MariaDB.
async fn status(conn: &mut Conn) -> Result<Vec<Row>, PurgeError> {
    let what = "read the replica's status";
    match within(SQL_LIMIT, what, conn.query("SHOW REPLICA STATUS")).await {
        Err(PurgeError::Sql { cause: mysql_async::Error::Server(error), .. })
            if error.code == 1064 =>
        {
            within(SQL_LIMIT, what, conn.query("SHOW SLAVE STATUS")).await
        }
        other => other,
    }
}

async fn execute(conn: &mut Conn, what: &'static str, sql: &str) -> Result<(), PurgeError> {
    within(SQL_LIMIT, what, conn.query_drop(sql)).await
}

async fn within<T>(
    limit: Duration,
    what: &'static str,
    asked: impl Future<Output = mysql_async::Result<T>>,
) -> Result<T, PurgeError> {
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer.map_err(|cause| PurgeError::Sql { what, cause }),
        Err(_) => Err(PurgeError::Silent { what, limit }),
    }
}

/// Second names of files that are about to be deleted.
struct Links {
    dir: PathBuf,
}

impl Links {
    /// Makes a directory of them. One left behind by an earlier run is taken away, too, in the end.
    fn make(dir: &Path, from: &Path, names: &[&str]) -> Result<Self, DiskError> {
        let dir = dir.join("conclave-relay-links");
        let doing = |what: &str| format!("{what} in {}", dir.display());
        fs::create_dir_all(&dir).map_err(|cause| io_error(doing("make links"), cause))?;
        let links = Self { dir: dir.clone() };
        for name in names {
            match fs::hard_link(from.join(name), dir.join(name)) {
                Ok(()) => {}
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                Err(cause) => return Err(io_error(doing(&format!("link {name}")), cause)),
            }
        }
        Ok(links)
    }

    /// Takes them away. A file that has no other name any more is made shorter bit by bit.
    async fn remove(self) -> Result<(), DiskError> {
        let doing = || format!("take the links away in {}", self.dir.display());
        for entry in fs::read_dir(&self.dir).map_err(|cause| io_error(doing(), cause))? {
            let path = entry.map_err(|cause| io_error(doing(), cause))?.path();
            shrink(&path).await.map_err(|cause| io_error(doing(), cause))?;
        }
        fs::remove_dir(&self.dir).map_err(|cause| io_error(doing(), cause))
    }
}

async fn shrink(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(path)?;
    if meta.nlink() == 1 {
        let file = File::options().write(true).open(path)?;
        let mut len = meta.len();
        while len > PIECE {
            len -= PIECE;
            file.set_len(len)?;
            SystemClock.sleep(PAUSE).await;
        }
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_runtime<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_link_is_taken_away_and_a_file_that_the_server_keeps_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        fs::create_dir(&logs).unwrap();
        for name in ["relay.000001", "relay.000002"] {
            fs::write(logs.join(name), name).unwrap();
        }
        let links = Links::make(dir.path(), &logs, &["relay.000001", "relay.000002"]).unwrap();
        fs::remove_file(logs.join("relay.000001")).unwrap();
        assert_eq!(fs::read(links.dir.join("relay.000001")).unwrap(), b"relay.000001");
        in_runtime(links.remove()).unwrap();
        assert!(!dir.path().join("conclave-relay-links").exists());
        assert_eq!(fs::read(logs.join("relay.000002")).unwrap(), b"relay.000002");
    }

    #[test]
    fn links_of_a_run_that_was_killed_go_with_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("relay.000001"), "x").unwrap();
        let names = ["relay.000001"];
        Links::make(dir.path(), dir.path(), &names).unwrap();
        let again = Links::make(dir.path(), dir.path(), &names).unwrap();
        in_runtime(again.remove()).unwrap();
        assert!(!dir.path().join("conclave-relay-links").exists());
        assert!(dir.path().join("relay.000001").exists());
    }

    #[test]
    fn a_file_that_is_not_there_cannot_be_linked() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Links::make(dir.path(), dir.path(), &["relay.000001"]).is_err());
    }
}
