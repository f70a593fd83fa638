//! How is one record written, and does it check out when read?
//!
//! ```text
//!   key                                  value
//!   0x00 name                            crc32c(key, body) | body
//!   0x01 index (be u64) part (be u16)    crc32c(key, body) | parts (be u16) | piece of JSON
//! ```
//!
//! Entries are cut into pieces, because sled 0.34 moves a page of up to 17 records that exceeds
//! 128 KiB into a file that it never fsyncs.

use serde::{Serialize, de::DeserializeOwned};

use crate::raft::types::{Entry, LogId};

/// The version of this format, of the side file and of snapshots.
pub const FORMAT: u32 = 1;

/// The most bytes of an entry in one record: 17 of them fit well into 128 KiB.
pub const PIECE: usize = 4096;

const CRC: usize = 4;
const LOG_KEY: usize = 11;

/// Key and value of one piece of an entry.
pub type LogRecord = ([u8; LOG_KEY], Vec<u8>);

/// What is wrong with a record; which one, and why we think so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{record}: {what}")]
pub struct Flaw {
    /// Names the record.
    pub record: String,
    /// What was wanted and found.
    pub what: String,
}

impl Flaw {
    pub fn new(record: impl Into<String>, what: impl Into<String>) -> Self {
        Self { record: record.into(), what: what.into() }
    }
}

/// The key of a named record.
#[must_use]
pub fn name_key(name: &str) -> Vec<u8> {
    [&[0], name.as_bytes()].concat()
}

/// The key of one piece of the entry at `index`.
#[must_use]
pub fn log_key(index: u64, part: u16) -> [u8; LOG_KEY] {
    let mut key = [1; LOG_KEY];
    key[1..9].copy_from_slice(&index.to_be_bytes());
    key[9..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Index and part of a log key.
fn place(key: &[u8]) -> Result<(u64, u16), Flaw> {
    let index = key.get(1..9).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
    let part = key.get(9..).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes);
    let both = index.zip(part);
    both.ok_or_else(|| Flaw::new(describe(key), "wanted a log key of 11 bytes"))
}

fn describe(key: &[u8]) -> String {
    match key.split_first() {
        Some((0, name)) => format!("record {:?}", String::from_utf8_lossy(name)),
        Some((1, rest)) if rest.len() == LOG_KEY - 1 => {
            let index = rest[..8].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
            format!("log entry {index}, part {}", u16::from(rest[8]) << 8 | u16::from(rest[9]))
        }
        Some(_) | None => format!("record with the unknown key {key:02x?}"),
    }
}

/// Puts the checksum over key and body before the body.
#[must_use]
pub fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), body);
    [&crc.to_le_bytes(), body].concat()
}

/// The body of a sealed record.
///
/// # Errors
/// The checksum does not match.
pub fn unseal<'a>(key: &[u8], record: &'a [u8]) -> Result<&'a [u8], Flaw> {
    let Some((head, body)) = record.split_at_checked(CRC) else {
        let what = format!("wanted at least {CRC} bytes, found {}", record.len());
        return Err(Flaw::new(describe(key), what));
    };
    let wanted = crc32c::crc32c_append(crc32c::crc32c(key), body).to_le_bytes();
    if wanted != head {
        let what = format!("checksum: computed {wanted:02x?}, stored {head:02x?}");
        return Err(Flaw::new(describe(key), what));
    }
    Ok(body)
}

/// Seals a value as JSON.
#[must_use]
pub fn seal_json<T: Serialize>(key: &[u8], value: &T) -> Vec<u8> {
    seal(key, &json(value))
}

/// Reads what [`seal_json`] wrote.
///
/// # Errors
/// Checksum or JSON do not check out.
pub fn unseal_json<T: DeserializeOwned>(key: &[u8], record: &[u8]) -> Result<T, Flaw> {
    parse(describe(key), unseal(key, record)?)
}

/// Our own types always have a JSON form: their maps have string or integer keys.
pub fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("stored types have a JSON form")
}

fn parse<T: DeserializeOwned>(record: String, body: &[u8]) -> Result<T, Flaw> {
    serde_json::from_slice(body).map_err(|e| Flaw::new(record, format!("not readable: {e}")))
}

/// The records of one entry, in order.
///
/// # Errors
/// The entry has more than 65,535 pieces.
pub fn entry_records(entry: &Entry) -> Result<Vec<LogRecord>, Flaw> {
    let index = entry.log_id.index;
    let body = json(entry);
    let pieces = body.chunks(PIECE);
    let Ok(total) = u16::try_from(pieces.len()) else {
        let what = format!("{} bytes are more than can be stored", body.len());
        return Err(Flaw::new(format!("log entry {index}"), what));
    };
    let sealed = pieces.enumerate().map(|(part, piece)| {
        let key = log_key(index, part as u16);
        (key, seal(&key, &[&total.to_be_bytes(), piece].concat()))
    });
    Ok(sealed.collect())
}

/// Puts entries together from log records that are read in key order.
#[derive(Default)]
pub struct Assembler {
    previous: Option<LogId>,
    body: Vec<u8>,
    parts: u16,
    total: u16,
}

impl Assembler {
    /// Takes the next record; returns the entry that it completes.
    ///
    /// # Errors
    /// A record is damaged, missing, or in the wrong place; a term falls.
    pub fn push(&mut self, key: &[u8], record: &[u8]) -> Result<Option<Entry>, Flaw> {
        let (index, part) = place(key)?;
        let body = unseal(key, record)?;
        let Some((total, piece)) = body.split_first_chunk::<2>() else {
            return Err(Flaw::new(describe(key), "wanted a count of parts, found nothing"));
        };
        let total = u16::from_be_bytes(*total);
        if part != self.parts || part >= total || (part > 0 && total != self.total) {
            let what = format!("wanted part {} of {}", self.parts, self.total);
            return Err(Flaw::new(describe(key), format!("{what}, found {part} of {total}")));
        }
        self.body.extend_from_slice(piece);
        (self.parts, self.total) = (part + 1, total);
        if self.parts < total {
            return Ok(None);
        }
        self.parts = 0;
        let body = std::mem::take(&mut self.body);
        let entry: Entry = parse(describe(key), &body)?;
        self.follows(index, &entry)?;
        self.previous = Some(entry.log_id);
        Ok(Some(entry))
    }

    /// Says that no more records come.
    ///
    /// # Errors
    /// The last entry is incomplete.
    pub fn finish(&self) -> Result<(), Flaw> {
        if self.parts == 0 {
            return Ok(());
        }
        let what = format!("it ends after {} of {} parts", self.parts, self.total);
        Err(Flaw::new("the last log entry", what))
    }

    fn follows(&self, index: u64, entry: &Entry) -> Result<(), Flaw> {
        let record = format!("log entry {index}");
        if entry.log_id.index != index {
            let what = format!("it says that it is entry {}", entry.log_id.index);
            return Err(Flaw::new(record, what));
        }
        let Some(previous) = self.previous else { return Ok(()) };
        if previous.index + 1 != index || previous.leader_id.term > entry.log_id.leader_id.term {
            let found = format!("entry {} follows entry {previous}", entry.log_id);
            return Err(Flaw::new(record, format!("wanted no gap and no falling term, {found}")));
        }
        Ok(())
    }
}
