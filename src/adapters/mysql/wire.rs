//! One connection to one server, with a deadline over everything and no second life.

use std::{net::IpAddr, sync::Arc, time::Duration};

use conclave_core::model::Mono;
use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder, Row, SslOpts, prelude::Queryable};
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::lookup_host, time::timeout};

use super::{Tls, fault::Fault};
use crate::adapters::clock::SystemClock;

/// Bound of the effort to end a statement whose answer nobody waits for any more.
const KILL_LIMIT: Duration = Duration::from_secs(2);
const KEEPALIVE: Duration = Duration::from_secs(5);
const MAX_PACKET: usize = 64 << 20;
/// Only the pool would look at it.
const IDLE_SECONDS: usize = 28_800;

/// Where to connect and as whom; made once per server, as it caches what TLS needs.
pub(super) struct Target {
    /// `db1 (10.0.0.1:3306)`, for sentences.
    pub(super) label: String,
    host: String,
    port: u16,
    account: String,
    plain: OptsBuilder,
    /// Holds the prepared TLS settings, which all its copies share.
    secured: Option<OptsBuilder>,
    /// A server without TLS is talked to in plain text.
    is_tls_optional: bool,
}

/// The connection. After a time-out or a broken socket it stays broken.
pub(super) struct Wire {
    target: Arc<Target>,
    conn: Option<Conn>,
    id: u32,
    version: (u16, u16, u16),
}

/// A line of `SHOW FULL PROCESSLIST` of a session that runs something.
struct Running {
    id: u64,
    user: String,
    statement: String,
}

impl Running {
    fn of(row: &Row) -> Option<Self> {
        let id = row.get_opt("Id")?.ok()?;
        let user = row.get_opt("User")?.ok()?;
        let statement = row.get_opt::<Option<String>, _>("Info")?.ok()??;
        Some(Self { id, user, statement })
    }

    /// Whether it is this connection, running one of the statements of `sql`.
    fn is(&self, id: u32, account: &str, sql: &str) -> bool {
        let statement = self.statement.trim();
        self.id == u64::from(id)
            && self.user == account
            && !statement.is_empty()
            && sql.contains(statement)
    }
}

impl Target {
    pub(super) fn new(
        label: String,
        host: &str,
        port: u16,
        account: &str,
        password: &SecretString,
        tls: &Tls,
    ) -> Self {
        let plain = OptsBuilder::default()
            .ip_or_hostname(host)
            .tcp_port(port)
            .user(Some(account))
            .pass(Some(password.expose_secret()))
            .prefer_socket(false)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(KEEPALIVE))
            .stmt_cache_size(0)
            // Both given, or the driver asks the server at every start.
            .max_allowed_packet(Some(MAX_PACKET))
            .wait_timeout(Some(IDLE_SECONDS))
            .connect_attribute("program_name", "conclave");
        let options = match tls {
            Tls::Off => None,
            Tls::Unverified => Some(SslOpts::default().with_danger_accept_invalid_certs(true)),
            Tls::Verified { ca_pem } => Some(
                SslOpts::default()
                    .with_disable_built_in_roots(true)
                    .with_root_certs(vec![ca_pem.clone().into()]),
            ),
        };
        let secured = options.map(|options| plain.clone().ssl_opts(options));
        let is_tls_optional = matches!(tls, Tls::Unverified);
        let (host, account) = (host.to_owned(), account.to_owned());
        Self { label, host, port, account, plain, secured, is_tls_optional }
    }
}

impl Wire {
    /// TCP, greeting, TLS and authentication under one deadline.
    pub(super) async fn open(target: &Arc<Target>, deadline: Mono) -> Result<Self, Fault> {
        let ip = resolve(&target.host, target.port, deadline).await?;
        let to = |builder: &OptsBuilder| builder.clone().resolved_ips(Some(vec![ip])).into();
        let opts = to(target.secured.as_ref().unwrap_or(&target.plain));
        let opened = match dial(opts, deadline).await {
            Err(Fault::Error(Error::Driver(DriverError::NoClientSslFlagFromServer)))
                if target.is_tls_optional =>
            {
                dial(to(&target.plain), deadline).await
            }
            other => other,
        };
        let conn = opened?;
        let (id, version) = (conn.id(), conn.server_version());
        Ok(Self { target: target.clone(), conn: Some(conn), id, version })
    }

