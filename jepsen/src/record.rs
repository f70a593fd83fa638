//! What is known of one run. The checkers judge this and nothing else, so that a saved run can be
//! judged again.
//!
//! All times are of the machine's monotonic clock, in microseconds, see [`conclave_lab::now_us`];
//! all hosts of a lab share it.

use conclave_lab::Op;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What one action of the nemesis, or of the repair after it, does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Deed {
    /// SIGKILL to a server's mysqld.
    KillServer { server: String },
    /// SIGSTOP to a server's mysqld.
    StopServer { server: String },
    /// SIGCONT to it.
    ContinueServer { server: String },
    /// SIGKILL to mysqld, which comes back by itself after so long.
    RestartServer { server: String, after_ms: u64 },
    /// A mysqld that was down is started.
    StartServer { server: String },
    /// The power of a host is cut.
    PowerOff { host: String },
    /// The host boots; a database host starts mysqld, a manager's host its manager.
    PowerOn { host: String },
    /// SIGKILL to a manager.
    KillManager { manager: String },
    /// SIGSTOP to a manager.
    StopManager { manager: String },
    /// SIGCONT to it.
    ContinueManager { manager: String },
    /// A manager that was down is started.
    StartManager { manager: String },
    /// A host neither hears nor is heard.
    Isolate { host: String },
    /// Neither of two hosts hears the other.
    Split { a: String, b: String },
    /// `to` does not hear `from`.
    Cut { from: String, to: String },
    /// So many of 1000 packets to and from a host are lost.
    Loss { host: String, permille: u32 },
    /// Each packet to and from a host is late.
    Delay { host: String, ms: u64 },
    /// No cuts, isolations, losses and delays any more.
    HealNetwork,
    /// A quarantined server is made new from another, as an operator does.
    Rebuild { server: String, donor: String },
    /// Somebody with all rights writes to a server past its `read_only`.
    WriteErrant { server: String },
    /// Two operators ask for a failover at once, each on a manager's host.
    AskFailovers { first: String, second: String },
    /// An operator asks a manager for a planned switchover, and does not wait for its end.
    AskSwitchover { manager: String },
}

impl Deed {
    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Deed::KillServer { .. } => "kill-server",
            Deed::StopServer { .. } => "stop-server",
            Deed::ContinueServer { .. } => "continue-server",
            Deed::RestartServer { .. } => "restart-server",
            Deed::StartServer { .. } => "start-server",
            Deed::PowerOff { .. } => "power-off",
            Deed::PowerOn { .. } => "power-on",
            Deed::KillManager { .. } => "kill-manager",
            Deed::StopManager { .. } => "stop-manager",
            Deed::ContinueManager { .. } => "continue-manager",
            Deed::StartManager { .. } => "start-manager",
            Deed::Isolate { .. } => "isolate",
            Deed::Split { .. } => "split",
            Deed::Cut { .. } => "cut",
            Deed::Loss { .. } => "loss",
            Deed::Delay { .. } => "delay",
            Deed::HealNetwork => "heal-network",
            Deed::Rebuild { .. } => "rebuild",
            Deed::WriteErrant { .. } => "write-errant",
            Deed::AskFailovers { .. } => "ask-failovers",
            Deed::AskSwitchover { .. } => "ask-switchover",
        }
    }

    /// Whether it harms; the others repair.
    pub fn is_fault(&self) -> bool {
        match self {
            Deed::KillServer { .. }
            | Deed::StopServer { .. }
            | Deed::RestartServer { .. }
            | Deed::PowerOff { .. }
            | Deed::KillManager { .. }
            | Deed::StopManager { .. }
            | Deed::Isolate { .. }
            | Deed::Split { .. }
            | Deed::Cut { .. }
            | Deed::Loss { .. }
            | Deed::Delay { .. }
            | Deed::WriteErrant { .. }
            | Deed::AskFailovers { .. }
            | Deed::AskSwitchover { .. } => true,
            Deed::ContinueServer { .. }
            | Deed::StartServer { .. }
            | Deed::PowerOn { .. }
            | Deed::ContinueManager { .. }
            | Deed::StartManager { .. }
            | Deed::HealNetwork
            | Deed::Rebuild { .. } => false,
        }
    }

    /// Under which names the network counts what this fault swallows, see
    /// [`conclave_lab::Lab::dropped`]; none: it swallows nothing. Where neither hears the other,
    /// the one that is asked nothing may have nothing to say.
    pub fn counters(&self) -> Vec<String> {
        match self {
            Deed::Isolate { host } => vec![format!("isolate {host}")],
            Deed::Split { a, b } => vec![format!("cut {a} {b}"), format!("cut {b} {a}")],
            Deed::Cut { from, to } => vec![format!("cut {from} {to}")],
            Deed::Loss { host, .. } => vec![format!("loss {host}")],
            Deed::KillServer { .. }
            | Deed::StopServer { .. }
            | Deed::ContinueServer { .. }
            | Deed::RestartServer { .. }
            | Deed::StartServer { .. }
            | Deed::PowerOff { .. }
            | Deed::PowerOn { .. }
            | Deed::KillManager { .. }
            | Deed::StopManager { .. }
            | Deed::ContinueManager { .. }
            | Deed::StartManager { .. }
            | Deed::Delay { .. }
            | Deed::HealNetwork
            | Deed::Rebuild { .. }
            | Deed::WriteErrant { .. }
            | Deed::AskFailovers { .. }
            | Deed::AskSwitchover { .. } => Vec::new(),
        }
    }

    /// The host or hosts it is about, for people.
    pub fn subject(&self) -> String {
        match self {
            Deed::KillServer { server }
            | Deed::StopServer { server }
            | Deed::ContinueServer { server }
            | Deed::StartServer { server }
            | Deed::WriteErrant { server } => server.clone(),
            Deed::RestartServer { server, after_ms } => format!("{server} after {after_ms} ms"),
            Deed::PowerOff { host } | Deed::PowerOn { host } | Deed::Isolate { host } => {
                host.clone()
            }
            Deed::KillManager { manager }
            | Deed::StopManager { manager }
            | Deed::ContinueManager { manager }
            | Deed::StartManager { manager } => manager.clone(),
            Deed::AskFailovers { first, second } => format!("{first} and {second}"),
            Deed::AskSwitchover { manager } => manager.clone(),
            Deed::Split { a, b } => format!("{a} <-> {b}"),
            Deed::Cut { from, to } => format!("{from} -> {to}"),
            Deed::Loss { host, permille } => format!("{host} {permille} of 1000"),
            Deed::Delay { host, ms } => format!("{host} {ms} ms"),
            Deed::HealNetwork => String::new(),
            Deed::Rebuild { server, donor } => format!("{server} from {donor}"),
        }
    }
}

