//! Scripts of the operators' own: which are called, when, and what they are told.

use serde::{Deserialize, Serialize};

use super::{Millis, ServerName};

/// A moment of an attempt at which scripts are called. Each sees the attempt's old primary, and
/// from `Published` on the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookEvent {
    /// The primary was declared dead; nothing is decided yet. A required one is waited for before
    /// the election, and the attempt is undone if it fails (MHA: `shutdown_script`, and
    /// `master_ip_failover_script` with `--command=stop`).
    Opened,
    /// The new primary takes writes and its addresses lead there (MHA: `master_ip_failover_script`
    /// with `--command=start`).
    Published,
    /// All servers that can follow do (MHA: `report_script`).
    Finished,
    /// The attempt was given up, and everything is put back.
    Undone,
}

impl HookEvent {
    /// All, in order of time.
    pub const ALL: [Self; 4] = [Self::Opened, Self::Published, Self::Finished, Self::Undone];

    /// As written in definitions and told to scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Published => "published",
            Self::Finished => "finished",
            Self::Undone => "undone",
        }
    }
}

/// A script that is called. What it does is its own: it acts by its own means, no turnstile stops
/// it, and it may be called again after the leader was lost, with the same key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookDefinition {
    /// Its file's name in every manager's own directory of hooks. The definition is replicated and
    /// may be changed by whoever reaches the managers; what is executed is not.
    pub name: String,
    /// When.
    pub on: Vec<HookEvent>,
    /// It is killed after so long. 100 to 600,000 ms.
    pub deadline_ms: Millis,
    /// Tried three times rather than once; and on `opened`, nothing goes on without it.
    pub required: bool,
}

impl HookDefinition {
    /// Usual time for a script.
    pub const DEADLINE: Millis = Millis(10_000);
}

/// One call, as planned in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCall {
    /// The script.
    pub name: String,
    /// The moment.
    pub event: HookEvent,
    /// See [`HookDefinition::deadline_ms`].
    pub deadline_ms: Millis,
    /// See [`HookDefinition::required`].
    pub required: bool,
    /// Who is replaced.
    pub old: ServerName,
    /// By whom, once that is settled.
    pub new: Option<ServerName>,
    /// Why it was given up, on `undone`; else empty.
    pub note: String,
}
