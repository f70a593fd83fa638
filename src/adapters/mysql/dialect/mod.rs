//! Which words does this server understand? The only place where SQL for servers is written.

mod logs8;
mod mysql8;
mod sessions8;

use conclave_core::{
    model::{GtidSet, LinkOptions, LogMark, ServerFacts, StepId, Survey},
    ports::SqlAction,
};
pub(super) use logs8::Listed;
use mysql_async::Row;
use secrecy::SecretString;
pub(super) use sessions8::Client;

use super::read::{Comeback, Odd, Plugins, Wide};

/// One way of speaking. Older servers and MariaDB are further variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// MySQL 8.4 and 9: `REPLICA` and `SOURCE`, semi-sync plugins of that name, GTIDs with tags.
    Mysql8,
}

/// The link a replica has now, as far as a change of source must know it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Link {
    /// Channel, or empty.
    pub(super) channel: String,
    /// Heartbeat period in seconds, which a change of source would set back.
    pub(super) heartbeat: Option<String>,
}

/// What statements need besides the action.
pub(super) struct Terms<'a> {
    /// The present link.
    pub(super) link: &'a Link,
    /// Password of the account named in the action.
    pub(super) password: Option<&'a SecretString>,
}

impl Link {
    /// As a look shows it.
    pub(super) fn of(options: &LinkOptions) -> Self {
        let millis = options.heartbeat_ms;
        let heartbeat = format!("{}.{:03}", millis / 1000, millis % 1000);
        Self { channel: options.channel.clone(), heartbeat: Some(heartbeat) }
    }
}

