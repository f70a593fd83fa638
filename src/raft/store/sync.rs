//! When is a write durable? One thread makes all writes durable, as many at once as there are.
//!
//! ```text
//!   append, vote ──jobs──> [ sled flush, fdatasync ] ──> callbacks ──> floor, at most 5 ms later
//! ```
//!
//! sled 0.34's own flush is `sync_file_range`, which a power cut does not respect: hence the
//! fdatasync on sled's file. A vote waits for the floor too, since a lost vote can elect two
//! leaders; an append does not, so it costs one fdatasync, not two.

use std::{
    fs::File,
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{
    disk,
    floor::{Ballot, FloorFile, Point},
    of_sled,
};
use crate::raft::{fatal::Fatal, group::GroupId};

/// The longest time that the floor may trail what was acknowledged, while the disk keeps up.
const FLOOR_LAG: Duration = Duration::from_millis(5);

/// Called once the job is durable, or can never be.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What the floor states once the writes before it are durable.
pub enum Effect {
    /// The log ends here.
    Last(Point),
    /// The log is about to be cut and will end here. To be waited for before it is cut.
    Cut(Option<Point>),
    /// A vote was saved.
    Vote(Ballot),
    /// The manager belongs to this group.
    Group(GroupId),
}

impl Effect {
    /// True if the floor must be durable before the job is done.
    fn waits_for_floor(&self) -> bool {
        match self {
            Self::Last(_) => false,
            Self::Cut(_) | Self::Vote(_) | Self::Group(_) => true,
        }
    }
}

/// One write that was handed to sled and shall become durable.
pub struct Job {
    pub effect: Effect,
    pub done: Done,
}

/// The thread's belongings. The lock goes last: sled's file is closed by then.
pub struct Syncer {
    pub db: sled::Db,
    /// sled's data file.
    pub file: File,
    pub path: PathBuf,
    pub floor: FloorFile,
    pub fatal: Fatal,
    pub _lock: Arc<File>,
}

impl Syncer {
    /// Runs until all senders are gone.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        let mut due: Option<Instant> = None;
        loop {
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            let first = match wait {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => jobs.recv_timeout(wait),
            };
            match first {
                Ok(first) => {
                    let batch = std::iter::once(first).chain(jobs.try_iter()).collect();
                    if self.commit(batch) {
                        due.get_or_insert_with(|| Instant::now() + FLOOR_LAG);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write_floor();
                    return;
                }
            }
            if due.is_some_and(|due| due <= Instant::now()) {
                self.write_floor();
                due = None;
            }
        }
    }

    /// Makes a batch durable and answers it; true if the floor is to be written soon.
    fn commit(&mut self, batch: Vec<Job>) -> bool {
        let mut result = self.fatal.check().and_then(|()| self.flush());
        let waits = batch.iter().any(|job| job.effect.waits_for_floor());
        for job in &batch {
            self.note(&job.effect);
        }
        if result.is_ok() && waits {
            result = self.floor.write();
        }
        if let Err(e) = &result {
            let (path, why) = (self.path.display(), disk(e));
            self.fatal.raise(&format!("write {path}: {why}"));
        }
        for job in batch {
            (job.done)(result.as_ref().copied().map_err(again));
        }
        result.is_ok() && !waits
    }

    fn flush(&self) -> io::Result<()> {
        self.db.flush().map_err(of_sled)?;
        self.file.sync_data()
    }

    fn note(&mut self, effect: &Effect) {
        let floor = &mut self.floor.floor;
        match effect {
            Effect::Last(point) => floor.last = Some(*point),
            Effect::Cut(point) => floor.last = *point,
            Effect::Vote(vote) => floor.vote = Some(*vote),
            Effect::Group(group) => floor.group = Some(*group),
        }
    }

    fn write_floor(&mut self) {
        // After a failed flush the noted floor is not durable: it must not be written.
        if self.fatal.check().is_err() {
            return;
        }
        if let Err(e) = self.floor.write() {
            let (path, why) = (self.path.display(), disk(&e));
            self.fatal.raise(&format!("write the floor beside {path}: {why}"));
        }
    }
}

/// The same error once more, for another one who waits.
pub fn again(e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), e.to_string())
}
