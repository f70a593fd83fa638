//! What is agreed now? The replicated state, in memory, published to readers.
//!
//! It starts from the last snapshot; openraft then applies the committed entries again. Readers
//! hold an `Arc` of a state that never changes under them.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::{Stream, TryStreamExt};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};
use tokio::sync::watch;

use super::{
    fatal::Fatal,
    store::{
        StoreError, disk,
        record::{self, Flaw},
        snapshot,
    },
    types::{LogId, Snapshot, SnapshotData, SnapshotMeta, State, StoredMembership, TypeConfig},
};

/// Where snapshots are kept.
#[derive(Clone)]
pub enum Shelf {
    File(PathBuf),
    /// Clones share it.
    Memory(Arc<Mutex<Option<Snapshot>>>),
}

impl Shelf {
    /// In one file; openraft's metadata is within.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        Self::File(path)
    }

    /// Gone with the last clone.
    #[must_use]
    pub fn memory() -> Self {
        Self::Memory(Arc::default())
    }

    fn put(&self, snapshot: &Snapshot) -> io::Result<()> {
        match self {
            Self::File(path) => snapshot::write(path, &snapshot.meta, &snapshot.snapshot),
            Self::Memory(held) => {
                *held.lock().expect("no panic while held") = Some(snapshot.clone());
                Ok(())
            }
        }
    }

    fn get(&self) -> Result<Option<Snapshot>, StoreError> {
        match self {
            Self::File(path) => snapshot::read(path),
            Self::Memory(held) => Ok(held.lock().expect("no panic while held").clone()),
        }
    }

    fn place(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Memory(_) => PathBuf::from("(memory)"),
        }
    }
}

/// The state machine of one manager. Cheap to clone.
#[derive(Clone)]
pub struct Machine {
    inner: Arc<Inner>,
}

struct Inner {
    meta: Mutex<SnapshotMeta>,
    state: watch::Sender<Arc<State>>,
    shelf: Shelf,
    /// The last entry in the snapshot on the shelf; held while one is put there.
    shelved: Mutex<Option<LogId>>,
    fatal: Fatal,
}

impl Machine {
    /// Starts from the last snapshot, or from nothing.
    ///
    /// # Errors
    /// The snapshot cannot be read or does not check out.
    pub fn open(shelf: Shelf, fatal: &Fatal) -> Result<Self, StoreError> {
        let (mut meta, mut state) = (SnapshotMeta::default(), State::default());
        if let Some(snapshot) = shelf.get()? {
            state = serde_json::from_slice(&snapshot.snapshot).map_err(|e| {
                let flaw = Flaw::new("the state in the snapshot", e.to_string());
                StoreError::Damaged { path: shelf.place(), flaw }
            })?;
            meta = snapshot.meta;
        }
        let shelved = Mutex::new(meta.last_log_id);
        let (meta, state) = (Mutex::new(meta), watch::Sender::new(Arc::new(state)));
        let fatal = fatal.clone();
        Ok(Self { inner: Arc::new(Inner { meta, state, shelf, shelved, fatal }) })
    }

    /// The newest applied state, and a notice of each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.inner.state.subscribe()
    }

    /// The last applied entry.
    #[must_use]
    pub fn applied(&self) -> Option<LogId> {
        self.meta().last_log_id
    }

    fn meta(&self) -> MutexGuard<'_, SnapshotMeta> {
        self.inner.meta.lock().expect("no panic while held")
    }

    /// Puts a snapshot on the shelf, unless a newer one is there.
    fn put(&self, snapshot: &Snapshot) -> io::Result<()> {
        let mut shelved = self.inner.shelved.lock().expect("no panic while held");
        if *shelved >= snapshot.meta.last_log_id && shelved.is_some() {
            return Ok(());
        }
        self.inner.shelf.put(snapshot).map_err(|e| {
            let path = self.inner.shelf.place();
            let reason = format!("write snapshot {}: {}", path.display(), disk(&e));
            self.inner.fatal.raise(&reason);
            io::Error::new(e.kind(), reason)
        })?;
        *shelved = snapshot.meta.last_log_id;
        Ok(())
    }

    /// Does what waits for a disk where nobody waits for it; at once if there is none.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self.inner.shelf {
            Shelf::File(_) => tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?,
            Shelf::Memory(_) => work(),
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let meta = self.meta();
        Ok((meta.last_log_id, meta.last_membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut meta = self.meta().clone();
        let mut state = self.inner.state.borrow().clone();
        let mut answers = vec![];
        while let Some((entry, responder)) = entries.try_next().await? {
            let id = entry.log_id;
            let reply = match entry.payload {
                EntryPayload::Blank => None,
                EntryPayload::Normal(command) => {
                    let state = Arc::make_mut(&mut state);
                    Some(state.apply(id.index, id.leader_id.term, command))
                }
                EntryPayload::Membership(membership) => {
                    meta.last_membership = StoredMembership::new(Some(id), membership);
                    None
                }
            };
            meta.last_log_id = Some(id);
            answers.extend(responder.map(|responder| (responder, reply)));
        }
        *self.meta() = meta;
        self.inner.state.send_replace(state);
        // Only now: whoever is answered finds the state that the answer is about.
        for (responder, reply) in answers {
            responder.send(reply);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let (meta, state) = (self.meta().clone(), self.inner.state.borrow().clone());
        Builder { machine: self.clone(), meta, state }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> io::Result<()> {
        let state: State = serde_json::from_slice(&data).map_err(|e| {
            let from =
                format!("read the snapshot up to {:?} sent by the leader: {e}", meta.last_log_id);
            self.inner.fatal.raise(&format!("{from}; do all managers run the same version?"));
            io::Error::new(io::ErrorKind::InvalidData, from)
        })?;
        let snapshot = Snapshot { meta: meta.clone(), snapshot: data };
        let machine = self.clone();
        self.blocking(move || machine.put(&snapshot)).await?;
        *self.meta() = meta.clone();
        self.inner.state.send_replace(Arc::new(state));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let machine = self.clone();
        self.blocking(move || {
            machine.inner.shelf.get().map_err(|e| {
                machine.inner.fatal.raise(&e.to_string());
                io::Error::other(e)
            })
        })
        .await
    }
}

/// Makes a snapshot of the state as it was when the builder was made.
pub struct Builder {
    machine: Machine,
    meta: SnapshotMeta,
    state: Arc<State>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (machine, meta, state) = (self.machine.clone(), self.meta.clone(), self.state.clone());
        let build = move || {
            let snapshot = Snapshot { meta, snapshot: record::json(&*state) };
            machine.put(&snapshot)?;
            Ok(snapshot)
        };
        self.machine.blocking(build).await
    }
}
