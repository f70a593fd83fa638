//! What has this manager acknowledged at least? A small side file that the store must not be
//! below.
//!
//! A checksum tells that a record is wrong, not that the last ones are gone: one flipped byte can
//! make sled drop the tail of its log without a word, and a restored copy checks out perfectly.
//! The floor also says who we are, and in which file it was written, so that a copy is noticed.
//!
//! ```text
//!   offset 0      crc (8 hex digits) ' ' JSON, padded with spaces to 512 bytes: even numbers
//!   offset 4096   the same: odd numbers
//! ```
//!
//! Two records are written in turn, so that a torn write leaves the other. The floor trails: it
//! is written after what it states is durable, and lowered *before* a truncation; therefore a
//! crash at any point leaves a store at or above its floor.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};

use super::{StoreError, record};
use crate::raft::{
    group::GroupId,
    types::{LogId, Vote},
};

const NAME: &str = "floor";
const SLOT: usize = 512;
const STRIDE: u64 = 4096;

/// A place in the log, without openraft's types: the file must outlive them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Point {
    pub term: u64,
    pub index: u64,
}

impl From<LogId> for Point {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, index: id.index }
    }
}

/// A saved vote; ordered as Raft orders them within one term of one manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    pub term: u64,
    pub committed: bool,
    pub manager: u64,
}

impl From<Vote> for Ballot {
    fn from(vote: Vote) -> Self {
        let leader = vote.leader_id;
        Self { term: leader.term, committed: vote.committed, manager: leader.voted_for }
    }
}

/// What is durable and was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    version: u32,
    /// Counts the writes.
    seq: u64,
    /// The inode of the file this was written to; a copy has another.
    inode: u64,
    /// When that file was created, in ns since 1970; `None`: the file system does not tell.
    born_ns: Option<u64>,
    pub manager: u64,
    /// `None` until the manager is part of a group.
    pub group: Option<GroupId>,
    /// The last vote; `None`: never voted.
    pub vote: Option<Ballot>,
    /// The last entry of the log, purged or not; `None`: the log is empty.
    pub last: Option<Point>,
}

impl Floor {
    /// True if nothing was ever acknowledged.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.group.is_none() && self.vote.is_none() && self.last.is_none()
    }
}

/// The open side file.
pub struct FloorFile {
    file: File,
    /// What was written last.
    pub floor: Floor,
}

impl FloorFile {
    /// Opens the side file of a data directory; `None` if there is none.
    ///
    /// # Errors
    /// Neither record checks out, the version is unknown, or the file is a copy.
    pub fn open(dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = path(dir);
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::io("open", &path, e)),
        };
        let floor = newest(&file, &path)?;
        if floor.version != record::FORMAT {
            return Err(StoreError::Version { path, found: floor.version, known: record::FORMAT });
        }
        let (inode, born_ns) = mark(&file).map_err(|e| StoreError::io("stat", &path, e))?;
        let is_same = inode == floor.inode || born_ns.is_none() || born_ns == floor.born_ns;
        if !is_same {
            return Err(StoreError::Copied { dir: dir.to_owned() });
        }
        Ok(Some(Self { file, floor }))
    }

    /// Creates the side file of a new data directory; it is durable when this returns.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(dir: &Path, manager: u64) -> Result<Self, StoreError> {
        let (path, tmp) = (path(dir), dir.join("floor.tmp"));
        let made = || -> io::Result<Self> {
            let mut options = File::options();
            let file = options.read(true).write(true).create(true).truncate(true).mode(0o600);
            let mut file = file.open(&tmp)?;
            file.write_all(&vec![b' '; 2 * STRIDE as usize])?;
            let (inode, born_ns) = mark(&file)?;
            let (vote, last, group) = (None, None, None);
            let version = record::FORMAT;
            let floor = Floor { version, seq: 0, inode, born_ns, manager, group, vote, last };
            let mut made = Self { file, floor };
            made.write()?;
            made.file.sync_all()?;
            fs::rename(&tmp, &path)?;
            File::open(dir)?.sync_all()?;
            Ok(made)
        };
        made().map_err(|e| StoreError::io("create", &path, e))
    }

    /// Writes [`Self::floor`] into the older slot; it is durable when this returns.
    pub fn write(&mut self) -> io::Result<()> {
        self.floor.seq += 1;
        let body = record::json(&self.floor);
        let mut slot = format!("{:08x} ", crc32c::crc32c(&body)).into_bytes();
        slot.extend_from_slice(&body);
        assert!(slot.len() < SLOT, "a floor record fits into one sector");
        slot.resize(SLOT - 1, b' ');
        slot.push(b'\n');
        self.file.write_all_at(&slot, self.floor.seq % 2 * STRIDE)?;
        self.file.sync_data()
    }
}

/// Where the side file of a data directory is.
#[must_use]
pub fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

fn mark(file: &File) -> io::Result<(u64, Option<u64>)> {
    let meta = file.metadata()?;
    let born = meta.created().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    Ok((meta.ino(), born.and_then(|d| u64::try_from(d.as_nanos()).ok())))
}

fn newest(file: &File, path: &Path) -> Result<Floor, StoreError> {
    let slots = [0, STRIDE].map(|offset| read_slot(file, offset));
    let newest = slots.iter().flatten().max_by_key(|floor| floor.seq);
    newest.cloned().ok_or_else(|| StoreError::Damaged {
        path: path.to_owned(),
        flaw: record::Flaw::new("the floor", "neither of its two records checks out"),
    })
}

/// `None` for a slot that was never written, is torn or damaged.
fn read_slot(file: &File, offset: u64) -> Option<Floor> {
    let mut slot = [0; SLOT];
    file.read_exact_at(&mut slot, offset).ok()?;
    let text = std::str::from_utf8(&slot).ok()?;
    let (crc, body) = text.split_at_checked(9)?;
    let body = body.trim_end();
    let crc = u32::from_str_radix(crc.trim_end(), 16).ok()?;
    if crc != crc32c::crc32c(body.as_bytes()) {
        return None;
    }
    serde_json::from_str(body).ok()
}
