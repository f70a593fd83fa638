//! Which words does this server understand? The only place where SQL for servers is written.

mod classic;
mod logs8;
mod mariadb;
mod mysql8;
mod older;
mod sessions8;

use conclave_core::{
    model::{GtidSet, LinkOptions, LogMark, ServerFacts, StepId, Survey},
    ports::SqlAction,
};
pub(super) use logs8::Listed;
use mysql_async::Row;
use secrecy::SecretString;
pub(super) use sessions8::Client;

use self::older::Age;
use super::read::{Comeback, Odd, Plugins, Wide};

/// One way of speaking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// MySQL 8.4 and 9: `REPLICA` and `SOURCE`, semi-sync plugins of that name, GTIDs with tags.
    Mysql8,
    /// MySQL before 8.4: `SLAVE` and `MASTER`.
    Older(Age),
    /// MariaDB.
    MariaDb,
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
        let heartbeat = Some(seconds(options.heartbeat_ms));
        Self { channel: options.channel.clone(), heartbeat }
    }
}

impl Dialect {
    /// By the version the server greets with. MariaDB greets with 10 and above; a look makes sure.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn of(version: (u16, u16, u16)) -> Result<Self, String> {
        match version {
            (8, 4.., _) | (9, _, _) => Ok(Dialect::Mysql8),
            (5, 6, _) => Ok(Dialect::Older(Age::Five6)),
            (5, 7, _) => Ok(Dialect::Older(Age::Five7)),
            (8, 0..4, _) => Ok(Dialect::Older(Age::Eight0)),
            (10, 6.., _) | (11.., _, _) => Ok(Dialect::MariaDb),
            (major, minor, patch) => Err(format!(
                "wanted MySQL 5.6 to 9, or MariaDB 10.6 or newer, found a server of version \
                 {major}.{minor}.{patch}"
            )),
        }
    }

    /// The statements of a look.
    pub(super) fn look(self, plugins: Plugins, wide: Wide) -> String {
        match self {
            Dialect::Mysql8 => mysql8::look(plugins, wide),
            Dialect::Older(age) => age.look(plugins, wide),
            Dialect::MariaDb => mariadb::LOOK.into(),
        }
    }

    /// Which plugins the replies to a look show.
    pub(super) fn plugins(self, sets: &[Vec<Row>]) -> Result<Plugins, Odd> {
        match self {
            Dialect::Mysql8 => mysql8::plugins(sets),
            Dialect::Older(_) => older::plugins(sets),
            Dialect::MariaDb => Ok(mariadb::PLUGINS),
        }
    }

    /// What the replies to a look say of the next start; `None`: it was not asked.
    pub(super) fn comeback(self, sets: &[Vec<Row>]) -> Result<Option<Comeback>, Odd> {
        match self {
            Dialect::Mysql8 => mysql8::comeback(sets),
            Dialect::Older(_) => Ok(Some(older::COMEBACK)),
            Dialect::MariaDb => Ok(Some(mariadb::COMEBACK)),
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
            Dialect::Older(age) => age.facts(sets, asked),
            Dialect::MariaDb => mariadb::facts(sets),
        }
    }

    /// Whether a session can hold several locks at once. MySQL 5.6 lets go of one when it takes another
    /// [ran]: nobody can show there who he is, and whoever comes ends the holder's session.
    pub(super) fn has_many_locks(self) -> bool {
        match self {
            Dialect::Mysql8 | Dialect::Older(Age::Five7 | Age::Eight0) | Dialect::MariaDb => true,
            Dialect::Older(Age::Five6) => false,
        }
    }

    /// Whether clients that are connected have to be cut one by one, as there is no `offline_mode`.
    pub(super) fn cuts_one_by_one(self) -> bool {
        match self {
            Dialect::Mysql8 | Dialect::Older(Age::Five7 | Age::Eight0) => false,
            Dialect::Older(Age::Five6) | Dialect::MariaDb => true,
        }
    }

    /// Asks which hosts an account may come from.
    pub(super) fn ask_hosts(self, account: &str) -> String {
        mysql8::ask_hosts(account)
    }

    /// Locks an account, or unlocks it.
    pub(super) fn lock_account(self, account: &str, hosts: &[String], is_locked: bool) -> String {
        mysql8::lock_account(account, hosts, is_locked)
    }

    /// Asks for an account's connections.
    pub(super) fn ask_connections(self, account: &str) -> String {
        mysql8::ask_connections(account)
    }

    /// Kills an applier that has nothing left to do, if that connection holds the lock now.
    pub(super) fn kill_idle_applier(self, lock: &str, holder: u32) -> String {
        match self {
            Dialect::Mysql8 | Dialect::Older(_) => mysql8::kill_idle_applier(lock, holder),
            Dialect::MariaDb => mariadb::kill_idle_applier(lock, holder),
        }
    }

    /// Ends writes.
    pub(super) fn close(self) -> &'static str {
        match self {
            Dialect::Mysql8 | Dialect::Older(Age::Five7 | Age::Eight0) => sessions8::CLOSE,
            Dialect::Older(Age::Five6) | Dialect::MariaDb => mariadb::CLOSE,
        }
    }

    /// Asks for the sessions of all accounts but the managers'.
    pub(super) fn list_clients(self, admin: &str) -> String {
        match self {
            Dialect::Mysql8 | Dialect::Older(Age::Five7 | Age::Eight0) => sessions8::list(admin),
            Dialect::Older(Age::Five6) | Dialect::MariaDb => mariadb::list_clients(admin),
        }
    }

    /// Those sessions.
    pub(super) fn clients(self, sets: &[Vec<Row>]) -> Result<Vec<Client>, Odd> {
        sessions8::clients(sets)
    }

    /// Ends a session, if that connection holds the lock then.
    pub(super) fn kill_client(self, id: u64, lock: &str, holder: u32) -> String {
        sessions8::kill(id, lock, holder)
    }

    /// Asks what matters before a switchover.
    pub(super) fn survey(self, admin: &str) -> String {
        let status = match self {
            Dialect::Mysql8 => "SHOW BINARY LOG STATUS",
            Dialect::Older(_) | Dialect::MariaDb => "SHOW MASTER STATUS",
        };
        format!("{}; {status}", self.list_clients(admin))
    }

    /// The answer to that.
    pub(super) fn surveyed(self, sets: &[Vec<Row>]) -> Result<Survey, Odd> {
        sessions8::surveyed(sets)
    }

    /// Asks for the present link.
    pub(super) fn ask_link(self) -> &'static str {
        match self {
            Dialect::Mysql8 => mysql8::ASK_LINK,
            Dialect::Older(age) => age.ask_link(),
            Dialect::MariaDb => mariadb::ASK_LINK,
        }
    }

    /// Reads the present link.
    pub(super) fn link(self, sets: &[Vec<Row>]) -> Result<Link, Odd> {
        match self {
            Dialect::Mysql8 => mysql8::link(sets),
            Dialect::Older(age) => age.link(sets),
            Dialect::MariaDb => mariadb::link(sets),
        }
    }

    /// The statement of an action; `None` for those that have several.
    pub(super) fn statement(self, action: &SqlAction, terms: &Terms<'_>) -> Option<String> {
        match self {
            Dialect::Mysql8 => mysql8::statement(action, terms),
            Dialect::Older(age) => age.statement(action, terms),
            Dialect::MariaDb => mariadb::statement(action, terms),
        }
    }

    /// Writes the marker row.
    pub(super) fn write_marker(self, step: StepId) -> String {
        mysql8::write_marker(step)
    }

    /// Asks for the binary log files.
    pub(super) fn list_logs(self) -> &'static str {
        match self {
            Dialect::Mysql8 => logs8::LIST,
            Dialect::Older(_) | Dialect::MariaDb => mariadb::LIST_LOGS,
        }
    }

    /// The files, oldest first, and whether the error log can be asked for.
    pub(super) fn listed_logs(self, sets: &[Vec<Row>]) -> Result<(Vec<Listed>, bool), Odd> {
        logs8::listed(sets)
    }

    /// Asks for the beginning of a binary log file.
    pub(super) fn log_head(self, file: &str) -> String {
        logs8::head(file)
    }

    /// What was logged before a file, from its beginning.
    pub(super) fn previous(self, sets: &[Vec<Row>]) -> Result<GtidSet, Odd> {
        match self {
            Dialect::Mysql8 | Dialect::Older(_) => logs8::previous(sets),
            Dialect::MariaDb => mariadb::previous(sets),
        }
    }

    /// Asks for the event at a place in a file.
    pub(super) fn event_at(self, file: &str, at: u64) -> String {
        logs8::event_at(file, at)
    }

    /// The kind of that event, if it is the last of a file of that size.
    pub(super) fn last_event(self, sets: &[Vec<Row>], size: u64) -> Result<Option<String>, Odd> {
        logs8::last_event(sets, size)
    }

    /// Asks the error log for the server's life.
    pub(super) fn log_marks(self) -> &'static str {
        logs8::MARKS
    }

    /// The server's life, oldest first.
    pub(super) fn marks(self, sets: &[Vec<Row>]) -> Result<Vec<LogMark>, Odd> {
        logs8::marks(sets)
    }

    /// Loads what [`SqlAction::Clone`] needs.
    pub(super) fn install_clone(self) -> &'static str {
        mysql8::INSTALL_CLONE
    }

    /// Makes the marker's table.
    pub(super) fn make_marker(self) -> [&'static str; 2] {
        mysql8::MAKE_MARKER
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

/// Milliseconds as decimal seconds.
fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// Whether the options name a channel of their own.
fn channel_of<'a>(options: Option<&'a LinkOptions>, link: &'a Link) -> &'a str {
    options.map_or(&link.channel, |options| &options.channel)
}

#[cfg(test)]
mod other_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
