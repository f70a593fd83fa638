//! The log, the vote and the markers in sled, behind openraft's storage trait.
//!
//! All is in one tree, so that one flush orders it. Writes go to sled where openraft calls us,
//! which makes them readable; the `sync` thread makes them durable and then answers.

use std::{
    fmt::Debug,
    fs::{self, File},
    io,
    ops::{Bound, RangeBounds},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Once, OnceLock, PoisonError, mpsc},
    thread,
};

use futures::future::BoxFuture;
use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    Ledger, Points, REMEDY, StoreError, disk,
    floor::{Ballot, Floor, FloorFile, Point},
    of_sled,
    record::{self, Assembler, Flaw, log_key, name_key},
    sync::{Done, Effect, Job, Syncer, again},
};
use crate::raft::{
    fatal::Fatal,
    group::GroupId,
    types::{Entry, LogId, TypeConfig, Vote},
};

const DIR: &str = "log";
const FORMAT: &str = "format";
const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";

/// sled's page cache, in bytes. The log is small and seldom read.
const CACHE: u64 = 4 << 20;

/// How many bytes of records one read for replication returns; at least one entry.
const READ_MAX: usize = 16 << 20;

/// Whose log this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub manager: u64,
    /// The group, and the manager that minted its id; `None`: an empty manager.
    pub group: Option<(GroupId, u64)>,
}

/// The durable log of one manager. Cheap to clone.
#[derive(Clone)]
pub struct SledStore {
    inner: Arc<Inner>,
}

/// The lock goes last: sled's file is closed by then.
struct Inner {
    tree: sled::Tree,
    path: PathBuf,
    manager: u64,
    group: OnceLock<(GroupId, u64)>,
    points: Mutex<Points>,
    jobs: mpsc::Sender<Job>,
    fatal: Fatal,
    _lock: Arc<File>,
}

impl SledStore {
    /// Opens or creates the log under `dir` and checks all of it against its floor.
    pub(super) fn open(
        dir: &Path,
        manager: u64,
        fatal: &Fatal,
        lock: Arc<File>,
    ) -> Result<Self, StoreError> {
        let path = dir.join(DIR);
        let data = path.join("db");
        let floor = match (FloorFile::open(dir)?, data.exists()) {
            (Some(floor), true) => floor,
            (Some(floor), false) if floor.floor.is_untouched() => floor,
            (Some(floor), false) => return Err(below(dir, &floor.floor, "no log at all")),
            (None, false) => FloorFile::create(dir, manager)?,
            (None, true) => {
                let flaw = Flaw::new("the floor", "the file is missing, but there is a log");
                return Err(StoreError::Damaged { path: super::floor::path(dir), flaw });
            }
        };
        guard(&path, || {
            let db = open_sled(&path)?;
            let tree = db.open_tree("raft").map_err(|e| unreadable(&path, &e))?;
            if tree.is_empty() && floor.floor.is_untouched() {
                prepare(&db, &tree, manager).map_err(|e| StoreError::io("write", &path, e))?;
            }
            make_directories_durable(dir, &path)?;
            let (identity, points) = check(dir, &tree, manager, &floor.floor)?;
            let file = File::open(&data).map_err(|e| StoreError::io("open", &data, e))?;
            let (jobs, queue) = mpsc::channel();
            let syncer =
                Syncer { db, file, path: data, floor, fatal: fatal.clone(), _lock: lock.clone() };
            let thread = thread::Builder::new().name("raft-sync".into());
            let spawned = thread.spawn(move || syncer.run(&queue));
            spawned.map_err(|e| StoreError::io("start a thread for", &path, e))?;
            let inner = Inner {
                tree,
                path: path.clone(),
                manager,
                group: identity.group.map_or_else(OnceLock::new, OnceLock::from),
                points: Mutex::new(points),
                jobs,
                fatal: fatal.clone(),
                _lock: lock,
            };
            Ok(Self { inner: Arc::new(inner) })
        })
    }