/// One action and what proves that it took effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The moment before it was begun.
    pub at_us: u64,
    /// The moment after.
    pub done_us: u64,
    /// What it does.
    pub deed: Deed,
    /// What was read back of its effect; `None`: nothing proves that it bit.
    pub proof: Option<String>,
}

/// Whom a client writes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Aim {
    /// The writers' address: rows of `app.t`.
    Address,
    /// One server, from its own host: rows of `app.w`.
    Server { server: String },
}

/// What one client saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Whom it wrote to.
    pub aim: Aim,
    /// Its operations.
    pub ops: Vec<Op>,
}

/// An attempt as a manager had it on record at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The manager that told.
    pub manager: String,
    /// When it had told.
    pub seen_us: u64,
    /// The attempt's name.
    pub id: String,
    /// Its epoch.
    pub epoch: u64,
    /// Leader's wall clock at the opening, milliseconds since 1970: tells two attempts apart.
    pub opened_wall_ms: u64,
    /// The primary that it replaces.
    pub old_primary: String,
    /// The candidate, once entry 9 was passed.
    pub new_primary: Option<String>,
    /// From the opening to the moment that entry 9 was proposed; `None`: not passed, or by a
    /// leader that did not see the opening.
    pub promoted_after_us: Option<u64>,
    /// `promoted`, `aborted`, `superseded`, `open`.
    pub outcome: String,
    /// Why it was opened, in words.
    pub cause: String,
    /// Whether a person asked for it.
    pub is_asked_for: bool,
}

impl Sighting {
    /// From `conclave report ID -o json`.
    ///
    /// # Errors
    /// A field is missing.
    pub fn read(report: &Value, manager: &str, seen_us: u64) -> anyhow::Result<Self> {
        let lacks = |key: &str| anyhow::anyhow!("a report without {key}: {report}");
        let text = |key: &str| report[key].as_str().map(str::to_owned).ok_or_else(|| lacks(key));
        let number = |key: &str| report[key].as_u64().ok_or_else(|| lacks(key));
        let rows = report["timeline"].as_array().into_iter().flatten();
        let mut marks = rows.filter(|row| row["what"].as_str().is_some_and(is_entry_nine));
        Ok(Sighting {
            manager: manager.to_owned(),
            seen_us,
            id: text("id")?,
            epoch: number("epoch")?,
            opened_wall_ms: number("opened_wall_ms")?,
            old_primary: text("old_primary")?,
            new_primary: report["new_primary"].as_str().map(str::to_owned),
            promoted_after_us: marks.next().and_then(|row| row["at_us"].as_u64()),
            outcome: text("outcome")?,
            cause: text("cause")?,
            is_asked_for: text("by")? != "the group",
        })
    }
}

