//! The facts of the other files once more on MariaDB, which differs. By hand only, as its packages
//! are fetched first: `cargo test -p conclave-lab --test facts mariadb -- --ignored --nocapture`.

mod acker;
mod heard;
mod killed;

use std::thread;
use std::time::{Duration, Instant};

use conclave_lab::{Host, Lab, LabSpec, Result, mariadb};

use crate::SOON;

/// db2 follows db1, of which it has everything; it acknowledges if `is_acker`.
fn up_replicated(spec: LabSpec, is_acker: bool) -> Result<Lab> {
    let lab = mariadb::up(LabSpec { servers: 2, ..spec })?;
    println!("{}", lab.host("db2")?.sql_value("SELECT @@version")?);
    let set = |server: &Host, side: &str| {
        let on = u8::from(is_acker);
        server.sql(&format!("SET GLOBAL rpl_semi_sync_{side}_enabled = {on}")).map(|_| ())
    };
    set(&lab.host("db2")?, "slave")?;
    follow(&lab)?;
    let db1 = lab.host("db1")?;
    set(&db1, "master")?;
    let clients = "SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'";
    until("the acker to be known to its source", || {
        Ok(!is_acker || db1.sql(clients)?[0][1] == "1")
    })?;
    Ok(lab)
}

/// db2 follows db1 again, from where it is, and has applied what db1 has.
fn follow(lab: &Lab) -> Result<()> {
    let (db1, db2) = (lab.host("db1")?, lab.host("db2")?);
    let change = mariadb::change_source("db2", &db1);
    db2.sql_within(SOON, &format!("STOP SLAVE; RESET SLAVE ALL; {change}; START SLAVE"))?;
    let has = db1.sql_value("SELECT @@global.gtid_binlog_pos")?;
    let reached = db2.sql_within(SOON, &format!("SELECT MASTER_GTID_WAIT('{has}', 50)"))?;
    assert_eq!(reached[0][0], "0", "{:?}", status(&db2, "Last_SQL_Error"));
    until("the receiver to run", || Ok(status(&db2, "Slave_IO_Running")? == "Yes"))
}

/// A column of `SHOW SLAVE STATUS`, by its name; empty if the server replicates nothing.
fn status(server: &Host, column: &str) -> Result<String> {
    Ok(pick(&server.sql_within(SOON, "SHOW SLAVE STATUS")?, column))
}

/// Columns of `SHOW SLAVE STATUS`, the same in MariaDB 10.11 and 11.8.
const COLUMNS: [(&str, usize); 7] = [
    ("Master_Host", 1),
    ("Read_Master_Log_Pos", 6),
    ("Slave_IO_Running", 10),
    ("Slave_SQL_Running", 11),
    ("Last_SQL_Error", 37),
    ("Gtid_IO_Pos", 43),
    ("Slave_SQL_Running_State", 49),
];

fn pick(rows: &[Vec<String>], column: &str) -> String {
    let (_, index) = COLUMNS.iter().find(|(name, _)| *name == column).expect("a known column");
    rows.first().map_or(String::new(), |row| row[*index].clone())
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + SOON;
    while !is_so()? {
        assert!(Instant::now() < until, "waited for {what}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
