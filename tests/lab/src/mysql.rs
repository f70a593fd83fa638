//! The MySQL server of a database host: its settings, its life, SQL, and replication among them.

use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};
use nix::sys::signal::Signal;

use crate::error::{Context, Error, Result};
use crate::guest::Request;
use crate::host::Host;
use crate::lab::{Lab, Shared, in_parallel};
use crate::spec::{MYSQL_PORT, Place, WRITER_VIP};
use crate::template::{ADMIN_PASSWORD, ADMIN_USER, REPL_PASSWORD, base_settings, repl_user};

/// mysqld's socket inside its host; `root` has no password there.
pub(crate) const SOCKET: &str = "/run/mysqld/mysqld.sock";
/// Deadline of [`Host::sql`].
const SQL_LIMIT: Duration = Duration::from_secs(10);
/// How long a server may take to start, recovery included.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Longest copy of another server's data.
const CLONE_LIMIT: Duration = Duration::from_secs(30);

/// The server's settings. At boot every server is read-only, replicates nothing and takes no part
/// in semi-synchronous replication: all of that is somebody's decision.
pub(crate) fn my_cnf(shared: &Shared, place: Place) -> String {
    let spec = &shared.spec;
    let on = |flag: bool| if flag { "ON" } else { "OFF" };
    let mut text = format!(
        "[mysqld]\n{base}datadir=/srv/data\nsocket={SOCKET}\npid_file=/run/mysqld/mysqld.pid\n\
         log_error=/srv/error.log\ntmpdir=/srv\nbind_address=0.0.0.0\nport={MYSQL_PORT}\n\
         server_id={id}\nreport_host={ip}\nskip_name_resolve=ON\nmax_connections=500\n\
         log_bin=binlog\nrelay_log=relay\nlog_replica_updates=ON\n\
         gtid_mode=ON\nenforce_gtid_consistency=ON\n\
         relay_log_recovery={relay_log_recovery}\nsync_relay_log=1\n\
         sync_binlog=1\ninnodb_flush_log_at_trx_commit=1\nreplica_net_timeout=4\n\
         read_only=ON\nsuper_read_only=ON\nskip_replica_start=ON\n\
         plugin_load_add=semisync_source.so\nplugin_load_add=semisync_replica.so\n\
         plugin_load_add=mysql_clone.so\n\
         rpl_semi_sync_source_enabled=OFF\nrpl_semi_sync_replica_enabled=OFF\n\
         rpl_semi_sync_source_timeout=4294967295\n\
         rpl_semi_sync_source_wait_point=AFTER_SYNC\n\
         rpl_semi_sync_source_wait_no_replica=ON\n\
         rpl_semi_sync_source_wait_for_replica_count=1\n\
         performance_schema={performance_schema}\ninnodb_buffer_pool_size=16M\n\
         innodb_redo_log_capacity=16M\ninnodb_log_buffer_size=1M\ntable_open_cache=64\n",
        base = base_settings(&shared.install.prefix()),
        id = place.server_id(),
        ip = place.ip(),
        relay_log_recovery = on(spec.relay_log_recovery),
        performance_schema = on(spec.performance_schema),
    );
    for line in &spec.my_cnf {
        text += line;
        text.push('\n');
    }
    text
}

/// Rows of a statement, as text; NULL reads `NULL`.
pub type Rows = Vec<Vec<String>>;