    fn insert<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        self.inner.fatal.check()?;
        let key = name_key(name);
        let sealed = record::seal_json(&key, value);
        let inserted = self.inner.tree.insert(key, sealed);
        inserted.map(|_| ()).map_err(|e| self.failed("write", &disk(&of_sled(e))))
    }

    fn apply(&self, batch: sled::Batch) -> io::Result<()> {
        self.inner.fatal.check()?;
        let applied = self.inner.tree.apply_batch(batch);
        applied.map_err(|e| self.failed("write", &disk(&of_sled(e))))
    }

    fn submit(&self, effect: Effect, done: Done) {
        if let Err(mpsc::SendError(job)) = self.inner.jobs.send(Job { effect, done }) {
            let reason = "the thread that makes writes durable is gone";
            self.inner.fatal.raise(reason);
            (job.done)(Err(io::Error::other(reason)));
        }
    }

    async fn durable(&self, effect: Effect) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        // Nobody waits any more if the receiver is gone.
        self.submit(effect, Box::new(move |result| drop(tx.send(result))));
        rx.await.map_err(io::Error::other)?
    }

    fn failed(&self, what: &str, cause: &dyn std::fmt::Display) -> io::Error {
        let reason = format!("{what} {}: {cause}", self.inner.path.display());
        self.inner.fatal.raise(&reason);
        io::Error::other(reason)
    }

    fn damaged(&self, flaw: Flaw) -> io::Error {
        let e = StoreError::Damaged { path: self.inner.path.clone(), flaw }.to_string();
        self.inner.fatal.raise(&e);
        io::Error::new(io::ErrorKind::InvalidData, e)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Points) -> R) -> R {
        change(&mut self.inner.points.lock().expect("no panic while held"))
    }

    /// The entries in `range`, up to about `max` bytes of records.
    fn read(&self, range: &impl RangeBounds<u64>, max: usize) -> io::Result<Vec<Entry>> {
        let from = match range.start_bound() {
            Bound::Included(at) => *at,
            Bound::Excluded(at) => at + 1,
            Bound::Unbounded => 0,
        };
        let (mut assembler, mut entries, mut bytes) = (Assembler::default(), vec![], 0);
        for pair in self.inner.tree.range(log_key(from, 0)..=log_key(u64::MAX, u16::MAX)) {
            let (key, value) = pair.map_err(|e| self.failed("read", &e))?;
            let index = key.get(1..9).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
            if index.is_some_and(|index| !range.contains(&index)) {
                break;
            }
            bytes += value.len();
            let whole = assembler.push(&key, &value).map_err(|flaw| self.damaged(flaw))?;
            entries.extend(whole);
            if bytes >= max && !entries.is_empty() {
                return Ok(entries);
            }
        }
        assembler.finish().map_err(|flaw| self.damaged(flaw))?;
        Ok(entries)
    }

    fn remove(&self, batch: &mut sled::Batch, from: u64, to: u64) -> io::Result<()> {
        for key in self.inner.tree.range(log_key(from, 0)..=log_key(to, u16::MAX)).keys() {
            batch.remove(key.map_err(|e| self.failed("read", &e))?);
        }
        Ok(())
    }
}

impl Ledger for SledStore {
    fn points(&self) -> Points {
        *self.inner.points.lock().expect("no panic while held")
    }

    fn group(&self) -> Option<(GroupId, u64)> {
        self.inner.group.get().copied()
    }

    fn join(&self, group: GroupId, minter: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            if self.group().is_some_and(|(held, _)| held != group) {
                return Err(io::Error::other("this manager is part of another group already"));
            }
            let identity = Identity { manager: self.inner.manager, group: Some((group, minter)) };
            self.insert(IDENTITY, &identity)?;
            self.durable(Effect::Group(group)).await?;
            // A second join of the same group finds the cell filled, which is as well.
            let _ = self.inner.group.set((group, minter));
            Ok(())
        })
    }
}

impl RaftLogReader<TypeConfig> for SledStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read(&range, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(&(start..end), READ_MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.points().vote)
    }
}

