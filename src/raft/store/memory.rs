//! The same log without a disk, for tests and simulation: it passes the same suite.
//!
//! It keeps what was written apart from what a power cut would leave, as a disk does:
//!
//! ```text
//!   append, vote ──> written ──sync──> durable, and only then answered
//! ```

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    ops::RangeBounds,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::future::BoxFuture;
use openraft::{
    OptionalSend, RaftLogReader,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use tokio::sync::{Notify, oneshot};

use super::{Ledger, Points};
use crate::raft::{
    group::GroupId,
    types::{Entry, LogId, TypeConfig, Vote},
};

/// What is to be told once all that was written before is durable.
type Done = Box<dyn FnOnce() + Send>;

/// A log that ends with its last clone.
#[derive(Clone, Default)]
pub struct MemoryStore {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    book: Mutex<Book>,
    wanted: Notify,
    /// True if durable is only what was [synced](MemoryStore::sync).
    has_disk: bool,
}

#[derive(Default)]
struct Book {
    written: Pages,
    durable: Pages,
    waiting: Vec<Done>,
}

/// The content of a log. Cheap to clone.
#[derive(Clone, Default)]
pub struct Pages {
    pub group: Option<(GroupId, u64)>,
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub entries: BTreeMap<u64, Arc<Entry>>,
}

impl Pages {
    /// The id of the last entry, purged or not.
    #[must_use]
    pub fn last(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|entry| entry.log_id).or(self.purged)
    }
}

impl MemoryStore {
    /// A log that begins with `pages`, where durable is only what was synced.
    #[must_use]
    pub fn on_disk(pages: Pages) -> Self {
        let book = Book { written: pages.clone(), durable: pages, waiting: vec![] };
        let (book, wanted) = (Mutex::new(book), Notify::new());
        Self { inner: Arc::new(Inner { book, wanted, has_disk: true }) }
    }

    /// Waits until there is something to make durable.
    pub async fn wanted(&self) {
        self.inner.wanted.notified().await;
    }

    /// Makes all that was written durable and tells those who wait for it.
    pub fn sync(&self) {
        let waiting = {
            let mut book = self.book();
            book.durable = book.written.clone();
            std::mem::take(&mut book.waiting)
        };
        for done in waiting {
            done();
        }
    }

    /// What reads find, and what a killed process leaves.
    #[must_use]
    pub fn written(&self) -> Pages {
        self.book().written.clone()
    }

    /// What a power cut leaves.
    #[must_use]
    pub fn durable(&self) -> Pages {
        self.book().durable.clone()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.book.lock().expect("no panic while held")
    }

    fn submit(&self, done: Done) {
        self.book().waiting.push(done);
        if self.inner.has_disk {
            self.inner.wanted.notify_one();
        } else {
            self.sync();
        }
    }

    async fn settled(&self) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        self.submit(Box::new(move || {
            // Nobody waits any more if the receiver is gone.
            let _ = tx.send(());
        }));
        rx.await.map_err(io::Error::other)
    }
}

impl Ledger for MemoryStore {
    fn points(&self) -> Points {
        let book = self.book();
        let Pages { vote, purged, .. } = book.written;
        Points { vote, last: book.written.last(), purged }
    }

    fn group(&self) -> Option<(GroupId, u64)> {
        self.book().written.group
    }

    fn join(&self, group: GroupId, minter: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.book().written.group = Some((group, minter));
            self.settled().await
        })
    }
}

impl RaftLogReader<TypeConfig> for MemoryStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let book = self.book();
        Ok(book.written.entries.range(range).map(|(_, entry)| Entry::clone(entry)).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.book().written.vote)
    }
}

impl RaftLogStorage<TypeConfig> for MemoryStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let Points { vote: _, last, purged } = self.points();
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.book().written.vote = Some(*vote);
        self.settled().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Not waited for: after a crash the leader tells it again.
        self.book().written.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.book().written.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let pairs = entries.into_iter().map(|entry| (entry.log_id.index, Arc::new(entry)));
        self.book().written.entries.extend(pairs);
        self.submit(Box::new(move || callback.io_completed(Ok(()))));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        // As on the disk, where the floor is lowered first.
        self.settled().await?;
        self.book().written.entries.split_off(&last.map_or(0, |last| last.index + 1));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mut book = self.book();
        let pages = &mut book.written;
        pages.entries = pages.entries.split_off(&(upto.index + 1));
        pages.purged = pages.purged.max(Some(upto));
        Ok(())
    }
}
