//! The header that every event begins with.
//!
//! ```text
//!   time 4 | type 1 | server_id 4 | length 4 | end position 4 | flags 2    little-endian
//! ```
//! **Source:** MySQL internals manual, "Binary Log Event Header"; MariaDB knowledge base,
//! "2-Binlog Event Header".

use super::walk::Body;

/// Bytes of a header.
pub const HEADER: u64 = 19;
/// Bytes of a checksum at an event's end.
pub const CHECKSUM: u64 = 4;

/// Whoever writes the file has not closed it.
pub(super) const IN_USE: u16 = 0x1;
/// Made up for the one who reads, not from a file.
pub(super) const ARTIFICIAL: u16 = 0x20;
/// The replica's own, in a relay log.
pub(super) const RELAY_LOG: u16 = 0x40;

/// An event's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970, when the statement began.
    pub time: u32,
    /// Its type's number.
    pub code: u8,
    /// The server that wrote it first.
    pub server_id: u32,
    /// Bytes of the event, header and checksum included.
    pub len: u32,
    /// Where the next event begins in the file that it was written to first, modulo 2^32. Zero: made
    /// up for the reader, or within a transaction of a MariaDB since 11.4.
    pub end: u32,
    /// Flags.
    pub flags: u16,
}

impl Header {
    /// Reads one.
    pub fn parse(bytes: &[u8; HEADER as usize]) -> Self {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            time: u32_at(0),
            code: bytes[4],
            server_id: u32_at(5),
            len: u32_at(9),
            end: u32_at(13),
            flags: u16::from_le_bytes([bytes[17], bytes[18]]),
        }
    }

    /// What kind of event it is.
    pub fn kind(&self) -> Kind {
        Kind::of(self.code)
    }

    /// Whether it was made up for the reader.
    pub fn is_artificial(&self) -> bool {
        self.flags & ARTIFICIAL != 0 || self.end == 0
    }

    /// Whether the replica wrote it into its relay log on its own account.
    pub fn is_own_of_relay(&self) -> bool {
        self.flags & RELAY_LOG != 0
    }
}

/// Kinds of events, as far as they matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Describes the format of what follows.
    Format,
    /// The end of the file, and what the next one is called.
    Rotate,
    /// The end of the file, at a shutdown.
    Stop,
    /// MySQL: what all earlier files hold.
    PreviousGtids,
    /// MySQL: a transaction begins.
    Gtid,
    /// MySQL since 8.3: a transaction with a tag begins.
    TaggedGtid,
    /// MySQL: a transaction without a GTID begins.
    AnonymousGtid,
    /// MariaDB: what all earlier files hold.
    MariaGtidList,
    /// MariaDB: a transaction begins.
    MariaGtid,
    /// MariaDB: all that follows is encrypted.
    StartEncryption,
    /// A statement.
    Query,
    /// The statement of a `LOAD DATA`, which ends like one.
    ExecuteLoad,
    /// A transaction is committed.
    Xid,
    /// A transaction is prepared, which ends its share of the log.
    XaPrepare,
    /// A whole transaction, compressed.
    Payload,
    /// Something may be missing here, says the server that wrote it.
    Incident,
    /// Belongs to the statement that follows, or to the transaction it is in.
    Part,
    /// Belongs to no transaction.
    Aside,
}

impl Kind {
    fn of(code: u8) -> Self {
        match code {
            2 | 165 => Self::Query,
            3 => Self::Stop,
            4 => Self::Rotate,
            15 => Self::Format,
            16 => Self::Xid,
            18 => Self::ExecuteLoad,
            26 => Self::Incident,
            // Heartbeats, MariaDB's checkpoints.
            27 | 41 | 161 => Self::Aside,
            33 => Self::Gtid,
            34 => Self::AnonymousGtid,
            35 => Self::PreviousGtids,
            38 => Self::XaPrepare,
            40 => Self::Payload,
            42 => Self::TaggedGtid,
            162 => Self::MariaGtid,
            163 => Self::MariaGtidList,
            164 => Self::StartEncryption,
            // Rows, variables, annotations, and whatever newer servers may add.
            _ => Self::Part,
        }
    }
}

/// An event and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where it begins in its file.
    pub at: u64,
    /// Its header.
    pub header: Header,
    /// What was read of it.
    pub body: Body,
}

impl Event {
    /// Where the next one begins in its file.
    pub fn end(&self) -> u64 {
        self.at + u64::from(self.header.len)
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.header.kind()
    }
}