    pub(super) fn version(&self) -> (u16, u16, u16) {
        self.version
    }

    /// The connection's number at the server.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The connection, which is left behind as broken.
    pub(super) fn take(&mut self) -> Self {
        let (target, id, version) = (self.target.clone(), self.id, self.version);
        Self { target, conn: self.conn.take(), id, version }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.conn.is_none()
    }

    /// Sends statements and reads one list of rows per statement that returns rows. After an
    /// error of the server the connection goes on; after anything else it is gone, and after a
    /// time-out the server is asked in the background to end the statement.
    pub(super) async fn run(&mut self, sql: &str, deadline: Mono) -> Result<Vec<Vec<Row>>, Fault> {
        let answer = self.run_unkilled(sql, deadline).await;
        if let Err(Fault::Late) = answer {
            self.kill_later(sql);
        }
        answer
    }

    /// [`Wire::run`] without asking the server to end a statement that came too late.
    pub(super) async fn run_unkilled(
        &mut self,
        sql: &str,
        deadline: Mono,
    ) -> Result<Vec<Vec<Row>>, Fault> {
        let Some(mut conn) = self.conn.take() else { return Err(Fault::Gone) };
        match timeout(SystemClock.left(deadline), read_all(&mut conn, sql)).await {
            Ok(Ok(sets)) => {
                self.conn = Some(conn);
                Ok(sets)
            }
            Ok(Err(Error::Server(error))) => {
                self.conn = Some(conn);
                Err(Fault::Error(Error::Server(error)))
            }
            Ok(Err(error)) => Err(Fault::Error(error)),
            Err(_) => {
                let_go(conn);
                Err(Fault::Late)
            }
        }
    }

    /// Best effort, bounded, over a new connection: ends this connection on the server if it still
    /// runs what came too late. Its number alone says nothing: behind a floating address there may
    /// be another server by now, and a restarted one counts anew; there the number may belong to a
    /// replication thread.
    fn kill_later(&self, sql: &str) {
        let (target, id, sql) = (self.target.clone(), self.id, sql.to_owned());
        tokio::spawn(async move {
            let deadline = SystemClock.after(KILL_LIMIT);
            let Ok(mut wire) = Wire::open(&target, deadline).await else { return };
            let sets = wire.run_unkilled("SHOW FULL PROCESSLIST", deadline).await;
            let rows = sets.into_iter().flatten().flatten();
            let mut sessions = rows.filter_map(|row| Running::of(&row));
            if sessions.any(|session| session.is(id, &target.account, &sql)) {
                drop(wire.run_unkilled(&format!("KILL {id}"), deadline).await);
            }
            wire.close(deadline).await;
        });
    }

    /// Says goodbye, so that the server does not count an aborted client.
    pub(super) async fn close(mut self, deadline: Mono) {
        if let Some(conn) = self.conn.take() {
            drop(timeout(SystemClock.left(deadline), conn.disconnect()).await);
        }
    }
}

/// Closes a connection at once, whatever it was in the middle of. Dropped inside a runtime, the
/// driver would read the rest of a half-read result first, which a hung server never sends; on a
/// thread without one it just closes the socket.
fn let_go(conn: Conn) {
    drop(std::thread::Builder::new().name("mysql-close".into()).spawn(move || drop(conn)));
}

async fn dial(opts: Opts, deadline: Mono) -> Result<Conn, Fault> {
    match timeout(SystemClock.left(deadline), Conn::new(opts)).await {
        Ok(opened) => opened.map_err(Fault::Error),
        Err(_) => Err(Fault::Late),
    }
}

