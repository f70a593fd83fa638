//! Where do log, vote and snapshots live, so that nothing acknowledged is ever lost unnoticed?
//!
//! ```text
//!   DIR/LOCK        held by the process that uses the directory
//!   DIR/log/        sled: format, identity, vote, committed, purge marker, entries
//!   DIR/floor       what the log must not be below (`floor`)
//!   DIR/snapshot    the last snapshot (`snapshot`)
//! ```
//!
//! Anything that does not check out when the directory is opened stops the manager: it may have
//! forgotten a vote or an entry, and must not vote again under its old identity.

pub mod floor;
pub mod memory;
pub mod record;
pub mod sled;
pub mod snapshot;
mod sync;

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;

use self::record::Flaw;
use crate::raft::{
    fatal::Fatal,
    group::GroupId,
    machine::{Machine, Shelf},
    types::{LogId, Vote},
};

/// How long to wait for a process that is just ending to let go of the directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process works on it.
    #[error(
        "data directory {} is in use by another process: stop that manager, or give this one a \
         directory of its own", dir.display()
    )]
    Locked { dir: PathBuf },
    /// The system refused something.
    #[error("{what} {}: {}", path.display(), disk(cause))]
    Io { what: &'static str, path: PathBuf, cause: io::Error },
    /// Written by another version of Conclave.
    #[error(
        "{} has format version {found}, this program knows version {known}: run the version of \
         conclave that wrote it", path.display()
    )]
    Version { path: PathBuf, found: u32, known: u32 },
    /// The directory belongs to another manager.
    #[error(
        "data directory {} belongs to manager {stored}, but the configuration says id {wanted}: \
         correct `id`, or give this manager an empty directory", dir.display()
    )]
    WrongManager { dir: PathBuf, stored: u64, wanted: u64 },
    /// A record does not check out.
    #[error("{} is damaged: {flaw}; {}", path.display(), REMEDY)]
    Damaged { path: PathBuf, flaw: Flaw },
    /// Something acknowledged is gone, although every record checks out.
    #[error(
        "data directory {} has lost what this manager had acknowledged: wanted at least {wanted}, \
         found {found}; {}", dir.display(), REMEDY
    )]
    BelowFloor { dir: PathBuf, wanted: String, found: String },
    /// The directory was copied or restored.
    #[error(
        "data directory {} is a copy: it was written elsewhere, and the original may have \
         acknowledged more since; {}", dir.display(), REMEDY
    )]
    Copied { dir: PathBuf },
}

/// What to do about a manager that lost its memory.
pub const REMEDY: &str = "this manager may have forgotten a vote or an entry, so it must not vote \
     again under its id; keep the directory for analysis, take this id out of the group and add \
     the host again with a new id and an empty directory";

/// What the system said of a file, with the remedy where there is one.
pub fn disk(cause: &io::Error) -> String {
    let remedy = match cause.kind() {
        io::ErrorKind::StorageFull => {
            return "no space is left on the disk: make room there and start this manager again"
                .into();
        }
        io::ErrorKind::QuotaExceeded => "raise the quota",
        io::ErrorKind::ReadOnlyFilesystem => "see in the kernel's log why it became so",
        io::ErrorKind::PermissionDenied => "give it to the user that this manager runs as",
        _ => return cause.to_string(),
    };
    format!("{cause}; {remedy}, and start this manager again")
}

/// The system's own error, where sled passes one on.
pub fn of_sled(error: ::sled::Error) -> io::Error {
    match error {
        ::sled::Error::Io(cause) => cause,
        ::sled::Error::CollectionNotFound(_)
        | ::sled::Error::Unsupported(_)
        | ::sled::Error::ReportableBug(_)
        | ::sled::Error::Corruption { .. } => io::Error::other(error),
    }
}

impl StoreError {
    fn io(what: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), cause }
    }
}

/// Where the log stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points {
    pub vote: Option<Vote>,
    /// The last entry, purged or not.
    pub last: Option<LogId>,
    /// The last purged entry.
    pub purged: Option<LogId>,
}

/// What the parts of the group beside openraft ask of a manager's log.
pub trait Ledger: Send + Sync {
    /// Where the log stands; what was just written counts, durable or not.
    fn points(&self) -> Points;

    /// The group this manager belongs to, and the manager that minted its id.
    fn group(&self) -> Option<(GroupId, u64)>;

    /// Makes the manager part of a group, for good; durable when this returns.
    ///
    /// # Errors
    /// It is part of another group already, or the disk failed.
    fn join(&self, group: GroupId, minter: u64) -> BoxFuture<'_, io::Result<()>>;

    /// True if this manager never voted and holds no entry.
    fn is_virgin(&self) -> bool {
        let points = self.points();
        points.vote.is_none() && points.last.is_none()
    }
}

/// An opened data directory: log and state machine.
pub struct Opened {
    pub log: sled::SledStore,
    pub machine: Machine,
}

/// Opens the data directory of one manager, creating it if there is none, and checks all of it.
///
/// # Errors
/// See [`StoreError`]. Nothing was changed, except for what a new directory needs.
pub fn open(dir: &Path, manager: u64, fatal: &Fatal) -> Result<Opened, StoreError> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.map_err(|e| StoreError::io("create data directory", dir, e))?;
    let lock = Arc::new(lock(dir)?);
    let log = sled::SledStore::open(dir, manager, fatal, lock)?;
    let shelf = Shelf::file(dir.join(snapshot::NAME));
    let machine = Machine::open(shelf, fatal)?;
    check_snapshot(dir, &log, &machine)?;
    Ok(Opened { log, machine })
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("LOCK");
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|e| StoreError::io("open", &path, e))?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { dir: dir.into() }),
            Err(TryLockError::Error(e)) => return Err(StoreError::io("lock", &path, e)),
        }
    }
}

/// Entries are purged only after a snapshot that holds them is durable.
fn check_snapshot(dir: &Path, log: &dyn Ledger, machine: &Machine) -> Result<(), StoreError> {
    let (purged, applied) = (log.points().purged, machine.applied());
    if purged <= applied {
        return Ok(());
    }
    let show = |id: Option<_>| id.map_or("nothing".to_owned(), |id| format!("{id}"));
    let what = format!(
        "the log begins after entry {}, the snapshot ends with {}",
        show(purged),
        show(applied)
    );
    let path = dir.join(snapshot::NAME);
    Err(StoreError::Damaged { path, flaw: Flaw::new("the snapshot", what) })
}
