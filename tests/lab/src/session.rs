//! A session with a server that lasts: for locks, open transactions, and statements that hang.

use std::time::Duration;

use mysql_async::{Conn, Opts, OptsBuilder};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::mysql::{Rows, as_root, rows};
use crate::spec::MYSQL_PORT;
use crate::template::{ADMIN_PASSWORD, ADMIN_USER};

/// Deadline of the connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A session, until it is dropped: then its socket is closed without a word. That of a host which
/// lost its power closes in silence.
#[derive(Debug)]
pub struct Session {
    runtime: Runtime,
    conn: Conn,
    server: String,
}

impl Host {
    /// A session as root over the server's socket.
    ///
    /// # Errors
    /// The host is off, or its server does not answer within 30 s.
    pub fn session(&self) -> Result<Session> {
        self.open_session(self, as_root().into())
    }

    /// A session with another host's server over the network, as the managers have.
    ///
    /// # Errors
    /// As [`Host::session`].
    pub fn session_to(&self, server: &Host) -> Result<Session> {
        let opts = OptsBuilder::default()
            .ip_or_hostname(server.ip().to_string())
            .tcp_port(MYSQL_PORT)
            .prefer_socket(false)
            .user(Some(ADMIN_USER))
            .pass(Some(ADMIN_PASSWORD));
        self.open_session(server, opts.into())
    }

    fn open_session(&self, server: &Host, opts: Opts) -> Result<Session> {
        let server = server.name();
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context(|| "make a runtime".into())?;
        // A socket stays in the network that it was made in.
        let inside = || runtime.block_on(async { timeout(CONNECT_LIMIT, Conn::new(opts)).await });
        let opened = self.namespaces()?.within(inside).context(|| format!("enter {}", self.name()));
        let conn = match opened? {
            Ok(Ok(conn)) => conn,
            Ok(Err(error)) => return Err(refused(&server, error.to_string(), "connect")),
            Err(_) => {
                let late = format!("no answer within {CONNECT_LIMIT:?}");
                return Err(refused(&server, late, "connect"));
            }
        };
        Ok(Session { runtime, conn, server })
    }
}

impl Session {
    /// The session's number at its server.
    pub fn id(&self) -> u32 {
        self.conn.id()
    }

    /// Runs statements; returns the rows of all of them together.
    ///
    /// # Errors
    /// The server refuses, or the deadline: the statement goes on at the server then, and the
    /// session is of no further use but to exist.
    pub fn sql(&mut self, limit: Duration, statements: &str) -> Result<Rows> {
        let Session { runtime, conn, server } = self;
        let asked = runtime.block_on(async { timeout(limit, rows(conn, statements)).await });
        match asked {
            Ok(answer) => answer.map_err(|err| refused(server, err.to_string(), statements)),
            Err(_) => Err(refused(server, format!("no answer within {limit:?}"), statements)),
        }
    }
}

fn refused(server: &str, message: String, statement: &str) -> Error {
    Error::Sql { host: server.to_owned(), message, statement: statement.to_owned() }
}
