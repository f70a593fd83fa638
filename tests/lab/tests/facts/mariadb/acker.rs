//! What does an acker still have of what it acknowledged and had not applied? With GTIDs MariaDB
//! throws its relay log away whenever replication is started after both of its threads had stopped.

use std::fs;

use conclave_lab::{Host, LabSpec, Result, WriterSpec, lost_acked};

use super::{status, until, up_replicated};
use crate::SOON;

/// Acknowledged writes before the acker ends.
const WRITES: usize = 300;
/// Column of `SHOW RELAYLOG EVENTS`.
const EVENT_TYPE: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Only its receiver is stopped; its applier runs, and is late.
    Receiver,
    /// Its applier was stopped before, and now its receiver is.
    Both,
    /// As `Both`, by SIGKILL.
    Kill,
}

/// What was found on an acker, of what it had acknowledged.
#[derive(Debug)]
struct Kept {
    acked: usize,
    /// Transactions in the files of its relay log before replication is started again.
    in_files: usize,
    /// What it then says that it received.
    told: String,
    /// Acknowledged writes that it does not have once it has applied all it could alone.
    missing: usize,
}

/// The transactions that the files of the relay log hold.
fn in_files(acker: &Host) -> Result<usize> {
    let mut count = 0;
    let index = fs::read_to_string(acker.srv().join("data/relay.index")).expect("it replicates");
    for file in index.lines() {
        let file = file.trim_start_matches("./");
        let events = acker.sql_within(SOON, &format!("SHOW RELAYLOG EVENTS IN '{file}'"))?;
        count += events.iter().filter(|event| event[EVENT_TYPE] == "Gtid").count();
    }
    Ok(count)
}

/// Ends the acker under writes that it receives and does not apply; then it applies alone.
fn round(end: End, relay_log_recovery: bool) -> Result<Kept> {
    let spec = LabSpec { managers: 0, relay_log_recovery, ..LabSpec::default() };
    let lab = up_replicated(spec, true)?;
    let db2 = lab.host("db2")?;
    let mut lock = db2.session()?;
    match end {
        End::Receiver => lock.sql(SOON, "LOCK TABLES app.t WRITE")?,
        End::Both | End::Kill => lock.sql(SOON, "STOP SLAVE SQL_THREAD")?,
    };
    let address = lab.host("db1")?.ip();
    let host = "db1".into();
    let spec = WriterSpec { host, address, connections: 8, ..WriterSpec::default() };
    let mut writer = lab.write(&spec)?;
    until("the clients to write", || Ok(writer.acked()?.len() >= WRITES))?;
    match end {
        End::Receiver | End::Both => db2.sql_within(SOON, "STOP SLAVE IO_THREAD").map(|_| ())?,
        End::Kill => {
            db2.kill_mysqld()?;
            db2.start_mysqld()?;
        }
    }
    let (in_files, told) = (in_files(&db2)?, status(&db2, "Gtid_IO_Pos")?);
    drop(lock);
    if end != End::Receiver {
        db2.sql_within(SOON, "START SLAVE SQL_THREAD")?;
    }
    let history = writer.stop()?;
    until("the applier to be done", || {
        Ok(status(&db2, "Slave_SQL_Running_State")?.contains("has read all relay log"))
    })?;
    let missing = lost_acked(&history, &db2)?.len();
    let kept = Kept { acked: history.acked().count(), in_files, told, missing };
    println!("{end:?}, relay_log_recovery {relay_log_recovery}: {kept:?}");
    assert!(kept.acked >= WRITES);
    lab.down()?;
    Ok(kept)
}

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn mariadb_acker_keeps_what_it_received_while_its_applier_runs() -> Result<()> {
    let kept = round(End::Receiver, true)?;
    assert_eq!(kept.missing, 0);
    Ok(())
}

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn mariadb_acker_loses_what_it_had_not_applied_once_both_threads_stopped() -> Result<()> {
    for recovery in [false, true] {
        let kept = round(End::Both, recovery)?;
        assert_eq!(kept.missing, kept.acked);
        assert_ne!(kept.told, "");
        assert!(kept.in_files >= kept.acked);
    }
    Ok(())
}

#[test]
#[ignore = "needs MariaDB: run it by hand"]
fn mariadb_killed_acker_loses_what_it_had_not_applied_whatever_relay_log_recovery_is() -> Result<()>
{
    for recovery in [false, true] {
        let kept = round(End::Kill, recovery)?;
        assert_eq!(kept.missing, kept.acked);
        assert_eq!(kept.told, "");
        assert!(kept.in_files >= kept.acked);
    }
    Ok(())
}