impl Host {
    /// Starts mysqld with its boot configuration and waits until it answers.
    ///
    /// # Errors
    /// It does not answer in time: see `/srv/error.log` of the host.
    pub fn start_mysqld(&self) -> Result<()> {
        self.ask(Request::Start)?;
        let until = Instant::now() + START_LIMIT;
        loop {
            match self.sql_within(Duration::from_secs(2), "SELECT 1") {
                Ok(_) => return Ok(()),
                Err(err @ Error::HostOff { .. }) => return Err(err),
                Err(err) => {
                    let is_running = self.mysqld_pid()?.is_some();
                    if !is_running || Instant::now() > until {
                        let what = format!("starting mysqld on {}", self.name());
                        let log = self.srv().join("error.log");
                        let hint = format!(": {err}; see {}", log.display());
                        return Err(Error::Deadline { what, limit: START_LIMIT, hint });
                    }
                }
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Makes the server new, as an operator rebuilds one whose data went another way: `donor`'s data
    /// by `CLONE`, under its old identity. An empty server would not do: it does not take back from
    /// others what bears its own server id.
    ///
    /// # Errors
    /// As [`Host::start_mysqld`], or the donor cannot be cloned. Not for a lab with
    /// [`crate::LabSpec::srv_mb`], whose `/srv` is another file system.
    pub fn rebuild_mysqld(&self, donor: &Host) -> Result<()> {
        if self.mysqld_pid()?.is_some() {
            self.kill_mysqld()?;
        }
        let data = self.srv().join("data");
        let what = || format!("rebuild {}", data.display());
        let identity = fs::read(data.join("auto.cnf")).context(what)?;
        fs::remove_dir_all(&data).context(what)?;
        self.copy_template()?;
        fs::write(data.join("auto.cnf"), identity).context(what)?;
        self.start_mysqld()?;
        let ip = donor.ip();
        let clone = format!(
            "SET GLOBAL super_read_only = OFF; \
             SET GLOBAL clone_valid_donor_list = '{ip}:{MYSQL_PORT}'; \
             CLONE INSTANCE FROM '{ADMIN_USER}'@'{ip}':{MYSQL_PORT} \
             IDENTIFIED BY '{ADMIN_PASSWORD}'"
        );
        // It ends by mysqld's own stop, as nothing supervises it, which looks like an error.
        let ended = self.sql_within(CLONE_LIMIT, &clone);
        let until = Instant::now() + CLONE_LIMIT;
        while self.mysqld_pid()?.is_some() {
            if Instant::now() > until {
                let hint = format!(": {ended:?}");
                let what = format!("{} to stop after it was cloned", self.name());
                return Err(Error::Deadline { what, limit: CLONE_LIMIT, hint });
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.start_mysqld()
    }

    /// SIGKILL to mysqld. When this returns it is gone and its connections are closed.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_mysqld(&self) -> Result<()> {
        self.signal_mysqld(Signal::SIGKILL)
    }

    /// SIGSTOP to mysqld: connections stay, nothing answers.
    ///
    /// # Errors
    /// It does not run.
    pub fn stop_mysqld(&self) -> Result<()> {
        self.signal_mysqld(Signal::SIGSTOP)
    }

    /// SIGCONT to mysqld: ends [`Host::stop_mysqld`].
    ///
    /// # Errors
    /// It does not run.
    pub fn cont_mysqld(&self) -> Result<()> {
        self.signal_mysqld(Signal::SIGCONT)
    }

    /// Any signal to mysqld. SIGKILL, SIGSTOP and SIGCONT have taken effect when this returns.
    ///
    /// # Errors
    /// It does not run, or its host is off.
    pub fn signal_mysqld(&self, signal: Signal) -> Result<()> {
        self.ask(Request::Signal(signal as i32)).map(|_| ())
    }

    /// From now on mysqld comes back, with its boot configuration, so long after it ended, however
    /// it ended; `None` ends that. As a service manager does; a power-off forgets it.
    ///
    /// # Errors
    /// The host is off.
    pub fn restart_after(&self, pause: Option<Duration>) -> Result<()> {
        let ms = pause.map(|pause| pause.as_millis() as u64);
        self.ask(Request::RestartAfter(ms)).map(|_| ())
    }

    /// mysqld's process id *inside* the host (fit for `kill` over SSH); `None`: it does not run.
    ///
    /// # Errors
    /// The host is off.
    pub fn mysqld_pid(&self) -> Result<Option<i32>> {
        Ok(self.ask(Request::Status)?.mysqld)
    }

    /// Runs one or more statements as root over the server's socket, within 10 s. Returns the rows
    /// of all of them together.
    ///
    /// # Errors
    /// The host is off, nobody listens, the server refuses a statement, or the deadline: the
    /// statement may go on at the server then.
    pub fn sql(&self, statements: &str) -> Result<Rows> {
        self.sql_within(SQL_LIMIT, statements)
    }

    /// As [`Host::sql`], with another deadline.
    ///
    /// # Errors
    /// As [`Host::sql`].
    pub fn sql_within(&self, limit: Duration, statements: &str) -> Result<Rows> {
        let sql_error = |message: String| Error::Sql {
            host: self.name(),
            message,
            statement: statements.replace(REPL_PASSWORD, "***"),
        };
        let inside = || -> Result<Rows> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.context(|| "make a runtime".into())?;
            let timed = async { tokio::time::timeout(limit, query(statements)).await };
            let asked = runtime.block_on(timed);
            // A connection to a stopped server must not hold us up while it is closed.
            runtime.shutdown_background();
            match asked {
                Ok(answer) => answer.map_err(|err| sql_error(err.to_string())),
                Err(_) => Err(sql_error(format!("no answer within {limit:?}"))),
            }
        };
        self.namespaces()?.within(inside).context(|| format!("enter {}", self.name()))?
    }

    /// One value of one row, as text.
    ///
    /// # Errors
    /// As [`Host::sql`], or there is no row.
    pub fn sql_value(&self, statement: &str) -> Result<String> {
        let rows = self.sql(statement)?;
        rows.into_iter().next().and_then(|row| row.into_iter().next()).ok_or_else(|| Error::Sql {
            host: self.name(),
            message: "no row".into(),
            statement: statement.into(),
        })
    }
}

/// How root of the host reaches its server.
pub(crate) fn as_root() -> OptsBuilder {
    OptsBuilder::default().socket(Some(SOCKET)).user(Some("root"))
}

async fn query(statements: &str) -> mysql_async::Result<Rows> {
    let mut conn = Conn::new(as_root()).await?;
    let all = rows(&mut conn, statements).await?;
    conn.disconnect().await?;
    Ok(all)
}

/// The rows of all statements together.
pub(crate) async fn rows(conn: &mut Conn, statements: &str) -> mysql_async::Result<Rows> {
    let mut all = Rows::new();
    let mut result = conn.query_iter(statements).await?;
    while !result.is_empty() {
        let rows: Vec<Row> = result.collect().await?;
        all.extend(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()));
    }
    drop(result);
    Ok(all)
}

fn text(value: Value) -> String {
    match value {
        Value::NULL => "NULL".into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other @ (Value::Int(_)
        | Value::UInt(_)
        | Value::Float(_)
        | Value::Double(_)
        | Value::Date(..)
        | Value::Time(..)) => other.as_sql(true),
    }
}

/// The statement by which a server follows another, with its own replication account.
pub fn change_source(replica: &str, source: Ipv4Addr) -> String {
    format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{source}', SOURCE_PORT={MYSQL_PORT}, \
         SOURCE_USER='{}', SOURCE_PASSWORD='{REPL_PASSWORD}', SOURCE_AUTO_POSITION=1, \
         GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=100000, \
         SOURCE_HEARTBEAT_PERIOD=0.5",
        repl_user(replica)
    )
}

impl Lab {
    /// Makes one server the primary: writable, semi-sync source, writer VIP; all others follow it
    /// as semi-sync replicas. Returns when they are connected and semi-sync is on at both ends.
    ///
    /// # Errors
    /// A server is down or refuses, or a replica does not connect within 10 s.
    pub fn replicate(&self, primary: &str) -> Result<()> {
        let source = self.host(primary)?;
        let is_replica = |host: &Host| host.name() != primary;
        let replicas: Vec<Host> = self.servers().into_iter().filter(is_replica).collect();
        source.sql(
            "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL rpl_semi_sync_replica_enabled=OFF;\
             SET GLOBAL rpl_semi_sync_source_enabled=ON; SET GLOBAL read_only=OFF",
        )?;
        in_parallel(&replicas, |replica| {
            replica.sql(&format!(
                "STOP REPLICA; SET GLOBAL super_read_only=ON;\
                 SET GLOBAL rpl_semi_sync_source_enabled=OFF;\
                 SET GLOBAL rpl_semi_sync_replica_enabled=ON; {}; START REPLICA",
                change_source(&replica.name(), source.ip())
            ))?;
            until_true(replica, "its receiver to run with semi-sync", || replica.is_acker())
        })?;
        let wanted = replicas.len().to_string();
        until_true(&source, "all replicas as semi-sync clients", || {
            let rows = source.sql("SHOW STATUS LIKE 'Rpl_semi_sync_source_clients'")?;
            Ok(rows.first().and_then(|row| row.get(1)) == Some(&wanted))
        })?;
        self.move_vip(WRITER_VIP, primary)
    }

    /// Puts an address on one database host and takes it from all others that are on.
    ///
    /// # Errors
    /// The host is off.
    pub fn move_vip(&self, vip: Ipv4Addr, to: &str) -> Result<()> {
        let target = self.host(to)?;
        for other in self.servers() {
            if other.name() != to && other.is_on() {
                other.drop_vip(vip)?;
            }
        }
        target.add_vip(vip)
    }
}

impl Host {
    /// Whether the receiver is connected and acknowledges.
    fn is_acker(&self) -> Result<bool> {
        let rows = self.sql(
            "SELECT service_state FROM performance_schema.replication_connection_status;\
             SHOW STATUS LIKE 'Rpl_semi_sync_replica_status'",
        )?;
        Ok(rows.len() == 2 && rows.iter().all(|row| row.last().is_some_and(|v| v == "ON")))
    }
}

fn until_true(host: &Host, what: &str, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + SQL_LIMIT;
    while !check()? {
        if Instant::now() > until {
            let what = format!("waiting on {} for {what}", host.name());
            let hint = format!(": see {}", host.srv().join("error.log").display());
            return Err(Error::Deadline { what, limit: SQL_LIMIT, hint });
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