/// The line of a report's time line that stands for entry 9.
fn is_entry_nine(what: &str) -> bool {
    what.starts_with("promote: ")
}

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The monotonic clock, in microseconds.
    pub us: u64,
    /// The wall clock at the same moment, in microseconds since 1970.
    pub wall_us: u64,
}

/// A time in which the harness itself did not run, or the machine was too busy for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Its last beat before.
    pub from_us: u64,
    /// Its first beat after.
    pub to_us: u64,
}

/// The rows of one server at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// The server.
    pub server: String,
    /// Keys of `app.t`, ascending.
    pub t: Vec<u64>,
    /// Keys of `app.w`, ascending.
    pub w: Vec<u64>,
}

/// A server that was quarantined after all was healed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The server.
    pub server: String,
    /// What it has and the primary has not; empty: it is quarantined for nothing.
    pub errant: String,
    /// Whether status said so, with a problem that names it.
    pub is_shown: bool,
}

/// After all was healed. What was not reached is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// When everything had been repaired.
    pub healed_us: u64,
    /// When all servers replicated, or were quarantined, with one primary among them.
    pub settled_us: Option<u64>,
    /// Why not, with the last status: says what the managers wait for.
    pub unsettled: Option<String>,
    /// The servers quarantined then.
    pub quarantined: Vec<Quarantined>,
    /// When, these rebuilt, nothing was left to say, and a write was acknowledged.
    pub healthy_us: Option<u64>,
    /// Why not.
    pub unhealthy: Option<String>,
    /// The primary at the end.
    pub primary: Option<String>,
    /// The epoch at the end, by status.
    pub epoch: Option<u64>,
    /// Final reads, of the primary first.
    pub rows: Vec<Rows>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The nemesis.
    pub nemesis: String,
    /// All its choices come from this.
    pub seed: u64,
    /// Whether the nemesis is to lead to a failover.
    pub expects: Expect,
    /// The database hosts; the first is the primary at the beginning.
    pub servers: Vec<String>,
    /// The managers.
    pub managers: Vec<String>,
    /// When the clients began.
    pub began_us: u64,
    /// Both clocks, read again and again.
    pub clocks: Vec<Reading>,
    /// What the clients saw.
    pub clients: Vec<Client>,
    /// What the nemesis did.
    pub actions: Vec<Action>,
    /// When the harness itself did not run.
    pub stalls: Vec<Stall>,
    /// What the managers had on record.
    pub sightings: Vec<Sighting>,
    /// What came after healing.
    pub ending: Ending,
    /// What the harness could not do: then there is no verdict, unless a lie was proved all the
    /// same.
    pub failures: Vec<String>,
}

/// What a nemesis is to lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// A failover; a run without one is invalid.
    Failover,
    /// None: an attempt has no true reason.
    NoFailover,
    /// Either.
    Anything,
}

impl Record {
    /// A moment of the wall clock on the monotonic one, by the reading next to it, in
    /// microseconds; `None` without a reading.
    pub fn monotonic(&self, wall_ms: u64) -> Option<u64> {
        let wall = wall_ms * 1000;
        let next = self.clocks.iter().min_by_key(|reading| reading.wall_us.abs_diff(wall))?;
        Some((next.us + wall).saturating_sub(next.wall_us))
    }

    /// How far the two clocks drifted apart during the run, in microseconds.
    pub fn drift_us(&self) -> u64 {
        let gaps = self.clocks.iter().map(|r| r.wall_us as i64 - r.us as i64);
        let (least, most) = (gaps.clone().min(), gaps.max());
        most.zip(least).map_or(0, |(most, least)| most.abs_diff(least))
    }

    /// The newest sighting of each attempt, by epoch.
    pub fn attempts(&self) -> Vec<&Sighting> {
        let mut newest = std::collections::BTreeMap::new();
        for sighting in &self.sightings {
            let known = newest.entry(sighting.epoch).or_insert(sighting);
            if known.seen_us <= sighting.seen_us {
                *known = sighting;
            }
        }
        newest.into_values().collect()
    }

    /// The server with that `server_id`, which is its place in the list, from 1.
    pub fn server(&self, id: u32) -> Option<&str> {
        let place = usize::try_from(id).ok()?.checked_sub(1)?;
        self.servers.get(place).map(String::as_str)
    }
}