/// The first address of a name; an address is itself.
async fn resolve(host: &str, port: u16, deadline: Mono) -> Result<IpAddr, Fault> {
    if let Ok(ip) = host.parse() {
        return Ok(ip);
    }
    let found = timeout(SystemClock.left(deadline), lookup_host((host, port))).await;
    let why = match found {
        Ok(Ok(mut found)) => match found.next() {
            Some(found) => return Ok(found.ip()),
            None => "the name has no address".to_owned(),
        },
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the name server did not answer in time".to_owned(),
    };
    Err(Fault::Local(format!("resolve {host}: {why}")))
}

async fn read_all(conn: &mut Conn, sql: &str) -> mysql_async::Result<Vec<Vec<Row>>> {
    let mut reply = conn.query_iter(sql).await?;
    let mut sets = Vec::new();
    while !reply.is_empty() {
        let has_columns = !reply.columns_ref().is_empty();
        let rows = reply.collect().await?;
        if has_columns {
            sets.push(rows);
        }
    }
    // An error of the second or a later statement is kept back by the driver until somebody asks
    // for more; the reply looks empty until then.
    reply.drop_result().await?;
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// A greeting of MySQL 9.7 that offers TLS.
    fn greeting() -> Vec<u8> {
        let mut body = b"\x0a9.7.4\0\x01\0\0\0saltsalt\0".to_vec();
        body.extend_from_slice(b"\xff\xff\xff\x02\0\xff\xdf\x15");
        body.extend_from_slice(&[0; 10]);
        body.extend_from_slice(b"saltsaltsalt\0caching_sha2_password\0");
        [&[body.len() as u8, 0, 0, 0], body.as_slice()].concat()
    }

    /// A server that greets, waits for the client to begin with TLS, and then does nothing more
    /// (`hangs`) or sends what is no TLS.
    fn server(hangs: bool) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.write_all(&greeting()).unwrap();
            let mut begun = [0; 64];
            socket.read_exact(&mut begun).unwrap();
            if !hangs {
                socket.write_all(&[b'x'; 64]).unwrap();
            }
            std::io::copy(&mut socket, &mut std::io::sink()).ok();
        });
        port
    }

    /// A panic in a task of the driver would end a process built with `panic = "abort"`.
    static PANICS: AtomicUsize = AtomicUsize::new(0);

    #[tokio::test]
    async fn a_tls_handshake_that_is_cut_short_panics_nowhere() {
        rustls::crypto::ring::default_provider().install_default().ok();
        std::panic::set_hook(Box::new(|_| {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }));
        let open = async |port| {
            let password = "x".to_owned().into();
            let target =
                Target::new("db".into(), "127.0.0.1", port, "a", &password, &Tls::Unverified);
            let deadline = SystemClock.after(Duration::from_millis(300));
            Wire::open(&Arc::new(target), deadline).await.err().unwrap()
        };
        assert!(matches!(open(server(true)).await, Fault::Late));
        assert!(matches!(open(server(false)).await, Fault::Error(_)));
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(std::panic::take_hook());
        assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    }

    const SQL: &str = "SET SESSION lock_wait_timeout = 3; SELECT @@server_uuid; DO SLEEP(9)";

    fn running(id: u64, user: &str, statement: &str) -> bool {
        let session = Running { id, user: user.into(), statement: statement.into() };
        session.is(23, "conclave", SQL)
    }

    #[test]
    fn own_connection_with_one_of_its_statements_is_known_again() {
        assert!(running(23, "conclave", "DO SLEEP(9)"));
    }

    #[test]
    fn another_session_with_the_same_number_is_left_alone() {
        assert!(!running(23, "system user", "waiting for handler commit"));
        assert!(!running(23, "system user", "DO SLEEP(9)"));
        assert!(!running(23, "conclave", "SELECT 1"));
        assert!(!running(23, "conclave", " "));
        assert!(!running(24, "conclave", "DO SLEEP(9)"));
    }
}
