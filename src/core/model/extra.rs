//! What a returning server has that its primary lacks: can it have been acknowledged? Values only;
//! [`crate::decide::classify`] judges.

use serde::{Deserialize, Serialize};

use super::{Actor, GtidSet};

/// Transactions of which it cannot be proved that nobody was told OK for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Which.
    pub set: GtidSet,
    /// Why not; one sentence.
    pub why: String,
}

/// What the record alone says of a server's extra transactions, before its own logs are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Numbered by the server as primary, and received by none of the ackers whose receivers were
    /// stopped: fewer than needed can have acknowledged them.
    pub unreceived: GtidSet,
    /// What it numbered as primary and those ackers did receive: tells the run of mysqld that was
    /// primary from others.
    pub known: GtidSet,
    /// It was found running and still waiting for acknowledgements as agreed when a manager cut it
    /// off from its clients.
    pub was_cut_waiting: bool,
    /// The rest, with the reason.
    pub doubts: Vec<Doubt>,
}

/// The verdict, and where the transactions are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Proved never acknowledged.
    pub proved: GtidSet,
    /// All others, with the reason.
    pub doubts: Vec<Doubt>,
    /// Binary log files that hold them, by their full paths on the server's host.
    pub files: Vec<String>,
}

/// Where a server's extra transactions were copied to before anything discards them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Directory on the server's own host.
    pub path: String,
    /// SHA-256 of its list of checksums, in hex.
    pub sha256: String,
}

impl Saved {
    /// The word that the line about it begins with, in what the host printed.
    pub const WORD: &str = "saved";

    /// Reads the line `saved SHA256 PATH`; `None`: there is none.
    pub fn of(text: &str) -> Option<Self> {
        let line = text.lines().rev().find_map(|line| line.strip_prefix(Self::WORD))?;
        let (sha256, path) = line.trim().split_once(' ')?;
        let is_sum = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sum.then(|| Self { path: path.to_owned(), sha256: sha256.to_owned() })
    }
}

/// What an operator lets go of when a server rejoins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discard {
    /// Nothing: it must have nothing extra.
    Nothing,
    /// Transactions that are proved never acknowledged, and no others.
    Proved,
    /// All, also those that somebody may have been told OK for.
    All,
}

/// An operator wants a server back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejoin {
    /// Who.
    pub actor: Actor,
    /// What may be discarded.
    pub discard: Discard,
    /// What is discarded; empty: nothing.
    pub extra: GtidSet,
}

/// How a binary log file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileEnd {
    /// mysqld went on to the next file.
    Rotated,
    /// mysqld was shut down in an orderly way.
    Stopped,
    /// Neither: mysqld was killed, or its host lost power.
    Torn,
    /// mysqld writes to it now.
    Current,
}

/// One binary log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Its full path.
    pub path: String,
    /// What was logged before it.
    pub previous: GtidSet,
    /// How it ends.
    pub end: FileEnd,
}

/// A line of a server's error log that tells of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogMark {
    /// mysqld began to start.
    Starting,
    /// It let clients in: its binary log is open.
    Ready,
    /// An orderly shutdown was asked for, by a signal or a statement.
    ShutdownAsked,
}

/// What a server's own logs tell of its past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// Its newest binary log files, oldest first.
    pub files: Vec<LogFile>,
    /// Its error log, oldest first, as far back as it goes; `None`: it cannot be read.
    pub marks: Option<Vec<LogMark>>,
}

impl Findings {
    /// Every transaction is proved never acknowledged.
    pub fn is_all_proved(&self) -> bool {
        self.doubts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_line_with_a_checksum_and_a_path_says_that_something_is_saved() {
        let (sha256, path) = ("ab".repeat(32), "/srv/data extra".to_owned());
        let text = format!("copied\nsaved {sha256} {path}\n");
        assert_eq!(Saved::of(&text), Some(Saved { path, sha256: sha256.clone() }));
        for text in ["", "saved", "saved /srv", &format!("saved {sha256}"), "saved xy /srv"] {
            assert_eq!(Saved::of(text), None, "{text:?}");
        }
    }
}
