//! Why a file cannot be read as a binary log.

use thiserror::Error;

/// What is wrong with a file, and where. Offsets are bytes from its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// It begins with something else.
    #[error("wanted a binary log, which begins with fe 62 69 6e; found {found}")]
    NotALog {
        /// The first bytes, in hexadecimal.
        found: String,
    },
    /// MySQL's `binlog_encryption`.
    #[error(
        "the file is encrypted (it begins with fd 62 69 6e): only the server with its keyring can \
         read it"
    )]
    Encrypted,
    /// MariaDB's `encrypt_binlog`.
    #[error(
        "the file is encrypted from offset {at} on (a start-encryption event): only the server with \
         its keys can read it"
    )]
    EncryptedEvents {
        /// Where that event begins.
        at: u64,
    },
    /// The first event is no format description.
    #[error("wanted a format description event at offset 4, found an event of type {found}")]
    NoFormat {
        /// Type of the event that is there.
        found: u8,
    },
    /// Older than MySQL 5.0, or nothing we know.
    #[error("wanted binary log format 4 with headers of 19 bytes, found {found}")]
    OldFormat {
        /// What the format description says.
        found: String,
    },
    /// It ends before its first events do.
    #[error("the file is only {len} bytes long and ends within its head")]
    NoHead {
        /// Its length.
        len: u64,
    },
    /// An event that is whole by its header says something impossible.
    #[error("the event at offset {at} is damaged: {why}")]
    Damaged {
        /// Where it begins.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// An event's bytes do not fit its checksum.
    #[error("the event at offset {at} is damaged: its checksum is {found:08x}, not {wanted:08x}")]
    BadChecksum {
        /// Where it begins.
        at: u64,
        /// What the event says.
        wanted: u32,
        /// What its bytes give.
        found: u32,
    },
    /// More than is ever held in memory.
    #[error("the event at offset {at} has {len} bytes to look at, and {limit} is the most")]
    TooLarge {
        /// Where it begins.
        at: u64,
        /// How many bytes of it would have to be read.
        len: u64,
        /// How many are.
        limit: u64,
    },
    /// No event begins at a position that was given.
    #[error("no event begins at position {position} of the file, which is {len} bytes long")]
    NoEventAt {
        /// The position.
        position: u64,
        /// The file's length.
        len: u64,
    },
    /// The position is not between two transactions.
    #[error("position {position} is within a transaction that begins at {begin}")]
    WithinTransaction {
        /// The position.
        position: u64,
        /// Where the transaction begins.
        begin: u64,
    },
    /// Bytes that were to be copied are no longer there.
    #[error("wanted {wanted} bytes at offset {at}, found {found}")]
    Short {
        /// Offset.
        at: u64,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that came.
        found: u64,
    },
    /// It is not among the files of the server.
    #[error("there is no such file; there are {there}")]
    NoSuchFile {
        /// First and last of those that are there.
        there: String,
    },
    /// Whoever has the bytes could not give them.
    #[error("read: {why}")]
    Read {
        /// Why.
        why: String,
    },
    /// Whoever takes the bytes could not.
    #[error("write: {why}")]
    Write {
        /// Why.
        why: String,
    },
}

/// A fault and the file that has it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}: {fault}")]
pub struct FileFault {
    /// The file's name.
    pub file: String,
    /// What is wrong.
    pub fault: Fault,
}

impl Fault {
    /// Names the file.
    pub fn of(self, file: &str) -> FileFault {
        FileFault { file: file.into(), fault: self }
    }

    pub(super) fn damaged(at: u64, why: impl Into<String>) -> Self {
        Self::Damaged { at, why: why.into() }
    }
}
