//! How does a snapshot get onto the disk and back? As one plain file, replaced as a whole.
//!
//! ```text
//!   crc (8 hex digits) ' ' format ' ' length of the head ' ' | head (JSON metadata) | state (JSON)
//! ```

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{
    StoreError,
    record::{self, Flaw},
};
use crate::raft::types::{Snapshot, SnapshotMeta};

/// The file's name in the data directory.
pub const NAME: &str = "snapshot";

/// Replaces the snapshot; it is durable when this returns.
///
/// # Errors
/// The file system refused; the previous snapshot is still in place.
pub fn write(path: &Path, meta: &SnapshotMeta, state: &[u8]) -> io::Result<()> {
    let head = record::json(meta);
    let mut body = format!("{} {} ", record::FORMAT, head.len()).into_bytes();
    body.extend_from_slice(&head);
    body.extend_from_slice(state);
    let tmp = path.with_extension("tmp");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
    file.write_all(format!("{:08x} ", crc32c::crc32c(&body)).as_bytes())?;
    file.write_all(&body)?;
    file.sync_all()?;
    fs::rename(&tmp, path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

/// Reads the snapshot; `None` if there is none.
///
/// # Errors
/// It cannot be read, is damaged, or has an unknown version.
pub fn read(path: &Path) -> Result<Option<Snapshot>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(StoreError::io("read", path, e)),
    };
    let damaged = |what: &str| StoreError::Damaged {
        path: path.to_owned(),
        flaw: Flaw::new("the snapshot", what),
    };
    let (crc, body) = word(&bytes).ok_or_else(|| damaged("it has no checksum"))?;
    if crc != format!("{:08x}", crc32c::crc32c(body)) {
        return Err(damaged("the checksum does not match"));
    }
    let (format, body) = word(body).ok_or_else(|| damaged("it has no format version"))?;
    let found = format.parse().map_err(|_| damaged("its format version is no number"))?;
    if found != record::FORMAT {
        let path = path.to_owned();
        return Err(StoreError::Version { path, found, known: record::FORMAT });
    }
    let (length, body) = word(body).ok_or_else(|| damaged("it has no head"))?;
    let length = length.parse().map_err(|_| damaged("the length of its head is no number"))?;
    let split = body.split_at_checked(length);
    let (head, state) = split.ok_or_else(|| damaged("it is shorter than its head"))?;
    let meta = serde_json::from_slice(head).map_err(|e| damaged(&e.to_string()))?;
    Ok(Some(Snapshot { meta, snapshot: state.to_vec() }))
}

/// The text before the first space, and what follows it.
fn word(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let space = bytes.iter().position(|b| *b == b' ')?;
    let text = std::str::from_utf8(&bytes[..space]).ok()?;
    Some((text, &bytes[space + 1..]))
}