impl Dialect {
    /// By the version the server greets with. MariaDB greets with 10 and above.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn of(version: (u16, u16, u16)) -> Result<Self, String> {
        match version {
            (8, 4.., _) | (9, _, _) => Ok(Dialect::Mysql8),
            (major, minor, patch) => Err(format!(
                "wanted MySQL 8.4 or 9, found a server of version {major}.{minor}.{patch}"
            )),
        }
    }

    /// The statements of a look.
    pub(super) fn look(self, plugins: Plugins, wide: Wide) -> String {
        match self {
            Dialect::Mysql8 => mysql8::look(plugins, wide),
        }
    }

    /// Which plugins the replies to a look show.
    pub(super) fn plugins(self, sets: &[Vec<Row>]) -> Result<Plugins, Odd> {
        match self {
            Dialect::Mysql8 => mysql8::plugins(sets),
        }
    }

    /// What the replies to a look say of the next start; `None`: it was not asked.
    pub(super) fn comeback(self, sets: &[Vec<Row>]) -> Result<Option<Comeback>, Odd> {
        match self {
            Dialect::Mysql8 => mysql8::comeback(sets),
        }
    }

    /// What the replies to a look say; `known` is what an earlier one said of the next start.
    pub(super) fn facts(
        self,
        sets: &[Vec<Row>],
        asked: Plugins,
        known: Option<Comeback>,
    ) -> Result<ServerFacts, Odd> {
        match self {
            Dialect::Mysql8 => mysql8::facts(sets, asked, known),
        }
    }

    /// Asks which hosts an account may come from.
    pub(super) fn ask_hosts(self, account: &str) -> String {
        match self {
            Dialect::Mysql8 => mysql8::ask_hosts(account),
        }
    }

    /// Locks an account, or unlocks it.
    pub(super) fn lock_account(self, account: &str, hosts: &[String], is_locked: bool) -> String {
        match self {
            Dialect::Mysql8 => mysql8::lock_account(account, hosts, is_locked),
        }
    }

    /// Asks for an account's connections.
    pub(super) fn ask_connections(self, account: &str) -> String {
        match self {
            Dialect::Mysql8 => mysql8::ask_connections(account),
        }
    }

    /// Kills an applier that has nothing left to do, if that connection holds the lock now.
    pub(super) fn kill_idle_applier(self, lock: &str, holder: u32) -> String {
        match self {
            Dialect::Mysql8 => mysql8::kill_idle_applier(lock, holder),
        }
    }

    /// Ends writes.
    pub(super) fn close(self) -> &'static str {
        match self {
            Dialect::Mysql8 => sessions8::CLOSE,
        }
    }

    /// Asks for the sessions of all accounts but the managers'.
    pub(super) fn list_clients(self, admin: &str) -> String {
        match self {
            Dialect::Mysql8 => sessions8::list(admin),
        }
    }

    /// Those sessions.
    pub(super) fn clients(self, sets: &[Vec<Row>]) -> Result<Vec<Client>, Odd> {
        match self {
            Dialect::Mysql8 => sessions8::clients(sets),
        }
    }

    /// Ends a session, if that connection holds the lock then.
    pub(super) fn kill_client(self, id: u64, lock: &str, holder: u32) -> String {
        match self {
            Dialect::Mysql8 => sessions8::kill(id, lock, holder),
        }
    }

    /// Asks what matters before a switchover.
    pub(super) fn survey(self, admin: &str) -> String {
        match self {
            Dialect::Mysql8 => sessions8::survey(admin),
        }
    }

    /// The answer to that.
    pub(super) fn surveyed(self, sets: &[Vec<Row>]) -> Result<Survey, Odd> {
        match self {
            Dialect::Mysql8 => sessions8::surveyed(sets),
        }
    }

    /// Asks for the present link.
    pub(super) fn ask_link(self) -> &'static str {
        match self {
            Dialect::Mysql8 => mysql8::ASK_LINK,
        }
    }

    /// Reads the present link.
    pub(super) fn link(self, sets: &[Vec<Row>]) -> Result<Link, Odd> {
        match self {
            Dialect::Mysql8 => mysql8::link(sets),
        }
    }

    /// The statement of an action; `None` for those that have several.
    pub(super) fn statement(self, action: &SqlAction, terms: &Terms<'_>) -> Option<String> {
        match self {
            Dialect::Mysql8 => mysql8::statement(action, terms),
        }
    }

    /// Writes the marker row.
    pub(super) fn write_marker(self, step: StepId) -> String {
        match self {
            Dialect::Mysql8 => mysql8::write_marker(step),
        }
    }

    /// Asks for the binary log files.
    pub(super) fn list_logs(self) -> &'static str {
        match self {
            Dialect::Mysql8 => logs8::LIST,
        }
    }

    /// The files, oldest first, and whether the error log can be asked for.
    pub(super) fn listed_logs(self, sets: &[Vec<Row>]) -> Result<(Vec<Listed>, bool), Odd> {
        match self {
            Dialect::Mysql8 => logs8::listed(sets),
        }
    }

    /// Asks for the beginning of a binary log file.
    pub(super) fn log_head(self, file: &str) -> String {
        match self {
            Dialect::Mysql8 => logs8::head(file),
        }
    }

    /// What was logged before a file, from its beginning.
    pub(super) fn previous(self, sets: &[Vec<Row>]) -> Result<GtidSet, Odd> {
        match self {
            Dialect::Mysql8 => logs8::previous(sets),
        }
    }

    /// Asks for the event at a place in a file.
    pub(super) fn event_at(self, file: &str, at: u64) -> String {
        match self {
            Dialect::Mysql8 => logs8::event_at(file, at),
        }
    }

    /// The kind of that event, if it is the last of a file of that size.
    pub(super) fn last_event(self, sets: &[Vec<Row>], size: u64) -> Result<Option<String>, Odd> {
        match self {
            Dialect::Mysql8 => logs8::last_event(sets, size),
        }
    }

    /// Asks the error log for the server's life.
    pub(super) fn log_marks(self) -> &'static str {
        match self {
            Dialect::Mysql8 => logs8::MARKS,
        }
    }

    /// The server's life, oldest first.
    pub(super) fn marks(self, sets: &[Vec<Row>]) -> Result<Vec<LogMark>, Odd> {
        match self {
            Dialect::Mysql8 => logs8::marks(sets),
        }
    }

    /// Loads what [`SqlAction::Clone`] needs.
    pub(super) fn install_clone(self) -> &'static str {
        match self {
            Dialect::Mysql8 => mysql8::INSTALL_CLONE,
        }
    }

    /// Makes the marker's table.
    pub(super) fn make_marker(self) -> [&'static str; 2] {
        match self {
            Dialect::Mysql8 => mysql8::MAKE_MARKER,
        }
    }
}

/// A string literal. Sessions run with an empty `sql_mode`, so backslashes escape.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{1a}' => out.push_str("\\Z"),
            other => out.push(other),
        }
    }
    out.push('\'');
    out
}

/// Whether the options name a channel of their own.
fn channel_of<'a>(options: Option<&'a LinkOptions>, link: &'a Link) -> &'a str {
    options.map_or(&link.channel, |options| &options.channel)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
