//! Can a server execute a file of another one's binary log as the relay log of a channel of its own?
//! What that leaves when it is done twice, when the file is cut short, when the server is killed, and
//! when the channel is removed.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use conclave_lab::{Host, Lab, LabSpec, Result};

use crate::SOON;

/// Columns of `SHOW REPLICA STATUS`.
const APPLIER_RUNS: usize = 11;
const APPLIER_ERROR: usize = 36;
const CHANNEL: usize = 55;

/// Lays db1's newest log beside the relay logs of db2, cut by so many bytes, and has it executed.
fn apply(db1: &Host, db2: &Host, cut: usize) -> Result<()> {
    let mut log = fs::read(db1.srv().join("data/binlog.000001")).expect("read the log");
    log.truncate(log.len() - cut);
    let path = |name: &str| db2.srv().join("data").join(name);
    fs::write(path("relay-rescue.000001"), log).expect("write the relay log");
    let index = "/srv/data/relay-rescue.000001\n";
    fs::write(path("relay-rescue.index"), index).expect("write the index");
    db2.sql(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'rescue.invalid', \
         RELAY_LOG_FILE = '/srv/data/relay-rescue.000001', RELAY_LOG_POS = 4 \
         FOR CHANNEL 'rescue'; START REPLICA SQL_THREAD FOR CHANNEL 'rescue'",
    )
    .map(drop)
}

/// The channel's row, once its applier has read all there is or has stopped.
fn ended(db2: &Host) -> Result<Vec<String>> {
    let until = Instant::now() + SOON;
    loop {
        let rows = db2.sql("SHOW REPLICA STATUS")?;
        let row = rows.into_iter().find(|row| row[CHANNEL] == "rescue").expect("the channel");
        let is_over = row.iter().any(|column| column.contains("has read all relay log"));
        if is_over || row[APPLIER_RUNS] == "No" {
            return Ok(row);
        }
        assert!(Instant::now() < until, "it goes on and on: {row:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn count(db2: &Host) -> Result<String> {
    db2.sql_value("SELECT COUNT(*) FROM app.w")
}

fn files(db2: &Host) -> Vec<String> {
    let dir = fs::read_dir(db2.srv().join("data")).expect("list the data directory");
    let names = dir.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    names.filter(|name| name.contains("rescue")).collect()
}

fn remove(db2: &Host) -> Result<()> {
    db2.sql("STOP REPLICA FOR CHANNEL 'rescue'; RESET REPLICA ALL FOR CHANNEL 'rescue'")?;
    assert_eq!(files(db2), [""; 0], "the channel takes its files along");
    Ok(())
}

#[test]
fn log_of_a_dead_source_is_executed_as_the_relay_log_of_a_channel_of_its_own() -> Result<()> {
    let spec = LabSpec { managers: 0, servers: 2, ..LabSpec::default() };
    let lab = Lab::up_replicated(spec)?;
    let (db1, db2) = (lab.host("db1")?, lab.host("db2")?);
    db1.sql("SET GLOBAL rpl_semi_sync_source_enabled = OFF")?;
    db2.sql("STOP REPLICA IO_THREAD")?;
    let row = |n: u32| format!("INSERT INTO app.w (id, v) VALUES ({n}, 'tail'); ");
    db1.sql_within(SOON, &(0..200).map(row).collect::<String>())?;
    db1.kill_mysqld()?;

    // Cut short: what is whole is executed, the rest is an error.
    apply(&db1, &db2, 10)?;
    let row = ended(&db2)?;
    assert_eq!((&*row[APPLIER_RUNS], &*row[APPLIER_ERROR]), ("No", "13121"));
    assert_eq!(count(&db2)?, "199");
    assert_eq!(db2.sql_value("SELECT @@global.super_read_only")?, "1", "it did not mind");
    // Killed: the channel is there, and does not go on by itself.
    db2.kill_mysqld()?;
    db2.start_mysqld()?;
    let row = ended(&db2)?;
    assert_eq!((&*row[APPLIER_RUNS], &*row[APPLIER_ERROR]), ("No", "0"));
    remove(&db2)?;
    assert_eq!(count(&db2)?, "199");

    // All of it, most of it for the second time.
    let begun = Instant::now();
    apply(&db1, &db2, 0)?;
    let row = ended(&db2)?;
    println!("executed, or passed over, after {:?}", begun.elapsed());
    assert_eq!((&*row[APPLIER_RUNS], &*row[APPLIER_ERROR]), ("Yes", "0"));
    assert_eq!(count(&db2)?, "200");
    remove(&db2)?;
    // The channel that was there before is as it was.
    let rows = db2.sql("SHOW REPLICA STATUS")?;
    assert_eq!((rows.len(), rows[0][CHANNEL].as_str()), (1, ""));
    lab.down()
}
