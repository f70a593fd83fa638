//! What does a database host's data directory hold before its first start?
//!
//! Initialising a data directory takes seconds, copying one takes a tenth of a second. The template
//! is made once per installation, with the accounts and tables of the lab in it, outside of any
//! binary log: all servers start from the same state without a transaction to replicate.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};
use crate::install::{Install, run};

/// Raised whenever what the template holds changes.
const VERSION: u32 = 1;

/// The managers' account on every server: all privileges.
pub const ADMIN_USER: &str = "conclave";
/// Password of [`ADMIN_USER`].
pub const ADMIN_PASSWORD: &str = "lab-admin-pw";
/// The application's account: rights on schema `app` only.
pub const APP_USER: &str = "app";
/// Password of [`APP_USER`].
pub const APP_PASSWORD: &str = "lab-app-pw";
/// Password of every replication account `repl_db1`, `repl_db2`, ...
pub const REPL_PASSWORD: &str = "lab-repl-pw";
/// The most database servers a lab can have: so many replication accounts exist.
pub const MAX_SERVERS: usize = 5;

/// The replication account with which a given server connects to its source.
pub fn repl_user(server: &str) -> String {
    format!("repl_{server}")
}

/// Folder of the template below the cache.
pub(crate) fn dir(install: &Install) -> PathBuf {
    install.cache().join(format!("template-{VERSION}"))
}

/// Settings that tell mysqld where its own files are.
pub(crate) fn base_settings(prefix: &Path) -> String {
    let usr = prefix.join("usr");
    let b = usr.display();
    format!(
        "user=root\nbasedir={b}\nplugin_dir={b}/lib/mysql/plugin\nlc_messages_dir={b}/share/mysql\n\
         character_sets_dir={b}/share/mysql/charsets\nsecure_file_priv=NULL\nmysqlx=0\n"
    )
}

/// Makes the template if it is missing. The caller holds the cache's lock.
pub(crate) fn ensure(install: &Install) -> Result<()> {
    let dir = dir(install);
    if dir.join(".done").exists() {
        return Ok(());
    }
    eprintln!("conclave-lab: initialising a data directory in {}", dir.display());
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).context(|| format!("make {}", dir.display()))?;
    let d = dir.display();
    let cnf = dir.join("my.cnf");
    let text = format!(
        "[mysqld]\n{}datadir={d}/data\nsocket={d}/mysqld.sock\npid_file={d}/mysqld.pid\n\
         log_error={d}/error.log\nskip_networking=ON\nskip_log_bin\nperformance_schema=OFF\n\
         innodb_redo_log_capacity=8M\n",
        base_settings(&install.prefix())
    );
    fs::write(&cnf, text).context(|| format!("write {}", cnf.display()))?;
    let defaults = format!("--defaults-file={}", cnf.display());
    let mut initialise = Command::new(install.program("mysqld"));
    initialise.args([&defaults, "--initialize-insecure"]);
    run("initialise the template", &mut initialise).map_err(|err| with_log(err, &dir))?;
    let mut server = Command::new(install.program("mysqld"))
        .arg(&defaults)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context(|| "start mysqld on the template".into())?;
    let filled = fill(install, &dir, &mut server);
    if filled.is_err() {
        let _ = server.kill();
    }
    server.wait().context(|| "wait for the template's mysqld".into())?;
    filled.map_err(|err| with_log(err, &dir))?;
    forget_identity(&dir.join("data"))?;
    fs::write(dir.join(".done"), b"").context(|| "finish the template".into())
}

/// Waits for the server, creates accounts and tables, and shuts it down in order.
fn fill(install: &Install, dir: &Path, server: &mut Child) -> Result<()> {
    let socket = dir.join("mysqld.sock");
    let client = |statement: &str| {
        let mut mysql = Command::new(install.program("mysql"));
        mysql.args(["--no-defaults", "-uroot", "-e", statement]).arg("-S").arg(&socket);
        run("fill the template", &mut mysql)
    };
    let started = Instant::now();
    let limit = Duration::from_secs(60);
    while client("SELECT 1").is_err() {
        let gone = server.try_wait().context(|| "look after mysqld".into())?;
        if gone.is_some() || started.elapsed() > limit {
            let hint = format!(": see {}", dir.join("error.log").display());
            return Err(Error::Deadline { what: "starting the template".into(), limit, hint });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    client(&accounts())?;
    client("SHUTDOWN").map(|_| ())
}

pub(crate) fn accounts() -> String {
    let mut sql = format!(
        "CREATE USER '{ADMIN_USER}'@'%' IDENTIFIED BY '{ADMIN_PASSWORD}';\
         GRANT ALL ON *.* TO '{ADMIN_USER}'@'%' WITH GRANT OPTION;\
         CREATE DATABASE app;\
         CREATE TABLE app.t (id BIGINT UNSIGNED PRIMARY KEY, v VARCHAR(64), at TIMESTAMP(6));\
         CREATE TABLE app.w (id BIGINT UNSIGNED PRIMARY KEY, v VARCHAR(64), at TIMESTAMP(6));\
         CREATE USER '{APP_USER}'@'%' IDENTIFIED BY '{APP_PASSWORD}';\
         GRANT ALL ON app.* TO '{APP_USER}'@'%';"
    );
    for i in 1..=MAX_SERVERS {
        let user = repl_user(&format!("db{i}"));
        sql += &format!(
            "CREATE USER '{user}'@'%' IDENTIFIED BY '{REPL_PASSWORD}';\
             GRANT REPLICATION SLAVE ON *.* TO '{user}'@'%';"
        );
    }
    sql
}

/// Drops what must not be shared: the server's UUID and leftovers of its run.
fn forget_identity(data: &Path) -> Result<()> {
    let read = fs::read_dir(data).context(|| format!("list {}", data.display()))?;
    for entry in read {
        let entry = entry.context(|| format!("list {}", data.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "auto.cnf" || name == "ib_buffer_pool" || name.starts_with("binlog.") {
            fs::remove_file(entry.path()).context(|| format!("remove {name}"))?;
        }
    }
    Ok(())
}

/// Adds the end of the server's error log, which is what a person needs to see.
fn with_log(err: Error, dir: &Path) -> Error {
    let log = fs::read_to_string(dir.join("error.log")).unwrap_or_default();
    let tail: Vec<&str> = log.lines().rev().take(5).collect();
    Error::Malformed {
        what: err.to_string(),
        wanted: "an initialised server".into(),
        found: tail.into_iter().rev().collect::<Vec<_>>().join(" | "),
    }
}
