//! What a receiver that was stopped in the middle of a transaction leaves behind: half of it, in the
//! relay log. Nobody acknowledged it, and no set of received transactions has it. Can the applier
//! still be stopped?

use std::thread;
use std::time::{Duration, Instant};

use conclave_lab::{Host, Lab, LabSpec, Result, WriterSpec};

use crate::{SOON, restore};
use conclave_lab::freeze::Frozen;

/// What has not been answered by then waits for the rest of the transaction: for 60 s.
const WAITS: Duration = Duration::from_secs(3);
const HANGS: Duration = Duration::from_millis(300);
/// "Coordinator and worker threads are stopped, possibly leaving data in inconsistent state", and
/// "Relay log read failure".
const HALF_APPLIED: [&str; 2] = ["1756", "13121"];
const APPLIER: &str = "SELECT service_state FROM \
    performance_schema.replication_applier_status_by_coordinator; \
    SELECT last_error_number FROM performance_schema.replication_applier_status_by_coordinator";

/// Columns of `SHOW REPLICA STATUS`.
const READ_TO: usize = 6;
const APPLIED_TO: usize = 21;
const APPLIER_STATE: usize = 44;

/// Stops the receiver where the relay log ends with half a transaction, as chance would have it
/// sooner or later: with `sync_relay_log = 1` each event is made durable by itself.
fn stop_midway(lab: &Lab, replica: &Host) -> Result<()> {
    let until = Instant::now() + SOON;
    for before in 7.. {
        assert!(Instant::now() < until, "no half of a transaction is left");
        let writer = lab.write(&WriterSpec::default())?;
        let frozen = Frozen::while_it_syncs(replica, "name LIKE 'thread/sql/%\\_io'", before)?;
        let mut stop = replica.session()?;
        stop.sql(HANGS, "STOP REPLICA IO_THREAD").expect_err("it stands still");
        drop((frozen, writer));
        let status = loop {
            let status = replica.sql("SHOW REPLICA STATUS")?.remove(0);
            if status[10] == "No" && status[APPLIER_STATE].contains("has read all") {
                break status;
            }
            assert!(Instant::now() < until, "it is not stopped, or does not apply: {status:?}");
            thread::sleep(Duration::from_millis(10));
        };
        if status[READ_TO] != status[APPLIED_TO] {
            return Ok(());
        }
        replica.sql("START REPLICA IO_THREAD")?;
    }
    unreachable!("the loop has no end")
}

#[test]
fn applier_with_half_a_transaction_stops_after_a_minute_unless_it_is_killed() -> Result<()> {
    let spec = LabSpec { managers: 0, servers: 2, performance_schema: true, ..LabSpec::default() };
    let lab = Lab::up_replicated(spec)?;
    let db2 = lab.host("db2")?;
    stop_midway(&lab, &db2)?;
    let mut stop = db2.session()?;
    stop.sql(WAITS, "STOP REPLICA").expect_err("it is stopped at once");
    assert_eq!(db2.sql(APPLIER)?.concat(), ["ON", "0"]);
    let begun = Instant::now();
    let coordinator = db2.sql_value(
        "SELECT processlist_id FROM performance_schema.threads WHERE name LIKE 'thread/sql/%\\_sql'",
    )?;
    db2.sql(&format!("KILL {coordinator}"))?;
    while db2.sql(APPLIER)?.concat()[0] == "ON" {
        assert!(begun.elapsed() < SOON, "the killed applier runs on");
        thread::sleep(Duration::from_millis(5));
    }
    let error = db2.sql(APPLIER)?.concat().swap_remove(1);
    println!("stopped {:?} after it was killed, with error {error}", begun.elapsed());
    assert!(HALF_APPLIED.contains(&&*error), "error {error}");
    // Changing the source forgives the error and forgets the half; a source sends all of it again.
    let from = lab.host("db1")?.ip();
    db2.sql(&conclave_lab::change_source("db2", from))?;
    assert_eq!(db2.sql(APPLIER)?.concat(), ["OFF", "0"]);
    restore(&lab)?;
    lab.down()
}

#[test]
fn source_of_an_applier_with_half_a_transaction_is_changed_while_it_runs() -> Result<()> {
    let spec = LabSpec { managers: 0, performance_schema: true, ..LabSpec::default() };
    let lab = Lab::up_replicated(spec)?;
    let (db2, db3) = (lab.host("db2")?, lab.host("db3")?);
    stop_midway(&lab, &db2)?;
    // Only what concerns the receiver: then the applier may run, and the relay log is kept.
    let change = conclave_lab::change_source("db2", db3.ip());
    db2.sql(&change.replace("SOURCE_AUTO_POSITION=1, ", ""))?;
    let begun = Instant::now();
    db2.sql("START REPLICA IO_THREAD")?;
    let executed = db3.sql_value("SELECT @@global.gtid_executed")?.replace('\n', "");
    let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 50)");
    assert_eq!(db2.sql_within(SOON, &wait)?[0][0], "0");
    println!("level with another source after {:?}", begun.elapsed());
    assert_eq!(db2.sql(APPLIER)?.concat(), ["ON", "0"]);
    lab.down()
}
