//! What only the disk of a dead server holds, and what has to be brought from there to the new
//! primary.

use serde::{Deserialize, Serialize};

use super::{GtidSet, ServerName};

/// A part of a binary log file that begins and ends between two transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    /// The file, by its full path on its host.
    pub path: String,
    /// Its first byte, counted from the beginning of the file.
    pub from: u64,
    /// The byte after its last one.
    pub to: u64,
}

/// What the binary log of a server that does not run holds, beside what others are known to have.
/// It was read to its end, so that there is nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLog {
    /// Complete transactions that nobody else is known to have; all of them are in `pieces`.
    pub only_here: GtidSet,
    /// Transactions that nobody else is known to have, and whose files were purged. Empty: the log
    /// tells of everything that its server ever committed.
    pub purged: GtidSet,
    /// Where they are, oldest first; with others in between, perhaps.
    pub pieces: Vec<LogPiece>,
    /// Bytes of half a transaction at the end, which were left out: it was never committed.
    pub torn: u64,
}

/// Transactions that a dead server's disk alone holds, to be executed by the candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescue {
    /// The dead server.
    pub from: ServerName,
    /// The transactions.
    pub gtids: GtidSet,
    /// Where they are in its binary log.
    pub pieces: Vec<LogPiece>,
    /// Nobody may be promoted without them: in `quorum` mode they may have been acknowledged, in
    /// the others they are more than may be lost by policy.
    pub is_needed: bool,
}

impl LogPiece {
    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}

impl Rescue {
    /// Bytes that travel.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(LogPiece::bytes).sum()
    }

    /// "3 transaction(s), 1200 bytes".
    pub fn amount(&self) -> String {
        format!("{} transaction(s), {} bytes", self.gtids.count(), self.bytes())
    }
}
