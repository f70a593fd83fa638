//! A lab whose servers are MariaDB, for facts about it: fetched on demand, and by nobody else.
//!
//! The hosts, their power, cables and sessions are the lab's own. Only what is in `/srv` and the
//! program differ; the program is called `mysqld` here, too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Result};
use crate::host::Host;
use crate::install::{Install, Product, run};
use crate::lab::{Lab, in_parallel};
use crate::mysql::SOCKET;
use crate::spec::{LabSpec, MYSQL_PORT, WRITER_VIP};
use crate::template::{REPL_PASSWORD, accounts, repl_user};

/// What Debian unstable has; the server tells its version (`@@version`).
const MARIADB: Product = Product {
    folder: "mariadb",
    title: "MariaDB",
    packages: ["mariadb-server-core", "mariadb-client-core"],
    programs: &["maria", "my_print_defaults", "resolveip"],
};

/// A lab of MariaDB servers with accounts and tables of the lab, which replicate nothing.
/// `db1` takes writes, all others are read-only.
///
/// # Errors
/// As [`Lab::up`].
pub fn up(spec: LabSpec) -> Result<Lab> {
    let install = Install::ensure()?;
    let prefix = ensure(&install)?;
    let mysqld = Some(prefix.join("usr/sbin/mysqld"));
    let lab = Lab::up(LabSpec { mysqld, start_mysqld: false, ..spec })?;
    in_parallel(&lab.servers(), |server| begin(server, &prefix))?;
    lab.host("db1")?.sql("SET GLOBAL read_only = OFF")?;
    Ok(lab)
}

/// As [`up`], and then replication with `db1` as the primary, asynchronous, and the writer's address
/// on it.
///
/// # Errors
/// As [`Lab::up`], or a replica does not connect.
pub fn up_replicated(spec: LabSpec) -> Result<Lab> {
    let lab = up(spec)?;
    let source = lab.host("db1")?;
    let servers = lab.servers();
    in_parallel(&servers[1..], |replica| {
        let change = change_source(&replica.name(), &source);
        replica.sql(&format!("{change}; START SLAVE")).map(|_| ())
    })?;
    lab.move_vip(WRITER_VIP, "db1")?;
    Ok(lab)
}

/// The statement by which a server follows another from where it is, with its own account.
pub fn change_source(replica: &str, source: &Host) -> String {
    format!(
        "CHANGE MASTER TO MASTER_HOST='{}', MASTER_PORT={MYSQL_PORT}, MASTER_USER='{}', \
         MASTER_PASSWORD='{REPL_PASSWORD}', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, \
         MASTER_HEARTBEAT_PERIOD=0.5, MASTER_SSL_VERIFY_SERVER_CERT=0",
        source.ip(),
        repl_user(replica)
    )
}

/// Fetches the server and initialises a data directory, unless both are there.
fn ensure(install: &Install) -> Result<PathBuf> {
    let _lock = install.lock()?;
    install.fetch(&MARIADB)?;
    let prefix = install.cache().join(MARIADB.folder);
    let (template, usr) = (prefix.join("template"), prefix.join("usr"));
    if !template.exists() {
        let part = prefix.join("template.part");
        let _ = fs::remove_dir_all(&part);
        let mut initialise = Command::new("bash");
        initialise.arg(prefix.join("bin/mariadb-install-db"));
        initialise.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
        initialise.args(["--user=root", "--skip-test-db", "--skip-name-resolve"]);
        initialise.arg(format!("--basedir={}", usr.display()));
        initialise.arg(format!("--datadir={}", part.display()));
        run("initialise MariaDB's data directory", &mut initialise)?;
        fs::rename(&part, &template).context(|| "finish MariaDB's data directory".into())?;
    }
    Ok(prefix)
}

/// Gives a server its settings and data, and starts it.
fn begin(server: &Host, prefix: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.args(["-r", "--reflink=auto", "--sparse=always"]).arg(prefix.join("template"));
    run("copy MariaDB's data directory", copy.arg(server.srv().join("data")))?;
    let cnf = server.srv().join("my.cnf");
    fs::write(&cnf, my_cnf(server, prefix)).context(|| format!("write {}", cnf.display()))?;
    server.start_mysqld()?;
    // Outside of any binary log: all servers begin without a transaction.
    server.sql(&format!("SET SESSION sql_log_bin = 0; {}", accounts())).map(|_| ())
}

/// As the lab's MySQL has it, where MariaDB has the same.
fn my_cnf(server: &Host, prefix: &Path) -> String {
    let (place, spec) = (server.place(), &server.shared().spec);
    let on = |flag: bool| if flag { "ON" } else { "OFF" };
    let mut text = format!(
        "[mysqld]\nuser=root\nbasedir={usr}\nplugin_dir={usr}/lib/mysql/plugin\n\
         datadir=/srv/data\nsocket={SOCKET}\npid_file=/run/mysqld/mysqld.pid\n\
         log_error=/srv/error.log\ntmpdir=/srv\nbind_address=0.0.0.0\nport={MYSQL_PORT}\n\
         server_id={id}\nreport_host={ip}\nskip_name_resolve=ON\nmax_connections=500\n\
         log_bin=binlog\nrelay_log=relay\nlog_slave_updates=ON\ngtid_strict_mode=ON\n\
         relay_log_recovery={recovery}\nsync_relay_log=1\n\
         sync_binlog=1\ninnodb_flush_log_at_trx_commit=1\nslave_net_timeout=4\n\
         read_only=ON\nskip_slave_start=ON\n\
         rpl_semi_sync_master_timeout=4294967295\n\
         rpl_semi_sync_master_wait_point=AFTER_SYNC\n\
         performance_schema={schema}\ninnodb_buffer_pool_size=16M\n",
        usr = prefix.join("usr").display(),
        id = place.server_id(),
        ip = place.ip(),
        recovery = on(spec.relay_log_recovery),
        schema = on(spec.performance_schema),
    );
    for line in &spec.my_cnf {
        text += line;
        text.push('\n');
    }
    text
}