impl RaftLogStorage<TypeConfig> for SledStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let Points { vote: _, last, purged } = self.points();
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.insert(VOTE, vote)?;
        self.change(|points| points.vote = Some(*vote));
        self.durable(Effect::Vote(Ballot::from(*vote))).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Not waited for: after a crash the leader tells it again.
        self.insert(COMMITTED, &committed)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let read = self.inner.tree.get(name_key(COMMITTED));
        let record = read.map_err(|e| self.failed("read", &e))?;
        let key = name_key(COMMITTED);
        let value = record.map(|record| record::unseal_json(&key, &record)).transpose();
        value.map(Option::flatten).map_err(|flaw| self.damaged(flaw))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (mut batch, mut last) = (sled::Batch::default(), None);
        for entry in entries {
            let records =
                record::entry_records(&entry).map_err(|e| self.failed("append to", &e))?;
            for (key, value) in records {
                batch.insert(&key, value);
            }
            last = Some(entry.log_id);
        }
        let Some(last) = last else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        self.apply(batch)?;
        self.change(|points| points.last = Some(last));
        let done = Box::new(move |result| callback.io_completed(result));
        self.submit(Effect::Last(Point::from(last)), done);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let points = self.points();
        if last >= points.last {
            return Ok(());
        }
        let end = last.max(points.purged);
        // The floor first: else a crash in between would look like a loss.
        self.durable(Effect::Cut(end.map(Point::from))).await?;
        let mut batch = sled::Batch::default();
        self.remove(&mut batch, last.map_or(0, |last| last.index + 1), u64::MAX)?;
        self.apply(batch)?;
        self.change(|points| points.last = end);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let key = name_key(PURGED);
        let mut batch = sled::Batch::default();
        let sealed = record::seal_json(&key, &upto);
        batch.insert(key, sealed);
        self.remove(&mut batch, 0, upto.index)?;
        self.apply(batch)?;
        let last = self.change(|points| {
            points.purged = points.purged.max(Some(upto));
            points.last = points.last.max(Some(upto));
            points.last
        });
        if let Some(last) = last {
            self.submit(Effect::Last(Point::from(last)), Box::new(|_| {}));
        }
        Ok(())
    }
}

fn open_sled(path: &Path) -> Result<sled::Db, StoreError> {
    // No flusher of its own: its errors would reach nobody.
    let config = sled::Config::new().path(path).cache_capacity(CACHE).flush_every_ms(None);
    config.open().map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, e: &sled::Error) -> StoreError {
    match e {
        sled::Error::Io(e) => StoreError::io("open", path, again(e)),
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => {
            let flaw = Flaw::new("the log", e.to_string());
            StoreError::Damaged { path: path.to_owned(), flaw }
        }
    }
}

/// Writes what every log begins with.
fn prepare(db: &sled::Db, tree: &sled::Tree, manager: u64) -> io::Result<()> {
    let mut batch = sled::Batch::default();
    let (format, identity) = (name_key(FORMAT), name_key(IDENTITY));
    let sealed = record::seal_json(&format, &record::FORMAT);
    batch.insert(format, sealed);
    let sealed = record::seal_json(&identity, &Identity { manager, group: None });
    batch.insert(identity, sealed);
    tree.apply_batch(batch).map_err(io::Error::other)?;
    db.flush().map(|_| ()).map_err(io::Error::other)
}

