//! Log files on this host's disk.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use thiserror::Error;

use crate::binlog::{
    Chain, Files, LogFile, Need, Sink,
    index::{LARGEST_INDEX, Mismatch, log_name, reconcile},
};

/// Why the logs are not to be had.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The operating system says so.
    #[error("{what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// What it said.
        cause: io::Error,
    },
    /// None of the directories has it.
    #[error("wanted {wanted} in {dirs}, found none")]
    NotFound {
        /// A file, or a kind of file.
        wanted: String,
        /// Where it was looked for.
        dirs: String,
    },
    /// It is not named as servers name their logs.
    #[error("wanted a log file's name such as binlog.000042, found {found}")]
    NoLogName {
        /// The name.
        found: String,
    },
}

/// A directory of log files. Files that were opened stay readable when the server purges them.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    open: Mutex<BTreeMap<String, Arc<File>>>,
}

impl Disk {
    /// The files of that directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), open: Mutex::default() }
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files whose names begin with `base` and a dot and end in a number, as the index beside
    /// them lists them; without an index, all there are.
    ///
    /// # Errors
    /// The directory, or the index, cannot be read; there is none.
    pub fn chain(&self, base: &str) -> Result<(Chain, Vec<Mismatch>), DiskError> {
        let there = self.list(base)?;
        let index = self.index(base, &there)?;
        let (mut chain, mismatches) = reconcile(&index, &there);
        if chain.files.is_empty() {
            // It is an index of other files.
            chain = reconcile(&names(&there), &there).0;
        }
        match chain.files.is_empty() {
            true => Err(not_found(std::slice::from_ref(&self.dir), &format!("{base}.NUMBER"))),
            false => Ok((chain, mismatches)),
        }
    }

    /// The same, whatever an index says.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn chain_without_index(&self, base: &str) -> Result<Chain, DiskError> {
        let there = self.list(base)?;
        Ok(reconcile(&names(&there), &there).0)
    }

    fn list(&self, base: &str) -> Result<Vec<LogFile>, DiskError> {
        let doing = || format!("list {}", self.dir.display());
        let mut there = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|cause| io_error(doing(), cause))? {
            let entry = entry.map_err(|cause| io_error(doing(), cause))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if log_name(&name).is_none_or(|name| name.base != base) {
                continue;
            }
            // Logs may be links to other disks.
            match fs::metadata(entry.path()) {
                Ok(meta) if meta.is_file() => there.push(LogFile { name, len: meta.len() }),
                Ok(_) => {}
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(io_error(format!("look at {name}"), cause)),
            }
        }
        Ok(there)
    }

    fn index(&self, base: &str, there: &[LogFile]) -> Result<Vec<u8>, DiskError> {
        let path = self.dir.join(format!("{base}.index"));
        let is_small = |meta: &fs::Metadata| meta.len() <= LARGEST_INDEX;
        match fs::metadata(&path) {
            Ok(meta) if is_small(&meta) => {
                fs::read(&path).map_err(|cause| io_error(format!("read {}", path.display()), cause))
            }
            Ok(_) | Err(_) => Ok(names(there)),
        }
    }

    fn file(&self, name: &str) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(name) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(self.dir.join(name))?);
        open.insert(name.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn read_now(&self, name: &str, need: Need) -> io::Result<Vec<u8>> {
        let file = self.file(name)?;
        let mut bytes = vec![0; need.len];
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], need.at + done as u64) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }
}

impl Files for Disk {
    async fn read(&self, file: &str, need: Need) -> Result<Vec<u8>, String> {
        self.read_now(file, need).map_err(|error| error.to_string())
    }
}

/// An index of all files.
fn names(there: &[LogFile]) -> Vec<u8> {
    there.iter().map(|file| file.name.clone() + "\n").collect::<String>().into_bytes()
}

/// The first of some directories that holds a file.
///
/// # Errors
/// None does.
pub fn find_dir(dirs: &[PathBuf], file: &str) -> Result<PathBuf, DiskError> {
    let is_there = |dir: &&PathBuf| dir.join(file).is_file();
    dirs.iter().find(is_there).cloned().ok_or_else(|| not_found(dirs, file))
}

/// The first of some directories that holds logs of that base name.
///
/// # Errors
/// None does.
pub fn find_logs(dirs: &[PathBuf], base: &str) -> Result<PathBuf, DiskError> {
    let has_some = |dir: &&PathBuf| Disk::new(*dir).list(base).is_ok_and(|logs| !logs.is_empty());
    let wanted = || not_found(dirs, &format!("{base}.NUMBER"));
    dirs.iter().find(has_some).cloned().ok_or_else(wanted)
}

fn not_found(dirs: &[PathBuf], wanted: &str) -> DiskError {
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    DiskError::NotFound { wanted: wanted.into(), dirs: dirs.join(", ") }
}

/// A file that is there under its name only once it is whole and on disk. For its owner's eyes: it
/// holds rows.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    part: PathBuf,
    file: File,
}

impl NewFile {
    /// Begins it, beside its place.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(path: &Path) -> Result<Self, DiskError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".part{}", std::process::id()));
        let part = path.with_file_name(name);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&part);
        let file = file.map_err(|cause| io_error(format!("make {}", part.display()), cause))?;
        Ok(Self { path: path.into(), part, file })
    }

    /// Where it is while it is not whole.
    pub fn part(&self) -> &Path {
        &self.part
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// It cannot be written to disk or renamed.
    pub fn finish(self) -> Result<(), DiskError> {
        let what = || format!("finish {}", self.path.display());
        let done = self.file.sync_all().and_then(|()| fs::rename(&self.part, &self.path));
        done.map_err(|cause| io_error(what(), cause))?;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = File::open(dir.unwrap_or(Path::new(".")));
        dir.and_then(|dir| dir.sync_all()).map_err(|cause| io_error(what(), cause))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Renamed, or of no use.
        let _ = fs::remove_file(&self.part);
    }
}

impl Sink for NewFile {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.file.write_all(bytes).map_err(|error| error.to_string())
    }
}

pub(super) fn io_error(what: String, cause: io::Error) -> DiskError {
    DiskError::Io { what, cause }
}