fn make_directories_durable(dir: &Path, path: &Path) -> Result<(), StoreError> {
    let all = || -> io::Result<()> {
        for file in fs::read_dir(path)? {
            File::open(file?.path())?.sync_all()?;
        }
        for dir in [Some(path), Some(dir), dir.parent()].into_iter().flatten() {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    all().map_err(|e| StoreError::io("fsync", path, e))
}

/// Reads everything once and compares it with the floor.
fn check(
    dir: &Path,
    tree: &sled::Tree,
    manager: u64,
    floor: &Floor,
) -> Result<(Identity, Points), StoreError> {
    let path = dir.join(DIR);
    let damaged = |flaw| StoreError::Damaged { path: path.clone(), flaw };
    let get = |name| named(tree, name).map_err(|e| unreadable(&path, &e));
    let read = |name| Ok::<_, StoreError>((name_key(name), get(name)?));
    let (key, format) = read(FORMAT)?;
    let Some(format) = format else {
        return Err(below(dir, floor, "a log without its first record"));
    };
    let format: u32 = record::unseal_json(&key, &format).map_err(damaged)?;
    if format != record::FORMAT {
        return Err(StoreError::Version { path, found: format, known: record::FORMAT });
    }
    let (key, identity) = read(IDENTITY)?;
    let missing = || damaged(Flaw::new("record \"identity\"", "it is missing"));
    let identity: Identity =
        record::unseal_json(&key, &identity.ok_or_else(missing)?).map_err(damaged)?;
    for stored in [identity.manager, floor.manager] {
        if stored != manager {
            return Err(StoreError::WrongManager { dir: dir.into(), stored, wanted: manager });
        }
    }
    let (key, vote) = read(VOTE)?;
    let vote = vote.map(|r| record::unseal_json(&key, &r)).transpose().map_err(damaged)?;
    let (key, purged) = read(PURGED)?;
    let purged = purged.map(|r| record::unseal_json(&key, &r)).transpose().map_err(damaged)?;
    let last = scan(tree, &path, purged)?;
    let points = Points { vote, last, purged };
    compare(dir, floor, &identity, &points)?;
    Ok((identity, points))
}

fn named(tree: &sled::Tree, name: &str) -> sled::Result<Option<sled::IVec>> {
    tree.get(name_key(name))
}

/// Checks every entry; the id of the last one.
fn scan(
    tree: &sled::Tree,
    path: &Path,
    purged: Option<LogId>,
) -> Result<Option<LogId>, StoreError> {
    let damaged = |flaw| StoreError::Damaged { path: path.to_owned(), flaw };
    let (mut assembler, mut last) = (Assembler::default(), purged);
    for pair in tree.range(log_key(0, 0)..) {
        let (key, value) = pair.map_err(|e| unreadable(path, &e))?;
        let Some(entry) = assembler.push(&key, &value).map_err(damaged)? else { continue };
        let wanted = last.map_or(0, |last| last.index + 1);
        if entry.log_id.index != wanted {
            let what = format!("wanted entry {wanted} here: there is a gap");
            return Err(damaged(Flaw::new(format!("log entry {}", entry.log_id.index), what)));
        }
        last = Some(entry.log_id);
    }
    assembler.finish().map_err(damaged)?;
    Ok(last)
}

fn compare(
    dir: &Path,
    floor: &Floor,
    identity: &Identity,
    points: &Points,
) -> Result<(), StoreError> {
    let group = identity.group.map(|(group, _)| group);
    if floor.group.is_some() && floor.group != group {
        return Err(below(dir, floor, &format!("group {group:?}")));
    }
    let vote = points.vote.map(Ballot::from);
    let is_same_vote = vote == floor.vote;
    let is_later_vote =
        vote.map(|v| (v.term, v.committed)) > floor.vote.map(|v| (v.term, v.committed));
    if !is_same_vote && !is_later_vote {
        return Err(below(dir, floor, &format!("vote {vote:?}")));
    }
    let last = points.last.map(Point::from);
    let index = |point: Option<Point>| point.map(|p| p.index);
    if last < floor.last || index(last) < index(floor.last) {
        return Err(below(dir, floor, &format!("last entry {last:?}")));
    }
    Ok(())
}

fn below(dir: &Path, floor: &Floor, found: &str) -> StoreError {
    let Floor { group, vote, last, .. } = floor;
    let wanted = format!("group {group:?}, vote {vote:?}, last entry {last:?}");
    StoreError::BelowFloor { dir: dir.to_owned(), wanted, found: found.to_owned() }
}

/// sled panics on some damage: say what that means, whether panics unwind or abort.
fn guard<T>(path: &Path, open: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    static HOOK: Once = Once::new();
    static OPENING: Mutex<Vec<PathBuf>> = Mutex::new(vec![]);
    let opening = || OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let damaged = |what: String| StoreError::Damaged {
        path: path.to_owned(),
        flaw: Flaw::new("the log", format!("sled cannot read it: {what}")),
    };
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let in_sled = info.location().is_some_and(|at| at.file().contains("sled-0.34"));
            for path in opening().iter().filter(|_| in_sled) {
                eprintln!("while opening {}: it may be damaged; {}", path.display(), REMEDY);
            }
            previous(info);
        }));
    });
    opening().push(path.to_owned());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(open));
    opening().retain(|held| held != path);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(damaged(text.unwrap_or("it gave no reason").to_owned()))
    })
}
